//! The running loop and the current task, as CPython keeps them: ours and everybody else's agree.

#[cfg(Py_3_14)]
use super::Class;
use super::Own;
use super::builtin::Builtin;
use super::errors::R;
use super::object::Obj;
use super::outside;
use super::stack::Site;
use crate::imports;
use crate::tasks::Task;

/// `asyncio._get_running_loop()`
#[inline]
pub(crate) fn get() -> R<Option<Obj>> {
    #[cfg(not(Py_3_13))]
    if let Some(known) = last::known() {
        return Ok(Some(known));
    }
    if let Some(known) = outside::running() {
        return Ok(known);
    }
    let found = GET.call()?;
    Ok(if found.is_none() { None } else { Some(found) })
}

/// `asyncio._get_running_loop`
static GET: Builtin = Builtin::new();

/// Finds the function. Called once.
pub(crate) fn init() -> R<()> {
    GET.fill(&imports::GET_RUNNING_LOOP)
}

/// `asyncio._set_running_loop(loop)`
pub(crate) fn set(running: Option<&Obj>) -> R<()> {
    match running {
        Some(running) => imports::SET_RUNNING_LOOP.call(&[running])?,
        None => imports::SET_RUNNING_LOOP.call(&[&Obj::none()])?,
    };
    #[cfg(not(Py_3_13))]
    last::remember(running);
    current::set_loop(running);
    Ok(())
}

/// No loop runs on this thread, by the interpreter's word. If we hold one still (a guest whose host has not told us), it is
/// let go of.
pub(crate) fn let_go_of_guest() {
    current::set_loop(None);
}

/// The [number](Task::serial) of this thread's current task, if it is one of ours on a loop of ours; else 0. It must
/// cost next to nothing: every lock that is acquired asks.
#[inline(always)]
pub(crate) fn task_identity() -> u64 {
    current_task(|task| task.serial()).unwrap_or(0)
}

/// `f` of this thread's current task, if it is one of ours on a loop of ours. `f` must not run Python code.
#[inline(always)]
pub(crate) fn current_task<T>(f: impl FnOnce(&Own<Task>) -> T) -> Option<T> {
    #[cfg(not(Py_3_14))]
    return current::task(f);
    #[cfg(Py_3_14)]
    return outside::current_task(|task| Task::class().instance(task).map(f)).flatten();
}

/// Does a loop of ours run on this thread?
#[inline]
pub(crate) fn in_loop() -> bool {
    current::in_loop()
}

/// Where this thread's innermost Python function is; nowhere, if that is the one that runs the loop: no function of the
/// program is called just now.
#[inline]
pub(crate) fn site() -> Site {
    let here = Site::here();
    if here == current::entered_at() {
        Site::NOWHERE
    } else {
        here
    }
}

/// The loop of ours that runs on this thread. Before 3.14 it is what knows the current task.
///
/// It is held until we are told that none runs, as the interpreter holds the running loop. Its own word is not enough: a
/// guest's host may tell the interpreter alone (`asyncio._set_running_loop(None)`), let go of the loop, and go on. Such a
/// loop lives until another one runs here.
mod current {
    use super::super::object::Obj;
    use super::super::stack::Site;
    use crate::event_loop::core::{self, LoopCore};
    #[cfg(not(Py_3_14))]
    use crate::{ffi::Own, tasks::Task};
    use pyo3::ffi as c;
    use std::cell::Cell;
    use std::ptr::{from_ref, null, null_mut};

    thread_local! {
        /// Of [`HELD`].
        static LOOP: Cell<*const LoopCore> = const { Cell::new(null()) };
        /// Owned, or null.
        static HELD: Cell<*mut c::PyObject> = const { Cell::new(null_mut()) };
        /// Who runs it.
        static ENTERED_AT: Cell<Site> = const { Cell::new(Site::NOWHERE) };
    }

    /// The running loop is this one, or none.
    pub(super) fn set_loop(running: Option<&Obj>) {
        let core = running.and_then(core::of);
        let held = running.filter(|_| core.is_some()).cloned();
        LOOP.set(core.map_or(null(), |core| from_ref::<LoopCore>(core)));
        ENTERED_AT.set(core.map_or(Site::NOWHERE, |_| Site::here()));
        let before = HELD.replace(held.map_or(null_mut(), Obj::into_ptr));
        // SAFETY: what `HELD` owned. It is the last thing here: whatever it runs finds all as it is to be.
        unsafe { c::Py_XDECREF(before) }
    }

