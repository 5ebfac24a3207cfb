//! What has been written and has not gone out yet: how long it waits.
//!
//! Rules
//! 1. A program may count on what it has written being on its way when `write()` returns, so the first write of
//!    a callback (or of a step of a task) goes out at once. More writes of the same callback wait until it has
//!    ended, and go out in one system call. A connection that was written to several times by the callback
//!    before is likely to be so again: then the first one waits, too.
//! 2. A peer that is asleep has to be woken by the kernel, and that is dearer than all else about sending. A
//!    server whose answers are ready one by one wakes a peer for each, and that one is asleep again before the
//!    next. So in a turn of many callbacks that take their time what they write waits for one another: for at most
//!    [`MOST`] connections and [`LONGEST`] seconds, and not beyond the turn.
//! 3. That callbacks take their time, but not too much of it, is what the turns before have shown. One that is
//!    slow while something waits is known of at once, whatever the others do, and takes long to be forgotten: a loop
//!    that is blocked now and then is late with nothing that had been written before.
//! 4. A child by `os.fork()` in the loop's thread finds nothing here.

use super::stream::Stream;
use super::writing;
use crate::event_loop::core::{self, LoopCore};
use crate::ffi::errors::{R, raise};
use crate::ffi::{Fifo, Obj, Own, Visitor, running, threads};
use crate::hook::Hook;
use crate::tls::{self, protocol::SslProtocol};
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many callbacks make a turn of many, and so many writes tell how fast they come.
const MANY: usize = 4;
/// Connections that wait for one another.
const MOST: usize = 16;
/// How long the first of them does, in seconds.
const LONGEST: f64 = 500e-6;
/// Seconds from write to write. Where they come faster, the peer has no time to fall asleep.
const PACE: RangeInclusive<f64> = 10e-6..=250e-6;
/// How many turns weigh as much as the last one, if they were slower.
const MEMORY: f64 = 16.0;

/// Who has something that is to go out.
pub(crate) enum Held {
    /// Bytes.
    Stream(Own<Stream>),
    /// Bytes that are to be encrypted first.
    Tls(Own<SslProtocol>),
}

impl Held {
    fn obj(&self) -> &Obj {
        match self {
            Held::Stream(stream) => stream.obj(),
            Held::Tls(protocol) => protocol.obj(),
        }
    }
}

/// Of a loop: whose bytes wait, and how long they may.
#[derive(Default)]
pub(crate) struct Outbox {
    held: Fifo<Held>,
    /// Since when the first one waits.
    since: Cell<f64>,
    /// When a callback ended, or the first one began to wait.
    looked: Cell<f64>,
    /// The number of the entry at whose end all goes out: the last one of the turn. Or 0, of each.
    last: Cell<u64>,
    /// When the turn began; 0: it is not of many callbacks.
    begun: Cell<f64>,
    /// Callbacks of this turn that have written.
    writes: Cell<u32>,
    /// Seconds from one to the next: rule 3. 0: it is not known.
    pace: Cell<f64>,
}

