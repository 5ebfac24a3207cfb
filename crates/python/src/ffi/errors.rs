//! The error indicator as a Rust type.
//!
//! [`Raised`] is a token: "an exception is set in the thread state". It carries nothing, so that
//! `?` costs a register, and the exception itself is never copied about.

use super::object::Obj;
use pyo3::ffi as c;

/// The exception is in the thread state. Made only by the C API's failures and by `raise`.
#[derive(Debug)]
#[must_use]
pub(crate) struct Raised(());

/// The result of anything that may run Python code.
pub(crate) type R<T> = Result<T, Raised>;

impl Raised {
    /// The C API has just reported a failure.
    pub(crate) fn set() -> Raised {
        // SAFETY: the GIL is held (module rule).
        debug_assert!(unsafe { !c::PyErr_Occurred().is_null() });
        Raised(())
    }

    /// Takes the exception out of the thread state, with its traceback attached.
    #[cold]
    pub(crate) fn take(self) -> Obj {
        #[cfg(Py_3_12)]
        // SAFETY: the GIL is held; an exception is set (the token's meaning), so the result is not null.
        unsafe {
            Obj::owned_unchecked(c::PyErr_GetRaisedException())
        }
        #[cfg(not(Py_3_12))]
        // SAFETY: as above; normalisation leaves three owned references, of which `value` is set.
        unsafe {
            let (mut ty, mut value, mut tb) =
                (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
            c::PyErr_Fetch(&mut ty, &mut value, &mut tb);
            c::PyErr_NormalizeException(&mut ty, &mut value, &mut tb);
            if !tb.is_null() {
                c::PyException_SetTraceback(value, tb);
                c::Py_DECREF(tb);
            }
            c::Py_XDECREF(ty);
            Obj::owned_unchecked(value)
        }
    }

    /// Drops the exception. Only for the places where asyncio itself ignores one.
    #[cold]
    pub(crate) fn ignore(self) {
        // SAFETY: the GIL is held.
        unsafe { c::PyErr_Clear() }
    }

    /// It stays set: whoever has called us from C is told that something is, and finds it.
    pub(super) fn leave(self) {
        let _ = std::mem::ManuallyDrop::new(self);
    }

    /// Does the exception match this class (or tuple of classes)?
    pub(crate) fn matches(&self, class: &Obj) -> bool {
        // SAFETY: the GIL is held, an exception is set, `class` is alive.
        unsafe { c::PyErr_ExceptionMatches(class.as_ptr()) != 0 }
    }

    /// Reports it to `sys.unraisablehook`, for places that have nobody to tell (finalizers).
    #[cold]
    pub(crate) fn unraisable(self, where_: &Obj) {
        // SAFETY: the GIL is held and an exception is set.
        unsafe { c::PyErr_WriteUnraisable(where_.as_ptr()) }
    }
}

/// Who drops the token while the exception is set has forgotten it: the next one to look would take it for its own.
#[cfg(debug_assertions)]
impl Drop for Raised {
    fn drop(&mut self) {
        // SAFETY: the GIL is held, as ever when there is a token.
        let nothing_is_set = unsafe { c::PyErr_Occurred().is_null() };
        debug_assert!(nothing_is_set, "an exception is dropped, and stays set");
    }
}

/// What C gets of a result: the object, or null, and the exception stays set.
#[inline(always)]
pub(super) fn to_c(result: R<Obj>) -> *mut c::PyObject {
    match result {
        Ok(object) => object.into_ptr(),
        Err(raised) => {
            raised.leave();
            std::ptr::null_mut()
        }
    }
}

/// `try: … finally: …`; `tried` is how the first part ended. What the second part raises wins, and has the first one's
/// exception in its chain of contexts.
#[inline]
pub(crate) fn finally<T>(tried: R<T>, clean_up: impl FnOnce() -> R<()>) -> R<T> {
    match tried {
        Ok(value) => clean_up().map(|()| value),
        Err(raised) => Err(finally_raised(raised, clean_up)),
    }
}

/// [`finally`] after an exception. While `clean_up` runs, the exception is the one that is being handled: so the
/// interpreter itself makes the chain of contexts, and `sys.exc_info()` is as in a `finally` of Python's.
#[cold]
pub(crate) fn finally_raised(raised: Raised, clean_up: impl FnOnce() -> R<()>) -> Raised {
    let exception = raised.take();
    match super::exceptions::handling(&exception, clean_up) {
        Ok(()) => raise(&exception),
        Err(raised) => raised,
    }
}

/// Raises an exception object, as `raise exc` does but for `__context__`.
#[cold]
pub(crate) fn raise(exc: &Obj) -> Raised {
    #[cfg(Py_3_12)]
    // SAFETY: the GIL is held; the call takes the reference that we make.
    unsafe {
        c::PyErr_SetRaisedException(exc.clone().into_ptr());
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: the GIL is held; the call takes the three references.
    unsafe {
        let ty = c::Py_TYPE(exc.as_ptr()) as *mut c::PyObject;
        c::Py_INCREF(ty);
        let tb = c::PyException_GetTraceback(exc.as_ptr());
        c::PyErr_Restore(ty, exc.clone().into_ptr(), tb);
    }
    Raised(())
}

/// Raises `exc` the way the `raise` statement does: `__context__` is what is being handled now.
#[cold]
pub(crate) fn raise_with_context(exc: &Obj) -> Raised {
    // SAFETY: the GIL is held; PyErr_SetObject takes its own references.
    unsafe { c::PyErr_SetObject(c::Py_TYPE(exc.as_ptr()) as *mut c::PyObject, exc.as_ptr()) }
    Raised(())
}

/// Raises `class(text)`.
#[cold]
pub(crate) fn raise_new(class: &Obj, text: &str) -> Raised {
    match Obj::str(text).and_then(|text| class.call(&[&text])) {
        Ok(exc) => raise_with_context(&exc),
        Err(raised) => raised,
    }
}

/// `TypeError(text)`
#[cold]
pub(crate) fn type_error(text: &str) -> Raised {
    raise_new(exc::type_error(), text)
}

/// `RuntimeError(text)`
#[cold]
pub(crate) fn runtime_error(text: &str) -> Raised {
    raise_new(exc::runtime_error(), text)
}

/// `ValueError(text)`
#[cold]
pub(crate) fn value_error(text: &str) -> Raised {
    raise_new(exc::value_error(), text)
}

/// `AssertionError(text)`
#[cold]
pub(crate) fn assertion_error(text: &str) -> Raised {
    raise_new(exc::assertion_error(), text)
}

/// `AttributeError(text)`
#[cold]
pub(crate) fn attribute_error(text: &str) -> Raised {
    raise_new(exc::attribute_error(), text)
}

/// What an attribute is set to; `None` is its deletion, which it refuses.
pub(crate) fn not_deleted(value: Option<&Obj>) -> R<&Obj> {
    value.ok_or_else(|| attribute_error("cannot delete attribute"))
}

/// `ConnectionError(text)`
#[cold]
pub(crate) fn connection_error(text: &str) -> Raised {
    raise_new(exc::connection_error(), text)
}

/// `NotImplementedError(text)`
#[cold]
pub(crate) fn not_implemented(text: &str) -> Raised {
    raise_new(exc::not_implemented_error(), text)
}

/// `OSError(errno, strerror)`, which Python turns into the right subclass.
#[cold]
pub(crate) fn os_error(error: &std::io::Error) -> Raised {
    let Some(code) = error.raw_os_error() else {
        return raise_new(exc::os_error(), &error.to_string());
    };
    // SAFETY: the GIL is held; errno is set first, which is what the call reads.
    unsafe {
        *libc::__errno_location() = code;
        c::PyErr_SetFromErrno(c::PyExc_OSError);
    }
    Raised(())
}

/// The same, with the file that it is about.
#[cold]
pub(crate) fn os_error_at(error: &std::io::Error, path: &std::path::Path) -> Raised {
    let exception = os_error(error).take();
    match Obj::str(&path.display().to_string()).and_then(|path| exception.setattr_str("filename", &path)) {
        Ok(()) => raise(&exception),
        Err(raised) => raised,
    }
}

/// The builtin exception classes.
pub(crate) mod exc {
    use super::Obj;
    use pyo3::ffi as c;
    macro_rules! classes {
        ($($name:ident = $c:ident),* $(,)?) => {$(
            #[doc = concat!("`", stringify!($c), "`")]
            #[allow(dead_code)]
            pub(crate) fn $name() -> &'static Obj {
                // SAFETY: a static of the interpreter, set before any extension is loaded, never changed.
                unsafe { Obj::view(&*(&raw const c::$c)) }
            }
        )*};
    }
    classes! {
        base_exception = PyExc_BaseException, exception = PyExc_Exception, type_error = PyExc_TypeError,
        value_error = PyExc_ValueError, runtime_error = PyExc_RuntimeError, stop_iteration = PyExc_StopIteration,
        stop_async_iteration = PyExc_StopAsyncIteration, keyboard_interrupt = PyExc_KeyboardInterrupt,
        system_exit = PyExc_SystemExit, generator_exit = PyExc_GeneratorExit, attribute_error = PyExc_AttributeError,
        timeout_error = PyExc_TimeoutError, resource_warning = PyExc_ResourceWarning, runtime_warning = PyExc_RuntimeWarning,
        deprecation_warning = PyExc_DeprecationWarning, assertion_error = PyExc_AssertionError,
        blocking_io_error = PyExc_BlockingIOError, broken_pipe_error = PyExc_BrokenPipeError, process_lookup_error = PyExc_ProcessLookupError,
        permission_error = PyExc_PermissionError, interrupted_error = PyExc_InterruptedError, os_error = PyExc_OSError,
        index_error = PyExc_IndexError, import_error = PyExc_ImportError, connection_aborted_error = PyExc_ConnectionAbortedError,
        connection_reset_error = PyExc_ConnectionResetError, connection_error = PyExc_ConnectionError,
        file_not_found_error = PyExc_FileNotFoundError, key_error = PyExc_KeyError, not_implemented_error = PyExc_NotImplementedError,
    }
}

/// Sets the exception aside while a finalizer or a callback runs, and puts it back.
pub(crate) struct Saved(
    #[cfg(Py_3_12)] *mut c::PyObject,
    #[cfg(not(Py_3_12))] [*mut c::PyObject; 3],
);

impl Saved {
    /// Takes whatever is set now (perhaps nothing).
    pub(crate) fn take() -> Saved {
        #[cfg(Py_3_12)]
        // SAFETY: the GIL is held.
        return Saved(unsafe { c::PyErr_GetRaisedException() });
        #[cfg(not(Py_3_12))]
        {
            let mut t = [std::ptr::null_mut(); 3];
            let [a, b, d] = &mut t;
            // SAFETY: the GIL is held; three places to write to.
            unsafe { c::PyErr_Fetch(a, b, d) };
            Saved(t)
        }
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        #[cfg(Py_3_12)]
        // SAFETY: gives back the reference that `take` got.
        unsafe {
            c::PyErr_SetRaisedException(self.0)
        };
        #[cfg(not(Py_3_12))]
        // SAFETY: as above.
        unsafe {
            c::PyErr_Restore(self.0[0], self.0[1], self.0[2])
        };
    }
}
