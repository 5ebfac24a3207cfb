//! A ring and what its subjects are called.
//!
//! Rules
//! 1. A task is named when it is first seen and let go when it has ended; its address may then be another's. So the
//!    names of tasks that have ended are kept with the number of their last record, as many as there is room for.
//! 2. The lock is for names, not for events; a reader holds it while it copies. The loop never waits for it: what it finds
//!    locked it says later. (And so a child, forked while somebody reads, does not wait for ever.)

use super::Event;
use super::ring::{Record, Ring, unwrap_ticks};
use crate::sys::ticks::{Moment, Scale, Ticks};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// How many tasks that have ended keep their name.
const ENDED: usize = 16 * 1024;
/// How many different texts there are room for.
const TEXTS: usize = 16 * 1024;

/// The number of a text: of a callback's name, a coroutine's, or one that the program has given a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(u32);

impl Name {
    /// As the subject of [`Event::Callback`].
    #[inline(always)]
    #[must_use]
    pub fn subject(self) -> u64 {
        u64::from(self.0)
    }
}

/// What a task is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The number of `Task-N`, for a task without a name of its own.
    pub number: u64,
    /// The name that the program has given it.
    pub name: Option<Name>,
    /// What it runs.
    pub coroutine: Name,
}

/// Addresses are spread well enough by one multiplication.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }
}

#[derive(Clone, Debug, Default)]
struct Names {
    alive: HashMap<u64, Label, BuildHasherDefault<Spread>>,
    /// The number of its last record, its address, its label; the numbers grow.
    ended: VecDeque<(u64, u64, Label)>,
    texts: Vec<String>,
}

/// A change of the names.
#[derive(Debug)]
enum Change {
    Text(String),
    Begins(u64, Label),
    /// The number of the last record, and the address.
    Ends(u64, u64),
}

impl Names {
    fn change(&mut self, change: Change) {
        match change {
            Change::Text(text) => self.texts.push(text),
            Change::Begins(task, label) => {
                self.alive.insert(task, label);
            }
            Change::Ends(number, task) => {
                if let Some(label) = self.alive.remove(&task) {
                    if self.ended.len() == ENDED {
                        self.ended.pop_front();
                    }
                    self.ended.push_back((number, task, label));
                }
            }
        }
    }
}

/// What one loop has done last, for whoever wants to know.
#[derive(Debug)]
pub struct Recording {
    ring: Ring,
    source: Ticks,
    began: Moment,
    names: Mutex<Names>,
}

impl Recording {
    /// How many events have been written, those that are lost included.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.ring.written()
    }

    /// What has been written up to now. Any thread.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (lost, records) = self.ring.copy();
        let until = Moment::now(self.source);
        // (nothing panics while it is held; and names that are half there would be better than none)
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let scale = Scale::new(self.began, until);
        let times = records
            .iter()
            .map(|record| scale.nanoseconds(unwrap_ticks(record.ticks, until.ticks)))
            .collect();
        Snapshot {
            first: lost,
            wanted: 0,
            records,
            times,
            until: until.nanoseconds,
            names,
        }
    }
}

/// The loop's side of a recording.
#[derive(Debug)]
pub struct Recorder {
    recording: Arc<Recording>,
    /// Rule 2: what others do not know yet.
    pending: RefCell<Vec<Change>>,
    texts: Cell<usize>,
}

impl Recorder {
    /// An empty recording of `bytes` (as in [`Ring::new`]), that begins now.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let source = Ticks::best();
        Self {
            recording: Arc::new(Recording {
                ring: Ring::new(bytes),
                source,
                began: Moment::now(source),
                names: Mutex::default(),
            }),
            pending: RefCell::default(),
            texts: Cell::new(0),
        }
    }

    /// For the others.
    #[must_use]
    pub fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// Writes an event that happens now.
    #[inline(always)]
    pub fn note(&self, event: Event, subject: u64) {
        let recording = &self.recording;
        recording.ring.push(recording.source.now(), event, subject);
    }

    /// Gives a text its number. If there are too many, all the rest share one.
    pub fn text(&self, text: &str) -> Name {
        let number = self.texts.get().min(TEXTS);
        if self.texts.get() <= TEXTS {
            self.texts.set(number + 1);
            let text = if number == TEXTS {
                "(one of too many names)"
            } else {
                text
            };
            self.change(Change::Text(text.to_owned()));
        }
        Name(number as u32)
    }

    /// Says what the task at an address is called.
    pub fn begins(&self, task: u64, label: Label) {
        self.change(Change::Begins(task, label));
    }

    /// The task has ended: writes it.
    pub fn ends(&self, task: u64, event: Event) {
        let number = self.recording.written();
        self.note(event, task);
        self.change(Change::Ends(number, task));
    }

    fn change(&self, change: Change) {
        let mut names = match self.recording.names.try_lock() {
            Ok(names) => names,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return self.pending.borrow_mut().push(change),
        };
        let mut pending = self.pending.borrow_mut();
        if !pending.is_empty() {
            for earlier in pending.drain(..) {
                names.change(earlier);
            }
        }
        names.change(change);
    }
}

/// A [`Recording`] at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The number of the first event that is in it, and that of the first that was wanted.
    first: u64,
    wanted: u64,
    records: Vec<Record>,
    times: Vec<u64>,
    until: u64,
    names: Names,
}

