//! The one wait queue under every primitive, and the waiting itself.
//!
//! A waiter is a future in a queue. Who waits puts one there and suspends ([`park`], [`resume`]); who
//! wakes ends it ([`wake`]). The rules of fairness are the primitives' own: they decide whom to wake
//! and who leaves the queue when.
//!
//! A body that waits (a step function) keeps its things in the coroutine's locals: [`SELF`],
//! [`ARGUMENT`], and the two that belong to this file.

use super::loop_bound::LoopBound;
use crate::deque::Deque;
use crate::ffi::object::{NONE, TRUE};
use crate::ffi::{Class, Coroutine, Obj, Own, R, Raised, Step, Visitor, coroutine, send};
use crate::futures::callbacks::{is_cancelled, is_done};
use crate::futures::{Future, Role, iter};
use crate::imports::names;
use std::cell::Cell;

/// Local of a waiting body: the primitive.
pub(crate) const SELF: usize = 0;
/// Local of a waiting body: what its caller gave it.
pub(crate) const ARGUMENT: usize = 1;
/// A future that is not ours, while [`AWAITED`] holds its iterator.
const FOREIGN: usize = 2;
/// What is awaited: our own future, or the iterator of another. `cr_await` shows it.
const AWAITED: usize = 3;

/// Stage of a body that has not begun.
pub(crate) const START: u8 = 0;
/// Stage of a body that waits.
pub(crate) const WAITING: u8 = 1;

/// Futures, in the order in which they came.
#[derive(Default)]
pub(crate) struct Waiters {
    queue: Deque,
    /// Has anybody ever waited? Until then `Lock._waiters` is None.
    used: Cell<bool>,
}

impl Waiters {
    /// `future = self._get_loop().create_future()`, put at the end and waited for.
    #[inline]
    pub(crate) fn line_up(&self, loop_: &LoopBound, owner: &Obj, co: &Own<Coroutine>) -> R<Step> {
        let future = loop_.create_future(owner)?;
        self.add(&future)?;
        Ok(park(co, future))
    }

    /// As [`line_up`](Waiters::line_up), where it is a task that one waits for: the holder.
    #[inline]
    pub(crate) fn line_up_behind_holder(
        &self,
        loop_: &LoopBound,
        owner: &Obj,
        co: &Own<Coroutine>,
    ) -> R<Step> {
        let future = loop_.create_future(owner)?;
        if let Some(future) = Future::class().exact(&future) {
            future.role.set(Role::ForTasks);
        }
        self.add(&future)?;
        Ok(park(co, future))
    }

    /// Puts a future at the end.
    #[inline]
    pub(crate) fn add(&self, future: &Obj) -> R<()> {
        self.used.set(true);
        self.queue.append(future.clone())
    }

    /// Takes a future out, wherever it is.
    #[inline]
    pub(crate) fn remove(&self, future: &Obj) -> R<()> {
        self.queue.remove(future)
    }

    /// `len(self._waiters or ())`
    pub(crate) fn len(&self) -> R<usize> {
        self.queue.len()
    }

    /// `all(w.cancelled() for w in self._waiters or ())`
    #[inline]
    pub(crate) fn all_cancelled(&self) -> R<bool> {
        if self.queue.is_empty()? {
            return Ok(true);
        }
        let alive = self
            .queue
            .search(|future| Ok((!is_cancelled(future)?).then_some(())))?;
        Ok(alive.is_none())
    }

    /// Wakes the first, if it is not woken already.
    #[inline]
    pub(crate) fn wake_first(&self) -> R<()> {
        self.queue.search(|future| wake(future, &TRUE).map(Some))?;
        Ok(())
    }

    /// The first that is not done, still in the queue.
    #[inline]
    pub(crate) fn first_pending(&self) -> R<Option<Obj>> {
        self.queue
            .search(|future| Ok((!is_done(future)?).then(|| future.clone())))
    }

    /// Wakes up to `count` of those that are not done; they stay in the queue until they have run.
    pub(crate) fn wake_many(&self, count: f64, value: &Obj) -> R<()> {
        let mut woken = 0.0;
        self.queue.search(|future| {
            if woken >= count {
                return Ok(Some(()));
            }
            if wake(future, value)? {
                woken += 1.0;
            }
            Ok(None)
        })?;
        Ok(())
    }

