//! Futures that are not ours: the protocol that asyncio documents for them, and chaining.

use super::callbacks::{self, as_native};
use super::{Future, methods};
use crate::event_loop::core::{self, Entry};
use crate::ffi::errors::{assertion_error, type_error, value_error};
use crate::ffi::{Args, Class, Obj, Own, R, Raised, running};
use crate::hook::Hook;
use crate::imports::{self, names};
use crate::tasks::task::is_plain_coroutine;
use crate::version;

/// `asyncio.isfuture(obj)`
pub(crate) fn isfuture(args: &Args) -> R<Obj> {
    Ok(Obj::bool(is_future(args.req(0)?)?))
}

/// Has its class `_asyncio_future_blocking`, and is it not None?
#[inline]
pub(crate) fn is_future(object: &Obj) -> R<bool> {
    if as_native(object).is_some() {
        return Ok(true);
    }
    // what is asked about most, and no future
    if is_plain_coroutine(object) {
        return Ok(false);
    }
    // `hasattr(obj.__class__, …)`: a Mock's class says what it mocks
    let class = object.getattr(&names::CLASS)?;
    if class.getattr_opt(&names::BLOCKING)?.is_none() {
        return Ok(false);
    }
    Ok(!object.getattr(&names::BLOCKING)?.is_none())
}

/// `futures._get_loop(fut)`
#[inline]
pub(crate) fn loop_of(future: &Obj) -> R<Obj> {
    if let Some(future) = as_native(future) {
        return future.require_loop();
    }
    match future.getattr_opt(&names::GET_LOOP)? {
        Some(get_loop) => get_loop.call0(),
        None => future.getattr(&names::LOOP_),
    }
}

/// `futures._set_result_unless_cancelled(fut, result)` as a callback.
pub(crate) fn set_result_unless_cancelled_hook(future: &Obj, result: Option<&Obj>) -> R<Own<Hook>> {
    fn run(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
        let Some(future) = hook.a.get() else { return Ok(()) };
        if callbacks::is_cancelled(&future)? {
            return Ok(());
        }
        future.call_method(&names::SET_RESULT, &[&hook.b.get_or_none()])?;
        Ok(())
    }
    Hook::new(
        "_set_result_unless_cancelled",
        run,
        Some(future.clone()),
        result.cloned(),
    )
}

/// `asyncio.wrap_future(future, *, loop=None)`: a `concurrent.futures.Future` as one of asyncio's.
pub(crate) fn wrap_future(args: &Args) -> R<Obj> {
    let future = args.req(0)?;
    if is_future(future)? {
        return Ok(future.clone());
    }
    wrap(future, args.opt(1))
}

/// See [`wrap_future`].
pub(crate) fn wrap(future: &Obj, loop_: Option<&Obj>) -> R<Obj> {
    if !future.isinstance(&imports::CONCURRENT_FUTURE)? {
        return Err(assertion_error(&format!(
            "concurrent.futures.Future is expected, got {}",
            future.repr()?
        )));
    }
    let loop_ = match loop_ {
        Some(loop_) => loop_.clone(),
        None => imports::GET_EVENT_LOOP.call0()?,
    };
    let ours = methods::create(&loop_)?;
    chain(future, &ours)?;
    Ok(ours)
}

/// `futures._chain_future(source, destination)`: the end of one becomes the end of the other, the
/// cancellation of the destination that of the source. Either may be a concurrent one.
pub(crate) fn chain(source: &Obj, destination: &Obj) -> R<()> {
    for (future, what) in [(source, "source"), (destination, "destination")] {
        if !is_future(future)? && !future.isinstance(&imports::CONCURRENT_FUTURE)? {
            return Err(wrong(&format!("A future is required for {what} argument")));
        }
    }
    let pair = || (Some(source.clone()), Some(destination.clone()));
    let (a, b) = pair();
    callbacks::listen(destination, &Hook::new("_call_check_cancel", check_cancel, a, b)?)?;
    let (a, b) = pair();
    callbacks::listen(source, &Hook::new("_call_set_state", set_state, a, b)?)
}

fn wrong(text: &str) -> Raised {
    type_error(text)
}

/// The loop of an asyncio future; `None` for a concurrent one.
fn loop_if_any(future: &Obj) -> R<Option<Obj>> {
    Ok(if is_future(future)? {
        Some(loop_of(future)?)
    } else {
        None
    })
}

/// May `loop_`'s future be touched right here? Since 3.14: if that loop runs on this thread; before: if the
/// other future is of the same loop.
fn is_here(loop_: &Obj, other: Option<&Obj>) -> R<bool> {
    if version::SINCE_314.get() {
        return Ok(running::get()?.is_some_and(|running| running.is(loop_)));
    }
    Ok(other.is_some_and(|other| other.is(loop_)))
}