impl Outbox {
    /// A turn begins, of so many entries, after that with the number `entry`.
    #[inline]
    pub(crate) fn begin(&self, entry: u64, ready: usize, now: f64) {
        let many = ready >= MANY;
        self.begun.set(if many { now } else { 0.0 });
        self.writes.set(0);
        let waits = many && PACE.contains(&self.pace.get());
        self.last.set(if waits { entry + ready as u64 } else { 0 });
    }
    /// The turn has ended.
    #[inline]
    pub(crate) fn end(&self, core: &LoopCore) {
        if self.writes.get() as usize >= MANY && self.begun.get() > 0.0 {
            let pace = (core.now() - self.begun.get()) / f64::from(self.writes.get());
            let before = self.pace.get();
            self.pace.set(pace.max(before + (pace - before) / MEMORY));
        }
    }
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
    /// A callback has ended: may what waits wait for the next one, too?
    pub(crate) fn waits(&self, core: &LoopCore) -> bool {
        if self.last.get() == 0 {
            return false;
        }
        let now = core.now();
        let took = now - self.looked.replace(now);
        if took > LONGEST {
            self.pace.set(took.max(self.pace.get()));
            self.last.set(0);
        }
        self.last.get() > core.vitals.pulse.entries()
            && self.held.len() < MOST
            && now - self.since.get() < LONGEST
    }
    /// Does what a callback writes wait for the next one?
    #[inline]
    fn has_time(&self, callback: u64) -> bool {
        self.last.get() > callback && self.held.len() < MOST
    }
    /// One more that waits.
    pub(crate) fn push(&self, core: &LoopCore, held: Held) {
        if self.held.is_empty() {
            let now = core.now();
            self.since.set(now);
            self.looked.set(now);
            hear_of_forks(held.obj());
        }
        self.held.push_back(held);
    }
    /// All of it goes out, whatever is raised meanwhile (by the program's code, which is told of a connection that is
    /// broken): the first exception is the caller's.
    #[inline(never)]
    pub(crate) fn flush(&self) -> R<()> {
        let mut failure = None;
        while let Some(held) = self.held.pop_front() {
            let sent = match &held {
                Held::Stream(stream) => writing::flush_now(stream),
                Held::Tls(protocol) => tls::writing::flush_now(protocol),
            };
            match sent {
                Err(raised) if failure.is_none() => failure = Some(raised.take()),
                Err(raised) => raised.unraisable(held.obj()),
                Ok(()) => {}
            }
        }
        failure.map_or(Ok(()), |exception| Err(raise(&exception)))
    }
    /// For the garbage collector.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.held.for_each(|held| match held {
            Held::Stream(stream) => visitor.own(stream),
            Held::Tls(protocol) => visitor.own(protocol),
        });
    }
    /// What waits is dropped.
    pub(crate) fn clear(&self) {
        drop(self.held.take());
    }
}

/// Of a connection: what is known of the writes of one callback, and of the callback before.
pub(crate) struct Turns {
    /// Which callback of the loop was the last to write.
    callback: Cell<u64>,
    /// How often it did.
    writes: Cell<u8>,
    /// The one before did more than once.
    bursts: Cell<bool>,
    /// Something waits.
    pub(crate) held_back: Cell<bool>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            callback: Cell::new(u64::MAX),
            writes: Cell::new(0),
            bursts: Cell::new(false),
            held_back: Cell::new(false),
        }
    }
}

impl Turns {
    /// Another write. Is it to be held back?
    #[inline]
    pub(crate) fn hold_back(&self, core: &LoopCore) -> bool {
        let callback = core.vitals.pulse.entries();
        let outbox = &core.outbox;
        if self.callback.replace(callback) == callback {
            self.writes.set(self.writes.get().saturating_add(1));
        } else {
            self.bursts.set(self.writes.get() > 1);
            self.writes.set(1);
            outbox.writes.set(outbox.writes.get() + 1);
        }
        (self.writes.get() > 1 || self.bursts.get() || outbox.has_time(callback))
            && core.thread.get() == threads::ident()
    }
}

/// Rule 4.
fn hear_of_forks(who: &Obj) {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if !ONCE.load(Ordering::Relaxed)
        && !ONCE.swap(true, Ordering::Relaxed)
        && let Err(raised) = register()
    {
        raised.unraisable(who);
    }
}

#[cold]
fn register() -> R<()> {
    let before = Hook::new("send_before_fork", |_, _| flush_running(), None, None)?;
    let names = Obj::tuple(&[&Obj::interned("before")?])?;
    Obj::import("os")?
        .getattr_str("register_at_fork")?
        .call_kw(&[before.obj()], Some(&names))
        .map(drop)
}

/// What the loop that runs in this thread holds back goes out.
pub(super) fn flush_running() -> R<()> {
    match running::get()?.as_ref().and_then(core::of) {
        Some(core) => core.outbox.flush(),
        None => Ok(()),
    }
}
