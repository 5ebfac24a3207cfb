//! Who holds a lock, or the units of a semaphore: for the wait-for graph (`waits.rs`).
//!
//! asyncio does not know it, and need not: anybody may release. We note the [identity](crate::tasks::Task::serial)
//! of the task that acquires, a number: it keeps nothing alive, and a task that ends without releasing is still
//! known as the holder, by its number.
//!
//! Rules
//! 1. 0 is nobody, or nobody that we know: acquired outside of a task, or in one that is not ours.
//! 2. What is noted is what happened, never a guess: where a unit is released by a task that did not acquire one,
//!    a semaphore's holders are unknown from then on.

use crate::ffi::running;
use std::cell::Cell;

/// The holder of a lock.
#[derive(Default)]
pub(crate) struct Holder(Cell<u64>);

impl Holder {
    /// The current task has acquired it.
    #[inline(always)]
    pub(crate) fn acquired(&self) {
        self.0.set(running::task_identity());
    }

    /// Somebody has released it.
    #[inline(always)]
    pub(crate) fn released(&self) {
        self.0.set(0);
    }

    /// Rule 1.
    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// How many holders of a semaphore are told apart.
pub(crate) const KNOWN: usize = 4;

/// The holders of a semaphore.
#[derive(Default)]
pub(crate) struct Holders {
    known: [Cell<u64>; KNOWN],
    /// How many units are held by others that we don't tell apart.
    others: Cell<u32>,
    /// Rule 2.
    unknown: Cell<bool>,
}

/// Where the fields are that `attach` reads without the GIL.
pub(crate) mod layout {
    use super::Holders;
    use std::mem::offset_of;

    pub(crate) const KNOWN: usize = offset_of!(Holders, known);
    pub(crate) const OTHERS: usize = offset_of!(Holders, others);
    pub(crate) const UNKNOWN: usize = offset_of!(Holders, unknown);
}

impl Holders {
    /// The current task has acquired a unit.
    #[inline]
    pub(crate) fn acquired(&self) {
        let task = running::task_identity();
        match self.known.iter().find(|place| place.get() == 0) {
            Some(place) if task != 0 => place.set(task),
            _ => self.others.set(self.others.get().saturating_add(1)),
        }
    }

    /// The current task has released a unit.
    #[inline]
    pub(crate) fn released(&self) {
        let task = running::task_identity();
        if let Some(place) = self.known.iter().find(|place| place.get() == task && task != 0) {
            place.set(0);
        } else if self.others.get() > 0 {
            self.others.set(self.others.get() - 1);
        } else {
            self.unknown.set(true);
        }
    }

    /// All holders, if all are known.
    pub(crate) fn get(&self) -> Option<Vec<u64>> {
        if self.unknown.get() || self.others.get() > 0 {
            return None;
        }
        let held = self.known.iter().map(Cell::get).filter(|task| *task != 0);
        Some(held.collect())
    }
}
