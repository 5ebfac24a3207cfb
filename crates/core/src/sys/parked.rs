//! Whether the loop sleeps, agreed on by the loop and all threads that want to wake it.
//!
//! Owns one flag. The item itself is in the caller's queue, and the system call is [`Waker`](super::wakeup::Waker)'s.
//! Must never name `std::sync::atomic`: the tests put loom's in its place and try every order of steps and memory.
//!
//! # The protocol
//!
//! The loop sleeps only if its queue is empty; a producer adds to the queue and wakes the loop. In between, a
//! wake-up must not be lost, and a thousand of them should not cost a thousand system calls. `parked` is true
//! from when the loop decides to sleep until it, or the first producer, takes that back.
//!
//! 1. A producer first makes its item visible in the queue, then calls `wake`.
//! 2. The loop calls [`Parked::park`] *before* its last look at the queue, and blocks only if it finds it
//!    empty.
//! 3. If it finds something, it calls [`Parked::unpark`] and does not block.
//! 4. After the wait, however that ended, it calls [`Parked::unpark`], and looks at the queue again.
//! 5. Whoever turns `parked` from true to false in `wake`, and nobody else, writes to the eventfd.
//! 6. Nobody reads the eventfd: the backend reports it once for every write. That may end a wait though nothing is
//!    in the queue (the loop woke by itself as the write was on its way): one turn for nothing, which does no harm.
//!
//! Why none is lost: `parked` is changed by swaps only, and the swaps of one variable have an order. Let W be
//! the swap of a producer, and P the next swap of `park`, or the one before.
//!
//! * W before P: P reads what W wrote, or what a later swap made of it. Each swap both acquires and releases,
//!   so all that came before W, the item above all, is visible after P, and the last look of rule 2 finds it.
//! * W after P, and the first that is: it reads true and writes to the eventfd. The kernel keeps the event for the
//!   next wait that asks, so the wait ends, whether it has begun or not.
//! * W after P, and not the first: a swap in between made it false. If that was a producer's, that one writes
//!   to the eventfd. If it was `unpark`, the loop is awake, and rule 4 makes it look: what W released, it
//!   either sees then or at the next `park`, by the first case.

use super::atomic::{AtomicBool, Ordering};

/// The flag of the [protocol](self).
#[derive(Debug)]
pub(crate) struct Parked(AtomicBool);

impl Parked {
    /// The loop is awake.
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The producer's side (rules 1 and 5). `true`: the caller owes the write to the eventfd.
    #[inline]
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }

    /// The loop is about to sleep, and will look at its queue once more (rule 2).
    #[inline]
    pub(crate) fn park(&self) {
        self.0.swap(true, Ordering::AcqRel);
    }

    /// The loop is awake (rules 3 and 4).
    #[inline]
    pub(crate) fn unpark(&self) {
        // A swap and not a store, which would break the chain from a producer's swap to the next `park`.
        self.0.swap(false, Ordering::AcqRel);
    }

    /// What was true a moment ago.
    #[inline]
    #[must_use]
    pub(crate) fn is_parked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
