//! Our classes: heap types whose instances are a Rust struct behind an object head.
//!
//! A class is a struct that implements [`Class`]. [`Own<T>`] is an owned reference to an instance;
//! it derefs to the struct. Allocation, deallocation, traversal and the slots are made here, once.

use super::cells::Slot;
use super::errors::{R, Raised, Saved, to_c};
use super::function::{self, Imp};
use super::object::{Obj, Static};
use super::threads::Unwound;
use super::unseen;
use crate::imports::names;
use pyo3::ffi as c;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// What an instance is in memory.
#[repr(C)]
pub(crate) struct Instance<T> {
    head: c::PyObject,
    body: T,
}

/// Where the body begins.
pub(crate) const fn body_offset() -> usize {
    offset_of!(Instance<usize>, body)
}

/// A struct that Python sees as a class.
pub(crate) trait Class: Default + Sized + 'static {
    /// `module.QualName`
    const NAME: &'static CStr;
    /// May Python code derive from it?
    const SUBCLASSABLE: bool = true;
    /// Where in `Self` the instance dict and the list of weak references are (both are `Slot`-sized).
    const DICT: Option<usize> = None;
    /// See [`Class::DICT`].
    const WEAKREFS: Option<usize> = None;
    /// Where in `Self` the function is that a call goes to; `None`: instances are not called so.
    const VECTORCALL: Option<usize> = None;
    /// Is [`Class::finalize`] to be called?
    const FINALIZE: bool = false;
    /// How many dead instances are kept for re-use.
    const FREELIST: usize = 0;

    /// Where the type object is kept.
    fn class() -> &'static ClassCell<Self>;
    /// Methods, attributes and slots.
    fn slots(slots: &mut Slots<Self>) -> R<()>;
    /// `tp_traverse`: every reference that it owns.
    fn visit(&self, visitor: &mut Visitor);
    /// `tp_clear`: drop what may be part of a cycle. By default the body is replaced by an empty one.
    fn clear(&self);
    /// `tp_finalize` (PEP 442): may resurrect, is called once.
    fn finalize(_this: &Own<Self>) {}
    /// Is there nothing left in it to drop? Saves the walk through fields that are empty already.
    #[inline(always)]
    fn is_spent(&self) -> bool {
        false
    }
    /// May it have been made by [`alloc_unseen`](ClassCell::alloc_unseen), and be hidden still?
    #[inline(always)]
    fn may_be_unseen(&self) -> bool {
        false
    }
    /// Before anything of it is dropped: take it out of lists of live objects. Must not run Python code.
    #[inline(always)]
    fn leave(&self) {}
    /// Cheap test before a finalizer is called from deallocation.
    #[inline(always)]
    fn wants_finalize(&self) -> bool {
        true
    }
}

/// A class whose instances begin with those of `T`.
///
/// # Safety
/// `Self` is `repr(C)` and its first field is a `T`, and its type object has T's as its base.
pub(crate) unsafe trait Extends<T: Class>: Class {}

/// An awaitable, or the iterator of one.
pub(crate) trait Resume: Class {
    /// `send(value)`
    fn resume(this: &Own<Self>, value: &Obj) -> Step;
}

/// The type object of `T`, and its dead instances.
pub(crate) struct ClassCell<T> {
    object: Static,
    /// Its `__init__`, if that is ours.
    init: Static,
    /// The version of the class in which that was still so; 0: not known.
    plain_version: AtomicU32,
    free: std::cell::UnsafeCell<Vec<NonNull<c::PyObject>>>,
    _body: PhantomData<fn() -> T>,
}

// SAFETY: touched only with the GIL held.
unsafe impl<T> Sync for ClassCell<T> {}

impl<T: Class> ClassCell<T> {
    /// An empty place.
    pub(crate) const fn new() -> Self {
        ClassCell {
            object: Static::new(),
            init: Static::new(),
            plain_version: AtomicU32::new(0),
            free: std::cell::UnsafeCell::new(Vec::new()),
            _body: PhantomData,
        }
    }

