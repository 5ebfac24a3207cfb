//! `asyncio.wait_for(fut, timeout)`.
//!
//! Two algorithms, as asyncio has had two:
//! * 3.12+: `async with timeout(timeout): return await fut`. The coroutine runs inside the caller's task.
//! * 3.11: a task of its own, a waiter, and a race between them. It takes three turns of the loop, and a
//!   result that comes in the same turn as a cancellation wins.

use super::waiting::{self, AWAITING};
use super::{alarm, spawn};
use crate::diag::cancels::{self, Why};
use crate::ffi::errors::{finally, finally_raised, raise};
use crate::ffi::{Args, Class, Co, Coroutine, Obj, Own, R, Raised, Step, exceptions, running};
use crate::futures::{callbacks, methods};
use crate::imports;
use crate::timeouts::{self, Timeout};
use crate::{graph, version};

/// Locals.
const FUT: usize = 0;
const TIMEOUT: usize = 1;
/// 3.11: the done-callback on `fut`, then the exception that is being handled.
const HOOK: usize = 2;

/// `wait_for(fut, timeout)`
pub(crate) fn wait_for(args: &Args) -> R<Obj> {
    let step = if version::WAIT_FOR_IS_TIMEOUT.get() {
        within_timeout
    } else {
        racing
    };
    let coroutine = Coroutine::stepping("wait_for", step);
    coroutine.locals[FUT].set(args.req(0)?.clone());
    coroutine.locals[TIMEOUT].put(args.opt(1).cloned());
    coroutine.alloc()
}

const START: u8 = 0;
/// What is awaited now is the last thing to do: its end is ours.
const LAST: u8 = 1;
const WAITING: u8 = 2;
/// `fut` is being cancelled, because the time is up …
const EXPIRING: u8 = 3;
/// … or, on 3.11, because the caller is being cancelled.
const CANCELLING: u8 = 4;

/// `timeout <= 0`
fn is_over(timeout: &Obj) -> R<bool> {
    match crate::ffi::object::exact_number(timeout) {
        Some(seconds) => Ok(seconds <= 0.0),
        None => timeout.le(&Obj::int(0)?),
    }
}

// --- 3.12+ --------------------------------------------------------------------------------------

fn within_timeout(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    match this.stage.get() {
        START => match enter(this) {
            Ok(step) => leave(this, step),
            Err(raised) => Step::Raise(raised),
        },
        EXPIRING => match waiting::resume(this, input) {
            Step::Return(_) => Step::from(result_or_timeout(&this.locals[FUT].get_or_none())),
            step => step,
        },
        _ => {
            let step = waiting::resume(this, input);
            leave(this, step)
        }
    }
}

fn enter(this: &Own<Coroutine>) -> R<Step> {
    let delay = this.locals[TIMEOUT].take();
    let fut = this.locals[FUT].take().unwrap_or_else(Obj::none);
    if let Some(delay) = &delay
        && is_over(delay)?
    {
        return expire(this, &fut, None);
    }
    let loop_ = running::require()?;
    let timeout = timeouts::after(&loop_, delay.as_ref())?;
    timeout.enter(&loop_)?;
    this.locals[TIMEOUT].set(timeout.into_obj());
    this.stage.set(WAITING);
    Ok(waiting::begin(this, fut))
}

/// The end of the `async with` block, if this was its end.
#[inline]
fn leave(this: &Own<Coroutine>, step: Step) -> Step {
    if matches!(step, Step::Yield(_)) || this.stage.get() == LAST {
        return step;
    }
    let timeout = this.locals[TIMEOUT].get_or_none();
    let Some(timeout) = Timeout::class().exact(&timeout) else {
        return step;
    };
    match step {
        Step::Raise(raised) => {
            let exception = raised.take();
            match timeout.exit(Some(&exception.class()), Some(&exception)) {
                Ok(()) => Step::Raise(raise(&exception)),
                Err(raised) => Step::Raise(raised),
            }
        }
        ended => timeout.exit(None, None).map_or_else(Step::Raise, |()| ended),
    }
}

// --- 3.11 ---------------------------------------------------------------------------------------

fn racing(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let stage = this.stage.get();
    let step = match stage {
        START => start(this).unwrap_or_else(Step::Raise),
        _ => waiting::resume(this, input),
    };
    if matches!(step, Step::Yield(_)) || matches!(this.stage.get(), START | LAST) {
        return step;
    }
    // The waiter or the cancellation has come to its end.
    let result = match stage {
        EXPIRING | CANCELLING => Step::from(cancelled(this, stage, step)),
        _ => match awaken(this, step) {
            Ok(Step::Yield(value)) => return Step::Yield(value),
            Ok(step) => step,
            Err(raised) => Step::Raise(raised),
        },
    };
    // `finally: timeout_handle.cancel()`
    let stop = || {
        this.locals[TIMEOUT]
            .take()
            .map_or(Ok(()), |alarm| alarm::cancel(&alarm))
    };
    match result {
        Step::Raise(raised) => Step::Raise(finally_raised(raised, stop)),
        ended => stop().map_or_else(Step::Raise, |()| ended),
    }
}

