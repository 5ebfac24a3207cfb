//! `asyncio.Condition`.
//!
//! Rules
//! 1. `wait()` has the lock again when it is over, also when it was cancelled: cancellations that come
//!    while it waits for the lock are remembered and raised afterwards (3.13: the last one itself;
//!    before: a new one).
//! 2. Since 3.13, a `wait()` that ends with an exception passes on the notification that it may have had.
//! 3. `acquire`, `release` and `locked` are attributes of the instance: those of the lock, until a
//!    program puts others.

use super::context_manager::{self, ContextManager};
use super::lock::{self, Lock};
use super::loop_bound::{self, Bound, LoopBound};
use super::waiters::Waiters;
use crate::copying::{self, Copied};
use crate::ffi::coroutine::StepFn;
use crate::ffi::errors::{attribute_error, raise, raise_with_context, runtime_error};
use crate::ffi::object::exact_number;
use crate::ffi::{
    Args, Class, ClassCell, Co, Coroutine, Obj, Own, R, Slot, Slots, Visitor, WeakRefs, exceptions,
};
use crate::imports::{self, names};
use crate::version;
use std::ffi::CStr;
use std::mem::offset_of;

/// The struct behind `asyncio.Condition`.
#[derive(Default)]
pub(crate) struct Condition {
    dict: Slot,
    weakrefs: WeakRefs,
    loop_: LoopBound,
    waiters: Waiters,
    lock: Slot,
    /// Rule 3. Empty: those of an exact Lock.
    acquire: Slot,
    release: Slot,
    locked: Slot,
}

/// Locals of `wait()`; 0 is the condition.
const FUTURE: usize = 1;
const ERROR: usize = 2;
const CANCELLED: usize = 3;

impl Condition {
    /// `Condition()`
    pub(crate) fn create() -> R<Own<Condition>> {
        let condition = Condition::default();
        condition
            .lock
            .set(Lock::class().alloc(Lock::default())?.into_obj());
        CLASS.alloc(condition)
    }

    /// Wakes up to `count` of those who wait.
    pub(crate) fn notify_unchecked(&self, count: f64) -> R<()> {
        self.waiters.wake_many(count, &Obj::bool(false))
    }
}

impl Own<Condition> {
    /// The lock, if nothing is overridden and it is exactly a Lock.
    #[inline]
    fn plain_lock(&self) -> Option<Own<Lock>> {
        let untouched = self.dict.is_empty()
            && [&self.acquire, &self.release, &self.locked]
                .iter()
                .all(|s| s.is_empty());
        if !self.is_exact() || !untouched {
            return None;
        }
        let lock = Lock::class().take_exact(self.lock.get_or_none()).ok()?;
        lock.is_plain().then_some(lock)
    }

    /// Uses `lock` from now on. Rule 3: an exact Lock's methods are looked up when somebody asks.
    fn take(&self, lock: Obj) -> R<()> {
        let exact = Lock::class().is_exact(&lock);
        for (place, name) in [
            (&self.locked, &names::LOCKED),
            (&self.acquire, &names::ACQUIRE),
            (&self.release, &names::RELEASE),
        ] {
            place.put(if exact { None } else { Some(lock.getattr(name)?) });
        }
        self.lock.set(lock);
        Ok(())
    }

    /// `self.locked()`
    fn is_locked(&self) -> R<bool> {
        match self.plain_lock() {
            Some(lock) => Ok(lock.is_locked()),
            None => self.obj().call_method(&names::LOCKED, &[])?.truth(),
        }
    }

    /// `self.acquire()`: the coroutine.
    pub(crate) fn acquire(&self) -> R<Obj> {
        match self.plain_lock() {
            Some(lock) => lock::acquire(&lock),
            None => self.obj().call_method(&names::ACQUIRE, &[]),
        }
    }

    /// `self.release()`
    pub(crate) fn release(&self) -> R<()> {
        match self.plain_lock() {
            Some(lock) => lock.release(),
            None => self.obj().call_method(&names::RELEASE, &[]).map(drop),
        }
    }

    /// `self.wait()`: the coroutine.
    pub(crate) fn wait(&self) -> R<Obj> {
        Coroutine::boxed("Condition.wait", &[self.obj()], wait_body)
    }

    /// `notify(n)`, for those who have the lock.
    pub(crate) fn notify(&self, count: f64) -> R<()> {
        if !self.is_locked()? {
            return Err(runtime_error("cannot notify on un-acquired lock"));
        }
        self.notify_unchecked(count)
    }
}