    /// The type object.
    #[inline(always)]
    pub(crate) fn get(&'static self) -> &'static Obj {
        self.object.get()
    }

    /// Is `object` exactly of this class?
    #[inline(always)]
    pub(crate) fn is_exact(&'static self, object: &Obj) -> bool {
        // SAFETY: alive.
        unsafe { c::Py_TYPE(object.as_ptr()).cast() == self.get().as_ptr() }
    }

    /// Is `object` of this class or of one derived from it?
    #[inline(always)]
    pub(crate) fn is_instance(&'static self, object: &Obj) -> bool {
        // SAFETY: alive.
        unsafe {
            let class = c::Py_TYPE(object.as_ptr());
            class.cast() == self.get().as_ptr() || c::PyType_IsSubtype(class, self.get().as_ptr().cast()) != 0
        }
    }

    /// `object` as an instance, if its class is exactly this one.
    #[inline(always)]
    pub(crate) fn exact<'a>(&'static self, object: &'a Obj) -> Option<&'a Own<T>> {
        // SAFETY: of the class, so its memory is an `Instance<T>`; `Own` and `Obj` are one pointer.
        self.is_exact(object)
            .then(|| unsafe { &*(object as *const Obj).cast::<Own<T>>() })
    }

    /// `object` as an instance, if it is one.
    #[inline(always)]
    pub(crate) fn instance<'a>(&'static self, object: &'a Obj) -> Option<&'a Own<T>> {
        // SAFETY: as in `exact`; a derived class only adds to the memory.
        self.is_instance(object)
            .then(|| unsafe { &*(object as *const Obj).cast::<Own<T>>() })
    }

    /// `object` as an owned instance, if its class is exactly this one.
    #[inline(always)]
    pub(crate) fn take_exact(&'static self, object: Obj) -> Result<Own<T>, Obj> {
        if self.is_exact(&object) {
            self.take_instance(object)
        } else {
            Err(object)
        }
    }

    /// `object` as an owned instance, if it is one.
    #[inline(always)]
    pub(crate) fn take_instance(&'static self, object: Obj) -> Result<Own<T>, Obj> {
        if !self.is_instance(&object) {
            return Err(object);
        }
        // SAFETY: as in `exact`; the reference goes over.
        Ok(Own(
            unsafe { NonNull::new_unchecked(object.into_ptr()) },
            PhantomData,
        ))
    }

    /// A new instance of exactly this class.
    #[inline(always)]
    pub(crate) fn alloc(&'static self, body: T) -> R<Own<T>> {
        let this = self.alloc_untracked(body)?;
        // SAFETY: complete, and not tracked yet.
        unsafe { c::PyObject_GC_Track(this.0.as_ptr().cast()) };
        Ok(this)
    }

    /// A new instance of exactly this class that the GC does not see. It holds nothing, and is
    /// [tracked](Own::track) before it does.
    #[inline(always)]
    pub(crate) fn alloc_untracked(&'static self, body: T) -> R<Own<T>> {
        // SAFETY: memory from the freelist or of the class's size, untracked; the head is made here and
        // the body written before the GC may look.
        unsafe {
            if T::FREELIST > 0
                && !cfg!(Py_GIL_DISABLED)
                && let Some(ptr) = (*self.free.get()).pop()
            {
                // (a dead instance has kept its reference to the type)
                let ptr = ptr.as_ptr();
                init_head(ptr);
                std::ptr::write(&raw mut (*ptr.cast::<Instance<T>>()).body, body);
                return Ok(Own(NonNull::new_unchecked(ptr), PhantomData));
            }
            let ptr: *mut c::PyObject = super::object::gc_new(self.get().as_ptr());
            if ptr.is_null() {
                drop(body);
                return Err(Raised::set());
            }
            std::ptr::write(&raw mut (*ptr.cast::<Instance<T>>()).body, body);
            Ok(Own(NonNull::new_unchecked(ptr), PhantomData))
        }
    }

    /// A new instance of exactly this class that the GC does not see as long as it is young: `unseen.rs`.
    /// Only for a class whose [`Class::may_be_unseen`] is true of it.
    #[inline(always)]
    pub(super) fn alloc_unseen(&'static self, body: T) -> R<Own<T>> {
        debug_assert!(body.may_be_unseen());
        let this = self.alloc_untracked(body)?;
        // SAFETY: complete, and not tracked yet; `dealloc` takes it out.
        unsafe { unseen::hide(this.0.as_ptr()) };
        Ok(this)
    }

    /// A new instance of `class`, which is this one or derived from it.
    pub(crate) fn alloc_for(&'static self, class: &Obj, body: T) -> R<Own<T>> {
        if class.is(self.get()) {
            return self.alloc(body);
        }
        // SAFETY: `tp_alloc` of a heap type gives zeroed memory of the right size, with its head made.
        unsafe {
            let class: *mut c::PyTypeObject = class.as_ptr().cast();
            let Some(alloc) = (*class).tp_alloc else {
                return Err(super::errors::type_error("no tp_alloc"));
            };
            let ptr = Obj::owned(alloc(class, 0))?.into_ptr();
            std::ptr::write(&raw mut (*ptr.cast::<Instance<T>>()).body, body);
            Ok(Own(NonNull::new_unchecked(ptr), PhantomData))
        }
    }
}

/// Makes the head of a re-used instance as `PyObject_GC_New` would. The GC's own header lies before
/// the object and still says "was finalized": it must be blank, or no finalizer would run again.
///
/// # Safety
/// `ptr` is the memory of a dead instance of a class with GC support, untracked: its type pointer is
/// still there, and two words of GC header before it (no free-threaded build keeps dead instances).
pub(super) unsafe fn init_head(ptr: *mut c::PyObject) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(not(Py_GIL_DISABLED))]
        std::ptr::write_bytes(ptr.cast::<usize>().sub(2), 0, 2);
        unsafe extern "C" {
            fn _Py_NewReference(op: *mut c::PyObject);
        }
        _Py_NewReference(ptr);
    }
}

