//! Fields that the garbage collector can see and that user code may re-enter.
//!
//! Rule: no operation here runs user code while the field is in an odd state. What is replaced or
//! removed is handed to the caller, who drops it when everything is consistent again.

use super::class::{Class, Own, Visitor};
use super::object::Obj;
use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;

/// An optional reference to any object.
#[repr(transparent)]
pub(crate) struct Slot(Cell<Option<Obj>>);

impl Default for Slot {
    fn default() -> Slot {
        Slot(Cell::new(None))
    }
}

impl Slot {
    /// A new reference to what is there.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<Obj> {
        // SAFETY: nobody can change the cell while we copy (single thread, incref runs no code).
        unsafe { (*self.0.as_ptr()).clone() }
    }

    /// A look at what is there.
    ///
    /// # Safety
    /// It is neither replaced nor removed while the caller looks.
    #[inline(always)]
    pub(super) unsafe fn peek(&self) -> Option<&Obj> {
        // SAFETY: the caller's promise.
        unsafe { (*self.0.as_ptr()).as_ref() }
    }

    /// What is there, or `None` the object.
    pub(crate) fn get_or_none(&self) -> Obj {
        self.get().unwrap_or_else(Obj::none)
    }

    /// `f` of what is there. It must not run Python code.
    #[inline(always)]
    pub(crate) fn look<T>(&self, f: impl FnOnce(&Obj) -> T) -> Option<T> {
        // SAFETY: nobody can change the cell meanwhile.
        unsafe { self.peek() }.map(f)
    }

    /// Puts a value; the old one is dropped last.
    #[inline(always)]
    pub(crate) fn set(&self, value: Obj) {
        drop(self.0.replace(Some(value)));
    }

    /// Puts or empties.
    #[inline(always)]
    pub(crate) fn put(&self, value: Option<Obj>) {
        drop(self.0.replace(value));
    }

    /// Takes it out.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<Obj> {
        self.0.take()
    }

    /// Is it empty?
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: a read of the pointer.
        unsafe { (*self.0.as_ptr()).is_none() }
    }

    /// Are all of them empty?
    #[inline(always)]
    pub(super) fn are_empty<const N: usize>(slots: &[Slot; N]) -> bool {
        // one look at all of them, without a branch for each
        slots.iter().fold(true, |empty, slot| empty & slot.is_empty())
    }

    /// Is this very object there?
    #[inline(always)]
    pub(crate) fn holds(&self, value: &Obj) -> bool {
        // SAFETY: a read of the pointer.
        unsafe { (*self.0.as_ptr()).as_ref().is_some_and(|here| here.is(value)) }
    }

    /// Is the object that is there also in `other`?
    #[inline(always)]
    pub(crate) fn shares(&self, other: &Slot) -> bool {
        // SAFETY: a read of the pointers.
        unsafe {
            (*other.0.as_ptr())
                .as_ref()
                .is_some_and(|there| self.holds(there))
        }
    }

    /// For `tp_traverse`.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        // SAFETY: traversal runs no user code.
        if let Some(value) = unsafe { &*self.0.as_ptr() } {
            visitor.obj(value);
        }
    }
}

/// An optional reference to an instance of one of our classes.
pub(crate) struct OwnSlot<T: Class>(Cell<Option<Own<T>>>);

impl<T: Class> Default for OwnSlot<T> {
    fn default() -> Self {
        OwnSlot(Cell::new(None))
    }
}

impl<T: Class> OwnSlot<T> {
    /// A new reference to what is there.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<Own<T>> {
        // SAFETY: as for `Slot::get`.
        unsafe { (*self.0.as_ptr()).clone() }
    }
    /// `f` of what is there. It must not run Python code.
    #[cfg_attr(Py_3_14, allow(dead_code))]
    #[inline(always)]
    pub(crate) fn look<U>(&self, f: impl FnOnce(&Own<T>) -> U) -> Option<U> {
        // SAFETY: nobody can change the cell meanwhile.
        unsafe { (*self.0.as_ptr()).as_ref().map(f) }
    }
    /// Puts or empties; the old one is dropped last.
    #[inline(always)]
    pub(crate) fn put(&self, value: Option<Own<T>>) {
        drop(self.0.replace(value));
    }
    /// Fills an empty one.
    #[cfg_attr(Py_3_14, allow(dead_code))]
    #[inline(always)]
    pub(crate) fn fill(&self, value: Own<T>) {
        debug_assert!(self.is_empty());
        std::mem::forget(self.0.replace(Some(value)));
    }
    /// Takes it out.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<Own<T>> {
        self.0.take()
    }
    /// Is it empty?
    #[cfg_attr(Py_3_14, allow(dead_code))]
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: a read of the pointer.
        unsafe { (*self.0.as_ptr()).is_none() }
    }
    /// For `tp_traverse`.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        // SAFETY: traversal runs no user code.
        if let Some(value) = unsafe { &*self.0.as_ptr() } {
            visitor.obj(value.obj());
        }
    }
}

