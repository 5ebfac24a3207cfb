//! `_UnixReadPipeTransport`: the end of a pipe (or a FIFO, a socket, a terminal) to read from.
//!
//! It differs from a connection in that an exception of `data_received` does not end it, and in that
//! `eof_received` has no say in what happens next.

use super::life::{self, Life, Transport};
use super::reading::{self, Intake};
use super::socket::Socket;
use super::{Source, log};
use crate::event_loop::core::{self, Entry, LoopCore};
use crate::ffi::errors::{R, exc, os_error, runtime_error, value_error};
use crate::ffi::object::Static;
use crate::ffi::{Class, ClassCell, Obj, Own, Slots, Visitor, context};
use crate::futures::Future;
use crate::imports::{self, names};
use aioxide_core::file::{self, Kind};
use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::ops::Deref;
use std::os::fd::RawFd;

/// The object.
#[repr(C)]
#[derive(Default)]
pub(crate) struct ReadPipe {
    life: Life,
    /// How much came at the last read.
    last_read: Cell<u32>,
}

impl Deref for ReadPipe {
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
) -> R<Own<ReadPipe>> {
    let opening = Opening {
        loop_,
        pipe,
        protocol,
        waiter,
        extra,
    };
    let refusal = "Pipe transport is for pipes/sockets only.";
    begin(opening, refusal, |life, _| ReadPipe {
        life,
        ..ReadPipe::default()
    })
}

/// What a transport is made of.
pub(super) struct Opening<'a> {
    pub(super) loop_: &'a Obj,
    pub(super) pipe: &'a Obj,
    pub(super) protocol: &'a Obj,
    pub(super) waiter: Option<Own<Future>>,
    pub(super) extra: Option<Obj>,
}

/// How both kinds begin: the pipe does not block any more. Is it none, that is an error, with the text `refusal`.
pub(super) fn begin<T: Transport>(
    opening: Opening<'_>,
    refusal: &str,
    make: impl FnOnce(Life, Kind) -> T,
) -> R<Own<T>> {
    let loop_ = opening.loop_;
    let core = core::of(loop_).ok_or_else(|| runtime_error("an EventLoop is required"))?;
    let extra = opening.extra.map_or_else(Obj::dict, Ok)?;
    extra.dict_set(&Obj::interned("pipe")?, opening.pipe)?;
    let socket = Socket::of(opening.pipe)?;
    let fd = socket.number();
    let kind = file::kind(fd).map_err(|error| os_error(&error))?;
    if kind == Kind::Other {
        return Err(value_error(refusal));
    }
    core.check_closed()?;
    file::set_non_blocking(fd).map_err(|error| os_error(&error))?;
    let life = Life::new(loop_, socket, opening.waiter, Some(extra), None)?;
    let this = T::class().alloc(make(life, kind))?;
    this.protocol.set(opening.protocol.clone());
    life::begin(&this, core);
    Ok(this)
}

/// `logger.info("%r was closed by peer", self)`, in debug mode.
pub(super) fn log_closed<T: Transport>(this: &Own<T>) -> R<()> {
    match this.loop_.get() {
        Some(loop_) if core::of(&loop_).is_some_and(|core| core.debug.get()) => {
            log("info", "%r was closed by peer", &[this.obj()], None)
        }
        _ => Ok(()),
    }
}

/// `__repr__`; `polling`: the loop watches; `more`: what stands at the end.
pub(super) fn repr<T: Transport>(this: &Own<T>, polling: bool, more: &str) -> R<Obj> {
    let name = T::NAME.to_string_lossy();
    let mut text = format!("<{}", name.rsplit('.').next().unwrap_or_default());
    if this.socket.is_gone() {
        text.push_str(" closed");
    } else if this.closing.get() {
        text.push_str(" closing");
    }
    text.push_str(&format!(" fd={}", this.socket.shown()));
    let open = match this.loop_.get() {
        Some(loop_) => core::of(&loop_).is_some_and(|core| !core.closed.get()),
        None => false,
    };
    match (this.socket.is_gone(), open) {
        (true, _) => text.push_str(" closed"),
        (false, true) if polling => text.push_str(&format!(" polling{more}")),
        (false, true) => text.push_str(&format!(" idle{more}")),
        (false, false) => text.push_str(" open"),
    }
    text.push('>');
    Obj::str(&text)
}