/// Is the garbage collector looking at it?
///
/// # Safety
/// An object of a class with GC support.
#[inline(always)]
pub(super) unsafe fn is_tracked(ptr: *mut c::PyObject) -> bool {
    // SAFETY: the caller's promise. The first word of the GC's header links it to others, or is null.
    unsafe {
        if cfg!(Py_GIL_DISABLED) {
            c::PyObject_GC_IsTracked(ptr) != 0
        } else {
            ptr.cast::<usize>().sub(2).read() != 0
        }
    }
}

/// Hides it from the garbage collector, if it is not hidden.
///
/// # Safety
/// An object of a class with GC support.
#[inline(always)]
pub(super) unsafe fn untrack(ptr: *mut c::PyObject) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_tracked(ptr) {
            c::PyObject_GC_UnTrack(ptr.cast());
        }
    }
}

/// An owned reference to an instance of `T` (or of a class derived from it).
#[repr(transparent)]
pub(crate) struct Own<T: Class>(NonNull<c::PyObject>, PhantomData<T>);

impl<T: Class> Clone for Own<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        // SAFETY: alive, and the GIL is held.
        unsafe { c::Py_INCREF(self.0.as_ptr()) };
        Own(self.0, PhantomData)
    }
}

impl<T: Class> Drop for Own<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: we own one reference.
        unsafe { c::Py_DECREF(self.0.as_ptr()) }
    }
}

impl<T: Class> std::ops::Deref for Own<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: alive; the body is only ever touched through shared references and cells.
        unsafe { &(*self.0.as_ptr().cast::<Instance<T>>()).body }
    }
}

impl<T: Class> Own<T> {
    /// As any object.
    #[inline(always)]
    pub(crate) fn obj(&self) -> &Obj {
        // SAFETY: both are one non-null pointer.
        unsafe { &*(self as *const Own<T>).cast::<Obj>() }
    }

    /// As any object, owned.
    #[inline(always)]
    pub(crate) fn into_obj(self) -> Obj {
        let ptr = self.0.as_ptr();
        std::mem::forget(self);
        // SAFETY: the reference that we owned.
        unsafe { Obj::owned_unchecked(ptr) }
    }

    /// The same instance?
    #[inline(always)]
    pub(crate) fn is(&self, other: &Own<T>) -> bool {
        self.0 == other.0
    }

    /// Shows an instance to the GC, if it is not yet: see [`alloc_untracked`](ClassCell::alloc_untracked) and
    /// [`alloc_unseen`](ClassCell::alloc_unseen).
    #[inline(always)]
    pub(crate) fn track(&self) {
        // SAFETY: complete, of a class with GC support.
        unsafe { unseen::show(self.0.as_ptr()) }
    }

    /// Is its class exactly `T`'s?
    #[inline(always)]
    pub(crate) fn is_exact(&self) -> bool {
        T::class().is_exact(self.obj())
    }

    /// As an instance of the class that `T` extends.
    #[inline(always)]
    pub(crate) fn upcast<U: Class>(&self) -> &Own<U>
    where
        T: Extends<U>,
    {
        // SAFETY: `Extends` promises the layout.
        unsafe { &*(self as *const Own<T>).cast::<Own<U>>() }
    }

    /// A pointer as a borrowed instance.
    ///
    /// # Safety
    /// `*place` is a live instance of `T`.
    #[inline(always)]
    pub(crate) unsafe fn view(place: &*mut c::PyObject) -> &Own<T> {
        // SAFETY: the caller's promise.
        unsafe { &*(place as *const *mut c::PyObject).cast::<Own<T>>() }
    }
}

/// What `tp_traverse` hands on.
pub(crate) struct Visitor {
    visit: c::visitproc,
    arg: *mut c_void,
    result: c_int,
}

impl Visitor {
    /// Shows one owned reference to the GC.
    #[inline]
    pub(crate) fn obj(&mut self, object: &Obj) {
        if self.result == 0 {
            // SAFETY: alive; called from `tp_traverse`.
            self.result = unsafe { (self.visit)(object.as_ptr(), self.arg) };
        }
    }
    /// Shows what an object refers to, which is itself hidden and nobody else's.
    pub(crate) fn inside(&mut self, object: &Obj) {
        if self.result == 0 {
            // SAFETY: alive; its class's own `tp_traverse`, called from one.
            self.result = unsafe {
                match (*c::Py_TYPE(object.as_ptr())).tp_traverse {
                    Some(traverse) => traverse(object.as_ptr(), self.visit, self.arg),
                    None => 0,
                }
            };
        }
    }
    /// Shows one owned reference of a known class.
    #[inline]
    pub(crate) fn own<T: Class>(&mut self, object: &Own<T>) {
        self.obj(object.obj());
    }
}

