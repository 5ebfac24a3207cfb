//! What comes in: bytes from below are decrypted, and delivered to the protocol above.
//!
//! Bytes are decrypted into a window of the loop's, and a protocol gets `bytes` of the size that has come: an
//! idle connection has no buffer.
//!
//! Rules
//! 1. Everything that can be decrypted is delivered in one call, as asyncio does.
//! 2. What was decrypted before a record that is no good is delivered before the failure is reported.
//! 3. The engine is asked once more than it has data only where there may be some.
//! 4. Much is given to the engine in pieces, each of which it has to have decrypted before the next: its BIO never
//!    gives back the memory that it has had, and a piece stays in the processor's cache. What has been decrypted takes
//!    the place of what has been given away, in the same window.

use super::engine::{self, Place};
use super::protocol::{SslProtocol, call_soon, direct, fatal_error};
use super::{handshake, shutdown, writing};
use crate::event_loop::core::{self, LoopCore};
use crate::ffi::errors::{R, exc, raise};
use crate::ffi::window::Window;
use crate::ffi::{Obj, Own, bytes, exceptions};
use crate::hook::Hook;
use crate::imports::names;
use crate::transports::telling;
use aioxide_core::tls::{Feed, Pressure, State};
use std::ops::Range;

/// asyncio's `max_size`.
const MOST: usize = 256 * 1024;
/// Rule 4: one piece.
const PIECE: usize = 32 * 1024;
/// Rule 4: so much lies before what comes from below. The engine may have had the most of a record before, which makes
/// the first of what it gives back more than what it has got.
pub(crate) const HEAD: usize = 20 * 1024;
/// What a transport that is not ours gets to read into.
const BUFFER: usize = 64 * 1024;

/// A window to read into, the loop's if it has one to spare.
pub(crate) fn take_window(core: Option<&LoopCore>) -> R<Own<Window>> {
    match core.and_then(|core| core.window.take()) {
        Some(window) => Ok(window),
        None => Window::new(HEAD + MOST),
    }
}

/// Gives it back.
pub(crate) fn give_back(core: Option<&LoopCore>, window: Own<Window>) {
    if let Some(core) = core {
        core.window.put(Some(window));
    }
}

/// Bytes have come from below, and lie in this part of a window of the loop's.
pub(crate) fn received(
    this: &Own<SslProtocol>,
    core: Option<&LoopCore>,
    window: Own<Window>,
    part: Range<usize>,
) -> R<()> {
    if part.len() > PIECE && part.start >= HEAD && may_be_piecemeal(this)? {
        return read_fresh(this, Some(Fresh { window, part }));
    }
    let fed = this.engine.feed_part(&window, part);
    give_back(core, window);
    fed?;
    advance(this)
}

/// Rule 4: bytes that the engine has not got yet.
struct Fresh {
    window: Own<Window>,
    part: Range<usize>,
}

fn may_be_piecemeal(this: &SslProtocol) -> R<bool> {
    let reads = this
        .machine
        .with(|machine| machine.state() == State::Wrapped && !machine.reading_paused);
    Ok(reads && !this.buffered.get() && this.engine.incoming_size()? == 0)
}

/// Bytes that have come before the handshake began.
pub(crate) fn take_over(this: &SslProtocol, data: &Obj) -> R<()> {
    this.engine.feed(data)
}

/// Bytes have come from below.
fn advance(this: &Own<SslProtocol>) -> R<()> {
    match this.machine.with(|machine| machine.received()) {
        Feed::Nothing => Ok(()),
        Feed::Handshake => handshake::advance(this),
        Feed::Read => read(this),
        Feed::Flush => shutdown::flush(this),
        Feed::Shutdown => shutdown::advance(this),
    }
}

/// `get_buffer(n)`
pub(super) fn get_buffer(this: &Own<SslProtocol>, _hint: &Obj) -> R<Obj> {
    if let Some(buffer) = this.buffer.get() {
        return Ok(buffer);
    }
    let memory = Obj::import("builtins")?.call_method_str("bytearray", &[&Obj::int(BUFFER as i64)?])?;
    let buffer = memory.memoryview()?;
    this.buffer.set(buffer.clone());
    Ok(buffer)
}

/// `buffer_updated(nbytes)`
pub(super) fn buffer_updated(this: &Own<SslProtocol>, count: &Obj) -> R<()> {
    let count = usize::try_from(count.to_i64()?).unwrap_or(0);
    let buffer = get_buffer(this, count_hint())?;
    this.engine.feed(&buffer.slice(0, count)?)?;
    advance(this)
}

