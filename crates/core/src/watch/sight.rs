//! What a watcher makes of a pulse: is this still the callback that was running at the last look, and since when?
//!
//! Rules
//! 1. The count of entries has not changed and the loop has not slept: one and the same callback, or the work between
//!    two of them, has been running all the time.
//! 2. It began when the loop woke up or began a turn, if it is the first since then. Else nobody has noted when: it
//!    counts from the first look that has seen it, which is never too early. So that it is not too late either, who has
//!    not looked for long, as the loop slept, looks often at first.
//! 3. Nothing counts from before the `floor`: that is when the watcher itself has come to, after the whole process had
//!    been stopped.
//! 4. A block is told of when its age is the threshold, twice that, four times, and so on.

use std::sync::atomic::{AtomicU64, Ordering};

use super::pulse::{Pulse, State};

/// How many looks there are in the time of the threshold. Each interrupts whoever has the core, so what is on by default
/// costs in proportion.
const LOOKS: f64 = 8.0;
/// Never less between two looks, in seconds; the first ones after a long sleep come so fast.
const SHORTEST: f64 = 0.001;
/// What of a period has to be over: timers are not exact.
const ALMOST: f64 = 0.9;

/// A callback that has been running for too long, and still is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Which entry it is: [`Pulse::entries`].
    pub entry: u64,
    /// Since when, in the time of [`Monotonic`](crate::Monotonic).
    pub since: f64,
    /// For how long, in seconds.
    pub age: f64,
    /// How often it has been told of, with this one.
    pub sample: u32,
    /// It is no callback: the loop has been woken, and is not let go on ([`State::Held`]).
    pub held: bool,
}

/// What a look has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    /// The loop sleeps, and slept all the time since the last look; or it does not run.
    Quiet,
    /// Nothing to tell of. The next look is due then.
    Again(f64),
    /// Rule 4. The next look is due then.
    Blocked(Block, f64),
}

/// Since when the entry runs that a watcher has seen last, for other threads. One thread writes.
#[derive(Debug, Default)]
pub struct Seen {
    /// Its number and one more; 0: being written.
    entry: AtomicU64,
    /// As the bits of a float.
    since: AtomicU64,
}

impl Seen {
    /// The entry has been running since then.
    pub fn note(&self, entry: u64, since: f64) {
        let entry = entry.wrapping_add(1);
        self.entry.store(0, Ordering::Relaxed);
        self.since.store(since.to_bits(), Ordering::Release);
        self.entry.store(entry, Ordering::Release);
    }

    /// Since when this entry runs, if it has been seen. Any thread.
    #[must_use]
    pub fn since(&self, entry: u64) -> Option<f64> {
        let wanted = entry.wrapping_add(1);
        let is_it = self.entry.load(Ordering::Acquire) == wanted;
        let since = self.since.load(Ordering::Acquire);
        (is_it && self.entry.load(Ordering::Relaxed) == wanted).then(|| f64::from_bits(since))
    }
}

/// What is remembered of the looks before.
#[derive(Debug, Default)]
pub struct Sight {
    last_look: f64,
    /// The sleep that has been seen: the number of entries, and the last waking.
    asleep: Option<(u64, u64)>,
    /// The entry that has been seen running, and whether the loop was held.
    running: Option<(u64, bool)>,
    since: f64,
    samples: u32,
    /// When the sleep was first seen.
    asleep_since: f64,
    /// When to look again, while looks come fast; 0 during a long sleep.
    pace: f64,
    /// The next look is due because there may be something to tell then, or looks come fast.
    matters: bool,
}

impl Sight {
    /// The entry that was running at the last look (or in whose place the loop was held), and since when.
    #[must_use]
    pub fn running(&self) -> Option<(u64, f64)> {
        self.running.map(|(entry, _)| (entry, self.since))
    }