/// What both kinds have beside what every transport has.
pub(super) fn slots<T: Transport>(slots: &mut Slots<T>) -> R<()> {
    slots.method("_close(self, exc=None)", |args| {
        life::force_close(args.this::<T>()?, args.opt(1).cloned())?;
        Ok(Obj::none())
    })?;
    slots.get(c"_fileno", |this| Obj::int(this.socket.shown().into()));
    slots.get_set(
        c"_pipe",
        |this| {
            Ok(if this.socket.is_gone() {
                Obj::none()
            } else {
                this.socket.object()?.unwrap_or_else(Obj::none)
            })
        },
        |this, pipe| this.socket.replace(pipe.and_then(Obj::non_none)),
    );
    Ok(())
}

/// From a file.
struct Read;

impl Intake for Read {
    #[inline]
    fn take(fd: RawFd, place: &mut [u8]) -> io::Result<usize> {
        file::read(fd, place)
    }
    #[inline]
    fn take_uninit(fd: RawFd, place: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        file::read_uninit(fd, place)
    }
}

/// `_read_ready()`, in its context.
fn received(this: &Own<ReadPipe>, core: &Own<LoopCore>) -> R<()> {
    if this.conn_lost.get() > 0 {
        return Ok(());
    }
    let Some(protocol) = this.protocol.get() else {
        return Ok(());
    };
    match reading::take_in::<Read>(core, this, &this.last_read)? {
        Ok(Some(data)) => protocol.call_method(&names::DATA_RECEIVED, &[&data]).map(drop),
        Ok(None) => end(this, core, &protocol),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => {
            let exception = os_error(&error).take();
            life::fatal_error(this, exception, "Fatal read error on pipe transport")
        }
    }
}

/// Nobody writes any more.
fn end(this: &Own<ReadPipe>, core: &Own<LoopCore>, protocol: &Obj) -> R<()> {
    log_closed(this)?;
    this.closing.set(true);
    life::stop_reading(this, false);
    let callback = protocol.getattr(&names::EOF_RECEIVED)?;
    core.push(Entry::Callback {
        callback,
        argument: None,
        context: Some(context::copy()?),
    });
    life::arrange_for_connection_lost(this, None)
}

impl Transport for ReadPipe {
    const ASYNCIOS: &'static Static = &imports::READ_PIPE_TRANSPORT;
    const EXTRA: &'static [&'static str] = &[];
    const FATAL_ERROR: &'static str = "Fatal error on pipe transport";
    const OCCUPIES: bool = false;

    fn source(this: &Own<ReadPipe>) -> Source {
        Source::ReadPipe(this.clone())
    }
    #[inline]
    fn read_ready(this: &Own<ReadPipe>, _: &Obj, core: &Own<LoopCore>) -> R<()> {
        received(this, core)
    }
    fn write_ready(_: &Own<ReadPipe>) -> R<()> {
        Ok(())
    }
    fn waiting(&self) -> usize {
        0
    }
    fn forget(_: &Own<ReadPipe>) {}
    /// A terminal whose other side is closed.
    fn expects(exception: &Obj) -> R<bool> {
        let eio = Obj::int(libc::EIO.into())?;
        Ok(exception.isinstance(exc::os_error())? && exception.getattr_str("errno")?.eq(&eio)?)
    }
}

static CLASS: ClassCell<ReadPipe> = ClassCell::new();

const _: () = assert!(offset_of!(ReadPipe, life) == 0);

impl Class for ReadPipe {
    const NAME: &'static CStr = c"asyncio.unix_events._UnixReadPipeTransport";
    const SUBCLASSABLE: bool = false;
    const DICT: Option<usize> = life::DICT;
    const WEAKREFS: Option<usize> = life::WEAKREFS;
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<ReadPipe> {
        &CLASS
    }
    fn slots(slots: &mut Slots<ReadPipe>) -> R<()> {
        slots.no_new();
        slots.repr(|this: &Own<ReadPipe>| repr(this, this.reading.get(), ""));
        // for `isinstance`
        slots.get(c"__class__", |_| Ok(imports::READ_PIPE_TRANSPORT.clone()));
        life::slots(slots)?;
        life::reading_slots(slots)?;
        self::slots(slots)
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
    fn finalize(this: &Own<ReadPipe>) {
        life::finalize(this);
    }
}
