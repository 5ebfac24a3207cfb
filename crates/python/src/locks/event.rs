//! `asyncio.Event`.
//!
//! Rule: `set()` wakes everybody who waits at that moment. They leave the queue themselves, and return
//! True even if the event has been cleared before they run.

use super::loop_bound::{self, Bound, LoopBound};
use super::waiters::{self, START, Waiters};
use crate::copying::{self, Copied};
use crate::ffi::object::TRUE;
use crate::ffi::{Args, Class, ClassCell, Coroutine, Obj, Own, R, Slot, Slots, Step, Visitor, WeakRefs};
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// The struct behind `asyncio.Event`.
#[derive(Default)]
pub(crate) struct Event {
    dict: Slot,
    weakrefs: WeakRefs,
    loop_: LoopBound,
    waiters: Waiters,
    value: Cell<bool>,
}

impl Event {
    /// A new event.
    pub(crate) fn create(is_set: bool) -> R<Own<Event>> {
        let event = Event::default();
        event.value.set(is_set);
        CLASS.alloc(event)
    }

    /// `set()`
    #[inline]
    pub(crate) fn set(&self) -> R<()> {
        if self.value.replace(true) {
            Ok(())
        } else {
            self.waiters.wake_many(f64::INFINITY, &TRUE)
        }
    }

    /// `clear()`: forgets that it was set.
    #[inline(always)]
    pub(crate) fn unset(&self) {
        self.value.set(false);
    }
}

/// `wait()` of `event`.
pub(crate) fn wait(event: &Own<Event>) -> R<Obj> {
    Coroutine::of_method("Event.wait", wait_step, event.obj().clone()).alloc()
}

/// The body of `wait()`.
fn wait_step(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let this = match co.this::<Event>() {
        Ok(this) => this,
        Err(raised) => return Step::Raise(raised),
    };
    let step = match co.stage.get() {
        START if this.value.get() => return Step::Return(Obj::bool(true)),
        START => match this.waiters.line_up(&this.loop_, this.obj(), co) {
            Ok(step) => step,
            Err(raised) => return Step::Raise(raised),
        },
        _ => waiters::resume(co, input),
    };
    match step {
        Step::Yield(future) => Step::Yield(future),
        Step::Return(_) => match this.waiters.remove(&waiters::unpark(co)) {
            Ok(()) => Step::Return(Obj::bool(true)),
            Err(raised) => Step::Raise(raised),
        },
        Step::Raise(raised) => waiters::cleaning_up(raised, |_| this.waiters.remove(&waiters::unpark(co))),
    }
}

impl Bound for Event {
    fn bound(&self) -> &LoopBound {
        &self.loop_
    }
}

fn init(args: &Args) -> R<Obj> {
    let this = args.this::<Event>()?;
    this.waiters.adopt(None);
    this.value.set(false);
    Ok(Obj::none())
}

fn method_set(args: &Args) -> R<Obj> {
    args.this::<Event>()?.set()?;
    Ok(Obj::none())
}

fn method_clear(args: &Args) -> R<Obj> {
    args.this::<Event>()?.unset();
    Ok(Obj::none())
}

fn set_value(this: &Own<Event>, value: Option<&Obj>) -> R<()> {
    this.value.set(value.map_or(Ok(false), Obj::truth)?);
    Ok(())
}

fn repr(this: &Own<Event>) -> R<Obj> {
    let state = if this.value.get() { "set" } else { "unset" };
    super::repr(
        this.obj(),
        &format!("{state}{}", super::waiters_text(&this.waiters)?),
    )
}

impl Copied for Event {
    const STATE: &'static [&'static str] = &["_loop", "_waiters", "_value"];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

static CLASS: ClassCell<Event> = ClassCell::new();

impl Class for Event {
    const NAME: &'static CStr = c"asyncio.locks.Event";
    const DICT: Option<usize> = Some(offset_of!(Event, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Event, weakrefs));

    fn class() -> &'static ClassCell<Event> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Event>) -> R<()> {
        slots.init("(self)", init);
        slots.repr(repr);
        slots.method("is_set(self)", |args| {
            Ok(Obj::bool(args.this::<Event>()?.value.get()))
        })?;
        slots.method("set(self)", method_set)?;
        slots.method("clear(self)", method_clear)?;
        slots.async_method("wait(self)", |args| wait(args.this()?))?;
        slots.get_set(c"_value", |this| Ok(Obj::bool(this.value.get())), set_value);
        slots.get_set(
            c"_waiters",
            |this| this.waiters.lend(),
            |this, value| {
                this.waiters.adopt(value);
                Ok(())
            },
        );
        copying::slots(slots)?;
        loop_bound::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.loop_.visit(visitor);
        self.waiters.visit(visitor);
    }
    fn clear(&self) {
        self.loop_.clear();
        self.waiters.clear();
    }
}
