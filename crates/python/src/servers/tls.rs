//! An accepted connection that begins with a handshake: `_accept_connection2`, a task of its own.
//!
//! A handshake that fails costs its connection, not the server. As in asyncio, debug mode reports it.

use super::listener::Guest;
use super::server::ServerCore;
use crate::event_loop::core;
use crate::ffi::errors::{R, exc, raise};
use crate::ffi::{Class, Co, Coroutine, Obj, Own};
use crate::futures::methods;
use crate::imports::names;
use crate::kwnames;
use crate::tls::protocol::Settings;
use crate::tls::{self, Below};
use crate::version;

/// Locals of the coroutine.
const LOOP: usize = 0;
const SERVER: usize = 1;
/// First the context of the connection, then its transport.
const TRANSPORT: usize = 2;
const PROTOCOL: usize = 3;

/// Makes the task.
pub(super) fn admit(server: &Own<ServerCore>, loop_: &Obj, guest: Guest, context: Obj) -> R<()> {
    let accepting = Coroutine::boxed(
        "BaseSelectorEventLoop._accept_connection2",
        &[loop_, server.obj(), &context],
        move |co: Co| accept(co, guest),
    )?;
    if version::CONNECTION_CONTEXT.get() {
        let arguments = [&accepting, &context];
        return loop_
            .call_method_kw(&names::CREATE_TASK, &arguments, Some(&kwnames::CONTEXT))
            .map(drop);
    }
    loop_.call_method(&names::CREATE_TASK, &[&accepting]).map(drop)
}

async fn accept(co: Co, guest: Guest) -> R<Obj> {
    let failure = match begin(&co, guest) {
        Ok(waiter) => match co.wait(waiter).await {
            Ok(_) => return Ok(Obj::none()),
            Err(raised) => {
                let exception = raised.take();
                if let Some(transport) = co.local(TRANSPORT).non_none() {
                    transport.call_method(&names::CLOSE, &[])?;
                }
                raise(&exception)
            }
        },
        Err(raised) => {
            let exception = raised.take();
            co.set(TRANSPORT, Obj::none());
            raise(&exception)
        }
    };
    if failure.matches(exc::system_exit()) || failure.matches(exc::keyboard_interrupt()) {
        return Err(failure);
    }
    let exception = failure.take();
    let loop_ = co.local(LOOP);
    if core::of(&loop_).is_some_and(|core| core.debug.get()) {
        let report = Obj::dict()?;
        let message = "Error on transport creation for incoming connection";
        report.dict_set(&names::MESSAGE, &Obj::str(message)?)?;
        report.dict_set(&names::EXCEPTION, &exception)?;
        for (key, local) in [(&names::PROTOCOL, PROTOCOL), (&names::TRANSPORT, TRANSPORT)] {
            if let Some(value) = co.local(local).non_none() {
                report.dict_set(key, value)?;
            }
        }
        loop_.call_method(&names::CALL_EXCEPTION_HANDLER, &[&report])?;
    }
    Ok(Obj::none())
}

/// What to wait for.
fn begin(co: &Co, guest: Guest) -> R<Obj> {
    let (loop_, server) = (co.local(LOOP), co.local(SERVER));
    let Some(server) = ServerCore::class().instance(&server) else {
        return Ok(Obj::none());
    };
    let context = version::CONNECTION_CONTEXT.get().then(|| co.local(TRANSPORT));
    co.set(TRANSPORT, Obj::none());
    let protocol = server.factory.get_or_none().call0()?;
    co.set(PROTOCOL, protocol.clone());
    let waiter = methods::create(&loop_)?;
    let below = Below {
        socket: guest.socket,
        server: Some(server.clone()),
        context,
        peer: Some(guest.peer),
        extra: guest.extra,
    };
    let transport = tls::open(
        below,
        &Settings {
            loop_: &loop_,
            app: &protocol,
            context: server.tls.get().as_ref(),
            waiter: Some(waiter.clone()),
            server_side: true,
            hostname: None,
            tell_made: true,
            handshake_timeout: server.handshake_timeout.get().as_ref(),
            shutdown_timeout: server.shutdown_timeout.get().as_ref(),
        },
    )?;
    co.set(TRANSPORT, transport.into_obj());
    Ok(waiter)
}
