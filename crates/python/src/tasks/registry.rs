//! `current_task` and `all_tasks`: ours, and what those see who imported asyncio's before us.
//!
//! The current task of our loop is one pointer in [`LoopCore`]; the tasks are an intrusive list.
//! Both cost next to nothing a step. What makes asyncio's own functions agree:
//! * 3.11 to 3.13 look into the dict `_asyncio._current_tasks`, keyed by loop. To look, they hash the
//!   loop; our loop's `__hash__` puts the entry there just then ([`publish`]), and the end of the step
//!   takes it out. On 3.14+ the thread state is the place (`ffi::running`).
//! * asyncio's `all_tasks` iterates a WeakSet of scheduled tasks. `module.rs` gives that very object
//!   a class whose `__iter__` also yields our tasks ([`scheduled_tasks`]).

use super::task::Task;
use crate::event_loop::core::{self, LoopCore};
use crate::ffi::errors::raise;
use crate::ffi::links::Linked;
use crate::ffi::{Args, Class, Obj, Own, R, running};
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
pub(crate) fn current(loop_: &Obj) -> R<Option<Obj>> {
    // (in a forked child the parent's step is not ours)
    if let Some(core) = core::of(loop_)
        && core.forks.get() == crate::ffi::threads::fork_epoch()
        && let Some(task) = core.current.get()
    {
        return Ok(Some(task.into_obj()));
    }
    foreign_current(loop_)
}

#[cfg(not(Py_3_14))]
fn foreign_current(loop_: &Obj) -> R<Option<Obj>> {
    imports::CURRENT_TASKS.dict_get(loop_)
}

#[cfg(Py_3_14)]
fn foreign_current(loop_: &Obj) -> R<Option<Obj>> {
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
#[cold]
pub(crate) fn unpublish<T>(loop_: &Obj, result: R<T>) -> R<T> {
    #[cfg(not(Py_3_14))]
    {
        let remove = || {
            imports::CURRENT_TASKS
                .call_method_str("pop", &[loop_, &Obj::none()])
                .map(drop)
        };
        match result {
            Ok(value) => remove().map(|()| value),
            Err(raised) => {
                let exception = raised.take();
                remove()?;
                Err(raise(&exception))
            }
        }
    }
    #[cfg(Py_3_14)]
    {
        let _ = (loop_, raise);
        result
    }
}

/// `_swap_current_task(loop, task)`: for eager tasks. Gives the previous one.
pub(crate) fn swap_current(loop_: &Obj, task: Option<&Obj>) -> R<Option<Obj>> {
    #[cfg(not(Py_3_14))]
    {
        if let Some(core) = core::of(loop_) {
            let ours = task.and_then(|task| Task::class().instance(task)).cloned();
            let previous = match core.current.take() {
                Some(previous) => Some(previous.into_obj()),
                None => imports::CURRENT_TASKS.dict_get(loop_)?,
            };
            let foreign = if ours.is_none() { task } else { None };
            core.published.set(false);
            core.current.put(ours);
            match foreign {
                Some(task) => imports::CURRENT_TASKS.dict_set(loop_, task)?,
                None => drop(imports::CURRENT_TASKS.call_method_str("pop", &[loop_, &Obj::none()])?),
            }
            // the look-ups above may have published
            if core.published.replace(false) && foreign.is_none() {
                imports::CURRENT_TASKS.call_method_str("pop", &[loop_, &Obj::none()])?;
                core.published.set(false);
            }
            return Ok(previous);
        }
        let previous = imports::CURRENT_TASKS.dict_get(loop_)?;
        match task {
            Some(task) => imports::CURRENT_TASKS.dict_set(loop_, task)?,
            None => drop(imports::CURRENT_TASKS.call_method_str("pop", &[loop_, &Obj::none()])?),
        }
        Ok(previous)
    }
    #[cfg(Py_3_14)]
    {
        if let Some(core) = core::of(loop_) {
            core.current
                .put(task.and_then(|task| Task::class().instance(task)).cloned());
        }
        let task = task.cloned().unwrap_or_else(Obj::none);
        let previous = imports::SWAP_CURRENT_TASK.call(&[loop_, &task])?;
        Ok(if previous.is_none() { None } else { Some(previous) })
    }
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
