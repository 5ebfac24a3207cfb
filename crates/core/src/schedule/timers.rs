//! What runs at a given time: `BaseEventLoop._scheduled` and its `_timer_cancelled_count`.
//!
//! Owns the order of deadlines: the earliest first, and among equal ones the first that was pushed.
//! (asyncio's `heapq` promises nothing about equal deadlines; to keep their order is what everybody expects.)
//! Must never drop an item while the heap is inconsistent, never lose one, and never panic, whatever the
//! deadline.
//!
//! Cancellation is lazy, as in asyncio: a cancelled item stays where it is until it comes to the top, or
//! until so many have gathered that a [purge](Timers::purge) pays. The heap does not know which items are
//! cancelled, only how many: the owner tells it.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

/// Fewer timers than this are never purged: asyncio's `_MIN_SCHEDULED_TIMER_HANDLES`.
const MIN_SCHEDULED: usize = 100;

/// Items by deadline: a queue for those that come in order, a heap for the others.
///
/// Most programs use few different delays, and then each deadline is later than the one before: such an item
/// goes to the end of the `lane`, and is taken from its front, in constant time. Whatever comes out of order
/// goes into the heap. (The standard library's heap does it: a 4-ary one in safe code took 13 to 35 % longer
/// for ten thousand timers.)
#[derive(Clone, Debug)]
pub struct Timers<T> {
    /// Ascending by rank.
    lane: VecDeque<Entry<T>>,
    heap: BinaryHeap<Entry<T>>,
    /// The next [`Entry::seq`]. At one push a nanosecond it lasts 580 years.
    seq: u64,
    cancelled: usize,
}

