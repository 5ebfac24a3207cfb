//! The state of a queue, and every operation that does not wait.
//!
//! Rules
//! 1. A getter or putter that is woken has been taken out of its line; it looks again whether it may
//!    go on when it runs, because somebody else may have been faster.
//! 2. Every item that comes in wakes one getter, every item that goes out one putter.
//! 3. A class that overrides `_put`, `_get`, `full`, `empty`, `qsize` or the `_nowait` methods gets them called
//!    (see [`Order::Custom`]).

use super::order::Order;
use super::{QUEUE_SHUT_DOWN, raise_class};
use crate::copying::Copied;
use crate::deque::Deque;
use crate::ffi::errors::value_error;
use crate::ffi::object::exact_number;
use crate::ffi::{Class, ClassCell, Obj, Own, OwnSlot, R, Slot, Slots, Visitor, WeakRefs};
use crate::imports::{self, names};
use crate::locks::event::Event;
use crate::locks::loop_bound::{Bound, LoopBound};
use crate::locks::waiters::Waiters;
use crate::number::Number;
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// The struct behind `asyncio.Queue`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Queue {
    pub(super) dict: Slot,
    weakrefs: WeakRefs,
    pub(super) loop_: LoopBound,
    /// `_queue`
    pub(super) items: Deque,
    pub(super) getters: Waiters,
    pub(super) putters: Waiters,
    pub(super) maxsize: MaxSize,
    pub(super) unfinished: Cell<i64>,
    /// Set while there are no unfinished tasks.
    pub(super) finished: OwnSlot<Event>,
    pub(super) is_shutdown: Cell<bool>,
}

/// The bound. asyncio takes any object and compares with it when an item comes: what is not a plain number is
/// kept as it is, and `number` is NaN then.
#[derive(Default)]
pub(super) struct MaxSize {
    number: Number,
    other: Slot,
}

impl MaxSize {
    /// Up to here a float tells all integers apart.
    const EXACT: f64 = (1_i64 << 53) as f64;

    /// Takes any object.
    pub(super) fn read(&self, object: &Obj) -> R<()> {
        let plain = exact_number(object).filter(|number| number.abs() < Self::EXACT || number.is_infinite());
        if plain.is_some() {
            self.number.read(object)?;
            self.other.put(None);
        } else {
            self.number.set(f64::NAN);
            self.other.set(object.clone());
        }
        Ok(())
    }

    /// As it was given.
    pub(super) fn object(&self) -> R<Obj> {
        match self.other.get() {
            Some(other) => Ok(other),
            None => self.number.object(),
        }
    }

    /// What `full()` says of `size`: of another object by its own comparisons.
    #[cold]
    fn is_reached(&self, size: impl FnOnce() -> R<Obj>) -> R<bool> {
        let number = self.number.get();
        if number.is_nan() {
            let maxsize = self.object()?;
            return Ok(!maxsize.le(&Obj::int(0)?)? && size()?.ge(&maxsize)?);
        }
        if number <= 0.0 {
            return Ok(false);
        }
        let size = size()?;
        match exact_number(&size) {
            Some(size) => Ok(size >= number),
            None => size.ge(&self.object()?),
        }
    }
}

impl Queue {
    /// What `__init__` does but for `_init`.
    pub(super) fn reset(&self, maxsize: Option<&Obj>) -> R<()> {
        match maxsize {
            Some(maxsize) => self.maxsize.read(maxsize)?,
            None => self.maxsize.read(&Obj::int(0)?)?,
        }
        self.getters.adopt(None);
        self.putters.adopt(None);
        self.unfinished.set(0);
        self.finished.put(Some(Event::create(true)?));
        self.is_shutdown.set(false);
        Ok(())
    }

    /// The number of items is at the bound, as far as `items` knows.
    #[inline(always)]
    fn is_full_natively(&self) -> R<bool> {
        let maxsize = self.maxsize.number.get();
        if maxsize.is_nan() {
            return self.maxsize.is_reached(|| Obj::int(self.items.len()? as i64));
        }
        Ok(maxsize > 0.0 && self.items.len()? as f64 >= maxsize)
    }

    fn all_finished(&self) -> R<()> {
        match self.finished.get() {
            Some(event) => event.set(),
            None => Ok(()),
        }
    }