/// A queue inside an object. No method runs user code: removed items go to the caller.
/// (`T`'s `PartialEq`/`Drop` are never called in here.)
pub(crate) struct Fifo<T>(UnsafeCell<VecDeque<T>>);

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Fifo(UnsafeCell::new(VecDeque::new()))
    }
}

impl<T> Fifo<T> {
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    fn deque(&self) -> &mut VecDeque<T> {
        // SAFETY: `!Sync`; every borrow ends inside one method of this type, none of which runs foreign code.
        unsafe { &mut *self.0.get() }
    }
    #[inline(always)]
    pub(crate) fn push_back(&self, item: T) {
        self.deque().push_back(item);
    }
    pub(crate) fn push_front(&self, item: T) {
        self.deque().push_front(item);
    }
    #[inline(always)]
    pub(crate) fn pop_front(&self) -> Option<T> {
        self.deque().pop_front()
    }
    #[inline(always)]
    pub(crate) fn pop_back(&self) -> Option<T> {
        self.deque().pop_back()
    }
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.deque().len()
    }
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.deque().is_empty()
    }
    /// Everything, leaving it empty.
    pub(crate) fn take(&self) -> VecDeque<T> {
        std::mem::take(self.deque())
    }
    /// Removes the first item for which `found` (which must not run Python code) says so.
    #[inline]
    pub(crate) fn remove_first(&self, mut found: impl FnMut(&T) -> bool) -> Option<T> {
        // who waits longest leaves first
        if found(self.deque().front()?) {
            return self.deque().pop_front();
        }
        let index = self.deque().iter().position(found)?;
        self.deque().remove(index)
    }
    /// Copies out item `index`.
    pub(crate) fn get(&self, index: usize) -> Option<T>
    where
        T: Clone,
    {
        self.deque().get(index).cloned()
    }
    /// Shows the items from `index` on to `f`, which must not run Python code.
    pub(crate) fn for_each_from(&self, index: usize, f: impl FnMut(&T)) {
        let deque = self.deque();
        deque.range(index.min(deque.len())..).for_each(f);
    }
    /// All items, copied out. `T::clone` is an incref.
    pub(crate) fn snapshot(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.deque().iter().cloned().collect()
    }
    /// For `tp_traverse` and for closures that run no Python code.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&T)) {
        for item in self.deque().iter() {
            f(item);
        }
    }
}

/// A value in an object that is only ever used by short closures which run no Python code.
pub(crate) struct Inner<T>(UnsafeCell<T>);

impl<T: Default> Default for Inner<T> {
    fn default() -> Self {
        Inner(UnsafeCell::new(T::default()))
    }
}

impl<T> Inner<T> {
    /// Runs `f` on it. `f` must not run Python code (no decref of foreign objects either).
    #[inline(always)]
    pub(crate) fn with<U>(&self, f: impl FnOnce(&mut T) -> U) -> U {
        // SAFETY: `!Sync`, and by the rule above `f` can not come back here.
        f(unsafe { &mut *self.0.get() })
    }
}

/// The head of an object's list of weak references. CPython reads and writes it.
#[derive(Default)]
pub(crate) struct WeakRefs(#[allow(dead_code)] Cell<usize>);

/// A pointer to an object that does not keep it alive. Whoever hands it out takes it back before the object
/// dies: in [`Class::leave`] at the latest.
pub(crate) struct Unowned(*mut pyo3::ffi::PyObject);

impl Unowned {
    /// Points to `object`.
    pub(crate) fn to(object: &Obj) -> Unowned {
        Unowned(object.as_ptr())
    }
    /// Is it this one?
    pub(crate) fn is(&self, object: &Obj) -> bool {
        self.0 == object.as_ptr()
    }
    /// Is it the one whose body (or the beginning of whose body) this is?
    pub(crate) fn has_body<T>(&self, body: &T) -> bool {
        self.0 as usize + super::class::body_offset() == std::ptr::from_ref(body) as usize
    }
    /// The object.
    pub(crate) fn get(&self) -> Obj {
        // SAFETY: alive, see above; the GIL is held.
        unsafe { Obj::borrowed_unchecked(self.0) }
    }
}