async fn wait_body(co: Co) -> R<Obj> {
    let_go(&co)?;
    let waited = match line_up(&co) {
        Ok(future) => {
            let result = co.wait(future).await;
            keep_error(&co, result);
            leave_line(&co)
        }
        Err(raised) => Err(raised),
    };
    keep_error(&co, waited.map(|()| Obj::none()));
    // rule 1
    loop {
        let attempt = match co.this::<Condition>().and_then(|this| this.acquire()) {
            Ok(acquire) => co.wait(acquire).await,
            Err(raised) => Err(raised),
        };
        match attempt {
            // only the last one counts, and it does not know of those before
            Err(raised) if raised.matches(&imports::CANCELLED_ERROR) => co.set(CANCELLED, raised.take()),
            ended => {
                if ended.is_err() {
                    co.set(CANCELLED, Obj::none());
                }
                keep_error(&co, ended);
                break;
            }
        }
    }
    outcome(&co)
}

/// Checks that the lock is held, and releases it.
fn let_go(co: &Co) -> R<()> {
    let this = co.this::<Condition>()?;
    if !this.is_locked()? {
        return Err(runtime_error("cannot wait on un-acquired lock"));
    }
    if version::SINCE_313.get() {
        // while an error still leaves everything as it was
        co.set(FUTURE, this.loop_.create_future(this.obj())?);
    }
    this.release()
}

/// Goes to the end of the queue: the future to wait for.
fn line_up(co: &Co) -> R<Obj> {
    let this = co.this::<Condition>()?;
    if !version::SINCE_313.get() {
        co.set(FUTURE, this.loop_.create_future(this.obj())?);
    }
    let future = co.local(FUTURE);
    this.waiters.add(&future)?;
    Ok(future)
}

fn leave_line(co: &Co) -> R<()> {
    co.this::<Condition>()?.waiters.remove(&co.local(FUTURE))
}

/// Puts the exception of `result`, if it is one, into `ERROR`, on top of what is there.
fn keep_error(co: &Co, result: R<Obj>) {
    if let Err(raised) = result {
        let exception = raised.take();
        let before = co.local(ERROR);
        if !before.is_none() && !before.is(&exception) {
            exceptions::set_context(&exception, Some(before));
        }
        co.set(ERROR, exception);
    }
}

/// How `wait()` ends once the lock is held again.
fn outcome(co: &Co) -> R<Obj> {
    let (error, cancelled) = (co.local(ERROR), co.local(CANCELLED));
    // It is raised while the caller may be handling another exception, unless `error` is being handled.
    let in_caller = error.is_none();
    let error = match (error.non_none(), cancelled.non_none()) {
        (None, None) => return Ok(Obj::bool(true)),
        (Some(error), None) => error.clone(),
        (error, Some(cancelled)) => {
            let last = if version::SINCE_313.get() {
                cancelled.clone()
            } else {
                imports::CANCELLED_ERROR.call0()?
            };
            if let Some(error) =
                error.filter(|error| !error.is(&last) && exceptions::context(&last).is_none())
            {
                exceptions::set_context(&last, Some(error.clone()));
            }
            last
        }
    };
    if version::SINCE_313.get() {
        // rule 2
        co.this::<Condition>()?.notify_unchecked(1.0)?;
    }
    Err(if in_caller {
        raise_with_context(&error)
    } else {
        raise(&error)
    })
}

async fn wait_for_body(co: Co) -> R<Obj> {
    loop {
        if let Some(result) = predicate_holds(&co)? {
            return Ok(result);
        }
        co.wait(wait_again(&co)?).await?;
    }
}

/// `predicate()`, if it is true.
fn predicate_holds(co: &Co) -> R<Option<Obj>> {
    let result = co.local(1).call0()?;
    Ok(if result.truth()? { Some(result) } else { None })
}

/// `self.wait()`, which a derived class may have overridden.
fn wait_again(co: &Co) -> R<Obj> {
    let this = co.this::<Condition>()?;
    if this.is_exact() && this.dict.is_empty() {
        this.wait()
    } else {
        this.obj().call_method(&names::WAIT, &[])
    }
}

impl Bound for Condition {
    fn bound(&self) -> &LoopBound {
        &self.loop_
    }
}

impl ContextManager for Condition {
    const ACQUIRE: StepFn = <Lock as ContextManager>::ACQUIRE;
    #[inline]
    fn plain(this: &Own<Condition>) -> Option<Obj> {
        this.plain_lock().map(Own::into_obj)
    }
    #[inline]
    fn is_plain(this: &Own<Condition>) -> bool {
        this.plain_lock().is_some()
    }
    #[inline]
    fn release(this: &Own<Condition>) -> R<()> {
        this.release()
    }
}

