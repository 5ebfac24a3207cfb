//! `asyncio.StreamReaderProtocol`: hands on what a transport says to a reader.
//!
//! Rules
//! 1. It does not keep its reader alive: that is for whoever reads. Only until a server's connection is made it does.
//! 2. `_closed` ends with the connection, with its exception. An exception that nobody has asked for is not
//!    reported. The future is made when somebody asks for it.
//! 3. `client_connected_cb` may be a function or give a coroutine, which becomes a task; what either raises is the
//!    exception handler's.

use super::flow::FlowControl;
use super::reader::StreamReader;
use super::{transport, writer};
use crate::event_loop::core;
use crate::ffi::errors::{R, attribute_error};
use crate::ffi::{Args, Class, ClassCell, Obj, Own, Raised, Slot, Slots, Visitor, class};
use crate::futures::{Future, callbacks, methods};
use crate::hook::Hook;
use crate::imports::{self, names};
use crate::tasks::task::check_coroutine;
use crate::tasks::{Task, spawn};
use crate::version;
use std::cell::{Cell, OnceCell};
use std::ffi::CStr;

/// The struct behind `asyncio.StreamReaderProtocol`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct StreamReaderProtocol {
    flow: FlowControl,
    /// A weak reference; of a server's connection the reader itself, until it is made: rule 1.
    reader: Slot,
    callback: Slot,
    transport: Slot,
    task: Slot,
    /// Rule 2.
    closed: Slot,
    rare: OnceCell<Box<Rare>>,
    /// `reader` is the reader itself.
    is_strong: Cell<bool>,
    /// It is a server's: there is a `_strong_reader`.
    has_strong_reader: Cell<bool>,
    is_closed: Cell<bool>,
    reject: Cell<bool>,
    over_ssl: Cell<bool>,
}

/// What few protocols have.
#[derive(Default)]
struct Rare {
    source_traceback: Slot,
    /// What `_closed` ends with, if it is not made yet.
    lost_with: Slot,
    /// Before 3.13: the writer of a server's connection.
    writer: Slot,
}

class::extends!(StreamReaderProtocol, FlowControl, flow);

/// A new protocol for this reader.
pub(super) fn create(
    reader: &Own<StreamReader>,
    callback: Option<&Obj>,
    loop_: &Obj,
) -> R<Own<StreamReaderProtocol>> {
    let protocol = CLASS.alloc(StreamReaderProtocol::default())?;
    fill(&protocol, reader.obj(), callback, Some(loop_))?;
    Ok(protocol)
}

/// `__init__(stream_reader, client_connected_cb, loop)`
fn fill(
    this: &Own<StreamReaderProtocol>,
    reader: &Obj,
    callback: Option<&Obj>,
    loop_: Option<&Obj>,
) -> R<()> {
    this.flow.fill(loop_)?;
    this.clear_own();
    for flag in [
        &this.is_strong,
        &this.has_strong_reader,
        &this.is_closed,
        &this.reject,
        &this.over_ssl,
    ] {
        flag.set(false);
    }
    if let Some(reader) = reader.non_none() {
        if callback.is_some() {
            this.reader.set(reader.clone());
            this.is_strong.set(true);
        } else {
            this.reader.set(reader.weak_reference()?);
        }
        let traceback = match StreamReader::class().exact(reader) {
            Some(ours) => ours.source_traceback(),
            None => Some(reader.getattr(&names::SOURCE_TRACEBACK)?),
        };
        if let Some(traceback) = traceback.filter(|traceback| !traceback.is_none()) {
            this.rare().source_traceback.set(traceback);
        }
    }
    if let Some(callback) = callback {
        this.has_strong_reader.set(true);
        this.callback.set(callback.clone());
    }
    Ok(())
}

impl StreamReaderProtocol {
    /// `protocol`, if it is exactly one of ours with no attributes of its own.
    #[inline(always)]
    pub(crate) fn plain(protocol: &Obj) -> Option<&Own<StreamReaderProtocol>> {
        CLASS
            .exact(protocol)
            .filter(|protocol| protocol.flow.dict.is_empty())
    }

    fn clear_own(&self) {
        for slot in self.slots_held() {
            slot.put(None);
        }
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    fn slots_held(&self) -> impl Iterator<Item = &Slot> {
        let rare = self.rare.get();
        let rare = rare.map(|rare| [&rare.source_traceback, &rare.lost_with, &rare.writer]);
        let own = [
            &self.reader,
            &self.callback,
            &self.transport,
            &self.task,
            &self.closed,
        ];
        own.into_iter().chain(rare.into_iter().flatten())
    }
}

impl Own<StreamReaderProtocol> {
    /// `_stream_reader`
    #[inline]
    fn reader(&self) -> R<Option<Obj>> {
        let Some(reference) = self.reader.get() else {
            return Ok(None);
        };
        if self.is_strong.get() {
            return Ok(Some(reference));
        }
        if let Some(reader) = reference.referent() {
            return Ok(Some(reader));
        }
        // dead, or something else that the program has put there
        Ok(reference.call0()?.non_none().cloned())
    }

