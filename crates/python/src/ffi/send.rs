//! Driving coroutines: `PyIter_Send`, and ending a native awaitable with a value.

use super::class::Step;
use super::errors::{R, Raised, type_error};
use super::object::Obj;
use pyo3::ffi as c;

/// `coro.send(value)` without making a StopIteration.
#[inline(always)]
pub(crate) fn send(coro: &Obj, value: &Obj) -> Step {
    let mut result = std::ptr::null_mut();
    // SAFETY: both alive; `result` is a place for a new reference, filled unless there is an error. The slot
    // is called as `PyIter_Send` does.
    unsafe {
        let methods = (*c::Py_TYPE(coro.as_ptr())).tp_as_async;
        let slot = (!methods.is_null()).then(|| (*methods).am_send).flatten();
        let sent = match slot {
            Some(am_send) => am_send(coro.as_ptr(), value.as_ptr(), &mut result),
            None => c::PyIter_Send(coro.as_ptr(), value.as_ptr(), &mut result),
        };
        match sent {
            c::PySendResult::PYGEN_NEXT => Step::Yield(Obj::owned_unchecked(result)),
            c::PySendResult::PYGEN_RETURN => Step::Return(Obj::owned_unchecked(result)),
            c::PySendResult::PYGEN_ERROR => Step::Raise(Raised::set()),
        }
    }
}

/// Turns the StopIteration that is set into its value; any other exception stays.
#[cold]
pub(crate) fn stop_iteration_value(raised: Raised) -> R<Obj> {
    unsafe extern "C" {
        fn _PyGen_FetchStopIterationValue(value: *mut *mut c::PyObject) -> std::ffi::c_int;
    }
    let mut value = std::ptr::null_mut();
    // SAFETY: an exception is set; on 0 `value` is a new reference and the exception is gone.
    unsafe {
        if _PyGen_FetchStopIterationValue(&mut value) == 0 {
            return Obj::owned(value);
        }
    }
    Err(raised)
}

/// `coro.throw(exc)`
#[cold]
pub(crate) fn throw(coro: &Obj, exc: &Obj) -> Step {
    match coro.call_method(&crate::imports::names::THROW, &[exc]) {
        Ok(value) => Step::Yield(value),
        Err(raised) => Step::from(stop_iteration_value(raised)),
    }
}

/// Sets `StopIteration(value)`, as a generator that returns does.
pub(crate) fn stop_iteration(value: Obj) {
    unsafe extern "C" {
        fn _PyGen_SetStopIterationValue(value: *mut c::PyObject) -> std::ffi::c_int;
    }
    // SAFETY: alive; on failure another exception is set, which is just as well.
    unsafe {
        _PyGen_SetStopIterationValue(value.as_ptr());
    }
}

/// The iterator that `await object` would drive.
pub(crate) fn await_iter(object: &Obj) -> R<Obj> {
    // SAFETY: alive; slots are called as the interpreter calls them.
    unsafe {
        let class = c::Py_TYPE(object.as_ptr());
        if (c::PyCoro_CheckExact(object.as_ptr()) != 0) || is_iterable_coroutine(object)? {
            return Ok(object.clone());
        }
        let methods = (*class).tp_as_async;
        if let Some(am_await) = (!methods.is_null()).then(|| (*methods).am_await).flatten() {
            let iter = Obj::owned(am_await(object.as_ptr()))?;
            if c::PyCoro_CheckExact(iter.as_ptr()) != 0 || is_iterable_coroutine(&iter)? {
                return Err(type_error("__await__() returned a coroutine"));
            }
            if c::PyIter_Check(iter.as_ptr()) == 0 {
                let name = iter.class_name();
                return Err(type_error(&format!(
                    "__await__() returned non-iterator of type '{name}'"
                )));
            }
            return Ok(iter);
        }
        let name = object.class_name();
        Err(type_error(&if cfg!(Py_3_14) {
            format!("'{name}' object can't be awaited")
        } else {
            format!("object {name} can't be used in 'await' expression")
        }))
    }
}

/// A generator made a coroutine by `types.coroutine`.
fn is_iterable_coroutine(object: &Obj) -> R<bool> {
    const CO_ITERABLE_COROUTINE: i64 = 0x100;
    // SAFETY: alive.
    if unsafe { c::PyGen_CheckExact(object.as_ptr()) } == 0 {
        return Ok(false);
    }
    Ok(object.getattr_str("gi_code")?.getattr_str("co_flags")?.to_i64()? & CO_ITERABLE_COROUTINE != 0)
}

/// Is it exactly a generator?
pub(crate) fn is_generator(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyGen_CheckExact(object.as_ptr()) != 0 }
}

/// Is it exactly an asynchronous generator?
pub(crate) fn is_async_generator(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyAsyncGen_CheckExact(object.as_ptr()) != 0 }
}

/// Is it exactly the coroutine of an `async def`?
#[inline(always)]
pub(crate) fn is_coroutine(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyCoro_CheckExact(object.as_ptr()) != 0 }
}
