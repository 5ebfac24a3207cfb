//! The list of all tasks that are not done: intrusive, two pointers a task, no weak references.
//!
//! On 3.14+ the list is the interpreter's own, one for each thread, if [`outside`] finds where it is:
//! then asyncio's `all_tasks` and the debuggers of other processes see our tasks in it as they see asyncio's.
//! Otherwise it is a list of ours. The nodes are the same, those of CPython's `llist.h`.
//!
//! Rules
//! 1. A task is linked when it is made and unlinked when it is done or (first thing) deallocated; so
//!    every task in a list is alive whenever Python code can run.
//! 2. The lists are touched with the GIL held, and walking one runs no Python code but increfs.
//! 3. To take a node out one needs not know the list: the interpreter moves the nodes of a thread that ends.

use super::class::{Class, Own, body_offset};
use super::outside;
use std::cell::Cell;
use std::ptr;

/// `struct llist_node`. Both are null in a node that is in no list.
#[repr(C)]
pub(crate) struct Links {
    next: Cell<*const Links>,
    prev: Cell<*const Links>,
}

/// Where in a node its neighbours are: `diag/attach` reads them without the GIL.
pub(crate) const NEXT: usize = std::mem::offset_of!(Links, next);
pub(crate) const PREV: usize = std::mem::offset_of!(Links, prev);

impl Default for Links {
    fn default() -> Self {
        Links::new()
    }
}

impl Links {
    const fn new() -> Links {
        Links {
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
        }
    }
}

/// A class with links.
pub(crate) trait Linked: Class {
    /// Where they are in the struct.
    const LINKS: usize;
    /// The list of the class.
    fn list() -> &'static Head<Self>;
}

/// A list of ours: its first node links to itself when it is empty.
pub(crate) struct Head<T>(Links, std::marker::PhantomData<fn() -> T>);

// SAFETY: rule 2: only with the GIL held.
unsafe impl<T> Sync for Head<T> {}

fn links<T: Linked>(body: &T) -> &Links {
    // SAFETY: `LINKS` is the offset of a `Links` in `T`.
    unsafe { &*(&raw const *body).byte_add(T::LINKS).cast::<Links>() }
}

impl<T: Linked> Head<T> {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Head(Links::new(), std::marker::PhantomData)
    }

    /// Where our own head is. Its links are null before the first task.
    pub(crate) fn address(&'static self) -> usize {
        (&raw const self.0).addr()
    }

    /// Our own head, made when it is first needed: a static can not point to itself.
    fn own(&'static self) -> &'static Links {
        if self.0.next.get().is_null() {
            self.0.next.set(&raw const self.0);
            self.0.prev.set(&raw const self.0);
        }
        &self.0
    }

    /// Puts an object at the end.
    #[inline(always)]
    pub(crate) fn link(&'static self, object: &Own<T>) {
        let node = links::<T>(object);
        if !node.next.get().is_null() {
            return;
        }
        let head = match outside::tasks_of_thread() {
            // SAFETY: the head of the running thread's list, alive as long as the thread.
            Some(head) => unsafe { &*head.cast::<Links>() },
            None => self.own(),
        };
        let last = head.prev.get();
        node.prev.set(last);
        node.next.set(head);
        // SAFETY: rule 1: what is in a list is alive.
        unsafe { (*last).next.set(node) };
        head.prev.set(node);
    }

    /// Takes an object out, if it is in.
    #[inline(always)]
    pub(crate) fn unlink(&self, object: &T) {
        let node = links(object);
        let (prev, next) = (node.prev.replace(ptr::null()), node.next.replace(ptr::null()));
        if !next.is_null() {
            // SAFETY: rule 1.
            unsafe {
                (*prev).next.set(next);
                (*next).prev.set(prev);
            }
        }
    }

    /// All in the list that this thread's tasks are put into.
    pub(crate) fn of_thread(&'static self) -> Vec<Own<T>> {
        let Some(head) = outside::tasks_of_thread() else {
            return self.snapshot();
        };
        let head: *const Links = head.cast();
        let mut all = Vec::new();
        // SAFETY: rules 1 and 2. The list has tasks of asyncio too, whose nodes lie where ours do (`outside.rs`): that
        // it is an object is certain, and of which class it asks.
        unsafe {
            let mut at = (*head).next.get();
            while at != head {
                let object: *mut pyo3::ffi::PyObject =
                    at.byte_sub(T::LINKS + body_offset()).cast_mut().cast();
                if let Some(task) = T::class().instance(super::Obj::view(&object)) {
                    all.push(task.clone());
                }
                at = (*at).next.get();
            }
        }
        all
    }

    /// What is in our own list.
    pub(crate) fn snapshot(&'static self) -> Vec<Own<T>> {
        let head: *const Links = self.own();
        let (mut all, mut at) = (Vec::new(), self.0.next.get());
        while at != head {
            // SAFETY: rule 1, and in our own list every node lies in a `T`.
            unsafe {
                let object = at.byte_sub(T::LINKS + body_offset()).cast_mut().cast();
                all.push(Own::<T>::view(&object).clone());
                at = (*at).next.get();
            }
        }
        all
    }
}
