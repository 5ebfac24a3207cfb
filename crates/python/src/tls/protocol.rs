//! `SSLProtocol`: a `BufferedProtocol` to the transport below, a transport to the protocol above.
//!
//! Rules
//! 1. `connection_lost` of the transport below is the end: it is the only one that tells the protocol above, and it
//!    takes the cycle apart that the three form.
//! 2. What asyncio calls fatal aborts the transport below, and leaves the rest to its `connection_lost`.

use super::engine::{self, Engine};
use super::transport::{self, SslTransport};
use super::{handshake, reading, shutdown, writing};
use crate::event_loop::core;
use crate::event_loop::run::is_fatal;
use crate::ffi::bytes::Bytes;
use crate::ffi::errors::{R, assertion_error, exc, runtime_error, value_error};
use crate::ffi::{Args, Class, ClassCell, Fifo, Inner, Obj, Own, OwnSlot, Slot, Slots, Visitor, WeakRefs};
use crate::imports::{self, names};
use crate::transports::log_debug;
use crate::transports::outbox::Turns;
use crate::version;
use aioxide_core::tls::{Machine, Refused};
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// The object.
#[derive(Default)]
pub(crate) struct SslProtocol {
    dict: Slot,
    weakrefs: WeakRefs,
    pub(super) loop_: Slot,
    /// The transport below.
    pub(super) transport: Slot,
    /// The protocol above, and its transport.
    pub(super) app: Slot,
    pub(super) app_transport: OwnSlot<SslTransport>,
    /// The protocol above is a `BufferedProtocol`.
    pub(super) buffered: Cell<bool>,
    /// Whoever waits for the end of the handshake.
    waiter: Slot,
    context: Slot,
    server_side: Cell<bool>,
    hostname: Slot,
    pub(super) engine: Engine,
    pub(super) machine: Inner<Machine>,
    /// What is written before the handshake, or is held back for the end of the callback, or was not taken: bytes.
    pub(super) backlog: Fifo<Bytes>,
    /// So much of the first of it has been encrypted.
    pub(super) backlog_start: Cell<usize>,
    pub(super) backlog_size: Cell<usize>,
    pub(super) turns: Turns,
    pub(super) handshake_timeout: Slot,
    pub(super) shutdown_timeout: Slot,
    pub(super) handshake_timer: Slot,
    pub(super) shutdown_timer: Slot,
    /// When the handshake began; NaN: nobody asks.
    pub(super) handshake_began: Cell<f64>,
    /// What is known since the handshake.
    pub(super) handshaken: Cell<bool>,
    pub(super) peercert: Slot,
    pub(super) cipher: Slot,
    pub(super) compression: Slot,
    /// What a transport that is not ours reads into.
    pub(super) buffer: Slot,
}

/// What it is made of.
pub(crate) struct Settings<'a> {
    pub(crate) loop_: &'a Obj,
    pub(crate) app: &'a Obj,
    /// `None`: the default one, for a client.
    pub(crate) context: Option<&'a Obj>,
    pub(crate) waiter: Option<Obj>,
    pub(crate) server_side: bool,
    pub(crate) hostname: Option<&'a Obj>,
    /// The protocol above is new, and is to be told that it is connected.
    pub(crate) tell_made: bool,
    pub(crate) handshake_timeout: Option<&'a Obj>,
    pub(crate) shutdown_timeout: Option<&'a Obj>,
}

/// `SSLProtocol(…)`
pub(crate) fn make(settings: &Settings<'_>) -> R<Own<SslProtocol>> {
    let this = SslProtocol::class().alloc(SslProtocol::default())?;
    fill(&this, settings)?;
    Ok(this)
}

fn timeout(given: Option<&Obj>, name: &str, default: &str) -> R<Obj> {
    let Some(seconds) = given else {
        return Obj::import("asyncio.constants")?.getattr_str(default);
    };
    if seconds.le(&Obj::int(0)?)? {
        let shown = seconds.to_str()?.to_string()?;
        return Err(value_error(&format!(
            "{name} should be a positive number, got {shown}"
        )));
    }
    Ok(seconds.clone())
}

