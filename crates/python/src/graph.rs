//! `asyncio.graph` (3.14): who awaits whom.

use crate::ffi::{Class, Obj, Own, R, running};
use crate::futures::Future;
use crate::futures::callbacks::as_native;
use crate::tasks::{Task, registry};
use crate::version;

/// `_asyncio_awaited_by`: the tasks among the callbacks, and what `future_add_to_awaited_by` has added.
pub(crate) fn awaited_by(this: &Own<Future>) -> R<Obj> {
    let mut all: Vec<Obj> = this
        .callbacks()
        .into_iter()
        .filter(|(callback, context)| context.is_none() && Task::class().is_instance(callback))
        .map(|(callback, _)| callback)
        .collect();
    if let Some(extra) = this.extra_opt()
        && let Some(added) = extra.awaited_by.get()
    {
        all.extend(added.to_vec()?);
    }
    if all.is_empty() { Ok(Obj::none()) } else { Obj::set(&all) }
}

/// The current task of the running loop, if there is one.
pub(crate) fn current_task() -> R<Option<Obj>> {
    match running::get()? {
        Some(loop_) => registry::current(&loop_),
        None => Ok(None),
    }
}

/// `future_add_to_awaited_by(future, waiter)`: an edge that no callback of a task shows.
pub(crate) fn add_awaited_by(future: &Obj, waiter: Option<&Obj>) -> R<()> {
    let Some(waiter) = waiter.filter(|_| version::CALL_GRAPH.get()) else { return Ok(()) };
    let Some(future) = as_native(future) else { return Ok(()) };
    match future.extra().awaited_by.get() {
        Some(all) => all.set_add(waiter),
        None => {
            future.extra().awaited_by.set(Obj::set(std::slice::from_ref(waiter))?);
            Ok(())
        }
    }
}

/// `future_discard_from_awaited_by(future, waiter)`
pub(crate) fn discard_awaited_by(future: &Obj, waiter: Option<&Obj>) -> R<()> {
    let (Some(waiter), Some(future)) = (waiter, as_native(future)) else { return Ok(()) };
    if let Some(all) = future.extra_opt().and_then(|extra| extra.awaited_by.get()) {
        all.call_method(&crate::imports::names::DISCARD, &[waiter])?;
    }
    Ok(())
}

/// Exports this area's functions.
pub(crate) fn register(_module: &Obj) -> R<()> {
    Ok(())
}