fn count_hint() -> &'static Obj {
    &crate::ffi::object::ZERO
}

/// `_do_read()`
pub(super) fn read(this: &Own<SslProtocol>) -> R<()> {
    read_fresh(this, None)
}

fn read_fresh(this: &Own<SslProtocol>, fresh: Option<Fresh>) -> R<()> {
    if !this.machine.with(|machine| machine.may_read()) {
        return Ok(());
    }
    match read_and_answer(this, fresh) {
        Err(raised) if raised.matches(exc::exception()) => {
            let exception = raised.take();
            // what the protocol has written before it raised may say why; an engine that has failed sends no more
            if !exception.isinstance(engine::ssl_error())? {
                writing::flush_now(this)?;
            }
            fatal_error(this, &exception, "Fatal error on SSL protocol")
        }
        result => result,
    }
}

fn read_and_answer(this: &Own<SslProtocol>, fresh: Option<Fresh>) -> R<()> {
    let mut dry = false;
    if !this.machine.with(|machine| machine.reading_paused) {
        dry = deliver(this, fresh)?;
        if this.backlog.is_empty() {
            // what the engine itself has to say
            if this.engine.outgoing_size()? > 0 {
                writing::hand_down(this)?;
            }
        } else {
            writing::advance(this)?;
        }
    }
    judge(this, if dry { 0 } else { this.engine.incoming_size()? })
}

/// How the reading ended.
enum Ending {
    /// The BIO is empty.
    Dry,
    /// The engine waits for the rest of something.
    Again,
    /// The buffer is full.
    Full,
    /// The peer has closed.
    Closed,
    /// With this exception.
    Failed(Obj),
}

/// Decrypts into `place(so much was read)` as much as there is, up to `room`. So much is `filled` then.
fn fill<'a>(
    this: &SslProtocol,
    mut filled: usize,
    room: usize,
    place: impl Fn(usize) -> Place<'a>,
) -> (usize, Ending) {
    let mut step = || -> R<Option<Ending>> {
        match this.engine.read(&place(filled))? {
            None => Ok(Some(Ending::Again)),
            Some(0) => Ok(Some(Ending::Closed)),
            Some(count) => {
                filled += count;
                if filled >= room {
                    return Ok(Some(Ending::Full));
                }
                // rule 3: a record is read whole, so what else there is lies in the BIO
                Ok((this.engine.incoming_size()? == 0).then_some(Ending::Dry))
            }
        }
    };
    let ending = loop {
        match step() {
            Ok(None) => {}
            Ok(Some(ending)) => break ending,
            Err(raised) => break Ending::Failed(raised.take()),
        }
    };
    (filled, ending)
}

/// What there is, to the protocol above. `true`: then the BIO is empty.
fn deliver(this: &Own<SslProtocol>, fresh: Option<Fresh>) -> R<bool> {
    let Some(app) = this.app.get() else {
        return Ok(false);
    };
    let (delivered, ending) = if !this.buffered.get() {
        as_bytes(this, &app, fresh)?
    } else if let Some(above) = direct(&app) {
        into_tls(this, above)?
    } else {
        into_buffer(this, &app)?
    };
    if let Ending::Failed(exception) = ending {
        // rule 2
        if let Err(raised) = delivered {
            let other = raised.take();
            exceptions::set_context(&other, Some(exception));
            return Err(raise(&other));
        }
        return Err(raise(&exception));
    }
    delivered?;
    if let Ending::Closed = ending {
        shutdown::tell_end(this)?;
        shutdown::start(this)?;
    }
    Ok(matches!(ending, Ending::Dry))
}

/// `_do_read__copied()`
fn as_bytes(this: &Own<SslProtocol>, app: &Obj, fresh: Option<Fresh>) -> R<(R<()>, Ending)> {
    let loop_ = this.loop_.get_or_none();
    let core = core::of(&loop_).map(|core| &**core);
    let piecemeal = fresh.is_some();
    let (window, mut rest) = match fresh {
        Some(fresh) => (fresh.window, fresh.part),
        None => (take_window(core)?, 0..0),
    };
    let (mut chunks, mut filled) = (Vec::new(), 0);
    let mut ending = loop {
        if !rest.is_empty() {
            let end = rest.end.min(rest.start + PIECE);
            if let Err(raised) = this.engine.feed_part(&window, rest.start..end) {
                // what is decrypted already is delivered before that is told
                break Ending::Failed(raised.take());
            }
            rest.start = end;
        }
        let room = if piecemeal { rest.start } else { window.size() };
        let ending;
        (filled, ending) = fill(this, filled, room, |filled| Place::Window(&window, filled..room));
        match ending {
            Ending::Full => match window.with_mut(|place| bytes::new(&place[..filled])) {
                Ok(chunk) => {
                    chunks.push(chunk);
                    filled = 0;
                }
                Err(raised) => {
                    filled = 0;
                    break Ending::Failed(raised.take());
                }
            },
            Ending::Dry | Ending::Again if !rest.is_empty() => {}
            ending => break ending,
        }
    };
    if filled > 0 {
        match window.with_mut(|place| bytes::new(&place[..filled])) {
            Ok(chunk) => chunks.push(chunk),
            Err(raised) => ending = Ending::Failed(raised.take()),
        }
    }
    give_back(core, window);
    Ok((hand_over(app, chunks), ending))
}

