//! A counter that is read in a few nanoseconds, to put a time on many small events.
//!
//! Owns the reading of the processor's counter, and the answer to whether it is one that all cores share and that never
//! stops. Where it is not, the monotonic clock counts, in nanoseconds.
//! Must never be compared with a time but by [`Scale`].
#![allow(unsafe_code, reason = "the processor's counter has no safe name")]

use std::sync::OnceLock;

use crate::clock::{Clock, Monotonic};

/// A source of ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticks {
    /// The processor's counter.
    Processor,
    /// `CLOCK_MONOTONIC`, in nanoseconds: three times as slow.
    Clock,
}

impl Ticks {
    /// The fastest that this machine has.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Ticks> = OnceLock::new();
        *BEST.get_or_init(|| if is_steady() { Self::Processor } else { Self::Clock })
    }

    /// The count now.
    #[inline(always)]
    #[must_use]
    pub fn now(self) -> u64 {
        match self {
            Self::Processor => counter(),
            Self::Clock => nanoseconds(),
        }
    }
}

/// The monotonic clock, in nanoseconds.
#[must_use]
pub fn nanoseconds() -> u64 {
    // (exact to 2⁻⁵³ of the time since the machine's start: a few nanoseconds after a month)
    (Monotonic.now() * 1e9) as u64
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn counter() -> u64 {
    nanoseconds()
}

/// Whether the kernel itself trusts the counter as its clock: then it is the same on all cores, and never stops.
fn is_steady() -> bool {
    cfg!(target_arch = "x86_64")
        && std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .is_ok_and(|source| source.trim() == "tsc")
}

/// From ticks to nanoseconds of the monotonic clock: what both said at two moments, and a straight line.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    ticks: u64,
    nanoseconds: u64,
    rate: f64,
}

/// What both clocks said at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The count.
    pub ticks: u64,
    /// The time, in nanoseconds.
    pub nanoseconds: u64,
}

impl Moment {
    /// Now: of a few attempts the one in which the least has come in between.
    #[must_use]
    pub fn now(source: Ticks) -> Self {
        let attempt = || {
            let (before, nanoseconds, after) = (source.now(), nanoseconds(), source.now());
            let between = after.saturating_sub(before);
            let ticks = before + between / 2;
            (between, Self { ticks, nanoseconds })
        };
        let attempts = [attempt(), attempt(), attempt()];
        let [first, rest @ ..] = attempts;
        rest.into_iter()
            .fold(first, |best, next| if next.0 < best.0 { next } else { best })
            .1
    }
}

impl Scale {
    /// The line through two moments; if they are the same, a tick counts as a nanosecond.
    #[must_use]
    pub fn new(from: Moment, to: Moment) -> Self {
        let ticks = to.ticks.saturating_sub(from.ticks);
        let nanoseconds = to.nanoseconds.saturating_sub(from.nanoseconds);
        Self {
            ticks: from.ticks,
            nanoseconds: from.nanoseconds,
            rate: if ticks == 0 {
                1.0
            } else {
                nanoseconds as f64 / ticks as f64
            },
        }
    }

    /// When the count was `ticks`.
    #[must_use]
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        let difference = ticks.wrapping_sub(self.ticks) as i64;
        let nanoseconds = (difference as f64 * self.rate) as i64;
        self.nanoseconds.saturating_add_signed(nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_the_time_that_the_clock_had() {
        for source in [Ticks::best(), Ticks::Clock] {
            let from = Moment::now(source);
            let mut between = from;
            while between.nanoseconds < from.nanoseconds + 2_000_000 {
                between = Moment::now(source);
            }
            let mut to = between;
            while to.nanoseconds < from.nanoseconds + 4_000_000 {
                to = Moment::now(source);
            }
            let found = Scale::new(from, to).nanoseconds(between.ticks);
            // (the thread may have been interrupted in each attempt at a moment)
            assert!(
                found.abs_diff(between.nanoseconds) < 2_000_000,
                "{source:?}: {found} {between:?}"
            );
        }
    }

    #[test]
    fn a_moment_and_itself_make_a_scale() {
        let moment = Moment {
            ticks: 7,
            nanoseconds: 1000,
        };
        let scale = Scale::new(moment, moment);
        assert_eq!((scale.nanoseconds(9), scale.nanoseconds(5)), (1002, 998));
    }
}
