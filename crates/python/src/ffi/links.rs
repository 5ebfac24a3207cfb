//! The list of all tasks that are not done: intrusive, two pointers a task, no weak references.
//!
//! Rules
//! 1. A task is linked when it is made and unlinked when it is done or (first thing) deallocated; so
//!    every task in the list is alive whenever Python code can run.
//! 2. The list is touched with the GIL held, and walking it runs no Python code but increfs.

use super::class::{Class, Own};
use pyo3::ffi as c;
use std::cell::Cell;
use std::ptr;

/// The two pointers. Each is the address of an object or null.
pub(crate) struct Links {
    prev: Cell<*mut c::PyObject>,
    next: Cell<*mut c::PyObject>,
    linked: Cell<bool>,
}

impl Default for Links {
    fn default() -> Self {
        Links {
            prev: Cell::new(ptr::null_mut()),
            next: Cell::new(ptr::null_mut()),
            linked: Cell::new(false),
        }
    }
}

/// A class with links.
pub(crate) trait Linked: Class {
    /// Where they are.
    fn links(&self) -> &Links;
    /// The list of the class.
    fn list() -> &'static Head<Self>;
}

/// The first object of the list.
pub(crate) struct Head<T>(Cell<*mut c::PyObject>, std::marker::PhantomData<fn() -> T>);

// SAFETY: rule 2: only with the GIL held.
unsafe impl<T> Sync for Head<T> {}

impl<T: Linked> Head<T> {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Head(Cell::new(ptr::null_mut()), std::marker::PhantomData)
    }

    /// Puts an object at the front.
    #[inline(always)]
    pub(crate) fn link(&self, object: &Own<T>) {
        let links = object.links();
        if links.linked.replace(true) {
            return;
        }
        let (this, first) = (object.obj().as_ptr(), self.0.get());
        links.next.set(first);
        links.prev.set(ptr::null_mut());
        if !first.is_null() {
            // SAFETY: rule 1: what is in the list is alive.
            unsafe { Own::<T>::view(&first) }.links().prev.set(this);
        }
        self.0.set(this);
    }

    /// Takes an object out, if it is in.
    #[inline(always)]
    pub(crate) fn unlink(&self, links: &Links) {
        if !links.linked.replace(false) {
            return;
        }
        let (prev, next) = (links.prev.get(), links.next.get());
        if prev.is_null() {
            self.0.set(next);
        } else {
            // SAFETY: rule 1.
            unsafe { Own::<T>::view(&prev) }.links().next.set(next);
        }
        if !next.is_null() {
            // SAFETY: rule 1.
            unsafe { Own::<T>::view(&next) }.links().prev.set(prev);
        }
    }

    /// All objects, newest first.
    pub(crate) fn snapshot(&self) -> Vec<Own<T>> {
        let (mut all, mut at) = (Vec::new(), self.0.get());
        while !at.is_null() {
            // SAFETY: rule 1.
            let object = unsafe { Own::<T>::view(&at) };
            all.push(object.clone());
            let next = object.links().next.get();
            at = next;
        }
        all
    }
}