fn start(this: &Own<Coroutine>) -> R<Step> {
    let loop_ = running::require()?;
    let fut = this.locals[FUT].get_or_none();
    let Some(timeout) = this.locals[TIMEOUT].take() else {
        this.stage.set(LAST);
        return Ok(waiting::begin(this, fut));
    };
    if is_over(&timeout)? {
        return expire(this, &fut, Some(&loop_));
    }
    let waiter = methods::create(&loop_)?;
    let alarm = alarm::later(&loop_, &timeout, waiting::release_hook(&waiter, None)?)?;
    let hook = waiting::release_hook(&waiter, None)?;
    let fut = spawn::ensure(&fut, Some(&loop_))?;
    callbacks::listen(&fut, &hook)?;
    this.locals[FUT].set(fut);
    this.locals[TIMEOUT].set(alarm);
    this.locals[HOOK].set(hook.into_obj());
    this.stage.set(WAITING);
    Ok(waiting::begin(this, waiter))
}

/// `await waiter` has ended: `fut` is done, or the time is up, or the caller is cancelled.
fn awaken(this: &Own<Coroutine>, step: Step) -> R<Step> {
    let fut = this.locals[FUT].get_or_none();
    drop(this.locals[AWAITING].take());
    let cancellation = match step {
        Step::Raise(raised) if raised.matches(&imports::CANCELLED_ERROR) => Some(raised.take()),
        Step::Raise(raised) => return Err(raised),
        _ => None,
    };
    if callbacks::is_done(&fut)? {
        return waiting::result(&fut)
            .map(Step::Return)
            .map_err(|raised| during(raised, cancellation));
    }
    if let Some(hook) = this.locals[HOOK].take()
        && let Some(hook) = Class::class().exact(&hook)
    {
        callbacks::unlisten(&fut, hook)?;
    }
    let (stage, why) = match cancellation {
        Some(_) => (CANCELLING, Why::Program),
        None => (EXPIRING, Why::Timeout),
    };
    this.stage.set(stage);
    this.locals[HOOK].put(cancellation);
    // The task must not run any more when wait_for returns (bpo-32751).
    let step = waiting::begin(this, cancel_and_wait(&fut, why)?);
    if matches!(step, Step::Yield(_)) {
        return Ok(step);
    }
    let stage = this.stage.get();
    cancelled(this, stage, step).map(Step::Return)
}

/// `fut` has been cancelled, or would not be.
fn cancelled(this: &Own<Coroutine>, stage: u8, step: Step) -> R<Obj> {
    if let Step::Raise(raised) = step {
        return Err(during(raised, this.locals[HOOK].take()));
    }
    let fut = this.locals[FUT].get_or_none();
    match this.locals[HOOK].take() {
        Some(exception) if stage == CANCELLING => Err(raise(&exception)),
        _ => result_or_timeout(&fut),
    }
}

/// Raised while `handled` was being handled: it is the context.
fn during(raised: Raised, handled: Option<Obj>) -> Raised {
    let exception = raised.take();
    if let Some(handled) = handled
        && !handled.is(&exception)
    {
        exceptions::set_context(&exception, Some(handled));
    }
    raise(&exception)
}

/// The task that a `wait_for()` of 3.11 waits for, if there is no limit of time (any more).
pub(crate) fn awaited(this: &Own<Coroutine>) -> Option<Obj> {
    let stage = this.stage.get();
    (stage == EXPIRING || stage == CANCELLING)
        .then(|| this.locals[FUT].get())
        .flatten()
}

// --- both ---------------------------------------------------------------------------------------

/// `fut.result()`, or TimeoutError if it was cancelled.
fn result_or_timeout(fut: &Obj) -> R<Obj> {
    match waiting::result(fut) {
        Err(raised) if raised.matches(&imports::CANCELLED_ERROR) => {
            let cancelled = raised.take();
            Err(during(waiting::timed_out(Some(&cancelled)), Some(cancelled)))
        }
        result => result,
    }
}

/// `timeout <= 0`: the result if it is there already. The coroutine of a new task never starts.
#[cold]
fn expire(this: &Own<Coroutine>, fut: &Obj, loop_: Option<&Obj>) -> R<Step> {
    let fut = spawn::ensure(fut, loop_)?;
    this.stage.set(LAST);
    if callbacks::is_done(&fut)? {
        return waiting::result(&fut).map(Step::Return);
    }
    let step = waiting::begin(this, cancel_and_wait(&fut, Why::Timeout)?);
    if matches!(step, Step::Yield(_)) {
        this.locals[FUT].set(fut);
        this.stage.set(EXPIRING);
    }
    Ok(step)
}

/// `_cancel_and_wait(fut)`. It does not await `fut` itself, so that it can be cancelled reliably.
#[cold]
fn cancel_and_wait(fut: &Obj, why: Why) -> R<Obj> {
    Coroutine::boxed("_cancel_and_wait", &[fut], move |co: Co| async move {
        let result = {
            let loop_ = running::require()?;
            let waiter = methods::create(&loop_)?;
            let hook = waiting::release_hook(&waiter, graph::waiter(&loop_)?)?;
            callbacks::listen(&co.local(0), &hook)?;
            co.set(1, hook.into_obj());
            cancels::because(why, || callbacks::cancel(&co.local(0), None)).map(|_| waiter)
        };
        let result = match result {
            Ok(waiter) => co.wait(waiter).await,
            Err(raised) => Err(raised),
        };
        let clean = || -> R<()> {
            let hook = co.local(1);
            let Some(hook) = Class::class().exact(&hook) else {
                return Ok(());
            };
            callbacks::unlisten(&co.local(0), hook)
        };
        finally(result.map(|_| Obj::none()), clean)
    })
}
