//! `asyncio.StreamWriter`: a transport's face for coroutines.
//!
//! Rules
//! 1. Everything is the transport's, the protocol's or the reader's: the writer has no state of its own.
//! 2. `drain()` of a connection that is closing gives the loop a turn, so that a program which only writes comes to
//!    hear that the connection is lost.
//! 3. A writer that is dropped while its connection is open closes it, and warns.

use super::flow::FlowControl;
use super::protocol::StreamReaderProtocol;
use super::reader::StreamReader;
use super::reading::raise_stored;
use super::transport;
use crate::ffi::errors::{R, assertion_error};
use crate::ffi::{Args, Class, ClassCell, Co, Coroutine, Obj, Own, Slot, Slots, Step, Visitor, WeakRefs};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::locks::waiters::{self, ARGUMENT, START};
use crate::resource_warning;
use crate::version;
use std::ffi::CStr;
use std::mem::offset_of;

/// The struct behind `asyncio.StreamWriter`.
#[derive(Default)]
pub(crate) struct StreamWriter {
    dict: Slot,
    weakrefs: WeakRefs,
    transport: Slot,
    protocol: Slot,
    reader: Slot,
    loop_: Slot,
}

/// A new writer.
pub(crate) fn create(transport: &Obj, protocol: &Obj, reader: &Obj, loop_: &Obj) -> R<Obj> {
    let writer = CLASS.alloc(StreamWriter::default())?;
    fill(&writer, transport, protocol, reader, loop_)?;
    Ok(writer.into_obj())
}

fn fill(this: &StreamWriter, transport: &Obj, protocol: &Obj, reader: &Obj, loop_: &Obj) -> R<()> {
    let known = reader.is_none()
        || StreamReader::class().is_instance(reader)
        || reader.isinstance(&imports::STREAM_READER)?;
    this.transport.set(transport.clone());
    this.protocol.set(protocol.clone());
    // `drain()` asks the reader for its exception
    if !known {
        return Err(assertion_error(""));
    }
    this.reader.put(reader.non_none().cloned());
    this.loop_.set(loop_.clone());
    Ok(())
}

impl StreamWriter {
    fn transport(&self) -> Obj {
        self.transport.get_or_none()
    }

    fn slots_held(&self) -> [&Slot; 4] {
        [&self.transport, &self.protocol, &self.reader, &self.loop_]
    }
}

/// `self._transport.method(…)` with the arguments of the call.
fn on_transport(args: &Args, method: &Obj) -> R<Obj> {
    let transport = args.this::<StreamWriter>()?.transport();
    match args.get(1) {
        Some(argument) => transport.call_method(method, &[argument]),
        None => transport.call_method(method, &[]),
    }
}

// --- drain and wait_closed ------------------------------------------------------------------------

/// Stage of `drain()` in the turn that rule 2 gives.
const SLEPT: u8 = 2;
/// Stage of a wait for something that is not ours.
const WAITING_ELSEWHERE: u8 = 3;

fn drain(args: &Args) -> R<Obj> {
    let this = args.this::<StreamWriter>()?.obj().clone();
    Coroutine::of_method("StreamWriter.drain", drain_step, this).alloc()
}

fn drain_step(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let step = match co.stage.get() {
        START => begin_to_drain(co),
        SLEPT => input.and_then(|_| ask_protocol(co)),
        WAITING_ELSEWHERE => Ok(awaited(co, input)),
        _ => {
            let step = waiters::resume(co, input);
            let protocol = co.locals[ARGUMENT].get_or_none();
            match FlowControl::class().instance(&protocol) {
                Some(flow) => Ok(flow.drained(co, step)),
                None => Ok(step),
            }
        }
    };
    step.unwrap_or_else(Step::Raise)
}

#[inline]
fn begin_to_drain(co: &Own<Coroutine>) -> R<Step> {
    let writer = co.this::<StreamWriter>()?;
    if let Some(reader) = writer.reader.get() {
        let exception = match Own::<StreamReader>::plain(&reader) {
            Some(ours) => ours.exception.get(),
            None => reader.call_method(&names::EXCEPTION, &[])?.non_none().cloned(),
        };
        if let Some(exception) = exception {
            return Err(raise_stored(&exception));
        }
    }
    if transport::is_closing(&writer.transport())? {
        co.stage.set(SLEPT);
        return Ok(Step::Yield(Obj::none()));
    }
    ask_protocol(co)
}

