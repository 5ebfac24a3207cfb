//! A ring of events that one thread writes and any thread copies, without a lock.
//!
//! Rules
//! 1. Record `n` lies in slot `n mod capacity`. `head` says how many have been written.
//! 2. The writer changes a slot before it says so in `head`, and the fence in front keeps the two in the order in which
//!    the records before have been announced. So whoever reads a word of record `n` and then `head` finds at least `n`.
//! 3. A reader copies first and looks at `head` again then: what has been overwritten meanwhile it leaves out. One slot is
//!    always left out, as the writer may just be in it. Nothing that is kept is torn.

use super::Event;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// How much of a time goes into a record: the rest wraps around, at 3 GHz after nine months.
const TIME_BITS: u32 = 56;

/// One event: sixteen bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The ticks when it was written, modulo 2⁵⁶.
    pub ticks: u64,
    /// What it is.
    pub event: Event,
    /// Whom it is about: [`Event`] says what that means.
    pub subject: u64,
}

/// The last events.
#[derive(Debug)]
pub struct Ring {
    slots: Box<[[AtomicU64; 2]]>,
    head: AtomicU64,
}

impl Ring {
    /// A ring of `bytes`, rounded up to a power of two, of at least one page.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(4096, 1 << 30).next_power_of_two();
        let slots = std::iter::repeat_with(|| [AtomicU64::new(0), AtomicU64::new(0)]);
        Self {
            slots: slots.take(bytes / size_of::<[AtomicU64; 2]>()).collect(),
            head: AtomicU64::new(0),
        }
    }

    /// How many records it keeps.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len() - 1
    }

    /// How many records have been written, those that are lost included.
    #[inline]
    #[must_use]
    pub fn written(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    /// Writes a record. One thread only.
    #[inline(always)]
    pub fn push(&self, ticks: u64, event: Event, subject: u64) {
        let head = self.head.load(Ordering::Relaxed);
        // (the length is a power of two, which the compiler does not know: no division, and no bound to check)
        let index = (head as usize) & (self.slots.len() - 1);
        if let Some(slot) = self.slots.get(index) {
            fence(Ordering::Release);
            slot[0].store(ticks << (u64::BITS - TIME_BITS) | event as u64, Ordering::Relaxed);
            slot[1].store(subject, Ordering::Relaxed);
            self.head.store(head + 1, Ordering::Release);
        }
    }

    /// The records that are there, oldest first, and the number of the first: so many have been lost before it.
    #[must_use]
    pub fn copy(&self) -> (u64, Vec<Record>) {
        let (slots, capacity) = (self.slots.len() as u64, self.capacity() as u64);
        let end = self.head.load(Ordering::Acquire);
        let start = end.saturating_sub(capacity);
        let words: Vec<(u64, u64)> = (start..end)
            .filter_map(|number| self.slots.get((number & (slots - 1)) as usize))
            .map(|slot| (slot[0].load(Ordering::Relaxed), slot[1].load(Ordering::Relaxed)))
            .collect();
        fence(Ordering::Acquire);
        let now = self.head.load(Ordering::Relaxed);
        let safe = now.saturating_sub(capacity).clamp(start, end);
        let records = words
            .into_iter()
            .skip((safe - start) as usize)
            .filter_map(|(word, subject)| {
                Some(Record {
                    ticks: word >> (u64::BITS - TIME_BITS),
                    event: Event::from_byte(word as u8)?,
                    subject,
                })
            })
            .collect();
        (safe, records)
    }
}

/// The full time of a record, given a time that is less than 2⁵⁵ ticks away.
#[must_use]
pub(super) fn unwrap_ticks(ticks: u64, near: u64) -> u64 {
    let shift = u64::BITS - TIME_BITS;
    let difference = (ticks.wrapping_sub(near) << shift) as i64 >> shift;
    near.wrapping_add_signed(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_the_lost_ones_counted() {
        let ring = Ring::new(1);
        assert_eq!(ring.capacity(), 255);
        assert_eq!(ring.copy(), (0, vec![]));
        for number in 0..1000 {
            ring.push(number, Event::Step, number * 7);
        }
        let (lost, records) = ring.copy();
        assert_eq!((lost, records.len(), ring.written()), (745, 255, 1000));
        for (number, record) in (lost..).zip(records) {
            assert_eq!((record.ticks, record.subject), (number, number * 7));
        }
    }

    #[test]
    fn a_time_that_has_wrapped_around_is_found_again() {
        for (time, near) in [
            (5, 9),
            (9, 5),
            ((1 << 60) + 3, (1 << 60) + 1000),
            ((1 << 57) - 2, 1 << 57),
            (1 << 57, (1 << 57) - 2),
            (u64::MAX, 3),
        ] {
            let kept = time & ((1 << TIME_BITS) - 1);
            assert_eq!(unwrap_ticks(kept, near), time, "{time} {near}");
        }
    }

    #[test]
    fn a_copy_is_never_torn_while_the_ring_turns() {
        let ring = Ring::new(4096);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 0..3_000_000_u64 {
                    ring.push(number, Event::Ready, number);
                }
            });
            let mut copies = 0;
            while !writer.is_finished() {
                let (lost, records) = ring.copy();
                for (number, record) in (lost..).zip(&records) {
                    assert_eq!((record.ticks, record.subject), (number, number));
                }
                copies += usize::from(!records.is_empty());
            }
            assert!(copies > 0);
        });
        assert_eq!(ring.copy().0, 3_000_000 - 255);
    }
}
