//! `asyncio.Semaphore` and `asyncio.BoundedSemaphore`.
//!
//! Rules
//! 1. Who wakes a waiter takes the unit for it: the counter goes down in `release()`, not when the
//!    waiter runs. A waiter that is cancelled after that gives the unit back.
//! 2. Nobody jumps the queue: while anybody waits, the semaphore counts as locked.
//! 3. Who leaves the queue wakes others. Before 3.13: at most one, if units are left (also when it was
//!    cancelled). Since 3.13: as many as there are units.

use super::context_manager::{self, ContextManager};
use super::loop_bound::{self, Bound, LoopBound};
use super::waiters::{self, START, Waiters};
use crate::copying::{self, Copied};
use crate::diag::holders::Holders;
use crate::ffi::coroutine::StepFn;
use crate::ffi::errors::value_error;
use crate::ffi::object::TRUE;
use crate::ffi::{Args, Class, ClassCell, Coroutine, Obj, Own, R, Slot, Slots, Step, Visitor, WeakRefs};
use crate::futures::callbacks::{is_cancelled, is_done};
use crate::imports::{self, names};
use crate::number::Number;
use crate::version;
use std::ffi::CStr;
use std::mem::offset_of;

/// The struct behind `asyncio.Semaphore`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Semaphore {
    dict: Slot,
    weakrefs: WeakRefs,
    loop_: LoopBound,
    waiters: Waiters,
    value: Number,
    /// For diagnosis alone.
    pub(crate) holders: Holders,
}

/// Where its holders are: `diag/attach` reads them without the GIL.
pub(crate) const HOLDERS: usize = offset_of!(Semaphore, holders);

impl Semaphore {
    /// `locked()`; rule 2.
    #[inline]
    fn is_locked(&self) -> R<bool> {
        Ok(self.value.get() == 0.0 || !self.waiters.all_cancelled()?)
    }

    /// `release()`
    #[inline]
    fn release(&self) -> R<()> {
        self.value.add(1.0);
        self.holders.released();
        self.wake_up_next().map(drop)
    }

    /// `_wake_up_next()`: rule 1. `false`: nobody waits (any more).
    fn wake_up_next(&self) -> R<bool> {
        let Some(future) = self.waiters.first_pending()? else {
            return Ok(false);
        };
        self.value.add(-1.0);
        waiters::wake(&future, &TRUE)
    }

    /// Rule 3.
    fn wake_others(&self) -> R<()> {
        let many = version::SINCE_313.get();
        while self.value.get() > 0.0 && self.wake_up_next()? && many {}
        Ok(())
    }

    /// The waiter leaves the queue with an exception: rules 1 and 3.
    fn given_up(&self, future: &Obj, exception: &Obj) -> R<()> {
        self.waiters.remove(future)?;
        let many = version::SINCE_313.get();
        if exception.isinstance(&imports::CANCELLED_ERROR)?
            && !is_cancelled(future)?
            && (!many || is_done(future)?)
        {
            self.value.add(1.0);
            if !many {
                self.wake_up_next()?;
            }
        }
        if many { self.wake_others() } else { Ok(()) }
    }
}

impl Own<Semaphore> {
    /// Of one of our two classes, and with no attributes of its own?
    #[inline(always)]
    fn is_plain(&self) -> bool {
        (self.is_exact() || BOUNDED.is_exact(self.obj())) && self.dict.is_empty()
    }

    #[inline]
    fn try_acquire(&self, co: &Coroutine) -> R<bool> {
        let locked = if self.is_plain() {
            self.is_locked()?
        } else {
            self.obj().call_method(&names::LOCKED, &[])?.truth()?
        };
        if !locked {
            self.value.add(-1.0);
            self.holders.acquired(co);
        }
        Ok(!locked)
    }
}

/// `acquire()`
fn acquire(args: &Args) -> R<Obj> {
    Coroutine::of_method(
        "Semaphore.acquire",
        acquire_step,
        args.this::<Semaphore>()?.obj().clone(),
    )
    .alloc()
}

/// The body of `acquire()`.
fn acquire_step(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let this = match co.this::<Semaphore>() {
        Ok(this) => this,
        Err(raised) => return Step::Raise(raised),
    };
    let step = match co.stage.get() {
        START => match this.try_acquire(co) {
            Ok(true) => return Step::Return(Obj::bool(true)),
            Ok(false) => match this.waiters.line_up_behind_holder(&this.loop_, this.obj(), co) {
                Ok(step) => step,
                Err(raised) => return Step::Raise(raised),
            },
            Err(raised) => return Step::Raise(raised),
        },
        _ => waiters::resume(co, input),
    };
    match step {
        Step::Yield(future) => Step::Yield(future),
        Step::Return(_) => {
            this.holders.acquired(co);
            let left = this
                .waiters
                .remove(&waiters::unpark(co))
                .and_then(|()| this.wake_others());
            Step::from(left.map(|()| Obj::bool(true)))
        }
        Step::Raise(raised) => {
            waiters::cleaning_up(raised, |exception| this.given_up(&waiters::unpark(co), exception))
        }
    }
}

impl Bound for Semaphore {
    fn bound(&self) -> &LoopBound {
        &self.loop_
    }
}

