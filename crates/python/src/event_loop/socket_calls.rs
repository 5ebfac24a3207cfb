//! One attempt of each `sock_*` operation.
//!
//! Rules
//! 1. What a plain, non-blocking `socket.socket` would do by a system call is done by that system call: with the
//!    GIL held, since it cannot block, and with the exceptions and audit events of the socket module. Everything else (a
//!    class derived from it, a mock, a socket that blocks, arguments that the module would have to look at
//!    twice) goes by the socket's own method.
//! 2. What comes in is read into the loop's buffer and copied: a program that asks for 256 KiB and gets one
//!    does not pay for the other 255.

use super::core::MOST;
use super::readers::Side;
use super::sockets::{Call, Operation, unless_it_blocks};
use crate::ffi::audit;
use crate::ffi::bytes::{self, Buffer, Bytes};
use crate::ffi::errors::{exc, os_error, raise, type_error};
use crate::ffi::object::exact_int;
use crate::ffi::pysocket::{self, Method, Plain};
use crate::ffi::{Obj, R, Raised};
use crate::imports::names;
use crate::transports::socket::{address, sender as sender_of, written_out};
use aioxide_core::socket::{self, Address};
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::os::fd::IntoRawFd;

impl Call<'_> {
    /// Rule 1: the socket, if a system call may take the place of `method`.
    #[inline]
    fn plain(&self, method: &Method) -> Option<Plain> {
        Plain::with(&self.sock, method)
    }
}

/// `None`: it would block.
#[inline]
fn unless_blocked<T>(result: io::Result<T>) -> R<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(os_error(&error)),
    }
}

/// How many bytes a program asks for.
#[inline]
fn size(argument: &Obj) -> Option<usize> {
    exact_int(argument).and_then(|size| usize::try_from(size).ok())
}

/// The address of a client.
fn from(client: &Address) -> R<Obj> {
    Ok(address(client)?.unwrap_or_else(Obj::none))
}

// --- receiving ------------------------------------------------------------------------------------

pub(super) struct Recv;

impl Operation for Recv {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_recv";
    const SIDE: Side = Side::Reader;
    #[inline]
    fn attempt(call: &Call) -> R<Option<Obj>> {
        match (call.plain(&pysocket::RECV), size(&call.argument)) {
            (Some(_), Some(0)) => Obj::empty_bytes().map(Some),
            (Some(socket), Some(most)) if most <= MOST => {
                let received = call.with_scratch(|scratch, spares| {
                    let count = socket::receive(socket.fd, &mut scratch[..most])?;
                    Ok(spares.bytes(&scratch[..count]))
                })?;
                unless_blocked(received)?.transpose()
            }
            (Some(socket), Some(most)) if socket.kind == libc::SOCK_STREAM => {
                receive_much(call, socket, most)
            }
            _ => unless_it_blocks(call.sock.call_method(&names::RECV, &[&call.argument])),
        }
    }
}

/// More than the buffer has room for may be asked of a stream, and be there.
#[cold]
fn receive_much(call: &Call, socket: Plain, most: usize) -> R<Option<Obj>> {
    let received = call.with_scratch(|scratch, _| {
        let count = socket::receive(socket.fd, scratch)?;
        if count < scratch.len() {
            return Ok(bytes::new(&scratch[..count]));
        }
        let both = bytes::filled(most, |place| {
            let (first, rest) = place.split_at_mut(count);
            for (to, from) in first.iter_mut().zip(scratch) {
                to.write(*from);
            }
            match socket::receive_uninit(socket.fd, rest) {
                Ok(more) => Ok(count + more),
                // it will be met again
                Err(_) => Ok::<_, Infallible>(count),
            }
        });
        Ok(both.map(|Ok(data)| data))
    })?;
    unless_blocked(received)?.transpose()
}

pub(super) struct RecvInto;

impl Operation for RecvInto {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_recv_into";
    const SIDE: Side = Side::Reader;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        if let Some(socket) = call.plain(&pysocket::RECV_INTO)
            && let Some(mut buffer) = Buffer::writable_or_none(&call.argument)
        {
            if buffer.len() == 0 {
                return Obj::int(0).map(Some);
            }
            return unless_blocked(buffer.with_mut(|place| socket::receive(socket.fd, place)))?
                .map(|count| Obj::int(count as i64))
                .transpose();
        }
        unless_it_blocks(call.sock.call_method(&names::RECV_INTO, &[&call.argument]))
    }
}

