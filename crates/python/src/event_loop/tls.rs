//! "TLS Upgrade": start_tls; and a TLS transport over a socket, for whoever opens or accepts a connection.

use super::servers::{LOOP, begin, given};
use crate::ffi::errors::{R, raise, runtime_error, type_error};
use crate::ffi::pyclass::Body;
use crate::ffi::{Class, Co, Obj, Own};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::streams::protocol::StreamReaderProtocol;
use crate::tls::protocol::{self, Settings, SslProtocol};
use crate::tls::{engine, reading};

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method(
        "start_tls(self, transport, protocol, sslcontext, *, server_side=False, server_hostname=None, \
         ssl_handshake_timeout=None, ssl_shutdown_timeout=None)",
        |args| begin(args, 8, "BaseEventLoop.start_tls", start_tls),
    )
}

/// Locals of `start_tls`, after those of `begin`: `(SSLProtocol, what is queued, what is queued)`.
const STATE: usize = 2;

/// `loop.start_tls(transport, protocol, sslcontext, …)`: the transport to use from now on.
async fn start_tls(co: Co) -> R<Obj> {
    let waiter = begin_tls(&co)?;
    if let Err(raised) = co.wait(waiter).await {
        let exception = raised.take();
        let state = co.local(STATE);
        let transport = given(&co, 1).unwrap_or_else(Obj::none);
        transport.call_method(&names::CLOSE, &[])?;
        if let [_, made, resumed] = state.tuple_items() {
            made.call_method(&names::CANCEL, &[])?;
            resumed.call_method(&names::CANCEL, &[])?;
        }
        return Err(raise(&exception));
    }
    let state = co.local(STATE);
    match state.tuple_items() {
        [protocol, ..] => protocol.getattr_str("_app_transport"),
        _ => Ok(Obj::none()),
    }
}

/// Puts an `SSLProtocol` in the place of the protocol. What to wait for.
fn begin_tls(co: &Co) -> R<Obj> {
    let loop_ = co.local(LOOP);
    let argument = |index| given(co, index).unwrap_or_else(Obj::none);
    let (transport, protocol, context) = (argument(1), argument(2), argument(3));
    if !engine::is_available() {
        return Err(runtime_error("Python ssl module is not available"));
    }
    if !engine::is_context(&context)? {
        return Err(type_error(&format!(
            "sslcontext is expected to be an instance of ssl.SSLContext, got {}",
            context.repr()?
        )));
    }
    let compatible = transport
        .getattr_opt(&names::START_TLS_COMPATIBLE)?
        .map_or(Ok(false), |compatible| compatible.truth())?;
    if !compatible {
        return Err(type_error(&format!(
            "transport {} is not supported by start_tls()",
            transport.repr()?
        )));
    }
    let waiter = methods::create(&loop_)?;
    let server_side = argument(4).truth()?;
    let tls = protocol::make(&Settings {
        loop_: &loop_,
        app: &protocol,
        context: Some(&context),
        waiter: Some(waiter.clone()),
        server_side,
        hostname: given(co, 5).as_ref(),
        tell_made: false,
        handshake_timeout: given(co, 6).as_ref(),
        shutdown_timeout: given(co, 7).as_ref(),
    })?;
    // paused until the protocol has its transport
    transport.call_method(&names::PAUSE_READING, &[])?;
    if server_side {
        take_over(&tls, &protocol)?;
    }
    transport.call_method(&names::SET_PROTOCOL, &[tls.obj()])?;
    let connection_made = tls.obj().getattr(&names::CONNECTION_MADE)?;
    let made = loop_.call_method(&names::CALL_SOON, &[&connection_made, &transport])?;
    let resume_reading = transport.getattr(&names::RESUME_READING)?;
    let resumed = loop_.call_method(&names::CALL_SOON, &[&resume_reading])?;
    co.set(STATE, Obj::tuple(&[tls.obj(), &made, &resumed])?);
    Ok(waiter)
}

/// A client may have begun its handshake right behind the command to which the server answers with TLS: then the
/// beginning lies in the buffer of a stream's reader already. asyncio moves it since 3.14 (gh-142352); before,
/// such a handshake hangs, so there is nothing to be equal to.
fn take_over(tls: &Own<SslProtocol>, protocol: &Obj) -> R<()> {
    if !StreamReaderProtocol::class().is_instance(protocol)
        && !protocol.isinstance(&imports::STREAM_READER_PROTOCOL)?
    {
        return Ok(());
    }
    let Some(reader) = protocol.getattr_opt(&Obj::interned("_stream_reader")?)? else {
        return Ok(());
    };
    if reader.is_none() {
        return Ok(());
    }
    let buffer = reader.getattr_str("_buffer")?;
    if buffer.truth()? {
        reading::take_over(tls, &buffer)?;
        buffer.call_method_str("clear", &[])?;
    }
    Ok(())
}
