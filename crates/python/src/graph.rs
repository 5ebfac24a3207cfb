//! `asyncio.graph` (3.14): who awaits whom.
//!
//! asyncio's own functions draw the graph; they ask each future for `_asyncio_awaited_by`. For a native
//! task that waits for a native future there is nothing to keep: the task is among the future's
//! callbacks, itself or by the hook of `gather`, `wait`, `TaskGroup` and their like. Only what a program
//! adds by `future_add_to_awaited_by` is kept in the future.

#[cfg(Py_3_14)]
use crate::ffi::{Args, function::Kind::Plain};
use crate::ffi::{Class, Obj, Own, R};
use crate::futures::Future;
use crate::futures::future::Callback;
use crate::hook::Hook;
use crate::tasks::{Task, registry};
use crate::version;

/// `_asyncio_awaited_by`: the tasks among the callbacks, and what `future_add_to_awaited_by` has added.
pub(crate) fn awaited_by(this: &Own<Future>) -> R<Obj> {
    let mut all: Vec<Obj> = this.callbacks().into_iter().filter_map(waiting_task).collect();
    if let Some(extra) = this.extra_opt()
        && let Some(added) = extra.awaited_by.get()
    {
        all.extend(added.to_vec()?);
    }
    if all.is_empty() {
        Ok(Obj::none())
    } else {
        Obj::set(&all)
    }
}

/// The task that a callback wakes up: a listener is the task itself; where the future's class is derived
/// from ours, or the loop is not ours, it is a hook.
fn waiting_task((callback, context): Callback) -> Option<Obj> {
    if context.is_none() && Task::class().is_instance(&callback) {
        return Some(callback);
    }
    Hook::class().exact(&callback)?.waiting_task()
}

/// Who is about to wait on `loop_`, on the versions that draw graphs: what goes into [`Hook::waiting`].
pub(crate) fn waiter(loop_: &Obj) -> R<Option<Obj>> {
    if version::CALL_GRAPH.get() {
        registry::current(loop_)
    } else {
        Ok(None)
    }
}

/// `future_add_to_awaited_by(future, waiter)`: an edge that no callback shows.
#[cfg(Py_3_14)]
fn add_awaited_by(future: &Obj, waiter: &Obj) -> R<()> {
    let Some(future) = Future::class().instance(future) else {
        return Ok(());
    };
    match future.extra().awaited_by.get() {
        Some(all) => all.set_add(waiter),
        None => {
            future
                .extra()
                .awaited_by
                .set(Obj::set(std::slice::from_ref(waiter))?);
            Ok(())
        }
    }
}

/// `future_discard_from_awaited_by(future, waiter)`
#[cfg(Py_3_14)]
fn discard_awaited_by(future: &Obj, waiter: &Obj) -> R<()> {
    let Some(future) = Future::class().instance(future) else {
        return Ok(());
    };
    if let Some(all) = future.extra_opt().and_then(|extra| extra.awaited_by.get()) {
        all.call_method(&crate::imports::names::DISCARD, &[waiter])?;
    }
    Ok(())
}

/// `future_add_to_awaited_by(fut, waiter, /)`: our own edges; those of asyncio's futures it keeps itself.
#[cfg(Py_3_14)]
fn future_add_to_awaited_by(args: &Args) -> R<Obj> {
    let (future, waiter) = (args.req(0)?, args.req(1)?);
    if Future::class().is_instance(future) {
        add_awaited_by(future, waiter)?;
        return Ok(Obj::none());
    }
    crate::imports::ADD_TO_AWAITED_BY.call(&[future, waiter])
}

/// `future_discard_from_awaited_by(fut, waiter, /)`
#[cfg(Py_3_14)]
fn future_discard_from_awaited_by(args: &Args) -> R<Obj> {
    let (future, waiter) = (args.req(0)?, args.req(1)?);
    if Future::class().is_instance(future) {
        discard_awaited_by(future, waiter)?;
        return Ok(Obj::none());
    }
    crate::imports::DISCARD_FROM_AWAITED_BY.call(&[future, waiter])
}

/// Exports this area's functions, where asyncio has them.
pub(crate) fn register(module: &Obj) -> R<()> {
    #[cfg(Py_3_14)]
    crate::module::export(
        module,
        &[
            (
                "asyncio.futures",
                "future_add_to_awaited_by(fut, waiter, /)",
                future_add_to_awaited_by,
                Plain,
            ),
            (
                "asyncio.futures",
                "future_discard_from_awaited_by(fut, waiter, /)",
                future_discard_from_awaited_by,
                Plain,
            ),
        ],
    )?;
    let _ = module;
    Ok(())
}