impl Snapshot {
    /// Only what was recorded after so many events ([`Recording::written`]).
    #[must_use]
    pub fn after(mut self, events: u64) -> Self {
        let before = events.saturating_sub(self.first).min(self.records.len() as u64);
        self.records.drain(..before as usize);
        self.times.drain(..before as usize);
        self.first += before;
        self.wanted = events;
        self
    }

    /// How many of the events that were wanted are not in it any more: exactly.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.first.saturating_sub(self.wanted)
    }

    /// How many events are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// When it was taken, in nanoseconds of the monotonic clock.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.until
    }

    /// The events, oldest first: number, time in nanoseconds of the monotonic clock, record.
    pub fn events(&self) -> impl Iterator<Item = (u64, u64, Record)> + '_ {
        let events = self.times.iter().zip(&self.records);
        (self.first..)
            .zip(events)
            .map(|(number, (&time, &record))| (number, time, record))
    }

    /// What the task of record `number` is called, if that is known.
    #[must_use]
    pub fn label(&self, task: u64, number: u64) -> Option<Label> {
        let ended = &self.names.ended;
        let first = ended.partition_point(|&(last, ..)| last < number);
        let mut candidates = ended.range(first..);
        match candidates.find(|&&(_, address, _)| address == task) {
            Some(&(.., label)) => Some(label),
            None => self.names.alive.get(&task).copied(),
        }
    }

    /// The text of a number.
    #[must_use]
    pub fn text(&self, name: Name) -> &str {
        self.names.texts.get(name.0 as usize).map_or("?", String::as_str)
    }

    /// The name of a callback.
    #[must_use]
    pub fn callback(&self, subject: u64) -> &str {
        self.text(Name(u32::try_from(subject).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn label(number: u64, coroutine: Name) -> Label {
        Label {
            number,
            name: None,
            coroutine,
        }
    }

    #[test]
    fn an_address_that_is_used_again_is_another_task() {
        let recording = Recorder::new(4096);
        let work = recording.text("work");
        for number in 1..=3 {
            recording.begins(0x10, label(number, work));
            recording.note(Event::Step, 0x10);
            if number < 3 {
                recording.ends(0x10, Event::Returned);
            }
        }
        let snapshot = recording.recording().snapshot();
        let numbers: Vec<u64> = snapshot
            .events()
            .map(|(number, _, record)| snapshot.label(record.subject, number).unwrap().number)
            .collect();
        assert_eq!(numbers, [1, 1, 2, 2, 3]);
        assert_eq!(snapshot.text(work), "work");
        assert_eq!(snapshot.label(0x20, 0), None);
    }

    #[test]
    fn times_grow_and_end_before_the_snapshot() {
        let recording = Recorder::new(4096);
        for subject in 0..1000 {
            recording.note(Event::Ready, subject);
        }
        let snapshot = recording.recording().snapshot();
        assert_eq!((snapshot.lost(), snapshot.len()), (745, 255));
        let times: Vec<u64> = snapshot.events().map(|(_, time, _)| time).collect();
        assert!(times.is_sorted());
        assert!(times.last().unwrap() <= &snapshot.until());
    }

    #[test]
    fn what_was_before_can_be_left_out() {
        let recording = Recorder::new(4096);
        for subject in 0..300 {
            recording.note(Event::Ready, subject);
        }
        let snapshot = recording.recording().snapshot();
        for (after, first, lost) in [
            (0, 45, 45),
            (40, 45, 5),
            (45, 45, 0),
            (100, 100, 0),
            (300, 300, 0),
        ] {
            let some = snapshot.clone().after(after);
            assert_eq!((some.lost(), some.len() as u64), (lost, 300 - first), "{after}");
            let events: Vec<(u64, u64)> = some
                .events()
                .map(|(number, _, record)| (number, record.subject))
                .collect();
            assert_eq!(
                events,
                (first..300).map(|number| (number, number)).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn names_stay_bounded() {
        let recording = Recorder::new(4096);
        let first = recording.text("first");
        let texts: Vec<Name> = (0..TEXTS + 10)
            .map(|number| recording.text(&number.to_string()))
            .collect();
        let snapshot = recording.recording().snapshot();
        assert_eq!(snapshot.text(first), "first");
        assert_eq!(snapshot.text(*texts.last().unwrap()), "(one of too many names)");
        assert_eq!(snapshot.names.texts.len(), TEXTS + 1);
        for number in 0..ENDED as u64 + 10 {
            recording.begins(number, label(number, first));
            recording.ends(number, Event::Returned);
        }
        assert_eq!(recording.recording().snapshot().names.ended.len(), ENDED);
    }

    #[test]
    fn the_loop_does_not_wait_for_a_reader() {
        let recorder = Recorder::new(4096);
        let reading = recorder.recording().names.lock().unwrap();
        let work = recorder.text("work");
        recorder.begins(0x10, label(1, work));
        recorder.note(Event::Step, 0x10);
        drop(reading);
        assert_eq!(recorder.recording().snapshot().label(0x10, 0), None);
        let more = recorder.text("more");
        let snapshot = recorder.recording().snapshot();
        assert_eq!(snapshot.label(0x10, 0), Some(label(1, work)));
        assert_eq!((snapshot.text(work), snapshot.text(more)), ("work", "more"));
    }
}
