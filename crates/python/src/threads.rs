//! `asyncio.threads`: a coroutine that runs a function on another thread, and a thread that runs a
//! coroutine on a loop.
//!
//! Must never: touch a loop from a thread that is not its own but through `call_soon_threadsafe`.

use crate::ffi::errors::{R, Raised, exc, raise, type_error};
use crate::ffi::function::Kind::{Async, Plain};
use crate::ffi::{Args, Co, Coroutine, Obj, Own, context, running};
use crate::futures::foreign;
use crate::hook::Hook;
use crate::imports::{self, names};
use crate::module::export;
use crate::tasks::{spawn, task};

/// `to_thread(func, /, *args, **kwargs)`: in a copy of the context, on the loop's default executor.
fn to_thread(args: &Args) -> R<Obj> {
    let rest = Obj::tuple(&args.rest().iter().collect::<Vec<_>>())?;
    let kwargs = args.kwargs().cloned().map_or_else(Obj::dict, Ok)?;
    Coroutine::boxed(
        "to_thread",
        &[args.req(0)?, &rest, &kwargs],
        |co: Co| async move {
            let result = {
                let loop_ = running::require()?;
                let (func, rest, kwargs) = (co.local(0), co.local(1), co.local(2));
                let run = context::copy()?.getattr_str("run")?;
                let mut call = vec![&run, &func];
                call.extend(rest.tuple_items());
                let call = imports::PARTIAL.call_with(&Obj::tuple(&call)?, Some(&kwargs))?;
                loop_.call_method_str("run_in_executor", &[&Obj::none(), &call])?
            };
            co.wait(result).await
        },
    )
}

/// `run_coroutine_threadsafe(coro, loop)`: any thread; a `concurrent.futures.Future`.
fn run_coroutine_threadsafe(args: &Args) -> R<Obj> {
    let (coro, loop_) = (args.req(0)?, args.req(1)?);
    if !task::check_coroutine(coro)? {
        return Err(type_error("A coroutine object is required"));
    }
    let future = imports::CONCURRENT_FUTURE.call0()?;
    let what = Obj::tuple(&[coro, loop_])?;
    let name = "run_coroutine_threadsafe.<locals>.callback";
    let hook = Hook::new(name, submit, Some(what), Some(future.clone()))?;
    loop_.call_method(&names::CALL_SOON_THREADSAFE, &[hook.obj()])?;
    Ok(future)
}

/// On the loop's thread: makes the task and ties the two futures together.
fn submit(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    let (Some(what), Some(future)) = (hook.a.take(), hook.b.take()) else {
        return Ok(());
    };
    let [coro, loop_] = what.tuple_items() else {
        return Ok(());
    };
    let tie = || foreign::chain(&spawn::ensure(coro, Some(loop_))?, &future);
    tie().map_err(|raised| failed(raised, &future))
}

/// Tells the waiting thread why there is no task, and the loop too.
#[cold]
fn failed(raised: Raised, future: &Obj) -> Raised {
    if raised.matches(exc::system_exit()) || raised.matches(exc::keyboard_interrupt()) {
        return raised;
    }
    let exception = raised.take();
    let tell = || -> R<()> {
        if future
            .call_method(&names::SET_RUNNING_OR_NOTIFY_CANCEL, &[])?
            .truth()?
        {
            future.call_method(&names::SET_EXCEPTION, &[&exception])?;
        }
        Ok(())
    };
    match tell() {
        Ok(()) => raise(&exception),
        Err(raised) => raised,
    }
}

/// Exports this area's functions.
pub(crate) fn register(module: &Obj) -> R<()> {
    let threadsafe = "run_coroutine_threadsafe(coro, loop)";
    export(
        module,
        &[
            (
                "asyncio.threads",
                "to_thread(func, /, *args, **kwargs)",
                to_thread,
                Async,
            ),
            ("asyncio.tasks", threadsafe, run_coroutine_threadsafe, Plain),
        ],
    )
}
