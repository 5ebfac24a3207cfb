//! Datagrams that go out: `sendto`, and the queue of those that the kernel has not taken yet.
//!
//! Rules
//! 1. A datagram is sent whole, alone, and before `sendto()` returns; it waits only if the kernel has no room, or if
//!    others wait already.
//! 2. What the program can change is copied when it has to wait.
//! 3. An error of the kernel is told to the protocol and loses that datagram, nothing else.

use super::datagram::Datagram;
use super::flow;
use super::life;
use crate::event_loop::core;
use crate::event_loop::run::is_fatal;
use crate::event_loop::sockets::unless_it_blocks;
use crate::ffi::audit;
use crate::ffi::bytes::{self, Bytes};
use crate::ffi::errors::{R, Raised, exc, os_error, type_error, value_error};
use crate::ffi::pysocket::{self, Plain};
use crate::ffi::{Args, Fifo, Obj, Own, Slots, Visitor};
use crate::imports::{self, names};
use crate::transports::socket::written_out;
use crate::version;
use aioxide_core::socket::{self as kernel, Address};
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// What a datagram counts beside its own bytes (`_header_size`), since 3.13.
pub(super) const HEADER: usize = 8;
/// asyncio warns from this datagram on after the transport was closed.
const LOG_THRESHOLD: u32 = 5;

/// What is to be sent, in order: data and addresses.
#[derive(Default)]
pub(super) struct Queue {
    datagrams: Fifo<(Obj, Obj)>,
    size: Cell<usize>,
}

impl Queue {
    /// `_buffer_size`
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.size.get()
    }
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }
    /// All of it is lost.
    pub(super) fn forget(&self) {
        self.size.set(0);
        drop(self.datagrams.take());
    }
    pub(super) fn visit(&self, visitor: &mut Visitor) {
        self.datagrams.for_each(|(data, to)| {
            visitor.obj(data);
            visitor.obj(to);
        });
    }
    fn push(&self, data: Obj, to: Obj) -> R<()> {
        self.size.set(self.size.get() + weight(&data)?);
        self.datagrams.push_back((data, to));
        Ok(())
    }
    fn pop(&self) -> R<Option<(Obj, Obj)>> {
        let Some(datagram) = self.datagrams.pop_front() else {
            return Ok(None);
        };
        self.size
            .set(self.size.get().saturating_sub(weight(&datagram.0)?));
        Ok(Some(datagram))
    }
    /// The kernel has no room for it yet.
    fn put_back(&self, datagram: (Obj, Obj)) -> R<()> {
        self.size.set(self.size.get() + weight(&datagram.0)?);
        self.datagrams.push_front(datagram);
        Ok(())
    }
}

/// What `data` counts in the queue.
fn weight(data: &Obj) -> R<usize> {
    let header = if version::SINCE_313.get() { HEADER } else { 0 };
    Ok(data.len()? + header)
}

/// `sendto(data, addr=None)`
fn sendto(args: &Args) -> R<Obj> {
    let (this, data) = (args.this::<Datagram>()?, args.req(1)?);
    if !bytes::is_data(data) {
        return Err(type_error(&format!(
            "data argument must be a bytes-like object, not '{}'",
            data.class().getattr_str("__name__")?.to_string()?
        )));
    }
    // since 3.13 an empty datagram is one
    if !version::SINCE_313.get() && data.len()? == 0 {
        return Ok(Obj::none());
    }
    let only = match this.address.get() {
        Some(only) => only_to(only, args.opt(2))?,
        None => None,
    };
    // (closed: asyncio's socket is `None` by then, and it stumbles over that)
    if this.conn_lost.get() > 0 && (only.is_some() || this.socket.is_gone()) {
        return count_lost(this);
    }
    let to = only.unwrap_or_else(|| args.get(2).cloned().unwrap_or_else(Obj::none));
    if this.queue.is_empty() {
        match attempt(this, data, &to) {
            Ok(true) => return Ok(Obj::none()),
            Ok(false) => life::start_writing(this)?,
            Err(raised) => return failed(this, raised).map(|()| Obj::none()),
        }
    }
    this.queue.push(snapshot(data)?, to)?;
    flow::maybe_pause(this)?;
    Ok(Obj::none())
}

/// `_address`, if that is the one to send to; nobody else may be.
fn only_to(only: Obj, to: Option<&Obj>) -> R<Option<Obj>> {
    if !only.truth()? {
        return Ok(None);
    }
    if let Some(to) = to
        && !to.eq(&only)?
    {
        return Err(value_error(&format!(
            "Invalid address: must be None or {}",
            only.to_str()?.to_string()?
        )));
    }
    Ok(Some(only))
}

