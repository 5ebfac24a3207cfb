//! What goes out: `write`, `writelines`, `write_eof`, and the queue of what the kernel has not taken yet.
//!
//! Rules
//! 1. What is written goes out at once, or waits for what else is written: `outbox.rs` says which.
//! 2. What waits for that reason goes out before anything that could tell the difference: the size of the
//!    buffer, the socket itself, the marks of flow control, `close()`, `write_eof()`, `abort()`,
//!    the end that an exception of the protocol makes.
//! 3. What the program can change is copied when it has to wait.
//! 4. Nothing is sent or dropped but in order.

use super::life::{self, Transport};
use super::outbox::Held;
use super::stream::{self, Stream};
use super::{flow, foreign};
use crate::event_loop::core;
use crate::ffi::bytes::{self, Buffer, Bytes};
use crate::ffi::errors::{R, connection_error, os_error, runtime_error, type_error};
use crate::ffi::window::Window;
use crate::ffi::{Args, Obj, Own, Slots};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::version;
use aioxide_core::socket;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;

/// So much is not held back.
const ENOUGH: usize = 64 * 1024;
/// asyncio warns from this write on after the connection was lost.
const LOG_THRESHOLD: u32 = 5;
pub(super) const FATAL: &str = "Fatal write error on socket transport";
const AFTER_EOF: &str = "Cannot call write() after write_eof()";
const IN_SENDFILE: &str = "unable to write; sendfile is in progress";

/// Something to send, from `start` on.
pub(super) struct Piece {
    bytes: Bytes,
    start: usize,
}

impl Piece {
    fn rest(&self) -> &[u8] {
        &self.bytes.as_slice()[self.start..]
    }
}

/// What is to be sent, in order.
#[derive(Default)]
pub(super) struct Queue {
    pieces: VecDeque<Piece>,
    size: usize,
}

impl Queue {
    /// Bytes.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.size
    }
    /// Puts something at its end.
    pub(super) fn push(&mut self, bytes: Bytes, start: usize) {
        self.size += bytes.as_slice().len() - start;
        self.pieces.push_back(Piece { bytes, start });
    }
    /// Sends what the kernel takes at once.
    fn send(&self, fd: RawFd) -> io::Result<usize> {
        if let [only] = self.pieces.as_slices().0
            && self.pieces.len() == 1
        {
            return socket::send(fd, only.rest());
        }
        self.with_slices(|slices| socket::send_vectored(fd, slices))
    }
    /// What goes out at once.
    #[inline]
    pub(super) fn with_slices<T>(&self, f: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        /// As many find room on the stack.
        const FEW: usize = 32;
        if self.pieces.len() > FEW {
            let most = self.pieces.iter().take(socket::MOST_PIECES);
            return f(&most.map(|piece| IoSlice::new(piece.rest())).collect::<Vec<_>>());
        }
        let mut slices = [IoSlice::new(&[]); FEW];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece.rest());
            count += 1;
        }
        f(&slices[..count])
    }
    /// A `memoryview` of each piece that goes out at once.
    pub(super) fn views(&self) -> R<Vec<Obj>> {
        let view = |piece: &Piece| {
            let view = piece.bytes.obj().memoryview()?;
            match piece.start {
                0 => Ok(view),
                start => view.slice(start, piece.bytes.as_slice().len()),
            }
        };
        self.pieces.iter().take(socket::MOST_PIECES).map(view).collect()
    }
    /// A copy of all that waits.
    pub(super) fn copy(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(Piece::rest).copied().collect()
    }
    /// So many bytes have been sent. What is done with goes to the caller, who drops it.
    pub(super) fn sent(&mut self, mut count: usize) -> Vec<Piece> {
        self.size -= count;
        let mut done = 0;
        for piece in &mut self.pieces {
            let rest = piece.rest().len();
            if rest > count {
                piece.start += count;
                break;
            }
            count -= rest;
            done += 1;
        }
        self.pieces.drain(..done).collect()
    }
}

/// `write(data)`
pub(crate) fn write(this: &Own<Stream>, data: &Obj) -> R<()> {
    if !bytes::is_data(data) {
        let wanted = if version::SINCE_314.get() {
            "a bytes, bytearray, or memoryview object"
        } else {
            "a bytes-like object"
        };
        return Err(type_error(&format!(
            "data argument must be {wanted}, not '{}'",
            data.class().getattr_str("__name__")?.to_string()?
        )));
    }
    check(this, AFTER_EOF, IN_SENDFILE)?;
    if let Some(sock) = this.socket.foreign() {
        return foreign::write(this, &sock, data);
    }
    match Bytes::of(data) {
        Some(bytes) => write_bytes(this, bytes),
        None => write_view(this, data),
    }
}