    #[inline]
    pub(super) fn entered_at() -> Site {
        ENTERED_AT.get()
    }

    #[inline]
    pub(super) fn in_loop() -> bool {
        !LOOP.get().is_null()
    }

    #[cfg(not(Py_3_14))]
    #[inline(always)]
    pub(super) fn task<T>(f: impl FnOnce(&Own<Task>) -> T) -> Option<T> {
        let core = LOOP.get();
        if core.is_null() {
            return None;
        }
        // SAFETY: part of the loop in `HELD`, which only `set_loop` lets go of, and then has put another one here.
        let core = unsafe { &*core };
        core.current.look(f)
    }
}

/// The answer of `get()` without a call (which on 3.11 asks the kernel for the process id).
///
/// Up to 3.12 the running loop is an entry of the thread state's dict: on 3.11 an object made by every
/// `_set_running_loop()`, later the loop itself. While the entry is the one that our own `set()` left
/// there, the loop is the one that it was given, whatever others do. We keep the entry alive, so that
/// no other object can have its address; a fork makes the answer unknown.
#[cfg(not(Py_3_13))]
mod last {
    use super::super::object::Obj;
    use super::super::threads::fork_epoch;
    use crate::imports::names;
    use pyo3::ffi as c;
    use std::cell::Cell;
    use std::ptr::null_mut;

    #[derive(Clone, Copy)]
    struct Last {
        /// Owned, or null.
        entry: *mut c::PyObject,
        /// Owned, or null.
        running: *mut c::PyObject,
        epoch: u32,
    }

    thread_local! {
        static LAST: Cell<Last> = const { Cell::new(Last { entry: null_mut(), running: null_mut(), epoch: 0 }) };
    }

    /// What the thread state's dict holds; borrowed, perhaps null.
    #[inline(always)]
    fn entry() -> *mut c::PyObject {
        // SAFETY: the GIL is held; looking up an interned str in a dict of such runs no code and fails with null.
        unsafe {
            let dict = c::PyThreadState_GetDict();
            if dict.is_null() {
                null_mut()
            } else {
                c::PyDict_GetItemWithError(dict, names::RUNNING_LOOP.as_ptr())
            }
        }
    }

    #[inline]
    pub(super) fn known() -> Option<Obj> {
        let last = LAST.get();
        if last.entry.is_null() || last.epoch != fork_epoch() || last.entry != entry() {
            return None;
        }
        // SAFETY: owned by `LAST`.
        Some(unsafe { Obj::borrowed_unchecked(last.running) })
    }

    pub(super) fn remember(running: Option<&Obj>) {
        let mut new = Last {
            entry: null_mut(),
            running: null_mut(),
            epoch: fork_epoch(),
        };
        if let (Some(running), entry) = (running, entry())
            && !entry.is_null()
        {
            // SAFETY: alive in the dict.
            new.entry = unsafe { Obj::borrowed_unchecked(entry) }.into_ptr();
            new.running = running.clone().into_ptr();
        }
        let old = LAST.replace(new);
        // SAFETY: what `LAST` owned.
        unsafe {
            c::Py_XDECREF(old.entry);
            c::Py_XDECREF(old.running);
        }
    }
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
#[cfg(Py_3_14)]
#[inline]
pub(crate) fn enter_task(task: &super::Own<crate::tasks::Task>) -> R<()> {
    let loop_ = task.as_future().require_loop()?;
    if !outside::enter(&loop_, task.obj()) {
        imports::ENTER_TASK.call(&[&loop_, task.obj()])?;
    }
    Ok(())
}

/// Takes it back, handing on the result of the step.
#[cfg(Py_3_14)]
#[inline]
pub(crate) fn leave_task<T>(task: &super::Own<crate::tasks::Task>, result: R<T>) -> R<T> {
    let loop_ = task.as_future().require_loop()?;
    if outside::leave(&loop_, task.obj()) {
        return result;
    }
    crate::tasks::step::leave_foreign(&loop_, task, result)
}