/// The transport is closed: the datagram is counted, and too many are complained about.
#[cold]
fn count_lost(this: &Own<Datagram>) -> R<Obj> {
    let lost = this.conn_lost.get();
    if lost >= LOG_THRESHOLD {
        imports::LOGGER.call_method_str("warning", &[&Obj::str("socket.send() raised exception.")?])?;
    }
    this.conn_lost.set(lost.saturating_add(1));
    Ok(Obj::none())
}

/// `bytes(data)`
fn snapshot(data: &Obj) -> R<Obj> {
    match Bytes::of(data) {
        Some(_) => Ok(data.clone()),
        None => data.memoryview()?.call_method_str("tobytes", &[]),
    }
}

/// Sends a datagram. `false`: there is no room for it.
#[inline]
fn attempt(this: &Own<Datagram>, data: &Obj, to: &Obj) -> R<bool> {
    let Some(sock) = this.socket.made_object() else {
        return Err(os_error(&io::Error::from_raw_os_error(libc::EBADF)));
    };
    if this.connected.get() {
        if let Some(plain) = Plain::with(&sock, &pysocket::SEND)
            && let Some(sent) = bytes::with(data, |data| kernel::send(plain.fd, data))
        {
            return unless_blocked(sent);
        }
        let sent = sock.call_method(&names::SEND, &[data]);
        return Ok(unless_it_blocks(sent)?.is_some());
    }
    if let Some(plain) = Plain::with(&sock, &pysocket::SENDTO)
        && let Some(address) = find(this, plain.family, to)?
    {
        audit::socket_event(c"socket.sendto", &sock, to)?;
        // (whoever listens to that may have closed it)
        let fd = pysocket::fd(&sock).unwrap_or(-1);
        if let Some(sent) = bytes::with(data, |data| kernel::send_to(fd, data, &address)) {
            return unless_blocked(sent);
        }
    }
    let sent = sock.call_method(&names::SENDTO, &[data, to]);
    Ok(unless_it_blocks(sent)?.is_some())
}

/// An IP address that need not be looked up.
#[inline]
fn find(this: &Own<Datagram>, family: i32, to: &Obj) -> R<Option<SocketAddr>> {
    let loop_ = this.loop_.get();
    let core = loop_.as_ref().and_then(core::of);
    if let Some(address) = core.and_then(|core| core.peers.address(to))
        && address.is_ipv4() == (family == libc::AF_INET)
    {
        return Ok(Some(address));
    }
    let Some(Address::Ip(address)) = written_out(family, to)? else {
        return Ok(None);
    };
    if let Some(core) = core {
        core.peers.note(to, address);
    }
    Ok(Some(address))
}

fn unless_blocked(sent: io::Result<usize>) -> R<bool> {
    match sent {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(os_error(&error)),
    }
}

/// Rule 3; whatever else it is ends the transport.
#[cold]
fn failed(this: &Own<Datagram>, raised: Raised) -> R<()> {
    if raised.matches(exc::os_error()) {
        let exception = raised.take();
        return this
            .protocol
            .get_or_none()
            .call_method(&names::ERROR_RECEIVED, &[&exception])
            .map(drop);
    }
    if is_fatal(&raised) {
        return Err(raised);
    }
    life::fatal_error(this, raised.take(), "Fatal write error on datagram transport")
}

/// `_sendto_ready()`, in its context.
pub(super) fn room(this: &Own<Datagram>) -> R<()> {
    while let Some((data, to)) = this.queue.pop()? {
        match attempt(this, &data, &to) {
            Ok(true) => {}
            Ok(false) => {
                this.queue.put_back((data, to))?;
                break;
            }
            Err(raised) => return failed(this, raised),
        }
    }
    flow::maybe_resume(this)?; // it may send
    if this.queue.is_empty() {
        life::stop_writing(this);
        // (what `resume_writing` did may have arranged for it already)
        if this.closing.get() && this.conn_lost.get() == 0 {
            this.conn_lost.set(1);
            return life::call_connection_lost(this, &Obj::none());
        }
    }
    Ok(())
}

/// What this file adds to the class.
pub(super) fn slots(slots: &mut Slots<Datagram>) -> R<()> {
    slots.method("sendto(self, data, addr=None)", sendto)?;
    slots.method("get_write_buffer_size(self)", |args| {
        Obj::int(args.this::<Datagram>()?.queue.size() as i64)
    })?;
    // what a handle shows in debug mode
    slots.method("_sendto_ready(self)", |args| {
        room(args.this()?)?;
        Ok(Obj::none())
    })?;
    slots.get(c"_buffer_size", |this| Obj::int(this.queue.size() as i64));
    slots.get(c"_buffer", |this| {
        let mut pairs = Vec::new();
        for (data, to) in this.queue.datagrams.snapshot() {
            pairs.push(Obj::tuple(&[&data, &to])?);
        }
        imports::DEQUE.call(&[&Obj::list(&pairs)?])
    });
    Ok(())
}