unsafe extern "C" fn traverse<T: Class>(
    op: *mut c::PyObject,
    visit: c::visitproc,
    arg: *mut c_void,
) -> c_int {
    let mut visitor = Visitor {
        visit,
        arg,
        result: 0,
    };
    // SAFETY: the GC calls this with an instance of T (or of a class derived from it).
    unsafe {
        let class = c::Py_TYPE(op).cast::<c::PyObject>();
        visitor.obj(Obj::view(&class));
        let body = &(*op.cast::<Instance<T>>()).body;
        if let Some(offset) = T::DICT {
            (*(&raw const *body).byte_add(offset).cast::<Slot>()).visit(&mut visitor);
        }
        body.visit(&mut visitor);
    }
    visitor.result
}

unsafe extern "C" fn clear<T: Class>(op: *mut c::PyObject) -> c_int {
    // SAFETY: as in `traverse`.
    unsafe {
        let body = &(*op.cast::<Instance<T>>()).body;
        body.clear();
        if let Some(offset) = T::DICT {
            (*(&raw const *body).byte_add(offset).cast::<Slot>()).put(None);
        }
    }
    0
}

unsafe extern "C" fn dealloc<T: Class>(op: *mut c::PyObject) {
    // SAFETY: called once, with the last reference gone.
    unsafe {
        let instance = op.cast::<Instance<T>>();
        if T::FINALIZE && (*instance).body.wants_finalize() && c::PyObject_CallFinalizerFromDealloc(op) < 0 {
            return;
        }
        if (*instance).body.may_be_unseen() {
            unseen::leave(op);
        } else {
            untrack(op);
        }
        (*instance).body.leave();
        if let Some(offset) = T::WEAKREFS
            && !(*(&raw const (*instance).body)
                .byte_add(offset)
                .cast::<*mut c_void>())
            .is_null()
        {
            c::PyObject_ClearWeakRefs(op);
        }
        let class = c::Py_TYPE(op);
        if !(*instance).body.is_spent() {
            std::ptr::drop_in_place(&raw mut (*instance).body);
        }
        if T::FREELIST > 0
            && !cfg!(Py_GIL_DISABLED)
            && (!T::SUBCLASSABLE || class.cast() == T::class().get().as_ptr())
        {
            let free = &mut *T::class().free.get();
            if free.len() < T::FREELIST {
                free.push(NonNull::new_unchecked(op));
                return;
            }
        }
        if let Some(tp_free) = (*class).tp_free {
            tp_free(op.cast());
        }
        c::Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn finalize<T: Class>(op: *mut c::PyObject) {
    // SAFETY: an instance of T, alive for the call.
    unsafe {
        let _saved = Saved::take();
        guard((), || T::finalize(Own::<T>::view(&op)));
    }
}

/// A Rust panic must not cross into C: it becomes the given value (and the hook has printed it). Nor may what glibc
/// unwinds a thread by be caught: it aborts the process then.
#[inline(always)]
pub(crate) fn guard<U>(failed: U, f: impl FnOnce() -> U) -> U {
    let f = || {
        let unwound = Unwound;
        let value = f();
        std::mem::forget(unwound);
        value
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(value) => value,
        Err(_) => {
            panicked();
            failed
        }
    }
}

#[cold]
fn panicked() {
    // SAFETY: the GIL is held.
    unsafe {
        if c::PyErr_Occurred().is_null() {
            let text = c"a bug in aioxide: a Rust panic (see standard error)";
            c::PyErr_SetString(c::PyExc_SystemError, text.as_ptr());
        }
    }
}

/// The functions that slots call are zero-sized `fn` items, so that each slot gets its own trampoline.
pub(crate) fn zst<F: Copy>() -> F {
    const {
        assert!(
            size_of::<F>() == 0,
            "a slot takes a plain fn, not a closure with captures"
        )
    };
    // SAFETY: a value of size zero has no bytes that could be wrong.
    unsafe { NonNull::<F>::dangling().read() }
}

unsafe extern "C" fn unary<T: Class, F: Fn(&Own<T>) -> R<Obj> + Copy>(
    op: *mut c::PyObject,
) -> *mut c::PyObject {
    guard(std::ptr::null_mut(), || {
        // SAFETY: the interpreter calls slots of T with instances of T.
        to_c(zst::<F>()(unsafe { Own::view(&op) }))
    })
}

/// `tp_iternext` and `am_send` in one: what an awaitable answers.
pub(crate) enum Step {
    /// It waits for this (`None` or a future).
    Yield(Obj),
    /// It has ended with this.
    Return(Obj),
    /// It has ended with an exception.
    Raise(Raised),
}

impl From<R<Obj>> for Step {
    fn from(result: R<Obj>) -> Step {
        match result {
            Ok(value) => Step::Return(value),
            Err(raised) => Step::Raise(raised),
        }
    }
}

unsafe extern "C" fn iternext<T: Resume>(op: *mut c::PyObject) -> *mut c::PyObject {
    guard(std::ptr::null_mut(), || {
        // SAFETY: as in `unary`.
        match T::resume(unsafe { Own::view(&op) }, super::object::NONE.get()) {
            Step::Yield(value) => value.into_ptr(),
            Step::Return(value) if value.is_none() => {
                value.drop_none();
                std::ptr::null_mut()
            }
            Step::Return(value) => {
                super::ended::end_with(value);
                std::ptr::null_mut()
            }
            Step::Raise(raised) => {
                raised.leave();
                std::ptr::null_mut()
            }
        }
    })
}

unsafe extern "C" fn send<T: Resume>(
    op: *mut c::PyObject,
    value: *mut c::PyObject,
    result: *mut *mut c::PyObject,
) -> c::PySendResult {
    // SAFETY: as in `unary`; `result` is a place for a new reference.
    unsafe {
        *result = std::ptr::null_mut();
        guard(c::PySendResult::PYGEN_ERROR, || {
            match T::resume(Own::view(&op), Obj::view(&value)) {
                Step::Yield(value) => {
                    *result = value.into_ptr();
                    c::PySendResult::PYGEN_NEXT
                }
                Step::Return(value) => {
                    *result = value.into_ptr();
                    c::PySendResult::PYGEN_RETURN
                }
                Step::Raise(raised) => {
                    raised.leave();
                    c::PySendResult::PYGEN_ERROR
                }
            }
        })
    }
}

/// Sets an attribute; `None`: deletes it.
type Setter<T> = fn(&Own<T>, Option<&Obj>) -> R<()>;

enum Attribute<T: Class> {
    /// By functions.
    Computed(fn(&Own<T>) -> R<Obj>, Option<Setter<T>>),
    /// A field that holds any object; empty, it reads as `None`.
    Object(&'static CStr, fn(&T) -> &Slot),
    /// A field that is true or false.
    Flag(&'static CStr, fn(&T) -> &Cell<bool>),
}

impl<T: Class> Attribute<T> {
    fn get(&self, this: &Own<T>) -> R<Obj> {
        match self {
            Attribute::Computed(get, _) => get(this),
            Attribute::Object(_, field) => Ok(field(this).get_or_none()),
            Attribute::Flag(_, field) => Ok(Obj::bool(field(this).get())),
        }
    }
    fn set(&self, this: &Own<T>, value: Option<&Obj>) -> R<()> {
        match (self, value) {
            (Attribute::Computed(_, Some(set)), value) => set(this, value),
            (Attribute::Object(_, field), Some(value)) => {
                field(this).put(value.non_none().cloned());
                Ok(())
            }
            (Attribute::Flag(_, field), Some(value)) => {
                field(this).set(value.truth()?);
                Ok(())
            }
            (Attribute::Object(name, _) | Attribute::Flag(name, _), None) => {
                Err(super::errors::attribute_error(&name.to_string_lossy()))
            }
            (Attribute::Computed(_, None), _) => Err(super::errors::attribute_error("read-only")),
        }
    }
}

unsafe extern "C" fn getter<T: Class>(op: *mut c::PyObject, closure: *mut c_void) -> *mut c::PyObject {
    // SAFETY: the closure is the leaked `Attribute<T>` of this getset, and the descriptor checked the class.
    guard(std::ptr::null_mut(), || unsafe {
        to_c((*closure.cast::<Attribute<T>>()).get(Own::view(&op)))
    })
}

unsafe extern "C" fn setter<T: Class>(
    op: *mut c::PyObject,
    value: *mut c::PyObject,
    closure: *mut c_void,
) -> c_int {
    // SAFETY: as in `getter`; a null value means deletion.
    guard(-1, || unsafe {
        let value = if value.is_null() {
            None
        } else {
            Some(Obj::view(&value))
        };
        match (*closure.cast::<Attribute<T>>()).set(Own::view(&op), value) {
            Ok(()) => 0,
            Err(raised) => {
                raised.leave();
                -1
            }
        }
    })
}

unsafe extern "C" fn new_empty<T: Class>(
    class: *mut c::PyTypeObject,
    _args: *mut c::PyObject,
    _kwargs: *mut c::PyObject,
) -> *mut c::PyObject {
    let class: *mut c::PyObject = class.cast();
    // SAFETY: a type derived from T's (the interpreter checks it in `object.__new__`'s stead).
    guard(std::ptr::null_mut(), || unsafe {
        to_c(
            T::class()
                .alloc_for(Obj::view(&class), T::default())
                .map(Own::into_obj),
        )
    })
}

unsafe extern "C" fn new_refused<T: Class>(
    _class: *mut c::PyTypeObject,
    _args: *mut c::PyObject,
    _kwargs: *mut c::PyObject,
) -> *mut c::PyObject {
    let name = T::NAME.to_string_lossy();
    let name = name.rsplit('.').next().unwrap_or_default();
    super::errors::type_error(&format!("cannot create '{name}' instances")).leave();
    std::ptr::null_mut()
}

/// What calling the class does, without the tuple and the dict that `type.__call__` wants: `__new__` and `__init__` as they
/// stand above. (The interpreter has no derived class inherit it.)
unsafe extern "C" fn construct<T: Class>(
    class: *mut c::PyObject,
    args: *const *mut c::PyObject,
    nargsf: usize,
    kwnames: *mut c::PyObject,
) -> *mut c::PyObject {
    // SAFETY: the interpreter calls this with exactly T's type object, of which `create` has kept the `__init__`, and a
    // valid argument vector.
    unsafe {
        let init = T::class().init.get();
        // (whatever changes a class changes its version, and no version comes back)
        let version = (*class.cast::<c::PyTypeObject>()).tp_version_tag;
        let is_plain = version != 0 && version == T::class().plain_version.load(Ordering::Relaxed)
            || is_made_plainly::<T>(class.cast());
        if !is_plain {
            return guard(std::ptr::null_mut(), || {
                to_c(function::call_by_type(Obj::view(&class), args, nargsf, kwnames))
            });
        }
        guard(std::ptr::null_mut(), || {
            let made = || -> R<Obj> {
                let this = T::class().alloc(T::default())?;
                drop(Obj::owned(function::call_with_self(
                    init,
                    this.obj(),
                    args,
                    nargsf,
                    kwnames,
                ))?);
                Ok(this.into_obj())
            };
            to_c(made())
        })
    }
}

/// Has nobody put something else in the place of its `__new__` or `__init__`?
///
/// # Safety
/// T's type object.
#[cold]
unsafe fn is_made_plainly<T: Class>(class: *mut c::PyTypeObject) -> bool {
    unsafe extern "C" {
        fn _PyType_Lookup(class: *mut c::PyTypeObject, name: *mut c::PyObject) -> *mut c::PyObject;
    }
    // SAFETY: the caller's promise. What is looked up is only compared.
    unsafe {
        let new = (*class).tp_new;
        let found = _PyType_Lookup(class, names::DUNDER_INIT.as_ptr());
        let is_plain = found == T::class().init.get().as_ptr()
            && new.is_some_and(|new| std::ptr::fn_addr_eq(new, new_empty::<T> as c::newfunc));
        if is_plain {
            // (to look something up gives the class a version, if there are any left)
            let version = (*class).tp_version_tag;
            T::class().plain_version.store(version, Ordering::Relaxed);
        }
        is_plain
    }
}

/// What a class is made of. Filled by [`Class::slots`].
pub(crate) struct Slots<T: Class> {
    slots: Vec<c::PyType_Slot>,
    getset: Vec<c::PyGetSetDef>,
    functions: Vec<(String, Obj)>,
    hidden: Vec<(String, Obj)>,
    init: Option<(String, Imp)>,
    module: String,
    qualname: String,
    _class: PhantomData<T>,
}

impl<T: Class> Slots<T> {
    pub(super) fn slot(&mut self, slot: c_int, pfunc: *mut c_void) {
        self.slots.push(c::PyType_Slot { slot, pfunc });
    }

    /// `__new__` makes an empty instance; `init` fills it. `sig` as in `method`: `"(self, *, loop=None)"`.
    pub(crate) fn init(&mut self, sig: &str, imp: Imp) {
        self.slot(c::Py_tp_new, new_empty::<T> as *mut c_void);
        self.init = Some((format!("__init__{sig}"), imp));
    }

    /// `__new__` makes an empty instance, `__init__` is object's (or the base's).
    pub(crate) fn new_only(&mut self) {
        self.slot(c::Py_tp_new, new_empty::<T> as *mut c_void);
    }

    /// Instances are made by Rust alone.
    pub(crate) fn no_new(&mut self) {
        self.slot(c::Py_tp_new, new_refused::<T> as *mut c_void);
    }

    /// `def name(self, …)`: `"get(self)"`, `"cancel(self, msg=None)"`.
    pub(crate) fn method(&mut self, sig: &str, imp: Imp) -> R<()> {
        self.function(sig, imp, function::Kind::Plain)
    }

    /// `async def name(self, …)`: it returns an awaitable, and says so to `iscoroutinefunction`.
    pub(crate) fn async_method(&mut self, sig: &str, imp: Imp) -> R<()> {
        self.function(sig, imp, function::Kind::Async)
    }

    /// A method that Python code finds by its name while the slot of the same name stays as it is.
    /// Only for classes that nobody derives from.
    pub(crate) fn hidden_method(&mut self, sig: &str, imp: Imp) -> R<()> {
        let name = sig.split('(').next().unwrap_or_default().to_owned();
        let function = function::make(
            sig,
            &self.module,
            Some(&self.qualname),
            imp,
            function::Kind::Plain,
        )?;
        self.hidden.push((name, function));
        Ok(())
    }

    fn function(&mut self, sig: &str, imp: Imp, kind: function::Kind) -> R<()> {
        let name = sig.split('(').next().unwrap_or_default().to_owned();
        let function = function::make(sig, &self.module, Some(&self.qualname), imp, kind)?;
        self.functions.push((name, function));
        Ok(())
    }

    /// Any object as a class attribute.
    pub(crate) fn attribute(&mut self, name: &str, value: Obj) {
        self.functions.push((name.to_owned(), value));
    }

    /// `__class_getitem__ = classmethod(types.GenericAlias)`
    pub(crate) fn generic(&mut self) -> R<()> {
        let alias = Obj::import("types")?.getattr_str("GenericAlias")?;
        let classmethod = Obj::import("builtins")?.getattr_str("classmethod")?;
        let value = classmethod.call(&[&alias])?;
        self.attribute("__class_getitem__", value);
        Ok(())
    }

    /// A read-only attribute.
    pub(crate) fn get(&mut self, name: &'static CStr, get: fn(&Own<T>) -> R<Obj>) {
        self.getset(name, Attribute::Computed(get, None), false);
    }

    /// An attribute; `set` gets `None` when it is deleted.
    pub(crate) fn get_set(
        &mut self,
        name: &'static CStr,
        get: fn(&Own<T>) -> R<Obj>,
        set: fn(&Own<T>, Option<&Obj>) -> R<()>,
    ) {
        self.getset(name, Attribute::Computed(get, Some(set)), true);
    }

    /// An attribute that is a field: any object. `None` and empty are the same.
    pub(crate) fn object(&mut self, name: &'static CStr, field: fn(&T) -> &Slot) {
        self.getset(name, Attribute::Object(name, field), true);
    }

    /// An attribute that is a field: true or false.
    pub(crate) fn flag(&mut self, name: &'static CStr, field: fn(&T) -> &Cell<bool>) {
        self.getset(name, Attribute::Flag(name, field), true);
    }

    fn getset(&mut self, name: &'static CStr, attribute: Attribute<T>, settable: bool) {
        let attribute = Box::leak(Box::new(attribute));
        let doc = crate::docs::of_member(&self.qualname, &name.to_string_lossy())
            .and_then(|text| CString::new(text).ok())
            .map_or(std::ptr::null(), |text| text.into_raw().cast_const());
        self.getset.push(c::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(getter::<T>),
            set: settable.then_some(setter::<T> as c::setter),
            doc,
            closure: (&raw mut *attribute).cast(),
        });
    }

    /// `__repr__`
    pub(crate) fn repr<F: Fn(&Own<T>) -> R<Obj> + Copy>(&mut self, _f: F) {
        self.slot(c::Py_tp_repr, unary::<T, F> as *mut c_void);
    }
    /// `__iter__`
    pub(crate) fn iter<F: Fn(&Own<T>) -> R<Obj> + Copy>(&mut self, _f: F) {
        self.slot(c::Py_tp_iter, unary::<T, F> as *mut c_void);
    }
    /// `__await__`
    pub(crate) fn await_<F: Fn(&Own<T>) -> R<Obj> + Copy>(&mut self, _f: F) {
        self.slot(c::Py_am_await, unary::<T, F> as *mut c_void);
    }
    /// `__aiter__`
    pub(crate) fn aiter<F: Fn(&Own<T>) -> R<Obj> + Copy>(&mut self, _f: F) {
        self.slot(c::Py_am_aiter, unary::<T, F> as *mut c_void);
    }
    /// A plain `__next__`: raise StopIteration to end.
    pub(crate) fn next<F: Fn(&Own<T>) -> R<Obj> + Copy>(&mut self, _f: F) {
        self.slot(c::Py_tp_iternext, unary::<T, F> as *mut c_void);
    }
    /// `__next__` and the C-level send of an awaitable.
    pub(crate) fn resume(&mut self)
    where
        T: Resume,
    {
        self.slot(c::Py_tp_iternext, iternext::<T> as *mut c_void);
        self.slot(c::Py_am_send, send::<T> as *mut c_void);
    }
    /// `__call__`, `"(self, *args)"`
    pub(crate) fn call(&mut self, sig: &str, imp: Imp) -> R<()> {
        self.method(&format!("__call__{sig}"), imp)
    }
}

/// Makes the type object of `T` and puts it into its place. `base`: another of our classes.
pub(crate) fn create<T: Class>(base: Option<&Obj>) -> R<()> {
    let full = T::NAME.to_string_lossy();
    let (module, qualname) = full.rsplit_once('.').unwrap_or(("asyncio", &full));
    let mut slots = Slots::<T> {
        slots: Vec::new(),
        getset: Vec::new(),
        functions: Vec::new(),
        hidden: Vec::new(),
        init: None,
        module: module.to_owned(),
        qualname: qualname.to_owned(),
        _class: PhantomData,
    };
    T::slots(&mut slots)?;
    let mut members = Vec::new();
    for (name, offset) in [
        (c"__dictoffset__", T::DICT),
        (c"__weaklistoffset__", T::WEAKREFS),
        (c"__vectorcalloffset__", T::VECTORCALL),
    ] {
        if let Some(offset) = offset {
            members.push(c::PyMemberDef {
                name: name.as_ptr(),
                type_code: c::Py_T_PYSSIZET,
                offset: (offset_of!(Instance<T>, body) + offset) as isize,
                flags: c::Py_READONLY,
                doc: std::ptr::null(),
            });
        }
    }
    if T::DICT.is_some() {
        slots.getset.push(c::PyGetSetDef {
            name: c"__dict__".as_ptr(),
            get: Some(c::PyObject_GenericGetDict),
            set: Some(c::PyObject_GenericSetDict),
            doc: std::ptr::null(),
            closure: std::ptr::null_mut(),
        });
    }
    // SAFETY: all-zero ends each table.
    unsafe {
        members.push(std::mem::zeroed());
        slots.getset.push(std::mem::zeroed());
    }
    slots.slot(c::Py_tp_members, members.leak().as_mut_ptr().cast());
    let getset = std::mem::take(&mut slots.getset);
    slots.slot(c::Py_tp_getset, getset.leak().as_mut_ptr().cast());
    slots.slot(c::Py_tp_dealloc, dealloc::<T> as *mut c_void);
    slots.slot(c::Py_tp_traverse, traverse::<T> as *mut c_void);
    slots.slot(c::Py_tp_clear, clear::<T> as *mut c_void);
    if T::FINALIZE {
        slots.slot(c::Py_tp_finalize, finalize::<T> as *mut c_void);
    }
    if T::VECTORCALL.is_some() {
        slots.slot(c::Py_tp_call, c::PyVectorcall_Call as *mut c_void);
    }
    slots.slots.push(c::PyType_Slot {
        slot: 0,
        pfunc: std::ptr::null_mut(),
    });
    let mut flags = c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC;
    if T::VECTORCALL.is_some() {
        flags |= c::Py_TPFLAGS_HAVE_VECTORCALL;
    }
    if T::SUBCLASSABLE {
        flags |= c::Py_TPFLAGS_BASETYPE;
    }
    let mut spec = c::PyType_Spec {
        name: T::NAME.as_ptr(),
        basicsize: size_of::<Instance<T>>() as c_int,
        itemsize: 0,
        flags: flags as _,
        slots: slots.slots.as_mut_ptr(),
    };
    // SAFETY: a complete spec; the tables that the type keeps were leaked; `base` is a type with a prefix of our layout.
    let class = unsafe {
        Obj::owned(c::PyType_FromSpecWithBases(
            &mut spec,
            base.map_or(std::ptr::null_mut(), Obj::as_ptr),
        ))?
    };
    if module.starts_with("asyncio") {
        // there it is a `class` statement, whose name in error texts has no module
        class.setattr_str("__name__", &Obj::str(qualname)?)?;
    }
    for (name, function) in &slots.functions {
        class.setattr_str(name, function)?;
    }
    for (name, function) in &slots.hidden {
        let name = Obj::interned(name)?;
        // SAFETY: a heap type of ours that nobody has seen; its dict is an ordinary dict, and the type is told.
        unsafe {
            let ptr: *mut c::PyTypeObject = class.as_ptr().cast();
            Obj::view(&(*ptr).tp_dict).dict_set(&name, function)?;
            c::PyType_Modified(ptr);
        }
    }
    if let Some((sig, imp)) = slots.init {
        let function = function::make(&sig, module, Some(qualname), imp, function::Kind::Plain)?;
        class.setattr_str("__init__", &function)?;
        T::class().init.fill(function);
        // SAFETY: a heap type of ours that nobody has seen.
        unsafe { (*class.as_ptr().cast::<c::PyTypeObject>()).tp_vectorcall = Some(construct::<T>) };
    }
    T::class().object.fill(class);
    Ok(())
}

/// Declares that a `repr(C)` struct begins with a field `$field` of type `$base`, and its type derives from that one's.
macro_rules! extends {
    ($class:ty, $base:ty) => {
        $crate::ffi::class::extends!($class, $base, future);
    };
    ($class:ty, $base:ty, $field:ident) => {
        const _: () = assert!(std::mem::offset_of!($class, $field) == 0);
        #[allow(unsafe_code)]
        // SAFETY: the first field is the base (checked above); `module.rs` makes the type with that base.
        unsafe impl $crate::ffi::Extends<$base> for $class {}
    };
}
pub(crate) use extends;
