//! A builtin function without parameters, called as the interpreter calls it in the end: by its C function.
//!
//! What lies between costs more than what some of these functions do: on 3.13 nine tenths of
//! `_asyncio._get_running_loop()`, which reads one field.

use super::errors::R;
use super::object::{Obj, Static};
use pyo3::ffi as c;
use std::cell::Cell;

/// The function.
pub(crate) struct Builtin {
    object: Static,
    direct: Cell<Option<Direct>>,
}

/// Its C function, and the `self` that it gets.
#[derive(Clone, Copy)]
struct Direct {
    function: c::PyCFunction,
    this: *mut c::PyObject,
}

// SAFETY: filled once, when the extension module is made, and read only, with the GIL held.
unsafe impl Sync for Builtin {}

impl Builtin {
    /// An empty place.
    pub(crate) const fn new() -> Builtin {
        Builtin {
            object: Static::new(),
            direct: Cell::new(None),
        }
    }

    /// Puts the function there, and keeps it for ever. Anything but such a builtin is called as an object.
    pub(crate) fn fill(&self, object: &Obj) -> R<()> {
        let ptr = object.as_ptr();
        // SAFETY: alive; the class is checked before the rest is asked for. The function keeps its `self` alive.
        unsafe {
            if c::PyCFunction_CheckExact(ptr) != 0 && c::PyCFunction_GetFlags(ptr) == c::METH_NOARGS {
                let this = c::PyCFunction_GetSelf(ptr);
                self.direct
                    .set(c::PyCFunction_GetFunction(ptr).map(|function| Direct { function, this }));
            }
        }
        self.object.fill(object.clone());
        Ok(())
    }

    /// Calls it.
    #[inline(always)]
    pub(crate) fn call(&'static self) -> R<Obj> {
        match self.direct.get() {
            // SAFETY: a function without parameters gets its `self` and null.
            Some(direct) => unsafe { Obj::owned((direct.function)(direct.this, std::ptr::null_mut())) },
            None => self.object.call0(),
        }
    }
}