/// `await self._protocol._drain_helper()` begins.
#[inline]
fn ask_protocol(co: &Own<Coroutine>) -> R<Step> {
    let writer = co.this::<StreamWriter>()?;
    let protocol = writer.protocol.get_or_none();
    if let Some(ours) = StreamReaderProtocol::plain(&protocol) {
        let step = ours.upcast::<FlowControl>().begin_to_drain(co)?;
        if matches!(step, Step::Yield(_)) {
            co.locals[ARGUMENT].set(protocol.clone());
        }
        return Ok(step);
    }
    let draining = protocol.call_method(&names::DRAIN_HELPER_, &[])?;
    Ok(begin_to_await(co, draining))
}

/// `return await awaitable` begins; `None` is what is returned.
fn begin_to_await(co: &Own<Coroutine>, awaitable: Obj) -> Step {
    let step = waiters::park(co, awaitable);
    co.stage.set(WAITING_ELSEWHERE);
    over(co, step)
}

/// And goes on.
fn awaited(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let step = waiters::resume(co, input);
    over(co, step)
}

fn over(co: &Own<Coroutine>, step: Step) -> Step {
    match step {
        Step::Yield(future) => Step::Yield(future),
        Step::Return(_) => {
            drop(waiters::unpark(co));
            Step::Return(Obj::none())
        }
        Step::Raise(raised) => waiters::cleaning_up(raised, |_| {
            drop(waiters::unpark(co));
            Ok(())
        }),
    }
}

fn wait_closed(args: &Args) -> R<Obj> {
    let step = |co: &Own<Coroutine>, input: R<&Obj>| {
        if co.stage.get() != START {
            return awaited(co, input);
        }
        let begin = || -> R<Step> {
            let writer = co.this::<StreamWriter>()?;
            let protocol = writer.protocol.get_or_none();
            let closed = match StreamReaderProtocol::plain(&protocol) {
                Some(ours) => ours.closed()?,
                None => protocol.call_method(&names::GET_CLOSE_WAITER_, &[writer.obj()])?,
            };
            Ok(begin_to_await(co, closed))
        };
        begin().unwrap_or_else(Step::Raise)
    };
    let this = args.this::<StreamWriter>()?.obj().clone();
    Coroutine::of_method("StreamWriter.wait_closed", step, this).alloc()
}

// --- start_tls ------------------------------------------------------------------------------------

/// Parameters of `start_tls`, from `sslcontext` on.
const TLS_OPTIONS: [&str; 3] = ["server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout"];

fn start_tls(args: &Args) -> R<Obj> {
    let kwargs = Obj::dict()?;
    for (index, name) in TLS_OPTIONS.iter().enumerate() {
        // before 3.12 there is no third one
        if index < 2 || version::SINCE_312.get() || args.get(index + 2).is_some() {
            let value = args.get(index + 2).cloned().unwrap_or_else(Obj::none);
            kwargs.dict_set(&Obj::interned(name)?, &value)?;
        }
    }
    let locals = [args.this::<StreamWriter>()?.obj(), args.req(1)?, &kwargs];
    Coroutine::boxed("StreamWriter.start_tls", &locals, |co: Co| async move {
        const CONTEXT: usize = 1;
        const KWARGS: usize = 2;
        const PROTOCOL: usize = 3;
        let draining = {
            let writer = co.this::<StreamWriter>()?;
            let protocol = writer.protocol.get_or_none();
            let server_side = !protocol.getattr_str("_client_connected_cb")?.is_none();
            co.local(KWARGS)
                .dict_set(&Obj::interned("server_side")?, &Obj::bool(server_side))?;
            co.set(PROTOCOL, protocol);
            writer.obj().call_method(&names::DRAIN, &[])?
        };
        co.wait(draining).await?;
        let upgrading = {
            let writer = co.this::<StreamWriter>()?;
            let given = Obj::tuple(&[&writer.transport(), &co.local(PROTOCOL), &co.local(CONTEXT)])?;
            (writer.loop_.get_or_none().getattr(&names::START_TLS)?)
                .call_with(&given, Some(&co.local(KWARGS)))?
        };
        let transport = co.wait(upgrading).await?;
        let writer = co.this::<StreamWriter>()?;
        writer.transport.set(transport.clone());
        let protocol = co.local(PROTOCOL);
        if version::SINCE_313.get() {
            protocol.call_method(&names::REPLACE_TRANSPORT_, &[&transport])?;
        } else {
            protocol.call_method(&names::REPLACE_WRITER_, &[writer.obj()])?;
        }
        Ok(Obj::none())
    })
}

// --- the class ------------------------------------------------------------------------------------

fn init(args: &Args) -> R<Obj> {
    fill(
        args.this::<StreamWriter>()?,
        args.req(1)?,
        args.req(2)?,
        args.req(3)?,
        args.req(4)?,
    )?;
    Ok(Obj::none())
}

