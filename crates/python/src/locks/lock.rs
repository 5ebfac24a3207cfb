//! `asyncio.Lock`.
//!
//! Rules
//! 1. `release()` does not hand the lock over: it wakes the first waiter, which takes the lock when it
//!    runs. Until then nobody may jump the queue unless all who wait are cancelled.
//! 2. A waiter leaves the queue itself, however its wait ends. If it was cancelled, and the lock is
//!    free, it wakes the next one, for it may have been the one that was woken.

use super::context_manager::{self, ContextManager};
use super::loop_bound::{self, Bound, LoopBound};
use super::waiters::{self, START, Waiters};
use crate::copying::{self, Copied};
use crate::diag::holders::Holder;
use crate::ffi::coroutine::StepFn;
use crate::ffi::errors::runtime_error;
use crate::ffi::{Args, Class, ClassCell, Coroutine, Obj, Own, R, Slot, Slots, Step, Visitor, WeakRefs};
use crate::imports;
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// The struct behind `asyncio.Lock`.
#[derive(Default)]
pub(crate) struct Lock {
    dict: Slot,
    weakrefs: WeakRefs,
    loop_: LoopBound,
    waiters: Waiters,
    locked: Cell<bool>,
    /// For diagnosis alone.
    pub(crate) holder: Holder,
}

/// Where its holder is: `diag/attach` reads it without the GIL.
pub(crate) const HOLDER: usize = offset_of!(Lock, holder);

impl Lock {
    /// `locked()`
    pub(crate) fn is_locked(&self) -> bool {
        self.locked.get()
    }

    /// Takes the lock if nobody has it and nobody waits for it.
    #[inline]
    fn try_acquire(&self, co: &Coroutine) -> R<bool> {
        if self.locked.get() || !self.waiters.all_cancelled()? {
            return Ok(false);
        }
        self.locked.set(true);
        self.holder.acquired(co);
        Ok(true)
    }

    /// `release()`
    #[inline]
    pub(crate) fn release(&self) -> R<()> {
        if !self.locked.replace(false) {
            return Err(runtime_error("Lock is not acquired."));
        }
        self.holder.released();
        self.waiters.wake_first()
    }
}

impl Own<Lock> {
    /// Exactly a Lock, and with no attributes of its own?
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.is_exact() && self.dict.is_empty()
    }
}

/// `acquire()` of `lock`.
pub(crate) fn acquire(lock: &Own<Lock>) -> R<Obj> {
    Coroutine::of_method("Lock.acquire", acquire_step, lock.obj().clone()).alloc()
}

/// The body of `acquire()`.
fn acquire_step(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let this = match co.this::<Lock>() {
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
            if let Err(raised) = this.waiters.remove(&waiters::unpark(co)) {
                return Step::Raise(raised);
            }
            this.locked.set(true);
            this.holder.acquired(co);
            Step::Return(Obj::bool(true))
        }
        Step::Raise(raised) => waiters::cleaning_up(raised, |exception| {
            this.waiters.remove(&waiters::unpark(co))?;
            // rule 2
            if exception.isinstance(&imports::CANCELLED_ERROR)? && !this.locked.get() {
                this.waiters.wake_first()?;
            }
            Ok(())
        }),
    }
}

impl Bound for Lock {
    fn bound(&self) -> &LoopBound {
        &self.loop_
    }
}

impl ContextManager for Lock {
    const ACQUIRE: StepFn = acquire_step;
    #[inline]
    fn plain(this: &Own<Lock>) -> Option<Obj> {
        this.is_plain().then(|| this.obj().clone())
    }
    #[inline]
    fn is_plain(this: &Own<Lock>) -> bool {
        this.is_plain()
    }
    #[inline]
    fn release(this: &Own<Lock>) -> R<()> {
        (**this).release()
    }
}

fn init(args: &Args) -> R<Obj> {
    let this = args.this::<Lock>()?;
    this.waiters.adopt(None);
    this.locked.set(false);
    this.holder.released();
    Ok(Obj::none())
}

fn method_release(args: &Args) -> R<Obj> {
    args.this::<Lock>()?.release()?;
    Ok(Obj::none())
}

fn wake_up_first(args: &Args) -> R<Obj> {
    args.this::<Lock>()?.waiters.wake_first()?;
    Ok(Obj::none())
}

fn set_locked(this: &Own<Lock>, value: Option<&Obj>) -> R<()> {
    this.locked.set(value.map_or(Ok(false), Obj::truth)?);
    this.holder.released();
    Ok(())
}

fn repr(this: &Own<Lock>) -> R<Obj> {
    let state = if this.locked.get() { "locked" } else { "unlocked" };
    super::repr(
        this.obj(),
        &format!("{state}{}", super::waiters_text(&this.waiters)?),
    )
}

impl Copied for Lock {
    const STATE: &'static [&'static str] = &["_loop", "_waiters", "_locked"];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

static CLASS: ClassCell<Lock> = ClassCell::new();

impl Class for Lock {
    const NAME: &'static CStr = c"asyncio.locks.Lock";
    const DICT: Option<usize> = Some(offset_of!(Lock, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Lock, weakrefs));

    fn class() -> &'static ClassCell<Lock> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Lock>) -> R<()> {
        slots.init("(self)", init);
        slots.repr(repr);
        slots.method("locked(self)", |args| {
            Ok(Obj::bool(args.this::<Lock>()?.is_locked()))
        })?;
        slots.async_method("acquire(self)", |args| acquire(args.this()?))?;
        slots.method("release(self)", method_release)?;
        slots.method("_wake_up_first(self)", wake_up_first)?;
        slots.get_set(c"_locked", |this| Ok(Obj::bool(this.is_locked())), set_locked);
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