/// Decrypted pieces, together: or one after the other, if there is no memory to put them together.
fn hand_over(app: &Obj, mut chunks: Vec<Obj>) -> R<()> {
    if chunks.len() > 1 {
        let joined =
            Obj::list(&chunks).and_then(|list| Obj::empty_bytes()?.call_method_str("join", &[&list]));
        match joined {
            Ok(joined) => chunks = vec![joined],
            Err(raised) => raised.ignore(),
        }
    }
    for chunk in chunks {
        telling::data_received(app, chunk)?;
    }
    Ok(())
}

/// `_do_read__buffered()`
fn into_buffer(this: &Own<SslProtocol>, app: &Obj) -> R<(R<()>, Ending)> {
    let hint = Obj::int(this.engine.incoming_size()? as i64)?;
    let buffer = app.call_method(&names::GET_BUFFER, &[&hint])?;
    let room = buffer.len()?;
    let (filled, ending) = fill(this, 0, room, |filled| Place::Buffer(&buffer, filled));
    drop(buffer);
    let mut delivered = Ok(());
    if matches!(ending, Ending::Full) {
        call_soon(this, &this.obj().getattr_str("_do_read")?, None)?;
    }
    if filled > 0 {
        let count = Obj::int(filled as i64)?;
        delivered = app.call_method(&names::BUFFER_UPDATED, &[&count]).map(drop);
    }
    Ok((delivered, ending))
}

/// TLS in TLS.
fn into_tls(this: &Own<SslProtocol>, above: &Own<SslProtocol>) -> R<(R<()>, Ending)> {
    let loop_ = this.loop_.get_or_none();
    let core = core::of(&loop_).map(|core| &**core);
    let window = take_window(core)?;
    let size = window.size();
    let (filled, ending) = fill(this, 0, size, |filled| Place::Window(&window, filled..size));
    if matches!(ending, Ending::Full) {
        call_soon(this, &this.obj().getattr_str("_do_read")?, None)?;
    }
    if filled == 0 {
        give_back(core, window);
        return Ok((Ok(()), ending));
    }
    Ok((received(above, core, window, 0..filled), ending))
}

/// `_control_ssl_reading()`: the transport below pauses while too much waits to be decrypted.
pub(super) fn control(this: &Own<SslProtocol>) -> R<()> {
    judge(this, this.engine.incoming_size()?)
}

/// The same, with so many bytes waiting.
#[inline]
fn judge(this: &SslProtocol, size: usize) -> R<()> {
    let method: &Obj = match this.machine.with(|machine| machine.incoming.measure(size)) {
        Pressure::Fine => return Ok(()),
        Pressure::Stop => &names::PAUSE_READING,
        Pressure::Resume => &names::RESUME_READING,
    };
    match this.transport.get() {
        Some(transport) => transport.call_method(method, &[]).map(drop),
        None => Ok(()),
    }
}

/// `_resume_reading()`
pub(super) fn resume(this: &Own<SslProtocol>) -> R<()> {
    if !this
        .machine
        .with(|machine| std::mem::replace(&mut machine.reading_paused, false))
    {
        return Ok(());
    }
    let resume = Hook::new(
        "SSLProtocol._resume_reading.<locals>.resume",
        |hook, _| {
            let this = hook.a.get_or_none();
            match crate::ffi::Class::class().instance(&this) {
                Some(this) => resumed(this),
                None => Ok(()),
            }
        },
        Some(this.obj().clone()),
        None,
    )?;
    call_soon(this, resume.obj(), None)
}

fn resumed(this: &Own<SslProtocol>) -> R<()> {
    match this.machine.with(|machine| machine.state()) {
        State::Wrapped => read(this),
        State::Flushing => shutdown::flush(this),
        State::Shutdown => shutdown::advance(this),
        State::Unwrapped | State::Handshake => Ok(()),
    }
}
