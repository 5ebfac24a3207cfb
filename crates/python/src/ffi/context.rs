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