fn fill(this: &Own<SslProtocol>, settings: &Settings<'_>) -> R<()> {
    if !engine::is_available() {
        return Err(runtime_error("stdlib ssl module not available"));
    }
    this.handshake_timeout.set(timeout(
        settings.handshake_timeout,
        "ssl_handshake_timeout",
        "SSL_HANDSHAKE_TIMEOUT",
    )?);
    this.shutdown_timeout.set(timeout(
        settings.shutdown_timeout,
        "ssl_shutdown_timeout",
        "SSL_SHUTDOWN_TIMEOUT",
    )?);
    let has_hostname = settings.hostname.map_or(Ok(false), Obj::truth)?;
    let context = match settings.context {
        Some(context) if context.truth()? => context.clone(),
        _ if settings.server_side => return Err(value_error("Server side SSL needs a valid SSLContext")),
        _ => engine::default_context(has_hostname)?,
    };
    let hostname = match settings.hostname {
        Some(hostname) if has_hostname && !settings.server_side => hostname.clone(),
        _ => Obj::none(),
    };
    this.machine
        .with(|machine| *machine = Machine::new(settings.tell_made));
    this.server_side.set(settings.server_side);
    this.loop_.set(settings.loop_.clone());
    this.waiter.put(settings.waiter.clone());
    this.handshake_began.set(f64::NAN);
    set_app(this, settings.app)?;
    this.engine.start(&context, settings.server_side, &hostname)?;
    this.context.set(context);
    this.hostname.set(hostname);
    this.app_transport
        .put(Some(transport::make(settings.loop_, this)?));
    Ok(())
}

/// `_set_app_protocol(app_protocol)`
pub(super) fn set_app(this: &SslProtocol, app: &Obj) -> R<()> {
    this.buffered.set(app.isinstance(&imports::BUFFERED_PROTOCOL)?);
    this.app.set(app.clone());
    Ok(())
}

/// A protocol that a transport of ours may hand its bytes to without a Python call.
#[inline]
pub(crate) fn direct(protocol: &Obj) -> Option<&Own<SslProtocol>> {
    SslProtocol::class()
        .exact(protocol)
        // (attributes of its own may be methods)
        .filter(|this| this.dict.is_empty())
}

/// `loop.get_debug()`
pub(super) fn in_debug_mode(this: &SslProtocol) -> R<bool> {
    let loop_ = this.loop_.get_or_none();
    match core::of(&loop_) {
        Some(core) => Ok(core.debug.get()),
        None => loop_.call_method(&names::GET_DEBUG, &[])?.truth(),
    }
}

/// `loop.call_soon(callback, *args)`
pub(super) fn call_soon(this: &SslProtocol, callback: &Obj, argument: Option<&Obj>) -> R<()> {
    let mut all = vec![callback];
    all.extend(argument);
    let loop_ = this.loop_.get_or_none();
    loop_.call_method(&names::CALL_SOON, &all).map(drop)
}

/// `loop.call_later(seconds, self.method)`
pub(super) fn call_later(this: &Own<SslProtocol>, seconds: &Obj, method: &str) -> R<Obj> {
    let callback = this.obj().getattr_str(method)?;
    let loop_ = this.loop_.get_or_none();
    loop_.call_method(&names::CALL_LATER, &[seconds, &callback])
}

/// Cancels a timer and forgets it.
pub(super) fn cancel(timer: &Slot) -> R<()> {
    match timer.take() {
        Some(timer) => timer.call_method(&names::CANCEL, &[]).map(drop),
        None => Ok(()),
    }
}

/// asyncio's words for a way that is not there.
pub(super) fn refused(refused: Refused) -> crate::ffi::Raised {
    runtime_error(&format!(
        "cannot switch state from SSLProtocolState.{} to SSLProtocolState.{}",
        refused.from.name(),
        refused.to.name()
    ))
}

/// `_wakeup_waiter(exc)`
pub(super) fn wake_up_waiter(this: &SslProtocol, exception: Option<&Obj>) -> R<()> {
    let Some(waiter) = this.waiter.take() else {
        return Ok(());
    };
    if waiter.call_method(&names::CANCELLED, &[])?.truth()? {
        return Ok(());
    }
    match exception {
        Some(exception) => waiter.call_method(&names::SET_EXCEPTION, &[exception]),
        None => waiter.call_method(&names::SET_RESULT, &[&Obj::none()]),
    }
    .map(drop)
}

