//! The figures of one loop.
//!
//! Rules
//! 1. The loop's thread writes, any thread reads; each figure is right by itself, not together with the others.
//! 2. The clock is read where the loop sleeps, and for samples: never for each entry.
//! 3. Lag is measured from the outside: a watcher notes when it has looked at a loop that ran ([`Figures::looked`]) and asks
//!    it to come aside; what is ready at that moment stands behind all that is in the queue, so the lag ends when so many
//!    entries have run, or the loop has nothing to do. A loop that sleeps has no lag and is not looked at.

use super::histogram::Histogram;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// No measurement of lag is under way.
const NONE: u64 = u64::MAX;

/// What is counted and timed. Times are nanoseconds, moments those of the monotonic clock.
#[derive(Debug)]
pub struct Figures {
    turns: AtomicU64,
    /// How many entries the present turn has begun with.
    ready: AtomicU64,
    /// How long it has slept, and since when it does.
    idle: AtomicU64,
    slept: AtomicU64,
    /// How long it has waited for Python after its sleeps.
    held: AtomicU64,
    /// How long it has run before, and since when it does; 0: it does not.
    ran: AtomicU64,
    began: AtomicU64,
    /// The clock of its thread's CPU time ([`cpu`](crate::sys::cpu)); 0: there is none.
    cpu: AtomicI32,
    /// How many callbacks have blocked it, and how long those did that have ended.
    blocks: AtomicU64,
    blocked: AtomicU64,
    /// Since when one does; 0: none is known of.
    block: AtomicU64,
    /// When a watcher has looked first and last, and how often, since the last measurement of lag began.
    first: AtomicU64,
    last: AtomicU64,
    looks: AtomicU64,
    /// The measurement that is under way: those looks, and the entry at which it ends.
    pending: [AtomicU64; 3],
    target: AtomicU64,
    /// How long after a random moment at which the loop ran would something have run that got ready then?
    pub lag: Histogram,
    /// How late was the first timer of those that were due together?
    pub timers: Histogram,
    /// How long did an entry run? Of one in about a hundred.
    pub entries: Histogram,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            turns: AtomicU64::default(),
            ready: AtomicU64::default(),
            idle: AtomicU64::default(),
            slept: AtomicU64::default(),
            held: AtomicU64::default(),
            ran: AtomicU64::default(),
            began: AtomicU64::default(),
            cpu: AtomicI32::default(),
            blocks: AtomicU64::default(),
            blocked: AtomicU64::default(),
            block: AtomicU64::default(),
            first: AtomicU64::default(),
            last: AtomicU64::default(),
            looks: AtomicU64::default(),
            pending: <[AtomicU64; 3]>::default(),
            target: AtomicU64::new(NONE),
            lag: Histogram::default(),
            timers: Histogram::default(),
            entries: Histogram::default(),
        }
    }
}

/// How long a loop has done what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// It has run so long, asleep or not.
    pub running: u64,
    /// It has slept.
    pub idle: u64,
    /// It was awake and waited for the GIL.
    pub held: u64,
}

impl Figures {
    /// A turn begins with so many entries.
    #[inline(always)]
    pub fn turn(&self, ready: usize) {
        add(&self.turns, 1);
        put(&self.ready, ready as u64);
    }

    /// How many turns have begun, and how many entries the last of them had.
    #[must_use]
    pub fn turns(&self) -> (u64, u64) {
        (get(&self.turns), get(&self.ready))
    }

    /// The loop begins to run, on this thread, whose CPU time that clock shows. (Also where it finds itself in a child.)
    pub fn begins(&self, now: f64, cpu: i32) {
        if get(&self.began) == 0 {
            put(&self.began, nanoseconds(now));
        }
        self.cpu.store(cpu, Ordering::Relaxed);
    }

    /// It stops.
    pub fn stops(&self, now: f64) {
        let began = self.began.swap(0, Ordering::Relaxed);
        if began != 0 {
            add(&self.ran, nanoseconds(now).saturating_sub(began));
        }
        self.cpu.store(0, Ordering::Relaxed);
        put(&self.target, NONE);
        put(&self.looks, 0);
    }

    /// It goes to sleep.
    #[inline(always)]
    pub fn sleeps(&self, now: f64) {
        put(&self.slept, nanoseconds(now));
    }

