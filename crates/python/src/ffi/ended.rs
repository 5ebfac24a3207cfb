//! How a native awaitable ends with a value where `await` drives it by `tp_iternext` (3.12 to 3.14).
//!
//! The value travels in a StopIteration, which the interpreter unpacks and drops at once. Making and
//! freeing one costs as much as all the rest of an `await` that need not wait, so dead ones are used
//! again. For that they are of a class of our own, StopIteration with nothing added. Only a program
//! that calls `next()` on an awaitable can see it; `send()` and `throw()` raise a plain one.

use super::errors::R;
use super::object::Obj;

/// Sets `StopIteration(value)`, for a `tp_iternext` that returns null.
#[cfg(not(Py_3_12))]
pub(crate) fn end_with(value: Obj) {
    super::send::stop_iteration(value);
}

/// Nothing to make: on 3.11 `await` uses `am_send`.
#[cfg(not(Py_3_12))]
pub(crate) fn init() -> R<()> {
    Ok(())
}

#[cfg(Py_3_12)]
pub(crate) use carrier::{end_with, init};

#[cfg(Py_3_12)]
mod carrier {
    use super::{Obj, R};
    use crate::ffi::class::{init_head, untrack};
    use crate::ffi::object::Static;
    use pyo3::ffi as c;
    use std::cell::UnsafeCell;
    use std::ffi::c_void;
    use std::ptr::{NonNull, null_mut};

    /// How many dead ones are kept. They are alive for an instant: more than one at a time only if
    /// somebody holds one. (A free-threaded build keeps none: see `class.rs`.)
    const KEPT: usize = if cfg!(Py_GIL_DISABLED) { 0 } else { 8 };

    struct Free(UnsafeCell<Vec<NonNull<c::PyObject>>>);

    // SAFETY: touched only with the GIL held.
    unsafe impl Sync for Free {}

    static FREE: Free = Free(UnsafeCell::new(Vec::new()));
    static CLASS: Static = Static::new();
    static NO_ARGS: Static = Static::new();

    /// Makes the class.
    pub(crate) fn init() -> R<()> {
        let mut slots = [
            c::PyType_Slot {
                slot: c::Py_tp_dealloc,
                pfunc: dealloc as *mut c_void,
            },
            c::PyType_Slot {
                slot: 0,
                pfunc: null_mut(),
            },
        ];
        let mut spec = c::PyType_Spec {
            name: c"builtins.StopIteration".as_ptr(),
            basicsize: 0,
            itemsize: 0,
            flags: (c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_IMMUTABLETYPE) as _,
            slots: slots.as_mut_ptr(),
        };
        NO_ARGS.fill(Obj::tuple(&[])?);
        // SAFETY: a complete spec; size, traversal and construction are those of the base.
        CLASS.fill(unsafe { Obj::owned(c::PyType_FromSpecWithBases(&mut spec, c::PyExc_StopIteration))? });
        Ok(())
    }

    unsafe extern "C" fn dealloc(op: *mut c::PyObject) {
        // SAFETY: called once, with the last reference gone. What it holds is dropped, which may run
        // code, before the memory is offered for use again.
        unsafe {
            untrack(op);
            let fields = op.cast::<c::PyStopIterationObject>();
            if is_unseen(fields) {
                c::Py_XDECREF(std::mem::replace(&mut (*fields).value, null_mut()));
            } else if let Some(clear) = (*c::PyExc_StopIteration.cast::<c::PyTypeObject>()).tp_clear {
                clear(op);
            }
            let free = &mut *FREE.0.get();
            if free.len() < KEPT {
                // (a dead instance keeps its reference to the type)
                free.push(NonNull::new_unchecked(op));
                return;
            }
            let class = c::Py_TYPE(op);
            c::Py_CLEAR(&mut (*fields).args);
            if let Some(tp_free) = (*class).tp_free {
                tp_free(op.cast());
            }
            c::Py_DECREF(class.cast());
        }
    }

    /// Has nobody but the interpreter's `await` had it? Then it holds no more than [`end_with`] gave it.
    ///
    /// # Safety
    /// An instance of `CLASS`.
    #[inline(always)]
    unsafe fn is_unseen(fields: *mut c::PyStopIterationObject) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            (*fields).args == NO_ARGS.as_ptr()
                && (*fields).dict.is_null()
                && (*fields).notes.is_null()
                && (*fields).traceback.is_null()
                && (*fields).context.is_null()
                && (*fields).cause.is_null()
        }
    }

    /// Sets `StopIteration(value)`, for a `tp_iternext` that returns null.
    #[inline]
    pub(crate) fn end_with(value: Obj) {
        // SAFETY: a dead instance of `CLASS` (all its fields null but perhaps `args`), or a new one; it is complete before it
        // is raised. It is not tracked: it is gone before a collection could come, but for a program that
        // catches it, and cannot be part of a cycle unless that program makes one.
        unsafe {
            let exception = match (*FREE.0.get()).pop() {
                Some(dead) => {
                    init_head(dead.as_ptr());
                    dead.as_ptr()
                }
                None => match fresh() {
                    Some(fresh) => fresh,
                    None => return,
                },
            };
            let fields = exception.cast::<c::PyStopIterationObject>();
            if (*fields).args.is_null() {
                (*fields).args = NO_ARGS.get().clone().into_ptr();
            }
            (*fields).value = value.into_ptr();
            (&raw mut (*fields).suppress_context).cast::<u8>().write(0);
            c::PyErr_SetRaisedException(exception);
        }
    }

    /// A new instance, all fields null. `None`: there is no memory, and MemoryError is set.
    #[cold]
    fn fresh() -> Option<*mut c::PyObject> {
        // SAFETY: the class's allocator gives zeroed memory.
        let exception = unsafe { c::PyType_GenericAlloc(CLASS.as_ptr().cast(), 0) };
        (!exception.is_null()).then_some(exception)
    }
}