impl<T> Timers<T> {
    /// No timers, and no memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lane: VecDeque::new(),
            heap: BinaryHeap::new(),
            seq: 0,
            cancelled: 0,
        }
    }

    /// Adds `item` with the deadline `when`: `call_at`.
    ///
    /// Any number will do: the infinities sort where one expects them, and NaN, which asyncio's heap would
    /// let wander, before all others, so that it runs at once and is not lost.
    #[inline]
    pub fn push(&mut self, when: f64, item: T) {
        let seq = self.seq;
        self.seq += 1;
        let entry = Entry {
            key: Key::new(when),
            seq,
            item,
        };
        if self.lane.back().is_none_or(|last| last.key <= entry.key) {
            self.lane.push_back(entry);
        } else {
            self.heap.push(entry);
        }
    }

    /// The first entry, and whether it is in the lane.
    #[inline]
    fn first(&self) -> Option<(&Entry<T>, bool)> {
        match (self.lane.front(), self.heap.peek()) {
            (Some(lane), Some(heap)) if heap.rank() < lane.rank() => Some((heap, false)),
            (Some(lane), _) => Some((lane, true)),
            (None, Some(heap)) => Some((heap, false)),
            (None, None) => None,
        }
    }

    /// The first deadline.
    #[inline]
    #[must_use]
    pub fn peek_when(&self) -> Option<f64> {
        self.first().map(|(entry, _)| entry.key.when())
    }

    /// The item with the first deadline.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<&T> {
        self.first().map(|(entry, _)| &entry.item)
    }

    /// Takes the first item and its deadline.
    #[inline]
    pub fn pop(&mut self) -> Option<(f64, T)> {
        let (_, in_lane) = self.first()?;
        let entry = if in_lane {
            self.lane.pop_front()
        } else {
            self.heap.pop()
        };
        entry.map(|entry| (entry.key.when(), entry.item))
    }

    /// Takes the first item if its deadline is before `end`, strictly.
    ///
    /// With `end = now + RESOLUTION`, this is the loop at the end of asyncio's `_run_once`.
    #[inline]
    pub fn pop_due(&mut self, end: f64) -> Option<(f64, T)> {
        if self.first()?.0.key < Key::new(end) {
            self.pop()
        } else {
            None
        }
    }

    /// Counts an item that was cancelled and is still here: `_timer_handle_cancelled`.
    #[inline]
    pub fn note_cancelled(&mut self) {
        self.cancelled += 1;
    }

    /// Discounts a cancelled item that was popped.
    #[inline]
    pub fn note_uncounted(&mut self) {
        // Saturating, because a purge in between has set the count to zero already.
        self.cancelled = self.cancelled.saturating_sub(1);
    }

    /// How many items are counted as cancelled.
    #[inline]
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.cancelled
    }

    /// Whether so many are cancelled that a [purge](Timers::purge) pays: more than half of more than a
    /// hundred.
    #[inline]
    #[must_use]
    pub fn should_purge(&self) -> bool {
        self.len() > MIN_SCHEDULED && self.cancelled > self.len() / 2
    }

    /// Takes out the items that `is_cancelled` says are, and counts none as cancelled any more.
    ///
    /// The order of the others does not change. The removed ones come back, in no particular order, instead
    /// of being dropped here: a destructor may run user code, and that may add to this very heap.
    #[must_use = "dropping the items runs their destructors: do it where user code may run"]
    pub fn purge(&mut self, mut is_cancelled: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::with_capacity(self.cancelled);
        let mut lane = VecDeque::new();
        for entry in std::mem::take(&mut self.lane) {
            if is_cancelled(&entry.item) {
                removed.push(entry.item);
            } else {
                lane.push_back(entry);
            }
        }
        let mut heap = Vec::new();
        for entry in std::mem::take(&mut self.heap) {
            if is_cancelled(&entry.item) {
                removed.push(entry.item);
            } else {
                heap.push(entry);
            }
        }
        self.lane = lane;
        self.heap = heap.into();
        self.cancelled = 0;
        removed
    }

    /// How many items wait, the cancelled ones included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.lane.len() + self.heap.len()
    }

    /// Whether nothing waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lane.is_empty() && self.heap.is_empty()
    }

    /// The items, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.lane.iter().chain(&self.heap).map(|entry| &entry.item)
    }

    /// Takes all items, in no particular order, and counts none as cancelled any more.
    #[must_use = "dropping the items runs their destructors: do it where user code may run"]
    pub fn drain(&mut self) -> Vec<T> {
        self.cancelled = 0;
        let lane = std::mem::take(&mut self.lane).into_iter();
        let heap = std::mem::take(&mut self.heap).into_iter();
        lane.chain(heap).map(|entry| entry.item).collect()
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A deadline as an integer that sorts as the deadlines do.
///
/// To compare integers is cheaper than `f64::total_cmp`, which would also put NaN and -0.0 in the wrong
/// places.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key(u64);

impl Key {
    const SIGN: u64 = 1 << 63;
    /// Below the key of -∞, which is `!(-∞).to_bits()`.
    const NAN: Self = Self(0);

    #[inline]
    fn new(when: f64) -> Self {
        if when.is_nan() {
            return Self::NAN;
        }
        // Adding zero turns -0.0 into 0.0, which it equals.
        let bits = (when + 0.0).to_bits();
        // IEEE 754: the bits of positive numbers sort as integers do, those of negative ones the other way
        // round.
        Self(if bits & Self::SIGN == 0 {
            bits | Self::SIGN
        } else {
            !bits
        })
    }

    #[inline]
    fn when(self) -> f64 {
        if self == Self::NAN {
            return f64::NAN;
        }
        f64::from_bits(if self.0 & Self::SIGN == 0 {
            !self.0
        } else {
            self.0 & !Self::SIGN
        })
    }
}

/// An item with its place in the order.
#[derive(Clone, Debug)]
struct Entry<T> {
    key: Key,
    /// The number of the push: it makes equal deadlines first in, first out.
    seq: u64,
    item: T,
}

impl<T> Entry<T> {
    /// Both parts as one number, which compares without a branch.
    #[inline]
    fn rank(&self) -> u128 {
        u128::from(self.key.0) << 64 | u128::from(self.seq)
    }
}

// Reversed: the standard library's heap gives the greatest first.
impl<T> Ord for Entry<T> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl<T> PartialOrd for Entry<T> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<T> Eq for Entry<T> {}