    /// It slept until `woke` and has what it needs to go on since `now`.
    #[inline(always)]
    pub fn wakes(&self, woke: f64, now: f64) {
        let (woke, now) = (nanoseconds(woke), nanoseconds(now));
        add(
            &self.idle,
            woke.saturating_sub(self.slept.swap(0, Ordering::Relaxed)),
        );
        add(&self.held, now.saturating_sub(woke));
    }

    /// Up to `now`.
    #[must_use]
    pub fn times(&self, now: f64) -> Times {
        let now = nanoseconds(now);
        let since = |moment: u64| {
            if moment == 0 {
                0
            } else {
                now.saturating_sub(moment)
            }
        };
        Times {
            running: get(&self.ran) + since(get(&self.began)),
            idle: get(&self.idle) + since(get(&self.slept)),
            held: get(&self.held),
        }
    }

    /// The clock of the CPU time of the thread that runs it, if one does.
    #[must_use]
    pub fn cpu(&self) -> Option<i32> {
        Some(self.cpu.load(Ordering::Relaxed)).filter(|&clock| clock != 0)
    }

    /// A callback has been found to block the loop, since then. Any one thread.
    pub fn block_begins(&self, since: f64) {
        add(&self.blocks, 1);
        put(&self.block, nanoseconds(since).max(1));
    }

    /// … and has ended, if there was one. The loop's thread.
    pub fn block_ends(&self, now: f64) {
        let since = self.block.swap(0, Ordering::Relaxed);
        if since != 0 {
            add(&self.blocked, nanoseconds(now).saturating_sub(since));
        }
    }

    /// How many there were, and how long those took that have ended.
    #[must_use]
    pub fn blocks(&self) -> (u64, u64) {
        (get(&self.blocks), get(&self.blocked))
    }