/// `_fatal_error(exc, message)`: rule 2.
#[cold]
pub(super) fn fatal_error(this: &Own<SslProtocol>, exception: &Obj, message: &str) -> R<()> {
    let transport = this.transport.get();
    if let Some(transport) = &transport {
        transport.call_method(&names::FORCE_CLOSE, &[exception])?;
    }
    if exception.isinstance(exc::os_error())? {
        if in_debug_mode(this)? {
            log_debug("%r: %s", &[this.obj(), &Obj::str(message)?], Some(exception))?;
        }
        return Ok(());
    }
    if exception.isinstance(&imports::CANCELLED_ERROR)? {
        return Ok(());
    }
    report(this, message, exception, &transport.unwrap_or_else(Obj::none))
}

/// `loop.call_exception_handler(…)`
#[cold]
pub(super) fn report(this: &Own<SslProtocol>, message: &str, exception: &Obj, transport: &Obj) -> R<()> {
    let loop_ = this.loop_.get_or_none();
    crate::transports::report(&loop_, message, exception, transport, this.obj())
}

/// `except (KeyboardInterrupt, SystemExit): raise`, `except BaseException as exc: …`
pub(super) fn unless_fatal(result: R<()>, otherwise: impl FnOnce(&Obj) -> R<()>) -> R<()> {
    match result {
        Err(raised) if !is_fatal(&raised) => otherwise(&raised.take()),
        result => result,
    }
}

/// `_abort(exc)`
pub(super) fn abort(this: &SslProtocol, exception: Option<&Obj>) -> R<()> {
    this.machine.with(Machine::unwrap);
    let Some(transport) = this.transport.get() else {
        return Ok(());
    };
    match exception {
        None if !version::TLS_FORCE_CLOSES.get() => transport.call_method(&names::ABORT, &[]),
        None => transport.call_method(&names::FORCE_CLOSE, &[&Obj::none()]),
        Some(exception) => transport.call_method(&names::FORCE_CLOSE, &[exception]),
    }
    .map(drop)
}

/// `connection_made(transport)`
fn connection_made(args: &Args) -> R<Obj> {
    let this = args.this::<SslProtocol>()?;
    this.transport.set(args.req(1)?.clone());
    handshake::start(this)?;
    Ok(Obj::none())
}

/// `connection_lost(exc)`: rule 1.
fn connection_lost(args: &Args) -> R<Obj> {
    let (this, exception) = (args.this::<SslProtocol>()?, args.req(1)?);
    this.backlog_start.set(0);
    drop(this.backlog.take());
    this.engine.drain()?;
    if let Some(transport) = this.app_transport.take() {
        transport.closed.set(true);
    }
    let tell = this.machine.with(Machine::lose);
    let app = this.app.take();
    if tell && let Some(app) = app {
        let callback = app.getattr(&names::CONNECTION_LOST)?;
        call_soon(this, &callback, Some(exception))?;
    }
    this.transport.put(None);
    wake_up_waiter(this, exception.non_none())?;
    cancel(&this.shutdown_timer)?;
    cancel(&this.handshake_timer)?;
    Ok(Obj::none())
}

/// `_get_extra_info(name, default)`
pub(super) fn extra_info(this: &SslProtocol, name: &Obj, default: Option<&Obj>) -> R<Obj> {
    let known = |text: &str| name.eq(&Obj::interned(text)?);
    if known("sslcontext")? {
        return Ok(this.context.get_or_none());
    }
    if this.handshaken.get() {
        if known("ssl_object")? {
            return Ok(this.engine.object());
        }
        for (key, slot) in [
            ("peercert", &this.peercert),
            ("cipher", &this.cipher),
            ("compression", &this.compression),
        ] {
            if known(key)? {
                return Ok(slot.get_or_none());
            }
        }
    }
    let none = Obj::none();
    let default = default.unwrap_or(&none);
    match this.transport.get() {
        Some(transport) => transport.call_method(&names::GET_EXTRA_INFO, &[name, default]),
        None => Ok(default.clone()),
    }
}

