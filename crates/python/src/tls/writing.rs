//! What goes out: what the protocol above writes is encrypted, and handed to the transport below.
//!
//! Rules
//! 1. Nothing is encrypted before the handshake is done: until then it waits, and what the program could change is
//!    copied.
//! 2. While the transport below has asked for a pause, records wait in the engine's BIO; that and what waits to
//!    be encrypted is what the protocol above is judged by.
//! 3. Over a connection of ours, the rules 1 and 2 of `transports/writing.rs` hold: the first write of a callback is
//!    encrypted and sent at once, more of them become one record when the callback has ended or somebody could
//!    tell. A record of its own costs a small write more than all else.
//! 4. Much is encrypted piece by piece: the engine's BIO never gives back the memory that it has had.

use super::engine::drained;
use super::protocol::{SslProtocol, fatal_error, report, unless_fatal};
use super::reading::{give_back, take_window};
use super::transport::SslTransport;
use crate::event_loop::core::{self, LoopCore};
use crate::ffi::bytes::{Buffer, Bytes};
use crate::ffi::errors::{R, exc};
use crate::ffi::{Class, Obj, Own};
use crate::imports::{self, names};
use crate::transports::outbox::Held;
use crate::transports::stream::Stream;
use aioxide_core::tls::{Machine, Pressure, Write};

/// asyncio warns from this write on after the connection was lost.
const LOG_THRESHOLD: u32 = 5;
/// So much is not held back.
const ENOUGH: usize = 64 * 1024;
/// What is as large as a record is not copied to go into one with others.
const RECORD: usize = 16 * 1024;

/// `_write_appdata(list_of_data)`
pub(super) fn write(this: &Own<SslProtocol>, list: &[&Obj]) -> R<()> {
    match this.machine.with(Machine::write) {
        Write::Refused(before) => lost(before),
        Write::Keep => list.iter().try_for_each(|data| keep(this, data)),
        Write::Now => {
            let loop_ = this.loop_.get_or_none();
            let written = match core::of(&loop_).filter(|core| holds_back(this, core)) {
                Some(core) => hold_back(this, core, list),
                None => encrypt_all(this, list),
            };
            unless_exception(this, written)
        }
    }
}

/// `except Exception as ex: self._fatal_error(…)`
#[inline]
fn unless_exception(this: &Own<SslProtocol>, result: R<()>) -> R<()> {
    match result {
        Err(raised) if raised.matches(exc::exception()) => {
            fatal_error(this, &raised.take(), "Fatal error on SSL protocol")
        }
        result => result,
    }
}

#[cold]
fn lost(before: u32) -> R<()> {
    if before >= LOG_THRESHOLD {
        let text = Obj::str("SSL connection is closed")?;
        imports::LOGGER.call_method_str("warning", &[&text])?;
    }
    Ok(())
}

/// Rule 3.
#[inline]
fn holds_back(this: &SslProtocol, core: &LoopCore) -> bool {
    this.turns.hold_back(core)
        && this
            .transport
            .get()
            .is_some_and(|transport| Stream::class().exact(&transport).is_some())
}

fn hold_back(this: &Own<SslProtocol>, core: &LoopCore, list: &[&Obj]) -> R<()> {
    for data in list {
        keep(this, data)?;
    }
    if !this.turns.held_back.replace(true) {
        core.outbox.push(core, Held::Tls(this.clone()));
    }
    let waiting = this.backlog_size.get();
    let (high, _) = this.machine.with(|machine| machine.outgoing.marks());
    if waiting >= ENOUGH || i64::try_from(waiting).is_ok_and(|waiting| waiting >= high) {
        flush_now(this)?;
    }
    Ok(())
}

/// What is held back goes out.
#[inline]
pub(crate) fn flush_now(this: &Own<SslProtocol>) -> R<()> {
    if !this.turns.held_back.replace(false) {
        return Ok(());
    }
    let written = advance(this);
    unless_exception(this, written)
}

/// Puts the bytes of something at the end of the backlog: rule 1.
pub(super) fn keep(this: &SslProtocol, data: &Obj) -> R<()> {
    let kept = match Bytes::of(data) {
        Some(bytes) => bytes,
        None => Buffer::readable(&data.memoryview()?)?.with(Bytes::copy)?,
    };
    let size = kept.as_slice().len();
    if size > 0 {
        this.backlog_size.set(this.backlog_size.get() + size);
        this.backlog.push_back(kept);
    }
    Ok(())
}

/// What can go at once.
fn encrypt_all(this: &Own<SslProtocol>, list: &[&Obj]) -> R<()> {
    if let [data] = list
        && this.backlog.is_empty()
        && data.len()? <= ENOUGH
    {
        let size = data.len()?;
        match this.engine.write(data)? {
            Some(count) if count >= size => {}
            count => {
                keep(this, &data.memoryview()?.slice(count.unwrap_or(0), size)?)?;
            }
        }
        return hand_down(this);
    }
    for data in list {
        keep(this, data)?;
    }
    advance(this)
}