/// `bytes`
#[inline]
fn write_bytes(this: &Own<Stream>, bytes: Bytes) -> R<()> {
    if bytes.as_slice().is_empty() || is_lost(this)? {
        return Ok(());
    }
    match holds_back(this) {
        Some(hold_back) => send_or_keep(this, bytes, hold_back),
        None => Ok(()),
    }
}

#[inline]
fn send_or_keep(this: &Own<Stream>, bytes: Bytes, hold_back: bool) -> R<()> {
    let mut start = 0;
    if is_idle(this) && !hold_back {
        match try_to_send(this, bytes.as_slice())? {
            Some(sent) if sent == bytes.as_slice().len() => return Ok(()),
            Some(sent) => start = sent,
            None => return Ok(()),
        }
    }
    keep(this, bytes, start, hold_back)
}

impl Own<Stream> {
    /// `write(bytes)` by somebody who keeps rule 1 himself.
    pub(crate) fn write_at_once(&self, bytes: Bytes) -> R<()> {
        check(self, AFTER_EOF, IN_SENDFILE)?;
        if let Some(sock) = self.socket.foreign() {
            return foreign::write(self, &sock, bytes.obj());
        }
        if bytes.as_slice().is_empty() || is_lost(self)? {
            return Ok(());
        }
        send_or_keep(self, bytes, false)
    }

    /// The same of the first so many bytes of a window, of which nothing is kept.
    pub(crate) fn write_part_at_once(&self, window: &Own<Window>, count: usize) -> R<()> {
        check(self, AFTER_EOF, IN_SENDFILE)?;
        if let Some(sock) = self.socket.foreign() {
            let copy = window.with_mut(|place| bytes::new(&place[..count]))?;
            return foreign::write(self, &sock, &copy);
        }
        if count == 0 || is_lost(self)? {
            return Ok(());
        }
        let mut start = 0;
        if is_idle(self) {
            let fd = self.socket.fd();
            let result = window.with_mut(|place| socket::send(fd, &place[..count]));
            match unless_broken(self, result)? {
                Some(sent) if sent == count => return Ok(()),
                Some(sent) => start = sent,
                None => return Ok(()),
            }
        }
        let copy = window.with_mut(|place| Bytes::copy(&place[start..count]))?;
        keep(self, copy, 0, false)
    }
}

/// A `bytearray` or a `memoryview`.
fn write_view(this: &Own<Stream>, data: &Obj) -> R<()> {
    if data.len()? == 0 || is_lost(this)? {
        return Ok(());
    }
    let Some(hold_back) = holds_back(this) else {
        return Ok(());
    };
    let now = is_idle(this) && !hold_back;
    let fd = this.socket.fd();
    let looked = bytes::with_readable(data, |data| {
        let sent = if now { socket::send(fd, data) } else { Ok(0) };
        let start = match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        Ok((start < data.len()).then(|| Bytes::copy(&data[start..])))
    });
    match looked {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(rest))) => keep(this, rest?, 0, hold_back),
        Ok(Err(error)) => stream::fatal_error(this, os_error(&error).take(), FATAL),
        Err(raised) => stream::fatal_error(this, raised.take(), FATAL),
    }
}

/// `writelines(list_of_data)`: all of it, in one system call if the kernel has the room.
fn writelines(args: &Args) -> R<Obj> {
    let (this, list) = (args.this::<Stream>()?, args.req(1)?);
    if !version::SINCE_312.get() {
        let joined = Obj::empty_bytes()?.call_method_str("join", &[list])?;
        return this.obj().call_method(&names::WRITE, &[&joined]);
    }
    check(
        this,
        "Cannot call writelines() after write_eof()",
        "unable to writelines; sendfile is in progress",
    )?;
    if !list.truth()? || is_lost(this)? {
        return Ok(Obj::none());
    }
    // all of them are looked at before any is taken
    let mut pieces = Vec::new();
    for data in list.to_vec()? {
        let bytes = match Bytes::of(&data) {
            Some(bytes) => bytes,
            None => Buffer::readable(&data.memoryview()?)?.with(Bytes::copy)?,
        };
        if !bytes.as_slice().is_empty() {
            pieces.push(bytes);
        }
    }
    let Some(hold_back) = holds_back(this).filter(|_| !pieces.is_empty()) else {
        return Ok(Obj::none());
    };
    let idle = is_idle(this);
    this.queue.with(|queue| {
        for bytes in pieces {
            queue.push(bytes, 0);
        }
    });
    settle(this, idle, hold_back)?;
    Ok(Obj::none())
}