/// The destination is done: if it was cancelled, so is the source, on its own loop's thread.
fn check_cancel(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    let (Some(source), Some(destination)) = (hook.a.get(), hook.b.get()) else {
        return Ok(());
    };
    if !callbacks::is_cancelled(&destination)? {
        return Ok(());
    }
    let (from, to) = (loop_if_any(&source)?, loop_if_any(&destination)?);
    match &from {
        None => callbacks::cancel(&source, None).map(drop),
        Some(from) if is_here(from, to.as_ref())? => callbacks::cancel(&source, None).map(drop),
        Some(from) => {
            from.call_method(&names::CALL_SOON_THREADSAFE, &[&source.getattr(&names::CANCEL)?])?;
            Ok(())
        }
    }
}

/// The source is done: the destination ends the same way, on its own loop's thread.
fn set_state(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    let (Some(source), Some(destination)) = (hook.a.get(), hook.b.get()) else {
        return Ok(());
    };
    let (from, to) = (loop_if_any(&source)?, loop_if_any(&destination)?);
    if callbacks::is_cancelled(&destination)?
        && let Some(to) = &to
        && to.call_method(&names::IS_CLOSED, &[])?.truth()?
    {
        return Ok(());
    }
    match &to {
        Some(to) if !is_here(to, from.as_ref())? => {
            if to.call_method(&names::IS_CLOSED, &[])?.truth()? {
                return Ok(());
            }
            let hook = Hook::new("_set_state", copy_hook, Some(source), Some(destination))?;
            match core::fast(to) {
                Some(core) => core.push_from_worker(Entry::Callback {
                    callback: hook.into_obj(),
                    argument: None,
                    context: None,
                }),
                None => drop(to.call_method(&names::CALL_SOON_THREADSAFE, &[hook.obj()])?),
            }
            Ok(())
        }
        _ => copy_state(&source, &destination),
    }
}

fn copy_hook(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    let (Some(source), Some(destination)) = (hook.a.take(), hook.b.take()) else {
        return Ok(());
    };
    copy_state(&source, &destination)
}

fn copy_state(source: &Obj, destination: &Obj) -> R<()> {
    if is_future(destination)? {
        return copy_to_asyncio(source, destination);
    }
    // destination is a concurrent future
    if callbacks::is_cancelled(source)? {
        callbacks::cancel(destination, None)?;
    }
    if !destination
        .call_method(&names::SET_RUNNING_OR_NOTIFY_CANCEL, &[])?
        .truth()?
    {
        return Ok(());
    }
    let exception = source.call_method(&names::EXCEPTION, &[])?;
    if exception.is_none() {
        let result = source.call_method(&names::RESULT, &[])?;
        destination.call_method(&names::SET_RESULT, &[&result])?;
    } else {
        destination.call_method(&names::SET_EXCEPTION, &[&convert(&exception)?])?;
    }
    Ok(())
}

/// `_copy_future_state(source, dest)`
fn copy_to_asyncio(source: &Obj, destination: &Obj) -> R<()> {
    if callbacks::is_cancelled(destination)? {
        return Ok(());
    }
    if callbacks::is_done(destination)? {
        return Err(value_error("the destination future is done"));
    }
    if let Some(result) = result_of_finished(source)? {
        return match Future::class().exact(destination) {
            Some(destination) => destination.finish(result),
            None => destination.call_method(&names::SET_RESULT, &[&result]).map(drop),
        };
    }
    if callbacks::is_cancelled(source)? {
        callbacks::cancel(destination, None)?;
        return Ok(());
    }
    let exception = source.call_method(&names::EXCEPTION, &[])?;
    if exception.is_none() {
        let result = source.call_method(&names::RESULT, &[])?;
        destination.call_method(&names::SET_RESULT, &[&result])?;
    } else {
        destination.call_method(&names::SET_EXCEPTION, &[&convert(&exception)?])?;
    }
    Ok(())
}

/// The result of a `concurrent.futures.Future` that has ended well, without the locks of its methods: nobody changes it
/// any more.
fn result_of_finished(source: &Obj) -> R<Option<Obj>> {
    if !source.is_exactly(&imports::CONCURRENT_FUTURE)
        || !source.getattr(&names::STATE_)?.eq(&names::FINISHED)?
        || !source.getattr(&names::EXCEPTION_)?.is_none()
    {
        return Ok(None);
    }
    source.getattr(&names::RESULT_).map(Some)
}

/// `concurrent.futures`' CancelledError and the like become asyncio's.
fn convert(exception: &Obj) -> R<Obj> {
    let class = exception.class();
    for (theirs, ours) in [
        (&imports::CONCURRENT_CANCELLED, &*imports::CANCELLED_ERROR),
        (&imports::CONCURRENT_INVALID_STATE, &*imports::INVALID_STATE_ERROR),
    ] {
        if class.is(theirs) {
            let converted = ours.call_with(&exception.getattr_str("args")?, None)?;
            if let Some(traceback) = crate::ffi::exceptions::traceback(exception) {
                crate::ffi::exceptions::set_traceback(&converted, &traceback);
            }
            return Ok(converted);
        }
    }
    Ok(exception.clone())
}