fn init(args: &Args) -> R<Obj> {
    let this = args.this::<Condition>()?;
    let lock = match args.opt(1) {
        Some(lock) => lock.clone(),
        None => Lock::class().alloc(Lock::default())?.into_obj(),
    };
    this.take(lock)?;
    this.waiters.adopt(None);
    Ok(Obj::none())
}

fn method_notify(args: &Args) -> R<Obj> {
    let this = args.this::<Condition>()?;
    let count = match args.get(1) {
        Some(count) => exact_number(count).map_or_else(|| count.to_f64(), Ok)?,
        None => 1.0,
    };
    this.notify(count)?;
    Ok(Obj::none())
}

fn method_notify_all(args: &Args) -> R<Obj> {
    let this = args.this::<Condition>()?;
    let count = this.waiters.len()?;
    if this.is_exact() {
        this.notify(count as f64)?;
    } else {
        this.obj()
            .call_method(&names::NOTIFY, &[&Obj::int(count as i64)?])?;
    }
    Ok(Obj::none())
}

fn notify_unchecked(args: &Args) -> R<Obj> {
    args.this::<Condition>()?
        .notify_unchecked(args.req(1)?.to_f64()?)?;
    Ok(Obj::none())
}

fn repr(this: &Own<Condition>) -> R<Obj> {
    let state = if this.is_locked()? { "locked" } else { "unlocked" };
    super::repr(
        this.obj(),
        &format!("{state}{}", super::waiters_text(&this.waiters)?),
    )
}

/// Rule 3.
fn rule_3(slots: &mut Slots<Condition>) {
    slots.get_set(
        c"locked",
        |this| attribute(this, &this.locked, &names::LOCKED),
        |this, value| put(&this.locked, value),
    );
    slots.get_set(
        c"acquire",
        |this| attribute(this, &this.acquire, &names::ACQUIRE),
        |this, value| put(&this.acquire, value),
    );
    slots.get_set(
        c"release",
        |this| attribute(this, &this.release, &names::RELEASE),
        |this, value| put(&this.release, value),
    );
}

fn put(place: &Slot, value: Option<&Obj>) -> R<()> {
    place.put(value.cloned());
    Ok(())
}

fn attribute(this: &Own<Condition>, place: &Slot, name: &Obj) -> R<Obj> {
    if let Some(value) = place.get() {
        return Ok(value);
    }
    match Lock::class().exact(&this.lock.get_or_none()) {
        Some(lock) => lock.obj().getattr(name),
        None => Err(attribute_error(&name.to_string()?)),
    }
}

impl Copied for Condition {
    const STATE: &'static [&'static str] = &["_loop", "_lock", "_waiters"];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

static CLASS: ClassCell<Condition> = ClassCell::new();

impl Class for Condition {
    const NAME: &'static CStr = c"asyncio.locks.Condition";
    const DICT: Option<usize> = Some(offset_of!(Condition, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Condition, weakrefs));

    fn class() -> &'static ClassCell<Condition> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Condition>) -> R<()> {
        slots.init("(self, lock=None)", init);
        slots.repr(repr);
        slots.async_method("wait(self)", |args| args.this::<Condition>()?.wait())?;
        slots.async_method("wait_for(self, predicate)", |args| {
            Coroutine::boxed(
                "Condition.wait_for",
                &[args.this::<Condition>()?.obj(), args.req(1)?],
                wait_for_body,
            )
        })?;
        slots.method("notify(self, n=1)", method_notify)?;
        slots.method("notify_all(self)", method_notify_all)?;
        if version::SINCE_313.get() {
            slots.method("_notify(self, n)", notify_unchecked)?;
        }
        rule_3(slots);
        slots.get_set(
            c"_lock",
            |this| Ok(this.lock.get_or_none()),
            |this, value| match value {
                Some(lock) => this.take(lock.clone()),
                None => Err(attribute_error("_lock")),
            },
        );
        slots.get_set(
            c"_waiters",
            |this| this.waiters.lend(),
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
        for slot in [&self.lock, &self.acquire, &self.release, &self.locked] {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        self.loop_.clear();
        self.waiters.clear();
        for slot in [&self.lock, &self.acquire, &self.release, &self.locked] {
            slot.put(None);
        }
    }
}
