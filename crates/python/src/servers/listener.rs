//! A listening socket: it accepts connections, and makes a protocol and a transport for each.
//!
//! Rules
//! 1. As many connections are accepted at once as there were the last time, and one to see whether there are
//!    more: a server that gets them one by one pays no second system call to hear that there is none. The
//!    kernel goes on to report the socket, so nothing is forgotten.
//! 2. Without descriptors (or memory) left, the kernel would report the socket for ever: the listener tells the
//!    exception handler and looks away for a second.
//! 3. A factory that raises costs its connection, not the server. As in asyncio, debug mode reports it.

use super::server::ServerCore;
use super::tls;
use crate::event_loop::core::{self, LoopCore};
use crate::event_loop::readers::{self, Side};
use crate::event_loop::run::is_fatal;
use crate::event_loop::{errors, handles};
use crate::ffi::errors::{R, exc, os_error, raise, runtime_error, type_error};
use crate::ffi::object::exact_int;
use crate::ffi::{Class, ClassCell, Obj, Own, OwnSlot, Slot, Slots, Visitor, context};
use crate::imports::names;
use crate::streams;
use crate::transports::socket::{Socket, address};
use crate::transports::stream::{self, Opening};
use crate::transports::{Happening, Source, log_debug, trsock};
use crate::version;
use aioxide_core::socket::{self as kernel, Address};
use std::cell::Cell;
use std::ffi::CStr;
use std::io;

/// asyncio's `ACCEPT_RETRY_DELAY`, in seconds.
const RETRY_DELAY: f64 = 1.0;

/// The object.
#[derive(Default)]
pub(crate) struct Listener {
    server: OwnSlot<ServerCore>,
    socket: Socket,
    /// In which it accepts.
    context: Slot,
    listening: Cell<bool>,
    /// Rule 1.
    burst: Cell<u32>,
}

/// Begins to accept on `socket`, which listens already.
pub(super) fn start(server: &Own<ServerCore>, socket: &Obj) -> R<Own<Listener>> {
    let listener = Listener {
        socket: Socket::of(socket)?,
        ..Listener::default()
    };
    listener.server.put(Some(server.clone()));
    listener.context.set(if version::CONNECTION_CONTEXT.get() {
        server.context.get_or_none()
    } else {
        context::copy()?
    });
    // what it accepts inherits it
    if matches!(kernel::local_address(listener.socket.fd()), Ok(Address::Ip(_))) {
        let _ = kernel::set_no_delay(listener.socket.fd());
    }
    let listener = Listener::class().alloc(listener)?;
    listen(&listener)?;
    Ok(listener)
}

fn listen(this: &Own<Listener>) -> R<()> {
    let Some(server) = this.server.get() else {
        return Ok(());
    };
    let loop_ = server.loop_.get_or_none();
    let core = core::of(&loop_).ok_or_else(|| runtime_error("an EventLoop is required"))?;
    readers::add_source(
        core,
        this.socket.number(),
        Side::Reader,
        Source::Listener(this.clone()),
        true,
    )?;
    this.listening.set(true);
    Ok(())
}

/// It accepts no longer.
pub(super) fn stop(this: &Own<Listener>) {
    if let Some(server) = this.server.take()
        && this.listening.replace(false)
        && let Some(loop_) = server.loop_.get()
        && let Some(core) = core::of(&loop_)
    {
        readers::remove_source(core, this.socket.number(), Side::Reader, false);
    }
}

/// There is somebody at the door.
pub(crate) fn run(this: &Own<Listener>, loop_: &Obj, core: &Own<LoopCore>, _: Happening) -> R<()> {
    if !this.listening.get() {
        return Ok(());
    }
    let context = this.context.get_or_none();
    match context::run(&context, || accept(this, loop_, core, &context)) {
        Ok(()) => Ok(()),
        Err(raised) if is_fatal(&raised) => Err(raised),
        Err(raised) => {
            let exception = raised.take();
            let callback = this.obj().getattr_str("_accept_connection")?;
            let handle = handles::make(loop_, callback, &[], Some(context))?;
            errors::report_callback(loop_, &handle, &exception)
        }
    }
}

/// `_accept_connection()`
fn accept(this: &Own<Listener>, loop_: &Obj, core: &Own<LoopCore>, context: &Obj) -> R<()> {
    let Some(server) = this.server.get() else {
        return Ok(());
    };
    let most = u32::try_from(server.backlog.get()).unwrap_or(1).max(1);
    let burst = this.burst.get().clamp(1, most);
    for done in 0..burst {
        if !this.listening.get() {
            return Ok(());
        }
        match next(this)? {
            Ok(guest) => admit(&server, loop_, core, context, guest)?,
            Err(error) => {
                this.burst.set(done.max(1));
                return refused(this, loop_, core, &error);
            }
        }
    }
    this.burst.set(burst.saturating_mul(2).min(most));
    Ok(())
}

/// A connection that was accepted.
pub(super) struct Guest {
    pub(super) socket: Socket,
    pub(super) peer: Address,
    /// For `get_extra_info`: what a program's `accept()` has said of the peer.
    pub(super) extra: Option<Obj>,
}

/// The next one at the door.
#[inline]
fn next(this: &Own<Listener>) -> R<io::Result<Guest>> {
    if let Some(object) = this.socket.foreign() {
        return next_by_method(&object);
    }
    Ok(kernel::accept(this.socket.fd()).map(|(connection, peer)| Guest {
        socket: Socket::owned(connection),
        peer,
        extra: None,
    }))
}