impl ContextManager for Semaphore {
    const ACQUIRE: StepFn = acquire_step;
    #[inline]
    fn plain(this: &Own<Semaphore>) -> Option<Obj> {
        this.is_plain().then(|| this.obj().clone())
    }
    #[inline]
    fn is_plain(this: &Own<Semaphore>) -> bool {
        this.is_plain()
    }
    #[inline]
    fn release(this: &Own<Semaphore>) -> R<()> {
        match BOUNDED.exact(this.obj()) {
            Some(bounded) => bounded.release(),
            None => (**this).release(),
        }
    }
}

fn init(args: &Args) -> R<Obj> {
    init_fields(args.this::<Semaphore>()?, args.get(1))?;
    Ok(Obj::none())
}

fn init_fields(this: &Semaphore, value: Option<&Obj>) -> R<()> {
    let zero = Obj::int(0)?;
    let one = Obj::int(1)?;
    let value = value.unwrap_or(&one);
    if value.lt(&zero)? {
        return Err(value_error("Semaphore initial value must be >= 0"));
    }
    this.waiters.adopt(None);
    this.value.read(value)
}

fn method_release(args: &Args) -> R<Obj> {
    args.this::<Semaphore>()?.release()?;
    Ok(Obj::none())
}

fn method_wake_up_next(args: &Args) -> R<Obj> {
    let woken = args.this::<Semaphore>()?.wake_up_next()?;
    Ok(if version::SINCE_313.get() {
        Obj::bool(woken)
    } else {
        Obj::none()
    })
}

fn repr(this: &Own<Semaphore>) -> R<Obj> {
    let locked = if this.is_plain() {
        this.is_locked()?
    } else {
        this.obj().call_method(&names::LOCKED, &[])?.truth()?
    };
    let state = if locked {
        "locked".to_owned()
    } else {
        format!("unlocked, value:{}", this.value.object()?.repr()?)
    };
    super::repr(
        this.obj(),
        &format!("{state}{}", super::waiters_text(&this.waiters)?),
    )
}

impl Copied for Semaphore {
    const STATE: &'static [&'static str] = &["_loop", "_waiters", "_value"];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

static CLASS: ClassCell<Semaphore> = ClassCell::new();

impl Class for Semaphore {
    const NAME: &'static CStr = c"asyncio.locks.Semaphore";
    const DICT: Option<usize> = Some(offset_of!(Semaphore, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Semaphore, weakrefs));

    fn class() -> &'static ClassCell<Semaphore> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Semaphore>) -> R<()> {
        slots.init("(self, value=1)", init);
        slots.repr(repr);
        slots.method("locked(self)", |args| {
            Ok(Obj::bool(args.this::<Semaphore>()?.is_locked()?))
        })?;
        slots.async_method("acquire(self)", acquire)?;
        slots.method("release(self)", method_release)?;
        slots.method("_wake_up_next(self)", method_wake_up_next)?;
        slots.get_set(
            c"_value",
            |this| this.value.object(),
            |this, value| this.value.assign(value),
        );
        slots.get_set(
            c"_waiters",
            |this| this.waiters.lend_if_used(),
            |this, value| {
                this.waiters.adopt(value);
                Ok(())
            },
        );
        loop_bound::slots(slots)?;
        copying::slots(slots)?;
        context_manager::slots(slots)
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

/// The struct behind `asyncio.BoundedSemaphore`: it may not be released more often than acquired.
#[repr(C)]
#[derive(Default)]
pub(crate) struct BoundedSemaphore {
    semaphore: Semaphore,
    bound: Number,
}

crate::ffi::class::extends!(BoundedSemaphore, Semaphore, semaphore);

impl BoundedSemaphore {
    fn release(&self) -> R<()> {
        if self.semaphore.value.get() >= self.bound.get() {
            return Err(value_error("BoundedSemaphore released too many times"));
        }
        self.semaphore.release()
    }
}

fn bounded_init(args: &Args) -> R<Obj> {
    let this = args.this::<BoundedSemaphore>()?;
    init_fields(&this.semaphore, args.get(1))?;
    this.bound.assign(Some(&this.semaphore.value.object()?))?;
    Ok(Obj::none())
}

fn bounded_release(args: &Args) -> R<Obj> {
    args.this::<BoundedSemaphore>()?.release()?;
    Ok(Obj::none())
}

impl Copied for BoundedSemaphore {
    const STATE: &'static [&'static str] = &["_loop", "_waiters", "_value", "_bound_value"];
    fn dict(&self) -> &Slot {
        &self.semaphore.dict
    }
}

static BOUNDED: ClassCell<BoundedSemaphore> = ClassCell::new();

impl Class for BoundedSemaphore {
    const NAME: &'static CStr = c"asyncio.locks.BoundedSemaphore";
    const DICT: Option<usize> = Semaphore::DICT;
    const WEAKREFS: Option<usize> = Semaphore::WEAKREFS;

    fn class() -> &'static ClassCell<BoundedSemaphore> {
        &BOUNDED
    }
    fn slots(slots: &mut Slots<BoundedSemaphore>) -> R<()> {
        slots.init("(self, value=1)", bounded_init);
        slots.method("release(self)", bounded_release)?;
        slots.get_set(
            c"_bound_value",
            |this| this.bound.object(),
            |this, value| this.bound.assign(value),
        );
        copying::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.semaphore.visit(visitor);
    }
    fn clear(&self) {
        self.semaphore.clear();
    }
}