    /// A watcher has looked, and the loop was running. Any one thread. `true`: the loop is to come aside, for it does not
    /// know yet.
    pub fn looked(&self, now: f64) -> bool {
        let now = nanoseconds(now);
        if get(&self.looks) == 0 {
            put(&self.first, now);
        }
        put(&self.last, now);
        self.looks.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// The loop has come aside, and so many entries have begun and so many are ready. Answers in how many entries it has to
    /// come again for a measurement of lag, if one is under way.
    #[inline]
    pub fn aside(&self, entries: u64, ready: usize, now: impl FnOnce() -> f64) -> Option<u64> {
        let target = get(&self.target);
        if target == NONE && get(&self.looks) == 0 {
            return None;
        }
        if target != NONE {
            if entries < target && ready > 0 {
                return Some(target - entries);
            }
            self.end(now());
        } else if ready == 0 {
            self.begin(entries, ready);
            self.end(now());
        }
        (get(&self.looks) > 0 && ready > 0).then(|| self.begin(entries, ready))
    }

    /// A measurement is under way or due, which ends when the loop has nothing to do.
    #[inline(always)]
    #[must_use]
    pub fn is_measuring(&self) -> bool {
        get(&self.target) != NONE || get(&self.looks) != 0
    }

    fn begin(&self, entries: u64, ready: usize) -> u64 {
        let looks = self.looks.swap(0, Ordering::AcqRel);
        let ready = ready as u64;
        for (place, value) in self
            .pending
            .iter()
            .zip([get(&self.first), get(&self.last), looks])
        {
            put(place, value);
        }
        put(&self.target, entries + ready);
        ready
    }

    fn end(&self, now: f64) {
        let now = nanoseconds(now);
        let [first, last, looks] = [0, 1, 2].map(|index| get(&self.pending[index]));
        put(&self.target, NONE);
        let span = u128::from(last.saturating_sub(first));
        let steps = u128::from((looks.max(2)) - 1);
        // One for each look. (A day of looks is a million; nobody wants to wait for more.)
        for look in 0..looks.min(1 << 20) {
            // (no more than `last`, so it is a u64)
            let at = first + (span * u128::from(look) / steps) as u64;
            self.lag.record(now.saturating_sub(at));
        }
    }
}

#[inline(always)]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

#[inline(always)]
fn get(place: &AtomicU64) -> u64 {
    place.load(Ordering::Relaxed)
}

#[inline(always)]
fn put(place: &AtomicU64, value: u64) {
    place.store(value, Ordering::Relaxed);
}

#[inline(always)]
fn add(place: &AtomicU64, more: u64) {
    put(place, get(place).wrapping_add(more));
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn milliseconds(count: u64) -> u64 {
        count * 1_000_000
    }

    #[test]
    fn running_idle_and_held_add_up() {
        let figures = Figures::default();
        figures.begins(1.0, 7);
        figures.sleeps(1.25);
        assert_eq!(figures.times(1.5).idle, milliseconds(250));
        figures.wakes(1.5, 1.75);
        figures.begins(1.75, 7);
        let times = figures.times(2.0);
        assert_eq!(times.running, milliseconds(1000));
        assert_eq!((times.idle, times.held), (milliseconds(250), milliseconds(250)));
        assert_eq!(figures.cpu(), Some(7));
        figures.stops(3.0);
        figures.begins(10.0, 8);
        assert_eq!(figures.times(10.5).running, milliseconds(2500));
        figures.stops(11.0);
        assert_eq!(
            (figures.times(99.0).running, figures.cpu()),
            (milliseconds(3000), None)
        );
    }

    #[test]
    fn lag_ends_when_the_queue_of_that_moment_has_run() {
        let figures = Figures::default();
        assert_eq!(figures.aside(0, 5, || 9.0), None);
        assert!(figures.looked(1.0));
        assert_eq!(figures.aside(10, 5, || 9.0), Some(5));
        assert_eq!(figures.aside(12, 7, || 9.0), Some(3));
        assert!(figures.is_measuring());
        assert_eq!(figures.aside(15, 7, || 1.5), None);
        assert!(!figures.is_measuring());
        let counts = figures.lag.counts();
        assert_eq!((counts.count(), counts.max), (1, milliseconds(500)));
    }

    #[test]
    fn lag_ends_when_there_is_nothing_to_do() {
        let figures = Figures::default();
        figures.looked(1.0);
        assert_eq!(figures.aside(10, 5, || 9.0), Some(5));
        assert_eq!(figures.aside(11, 0, || 1.25), None);
        assert_eq!(figures.lag.counts().max, milliseconds(250));
        figures.looked(2.0);
        assert_eq!(figures.aside(12, 0, || 2.5), None);
        assert!(!figures.is_measuring());
        assert_eq!(figures.lag.counts().max, milliseconds(500));
    }

    #[test]
    fn blocks_are_counted_and_timed() {
        let figures = Figures::default();
        figures.block_ends(5.0);
        assert_eq!(figures.blocks(), (0, 0));
        figures.block_begins(1.0);
        assert_eq!(figures.blocks(), (1, 0));
        figures.block_ends(1.25);
        figures.block_ends(1.5);
        assert_eq!(figures.blocks(), (1, milliseconds(250)));
    }

    #[test]
    fn a_million_looks_at_a_callback_of_six_hours() {
        let (figures, long) = (Figures::default(), 21_600.0);
        for look in 0..=1_000_000 {
            let _ = figures.looked(1.0 + long * f64::from(look) / 1e6);
        }
        assert_eq!(figures.aside(10, 1, || 9.0), Some(1));
        assert_eq!(figures.aside(11, 0, || 1.0 + long), None);
        let counts = figures.lag.counts();
        let hours = counts.sum as f64 / counts.count() as f64 / 3600e9;
        assert!((2.99..3.01).contains(&hours), "{hours}");
    }

    #[test]
    fn every_look_at_a_long_callback_counts() {
        let figures = Figures::default();
        assert!(figures.looked(1.0));
        assert!((1..=100).all(|look| !figures.looked(1.0 + f64::from(look) / 100.0)));
        assert_eq!(figures.aside(10, 1, || 9.0), Some(1));
        assert!(figures.looked(2.0), "the next measurement");
        assert_eq!(figures.aside(11, 1, || 2.0), Some(1));
        let counts = figures.lag.counts();
        assert_eq!((counts.count(), counts.max), (101, milliseconds(1000)));
        // 1 s, 0.99 s, … 0: half a second on the average
        assert!(
            counts.sum.abs_diff(101 * milliseconds(500)) < milliseconds(1),
            "{}",
            counts.sum
        );
    }
}