fn repr(this: &Own<StreamWriter>) -> R<Obj> {
    let mut text = format!(
        "<{} transport={}",
        this.obj().class().getattr(&names::NAME_ATTR)?.to_string()?,
        this.transport().repr()?
    );
    if let Some(reader) = this.reader.get() {
        text += &format!(" reader={}", reader.repr()?);
    }
    Obj::str(&format!("{text}>"))
}

/// `__class__` is asyncio's own, as for the reader.
fn class(this: &Own<StreamWriter>) -> R<Obj> {
    Ok(if this.is_exact() {
        imports::STREAM_WRITER.clone()
    } else {
        this.obj().class()
    })
}

static CLASS: ClassCell<StreamWriter> = ClassCell::new();

impl Class for StreamWriter {
    const NAME: &'static CStr = c"asyncio.streams.StreamWriter";
    const DICT: Option<usize> = Some(offset_of!(StreamWriter, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(StreamWriter, weakrefs));
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<StreamWriter> {
        &CLASS
    }
    fn slots(slots: &mut Slots<StreamWriter>) -> R<()> {
        slots.init("(self, transport, protocol, reader, loop)", init);
        slots.repr(repr);
        slots.get(c"__class__", class);
        slots.get(c"transport", |this| Ok(this.transport()));
        slots.method("write(self, data)", |args| {
            transport::write(&args.this::<StreamWriter>()?.transport(), args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.method("writelines(self, data)", |args| {
            on_transport(args, &names::WRITELINES)?;
            Ok(Obj::none())
        })?;
        slots.method("write_eof(self)", |args| on_transport(args, &names::WRITE_EOF))?;
        slots.method("can_write_eof(self)", |args| {
            on_transport(args, &names::CAN_WRITE_EOF)
        })?;
        slots.method("close(self)", |args| {
            transport::close(&args.this::<StreamWriter>()?.transport())
        })?;
        slots.method("is_closing(self)", |args| {
            let transport = args.this::<StreamWriter>()?.transport();
            transport.call_method(&names::IS_CLOSING, &[])
        })?;
        slots.method("get_extra_info(self, name, default=None)", |args| {
            let transport = args.this::<StreamWriter>()?.transport();
            let default = args.get(2).cloned().unwrap_or_else(Obj::none);
            transport.call_method(&names::GET_EXTRA_INFO, &[args.req(1)?, &default])
        })?;
        slots.async_method("wait_closed(self)", wait_closed)?;
        slots.async_method("drain(self)", drain)?;
        slots.async_method(
            "start_tls(self, sslcontext, *, server_hostname=None, ssl_handshake_timeout=None, \
             ssl_shutdown_timeout=None)",
            start_tls,
        )?;
        slots.object(c"_transport", |this| &this.transport);
        slots.object(c"_protocol", |this| &this.protocol);
        slots.object(c"_reader", |this| &this.reader);
        slots.object(c"_loop", |this| &this.loop_);
        slots.get(c"_complete_fut", complete);
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        for slot in self.slots_held() {
            slot.put(None);
        }
    }
    /// The first releases of asyncio's 3.11 have no `StreamWriter.__del__`.
    fn wants_finalize(&self) -> bool {
        !self.loop_.is_empty()
    }
    /// Rule 3.
    fn finalize(this: &Own<StreamWriter>) {
        if let Err(raised) = close_unclosed(this) {
            raised.unraisable(this.obj());
        }
    }
}

/// `_complete_fut`, which asyncio makes and does not use: made when somebody asks for it.
fn complete(this: &Own<StreamWriter>) -> R<Obj> {
    let (dict, name) = (
        this.obj().getattr_str("__dict__")?,
        Obj::interned("_complete_fut")?,
    );
    if let Some(complete) = dict.dict_get(&name)? {
        return Ok(complete);
    }
    let complete = methods::create(&this.loop_.get_or_none())?;
    complete.call_method(&names::SET_RESULT, &[&Obj::none()])?;
    dict.dict_set(&name, &complete)?;
    Ok(complete)
}

fn close_unclosed(this: &Own<StreamWriter>) -> R<()> {
    if this.loop_.is_empty() || transport::is_closing(&this.transport())? {
        return Ok(());
    }
    let warn = |text: &str| resource_warning::warn(&imports::STREAM_WRITER, "__del__", text, None);
    let loop_ = this.loop_.get_or_none();
    if loop_.call_method(&names::IS_CLOSED, &[])?.truth()? {
        return warn("loop is closed");
    }
    this.obj().call_method(&names::CLOSE, &[])?;
    warn(&format!("unclosed {}", this.obj().repr()?))
}
