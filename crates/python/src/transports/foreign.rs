//! A stream over a socket of another class than `socket.socket`: one derived from it, or something that behaves like it.
//!
//! asyncio does everything with a socket by calling its methods, and a program whose class overrides one (to count, to
//! throttle, to lie in a test) expects to be called. So the methods are called that the running version calls, and
//! whatever they raise or return counts.
//!
//! Rules
//! 1. `BlockingIOError` and `InterruptedError` mean: not now.
//! 2. A method is the program's, and may do anything to the transport: what was true before has to be looked up again.
//! 3. Nothing is held back to go out with what comes next (rule 1 of `outbox.rs`): each write is a call.

use super::life;
use super::reading::{self, deliver, end, failed, updated};
use super::stream::Stream;
use super::writing::{self, broken, is_idle, is_lost, keep};
use crate::event_loop::core::MOST;
use crate::event_loop::run::is_fatal;
use crate::event_loop::sockets::unless_it_blocks;
use crate::ffi::bytes::{self, Buffer, Bytes};
use crate::ffi::errors::{R, exc, raise_new};
use crate::ffi::{Obj, Own};
use crate::imports::names;
use crate::version;
use aioxide_core::effects;

/// `_read_ready__data_received()`
pub(super) fn received(this: &Own<Stream>, loop_: &Obj, protocol: &Obj, sock: &Obj) -> R<()> {
    let size = life::own_max_size(this)?.unwrap_or(MOST as i64);
    let data = match unless_it_blocks(sock.call_method(&names::RECV, &[&Obj::int(size)?])) {
        Ok(Some(data)) => data,
        Ok(None) => return Ok(()),
        Err(raised) => return failed(this, raised, reading::FATAL),
    };
    if data.truth()? {
        deliver(this, protocol, data)
    } else {
        end(this, loop_, protocol)
    }
}

/// The rest of `_read_ready__get_buffer()`, when the protocol has given its buffer.
pub(super) fn received_into(this: &Own<Stream>, protocol: &Obj, sock: &Obj, buffer: Obj) -> R<()> {
    let count = match unless_it_blocks(sock.call_method(&names::RECV_INTO, &[&buffer])) {
        Ok(Some(count)) => count,
        Ok(None) => return Ok(()),
        Err(raised) => return failed(this, raised, reading::FATAL),
    };
    drop(buffer);
    if count.truth()? {
        updated(this, protocol, &count)
    } else {
        end(this, &this.loop_.get_or_none(), protocol)
    }
}

/// `write(data)`, which may be written.
pub(super) fn write(this: &Own<Stream>, sock: &Obj, data: &Obj) -> R<()> {
    if !data.truth()? || is_lost(this)? {
        return Ok(());
    }
    let mut start = 0;
    if is_idle(this) {
        effects::happened();
        match unless_it_blocks(sock.call_method(&names::SEND, &[data])) {
            Ok(None) => {}
            Ok(Some(sent)) => start = begin_of_rest(data, &sent)?,
            Err(raised) => return failed(this, raised, writing::FATAL),
        }
        if start >= data.len()? || this.conn_lost.get() > 0 {
            return Ok(());
        }
    }
    match Bytes::of(data) {
        Some(bytes) => keep(this, bytes, start, false),
        None => {
            let view = data.memoryview()?.slice(start, data.len()?)?;
            let copy = Buffer::readable(&view)?.with(Bytes::copy)?;
            keep(this, copy, 0, false)
        }
    }
}

/// Where `data[sent:]` begins.
fn begin_of_rest(data: &Obj, sent: &Obj) -> R<usize> {
    let (sent, length) = (sent.to_i64()?, data.len()?);
    Ok(match usize::try_from(sent) {
        Ok(sent) => sent.min(length),
        Err(_) => length.saturating_sub(sent.unsigned_abs() as usize),
    })
}

/// Sends as much of the queue as goes. `false`: the connection is broken, and that has been dealt with.
pub(super) fn advance(this: &Own<Stream>, sock: &Obj) -> R<bool> {
    match send_queue(this, sock) {
        Ok(()) => Ok(true),
        Err(raised) if is_fatal(&raised) => Err(raised),
        Err(raised) => {
            broken(this, raised.take())?;
            Ok(false)
        }
    }
}

fn send_queue(this: &Own<Stream>, sock: &Obj) -> R<()> {
    effects::happened();
    let sent = if version::SINCE_312.get() {
        let views = this.queue.with(|queue| queue.views())?;
        let views = Obj::list(&views)?.call_method_str("__iter__", &[])?;
        sock.call_method(&names::SENDMSG, &[&views])
    } else {
        let all = bytes::array(&this.queue.with(|queue| queue.copy()))?;
        sock.call_method(&names::SEND, &[&all])
    };
    let Some(sent) = unless_it_blocks(sent)? else {
        return Ok(());
    };
    let sent = sent.to_i64()?;
    let done = this.queue.with(|queue| match usize::try_from(sent) {
        Ok(sent) if sent <= queue.size() => Some(queue.sent(sent)),
        _ => None,
    });
    done.map(drop)
        .ok_or_else(|| raise_new(exc::index_error(), "pop from an empty deque"))
}

/// `sock.shutdown(socket.SHUT_WR)`
pub(super) fn shut_down(sock: &Obj) -> R<()> {
    effects::happened();
    sock.call_method(&names::SHUTDOWN, &[&Obj::int(libc::SHUT_WR.into())?])
        .map(drop)
}
