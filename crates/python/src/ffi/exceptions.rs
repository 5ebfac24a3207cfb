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
