//! `current_task` and `all_tasks`: ours, and what those see who imported asyncio's before us.
//!
//! The current task of our loop is one pointer in [`LoopCore`]; the tasks are an intrusive list.
//! Both cost next to nothing a step. What makes asyncio's own functions agree:
//! * 3.11 to 3.13 look into the dict `_asyncio._current_tasks`, keyed by loop. To look, they hash the
//!   loop; our loop's `__hash__` puts the entry there just then ([`publish`]), and the end of the step
//!   takes it out. While it is there the dict is the truth: an eager task of the C accelerator puts
//!   itself into it for as long as it runs.
//! * On 3.14+ the thread state is the place (`ffi::running`), and the only one.
//! * asyncio's `all_tasks` iterates a WeakSet of scheduled tasks. `module.rs` gives that very object
//!   a class whose `__iter__` also yields our tasks ([`scheduled_tasks`]).

use super::task::Task;
#[cfg(not(Py_3_14))]
use crate::event_loop::core;
use crate::event_loop::core::LoopCore;
#[cfg(not(Py_3_14))]
use crate::ffi::errors::raise;
use crate::ffi::links::Linked;
#[cfg(Py_3_14)]
use crate::ffi::outside;
use crate::ffi::{Args, Obj, Own, R, running};
use crate::imports;

/// `asyncio.current_task(loop=None)`
pub(crate) fn current_task(args: &Args) -> R<Obj> {
    let loop_ = match args.opt(0) {
        Some(loop_) => loop_.clone(),
        None => running::require()?,
    };
    Ok(current(&loop_)?.unwrap_or_else(Obj::none))
}

/// The current task of `loop_`, ours or not.
#[cfg(not(Py_3_14))]
pub(crate) fn current(loop_: &Obj) -> R<Option<Obj>> {
    // (in a forked child the parent's step is not ours)
    if let Some(core) = core::of(loop_)
        && core.forks.get() == crate::ffi::threads::fork_epoch()
        && !core.published.get()
        && let Some(task) = core.current.get()
    {
        return Ok(Some(task.into_obj()));
    }
    imports::CURRENT_TASKS.dict_get(loop_)
}

/// The current task of `loop_`, ours or not.
#[cfg(Py_3_14)]
pub(crate) fn current(loop_: &Obj) -> R<Option<Obj>> {
    if let Some(found) = outside::current(loop_) {
        return Ok(found);
    }
    let found = imports::CURRENT_TASK.call(&[loop_])?;
    Ok(if found.is_none() { None } else { Some(found) })
}

/// Our loop is being hashed: whoever does it may be about to look for its current task.
#[cfg(not(Py_3_14))]
pub(crate) fn publish(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    if core.published.get() || core.forks.get() != crate::ffi::threads::fork_epoch() {
        return Ok(());
    }
    let Some(task) = core.current.get() else {
        return Ok(());
    };
    // this hashes the loop again, and then finds it published
    core.published.set(true);
    imports::CURRENT_TASKS.dict_set(loop_, task.obj())
}

#[cfg(Py_3_14)]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn publish(_: &Obj, _: &Own<LoopCore>) -> R<()> {
    Ok(())
}

/// The step is over: the entry goes, unless somebody has replaced it.
#[cfg(not(Py_3_14))]
#[cold]
pub(crate) fn unpublish<T>(loop_: &Obj, result: R<T>) -> R<T> {
    match result {
        Ok(value) => remove_entry(loop_).map(|()| value),
        Err(raised) => {
            let exception = raised.take();
            remove_entry(loop_)?;
            Err(raise(&exception))
        }
    }
}

#[cfg(not(Py_3_14))]
fn remove_entry(loop_: &Obj) -> R<()> {
    imports::CURRENT_TASKS
        .call_method_str("pop", &[loop_, &Obj::none()])
        .map(drop)
}

/// Who was current before an eager task.
#[cfg(not(Py_3_14))]
pub(crate) struct Interrupted {
    /// The task of ours that the loop has entered.
    native: Option<Own<Task>>,
    /// The entry of `_current_tasks`, if that is the truth.
    entry: Option<Obj>,
}

/// `_swap_current_task(loop, task)`: the eager task begins.
#[cfg(not(Py_3_14))]
pub(crate) fn interrupt(loop_: &Obj, task: &Own<Task>) -> R<Interrupted> {
    let Some(core) = core::of(loop_) else {
        let entry = imports::CURRENT_TASKS.dict_get(loop_)?;
        imports::CURRENT_TASKS.dict_set(loop_, task.obj())?;
        return Ok(Interrupted { native: None, entry });
    };
    let entry = if core.published.get() || core.current.is_empty() {
        imports::CURRENT_TASKS.dict_get(loop_)?
    } else {
        None
    };
    let native = core.current.take();
    core.published.set(false);
    let foreign = match entry {
        None => None,
        Some(entry) => {
            // (nobody is current just now, so that looking for the entry publishes nobody)
            remove_entry(loop_)?;
            let ours = native.as_ref().is_some_and(|native| entry.is(native.obj()));
            (!ours).then_some(entry)
        }
    };
    core.current.put(Some(task.clone()));
    Ok(Interrupted {
        native,
        entry: foreign,
    })
}

/// … and has run its first step.
#[cfg(not(Py_3_14))]
pub(crate) fn resume(loop_: &Obj, interrupted: Interrupted) -> R<()> {
    let Interrupted { native, entry } = interrupted;
    let Some(core) = core::of(loop_) else {
        return match entry {
            Some(entry) => imports::CURRENT_TASKS.dict_set(loop_, &entry),
            None => remove_entry(loop_),
        };
    };
    drop(core.current.take());
    let published = core.published.replace(false);
    let result = match &entry {
        Some(entry) => imports::CURRENT_TASKS.dict_set(loop_, entry),
        None if published => remove_entry(loop_),
        None => Ok(()),
    };
    core.published.set(native.is_some() && entry.is_some());
    core.current.put(native);
    result
}

/// Who was current before an eager task.
#[cfg(Py_3_14)]
pub(crate) struct Interrupted(Obj);

/// `_swap_current_task(loop, task)`: the eager task begins.
#[cfg(Py_3_14)]
pub(crate) fn interrupt(loop_: &Obj, task: &Own<Task>) -> R<Interrupted> {
    imports::SWAP_CURRENT_TASK
        .call(&[loop_, task.obj()])
        .map(Interrupted)
}

/// … and has run its first step.
#[cfg(Py_3_14)]
pub(crate) fn resume(loop_: &Obj, interrupted: Interrupted) -> R<()> {
    imports::SWAP_CURRENT_TASK
        .call(&[loop_, &interrupted.0])
        .map(drop)
}

/// `asyncio.all_tasks(loop=None)`
pub(crate) fn all_tasks(args: &Args) -> R<Obj> {
    let loop_ = match args.opt(0) {
        Some(loop_) => loop_.clone(),
        None => running::require()?,
    };
    // asyncio's own function iterates the set that knows of ours
    imports::ALL_TASKS.call(&[&loop_])
}

/// All native tasks that are not done, whatever their loop: what the WeakSet's `__iter__` adds.
pub(crate) fn scheduled_tasks(_: &Args) -> R<Obj> {
    let tasks: Vec<Obj> = Task::list().snapshot().into_iter().map(Own::into_obj).collect();
    Obj::list(&tasks)
}