    /// `task_done()`
    pub(super) fn task_done(&self) -> R<()> {
        let unfinished = self.unfinished.get();
        if unfinished <= 0 {
            return Err(value_error("task_done() called too many times"));
        }
        self.unfinished.set(unfinished - 1);
        if unfinished == 1 {
            self.all_finished()
        } else {
            Ok(())
        }
    }
}

impl Own<Queue> {
    /// `empty()`
    #[inline]
    pub(super) fn is_empty(&self) -> R<bool> {
        match self.order() {
            Order::Custom => self.obj().call_method(&names::EMPTY, &[])?.truth(),
            _ => self.items.is_empty(),
        }
    }

    /// `full()`
    #[inline]
    pub(super) fn is_full(&self) -> R<bool> {
        match self.order() {
            Order::Custom => self.obj().call_method(&names::FULL, &[])?.truth(),
            _ => self.is_full_natively(),
        }
    }

    /// What `full()` itself does: a class may have overridden `qsize()` alone.
    pub(super) fn compute_full(&self) -> R<bool> {
        match self.order() {
            Order::Custom => self
                .maxsize
                .is_reached(|| self.obj().call_method(&names::QSIZE, &[])),
            _ => self.is_full_natively(),
        }
    }

    /// `put_nowait(item)`
    #[inline]
    pub(super) fn put_nowait(&self, item: Obj) -> R<()> {
        if self.is_shutdown.get() {
            return Err(raise_class(&QUEUE_SHUT_DOWN));
        }
        if self.is_full()? {
            return Err(raise_class(&imports::QUEUE_FULL));
        }
        self.take_in(item)
    }

    /// What `put_nowait()` does when there is room.
    #[inline(always)]
    pub(super) fn take_in(&self, item: Obj) -> R<()> {
        self.put_item(item)?;
        self.unfinished.set(self.unfinished.get() + 1);
        if let Some(finished) = self.finished.get() {
            finished.unset();
        }
        self.getters.pop_and_wake()
    }

    /// `get_nowait()`
    #[inline]
    pub(super) fn get_nowait(&self) -> R<Obj> {
        if self.is_empty()? {
            let shut_down = self.is_shutdown.get();
            return Err(raise_class(if shut_down {
                &QUEUE_SHUT_DOWN
            } else {
                &imports::QUEUE_EMPTY
            }));
        }
        self.give_out()
    }

    /// What `get_nowait()` does when there is something.
    #[inline(always)]
    pub(super) fn give_out(&self) -> R<Obj> {
        let item = self.get_item()?;
        self.putters.pop_and_wake()?;
        Ok(item)
    }

    /// `shutdown(immediate)`
    pub(super) fn shutdown(&self, immediate: bool) -> R<()> {
        self.is_shutdown.set(true);
        if immediate {
            while !self.is_empty()? {
                self.get_item()?;
                if self.unfinished.get() > 0 {
                    self.unfinished.set(self.unfinished.get() - 1);
                }
            }
            if self.unfinished.get() == 0 {
                self.all_finished()?;
            }
        }
        // everybody looks again, and finds the queue shut down
        self.getters.pop_and_wake_all()?;
        self.putters.pop_and_wake_all()
    }
}

impl Bound for Queue {
    fn bound(&self) -> &LoopBound {
        &self.loop_
    }
}

impl Copied for Queue {
    const STATE: &'static [&'static str] = &[
        "_loop",
        "_maxsize",
        "_getters",
        "_putters",
        "_unfinished_tasks",
        "_finished",
        "_is_shutdown",
        "_queue",
    ];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

static CLASS: ClassCell<Queue> = ClassCell::new();

impl Class for Queue {
    const NAME: &'static CStr = c"asyncio.queues.Queue";
    const DICT: Option<usize> = Some(offset_of!(Queue, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Queue, weakrefs));

    fn class() -> &'static ClassCell<Queue> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Queue>) -> R<()> {
        super::methods::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.loop_.visit(visitor);
        self.items.visit(visitor);
        self.maxsize.other.visit(visitor);
        self.getters.visit(visitor);
        self.putters.visit(visitor);
        self.finished.visit(visitor);
    }
    fn clear(&self) {
        self.loop_.clear();
        self.items.clear();
        self.maxsize.other.put(None);
        self.getters.clear();
        self.putters.clear();
        self.finished.put(None);
    }
}
