//! The thread that looks at loops: one for all of a process, started for the first of them.
//!
//! Owns the thread and the list of the loops.
//! Must never touch what a loop owns but its [`Pulse`], nor keep a process awake that has nothing to do.
//!
//! Rules
//! 1. It sleeps until the next look is due. When every loop sleeps it parks, until it is time to tell of the calm and
//!    then with no time set; a loop that wakes up ends that ([`Pulse::wakes`]). Both write first and look then, with a fence between: either the loop sees that the watcher
//!    has parked, or the watcher sees that the loop has woken up.
//! 2. If it has overslept by half a threshold, it was not the loop that stood still but the process: stopped by a
//!    debugger, or starved. Then everything counts anew (rule 3 of `sight.rs`).
//! 3. A forked child has no such thread. It gets one when a loop of its own runs.
//! 4. Before `os.fork()` the thread ends ([`pause`]): Python counts threads, and warns of those that the program has not
//!    started, too. It begins anew when a loop comes to it ([`go_on`]).
//! 5. A look that is not to tell of anything may be late by a tick of the kernel ([`Sleeper`]), which is little: then it needs no
//!    interrupt of its own, which costs a virtual machine more than the look does.
//! 6. A loop that has slept for [`CALM`] is told so, once until it has run something. It pays nothing for that: a limit
//!    on each of its sleeps would be a timer of the kernel's for each message of a server.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use super::pulse::{Pulse, State};
use super::sight::{Block, Look, Sight};
use crate::clock::{Clock, Monotonic};
use crate::sys::apart;
use crate::sys::local;
use crate::sys::names::block_signals;
use crate::sys::published::{PerProcess, Published};
use crate::sys::sleeper::Sleeper;
use crate::sys::threads::names;

/// A loop, for whoever looks at it.
pub trait Watched: Send + Sync + 'static {
    /// Its pulse.
    fn pulse(&self) -> &Pulse;

    /// It is blocked. Called by the thread that watches, while the loop is.
    fn blocked(&self, block: &Block);

    /// This entry runs, and has since then, as far as is known: never too early. Called by the thread that watches, at each
    /// look.
    fn seen(&self, entry: u64, since: f64);

    /// It runs at this moment, and the look before was so many seconds ago: a sample of what it does. Called by the thread
    /// that watches.
    fn sampled(&self, now: f64, seconds: f64);

    /// It sleeps, and has run nothing for [`CALM`]. Called by the thread that watches.
    fn calm(&self);
}

/// For how long a loop has slept when it is told so, in seconds.
pub const CALM: f64 = 1.0;
/// The threshold if nothing is to be told of blocks: often enough for rule 6.
const UNHURRIED: f64 = 2.0 * CALM;
/// Below this threshold a tick is much: every look is exact.
const HASTY: f64 = 0.02;

/// What the thread and the loops share; a child of a fork has its own.
#[derive(Default)]
struct Shared {
    loops: Mutex<Vec<Arc<dyn Watched>>>,
    /// Changes with `loops`.
    generation: AtomicU64,
    /// The thread has been started.
    started: AtomicBool,
    stopped: AtomicBool,
    /// Rule 4. The thread is to end, and none is to be started.
    paused: AtomicBool,
    /// The thread, which gives back where the kernel shows it.
    handle: Mutex<Option<JoinHandle<Option<PathBuf>>>>,
}

static SHARED: PerProcess<Shared> = PerProcess::new();
/// In seconds, as the bits of a float; 0: nothing is looked for.
static THRESHOLD: AtomicU64 = AtomicU64::new(0);
/// The thread has parked, or is about to.
static PARKED: AtomicBool = AtomicBool::new(false);
/// For waking it.
static THREAD: Published<Thread> = Published::new();

/// The thread's stack: it needs little.
const STACK: usize = 512 * 1024;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<dyn Watched>>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self) -> MutexGuard<'_, Option<JoinHandle<Option<PathBuf>>>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread is to end.
    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Acquire) || self.paused.load(Ordering::Acquire)
    }
}

