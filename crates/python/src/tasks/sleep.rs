//! `asyncio.sleep(delay, result=None)`.

use crate::event_loop::core::{self, Timer};
use crate::ffi::errors::{raise, value_error};
use crate::ffi::object::after;
use crate::ffi::{Args, Class, Coroutine, Obj, Own, R, Step, running};
use crate::futures::methods;
use crate::futures::{Future, Role, iter};
use crate::imports::names;
use crate::version;

/// Locals of the step function.
const RESULT: usize = 0;
const FUTURE: usize = 3;
const HANDLE: usize = 1;

/// `sleep(delay, result=None)`: seconds.
pub(crate) fn sleep(args: &Args) -> R<Obj> {
    let delay = args.req(0)?;
    let coroutine = Coroutine::stepping("sleep", step);
    // The delay is looked at when it is awaited, as in an `async def`; an int or float is so already.
    match (crate::ffi::object::exact_number(delay), args.get(1)) {
        (Some(seconds), None) => {
            coroutine.number.set(seconds);
            return coroutine.alloc_empty();
        }
        (Some(seconds), Some(result)) => {
            coroutine.number.set(seconds);
            coroutine.locals[RESULT].set(result.clone());
        }
        (None, result) => {
            coroutine.locals[RESULT].put(result.cloned());
            coroutine.locals[HANDLE].set(delay.clone());
            coroutine.stage.set(ODD_DELAY);
        }
    }
    coroutine.alloc()
}

const START: u8 = 0;
const YIELDED: u8 = 1;
const WAITING: u8 = 2;
const WAITING_FOREIGN: u8 = 3;
const ODD_DELAY: u8 = 4;

fn step(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    match this.stage.get() {
        START => begin(this),
        ODD_DELAY => begin_oddly(this),
        YIELDED => match input {
            Ok(_) => Step::Return(this.locals[RESULT].take().unwrap_or_else(Obj::none)),
            Err(raised) => Step::Raise(raised),
        },
        _ => resumed(this, input),
    }
}

/// The delay is not simply a number.
#[cold]
fn begin_oddly(this: &Own<Coroutine>) -> Step {
    let delay = this.locals[HANDLE].take().unwrap_or_else(Obj::none);
    match odd_delay(&delay) {
        Ok(seconds) => {
            this.number.set(seconds);
            begin(this)
        }
        Err(raised) => Step::Raise(raised),
    }
}

/// `delay <= 0` of any object, then what can be added to a time.
#[cold]
fn odd_delay(delay: &Obj) -> R<f64> {
    if delay.le(&Obj::int(0)?)? {
        return Ok(0.0);
    }
    after(0.0, delay)
}

#[inline(always)]
fn begin(this: &Own<Coroutine>) -> Step {
    let delay = this.number.get();
    if delay <= 0.0 {
        this.stage.set(YIELDED);
        return Step::Yield(Obj::none());
    }
    match arm(this, delay) {
        Ok(step) => step,
        Err(raised) => Step::Raise(raised),
    }
}

/// Puts the future and its timer in place.
#[inline(never)]
fn arm(this: &Own<Coroutine>, delay: f64) -> R<Step> {
    if delay.is_nan() && version::SINCE_313.get() {
        return Err(value_error("Invalid delay: NaN (not a number)"));
    }
    let loop_ = running::require()?;
    this.track();
    let result = this.locals[RESULT].take();
    if let Some(core) = core::fast(&loop_) {
        let future = Future::class().alloc(Future::pending(loop_.clone()))?;
        future.value.put(result);
        future.role.set(Role::Timed);
        core.push_timer(core.now() + delay, Timer::Sleep(future.clone()));
        this.stage.set(WAITING);
        this.locals[FUTURE].set(future.obj().clone());
        return Ok(iter::resume_future(&future));
    }
    let future = methods::create(&loop_)?;
    let hook = crate::futures::foreign::set_result_unless_cancelled_hook(&future, result.as_ref())?;
    let handle = loop_.call_method(&names::CALL_LATER, &[&Obj::float(delay)?, hook.obj()])?;
    this.locals[HANDLE].set(handle);
    this.stage.set(WAITING_FOREIGN);
    this.locals[FUTURE].set(crate::ffi::send::await_iter(&future)?);
    Ok(crate::ffi::send::send(
        &this.locals[FUTURE].get_or_none(),
        &Obj::none(),
    ))
}

#[inline(never)]
fn resumed(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    if this.stage.get() == WAITING {
        let future = this.locals[FUTURE].get_or_none();
        let Some(future) = Future::class().exact(&future) else {
            return Step::Return(Obj::none());
        };
        return match input {
            Ok(_) => iter::resume_future(future),
            Err(raised) => {
                stop_timer(future);
                Step::Raise(raised)
            }
        };
    }
    let iter = this.locals[FUTURE].get_or_none();
    let step = match input {
        Ok(value) => crate::ffi::send::send(&iter, value),
        Err(raised) => crate::ffi::coroutine::delegate_throw(&iter, raised),
    };
    match step {
        Step::Yield(value) => Step::Yield(value),
        ended => cancel_handle(this, ended),
    }
}

/// `finally: handle.cancel()` on a loop that is not ours.
fn cancel_handle(this: &Own<Coroutine>, ended: Step) -> Step {
    let Some(handle) = this.locals[HANDLE].take() else {
        return ended;
    };
    match ended {
        Step::Raise(raised) => {
            let exception = raised.take();
            match handle.call_method(&names::CANCEL, &[]) {
                Ok(_) => Step::Raise(raise(&exception)),
                Err(raised) => Step::Raise(raised),
            }
        }
        ended => match handle.call_method(&names::CANCEL, &[]) {
            Ok(_) => ended,
            Err(raised) => Step::Raise(raised),
        },
    }
}

/// The sleeper was thrown out: the timer is dead weight from now on. If nobody ended the future, it
/// counts as done, so that the timer does nothing when it fires.
fn stop_timer(future: &Own<Future>) {
    let loop_ = future.loop_.get();
    if !future.is_done() {
        future.state.set(crate::futures::State::Cancelled);
        future.clear_callbacks();
    }
    if future.role.replace(Role::Any) == Role::Timed
        && let Some(core) = loop_.as_ref().and_then(core::of)
    {
        core.timer_cancelled();
    }
}

/// `sleep(0)`, for our own coroutines.
pub(crate) fn now() -> R<Obj> {
    Coroutine::stepping("sleep", step).alloc_empty()
}
