//! `asyncio.graph` (3.14): who awaits whom.
//!
//! asyncio's own functions draw the graph; they ask each future for `_asyncio_awaited_by`. For a native
//! task that waits for a native future there is nothing to keep: the task is among the future's
//! callbacks, itself or by the hook of `gather`, `wait`, `TaskGroup` and their like. Only what a program
//! adds by `future_add_to_awaited_by` is kept in the future.

#[cfg(Py_3_14)]
use crate::ffi::outside;
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
    waiter_behind(&callback)
}

/// The task that waits by a hook (of `gather`, `TaskGroup` and their like).
#[inline]
pub(crate) fn waiter_behind(listener: &Obj) -> Option<Obj> {
    Hook::class().exact(listener)?.waiting_task()
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
        Some(all) => all.set_add(waiter)?,
        None => {
            let all = Obj::set(std::slice::from_ref(waiter))?;
            future.extra().awaited_by.set(all);
        }
    }
    if outside::linked() && !show_first(future, waiter) {
        show_all(future);
    }
    Ok(())
}

/// `future_discard_from_awaited_by(future, waiter)`
#[cfg(Py_3_14)]
fn discard_awaited_by(future: &Obj, waiter: &Obj) -> R<()> {
    let Some(future) = Future::class().instance(future) else {
        return Ok(());
    };
    if let Some(all) = future.extra_opt().and_then(|extra| extra.awaited_by.get()) {
        all.set_discard(waiter)?;
    }
    if outside::linked() {
        show_all(future);
    }
    Ok(())
}

/// Shows other processes the first one that waits for a task. `false`: somebody is shown already.
#[inline]
pub(crate) fn show_first(this: &Own<Future>, waiter: &Obj) -> bool {
    let Some(task) = Task::class()
        .instance(this.obj())
        .filter(|_| Task::class().is_instance(waiter))
    else {
        return true;
    };
    if !task.awaited_by.is_empty() {
        return false;
    }
    task.awaited_by_is_set.set(false);
    task.awaited_by.set(waiter);
    true
}

/// Shows other processes all who wait for a task, as it is now.
#[cold]
pub(crate) fn show_all(this: &Own<Future>) {
    let Some(task) = Task::class().instance(this.obj()).filter(|_| !this.is_done()) else {
        return;
    };
    let waiters = || -> R<Vec<Obj>> {
        let set = awaited_by(this)?;
        let tasks = if set.is_none() { Vec::new() } else { set.to_vec()? };
        Ok(tasks
            .into_iter()
            .filter(|waiter| Task::class().is_instance(waiter))
            .collect())
    };
    let shown = waiters().and_then(|waiters| match waiters.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((one.clone(), false))),
        several => Ok(Some((Obj::set(several)?, true))),
    });
    // nobody is told of a failure: this is what a tool sees, not what the program does
    let shown = shown.map_err(crate::ffi::Raised::ignore).unwrap_or_default();
    // first nothing, so that a reader never finds the one where the flag says the other
    task.awaited_by.clear();
    match shown {
        Some((several, true)) => {
            task.awaited_by_is_set.set(true);
            task.awaited_by.set(&several);
            this.extra().shown.set(several);
        }
        // it is kept by the list of callbacks or by the set of `add_awaited_by`
        Some((one, false)) => {
            task.awaited_by_is_set.set(false);
            task.awaited_by.set(&one);
        }
        None => {}
    }
    if let Some(extra) = this
        .extra_opt()
        .filter(|_| !task.awaited_by_is_set.get() || task.awaited_by.is_empty())
    {
        extra.shown.put(None);
    }
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