    /// Ends those that are not done with an exception; they stay in the queue until they have run.
    pub(crate) fn fail_all(&self, exception: &Obj) -> R<()> {
        self.queue.search(|future| {
            if !is_done(future)? {
                future.call_method(&names::SET_EXCEPTION, &[exception])?;
            }
            Ok(None::<()>)
        })?;
        Ok(())
    }

    /// `Queue._wakeup_next`: takes them out until one can be woken.
    #[inline]
    pub(crate) fn pop_and_wake(&self) -> R<()> {
        while let Some(future) = self.queue.pop_first()? {
            if wake(&future, &NONE)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes all of them out and wakes them.
    pub(crate) fn pop_and_wake_all(&self) -> R<()> {
        while let Some(future) = self.queue.pop_first()? {
            wake(&future, &NONE)?;
        }
        Ok(())
    }

    /// The attribute: a deque.
    pub(crate) fn lend(&self) -> R<Obj> {
        self.queue.lend()
    }

    /// The attribute of Lock and Semaphore: None until somebody has waited.
    pub(crate) fn lend_if_used(&self) -> R<Obj> {
        if self.used.get() {
            self.queue.lend()
        } else {
            Ok(Obj::none())
        }
    }

    /// The attribute is set.
    pub(crate) fn adopt(&self, value: Option<&Obj>) {
        let value = value.and_then(Obj::non_none);
        self.used.set(value.is_some());
        self.queue.adopt(value.cloned());
    }

    /// For `tp_traverse`.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.queue.visit(visitor);
    }

    /// For `tp_clear`.
    pub(crate) fn clear(&self) {
        self.queue.clear();
    }
}

/// `if not future.done(): future.set_result(value)`. `false`: it was done.
#[inline]
pub(crate) fn wake(future: &Obj, value: &Obj) -> R<bool> {
    if let Some(future) = Future::class().exact(future) {
        if future.is_done() {
            return Ok(false);
        }
        future.finish(value.clone())?;
        return Ok(true);
    }
    if future.call_method(&names::DONE, &[])?.truth()? {
        return Ok(false);
    }
    future.call_method(&names::SET_RESULT, &[value])?;
    Ok(true)
}

/// Begins to wait: for a future, or for anything else that can be awaited.
#[inline]
pub(crate) fn park(co: &Own<Coroutine>, future: Obj) -> Step {
    co.stage.set(WAITING);
    if let Some(ours) = Future::class().exact(&future) {
        let step = iter::resume_future(ours);
        co.locals[AWAITED].set(future);
        return step;
    }
    park_foreign(co, future)
}

#[cold]
fn park_foreign(co: &Own<Coroutine>, future: Obj) -> Step {
    let iter = match send::await_iter(&future) {
        Ok(iter) => iter,
        Err(raised) => return Step::Raise(raised),
    };
    co.locals[FOREIGN].set(future);
    co.locals[AWAITED].set(iter.clone());
    send::send(&iter, &Obj::none())
}

/// The body is resumed while it waits: the wait goes on, or is over.
#[inline]
pub(crate) fn resume(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let awaited = co.locals[AWAITED].get_or_none();
    if let Some(future) = Future::class().exact(&awaited) {
        return match input {
            Ok(_) => iter::resume_future(future),
            Err(raised) => Step::Raise(raised),
        };
    }
    match input {
        Ok(value) => send::send(&awaited, value),
        Err(raised) => coroutine::delegate_throw(&awaited, raised),
    }
}

/// The wait is over: the future that was waited for.
#[inline]
pub(crate) fn unpark(co: &Own<Coroutine>) -> Obj {
    let awaited = co.locals[AWAITED].take();
    match co.locals[FOREIGN].take() {
        Some(future) => future,
        None => awaited.unwrap_or_else(Obj::none),
    }
}

/// Runs clean-up code with the exception set aside, then raises it again: `except …: …; raise`.
/// An exception of the clean-up itself wins.
#[cold]
pub(crate) fn cleaning_up(raised: Raised, clean_up: impl FnOnce(&Obj) -> R<()>) -> Step {
    let exception = raised.take();
    Step::Raise(match clean_up(&exception) {
        Ok(()) => crate::ffi::errors::raise(&exception),
        Err(raised) => raised,
    })
}