/// A derived class may have an `accept()` of its own, and give out connections of its own.
#[cold]
fn next_by_method(object: &Obj) -> R<io::Result<Guest>> {
    let accepted = match object.call_method(&names::ACCEPT, &[]) {
        Err(raised) if raised.matches(exc::os_error()) => {
            let exception = raised.take();
            let number = exception.getattr_str("errno")?;
            return match (exception.class_name().as_str(), exact_int(&number)) {
                ("BlockingIOError", _) => Ok(Err(io::Error::from_raw_os_error(libc::EAGAIN))),
                (_, Some(number)) => Ok(Err(io::Error::from_raw_os_error(number as i32))),
                _ => Err(raise(&exception)),
            };
        }
        accepted => accepted?,
    };
    let [connection, address] = accepted.tuple_items() else {
        return Err(type_error("accept() must return a connection and an address"));
    };
    connection.call_method_str("setblocking", &[&Obj::bool(false)])?;
    let extra = Obj::dict()?;
    extra.dict_set(&Obj::interned("peername")?, address)?;
    Ok(Ok(Guest {
        socket: Socket::of(connection)?,
        peer: Address::Other,
        extra: Some(extra),
    }))
}

#[cold]
fn refused(this: &Own<Listener>, loop_: &Obj, core: &Own<LoopCore>, error: &io::Error) -> R<()> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ECONNABORTED) => Ok(()),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            look_away(this, loop_, core, error)
        }
        _ => Err(os_error(error)),
    }
}

/// Rule 2.
#[cold]
fn look_away(this: &Own<Listener>, loop_: &Obj, core: &Own<LoopCore>, error: &io::Error) -> R<()> {
    readers::remove_source(core, this.socket.number(), Side::Reader, false);
    this.listening.set(false);
    let again = this.obj().getattr_str("_start_serving")?;
    loop_.call_method(&names::CALL_LATER, &[&Obj::float(RETRY_DELAY)?, &again])?;
    let report = Obj::dict()?;
    report.dict_set(
        &names::MESSAGE,
        &Obj::str("socket.accept() out of system resource")?,
    )?;
    report.dict_set(&names::EXCEPTION, &os_error(error).take())?;
    if let Some(object) = this.socket.object()? {
        report.dict_set(&Obj::interned("socket")?, &trsock::shown(&object)?)?;
    }
    loop_
        .call_method(&names::CALL_EXCEPTION_HANDLER, &[&report])
        .map(drop)
}

/// `_accept_connection2()`: rule 3.
#[inline]
fn admit(server: &Own<ServerCore>, loop_: &Obj, core: &Own<LoopCore>, context: &Obj, guest: Guest) -> R<()> {
    let context = context::copy_of(context)?;
    if core.debug.get() {
        log_connection(server, &guest)?;
    }
    if let Some(tls) = server.tls.get()
        && tls.truth()?
    {
        return tls::admit(server, loop_, guest, context);
    }
    let shown = guest.socket.made_object();
    let mut protocol = None;
    let result = context::run(&context, || {
        let made = streams::protocol_of(&server.factory.get_or_none())?;
        let opening = Opening {
            loop_,
            socket: guest.socket,
            protocol: &made,
            waiter: None,
            extra: guest.extra,
            server: Some(server.clone()),
            context: Some(context.clone()),
            peer: Some(guest.peer),
        };
        protocol = Some(made.clone());
        stream::open(opening).map(drop)
    });
    match result {
        Ok(()) => Ok(()),
        Err(raised) if is_fatal(&raised) => Err(raised),
        Err(raised) if !core.debug.get() => {
            raised.ignore();
            Ok(())
        }
        Err(raised) => {
            let exception = raised.take();
            if let Some(shown) = shown {
                shown.call_method(&names::CLOSE, &[])?;
            }
            let report = Obj::dict()?;
            let message = "Error on transport creation for incoming connection";
            report.dict_set(&names::MESSAGE, &Obj::str(message)?)?;
            report.dict_set(&names::EXCEPTION, &exception)?;
            if let Some(protocol) = protocol {
                report.dict_set(&names::PROTOCOL, &protocol)?;
            }
            loop_
                .call_method(&names::CALL_EXCEPTION_HANDLER, &[&report])
                .map(drop)
        }
    }
}

#[cold]
fn log_connection(server: &Own<ServerCore>, guest: &Guest) -> R<()> {
    let from = match &guest.extra {
        Some(extra) => extra.dict_get(&Obj::interned("peername")?)?,
        None => address(&guest.peer)?,
    };
    let from = from.unwrap_or_else(Obj::none);
    let object = guest.socket.object()?.unwrap_or_else(Obj::none);
    log_debug(
        "%r got a new connection from %r: %r",
        &[server.obj(), &from, &object],
        None,
    )
}

static CLASS: ClassCell<Listener> = ClassCell::new();

impl Class for Listener {
    const NAME: &'static CStr = c"aioxide._core.Listener";
    const SUBCLASSABLE: bool = false;

    fn class() -> &'static ClassCell<Listener> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Listener>) -> R<()> {
        slots.no_new();
        slots.method("_accept_connection(self)", |args| {
            let this = args.this::<Listener>()?;
            if let Some(server) = this.server.get()
                && let Some(loop_) = server.loop_.get()
                && let Some(core) = core::of(&loop_)
            {
                accept(this, &loop_, core, &this.context.get_or_none())?;
            }
            Ok(Obj::none())
        })?;
        slots.method("_start_serving(self)", |args| {
            let this = args.this::<Listener>()?;
            if !this.listening.get() && this.socket.fd() >= 0 {
                listen(this)?;
            }
            Ok(Obj::none())
        })
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.server.visit(visitor);
        self.socket.visit(visitor);
        self.context.visit(visitor);
    }
    fn clear(&self) {
        drop(self.server.take());
        self.context.put(None);
    }
}