/// `_extra`, as a dict.
fn extra(this: &Own<SslProtocol>) -> R<Obj> {
    let extra = Obj::dict()?;
    extra.dict_set(&Obj::interned("sslcontext")?, &this.context.get_or_none())?;
    if this.handshaken.get() {
        for (key, value) in [
            ("peercert", this.peercert.get_or_none()),
            ("cipher", this.cipher.get_or_none()),
            ("compression", this.compression.get_or_none()),
            ("ssl_object", this.engine.object()),
        ] {
            extra.dict_set(&Obj::interned(key)?, &value)?;
        }
    }
    Ok(extra)
}

fn init(args: &Args) -> R<Obj> {
    let this = args.this::<SslProtocol>()?;
    let is_true = |index: usize, default: bool| args.get(index).map_or(Ok(default), Obj::truth);
    let settings = Settings {
        loop_: args.req(1)?,
        app: args.req(2)?,
        context: args.opt(3),
        waiter: args.opt(4).cloned(),
        server_side: is_true(5, false)?,
        hostname: args.opt(6),
        tell_made: is_true(7, true)?,
        handshake_timeout: args.opt(8),
        shutdown_timeout: args.opt(9),
    };
    fill(this, &settings)?;
    Ok(Obj::none())
}

/// A member of one of asyncio's enums.
fn member(class: &str, name: &str) -> R<Obj> {
    Obj::import("asyncio.sslproto")?
        .getattr_str(class)?
        .getattr_str(name)
}

static CLASS: ClassCell<SslProtocol> = ClassCell::new();

