//! The running loop and the current task, as CPython keeps them: ours and everybody else's agree.

use super::errors::R;
use super::object::Obj;
use crate::imports;

/// `asyncio._get_running_loop()`
#[inline]
pub(crate) fn get() -> R<Option<Obj>> {
    let found = imports::GET_RUNNING_LOOP.call0()?;
    Ok(if found.is_none() { None } else { Some(found) })
}

/// `asyncio._set_running_loop(loop)`
pub(crate) fn set(running: Option<&Obj>) -> R<()> {
    match running {
        Some(running) => imports::SET_RUNNING_LOOP.call(&[running])?,
        None => imports::SET_RUNNING_LOOP.call(&[&Obj::none()])?,
    };
    Ok(())
}

/// `asyncio.get_running_loop()`
pub(crate) fn require() -> R<Obj> {
    match get()? {
        Some(running) => Ok(running),
        None => Err(super::errors::runtime_error("no running event loop")),
    }
}

/// Tells the interpreter who the current task is: a slot of the thread state (3.14+). On earlier
/// versions the loop itself is the place, read by [`crate::tasks::registry`].
#[inline]
pub(crate) fn enter_task(task: &super::Own<crate::tasks::Task>) -> R<()> {
    #[cfg(Py_3_14)]
    imports::ENTER_TASK.call(&[&task.as_future().require_loop()?, task.obj()])?;
    #[cfg(not(Py_3_14))]
    let _ = task;
    Ok(())
}

/// Takes it back, handing on the result of the step.
#[inline]
pub(crate) fn leave_task(task: &super::Own<crate::tasks::Task>, result: R<()>) -> R<()> {
    #[cfg(Py_3_14)]
    return crate::tasks::step::leave_foreign(&task.as_future().require_loop()?, task, result);
    #[cfg(not(Py_3_14))]
    {
        let _ = task;
        result
    }
}
