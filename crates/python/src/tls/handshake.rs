//! The beginning: the handshake, and how long it may take.

use super::protocol::{self, SslProtocol, call_later, cancel, fatal_error, in_debug_mode, wake_up_waiter};
use super::{engine, reading, writing};
use crate::event_loop::core;
use crate::ffi::errors::{R, exc, raise_new};
use crate::ffi::{Obj, Own};
use crate::imports::names;
use crate::transports::{log_debug, telling};
use aioxide_core::tls::Machine;

fn now(this: &SslProtocol) -> R<f64> {
    let loop_ = this.loop_.get_or_none();
    match core::of(&loop_) {
        Some(core) => core.time(&loop_),
        None => loop_.call_method(&names::TIME, &[])?.to_f64(),
    }
}

/// `_start_handshake()`
pub(super) fn start(this: &Own<SslProtocol>) -> R<()> {
    if in_debug_mode(this)? {
        log_debug("%r starts SSL handshake", &[this.obj()], None)?;
        this.handshake_began.set(now(this)?);
    }
    this.machine.with(Machine::start).map_err(protocol::refused)?;
    let seconds = this.handshake_timeout.get_or_none();
    let timer = call_later(this, &seconds, "_check_handshake_timeout")?;
    this.handshake_timer.set(timer);
    advance(this)
}

/// `_check_handshake_timeout()`
pub(super) fn check_timeout(this: &Own<SslProtocol>) -> R<()> {
    if !this.machine.with(|machine| machine.handshake_is_late()) {
        return Ok(());
    }
    let seconds = this.handshake_timeout.get_or_none().to_str()?.to_string()?;
    let text = format!("SSL handshake is taking longer than {seconds} seconds: aborting the connection");
    let exception = raise_new(exc::connection_aborted_error(), &text).take();
    fatal_error(this, &exception, "Fatal error on transport")
}

/// `_do_handshake()`
pub(super) fn advance(this: &Own<SslProtocol>) -> R<()> {
    match this.engine.handshake() {
        Ok(false) => writing::hand_down(this),
        Ok(true) => complete(this),
        Err(raised) if raised.matches(engine::ssl_error()) => failed(this, &raised.take()),
        Err(raised) => Err(raised),
    }
}

/// `_on_handshake_complete(exc)`
pub(super) fn failed(this: &Own<SslProtocol>, exception: &Obj) -> R<()> {
    cancel(&this.handshake_timer)?;
    this.machine.with(Machine::unwrap);
    let message = if exception.isinstance(engine::certificate_error())? {
        "SSL handshake failed on verifying the certificate"
    } else {
        "SSL handshake failed"
    };
    fatal_error(this, exception, message)?;
    wake_up_waiter(this, Some(exception))
}

/// `_on_handshake_complete(None)`
fn complete(this: &Own<SslProtocol>) -> R<()> {
    cancel(&this.handshake_timer)?;
    let object = this.engine.object();
    let wrapped = this.machine.with(Machine::handshaken).map_err(protocol::refused);
    match wrapped.and_then(|()| object.call_method_str("getpeercert", &[])) {
        Ok(peercert) => this.peercert.set(peercert),
        Err(raised) if raised.matches(exc::exception()) => return failed(this, &raised.take()),
        Err(raised) => return Err(raised),
    }
    let began = this.handshake_began.get();
    if !began.is_nan() && in_debug_mode(this)? {
        let took = Obj::float((now(this)? - began) * 1e3)?;
        log_debug("%r: SSL handshake took %.1f ms", &[this.obj(), &took], None)?;
    }
    this.cipher.set(object.call_method_str("cipher", &[])?);
    this.compression.set(object.call_method_str("compression", &[])?);
    this.handshaken.set(true);
    if this.machine.with(Machine::tell_made)
        && let (Some(app), Some(transport)) = (this.app.get(), this.app_transport.get())
    {
        telling::connection_made(&app, transport.obj(), None)?;
    }
    wake_up_waiter(this, None)?;
    reading::read(this)
}

/// The peer has gone away instead.
pub(super) fn cut_off(this: &Own<SslProtocol>) -> R<()> {
    failed(this, &exc::connection_reset_error().call0()?)
}