    /// Has the next look to be in time? If not, it may be some milliseconds late.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.matters
    }

    /// Looks. `threshold` is in seconds, and more than 0.
    pub fn look(&mut self, pulse: &Pulse, now: f64, floor: f64, threshold: f64) -> Look {
        let period = (threshold / LOOKS).max(SHORTEST);
        let (state, entry, (woke, woke_at)) = (pulse.state(), pulse.entries(), pulse.woke());
        let last_look = std::mem::replace(&mut self.last_look, now);
        self.matters = false;
        let held = match state {
            State::Stopped => {
                (self.asleep, self.running) = (None, None);
                self.pace = 0.0;
                return Look::Quiet;
            }
            State::Asleep => {
                self.running = None;
                let sleep = Some((entry, woke.to_bits()));
                if std::mem::replace(&mut self.asleep, sleep) != sleep {
                    self.asleep_since = now;
                } else if now >= self.asleep_since + period * ALMOST {
                    self.pace = 0.0;
                    return Look::Quiet;
                }
                return Look::Again(self.asleep_since + period);
            }
            State::Running => false,
            State::Held => true,
        };
        self.asleep = None;
        self.pace = (self.pace * 2.0).clamp(SHORTEST, period);
        let next_look = now + self.pace;
        if self.running != Some((entry, held)) {
            self.running = Some((entry, held));
            self.samples = 0;
            let is_first = held || entry <= woke_at + 1;
            self.since = if is_first && woke > last_look { woke } else { now };
        }
        self.since = self.since.max(floor);
        let age = now - self.since;
        let due = |samples: u32| threshold * 2_f64.powi(samples.min(60) as i32);
        let is_due = age >= due(self.samples);
        self.samples += u32::from(is_due);
        let next_telling = self.since + due(self.samples);
        self.matters = next_telling <= next_look || self.pace < period;
        let next_look = next_look.min(next_telling);
        if !is_due {
            return Look::Again(next_look);
        }
        let block = Block {
            entry,
            since: self.since,
            age,
            sample: self.samples,
            held,
        };
        Look::Blocked(block, next_look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: f64 = 0.1;

    /// A loop, its watcher and the time.
    struct Scene {
        pulse: Pulse,
        sight: Sight,
        now: f64,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                pulse: Pulse::default(),
                sight: Sight::default(),
                now: 100.0,
            }
        }

        fn look_after(&mut self, seconds: f64) -> Look {
            self.look_with_floor(seconds, 0.0)
        }

        fn look_with_floor(&mut self, seconds: f64, floor: f64) -> Look {
            self.now += seconds;
            self.sight.look(&self.pulse, self.now, floor, THRESHOLD)
        }

        fn blocked_after(&mut self, seconds: f64) -> Block {
            match self.look_after(seconds) {
                Look::Blocked(block, _) => block,
                other => unreachable!("{other:?}"),
            }
        }

        /// The loop sleeps for a moment, and goes on.
        fn sleep(&mut self) {
            self.pulse.sleeps();
            self.now += 0.0001;
            self.pulse.wakes(self.now);
            self.pulse.goes_on(self.now);
        }
    }

    fn is_near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn a_loop_that_goes_on_is_no_block() {
        let mut scene = Scene::new();
        scene.pulse.runs(scene.now);
        for _ in 0..100 {
            let _ = scene.pulse.count();
            assert!(matches!(scene.look_after(0.09), Look::Again(_)));
        }
    }

    #[test]
    fn the_first_callback_since_waking_counts_from_there() {
        let mut scene = Scene::new();
        scene.sleep();
        let woke = scene.now;
        let _ = scene.pulse.count();
        // after a long sleep the looks come fast, then every eighth of the threshold, and then when it is due
        let mut dues = Vec::new();
        for now in [0.01, 0.011, 0.013, 0.017, 0.025, 0.0375, 0.09] {
            scene.now = woke + now;
            let Look::Again(due) = scene.look_after(0.0) else {
                unreachable!()
            };
            dues.push(((due - woke) * 1e4).round());
            assert_eq!(scene.sight.matters(), !(0.02..0.05).contains(&now));
        }
        assert_eq!(dues, [110.0, 130.0, 170.0, 250.0, 375.0, 500.0, 1000.0]);
        let block = scene.blocked_after(0.0101);
        assert!(is_near(block.since, woke) && block.age >= THRESHOLD);
        assert_eq!((block.sample, block.held), (1, false));
    }

    #[test]
    fn the_first_callback_of_all_counts_from_when_the_loop_began_to_run() {
        let mut scene = Scene::new();
        scene.pulse.runs(scene.now);
        let began = scene.now;
        let _ = scene.pulse.count();
        let block = scene.blocked_after(0.11);
        assert!(is_near(block.since, began));
    }

    #[test]
    fn a_later_callback_counts_from_the_first_look() {
        let mut scene = Scene::new();
        scene.sleep();
        for _ in 0..5 {
            let _ = scene.pulse.count();
        }
        let _ = scene.look_after(0.05);
        let first_look = scene.now;
        assert!(matches!(scene.look_after(0.06), Look::Again(_)));
        let block = scene.blocked_after(0.05);
        assert!(is_near(block.since, first_look));
        assert_eq!(block.entry, 5);
        assert_eq!(scene.sight.running(), Some((5, block.since)));
    }

    #[test]
    fn what_runs_after_one_that_was_seen_does_not_inherit_its_age() {
        let mut scene = Scene::new();
        scene.sleep();
        let _ = scene.look_after(0.09);
        let _ = scene.pulse.count(); // the first since waking, but the look before has not seen it
        assert!(matches!(scene.look_after(0.02), Look::Again(_)));
    }

    #[test]
    fn a_block_is_told_of_when_its_age_has_doubled() {
        let mut scene = Scene::new();
        scene.sleep();
        let mut ages = Vec::new();
        for _ in 0..200 {
            if let Look::Blocked(block, _) = scene.look_after(0.01) {
                ages.push((block.sample, (block.age * 100.0).round()));
            }
        }
        assert_eq!(ages, [(1, 10.0), (2, 20.0), (3, 40.0), (4, 80.0), (5, 160.0)]);
    }

    #[test]
    fn a_sleeper_is_quiet_at_the_second_look_and_a_new_sleep_is_another() {
        let mut scene = Scene::new();
        assert_eq!(scene.look_after(1.0), Look::Quiet, "it does not run");
        scene.pulse.runs(scene.now);
        scene.pulse.sleeps();
        let Look::Again(due) = scene.look_after(1.0) else {
            unreachable!()
        };
        assert!(is_near(due, scene.now + 0.0125));
        assert!(
            matches!(scene.look_after(0.001), Look::Again(_)),
            "too soon to tell"
        );
        assert_eq!(scene.look_after(0.0125), Look::Quiet);
        scene.sleep();
        scene.pulse.sleeps();
        assert!(matches!(scene.look_after(1.0), Look::Again(_)), "it was awake");
        scene.pulse.stops();
        assert_eq!(scene.look_after(1.0), Look::Quiet);
    }

    #[test]
    fn a_loop_that_is_not_let_go_on_is_held() {
        let mut scene = Scene::new();
        scene.pulse.sleeps();
        scene.now += 1.0;
        scene.pulse.wakes(scene.now);
        let block = scene.blocked_after(0.11);
        assert!(block.held);
        scene.pulse.goes_on(scene.now);
        assert!(matches!(scene.look_after(0.05), Look::Again(_)), "that is over");
        assert!(!scene.blocked_after(0.11).held);
    }

    #[test]
    fn what_is_seen_of_another_entry_is_not_told() {
        let seen = Seen::default();
        assert_eq!(seen.since(0), None);
        seen.note(7, 1.5);
        assert_eq!((seen.since(7), seen.since(8)), (Some(1.5), None));
    }

    #[test]
    fn nothing_counts_from_before_the_floor() {
        let mut scene = Scene::new();
        scene.sleep();
        let _ = scene.look_after(0.01);
        let floor = scene.now + 3600.0;
        assert!(matches!(scene.look_with_floor(3600.0, floor), Look::Again(_)));
        assert!(matches!(scene.look_with_floor(0.09, floor), Look::Again(_)));
        assert!(matches!(scene.look_with_floor(0.02, floor), Look::Blocked(..)));
    }
}
