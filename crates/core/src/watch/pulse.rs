//! The heartbeat of a loop. It costs nothing, for the loop counts its entries in any case.
//!
//! Rules
//! 1. Only the loop's thread writes, except for [`Pulse::ask`]. All stores are relaxed: a watcher looks again later.
//! 2. The loop compares its count with a limit, before each entry. At the limit it does what it does from time to time;
//!    who wants it to come aside at once sets the limit to zero. So a loop that nobody wants anything of pays a
//!    comparison that it had before.
//! 3. Who asks leaves what he wants in a place of his own *before* he asks. The loop first sets its next limit, then
//!    looks into those places: a request is seen, or it resets the limit once more.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::watchdog;

/// What the loop's thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The loop does not run.
    Stopped,
    /// It runs callbacks, or what lies between them.
    Running,
    /// It waits for the kernel.
    Asleep,
    /// The kernel has woken it, and it waits to be let go on: by Python, for the GIL.
    Held,
}

/// The pulse of one loop.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Pulse {
    /// How many entries have begun.
    entries: AtomicU64,
    /// At how many of them the loop comes aside: rule 2.
    limit: AtomicU64,
    state: AtomicU32,
    /// When it last woke up, or began to run, or began a turn and knew the time, as the bits of a float; and what `entries` was then.
    woke: AtomicU64,
    woke_at: AtomicU64,
}

impl Pulse {
    /// Counts an entry that is about to run. `true`: the loop is to come aside before ([`Pulse::rearm`]).
    #[inline(always)]
    #[must_use]
    pub fn count(&self) -> bool {
        // (nobody else writes: a load and a store, without a lock)
        let entries = self.entries.load(Ordering::Relaxed).wrapping_add(1);
        self.entries.store(entries, Ordering::Relaxed);
        entries >= self.limit.load(Ordering::Relaxed)
    }

    /// Sets the next limit, `after` entries from now. To be called before looking at what is asked (rule 3).
    pub fn rearm(&self, after: u64) {
        self.limit
            .store(self.entries.load(Ordering::Relaxed) + after, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Makes the loop come aside before its next entry, and before it sleeps. From any thread; what is wanted has been
    /// left in its place (rule 3).
    pub fn ask(&self) {
        fence(Ordering::SeqCst);
        self.limit.store(0, Ordering::Relaxed);
    }

    /// Has somebody asked?
    #[inline(always)]
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.limit.load(Ordering::Relaxed) == 0
    }

    /// How many entries have begun.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// What the loop's thread is doing.
    #[must_use]
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            1 => State::Running,
            2 => State::Asleep,
            3 => State::Held,
            _ => State::Stopped,
        }
    }

    /// When it last woke up, began to run or began a turn (in the time of [`Monotonic`](crate::Monotonic)), and how many entries had begun by then.
    #[must_use]
    pub fn woke(&self) -> (f64, u64) {
        (
            f64::from_bits(self.woke.load(Ordering::Relaxed)),
            self.woke_at.load(Ordering::Relaxed),
        )
    }

    /// It does not sleep.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        matches!(self.state(), State::Running | State::Held)
    }

    /// The loop begins to run.
    pub fn runs(&self, now: f64) {
        self.turns(now);
        self.state.store(1, Ordering::Relaxed);
    }

    /// It is about to sleep.
    #[inline]
    pub fn sleeps(&self) {
        self.state.store(2, Ordering::Relaxed);
    }

    /// The kernel has woken it. Wakes up the watcher too, if there is one and it has parked.
    #[inline]
    pub fn wakes(&self, now: f64) {
        self.woke.store(now.to_bits(), Ordering::Relaxed);
        self.woke_at
            .store(self.entries.load(Ordering::Relaxed), Ordering::Relaxed);
        self.state.store(3, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        watchdog::wake_if_parked();
    }

    /// It begins a turn, without having slept.
    #[inline(always)]
    pub fn turns(&self, now: f64) {
        self.woke.store(now.to_bits(), Ordering::Relaxed);
        self.woke_at
            .store(self.entries.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// It has been let go on.
    #[inline]
    pub fn goes_on(&self, now: f64) {
        self.woke.store(now.to_bits(), Ordering::Relaxed);
        self.state.store(1, Ordering::Relaxed);
    }

    /// It is as it was: for a turn that somebody else's loop has asked for.
    pub fn is_again(&self, state: State) {
        let state = match state {
            State::Stopped => 0,
            State::Running => 1,
            State::Asleep => 2,
            State::Held => 3,
        };
        self.state.store(state, Ordering::Relaxed);
    }

    /// It has stopped.
    pub fn stops(&self) {
        self.state.store(0, Ordering::Relaxed);
    }
}
