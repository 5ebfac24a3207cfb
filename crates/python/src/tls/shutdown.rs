//! The end: close-notify in either direction, the end of the transport below, and how long it may take.
//!
//! After `close()` what has come already is delivered, and what was written is sent. Then close-notify goes out, and
//! the peer's is waited for. A peer that sends data instead is cut off at the first record: nothing is
//! downloaded just to be thrown away.

use super::protocol::{
    SslProtocol, abort, call_later, call_soon, cancel, fatal_error, in_debug_mode, unless_fatal,
};
use super::{engine, handshake, reading, writing};
use crate::ffi::errors::{R, exc, raise, raise_new};
use crate::ffi::{Obj, Own};
use crate::imports::{self, names};
use crate::transports::{log_debug, telling};
use crate::version;
use aioxide_core::tls::{Close, End, Machine};

/// `_start_shutdown()`
pub(super) fn start(this: &Own<SslProtocol>) -> R<()> {
    writing::flush_now(this)?;
    let close = this.machine.with(Machine::close);
    if close == Close::Already {
        return Ok(());
    }
    if let Some(transport) = this.app_transport.get() {
        transport.closed.set(true);
    }
    if close == Close::Abort {
        return abort(this, None);
    }
    arm(this)?;
    flush(this)
}

/// The time that it may take begins.
fn arm(this: &Own<SslProtocol>) -> R<()> {
    let seconds = this.shutdown_timeout.get_or_none();
    let timer = call_later(this, &seconds, "_check_shutdown_timeout")?;
    this.shutdown_timer.set(timer);
    Ok(())
}

/// `_check_shutdown_timeout()`
pub(super) fn check_timeout(this: &Own<SslProtocol>) -> R<()> {
    if this.machine.with(|machine| machine.shutdown_is_late())
        && let Some(transport) = this.transport.get()
    {
        let exception = raise_new(exc::timeout_error(), "SSL shutdown timed out").take();
        transport.call_method(&names::FORCE_CLOSE, &[&exception])?;
    }
    Ok(())
}

/// `_do_flush()`
pub(super) fn flush(this: &Own<SslProtocol>) -> R<()> {
    writing::flush_now(this)?;
    reading::read(this)?;
    if this.machine.with(Machine::flushed) {
        return advance(this);
    }
    Ok(())
}

/// `_do_shutdown()`
pub(super) fn advance(this: &Own<SslProtocol>) -> R<()> {
    if !this.machine.with(|machine| machine.ended()) {
        match this.engine.shut_down() {
            Ok(true) => {}
            Ok(false) => return writing::hand_down(this),
            Err(raised) if raised.matches(engine::ssl_error()) => {
                let exception = raised.take();
                cancel(&this.shutdown_timer)?;
                return fatal_error(this, &exception, "Fatal error on transport");
            }
            Err(raised) => return Err(raised),
        }
    }
    writing::hand_down(this)?;
    tell_end(this)?;
    complete(this)
}

/// `_on_shutdown_complete(None)`
fn complete(this: &Own<SslProtocol>) -> R<()> {
    if !version::TLS_SHUTDOWN_TIMER_STAYS.get() {
        cancel(&this.shutdown_timer)?;
    }
    let Some(transport) = this.transport.get() else {
        return Ok(());
    };
    if version::TLS_SHUTDOWN_TIMER_STAYS.get() && this.shutdown_timer.is_empty() {
        arm(this)?;
    }
    call_soon(this, &transport.getattr(&names::CLOSE)?, None)
}

/// `_call_eof_received()`
pub(super) fn tell_end(this: &Own<SslProtocol>) -> R<()> {
    if !this.machine.with(Machine::tell_end) {
        return Ok(());
    }
    let Some(app) = this.app.get() else {
        return Ok(());
    };
    let told =
        telling::eof_received(&app).and_then(|keep_open| if keep_open { warn_no_effect() } else { Ok(()) });
    unless_fatal(told, |exception| {
        fatal_error(this, exception, "Error calling eof_received()")
    })
}

#[cold]
fn warn_no_effect() -> R<()> {
    let text = Obj::str("returning true from eof_received() has no effect when using ssl")?;
    imports::LOGGER.call_method_str("warning", &[&text]).map(drop)
}

/// `eof_received()`: `true` keeps the transport below open.
pub(super) fn eof_received(this: &Own<SslProtocol>) -> R<bool> {
    let end = this.machine.with(Machine::received_end);
    let dealt_with = || -> R<bool> {
        if in_debug_mode(this)? {
            log_debug("%r received EOF", &[this.obj()], None)?;
        }
        match end {
            End::Nothing => {}
            End::Wait => return Ok(true),
            End::HandshakeFailed => handshake::cut_off(this)?,
            End::Flush => flush(this)?,
            End::WriteAndShutdown => {
                writing::advance(this)?;
                if this.machine.with(Machine::flushed) {
                    advance(this)?;
                }
            }
            End::Shutdown => advance(this)?,
        }
        Ok(false)
    };
    match dealt_with() {
        Err(raised) if raised.matches(exc::exception()) => {
            let exception = raised.take();
            if let Some(transport) = this.transport.get() {
                transport.call_method(&names::CLOSE, &[])?;
            }
            Err(raise(&exception))
        }
        result => result,
    }
}
