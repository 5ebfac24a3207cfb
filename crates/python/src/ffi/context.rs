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

/// Enters a context; RuntimeError if it is entered already.
#[inline]
pub(crate) fn enter(context: &Obj) -> R<()> {
    // SAFETY: alive; a non-context raises TypeError.
    check(unsafe { c::PyContext_Enter(context.as_ptr()) })
}

/// Leaves the context that `enter` entered. An exception that is set stays set.
#[inline]
pub(crate) fn exit(context: &Obj) -> R<()> {
    // SAFETY: alive.
    check(unsafe { c::PyContext_Exit(context.as_ptr()) })
}

/// Runs `f` inside `context`.
#[inline]
pub(crate) fn run<T>(context: &Obj, f: impl FnOnce() -> R<T>) -> R<T> {
    enter(context)?;
    let result = f();
    // Only a program that exits our context itself can make this fail.
    match (result, exit(context)) {
        (Ok(value), Ok(())) => Ok(value),
        (Err(raised), _) | (Ok(_), Err(raised)) => Err(raised),
    }
}
