//! What comes in: `data_received`, or `get_buffer` and `buffer_updated`, or `eof_received`.
//!
//! The loop owns one buffer to read into; a protocol gets bytes of the size that was read. So an idle
//! connection has no buffer, and a busy one allocates what it delivers. Only where much has come at once, the
//! bytes are made first, and read into: that saves a copy. After a read the loop goes on to the
//! next connection: if there was more, the kernel says so in the next turn.

use super::stream::{self, Stream};
use super::{
    foreign,
    life::{self, Life},
    telling, writing,
};
use crate::event_loop::core::{LoopCore, MOST};
use crate::event_loop::run::is_fatal;
use crate::ffi::bytes;
use crate::ffi::errors::{R, os_error, runtime_error, value_error};
use crate::ffi::{Obj, Own, Raised};
use crate::imports::names;
use crate::tls::protocol::{self, SslProtocol};
use crate::tls::reading::{HEAD, give_back, received as received_tls, take_window};
use aioxide_core::socket;
use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// From here on a copy costs more than making bytes smaller after reading.
const MUCH: usize = 48 * 1024;
pub(super) const FATAL: &str = "Fatal read error on socket transport";

/// `_read_ready()`, in its context.
#[inline]
pub(super) fn received(this: &Own<Stream>, loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    if this.conn_lost.get() > 0 {
        return Ok(());
    }
    let Some(protocol) = this.protocol.get() else {
        return Ok(());
    };
    if this.buffered.get() {
        return match protocol::direct(&protocol) {
            Some(tls) if this.socket.foreign().is_none() => into_tls(this, core, tls),
            _ => into_buffer(this, &protocol),
        };
    }
    if let Some(sock) = this.socket.foreign() {
        return foreign::received(this, loop_, &protocol, &sock);
    }
    let data = match take_in::<Receive>(core, this, &this.last_read) {
        Ok(Ok(Some(data))) => data,
        Ok(Ok(None)) => return end(this, loop_, &protocol),
        Ok(Err(error)) => return read_error(this, &error),
        Err(raised) => return failed(this, raised, FATAL),
    };
    deliver(this, &protocol, data)
}

/// `data_received(data)`
#[inline]
pub(super) fn deliver(this: &Own<Stream>, protocol: &Obj, data: Obj) -> R<()> {
    match telling::data_received(protocol, data) {
        Ok(()) => Ok(()),
        Err(raised) => failed(this, raised, "Fatal error: protocol.data_received() call failed."),
    }
}

/// How bytes come in.
pub(super) trait Intake {
    /// `recv(2)` or `read(2)`
    fn take(fd: RawFd, place: &mut [u8]) -> io::Result<usize>;
    /// The same, into memory that holds nothing yet.
    fn take_uninit(fd: RawFd, place: &mut [MaybeUninit<u8>]) -> io::Result<usize>;
}

/// From a socket.
struct Receive;

impl Intake for Receive {
    #[inline]
    fn take(fd: RawFd, place: &mut [u8]) -> io::Result<usize> {
        socket::receive(fd, place)
    }
    #[inline]
    fn take_uninit(fd: RawFd, place: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        socket::receive_uninit(fd, place)
    }
}

/// What there is to read; `None` at the end. `last_read`: how much came the last time.
#[inline]
pub(super) fn take_in<I: Intake>(
    core: &LoopCore,
    life: &Life,
    last_read: &Cell<u32>,
) -> R<io::Result<Option<Obj>>> {
    let (fd, last) = (life.socket.fd(), last_read.get() as usize);
    if let Some(size) = life::own_max_size(life)? {
        let room = usize::try_from(size).map_err(|_| value_error("negative buffersize in recv"))?;
        return take_in_room::<I>(fd, last_read, room);
    }
    if last >= MUCH {
        return take_in_much::<I>(core, fd, last_read, last);
    }
    core.with_scratch(|scratch| match I::take(fd, scratch) {
        Ok(0) => Ok(Ok(None)),
        Ok(count) => {
            last_read.set(count as u32);
            core.spares.bytes(&scratch[..count]).map(|data| Ok(Some(data)))
        }
        Err(error) => Ok(Err(error)),
    })
}

fn take_in_much<I: Intake>(
    core: &LoopCore,
    fd: RawFd,
    last_read: &Cell<u32>,
    last: usize,
) -> R<io::Result<Option<Obj>>> {
    // if the room was used up, there may have been more
    let room = (last + 1).next_power_of_two().min(MOST);
    core.spares.read(room, |place| {
        let taken = I::take_uninit(fd, place)?;
        last_read.set(taken as u32);
        Ok(taken)
    })
}

