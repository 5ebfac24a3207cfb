//! The time of the loop: `loop.time()`, which is `time.monotonic()`.
//!
//! Owns the only reading of the system's clock in this crate, and a clock for tests beside it, so that time
//! is a seam: a virtual clock replaces [`Monotonic`] at no cost in production.
//! Must never let a loop see wall time (it is for reports alone), and never answer with a value that Python's
//! `time.monotonic()` would not give.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::time;

/// The resolution of [`Monotonic`] in seconds: `time.get_clock_info("monotonic").resolution`.
///
/// asyncio calls it `_clock_resolution` and runs every timer whose deadline is before `now + RESOLUTION`.
pub const RESOLUTION: f64 = 1e-9;

/// The longest that a loop blocks at a stretch: asyncio's `MAXIMUM_SELECT_TIMEOUT`, one day.
const MAXIMUM_TIMEOUT: f64 = 24.0 * 3600.0;

/// A source of monotonic time, in seconds from an arbitrary origin.
pub trait Clock {
    /// The time now: never less than an earlier answer.
    fn now(&self) -> f64;
}

/// The system's `CLOCK_MONOTONIC`, read through the vDSO.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monotonic;

impl Clock for Monotonic {
    #[inline]
    fn now(&self) -> f64 {
        // (there is such a clock on every Linux)
        let (seconds, nanoseconds) = time::read(time::MONOTONIC).unwrap_or_default();
        // CPython goes through an integer count of nanoseconds too. Adding the seconds and the nanoseconds as
        // floats would round differently in the last bit, and `loop.time()` would then step back behind
        // `time.monotonic()`.
        (seconds * 1_000_000_000 + nanoseconds) as f64 / 1e9
    }
}

/// The time since 1970 in UTC, for the head of a report. Nothing is scheduled by it.
#[must_use]
pub fn wall_time() -> Duration {
    let (seconds, nanoseconds) = time::read(time::REALTIME).unwrap_or_default();
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or(0))
}

/// The time of [`Monotonic`] at the kernel's last tick: a few milliseconds ago at most. It costs a fifth.
#[must_use]
#[inline]
pub fn coarse_now() -> f64 {
    let (seconds, nanoseconds) = time::read(time::MONOTONIC_COARSE).unwrap_or_default();
    seconds as f64 + nanoseconds as f64 / 1e9
}

/// A clock that moves only when told, for tests.
///
/// It may be shared between threads; clones are made with an [`Arc`] around it.
#[derive(Debug, Default)]
pub struct TestClock {
    /// The bits of the `f64`: there is no atomic float.
    bits: AtomicU64,
}

impl TestClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: f64) -> Self {
        Self {
            bits: AtomicU64::new(now.to_bits()),
        }
    }

    /// Moves the clock forward by `seconds`.
    pub fn advance(&self, seconds: f64) {
        self.set(self.now() + seconds);
    }

    /// Moves the clock to `now`. Going back is the test's own responsibility.
    pub fn set(&self, now: f64) {
        self.bits.store(now.to_bits(), Ordering::Release);
    }
}

impl Clock for TestClock {
    fn now(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Acquire))
    }
}

impl<C: Clock + ?Sized> Clock for &C {
    #[inline]
    fn now(&self) -> f64 {
        (**self).now()
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    #[inline]
    fn now(&self) -> f64 {
        (**self).now()
    }
}

/// How long to block for a deadline: `min(max(0, when - now), MAXIMUM_SELECT_TIMEOUT)`, as asyncio's
/// `_run_once` says.
///
/// Rounded up to the nanosecond, so that the deadline has passed when the wait is over. A NaN does not block.
#[inline]
#[must_use]
pub fn timeout_until(when: f64, now: f64) -> Duration {
    let seconds = when - now;
    if seconds > 0.0 {
        // A day is 8.64e13 ns: far from the limits of u64, and exact in an f64.
        Duration::from_nanos((seconds.min(MAXIMUM_TIMEOUT) * 1e9).ceil() as u64)
    } else {
        Duration::ZERO
    }
}
