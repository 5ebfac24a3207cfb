//! What goes out: what the protocol above writes is encrypted at once, and handed to the transport below.
//!
//! Rules
//! 1. Nothing is encrypted before the handshake is done: until then it waits, and what the program could change is
//!    copied.
//! 2. While the transport below has asked for a pause, records wait in the engine's BIO; that and what waits to
//!    be encrypted is what the protocol above is judged by.

use super::engine::drained;
use super::protocol::{SslProtocol, fatal_error, report, unless_fatal};
use super::transport::SslTransport;
use crate::ffi::bytes::{self, Buffer, Bytes};
use crate::ffi::errors::{R, exc};
use crate::ffi::{Class, Obj, Own};
use crate::imports::{self, names};
use crate::transports::stream::Stream;
use aioxide_core::tls::{Machine, Pressure, Write};

/// asyncio warns from this write on after the connection was lost.
const LOG_THRESHOLD: u32 = 5;

/// `_write_appdata(list_of_data)`
pub(super) fn write(this: &Own<SslProtocol>, list: &[&Obj]) -> R<()> {
    match this.machine.with(Machine::write) {
        Write::Refused(before) => return lost(before),
        Write::Keep => list.iter().try_for_each(|data| keep(this, data))?,
        Write::Now => {
            let written = encrypt_all(this, list).and_then(|()| hand_down(this));
            if let Err(raised) = written {
                if !raised.matches(exc::exception()) {
                    return Err(raised);
                }
                return fatal_error(this, &raised.take(), "Fatal error on SSL protocol");
            }
        }
    }
    Ok(())
}

#[cold]
fn lost(before: u32) -> R<()> {
    if before >= LOG_THRESHOLD {
        let text = Obj::str("SSL connection is closed")?;
        imports::LOGGER.call_method_str("warning", &[&text])?;
    }
    Ok(())
}

/// Puts the bytes of something at the end of the backlog: rule 1.
pub(super) fn keep(this: &SslProtocol, data: &Obj) -> R<()> {
    let kept = if Bytes::of(data).is_some() {
        data.clone()
    } else {
        Buffer::readable(&data.memoryview()?)?.with(bytes::new)?
    };
    this.backlog_size.set(this.backlog_size.get() + kept.len()?);
    this.backlog.push_back(kept);
    Ok(())
}

fn encrypt_all(this: &SslProtocol, list: &[&Obj]) -> R<()> {
    for data in list {
        if !this.backlog.is_empty() {
            keep(this, data)?;
            encrypt_backlog(this)?;
            continue;
        }
        let size = data.len()?;
        match this.engine.write(data)? {
            Some(count) if count >= size => {}
            Some(count) => {
                let rest = data.memoryview()?.slice(count, size)?;
                keep(this, &rest)?;
                encrypt_backlog(this)?;
            }
            None => keep(this, data)?,
        }
    }
    Ok(())
}

/// What waits to be encrypted.
fn encrypt_backlog(this: &SslProtocol) -> R<()> {
    while let Some(data) = this.backlog.get(0) {
        let size = data.len()?;
        let Some(count) = this.engine.write(&data)? else {
            return Ok(());
        };
        // (the engine may have run code of the program's, which has lost the connection)
        if this.backlog.pop_front().is_none() {
            return Ok(());
        }
        this.backlog_size
            .set(this.backlog_size.get().saturating_sub(count));
        if count < size {
            this.backlog.push_front(data.slice(count, size)?);
        }
    }
    Ok(())
}

/// `_do_write()`
pub(super) fn advance(this: &Own<SslProtocol>) -> R<()> {
    encrypt_backlog(this)?;
    hand_down(this)
}

/// `_process_outgoing()`: records, to the transport below.
pub(super) fn hand_down(this: &Own<SslProtocol>) -> R<()> {
    if !this.machine.with(|machine| machine.writing_paused) {
        let data = this.engine.drain()?;
        if let Some(records) = drained(&data)
            && let Some(transport) = this.transport.get()
        {
            write_below(&transport, &data, records)?;
        }
    }
    control(this)
}

#[inline]
fn write_below(transport: &Obj, data: &Obj, records: Bytes) -> R<()> {
    if let Some(stream) = Stream::class().exact(transport)
        && stream.is_plain()
    {
        return stream.write_bytes(records);
    }
    if let Some(below) = SslTransport::class().exact(transport)
        && let Some(below) = below.direct()
    {
        return write(&below, &[data]);
    }
    transport.call_method(&names::WRITE, &[data]).map(drop)
}

/// `_get_write_buffer_size()`
pub(super) fn waiting(this: &SslProtocol) -> R<usize> {
    Ok(this.engine.outgoing_size()? + this.backlog_size.get())
}

/// `_control_app_writing()`: rule 2.
pub(super) fn control(this: &Own<SslProtocol>) -> R<()> {
    let size = waiting(this)?;
    let (method, message): (&Obj, _) = match this.machine.with(|machine| machine.outgoing.measure(size)) {
        Pressure::Fine => return Ok(()),
        Pressure::Stop => (&names::PAUSE_WRITING, "protocol.pause_writing() failed"),
        Pressure::Resume => (&names::RESUME_WRITING, "protocol.resume_writing() failed"),
    };
    let Some(app) = this.app.get() else {
        return Ok(());
    };
    let told = app.call_method(method, &[]).map(drop);
    unless_fatal(told, |exception| {
        let transport = this.app_transport.get().map_or_else(Obj::none, Own::into_obj);
        report(this, message, exception, &transport)
    })
}