fn check(this: &Own<Stream>, after_eof: &str, in_sendfile: &str) -> R<()> {
    if this.eof.get() {
        return Err(runtime_error(after_eof));
    }
    if !this.empty_waiter.is_empty() {
        return Err(runtime_error(in_sendfile));
    }
    Ok(())
}

/// Is the connection lost? Then it counts the write, and complains about too many.
#[inline]
pub(super) fn is_lost(this: &Own<Stream>) -> R<bool> {
    let lost = this.conn_lost.get();
    if lost == 0 {
        return Ok(false);
    }
    if lost >= LOG_THRESHOLD {
        imports::LOGGER.call_method_str("warning", &[&Obj::str("socket.send() raised exception.")?])?;
    }
    this.conn_lost.set(lost.saturating_add(1));
    Ok(true)
}

#[inline]
pub(super) fn is_idle(this: &Own<Stream>) -> bool {
    this.waiting() == 0
}

/// Rule 1. `None`: there is no loop any more.
#[inline]
fn holds_back(this: &Own<Stream>) -> Option<bool> {
    let loop_ = this.loop_.get()?;
    let hold_back = this.turns.hold_back(core::of(&loop_)?);
    Some(hold_back && this.socket.foreign().is_none())
}

/// How much the kernel took; `None`: the connection is broken, and that has been dealt with.
#[inline]
fn try_to_send(this: &Own<Stream>, data: &[u8]) -> R<Option<usize>> {
    unless_broken(this, socket::send(this.socket.fd(), data))
}

