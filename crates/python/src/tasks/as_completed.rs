//! `asyncio.as_completed(fs, *, timeout=None)`: futures, or their results, as they complete.
//!
//! The object is asyncio's of 3.13 on every version: a plain iterator of awaitables and an asynchronous
//! iterator of the futures themselves. Before 3.13 asyncio had a generator, which does nothing until its
//! first `next()`; there, so do we.
//!
//! Rules
//! 1. `todo` are the futures that are not done; `done` those that nobody has taken, each one item. A time
//!    that is up turns the former into as many empty items.
//! 2. `left` counts the awaitables that may still be handed out.
//! 3. Whoever finds `done` empty waits in `waiters`, the first come first (it is `Queue.get`).

use super::waiting;
use super::{alarm, spawn};
use crate::ffi::errors::{exc, finally_raised, raise, raise_with_context, type_error};
use crate::ffi::{
    Args, Class, ClassCell, Coroutine, Fifo, Obj, Own, R, Slot, Slots, Step, Visitor, class, running,
};
use crate::futures::{callbacks, foreign, methods};
use crate::hook::Hook;
use crate::imports;
use crate::{graph, version};
use std::cell::Cell;
use std::ffi::CStr;

/// `_AsCompletedIterator`
#[derive(Default)]
pub(crate) struct AsCompleted {
    /// The arguments, until it starts.
    fs: Slot,
    timeout: Slot,
    /// A set (rule 1), and what is called when one of them is done: it goes with the last of them.
    todo: Slot,
    hook: Slot,
    done: Fifo<Option<Obj>>,
    waiters: Fifo<Obj>,
    alarm: Slot,
    left: Cell<usize>,
}

/// `as_completed(fs, *, timeout=None)`
pub(crate) fn as_completed(args: &Args) -> R<Obj> {
    let this = CLASS.alloc(AsCompleted::default())?;
    this.fs.set(args.req(0)?.clone());
    this.timeout.put(args.opt(1).cloned());
    if version::AS_COMPLETED_STARTS_AT_ONCE.get() {
        this.start()?;
    }
    Ok(this.into_obj())
}

impl Own<AsCompleted> {
    /// Makes tasks of coroutines, listens to all, sets the alarm. Once.
    fn start(&self) -> R<()> {
        let Some(fs) = self.fs.take() else { return Ok(()) };
        check_argument(&fs)?;
        let loop_ = imports::GET_EVENT_LOOP.call0()?;
        let mut futures = Vec::new();
        for awaitable in Obj::set(&fs.to_vec()?)?.to_vec()? {
            futures.push(spawn::ensure(&awaitable, Some(&loop_))?);
        }
        let todo = Obj::set(&futures)?;
        let futures = todo.to_vec()?;
        self.left.set(futures.len());
        self.todo.set(todo);
        let hook = Hook::waiting(
            "_AsCompletedIterator._handle_completion",
            completed,
            Some(self.obj().clone()),
            graph::waiter(&loop_)?,
        )?;
        self.hook.set(hook.obj().clone());
        for future in &futures {
            callbacks::listen(future, &hook)?;
        }
        if let Some(timeout) = self.timeout.take()
            && !futures.is_empty()
        {
            let hook = Hook::new(
                "_AsCompletedIterator._handle_timeout",
                time_is_up,
                Some(self.obj().clone()),
                None,
            )?;
            self.alarm.set(alarm::later(&loop_, &timeout, hook)?);
        }
        Ok(())
    }

    /// Hands an item to whoever waits first: `done.put_nowait(item)`.
    fn put(&self, item: Option<Obj>) -> R<()> {
        self.done.push_back(item);
        self.wake_next()
    }

    fn wake_next(&self) -> R<()> {
        while let Some(waiter) = self.waiters.pop_front() {
            if !callbacks::is_done(&waiter)? {
                return waiting::set_result(&waiter, &Obj::none());
            }
        }
        Ok(())
    }