impl Class for SslProtocol {
    const NAME: &'static CStr = c"asyncio.sslproto.SSLProtocol";
    const DICT: Option<usize> = Some(offset_of!(SslProtocol, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(SslProtocol, weakrefs));

    fn class() -> &'static ClassCell<SslProtocol> {
        &CLASS
    }
    fn slots(slots: &mut Slots<SslProtocol>) -> R<()> {
        slots.init(
            "(self, loop, app_protocol, sslcontext, waiter, server_side=False, server_hostname=None, \
             call_connection_made=True, ssl_handshake_timeout=None, ssl_shutdown_timeout=None)",
            init,
        );
        slots.attribute("max_size", Obj::int(256 * 1024)?);
        slots.method("connection_made(self, transport)", connection_made)?;
        slots.method("connection_lost(self, exc)", connection_lost)?;
        slots.method("get_buffer(self, n)", |args| {
            reading::get_buffer(args.this()?, args.req(1)?)
        })?;
        slots.method("buffer_updated(self, nbytes)", |args| {
            reading::buffer_updated(args.this()?, args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.method("eof_received(self)", |args| {
            shutdown::eof_received(args.this()?).map(|open| if open { Obj::bool(true) } else { Obj::none() })
        })?;
        slots.method("pause_writing(self)", |args| {
            let this = args.this::<SslProtocol>()?;
            if this
                .machine
                .with(|machine| std::mem::replace(&mut machine.writing_paused, true))
            {
                return Err(assertion_error(""));
            }
            Ok(Obj::none())
        })?;
        slots.method("resume_writing(self)", |args| {
            let this = args.this::<SslProtocol>()?;
            if !this
                .machine
                .with(|machine| std::mem::replace(&mut machine.writing_paused, false))
            {
                return Err(assertion_error(""));
            }
            writing::hand_down(this)?;
            Ok(Obj::none())
        })?;
        // what timers and `call_soon` call
        slots.method("_check_handshake_timeout(self)", |args| {
            handshake::check_timeout(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("_check_shutdown_timeout(self)", |args| {
            shutdown::check_timeout(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("_do_read(self)", |args| {
            reading::read(args.this()?)?;
            Ok(Obj::none())
        })?;
        // what others are known to reach for
        slots.method("_get_extra_info(self, name, default=None)", |args| {
            extra_info(args.this::<SslProtocol>()?, args.req(1)?, args.get(2))
        })?;
        slots.method("_set_app_protocol(self, app_protocol)", |args| {
            set_app(args.this::<SslProtocol>()?, args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.method("_get_app_transport(self)", |args| app_transport(args.this()?))?;
        slots.method("_start_handshake(self)", |args| {
            handshake::start(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("_start_shutdown(self)", |args| {
            shutdown::start(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("_abort(self, exc=None)", |args| {
            abort(args.this::<SslProtocol>()?, args.opt(1))?;
            Ok(Obj::none())
        })?;
        slots.method(
            "_fatal_error(self, exc, message='Fatal error on transport')",
            |args| {
                let message = args.get(2).map_or_else(
                    || Ok("Fatal error on transport".to_owned()),
                    |message| message.to_str()?.to_string(),
                )?;
                fatal_error(args.this()?, args.req(1)?, &message)?;
                Ok(Obj::none())
            },
        )?;
        slots.get(c"_loop", |this| Ok(this.loop_.get_or_none()));
        slots.get(c"_transport", |this| Ok(this.transport.get_or_none()));
        slots.get(c"_app_protocol", |this| Ok(this.app.get_or_none()));
        slots.get(c"_app_transport", app_transport);
        slots.get(c"_sslcontext", |this| Ok(this.context.get_or_none()));
        slots.get(c"_server_side", |this| Ok(Obj::bool(this.server_side.get())));
        slots.get(c"_server_hostname", |this| Ok(this.hostname.get_or_none()));
        slots.get(c"_waiter", |this| Ok(this.waiter.get_or_none()));
        slots.get(c"_extra", extra);
        slots.get_set(
            c"_sslobj",
            |this| Ok(this.engine.object()),
            |this, value| this.engine.set_object(value.cloned().unwrap_or_else(Obj::none)),
        );
        slots.get_set(
            c"_incoming",
            |this| Ok(this.engine.incoming()),
            |this, value| {
                this.engine.set_incoming(value);
                Ok(())
            },
        );
        slots.get_set(
            c"_outgoing",
            |this| Ok(this.engine.outgoing()),
            |this, value| {
                this.engine.set_outgoing(value);
                Ok(())
            },
        );
        // which engine it is: for tests
        slots.get(c"_aioxide_direct", |this| Ok(Obj::bool(this.engine.is_direct())));
        slots.get(c"_state", |this| {
            member(
                "SSLProtocolState",
                this.machine.with(|machine| machine.state().name()),
            )
        });
        slots.get(c"_app_state", |this| {
            member(
                "AppProtocolState",
                this.machine.with(|machine| machine.app().name()),
            )
        });
        slots.get(c"_conn_lost", |this| {
            Obj::int(this.machine.with(|machine| machine.lost_count()).into())
        });
        slots.get(c"_eof_received", |this| {
            Ok(Obj::bool(this.machine.with(|machine| machine.ended())))
        });
        slots.get(c"_app_reading_paused", |this| {
            Ok(Obj::bool(this.machine.with(|machine| machine.reading_paused)))
        });
        slots.get(c"_write_buffer_size", |this| {
            Obj::int(this.backlog_size.get() as i64)
        });
        slots.get(c"_ssl_handshake_timeout", |this| {
            Ok(this.handshake_timeout.get_or_none())
        });
        slots.get(c"_ssl_shutdown_timeout", |this| {
            Ok(this.shutdown_timeout.get_or_none())
        });
        slots.get(c"_handshake_timeout_handle", |this| {
            Ok(this.handshake_timer.get_or_none())
        });
        slots.get(c"_shutdown_timeout_handle", |this| {
            Ok(this.shutdown_timer.get_or_none())
        });
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
        self.app_transport.visit(visitor);
        self.engine.visit(visitor);
        self.backlog.for_each(|data| visitor.obj(data.obj()));
    }
    fn clear(&self) {
        for slot in self.slots_held() {
            slot.put(None);
        }
        drop(self.app_transport.take());
        self.engine.clear();
        drop(self.backlog.take());
    }
}

fn app_transport(this: &Own<SslProtocol>) -> R<Obj> {
    Ok(this.app_transport.get().map_or_else(Obj::none, Own::into_obj))
}

impl SslProtocol {
    fn slots_held(&self) -> [&Slot; 14] {
        [
            &self.loop_,
            &self.transport,
            &self.app,
            &self.waiter,
            &self.context,
            &self.hostname,
            &self.handshake_timeout,
            &self.shutdown_timeout,
            &self.handshake_timer,
            &self.shutdown_timer,
            &self.peercert,
            &self.cipher,
            &self.compression,
            &self.buffer,
        ]
    }
}