/// How long a callback may run, in seconds; 0: as long as it likes.
pub fn set_threshold(seconds: f64) {
    THRESHOLD.store(seconds.to_bits(), Ordering::Relaxed);
    let shared = SHARED.get();
    if !shared.lock().is_empty() {
        start(shared);
    }
}

fn threshold() -> f64 {
    f64::from_bits(THRESHOLD.load(Ordering::Relaxed))
}

/// Begins to look at a loop.
pub fn watch(watched: Arc<dyn Watched>) {
    let shared = SHARED.get();
    shared.lock().push(watched);
    shared.generation.fetch_add(1, Ordering::Release);
    shared.paused.store(false, Ordering::Release);
    start(shared);
}

/// Looks at it no more.
pub fn unwatch(watched: &Arc<impl Watched>) {
    let shared = SHARED.get();
    let address = Arc::as_ptr(watched).cast::<()>();
    shared
        .lock()
        .retain(|other| Arc::as_ptr(other).cast::<()>() != address);
    shared.generation.fetch_add(1, Ordering::Release);
}

/// Ends the thread, for good: the program is about to end.
pub fn stop() {
    SHARED.get().stopped.store(true, Ordering::Release);
    wake();
}

/// Rule 4: ends the thread, and waits until the kernel no longer counts it. What it knew of the loops is forgotten.
pub fn pause() {
    let shared = SHARED.get();
    shared.paused.store(true, Ordering::Release);
    wake();
    let Some(handle) = shared.handle().take() else {
        return;
    };
    // (a thread that has panicked has told so itself)
    if let Ok(Some(thread)) = handle.join() {
        local::until_gone(&thread);
    }
    shared.started.store(false, Ordering::Release);
}

/// Rule 4: starts it again, if there is a loop to look at.
pub fn go_on() {
    let shared = SHARED.get();
    if shared.paused.swap(false, Ordering::AcqRel) && !shared.lock().is_empty() {
        start(shared);
    }
}

/// Does the thread look for blocks?
#[must_use]
pub fn is_watching() -> bool {
    threshold() > 0.0 && SHARED.get().started.load(Ordering::Relaxed)
}

/// Starts the thread, or wakes it up.
fn start(shared: &'static Shared) {
    if shared.is_over() {
        return;
    }
    if shared.started.swap(true, Ordering::AcqRel) {
        return wake();
    }
    apart::try_out();
    let started = thread::Builder::new()
        .name(names::WATCH.into())
        .stack_size(STACK)
        .spawn(move || run(shared));
    match started {
        Ok(handle) => {
            THREAD.set(handle.thread().clone());
            *shared.handle() = Some(handle);
            // who has woken it meanwhile did not know it yet
            wake();
        }
        // there is no room for a thread: the next loop tries again
        Err(_) => {
            shared.started.store(false, Ordering::Release);
        }
    }
}

/// Ends its sleep, if it has parked. For [`Pulse::wakes`], after a fence.
#[inline]
pub(super) fn wake_if_parked() {
    if PARKED.load(Ordering::Relaxed) {
        wake();
    }
}

#[cold]
fn wake() {
    PARKED.store(false, Ordering::Relaxed);
    if let Some(thread) = THREAD.get() {
        thread.unpark();
    }
}