pub(super) struct RecvFrom;

impl Operation for RecvFrom {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_recvfrom";
    const SIDE: Side = Side::Reader;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        match (call.plain(&pysocket::RECVFROM), size(&call.argument)) {
            (Some(socket), Some(most @ 1..=MOST)) if socket.has_known_addresses() => {
                let received = call.with_scratch(|scratch, spares| {
                    let (count, sender) = socket::receive_from(socket.fd, &mut scratch[..most])?;
                    Ok((spares.bytes(&scratch[..count]), sender))
                })?;
                let Some((data, sender)) = unless_blocked(received)? else {
                    return Ok(None);
                };
                Obj::tuple(&[&data?, &sender_of(&sender)?]).map(Some)
            }
            _ => unless_it_blocks(call.sock.call_method(&names::RECVFROM, &[&call.argument])),
        }
    }
}

/// The argument: `(buf, nbytes)`.
pub(super) struct RecvFromInto;

impl Operation for RecvFromInto {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_recvfrom_into";
    const SIDE: Side = Side::Reader;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        let [buf, nbytes] = call.argument.tuple_items() else {
            return Err(type_error("two arguments are required"));
        };
        let nbytes = if nbytes.truth()? {
            nbytes.clone()
        } else {
            Obj::int(buf.len()? as i64)?
        };
        if let (Some(socket), Some(most @ 1..)) = (call.plain(&pysocket::RECVFROM_INTO), size(&nbytes))
            && socket.has_known_addresses()
            && let Some(mut buffer) = Buffer::writable_or_none(buf)
            && most <= buffer.len()
        {
            let received = buffer.with_mut(|place| socket::receive_from(socket.fd, &mut place[..most]));
            drop(buffer);
            return unless_blocked(received)?
                .map(|(count, sender)| Obj::tuple(&[&Obj::int(count as i64)?, &sender_of(&sender)?]))
                .transpose();
        }
        unless_it_blocks(call.sock.call_method(&names::RECVFROM_INTO, &[buf, &nbytes]))
    }
}

// --- sending --------------------------------------------------------------------------------------

/// The argument: what is still to be sent.
pub(super) struct SendAll;

impl Operation for SendAll {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_sendall";
    const SIDE: Side = Side::Writer;
    #[inline]
    fn attempt(call: &Call) -> R<Option<Obj>> {
        let data = &call.argument;
        let sent = if let Some(socket) = call.plain(&pysocket::SEND)
            && let Some(sent) = bytes::with(data, |data| socket::send(socket.fd, data))
        {
            unless_blocked(sent)?.unwrap_or(0)
        } else {
            match unless_it_blocks(call.sock.call_method(&names::SEND, &[data]))? {
                Some(sent) => sent.to_i64()? as usize,
                None => 0,
            }
        };
        let length = data.len()?;
        if sent == length {
            return Ok(Some(Obj::none()));
        }
        // The view keeps a bytearray from changing its size as long as it is being sent.
        let rest = if call.is_first() {
            data.memoryview()?
        } else {
            data.clone()
        };
        let rest = if sent == 0 {
            rest
        } else {
            rest.slice(sent, length)?
        };
        call.set_argument(rest);
        Ok(None)
    }
}

/// The argument: `(data, address)`.
pub(super) struct SendTo;

impl Operation for SendTo {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_sendto";
    const SIDE: Side = Side::Writer;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        let [data, address] = call.argument.tuple_items() else {
            return Err(type_error("two arguments are required"));
        };
        if let Some(socket) = call.plain(&pysocket::SENDTO)
            && let Some(Address::Ip(to)) = written_out(socket.family, address)?
            && (Bytes::of(data).is_some() || Buffer::readable_or_none(data).is_some())
        {
            audit::socket_event(c"socket.sendto", &call.sock, address)?;
            if let Some(sent) = bytes::with(data, |data| socket::send_to(socket.fd, data, &to)) {
                return unless_blocked(sent)?
                    .map(|sent| Obj::int(sent as i64))
                    .transpose();
            }
        }
        unless_it_blocks(call.sock.call_method(&names::SENDTO, &[data, address]))
    }
}

