//! The running loop and the current task, as CPython keeps them: ours and everybody else's agree.

use super::errors::R;
use super::object::Obj;
use crate::imports;

/// `asyncio._get_running_loop()`
#[inline]
pub(crate) fn get() -> R<Option<Obj>> {
    #[cfg(not(Py_3_14))]
    if let Some(found) = holder::read() {
        return Ok(found);
    }
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

/// Makes [`get`] fast, where it can be. Called once, after the imports.
pub(crate) fn init() -> R<()> {
    #[cfg(not(Py_3_14))]
    holder::find()?;
    Ok(())
}

/// Before 3.14 the running loop lies in a holder in the dict of the thread state. To read it there costs a
/// look-up; asyncio's function costs a call, and on 3.11 a system call for the process id as well.
#[cfg(not(Py_3_14))]
mod holder {
    use super::super::object::Static;
    use super::{Obj, R, get, set};
    #[cfg(not(Py_3_12))]
    use crate::ffi::threads;
    use pyo3::ffi as c;

    #[repr(C)]
    struct Holder {
        head: c::PyObject,
        running: *mut c::PyObject,
        /// Which process set it: a forked child does not inherit the running loop. (3.12+ resets it at the fork.)
        #[cfg(not(Py_3_12))]
        process: libc::pid_t,
    }

    /// The key in the dict, and the holder's class, if it looks as we think.
    static KEY: Static = Static::new();
    static CLASS: Static = Static::new();

    /// The holder of this thread.
    fn here(key: &Obj) -> *mut c::PyObject {
        // SAFETY: the GIL is held; both calls give borrowed references or null, the latter without raising
        // for a key that is a str.
        unsafe {
            let dict = c::PyThreadState_GetDict();
            if dict.is_null() { dict } else { c::PyDict_GetItemWithError(dict, key.as_ptr()) }
        }
    }

    /// The running loop. `None`: ask asyncio.
    #[inline]
    pub(super) fn read() -> Option<Option<Obj>> {
        if !CLASS.filled() {
            return None;
        }
        let holder = here(KEY.get());
        if holder.is_null() {
            return Some(None);
        }
        // SAFETY: alive; the class is checked before the layout is used, and was looked at by `find`.
        unsafe {
            if c::Py_TYPE(holder).cast() != CLASS.get().as_ptr() {
                return None;
            }
            let holder = &*holder.cast::<Holder>();
            #[cfg(not(Py_3_12))]
            if holder.process != threads::process() {
                return Some(None);
            }
            let running = Obj::borrowed_unchecked(holder.running);
            Some(if running.is_none() { None } else { Some(running) })
        }
    }

    /// Sets a mark as the running loop and looks whether it lies where we expect it.
    pub(super) fn find() -> R<()> {
        let before = get()?;
        let mark = Obj::str("a running loop")?;
        set(Some(&mark))?;
        KEY.fill(Obj::interned("__asyncio_running_event_loop__")?);
        let holder = here(KEY.get());
        if !holder.is_null() {
            // SAFETY: alive; the size of the class says that the fields are there.
            unsafe {
                let class = c::Py_TYPE(holder);
                let as_expected = (*class).tp_basicsize == size_of::<Holder>() as isize
                    && (*holder.cast::<Holder>()).running == mark.as_ptr();
                #[cfg(not(Py_3_12))]
                let as_expected = as_expected && (*holder.cast::<Holder>()).process == threads::process();
                if as_expected {
                    CLASS.fill(Obj::borrowed_unchecked(class.cast()));
                }
            }
        }
        set(before.as_ref())
    }
}
