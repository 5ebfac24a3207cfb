//! What the waiting functions share: `await` inside a step function, and small verbs of any future
//! and any task, ours directly and others by their public methods.

use super::Task;
use crate::ffi::coroutine::{LOCALS, delegate_throw};
use crate::ffi::{Class, Coroutine, Obj, Own, R, Raised, Step, exceptions, send};
use crate::futures::callbacks::{self, as_native};
use crate::futures::iter;
use crate::hook::Hook;
use crate::imports::names;

/// The local in which a step function keeps what it awaits (`cr_await` shows it).
pub(crate) const AWAITING: usize = LOCALS - 1;

/// `await object`: the first resumption. A future of ours needs no iterator.
#[inline]
pub(crate) fn begin(this: &Own<Coroutine>, object: Obj) -> Step {
    if let Some(future) = as_native(&object) {
        let step = iter::resume_future(future);
        this.locals[AWAITING].set(object);
        return step;
    }
    match send::await_iter(&object) {
        Ok(iterator) => {
            this.locals[AWAITING].set(iterator.clone());
            send::send(&iterator, &Obj::none())
        }
        Err(raised) => Step::Raise(raised),
    }
}

/// The next resumption of what [`begin`] began.
#[inline]
pub(crate) fn resume(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let awaited = this.locals[AWAITING].get_or_none();
    match (as_native(&awaited), input) {
        (Some(future), Ok(_)) => iter::resume_future(future),
        (Some(_), Err(raised)) => Step::Raise(raised),
        (None, Ok(value)) => send::send(&awaited, value),
        (None, Err(raised)) => delegate_throw(&awaited, raised),
    }
}

/// `future.set_result(value)`, whatever its class.
pub(crate) fn set_result(future: &Obj, value: &Obj) -> R<()> {
    match as_native(future) {
        Some(future) if !future.is_done() => future.finish(value.clone()),
        _ => future.call_method(&names::SET_RESULT, &[value]).map(drop),
    }
}

/// `if not waiter.done(): waiter.set_result(None)`
pub(crate) fn release(waiter: &Obj) -> R<()> {
    if callbacks::is_done(waiter)? {
        Ok(())
    } else {
        set_result(waiter, &Obj::none())
    }
}

/// `functools.partial(_release_waiter, waiter)`: a done-callback of what `task` waits for, or an alarm (then
/// there is no `task`).
pub(crate) fn release_hook(waiter: &Obj, task: Option<Obj>) -> R<Own<Hook>> {
    fn run(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
        hook.a.get().map_or(Ok(()), |waiter| release(&waiter))
    }
    Hook::waiting("_release_waiter", run, Some(waiter.clone()), task)
}

/// `future.result()`, whatever its class.
pub(crate) fn result(future: &Obj) -> R<Obj> {
    match as_native(future) {
        Some(future) => future.result(),
        None => future.call_method(&names::RESULT, &[]),
    }
}

/// `task.cancelling()`, whatever its class.
#[inline]
pub(crate) fn cancelling(task: &Obj) -> R<i64> {
    match Task::class().exact(task) {
        Some(task) => Ok(task.cancels.get().into()),
        None => task.call_method(&names::CANCELLING, &[])?.to_i64(),
    }
}

/// `task.uncancel()`, whatever its class.
pub(crate) fn uncancel(task: &Obj) -> R<i64> {
    match Task::class().exact(task) {
        Some(task) => Ok(task.uncancel().into()),
        None => task.call_method(&names::UNCANCEL, &[])?.to_i64(),
    }
}

/// `raise TimeoutError from exception`, where `exception` is the cancellation that is being handled.
#[cold]
pub(crate) fn timed_out(exception: Option<&Obj>) -> Raised {
    match crate::ffi::errors::exc::timeout_error().call0() {
        Ok(timeout) => {
            exceptions::set_cause(&timeout, exception.cloned());
            exceptions::set_context(&timeout, exception.cloned());
            crate::ffi::errors::raise_with_context(&timeout)
        }
        Err(raised) => raised,
    }
}