#[inline]
fn unless_broken(this: &Own<Stream>, result: io::Result<usize>) -> R<Option<usize>> {
    match result {
        Ok(sent) => Ok(Some(sent)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
        Err(error) => {
            stream::fatal_error(this, os_error(&error).take(), FATAL)?;
            Ok(None)
        }
    }
}

/// Puts the rest of something into the queue.
pub(super) fn keep(this: &Own<Stream>, bytes: Bytes, start: usize, hold_back: bool) -> R<()> {
    let idle = is_idle(this);
    this.queue.with(|queue| queue.push(bytes, start));
    if idle && !hold_back {
        // the kernel was asked a moment ago
        life::start_writing(this)?;
        return flow::maybe_pause(this);
    }
    settle(this, idle, hold_back)
}

/// The queue has grown. `idle`: from nothing.
fn settle(this: &Own<Stream>, idle: bool, hold_back: bool) -> R<()> {
    if idle {
        this.turns.held_back.set(true);
        if let Some(loop_) = this.loop_.get()
            && let Some(core) = core::of(&loop_)
        {
            core.outbox.push(core, Held::Stream(this.clone()));
        }
    }
    let waiting = this.waiting();
    if !hold_back || waiting >= ENOUGH || this.flow.is_above(waiting) {
        flush_now(this)?;
    }
    flow::maybe_pause(this)
}

/// Rule 2.
#[inline]
pub(super) fn flush_now(this: &Own<Stream>) -> R<()> {
    if this.turns.held_back.replace(false) && this.conn_lost.get() == 0 {
        if !advance(this)? {
            return Ok(());
        }
        if is_idle(this) {
            return flow::maybe_resume(this);
        }
        life::start_writing(this)?;
    }
    Ok(())
}

/// Sends as much as goes. `false`: the connection is broken, and that has been dealt with.
fn advance(this: &Own<Stream>) -> R<bool> {
    if let Some(sock) = this.socket.foreign() {
        return foreign::advance(this, &sock);
    }
    let fd = this.socket.fd();
    match this.queue.with(|queue| queue.send(fd)) {
        Ok(count) => {
            let done = this.queue.with(|queue| queue.sent(count));
            drop(done);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => {
            broken(this, os_error(&error).take())?;
            Ok(false)
        }
    }
}

/// What is queued cannot be sent.
#[cold]
pub(super) fn broken(this: &Own<Stream>, exception: Obj) -> R<()> {
    forget(this);
    stream::fatal_error(this, exception.clone(), FATAL)?;
    match this.empty_waiter.get() {
        Some(waiter) => waiter.call_method(&names::SET_EXCEPTION, &[&exception]).map(drop),
        None => Ok(()),
    }
}

/// What is queued is dropped.
pub(super) fn forget(this: &Own<Stream>) {
    this.turns.held_back.set(false);
    life::stop_writing(this);
    let gone = this.queue.with(std::mem::take);
    drop(gone);
}

/// `_write_ready()`, in its context.
pub(super) fn room(this: &Own<Stream>) -> R<()> {
    if this.conn_lost.get() > 0 {
        return Ok(());
    }
    this.turns.held_back.set(false);
    if !advance(this)? {
        return Ok(());
    }
    flow::maybe_resume(this)?; // it may write
    if !is_idle(this) {
        return Ok(());
    }
    life::stop_writing(this);
    if let Some(waiter) = this.empty_waiter.get() {
        waiter.call_method(&names::SET_RESULT, &[&Obj::none()])?;
    }
    if this.closing.get() {
        // (what `resume_writing` did may have arranged for it already)
        if this.conn_lost.get() == 0 {
            this.conn_lost.set(1);
            return stream::call_connection_lost(this, &Obj::none());
        }
    } else if this.eof.get() {
        shut_down(this)?;
    }
    Ok(())
}

fn shut_down(this: &Own<Stream>) -> R<()> {
    if let Some(sock) = this.socket.foreign() {
        return foreign::shut_down(&sock);
    }
    socket::shutdown_write(this.socket.fd()).map_err(|error| os_error(&error))
}

/// `write_eof()`: the peer finds the end after what is queued.
fn write_eof(args: &Args) -> R<Obj> {
    let this = args.this::<Stream>()?;
    if this.closing.get() || this.eof.get() {
        return Ok(Obj::none());
    }
    flush_now(this)?;
    this.eof.set(true);
    if is_idle(this) && this.conn_lost.get() == 0 {
        shut_down(this)?;
    }
    Ok(Obj::none())
}

/// `connection_lost` has been called: whoever waits for the queue to run empty waits in vain.
pub(super) fn nobody_empties_it(this: &Own<Stream>) -> R<()> {
    let Some(waiter) = this.empty_waiter.get() else {
        return Ok(());
    };
    if waiter.call_method(&names::DONE, &[])?.truth()? {
        return Ok(());
    }
    let lost = connection_error("Connection is closed by peer").take();
    waiter.call_method(&names::SET_EXCEPTION, &[&lost]).map(drop)
}

/// `_make_empty_waiter()`
fn make_empty_waiter(args: &Args) -> R<Obj> {
    let this = args.this::<Stream>()?;
    if !this.empty_waiter.is_empty() {
        return Err(runtime_error("Empty waiter is already set"));
    }
    flush_now(this)?;
    let waiter = methods::create(&this.loop_.get_or_none())?;
    this.empty_waiter.set(waiter.clone());
    if is_idle(this) {
        waiter.call_method(&names::SET_RESULT, &[&Obj::none()])?;
    }
    Ok(waiter)
}

fn size(args: &Args) -> R<Obj> {
    let this = args.this::<Stream>()?;
    flush_now(this)?;
    Obj::int(this.waiting() as i64)
}

/// What this file adds to the class.
pub(super) fn slots(slots: &mut Slots<Stream>) -> R<()> {
    slots.method("write(self, data)", |args| {
        write(args.this()?, args.req(1)?)?;
        Ok(Obj::none())
    })?;
    slots.method("writelines(self, list_of_data)", writelines)?;
    slots.method("write_eof(self)", write_eof)?;
    slots.method("can_write_eof(self)", |args| {
        args.this::<Stream>()?;
        Ok(Obj::bool(true))
    })?;
    slots.method("get_write_buffer_size(self)", size)?;
    slots.method("_make_empty_waiter(self)", make_empty_waiter)?;
    slots.method("_reset_empty_waiter(self)", |args| {
        args.this::<Stream>()?.empty_waiter.put(None);
        Ok(Obj::none())
    })?;
    // what a handle shows in debug mode
    slots.method("_write_ready(self)", |args| {
        room(args.this()?)?;
        Ok(Obj::none())
    })?;
    slots.get(c"_buffer_size", |this| Obj::int(this.waiting() as i64));
    slots.get(c"_buffer", |this| {
        let pieces = this.queue.with(|queue| {
            let copy = |piece: &Piece| bytes::new(piece.rest());
            queue.pieces.iter().map(copy).collect::<R<Vec<_>>>()
        })?;
        imports::DEQUE.call(&[&Obj::list(&pieces)?])
    });
    slots.get(c"_empty_waiter", |this| Ok(this.empty_waiter.get_or_none()));
    Ok(())
}
