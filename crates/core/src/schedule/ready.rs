//! What runs in this turn or the next: `BaseEventLoop._ready`.
//!
//! Owns the order of callbacks: first in, first out, as `call_soon` promises.
//! Must never reorder by itself; whoever wants another order takes items out and puts them back.

use std::collections::{VecDeque, vec_deque};

/// A first-in-first-out ring.
#[derive(Clone, Debug)]
pub struct Ready<T> {
    ring: VecDeque<T>,
}

impl<T> Ready<T> {
    /// An empty queue, which allocates nothing yet.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ring: VecDeque::new(),
        }
    }

    /// Adds `item` behind all others: `call_soon`.
    #[inline]
    pub fn push_back(&mut self, item: T) {
        self.ring.push_back(item);
    }

    /// Puts `item` before all others: to give back what was taken but not run.
    #[inline]
    pub fn push_front(&mut self, item: T) {
        self.ring.push_front(item);
    }

    /// Takes the oldest item.
    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        self.ring.pop_front()
    }

    /// How many items wait. asyncio reads it once a turn: what is added meanwhile belongs to the next.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether nothing waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The items, oldest first.
    #[inline]
    pub fn iter(&self) -> vec_deque::Iter<'_, T> {
        self.ring.iter()
    }

    /// Takes all items, oldest first, and leaves an empty queue.
    ///
    /// They come out instead of being dropped here, because a destructor may run user code, and that may add
    /// to this very queue.
    #[inline]
    #[must_use = "dropping the items runs their destructors: do it where user code may run"]
    pub fn drain(&mut self) -> VecDeque<T> {
        std::mem::take(&mut self.ring)
    }

    /// Drops all items and keeps the memory. For items whose destructors cannot reach this queue; else
    /// [`Ready::drain`].
    #[inline]
    pub fn clear(&mut self) {
        self.ring.clear();
    }
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, T> IntoIterator for &'a Ready<T> {
    type Item = &'a T;
    type IntoIter = vec_deque::Iter<'a, T>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