    /// Rule 1: from now on whoever reads keeps the reader alive.
    fn let_go_of_reader(&self) -> R<()> {
        if self.is_strong.replace(false)
            && let Some(reader) = self.reader.get()
        {
            self.reader.set(reader.weak_reference()?);
        }
        Ok(())
    }

    /// `data_received(data)`
    #[inline]
    pub(crate) fn data_received(&self, data: Obj) -> R<()> {
        let Some(reader) = self.reader()? else {
            return Ok(());
        };
        match Own::<StreamReader>::plain(&reader) {
            Some(ours) => ours.feed_data(data),
            None => reader.call_method(&names::FEED_DATA, &[&data]).map(drop),
        }
    }

    /// `eof_received()`
    pub(crate) fn eof_received(&self) -> R<bool> {
        if let Some(reader) = self.reader()? {
            feed_eof(&reader)?;
        }
        // over TLS there is no half of a connection to keep open
        Ok(!self.over_ssl.get())
    }

    /// `connection_made(transport)`. `context`: that in which it runs, if nothing else will; `None`: not known.
    pub(crate) fn connection_made(&self, transport: &Obj, context: Option<&Obj>) -> R<()> {
        let loop_ = self.flow.loop_.get_or_none();
        if self.reject.get() {
            return self.reject(&loop_, transport);
        }
        self.transport.set(transport.clone());
        let reader = self.reader()?;
        if let Some(reader) = &reader {
            match Own::<StreamReader>::plain(reader) {
                Some(ours) => ours.set_transport(transport)?,
                None => drop(reader.call_method(&names::SET_TRANSPORT, &[transport])?),
            }
        }
        self.over_ssl.set(transport::is_encrypted(transport)?);
        let Some(callback) = self.callback.get() else {
            return Ok(());
        };
        let reader = reader.unwrap_or_else(Obj::none);
        let writer = writer::create(transport, self.obj(), &reader, &loop_)?;
        if !version::SINCE_313.get() {
            self.rare().writer.set(writer.clone());
        }
        match callback.call(&[&reader, &writer]) {
            Ok(result) => self.start(&loop_, result, transport, context)?,
            Err(raised) => self.callback_failed(&loop_, raised, transport)?,
        }
        self.let_go_of_reader()
    }

    #[cold]
    fn reject(&self, loop_: &Obj, transport: &Obj) -> R<()> {
        let report = Obj::dict()?;
        let message = "An open stream was garbage collected prior to establishing network connection; \
                       call \"stream.close()\" explicitly.";
        report.dict_set(&names::MESSAGE, &Obj::str(message)?)?;
        if let Some(traceback) = self.rare.get().and_then(|rare| rare.source_traceback.get()) {
            report.dict_set(&names::SOURCE_TRACEBACK_KEY, &traceback)?;
        }
        loop_.call_method(&names::CALL_EXCEPTION_HANDLER, &[&report])?;
        transport.call_method(&names::ABORT, &[]).map(drop)
    }

    /// Rule 3.
    fn start(&self, loop_: &Obj, result: Obj, transport: &Obj, context: Option<&Obj>) -> R<()> {
        if !check_coroutine(&result)? {
            return Ok(());
        }
        let task = match core::fast(loop_) {
            Some(core) => spawn::on_loop(loop_, core, &result, None, None, None)?,
            None => loop_.call_method(&names::CREATE_TASK, &[&result])?,
        };
        if let Some(ours) = Task::class().instance(&task) {
            ours.is_made_unasked()?;
        }
        self.task.set(task.clone());
        let hook = Hook::new(
            "StreamReaderProtocol.connection_made.<locals>.callback",
            task_is_done,
            Some(loop_.clone()),
            Some(transport.clone()),
        )?;
        match (callbacks::as_native(&task), context) {
            (Some(task), Some(context)) => task.add_callback(hook.into_obj(), context.clone()),
            _ => task
                .call_method(&names::ADD_DONE_CALLBACK, &[hook.obj()])
                .map(drop),
        }
    }

    /// Since 3.14 what `client_connected_cb` itself raises is reported here.
    #[cold]
    fn callback_failed(&self, loop_: &Obj, raised: Raised, transport: &Obj) -> R<()> {
        if !version::SINCE_314.get() || !raised.matches(crate::ffi::errors::exc::exception()) {
            return Err(raised);
        }
        report(loop_, &raised.take(), transport)
    }

