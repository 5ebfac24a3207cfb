//! asyncio's debug mode: source tracebacks, slow callbacks, wrong thread, coroutine origins.

use crate::diag::dev;
use crate::event_loop::core::LoopCore;
use crate::ffi::errors::{exc, type_error};
use crate::ffi::{Obj, Own, R};
use crate::imports::{self, names};

/// `coroutines._is_debug_mode()`: `-X dev`, or `PYTHONASYNCIODEBUG` unless `-E`.
pub(crate) fn enabled_by_default() -> R<bool> {
    Obj::import("asyncio.coroutines")?
        .call_method_str("_is_debug_mode", &[])?
        .truth()
}

/// Where the caller is: what `_source_traceback` holds. At most `constants.DEBUG_STACK_DEPTH` frames.
pub(crate) fn extract_stack() -> R<Obj> {
    // A native thread may have no Python function above this call: granian completes its futures from those.
    // asyncio's own functions would be all that is there. Before 3.15 that is an error, then a frame without code.
    let frame = match imports::GETFRAME.call0() {
        Err(raised) if raised.matches(exc::value_error()) => {
            raised.ignore();
            Obj::none()
        }
        result => result?,
    };
    if frame.is_none() || frame.getattr_str("f_code")?.is_none() {
        return Obj::import("traceback")?.call_method_str("StackSummary", &[]);
    }
    imports::EXTRACT_STACK.call(&[&frame])
}

/// `_check_callback(callback, method)`
pub(crate) fn check_callback(callback: &Obj, method: &str) -> R<()> {
    let coroutine = imports::ISCOROUTINE.call(&[callback])?.truth()?
        || imports::ISCOROUTINEFUNCTION.call(&[callback])?.truth()?;
    if coroutine {
        return Err(type_error(&format!("coroutines cannot be used with {method}()")));
    }
    if !callback.callable() {
        return Err(type_error(&format!(
            "a callable object was expected by {method}(), got {}",
            callback.repr()?
        )));
    }
    Ok(())
}

/// Runs a handle by its `_run`, and says so if it took long.
#[cold]
pub(crate) fn run_timed(core: &Own<LoopCore>, handle: &Obj) -> R<()> {
    if !core.debug.get() {
        handle.call_method(&names::RUN_, &[])?;
        return Ok(());
    }
    core.current_handle.set(handle.clone());
    let started = core.now();
    let result = handle.call_method(&names::RUN_, &[]);
    let took = core.now() - started;
    core.current_handle.put(None);
    result?;
    if took >= core.slow_callback_duration.get_or_none().to_f64()? {
        let text = imports::FORMAT_HANDLE.call(&[handle])?;
        let message = Obj::str("Executing %s took %.3f seconds")?;
        imports::LOGGER.call_method_str("warning", &[&message, &text, &Obj::float(took)?])?;
    }
    Ok(())
}

/// The depth that a loop in debug mode wants.
const DEPTH: i64 = 10;
/// `LoopCore::origin_tracking` of a loop that wants none.
const OFF: i32 = 0;

/// `sys.set_coroutine_origin_tracking_depth`, on while a loop runs in debug mode, or in development.
pub(crate) fn track_origins(core: &LoopCore, running: bool) -> R<()> {
    let depth = match (running, core.debug.get()) {
        (true, true) => Some(DEPTH),
        (true, false) if dev::enabled() => Some(dev::ORIGIN_DEPTH),
        _ => None,
    };
    track(core, depth)
}

/// `_set_coroutine_origin_tracking(enabled)`, in debug mode or not: loops that run inside of another one call it.
pub(crate) fn set_origin_tracking(core: &LoopCore, enabled: bool) -> R<()> {
    track(core, enabled.then_some(DEPTH))
}

fn track(core: &LoopCore, depth: Option<i64>) -> R<()> {
    let saved = core.origin_tracking.get();
    // (in development it may change from the one to the other)
    if depth.is_some() == (saved != OFF) && !(depth.is_some() && dev::enabled()) {
        return Ok(());
    }
    let sys = Obj::import("sys")?;
    let set = |depth: i64| sys.call_method_str("set_coroutine_origin_tracking_depth", &[&Obj::int(depth)?]);
    let Some(depth) = depth else {
        core.origin_tracking.set(OFF);
        return set(i64::from(saved) - 1).map(drop);
    };
    if saved == OFF {
        let before = sys.call_method_str("get_coroutine_origin_tracking_depth", &[])?;
        // stored one higher, so that zero means: not tracking
        core.origin_tracking.set(before.to_i64()? as i32 + 1);
    }
    set(depth).map(drop)
}

/// Turns it off for a while, or on again: in development, not in debug mode.
#[cold]
pub(crate) fn pause_tracking(core: &LoopCore, pause: bool) -> R<()> {
    let saved = core.origin_tracking.get();
    if core.debug.get() || saved == OFF {
        return Ok(());
    }
    let before = i64::from(saved) - 1;
    let depth = if pause {
        before
    } else {
        before.max(dev::ORIGIN_DEPTH)
    };
    imports::SET_ORIGIN_TRACKING.call(&[&Obj::int(depth)?]).map(drop)
}
