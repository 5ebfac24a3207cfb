//! `contextvars`: entering and leaving a `Context` without a Python call.

use super::errors::R;
use super::object::{Obj, check};
use pyo3::ffi as c;

/// `contextvars.copy_context()`
#[inline]
pub(crate) fn copy() -> R<Obj> {
    // SAFETY: the GIL is held.
    unsafe { Obj::owned(c::PyContext_CopyCurrent()) }
}

/// As [`copy`], for somebody who keeps it in a queue: the garbage collector does not see it. Whoever has it
/// shows what is [inside](super::Visitor::inside), and [shows](show) it when others may have it too.
///
/// A context can't simply be untracked: when it dies it takes itself out of the collector's list without asking
/// whether it is there. So it is a list of its own.
#[inline]
pub(crate) fn hidden_copy() -> R<Obj> {
    let copy = copy()?;
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: an object with GC support. The two words before it are its links, to itself now, with no flags.
    unsafe {
        c::PyObject_GC_UnTrack(copy.as_ptr().cast());
        let links = copy.as_ptr().cast::<usize>().sub(2);
        links.write(links.addr());
        links.add(1).write(links.addr());
    }
    Ok(copy)
}

/// Is it as [`hidden_copy`] made it?
#[inline]
pub(crate) fn is_hidden(context: &Obj) -> bool {
    // SAFETY: an object with GC support: the words are there.
    unsafe {
        let links = context.as_ptr().cast::<usize>().sub(2);
        cfg!(not(Py_GIL_DISABLED)) && links.read() == links.addr()
    }
}

/// The garbage collector sees it from now on.
#[inline]
pub(crate) fn show(context: &Obj) {
    if is_hidden(context) {
        // SAFETY: complete; taken out of its own list before it goes into the collector's.
        unsafe {
            c::PyObject_GC_UnTrack(context.as_ptr().cast());
            c::PyObject_GC_Track(context.as_ptr().cast());
        }
    }
}

/// `context.copy()`
#[inline]
pub(crate) fn copy_of(context: &Obj) -> R<Obj> {
    // SAFETY: alive; a non-context raises TypeError.
    unsafe { Obj::owned(c::PyContext_Copy(context.as_ptr())) }
}

/// Is it a `contextvars.Context`?
pub(crate) fn is_context(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// A context that has been entered. The thread state has a reference to it until it is left.
#[must_use]
pub(crate) struct Entered(*mut c::PyObject);

impl Entered {
    /// Leaves it with the result of what ran in it. An exception that is set stays set.
    #[inline(always)]
    pub(crate) fn exit_with<T>(self, result: R<T>) -> R<T> {
        // SAFETY: the thread state keeps it alive until this call takes its reference away.
        let left = check(unsafe { c::PyContext_Exit(self.0) });
        // Only a program that exits our context itself can make this fail.
        match (result, left) {
            (Ok(value), Ok(())) => Ok(value),
            (Err(raised), _) | (Ok(_), Err(raised)) => Err(raised),
        }
    }
}

/// Enters a context; RuntimeError if it is entered already. Runs no Python code.
#[inline(always)]
pub(crate) fn enter(context: &Obj) -> R<Entered> {
    let ptr = context.as_ptr();
    // SAFETY: alive; a non-context raises TypeError.
    check(unsafe { c::PyContext_Enter(ptr) })?;
    Ok(Entered(ptr))
}

/// Runs `f` inside `context`.
#[inline]
pub(crate) fn run<T>(context: &Obj, f: impl FnOnce() -> R<T>) -> R<T> {
    let entered = enter(context)?;
    let result = f();
    entered.exit_with(result)
}
