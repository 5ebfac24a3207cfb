//! Who holds a lock, or the units of a semaphore: for the wait-for graph (`waits.rs`).
//!
//! asyncio does not know it, and need not: anybody may release. We note the [identity](crate::tasks::Task::serial)
//! of the task that acquires, a number: it keeps nothing alive, and a task that ends without releasing is still
//! known as the holder, by its number.
//!
//! Rules
//! 1. 0 is nobody, or nobody that we know: acquired outside of a task, or in one that is not ours.
//! 2. Anybody may release, and programs do: a limit on the rate of calls acquires a unit and has a timer give it back. Who
//!    has entered `async with` will release when it leaves; only of him can be said that nobody else will. That is a
//!    bit of the number ([`SCOPED`]).
//! 3. What is noted is what happened, never a guess: where a unit is released by a task that did not acquire one,
//!    a semaphore's holders are unknown from then on.

use crate::ffi::{Coroutine, running};
use crate::locks::context_manager::is_entering;
use std::cell::Cell;

/// Rule 2. (The highest bit is the number's own: [`NAMED`](crate::tasks::task::NAMED).)
pub(crate) const SCOPED: u64 = 1 << 62;

/// The current task, by what it acquires with: `__aenter__()` or `acquire()`. Rule 1.
#[inline(always)]
fn acquirer(co: &Coroutine) -> u64 {
    match running::task_identity() {
        0 => 0,
        task if is_entering(co) => task | SCOPED,
        task => task,
    }
}

/// Those that hold something.
pub(crate) struct Held {
    /// Their identities.
    pub(crate) by: Vec<u64>,
    /// Rule 2: all of them have entered `async with`.
    pub(crate) is_scoped: bool,
}

impl Held {
    fn of(noted: &[u64]) -> Option<Held> {
        let is_scoped = noted.iter().all(|task| task & SCOPED != 0);
        let by: Vec<u64> = noted.iter().map(|task| task & !SCOPED).collect();
        (!by.is_empty()).then_some(Held { by, is_scoped })
    }
}

/// The holder of a lock.
#[derive(Default)]
pub(crate) struct Holder(Cell<u64>);

impl Holder {
    /// The current task has acquired it, by this coroutine.
    #[inline(always)]
    pub(crate) fn acquired(&self, co: &Coroutine) {
        self.0.set(acquirer(co));
    }

    /// Somebody has released it.
    #[inline(always)]
    pub(crate) fn released(&self) {
        self.0.set(0);
    }

    /// `None`: rule 1.
    pub(crate) fn get(&self) -> Option<Held> {
        match self.0.get() {
            0 => None,
            task => Held::of(&[task]),
        }
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
    /// Rule 3.
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
    /// The current task has acquired a unit, by this coroutine.
    #[inline]
    pub(crate) fn acquired(&self, co: &Coroutine) {
        let task = acquirer(co);
        match self.known.iter().find(|place| place.get() == 0) {
            Some(place) if task != 0 => place.set(task),
            _ => self.others.set(self.others.get().saturating_add(1)),
        }
    }

    /// The current task has released a unit.
    #[inline]
    pub(crate) fn released(&self) {
        let task = running::task_identity();
        if let Some(place) = self
            .known
            .iter()
            .find(|place| place.get() & !SCOPED == task && task != 0)
        {
            place.set(0);
        } else if self.others.get() > 0 {
            self.others.set(self.others.get() - 1);
        } else {
            self.unknown.set(true);
        }
    }

    /// All holders, if all are known, and there are any.
    pub(crate) fn get(&self) -> Option<Held> {
        if self.unknown.get() || self.others.get() > 0 {
            return None;
        }
        let held = self.known.iter().map(Cell::get).filter(|task| *task != 0);
        Held::of(&held.collect::<Vec<u64>>())
    }
}