    /// `connection_lost(exc)`
    pub(crate) fn connection_lost(&self, exception: &Obj) -> R<()> {
        if let Some(reader) = self.reader()? {
            match (exception.non_none(), Own::<StreamReader>::plain(&reader)) {
                (None, _) => feed_eof(&reader)?,
                (Some(exception), Some(ours)) => ours.set_exception(exception)?,
                (Some(exception), None) => {
                    reader.call_method(&names::SET_EXCEPTION, &[exception])?;
                }
            }
        }
        self.close(exception.non_none())?;
        self.upcast::<FlowControl>().lose_connection(exception)?;
        self.is_strong.set(false);
        for slot in [&self.reader, &self.task, &self.transport] {
            slot.put(None);
        }
        if let Some(rare) = self.rare.get() {
            rare.writer.put(None);
        }
        Ok(())
    }

    /// Rule 2: `_closed` ends.
    fn close(&self, exception: Option<&Obj>) -> R<()> {
        let Some(closed) = self.closed.get() else {
            if !self.is_closed.replace(true) {
                if let Some(exception) = exception {
                    self.rare().lost_with.set(exception.clone());
                }
            }
            return Ok(());
        };
        if callbacks::is_done(&closed)? {
            return Ok(());
        }
        match exception {
            Some(exception) => closed.call_method(&names::SET_EXCEPTION, &[exception])?,
            None => closed.call_method(&names::SET_RESULT, &[&Obj::none()])?,
        };
        Ok(())
    }

