//! The only unsafe in this crate: CPython's C API behind safe types.
//!
//! Everything above this module works with [`Obj`] (an owned reference), [`Own<T>`] (an owned
//! reference to one of our classes), [`Slot`] (a field that the GC can see) and [`R<T>`]
//! (`Err` means: the exception is in the thread state). All of them are `!Send`: whoever holds
//! one holds the GIL.
//!
//! | Python | what differs here |
//! |---|---|
//! | 3.11 | `await` reaches a native awaitable by `am_send`; exceptions are a triple; running loop in a holder |
//! | 3.12, 3.13 | `await` goes by `tp_iternext`; `PyErr_GetRaisedException` |
//! | 3.14 | running loop and current task are fields of the thread state |
//! | 3.15 | `am_send` again |
#![allow(unsafe_code)]

pub(crate) mod audit;
pub(crate) mod bound;
pub(crate) mod builtin;
pub(crate) mod bytes;
pub(crate) mod cells;
pub(crate) mod class;
pub(crate) mod context;
pub(crate) mod coroutine;
pub(crate) mod coroutine_wrapper;
pub(crate) mod ended;
pub(crate) mod errors;
pub(crate) mod exceptions;
pub(crate) mod function;
pub(crate) mod links;
pub(crate) mod object;
pub(crate) mod openssl;
pub(crate) mod outside;
pub(crate) mod peek;
pub(crate) mod pyclass;
pub(crate) mod pysocket;
pub(crate) mod python_function;
pub(crate) mod running;
pub(crate) mod send;
pub(crate) mod spare;
pub(crate) mod stack;
pub(crate) mod threads;
pub(crate) mod unseen;
pub(crate) mod window;

pub(crate) use cells::{Fifo, Inner, OwnSlot, Slot, Unowned, WeakRefs};
pub(crate) use class::{Class, ClassCell, Extends, Own, Slots, Step, Visitor};
pub(crate) use coroutine::{Co, Coroutine};
pub(crate) use errors::{R, Raised};
pub(crate) use function::Args;
pub(crate) use object::Obj;

use pyo3::prelude::*;

/// Runs `init` on the module that PyO3 is making.
pub(crate) fn init_module(module: &Bound<'_, PyModule>, init: fn(&Obj) -> R<()>) -> PyResult<()> {
    // SAFETY: alive for the call.
    let module = unsafe { Obj::borrowed_unchecked(module.as_ptr()) };
    match init(&module) {
        Ok(()) => Ok(()),
        Err(raised) => {
            raised.leave();
            Err(Python::attach(PyErr::fetch))
        }
    }
}