    /// One of the awaitables goes out. `false`: there are no more.
    fn count_down(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    /// `_wait_for_one(resolve)`, or with `NEXT` the whole of `__anext__`.
    fn one(&self, name: &'static str, stage: u8) -> R<Obj> {
        let coroutine = Coroutine::of_method(name, step, self.obj().clone());
        coroutine.stage.set(stage);
        coroutine.alloc()
    }
}

fn check_argument(fs: &Obj) -> R<()> {
    if version::AS_COMPLETED_STARTS_AT_ONCE.get() {
        if imports::ISAWAITABLE.call(&[fs])?.truth()? {
            return Err(type_error(&format!(
                "expects an iterable of awaitables, not {}",
                fs.class_name()
            )));
        }
    } else if foreign::is_future(fs)? || super::task::check_coroutine(fs)? {
        return Err(type_error(&format!(
            "expect an iterable of futures, not {}",
            fs.class_name()
        )));
    }
    Ok(())
}

fn owner(hook: &Own<Hook>) -> Option<Own<AsCompleted>> {
    hook.a.get().and_then(|owner| CLASS.exact(&owner).cloned())
}

/// `_handle_completion(f)`
fn completed(hook: &Own<Hook>, future: Option<&Obj>) -> R<()> {
    let (Some(this), Some(future)) = (owner(hook), future) else {
        return Ok(());
    };
    let todo = this.todo.get_or_none();
    if todo.len()? == 0 {
        return Ok(()); // the time was up first
    }
    todo.set_discard(future)?;
    this.put(Some(future.clone()))?;
    if todo.len()? > 0 {
        return Ok(());
    }
    this.hook.put(None);
    this.alarm.take().map_or(Ok(()), |alarm| alarm::cancel(&alarm))
}

/// `_handle_timeout()`
fn time_is_up(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    let Some(this) = owner(hook) else { return Ok(()) };
    this.alarm.put(None);
    let hook = this.hook.take().unwrap_or_else(Obj::none);
    let todo = this.todo.get_or_none();
    for future in todo.to_vec()? {
        if let Some(hook) = Class::class().exact(&hook) {
            callbacks::unlisten(&future, hook)?;
        }
        this.put(None)?;
    }
    this.todo.set(Obj::set(&[])?);
    Ok(())
}

/// Local of the step function.
const GETTER: usize = 0;

/// `__anext__`, which counts when it is awaited.
const NEXT: u8 = 0;
/// `_wait_for_one(resolve=True)`
const RESULT: u8 = 1;
/// Added to these while it waits.
const WAITING: u8 = 2;

fn step(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let owner = match this.this::<AsCompleted>() {
        Ok(owner) => owner,
        Err(raised) => return Step::Raise(raised),
    };
    let stage = this.stage.get();
    if stage & WAITING == 0 {
        if stage == NEXT && !owner.count_down() {
            return Step::from(
                exc::stop_async_iteration()
                    .call0()
                    .and_then(|stop| Err(raise(&stop))),
            );
        }
        this.stage.set(stage | WAITING);
    } else {
        match waiting::resume(this, input) {
            Step::Return(_) => {}
            Step::Yield(value) => return Step::Yield(value),
            Step::Raise(raised) => return Step::Raise(finally_raised(raised, || give_up(this, owner))),
        }
    }
    loop {
        if let Some(item) = owner.done.pop_front() {
            return Step::from(outcome(item, stage & RESULT != 0));
        }
        let getter = match running::require().and_then(|loop_| methods::create(&loop_)) {
            Ok(getter) => getter,
            Err(raised) => return Step::Raise(raised),
        };
        owner.waiters.push_back(getter.clone());
        this.locals[GETTER].set(getter.clone());
        match waiting::begin(this, getter) {
            Step::Return(_) => {}
            Step::Yield(value) => return Step::Yield(value),
            Step::Raise(raised) => return Step::Raise(finally_raised(raised, || give_up(this, owner))),
        }
    }
}

/// The wait was broken off: an item that was meant for it goes to the next.
fn give_up(this: &Own<Coroutine>, owner: &Own<AsCompleted>) -> R<()> {
    let Some(getter) = this.locals[GETTER].take() else {
        return Ok(());
    };
    callbacks::cancel(&getter, None)?;
    drop(owner.waiters.remove_first(|waiter| waiter.is(&getter)));
    if version::AS_COMPLETED_COUNTS_BACK.get() {
        owner.left.set(owner.left.get() + 1);
    }
    if !owner.done.is_empty() && !callbacks::is_cancelled(&getter)? {
        return owner.wake_next();
    }
    Ok(())
}

fn outcome(item: Option<Obj>, resolve: bool) -> R<Obj> {
    match item {
        Some(future) if resolve => waiting::result(&future),
        Some(future) => Ok(future),
        None => Err(raise_with_context(&exc::timeout_error().call0()?)),
    }
}

fn next(this: &Own<AsCompleted>) -> R<Obj> {
    this.start()?;
    if this.count_down() {
        this.one("_AsCompletedIterator._wait_for_one", RESULT)
    } else {
        exc::stop_iteration().call0().and_then(|stop| Err(raise(&stop)))
    }
}

fn anext(args: &Args) -> R<Obj> {
    let this = args.this::<AsCompleted>()?;
    this.start()?;
    this.one("_AsCompletedIterator.__anext__", NEXT)
}

fn itself(this: &Own<AsCompleted>) -> R<Obj> {
    Ok(this.obj().clone())
}

static CLASS: ClassCell<AsCompleted> = ClassCell::new();

impl AsCompleted {
    fn held(&self) -> [&Slot; 5] {
        [&self.fs, &self.timeout, &self.todo, &self.hook, &self.alarm]
    }
}

impl Class for AsCompleted {
    const NAME: &'static CStr = c"asyncio.tasks._AsCompletedIterator";
    const SUBCLASSABLE: bool = false;

    fn class() -> &'static ClassCell<AsCompleted> {
        &CLASS
    }
    fn slots(slots: &mut Slots<AsCompleted>) -> R<()> {
        slots.no_new();
        slots.iter(itself);
        slots.next(next);
        slots.aiter(itself);
        slots.async_method("__anext__(self)", anext)
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.held() {
            slot.visit(visitor);
        }
        self.done
            .for_each(|item| item.iter().for_each(|future| visitor.obj(future)));
        self.waiters.for_each(|waiter| visitor.obj(waiter));
    }
    fn clear(&self) {
        for slot in self.held() {
            slot.put(None);
        }
        drop((self.done.take(), self.waiters.take()));
    }
}

/// Makes the class.
pub(super) fn register() -> R<()> {
    class::create::<AsCompleted>(None)
}