    /// `_closed`
    pub(super) fn closed(&self) -> R<Obj> {
        if let Some(closed) = self.closed.get() {
            return Ok(closed);
        }
        let closed = methods::create(&self.flow.loop_.get_or_none())?;
        self.closed.set(closed.clone());
        if self.is_closed.get() {
            let exception = self.rare.get().and_then(|rare| rare.lost_with.take());
            self.close(exception.as_ref())?;
        }
        Ok(closed)
    }
}

fn feed_eof(reader: &Obj) -> R<()> {
    match Own::<StreamReader>::plain(reader) {
        Some(ours) => ours.feed_eof(),
        None => reader.call_method(&names::FEED_EOF, &[]).map(drop),
    }
}

/// The task of a connection has ended. `a` is the loop, `b` the transport.
fn task_is_done(hook: &Own<Hook>, task: Option<&Obj>) -> R<()> {
    let (Some(loop_), Some(transport), Some(task)) = (hook.a.get(), hook.b.get(), task) else {
        return Ok(());
    };
    if version::SINCE_313.get() && callbacks::is_cancelled(task)? {
        return transport::close(&transport).map(drop);
    }
    let exception = match Future::class()
        .instance(task)
        .filter(|_| callbacks::as_native(task).is_some())
    {
        Some(ours) => ours.exception()?,
        None => task.call_method(&names::EXCEPTION, &[])?,
    };
    match exception.non_none() {
        Some(exception) => report(&loop_, exception, &transport),
        None => Ok(()),
    }
}

#[cold]
fn report(loop_: &Obj, exception: &Obj, transport: &Obj) -> R<()> {
    let report = Obj::dict()?;
    report.dict_set(
        &names::MESSAGE,
        &Obj::str("Unhandled exception in client_connected_cb")?,
    )?;
    report.dict_set(&names::EXCEPTION, exception)?;
    report.dict_set(&names::TRANSPORT, transport)?;
    loop_.call_method(&names::CALL_EXCEPTION_HANDLER, &[&report])?;
    transport::close(transport).map(drop)
}

/// `_replace_transport(transport)`; before 3.13 `_replace_writer(writer)`.
fn replace_transport(this: &Own<StreamReaderProtocol>, transport: &Obj) -> R<()> {
    this.transport.set(transport.clone());
    this.over_ssl.set(transport::is_encrypted(transport)?);
    match this.reader()? {
        Some(reader) if imports::STREAM_READER.hasattr("_replace_transport")? => reader
            .call_method(&names::REPLACE_TRANSPORT_, &[transport])
            .map(drop),
        _ => Ok(()),
    }
}

/// `__class__` is asyncio's own, as for the reader.
fn class(this: &Own<StreamReaderProtocol>) -> R<Obj> {
    Ok(if this.is_exact() {
        imports::STREAM_READER_PROTOCOL.clone()
    } else {
        this.obj().class()
    })
}

fn init(args: &Args) -> R<Obj> {
    fill(args.this()?, args.req(1)?, args.opt(2), args.opt(3))?;
    Ok(Obj::none())
}

static CLASS: ClassCell<StreamReaderProtocol> = ClassCell::new();

impl Class for StreamReaderProtocol {
    const NAME: &'static CStr = c"asyncio.streams.StreamReaderProtocol";
    const DICT: Option<usize> = FlowControl::DICT;
    const WEAKREFS: Option<usize> = FlowControl::WEAKREFS;
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<StreamReaderProtocol> {
        &CLASS
    }
    fn slots(slots: &mut Slots<StreamReaderProtocol>) -> R<()> {
        slots.init("(self, stream_reader, client_connected_cb=None, loop=None)", init);
        slots.get(c"__class__", class);
        slots.method("connection_made(self, transport)", |args| {
            args.this::<StreamReaderProtocol>()?
                .connection_made(args.req(1)?, None)?;
            Ok(Obj::none())
        })?;
        slots.method("connection_lost(self, exc)", |args| {
            args.this::<StreamReaderProtocol>()?
                .connection_lost(args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.method("data_received(self, data)", |args| {
            args.this::<StreamReaderProtocol>()?
                .data_received(args.req(1)?.clone())?;
            Ok(Obj::none())
        })?;
        slots.method("eof_received(self)", |args| {
            Ok(Obj::bool(args.this::<StreamReaderProtocol>()?.eof_received()?))
        })?;
        slots.method("_get_close_waiter(self, stream)", |args| {
            args.this::<StreamReaderProtocol>()?.closed()
        })?;
        if version::SINCE_313.get() {
            slots.method("_replace_transport(self, transport)", |args| {
                replace_transport(args.this()?, args.req(1)?)?;
                Ok(Obj::none())
            })?;
        } else {
            slots.method("_replace_writer(self, writer)", |args| {
                let (this, writer) = (args.this::<StreamReaderProtocol>()?, args.req(1)?);
                replace_transport(this, &writer.getattr(&names::TRANSPORT)?)?;
                this.rare().writer.set(writer.clone());
                Ok(Obj::none())
            })?;
        }
        attributes(slots);
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.flow.visit_fields(visitor);
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        self.flow.clear_fields();
        self.clear_own();
    }
    fn wants_finalize(&self) -> bool {
        !self.closed.is_empty()
    }
    /// An exception of `_closed` that nobody has asked for is not reported.
    fn finalize(this: &Own<StreamReaderProtocol>) {
        if let Some(closed) = this.closed.get() {
            let retrieve = || -> R<()> {
                if callbacks::is_done(&closed)? && !callbacks::is_cancelled(&closed)? {
                    closed.call_method(&names::EXCEPTION, &[])?;
                }
                Ok(())
            };
            if let Err(raised) = retrieve() {
                raised.unraisable(this.obj());
            }
        }
    }
}

/// What libraries read, and sometimes write, in asyncio's own.
fn attributes(slots: &mut Slots<StreamReaderProtocol>) {
    slots.get(c"_stream_reader", |this| {
        Ok(this.reader()?.unwrap_or_else(Obj::none))
    });
    slots.get_set(
        c"_strong_reader",
        |this| {
            if this.is_strong.get() {
                Ok(this.reader.get_or_none())
            } else if this.has_strong_reader.get() {
                Ok(Obj::none())
            } else {
                let name = this.obj().class_name();
                Err(attribute_error(&format!(
                    "'{name}' object has no attribute '_strong_reader'"
                )))
            }
        },
        |this, value| {
            this.has_strong_reader.set(value.is_some());
            match value.and_then(Obj::non_none) {
                Some(reader) => {
                    this.reader.set(reader.clone());
                    this.is_strong.set(true);
                    Ok(())
                }
                None => this.let_go_of_reader(),
            }
        },
    );
    slots.get_set(
        c"_closed",
        |this| this.closed(),
        |this, value| {
            this.closed.put(value.cloned());
            Ok(())
        },
    );
    slots.get_set(
        c"_stream_reader_wr",
        |this| match this.reader.get() {
            Some(reader) if this.is_strong.get() => reader.weak_reference(),
            other => Ok(other.unwrap_or_else(Obj::none)),
        },
        |this, value| {
            this.is_strong.set(false);
            this.reader.put(value.and_then(Obj::non_none).cloned());
            Ok(())
        },
    );
    slots.object(c"_client_connected_cb", |this| &this.callback);
    slots.object(c"_transport", |this| &this.transport);
    slots.object(c"_stream_writer", |this| &this.rare().writer);
    slots.object(c"_task", |this| &this.task);
    slots.object(c"_source_traceback", |this| &this.rare().source_traceback);
    slots.flag(c"_reject_connection", |this| &this.reject);
    slots.flag(c"_over_ssl", |this| &this.over_ssl);
}
