//! `unseen`: the youngest objects, which the garbage collector does not see yet.
//!
//! Most awaitables die in the `await` that made them. To show one to the collector and to take it away again
//! costs as much as to make it. So the last few that were made stay hidden, and for no longer than the turn of
//! the loop in which they were made: another one shows the oldest of them, and the next turn shows all. What
//! suspends is shown at once.
//!
//! The collector takes a reference that it can't explain for a program's: what a hidden object refers to
//! lives. So nothing dies too early; garbage in a ring with one of these is found a collection later.
//!
//! Rule: what is here is alive and not tracked. It leaves when it is shown, and before it dies.

use super::class::{is_tracked, untrack};
use super::object::Obj;
use pyo3::ffi as c;
use std::cell::Cell;
use std::ptr::null_mut;

/// `async with lock` makes four: two methods, two coroutines.
const FEW: usize = 4;

struct Unseen {
    places: [Cell<*mut c::PyObject>; FEW],
    next: Cell<usize>,
}

// SAFETY: touched only with the GIL held.
unsafe impl Sync for Unseen {}

static UNSEEN: Unseen = Unseen {
    places: [const { Cell::new(null_mut()) }; FEW],
    next: Cell::new(0),
};

/// Takes a new object in.
///
/// # Safety
/// Complete, of a class with GC support, not tracked; [`show`] or [`leave`] is called before it dies.
#[inline(always)]
pub(super) unsafe fn hide(ptr: *mut c::PyObject) {
    if cfg!(Py_GIL_DISABLED) {
        // (the places are the process's, and a thread would find another one's objects in them)
        // SAFETY: complete and not tracked, by the caller's promise.
        return unsafe { c::PyObject_GC_Track(ptr.cast()) };
    }
    let next = UNSEEN.next.get() % FEW;
    UNSEEN.next.set(next + 1);
    let oldest = UNSEEN.places[next].replace(ptr);
    if !oldest.is_null() {
        // SAFETY: alive and not tracked, by the rule.
        unsafe { c::PyObject_GC_Track(oldest.cast()) }
    }
}

#[inline(always)]
fn forget(ptr: *mut c::PyObject) {
    for place in &UNSEEN.places {
        if place.get() == ptr {
            place.set(null_mut());
            return;
        }
    }
}

/// Shows an object that may be here.
///
/// # Safety
/// Alive, of a class with GC support.
#[inline(always)]
pub(super) unsafe fn show(ptr: *mut c::PyObject) {
    // SAFETY: the caller's promise.
    unsafe {
        if !is_tracked(ptr) {
            forget(ptr);
            c::PyObject_GC_Track(ptr.cast());
        }
    }
}

/// An object that may be here dies.
///
/// # Safety
/// Of a class with GC support.
#[inline(always)]
pub(super) unsafe fn leave(ptr: *mut c::PyObject) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_tracked(ptr) {
            untrack(ptr);
        } else {
            forget(ptr);
        }
    }
}

/// Puts a coroutine of the interpreter's behind all other young objects: the collector finalizes garbage in that order.
#[cold]
pub(crate) fn put_last(coroutine: &Obj) {
    let ptr = coroutine.as_ptr();
    // SAFETY: alive; coroutines have GC support, and are complete as soon as anybody has them.
    unsafe {
        if c::PyCoro_CheckExact(ptr) != 0 && c::PyObject_GC_IsTracked(ptr) != 0 {
            c::PyObject_GC_UnTrack(ptr.cast());
            c::PyObject_GC_Track(ptr.cast());
        }
    }
}

/// Shows all.
#[inline(always)]
pub(crate) fn show_all() {
    let none = UNSEEN
        .places
        .iter()
        .fold(true, |none, place| none & place.get().is_null());
    if !none {
        show_those();
    }
}

#[inline(never)]
fn show_those() {
    for place in &UNSEEN.places {
        let ptr = place.replace(null_mut());
        if !ptr.is_null() {
            // SAFETY: alive and not tracked, by the rule.
            unsafe { c::PyObject_GC_Track(ptr.cast()) }
        }
    }
}
