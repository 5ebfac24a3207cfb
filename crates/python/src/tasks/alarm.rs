//! An alarm: one of our functions at a time of the loop, which can be taken back.
//!
//! It is what asyncio writes as `handle = loop.call_at(when, callback)` … `handle.cancel()`. On our
//! own loop a hook lies in the timers and there is no TimerHandle; on any other it is the public call.
//! To the caller an alarm is an object: the hook, or the handle of the other loop.
//!
//! Rules
//! 1. The hook of an alarm is fresh: `a` is what the function needs, `b` belongs to this file.
//! 2. An alarm that was taken back has an empty `a`; its function must then do nothing. So it can be
//!    taken back when it has left the timers already and waits in the ready queue.

use crate::event_loop::core::{self, Entry, Timer};
use crate::ffi::object::after;
use crate::ffi::{Class, Obj, Own, R};
use crate::hook::Hook;
use crate::imports::names;

/// `hook.number` of an alarm that is in the timers of our loop.
const SET: usize = 1;
/// … and of one that is not, or no longer.
const OFF: usize = 0;

/// `loop.call_at(when, hook)`, or `call_soon` if that time has come. `when` is asked for the object
/// only if the loop is another's.
pub(crate) fn at(loop_: &Obj, seconds: f64, when: impl FnOnce() -> R<Obj>, hook: Own<Hook>) -> R<Obj> {
    let Some(core) = core::fast(loop_) else {
        let due = seconds <= loop_.call_method(&names::TIME, &[])?.to_f64()?;
        return if due {
            loop_.call_method(&names::CALL_SOON, &[hook.obj()])
        } else {
            loop_.call_method(&names::CALL_AT, &[&when()?, hook.obj()])
        };
    };
    if seconds <= core.now() {
        core.push(Entry::Callback {
            callback: hook.obj().clone(),
            argument: None,
            context: None,
        });
    } else {
        set(loop_, core, seconds, &hook);
    }
    Ok(hook.into_obj())
}

/// `loop.call_later(delay, hook)`
pub(crate) fn later(loop_: &Obj, delay: &Obj, hook: Own<Hook>) -> R<Obj> {
    let Some(core) = core::fast(loop_) else {
        return loop_.call_method(&names::CALL_LATER, &[delay, hook.obj()]);
    };
    set(loop_, core, after(core.now(), delay)?, &hook);
    Ok(hook.into_obj())
}

fn set(loop_: &Obj, core: &Own<core::LoopCore>, seconds: f64, hook: &Own<Hook>) {
    hook.number.set(SET);
    hook.b.set(loop_.clone());
    core.push_timer(seconds, Timer::Hook(hook.clone()));
}

/// Is it in the timers, and has not been taken back?
pub(crate) fn is_set(hook: &Hook) -> bool {
    hook.number.get() == SET
}

/// The timers have let go of it: it waits in the ready queue.
pub(crate) fn unset(hook: &Hook) {
    hook.number.set(OFF);
}

/// `handle.cancel()`
pub(crate) fn cancel(alarm: &Obj) -> R<()> {
    let Some(hook) = Hook::class().exact(alarm) else {
        alarm.call_method(&names::CANCEL, &[])?;
        return Ok(());
    };
    if hook.number.replace(OFF) == SET
        && let Some(core) = hook.b.get().as_ref().and_then(core::of)
    {
        core.timer_cancelled();
    }
    hook.release();
    Ok(())
}
