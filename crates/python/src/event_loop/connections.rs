//! "Opening network connections": connect_accepted_socket, create_connection, create_unix_connection.
//!
//! Each ends with a transport over a connected socket, made by [`over_socket`].

use super::class::this;
use super::readers;
use crate::ffi::errors::{not_implemented, raise, value_error};
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Class, Co, Coroutine, Obj, Own, R};
use crate::futures::Future;
use crate::imports::names;
use crate::transports::socket::Socket;
use crate::transports::stream::{self, Opening, Stream};

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method(
        "connect_accepted_socket(self, protocol_factory, sock, *, ssl=None, ssl_handshake_timeout=None, \
         ssl_shutdown_timeout=None)",
        connect_accepted_socket,
    )
}

/// `ssl=…` is for another day.
fn check_no_tls(ssl: Option<&Obj>, method: &str) -> R<()> {
    match ssl {
        Some(ssl) if ssl.truth()? => Err(not_implemented(&format!(
            "aioxide does not implement TLS yet: loop.{method}(ssl=...)"
        ))),
        _ => Ok(()),
    }
}

/// `_check_ssl_socket` and the type of the socket.
fn check_stream(sock: &Obj) -> R<()> {
    if !sock
        .getattr(&names::TYPE)?
        .eq(&Obj::int(libc::SOCK_STREAM.into())?)?
    {
        return Err(value_error(&format!(
            "A Stream Socket was expected, got {}",
            sock.repr()?
        )));
    }
    Ok(())
}

/// `await loop.connect_accepted_socket(protocol_factory, sock)`
fn connect_accepted_socket(args: &Args) -> R<Obj> {
    let (loop_, _) = this(args)?;
    let tls = args.get(3).cloned().unwrap_or_else(Obj::none);
    Coroutine::boxed(
        "BaseEventLoop.connect_accepted_socket",
        &[loop_, args.req(1)?, args.req(2)?, &tls],
        |co: Co| async move {
            check_stream(&co.local(2))?;
            check_no_tls(co.local(3).non_none(), "connect_accepted_socket")?;
            over_socket(&co, &co.local(0), &co.local(1), &co.local(2)).await
        },
    )
}

/// `_create_connection_transport(sock, protocol_factory, …)`: the pair of transport and protocol.
async fn over_socket(co: &Co, loop_: &Obj, factory: &Obj, sock: &Obj) -> R<Obj> {
    sock.call_method(&names::SETBLOCKING, &[&Obj::bool(false)])?;
    let protocol = factory.call0()?;
    let (transport, waiter) = start(loop_, sock, &protocol)?;
    let made = co.wait(waiter.into_obj()).await;
    if let Err(raised) = made {
        let exception = raised.take();
        transport.obj().call_method(&names::CLOSE, &[])?;
        return Err(raise(&exception));
    }
    Obj::tuple(&[transport.obj(), &protocol])
}

fn start(loop_: &Obj, sock: &Obj, protocol: &Obj) -> R<(Own<Stream>, Own<Future>)> {
    let socket = Socket::of(sock)?;
    let core = super::sockets::loop_core(loop_)?;
    readers::ensure_no_transport(core, socket.number())?;
    let waiter = Future::class().alloc(Future::pending(loop_.clone()))?;
    let transport = stream::open(Opening {
        loop_,
        socket,
        protocol,
        waiter: Some(waiter.clone()),
        extra: None,
        server: None,
        context: None,
        peer: None,
    })?;
    Ok((transport, waiter))
}