/// What waits to be encrypted: many small pieces as few records, large ones piece by piece (rule 4).
fn encrypt_backlog(this: &Own<SslProtocol>) -> R<()> {
    let mut since = 0;
    while let Some(first) = this.backlog.get(0) {
        let (start, size) = (this.backlog_start.get(), first.as_slice().len());
        let written = if start > 0 || this.backlog.len() == 1 || size >= RECORD {
            this.engine.write_bytes(&first, start..size.min(start + ENOUGH))?
        } else {
            encrypt_together(this)?
        };
        drop(first);
        // (the engine may have run code of the program's, which has lost the connection: then nothing is there)
        let Some(count) = written else { break };
        encrypted(this, count);
        since += count;
        if since >= ENOUGH {
            since = 0;
            hand_down(this)?;
        }
    }
    hand_down(this)
}

fn encrypt_together(this: &SslProtocol) -> R<Option<usize>> {
    let loop_ = this.loop_.get_or_none();
    let core = core::of(&loop_).map(|core| &**core);
    let window = take_window(core)?;
    let filled = window.with_mut(|place| {
        let (mut filled, mut full) = (0, false);
        this.backlog.for_each(|data| {
            let (data, end) = (data.as_slice(), filled + data.as_slice().len());
            full |= end > place.len().min(ENOUGH) || data.len() >= RECORD;
            if !full {
                place[filled..end].copy_from_slice(data);
                filled = end;
            }
        });
        filled
    });
    let written = this.engine.write_part(&window, 0..filled);
    give_back(core, window);
    written
}

/// So many bytes of the backlog have been encrypted.
fn encrypted(this: &SslProtocol, mut count: usize) {
    this.backlog_size
        .set(this.backlog_size.get().saturating_sub(count));
    while count > 0
        && let Some(data) = this.backlog.get(0)
    {
        let (start, size) = (this.backlog_start.get(), data.as_slice().len());
        if start + count < size {
            this.backlog_start.set(start + count);
            return;
        }
        count -= size - start;
        this.backlog_start.set(0);
        drop(this.backlog.pop_front());
    }
}

/// `_do_write()`
pub(super) fn advance(this: &Own<SslProtocol>) -> R<()> {
    this.turns.held_back.set(false);
    encrypt_backlog(this)
}

/// `_process_outgoing()`: records, to the transport below.
pub(super) fn hand_down(this: &Own<SslProtocol>) -> R<()> {
    if this.machine.with(|machine| machine.writing_paused) {
        return control(this);
    }
    if !send_directly(this)? {
        let data = this.engine.drain()?;
        if let Some(records) = drained(&data)
            && let Some(transport) = this.transport.get()
        {
            write_below(&transport, &data, records)?;
        }
    }
    // all of it has been taken out of the BIO, whatever the transport below said to that
    judge(this, this.backlog_size.get())
}

/// The same over a connection of ours, if the engine lets us: without an object. `false`: not this way.
#[inline]
fn send_directly(this: &Own<SslProtocol>) -> R<bool> {
    let Some(transport) = this.transport.get() else {
        return Ok(false);
    };
    let Some(stream) = Stream::class()
        .exact(&transport)
        .filter(|stream| stream.is_plain())
    else {
        return Ok(false);
    };
    let loop_ = this.loop_.get_or_none();
    let core = core::of(&loop_).map(|core| &**core);
    let window = take_window(core)?;
    let sent = loop {
        match this.engine.drain_into(&window) {
            None => break Ok(false),
            Some(0) => break Ok(true),
            Some(count) => match stream.write_part_at_once(&window, count) {
                Ok(()) if count == window.size() => {}
                result => break result.map(|()| true),
            },
        }
    };
    give_back(core, window);
    sent
}

#[inline]
fn write_below(transport: &Obj, data: &Obj, records: Bytes) -> R<()> {
    if let Some(stream) = Stream::class().exact(transport)
        && stream.is_plain()
    {
        return stream.write_at_once(records);
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

/// `_control_app_writing()`
pub(super) fn control(this: &Own<SslProtocol>) -> R<()> {
    judge(this, waiting(this)?)
}

/// The same, with so many bytes waiting: rule 2.
#[inline]
fn judge(this: &Own<SslProtocol>, size: usize) -> R<()> {
    match this.machine.with(|machine| machine.outgoing.measure(size)) {
        Pressure::Fine => Ok(()),
        Pressure::Stop => tell(this, &names::PAUSE_WRITING, "protocol.pause_writing() failed"),
        Pressure::Resume => tell(this, &names::RESUME_WRITING, "protocol.resume_writing() failed"),
    }
}

#[cold]
fn tell(this: &Own<SslProtocol>, method: &Obj, message: &str) -> R<()> {
    let Some(app) = this.app.get() else {
        return Ok(());
    };
    let told = app.call_method(method, &[]).map(drop);
    unless_fatal(told, |exception| {
        let transport = this.app_transport.get().map_or_else(Obj::none, Own::into_obj);
        report(this, message, exception, &transport)
    })
}
