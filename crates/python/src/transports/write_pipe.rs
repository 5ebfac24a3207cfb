//! `_UnixWritePipeTransport`: the end of a pipe (or a FIFO, a socket, a terminal) to write to.
//!
//! Rules
//! 1. Each write goes out at once, as far as the pipe has room; the rest waits in a queue.
//! 2. Where the kernel tells when nobody reads any more (pipes, sockets), it is watched for that, as asyncio does, by
//!    waiting for something to read: data that comes in by a socket counts as that, too.
//! 3. `close()` is `write_eof()`: what is queued is written first.

use super::Source;
use super::flow::{self, Buffered, Flow};
use super::life::{self, Life, Transport};
use super::read_pipe::{self, Opening};
use super::writing::Queue;
use crate::event_loop::core::LoopCore;
use crate::ffi::bytes::{self, Buffer, Bytes};
use crate::ffi::errors::{R, assertion_error, attribute_error, exc, os_error};
use crate::ffi::object::Static;
use crate::ffi::{Args, Class, ClassCell, Inner, Obj, Own, Raised, Slots, Visitor};
use crate::futures::Future;
use crate::imports::{self, names};
use aioxide_core::file::{self, Kind};
use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::mem::offset_of;
use std::ops::Deref;

/// asyncio warns from this write on after the pipe was lost.
const LOG_THRESHOLD: u32 = 5;
const FATAL: &str = "Fatal write error on pipe transport";

/// The object.
#[repr(C)]
#[derive(Default)]
pub(crate) struct WritePipe {
    life: Life,
    queue: Inner<Queue>,
    flow: Flow,
    /// `_conn_lost`: how often it was written to after its end, and one more if a failed write was the end.
    in_vain: Cell<u32>,
}

impl Deref for WritePipe {
    type Target = Life;
    #[inline(always)]
    fn deref(&self) -> &Life {
        &self.life
    }
}

/// Makes a transport, whose protocol will be told in a later turn. The pipe is its own from then on.
pub(crate) fn open(
    loop_: &Obj,
    pipe: &Obj,
    protocol: &Obj,
    waiter: Option<Own<Future>>,
    extra: Option<Obj>,
) -> R<Own<WritePipe>> {
    let opening = Opening {
        loop_,
        pipe,
        protocol,
        waiter,
        extra,
    };
    let refusal = "Pipe transport is only for pipes, sockets and character devices";
    read_pipe::begin(opening, refusal, |life, kind| {
        // rule 2; a terminal is readable when somebody types
        life.paused.set(kind == Kind::CharacterDevice);
        WritePipe {
            life,
            ..WritePipe::default()
        }
    })
}

// --- writing --------------------------------------------------------------------------------------

/// `write(data)`
fn write(args: &Args) -> R<Obj> {
    let (this, data) = (args.this::<WritePipe>()?, args.req(1)?);
    if !bytes::is_data(data) {
        return Err(assertion_error(&data.repr()?));
    }
    if data.len()? == 0 || is_over(this)? {
        return Ok(Obj::none());
    }
    let Some(bytes) = Bytes::of(data) else {
        return write_view(this, data);
    };
    match attempt(this, bytes.as_slice()) {
        Ok(count) if count == bytes.as_slice().len() => {}
        Ok(count) => keep(this, bytes, count)?,
        Err(error) => broken(this, os_error(&error))?,
    }
    Ok(Obj::none())
}

/// A `bytearray` or a `memoryview`: what has to wait is copied.
fn write_view(this: &Own<WritePipe>, data: &Obj) -> R<Obj> {
    let view = match Buffer::readable(data) {
        Ok(view) => view,
        Err(raised) => {
            broken(this, raised)?;
            return Ok(Obj::none());
        }
    };
    match view.with(|data| attempt(this, data)) {
        Ok(count) if count == view.len() => {}
        Ok(count) => {
            let copy = view.with(|data| Bytes::copy(&data[count..]))?;
            drop(view);
            keep(this, copy, 0)?;
        }
        Err(error) => broken(this, os_error(&error))?,
    }
    Ok(Obj::none())
}