// --- connecting -----------------------------------------------------------------------------------

pub(super) struct Accept;

impl Operation for Accept {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_accept";
    const SIDE: Side = Side::Reader;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        if let Some(socket) = call
            .plain(&pysocket::ACCEPT)
            .filter(|socket| socket.has_known_addresses())
        {
            let Some((fd, peer)) = unless_blocked(socket::accept(socket.fd))? else {
                return Ok(None);
            };
            let fd = fd.into_raw_fd();
            let connection = match (Plain { fd, ..socket }).object() {
                Ok(connection) => connection,
                Err(raised) => {
                    // nobody else knows of it
                    socket::close(fd);
                    return Err(raised);
                }
            };
            return Obj::tuple(&[&connection, &from(&peer)?]).map(Some);
        }
        // asyncio asks for it first
        call.sock.call_method(&names::FILENO, &[])?;
        let Some(pair) = unless_it_blocks(call.sock.call_method(&names::ACCEPT, &[]))? else {
            return Ok(None);
        };
        let connection = pair.to_vec()?;
        let Some(connection) = connection.first() else {
            return Err(type_error("accept() must return a pair"));
        };
        unless_it_blocks(connection.call_method(&names::SETBLOCKING, &[&Obj::bool(false)]))?;
        Ok(Some(pair))
    }
}

/// The argument: an address that needs no looking up.
pub(super) struct Connect;

impl Operation for Connect {
    const NAME: &'static str = "BaseSelectorEventLoop._sock_connect";
    const SIDE: Side = Side::Writer;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        let connected = if call.is_first() {
            begin_to_connect(call)?
        } else {
            end_of_connecting(call)?
        };
        Ok(connected.then(Obj::none))
    }
}

/// `false`: it goes on in the background, also after EINTR.
fn begin_to_connect(call: &Call) -> R<bool> {
    if let Some(socket) = call.plain(&pysocket::CONNECT)
        && let Some(to) = written_out(socket.family, &call.argument)?
    {
        audit::socket_event(c"socket.connect", &call.sock, &call.argument)?;
        return match socket::connect(socket.fd, &to) {
            Ok(()) => Ok(true),
            Err(error) if is_under_way(&error) => Ok(false),
            Err(error) => Err(os_error(&error)),
        };
    }
    let Err(raised) = call.sock.call_method(&names::CONNECT, &[&call.argument]) else {
        return Ok(true);
    };
    let exception = raised.take();
    if exception.isinstance(exc::blocking_io_error())?
        && exception
            .getattr_str("errno")?
            .eq(&Obj::int(libc::EAGAIN.into())?)?
    {
        return Err(raise(&exception));
    }
    Ok(unless_it_blocks(Err(raise(&exception)))?.is_some())
}

/// What Python makes a BlockingIOError or an InterruptedError of, but for EAGAIN: that says that nothing has begun (a
/// Unix socket's server has no room, for one).
pub(super) fn is_under_way(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EALREADY | libc::EINPROGRESS | libc::EINTR)
    )
}

/// `false`: not yet, after all.
fn end_of_connecting(call: &Call) -> R<bool> {
    let code = if let Some(socket) = call.plain(&pysocket::GETSOCKOPT) {
        match socket::take_error(socket.fd) {
            Ok(None) => return Ok(true),
            Ok(Some(error)) => Obj::int(error.raw_os_error().unwrap_or_default().into())?,
            Err(error) => return Err(os_error(&error)),
        }
    } else {
        let (level, option) = (
            Obj::int(libc::SOL_SOCKET.into())?,
            Obj::int(libc::SO_ERROR.into())?,
        );
        let code = call.sock.call_method(&names::GETSOCKOPT, &[&level, &option])?;
        if code.eq(&Obj::int(0)?)? {
            return Ok(true);
        }
        code
    };
    Ok(unless_it_blocks(Err(connect_failed(code, &call.argument)?))?.is_some())
}

/// `OSError(code, f'Connect call failed {address}')`
pub(super) fn connect_failed(code: Obj, address: &Obj) -> R<Raised> {
    let text = format!("Connect call failed {}", address.to_str()?.to_string()?);
    Ok(raise(&exc::os_error().call(&[&code, &Obj::str(&text)?])?))
}