/// What the thread does. Answers where the kernel shows it.
fn run(shared: &'static Shared) -> Option<PathBuf> {
    block_signals();
    apart::leave();
    let clock = Monotonic;
    let mut sleeper = Sleeper::default();
    let mut seen: Vec<Seen> = Vec::new();
    let mut generation = u64::MAX;
    let mut floor = 0.0;
    // when the last look was, unless it has parked or overslept since
    let mut last: Option<f64> = None;
    while !shared.is_over() {
        let told = threshold();
        let threshold = if told > 0.0 { told } else { UNHURRIED };
        let now = clock.now();
        let present = shared.generation.load(Ordering::Acquire);
        if present != generation {
            generation = present;
            update(&mut seen, &shared.lock());
        }
        let mut due: Option<f64> = None;
        let mut matters = false;
        for Seen { watched, sight, .. } in &mut seen {
            let look = sight.look(watched.pulse(), now, floor, threshold);
            matters |= sight.matters();
            if told > 0.0
                && let Some((entry, since)) = sight.running()
            {
                watched.seen(entry, since);
            }
            let next = match look {
                Look::Quiet => continue,
                Look::Again(next) => next,
                Look::Blocked(block, next) => {
                    if told > 0.0 {
                        watched.blocked(&block);
                    }
                    next
                }
            };
            if let Some(last) = last
                && told > 0.0
                && watched.pulse().state() == State::Running
            {
                watched.sampled(now, now - last);
            }
            due = Some(due.map_or(next, |due| due.min(next)));
        }
        last = Some(now);
        let left = left_to_calm(&mut seen, now);
        let Some(due) = due else {
            park(shared, &seen, generation, left);
            last = None;
            continue;
        };
        let before = clock.now();
        // (whatever the threshold is, it is seen soon that a loop sleeps: rule 6)
        let pause = (due - before).min(left.unwrap_or(CALM / 4.0)).max(0.0);
        let exact = matters || threshold < HASTY;
        sleeper.is_exact(exact);
        thread::park_timeout(Duration::from_secs_f64(pause));
        let after = clock.now();
        if after - before - pause > threshold / 2.0 {
            floor = after; // rule 2
            last = None;
        }
    }
    local::this_thread()
}

/// A loop, and what is known of it.
struct Seen {
    watched: Arc<dyn Watched>,
    sight: Sight,
    /// How many entries had begun when it was last seen, since when it sleeps, and whether it has been told (rule 6).
    quiet: Option<(u64, f64, bool)>,
}

/// Rule 6: tells those whose time has come. When the next one's comes, in seconds.
fn left_to_calm(seen: &mut [Seen], now: f64) -> Option<f64> {
    let mut first: Option<f64> = None;
    for Seen { watched, quiet, .. } in seen {
        let entries = watched.pulse().entries();
        let (since, told) = match *quiet {
            Some((known, since, told)) if known == entries => (since, told),
            _ => (now, false),
        };
        if watched.pulse().state() != State::Asleep {
            // (it may be awake just to hear that it is calm)
            *quiet = Some((entries, now, told));
            continue;
        }
        let left = since + CALM - now;
        *quiet = Some((entries, since, told || left <= 0.0));
        if told {
            continue;
        }
        if left <= 0.0 {
            watched.calm();
        } else {
            first = Some(first.map_or(left, |first| first.min(left)));
        }
    }
    first
}

/// Looks at those of `loops`, and remembers what it knew of them.
fn update(seen: &mut Vec<Seen>, loops: &[Arc<dyn Watched>]) {
    let mut old = std::mem::take(seen);
    for watched in loops {
        let known = old.iter().position(|other| Arc::ptr_eq(&other.watched, watched));
        seen.push(match known {
            Some(at) => old.swap_remove(at),
            None => Seen {
                watched: Arc::clone(watched),
                sight: Sight::default(),
                quiet: None,
            },
        });
    }
}

/// Rule 1, for `left` seconds at most. May return for no reason.
fn park(shared: &Shared, seen: &[Seen], generation: u64, left: Option<f64>) {
    PARKED.store(true, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let is_news = shared.is_over()
        || shared.generation.load(Ordering::Acquire) != generation
        || seen.iter().any(|seen| seen.watched.pulse().is_awake());
    if !is_news {
        match left {
            Some(left) => thread::park_timeout(Duration::from_secs_f64(left)),
            None => thread::park(),
        }
    }
    PARKED.store(false, Ordering::Relaxed);
}
