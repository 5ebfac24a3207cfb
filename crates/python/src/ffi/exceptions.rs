//! Exception objects: their traceback and context, as the interpreter itself handles them.

use super::object::Obj;
use pyo3::ffi as c;

/// Is it an exception class (and not an instance)?
pub(crate) fn is_class(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyExceptionClass_Check(object.as_ptr()) != 0 }
}

/// Is it an exception instance?
pub(crate) fn is_instance(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyExceptionInstance_Check(object.as_ptr()) != 0 }
}

/// `exception.__traceback__`
pub(crate) fn traceback(exception: &Obj) -> Option<Obj> {
    if !is_instance(exception) {
        return None;
    }
    // SAFETY: an exception instance; a new reference or null.
    unsafe {
        let traceback = c::PyException_GetTraceback(exception.as_ptr());
        if traceback.is_null() {
            None
        } else {
            Some(Obj::owned_unchecked(traceback))
        }
    }
}

/// `exception.__traceback__ = traceback`
pub(crate) fn set_traceback(exception: &Obj, traceback: &Obj) {
    if is_instance(exception) {
        // SAFETY: an exception instance and a traceback or None (what `traceback` gave).
        unsafe {
            c::PyException_SetTraceback(exception.as_ptr(), traceback.as_ptr());
        }
    }
}

/// `exception.__context__ = context`
pub(crate) fn set_context(exception: &Obj, context: Option<Obj>) {
    if is_instance(exception) {
        // SAFETY: an exception instance; the call takes the reference (or null).
        unsafe {
            c::PyException_SetContext(
                exception.as_ptr(),
                context.map_or(std::ptr::null_mut(), Obj::into_ptr),
            )
        }
    }
}

/// `exception.__context__`
pub(crate) fn context(exception: &Obj) -> Option<Obj> {
    if !is_instance(exception) {
        return None;
    }
    // SAFETY: an exception instance; a new reference or null.
    unsafe {
        let context = c::PyException_GetContext(exception.as_ptr());
        if context.is_null() {
            None
        } else {
            Some(Obj::owned_unchecked(context))
        }
    }
}

/// `exception.__cause__ = cause`
pub(crate) fn set_cause(exception: &Obj, cause: Option<Obj>) {
    if is_instance(exception) {
        // SAFETY: an exception instance; the call takes the reference (or null).
        unsafe {
            c::PyException_SetCause(
                exception.as_ptr(),
                cause.map_or(std::ptr::null_mut(), Obj::into_ptr),
            )
        }
    }
}

/// Runs `f` as in `except … as exception:`. What it raises has `exception` in its chain of contexts.
pub(crate) fn handling<T>(exception: &Obj, f: impl FnOnce() -> T) -> T {
    // SAFETY: the GIL is held. `Get` gives a new reference or null, `Set` makes its own. `Get` gives what the innermost
    // frame handles or, if that is nothing, what one around it handles, which must not be written into the inner one:
    // it outlives the handling there. So the inner one is emptied first, to see which of the two it was.
    unsafe {
        let before = handled();
        c::PyErr_SetHandledException(std::ptr::null_mut());
        let around = handled();
        c::PyErr_SetHandledException(exception.as_ptr());
        let result = f();
        let same = match (&before, &around) {
            (Some(before), Some(around)) => before.is(around),
            (before, _) => before.is_none(),
        };
        c::PyErr_SetHandledException(match before {
            Some(ref before) if !same => before.as_ptr(),
            _ => std::ptr::null_mut(),
        });
        result
    }
}

/// `sys.exception()`
fn handled() -> Option<Obj> {
    // SAFETY: the GIL is held; a new reference or null.
    unsafe {
        let exception = c::PyErr_GetHandledException();
        (!exception.is_null()).then(|| Obj::owned_unchecked(exception))
    }
}