/// Has it ended? Then it counts the write, and complains about too many.
fn is_over(this: &Own<WritePipe>) -> R<bool> {
    let count = this.in_vain.get();
    if count == 0 && !this.closing.get() {
        return Ok(false);
    }
    if count >= LOG_THRESHOLD {
        let text = "pipe closed by peer or os.write(pipe, data) raised exception.";
        imports::LOGGER.call_method_str("warning", &[&Obj::str(text)?])?;
    }
    this.in_vain.set(count.saturating_add(1));
    Ok(true)
}

/// Rule 1. How much went; nothing, if there is a queue.
fn attempt(this: &WritePipe, data: &[u8]) -> io::Result<usize> {
    if !this.is_idle() {
        return Ok(0);
    }
    match file::write(this.socket.fd(), data) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// Puts the rest of something into the queue.
fn keep(this: &Own<WritePipe>, bytes: Bytes, start: usize) -> R<()> {
    life::start_writing(this)?;
    this.queue.with(|queue| queue.push(bytes, start));
    flow::maybe_pause(this)
}

#[cold]
fn broken(this: &Own<WritePipe>, raised: Raised) -> R<()> {
    this.in_vain.set(1);
    life::fatal_error(this, raised.take(), FATAL)
}

/// `_write_ready()`, in its context.
fn room(this: &Own<WritePipe>) -> R<()> {
    if this.conn_lost.get() > 0 {
        return Ok(());
    }
    let fd = this.socket.fd();
    match this
        .queue
        .with(|queue| queue.with_slices(|slices| file::write_vectored(fd, slices)))
    {
        Ok(count) => drop(this.queue.with(|queue| queue.sent(count))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return broken(this, os_error(&error)),
    }
    if !this.is_idle() {
        return Ok(());
    }
    life::stop_writing(this);
    flow::maybe_resume(this)?; // it may write
    if this.closing.get() && this.conn_lost.get() == 0 {
        life::stop_reading(this, false);
        this.conn_lost.set(1);
        return life::call_connection_lost(this, &Obj::none());
    }
    Ok(())
}

/// `_buffer = data`: that waits in the place of what has waited.
fn set_buffer(this: &Own<WritePipe>, data: Option<&Obj>) -> R<()> {
    let data = data.ok_or_else(|| attribute_error("_buffer"))?;
    let copy = Buffer::readable(data)?.with(Bytes::copy)?;
    let before = this.queue.with(std::mem::take);
    if !copy.as_slice().is_empty() {
        this.queue.with(|queue| queue.push(copy, 0));
    }
    drop(before);
    Ok(())
}

// --- the end --------------------------------------------------------------------------------------

/// `write_eof()` and `close()`; rule 3.
fn write_eof(this: &Own<WritePipe>) -> R<()> {
    if this.closing.replace(true) {
        return Ok(());
    }
    if this.is_idle() {
        life::stop_reading(this, false);
        return life::arrange_for_connection_lost(this, None);
    }
    Ok(())
}

/// `_read_ready()`: nobody reads any more.
fn peer_is_gone(this: &Own<WritePipe>) -> R<()> {
    read_pipe::log_closed(this)?;
    let exception = if this.is_idle() {
        None
    } else {
        Some(exc::broken_pipe_error().call0()?)
    };
    life::force_close(this, exception)
}

impl Transport for WritePipe {
    const ASYNCIOS: &'static Static = &imports::WRITE_PIPE_TRANSPORT;
    const EXTRA: &'static [&'static str] = &[];
    const FATAL_ERROR: &'static str = "Fatal error on pipe transport";
    const OCCUPIES: bool = false;

    fn source(this: &Own<WritePipe>) -> Source {
        Source::WritePipe(this.clone())
    }
    fn read_ready(this: &Own<WritePipe>, _: &Obj, _: &Own<LoopCore>) -> R<()> {
        peer_is_gone(this)
    }
    fn write_ready(this: &Own<WritePipe>) -> R<()> {
        room(this)
    }
    #[inline]
    fn waiting(&self) -> usize {
        self.queue.with(|queue| queue.size())
    }
    fn close(this: &Own<WritePipe>) -> R<()> {
        write_eof(this)
    }
    fn forget(this: &Own<WritePipe>) {
        life::stop_writing(this);
        drop(this.queue.with(std::mem::take));
    }
}

impl Buffered for WritePipe {
    fn flow(&self) -> &Flow {
        &self.flow
    }
}

static CLASS: ClassCell<WritePipe> = ClassCell::new();

const _: () = assert!(offset_of!(WritePipe, life) == 0);

impl Class for WritePipe {
    const NAME: &'static CStr = c"asyncio.unix_events._UnixWritePipeTransport";
    const SUBCLASSABLE: bool = false;
    const DICT: Option<usize> = life::DICT;
    const WEAKREFS: Option<usize> = life::WEAKREFS;
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<WritePipe> {
        &CLASS
    }
    fn slots(slots: &mut Slots<WritePipe>) -> R<()> {
        slots.no_new();
        slots.repr(|this: &Own<WritePipe>| {
            let size = format!(" bufsize={}", this.queue.with(|queue| queue.size()));
            read_pipe::repr(this, this.writing.get(), &size)
        });
        // for `isinstance`: it is a `_FlowControlMixin` as well
        slots.get(c"__class__", |_| Ok(imports::WRITE_PIPE_TRANSPORT.clone()));
        life::slots(slots)?;
        read_pipe::slots(slots)?;
        slots.method("write(self, data)", write)?;
        slots.method("writelines(self, list_of_data)", |args| {
            let joined = Obj::empty_bytes()?.call_method_str("join", &[args.req(1)?])?;
            args.req(0)?.call_method(&names::WRITE, &[&joined])
        })?;
        slots.method("write_eof(self)", |args| {
            write_eof(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("can_write_eof(self)", |args| {
            args.this::<WritePipe>()?;
            Ok(Obj::bool(true))
        })?;
        slots.method("abort(self)", |args| {
            life::force_close(args.this::<WritePipe>()?, None)?;
            Ok(Obj::none())
        })?;
        slots.method("get_write_buffer_size(self)", |args| {
            Obj::int(Transport::waiting(&**args.this::<WritePipe>()?) as i64)
        })?;
        slots.method("get_write_buffer_limits(self)", |args| {
            args.this::<WritePipe>()?.flow.limits()
        })?;
        slots.method("set_write_buffer_limits(self, high=None, low=None)", |args| {
            let this = args.this::<WritePipe>()?;
            this.flow.set_limits(args)?;
            flow::maybe_pause(this)?;
            Ok(Obj::none())
        })?;
        // what a handle shows in debug mode and in reports
        slots.method("_read_ready(self)", |args| {
            peer_is_gone(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("_write_ready(self)", |args| {
            room(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.get_set(
            c"_buffer",
            |this| {
                let waiting = this.queue.with(|queue| queue.copy());
                Obj::import("builtins")?.call_method_str("bytearray", &[&bytes::new(&waiting)?])
            },
            set_buffer,
        );
        slots.get(c"_conn_lost", |this| Obj::int(this.in_vain.get().into()));
        slots.get(c"_protocol_paused", |this| Ok(Obj::bool(this.flow.is_paused())));
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.life.visit(visitor);
    }
    fn clear(&self) {
        self.life.clear();
    }
    fn leave(&self) {
        life::leave_loop(self);
    }
    fn wants_finalize(&self) -> bool {
        !self.socket.is_gone()
    }
    fn finalize(this: &Own<WritePipe>) {
        life::finalize(this);
    }
}