/// At most `room` bytes, as the program wants it.
#[cold]
fn take_in_room<I: Intake>(fd: RawFd, last_read: &Cell<u32>, room: usize) -> R<io::Result<Option<Obj>>> {
    let mut taken = 0;
    let data = bytes::filled(room, |place| {
        taken = I::take_uninit(fd, place)?;
        Ok(taken)
    })?;
    last_read.set(taken as u32);
    Ok(data.map(|data| (taken > 0).then_some(data)))
}

/// `_read_ready__get_buffer()`
fn into_buffer(this: &Own<Stream>, protocol: &Obj) -> R<()> {
    let buffer = match get_buffer(protocol) {
        Ok(buffer) => buffer,
        Err(raised) => return failed(this, raised, "Fatal error: protocol.get_buffer() call failed."),
    };
    if let Some(sock) = this.socket.foreign() {
        return foreign::received_into(this, protocol, &sock, buffer);
    }
    let result = match bytes::with_writable(&buffer, |place| socket::receive(this.socket.fd(), place)) {
        Ok(result) => result,
        Err(raised) => return failed(this, raised, FATAL),
    };
    // (asyncio's frame has the name for both, and so lets go of it, too, before it goes on)
    drop(buffer);
    let count = match result {
        Ok(0) => {
            let Some(loop_) = this.loop_.get() else {
                return Ok(());
            };
            return end(this, &loop_, protocol);
        }
        Ok(count) => count,
        Err(error) => return read_error(this, &error),
    };
    updated(this, protocol, &Obj::int(count as i64)?)
}

/// `buffer_updated(count)`
pub(super) fn updated(this: &Own<Stream>, protocol: &Obj, count: &Obj) -> R<()> {
    match protocol.call_method(&names::BUFFER_UPDATED, &[count]) {
        Ok(_) => Ok(()),
        Err(raised) => failed(
            this,
            raised,
            "Fatal error: protocol.buffer_updated() call failed.",
        ),
    }
}

/// The same for a protocol of ours, without a Python call.
fn into_tls(this: &Own<Stream>, core: &LoopCore, tls: &Own<SslProtocol>) -> R<()> {
    let window = take_window(Some(core))?;
    let count = match window.with_mut(|place| socket::receive(this.socket.fd(), &mut place[HEAD..])) {
        Ok(0) => {
            give_back(Some(core), window);
            return end(this, &this.loop_.get_or_none(), tls.obj());
        }
        Ok(count) => count,
        Err(error) => {
            give_back(Some(core), window);
            return read_error(this, &error);
        }
    };
    match received_tls(tls, Some(core), window, HEAD..HEAD + count) {
        Ok(()) => Ok(()),
        Err(raised) => failed(
            this,
            raised,
            "Fatal error: protocol.buffer_updated() call failed.",
        ),
    }
}

fn get_buffer(protocol: &Obj) -> R<Obj> {
    let buffer = protocol.call_method(&names::GET_BUFFER, &[&Obj::int(-1)?])?;
    if buffer.len()? == 0 {
        return Err(runtime_error("get_buffer() returned an empty buffer"));
    }
    Ok(buffer)
}

/// Nothing there after all, or the connection is broken.
fn read_error(this: &Own<Stream>, error: &io::Error) -> R<()> {
    if error.kind() == io::ErrorKind::WouldBlock {
        return Ok(());
    }
    let exception = os_error(error).take();
    stream::fatal_error(this, exception, FATAL)
}

/// `_read_ready__on_eof()`
#[cold]
pub(super) fn end(this: &Own<Stream>, _: &Obj, protocol: &Obj) -> R<()> {
    stream::debug(this, "%r received EOF")?;
    match telling::eof_received(protocol) {
        Ok(true) => {
            // The protocol can still write, but there will be nothing to read.
            stream::stop_reading_for_good(this);
            Ok(())
        }
        Ok(false) => stream::close(this),
        Err(raised) => failed(this, raised, "Fatal error: protocol.eof_received() call failed."),
    }
}

/// The protocol has raised.
#[cold]
pub(super) fn failed(this: &Own<Stream>, raised: Raised, message: &str) -> R<()> {
    if is_fatal(&raised) {
        return Err(raised);
    }
    let exception = raised.take();
    // what it has written before may say why
    writing::flush_now(this)?;
    stream::fatal_error(this, exception, message)
}
