//! Classes of ours that derive from asyncio's Python classes, and fields of theirs by offset.
//!
//! `EventLoop` must be an `asyncio.AbstractEventLoop` and a `Handle` an `asyncio.Handle`: Python
//! classes, whose layout differs from version to version. So these classes are made by calling
//! `type()`, our functions go into their dict, and their state lies in `__slots__` members, which
//! CPython itself traverses and clears. A [`Field`] reads and writes such a member in one load.

use super::class::{guard, zst};
use super::errors::R;
use super::function::{self, Imp, Kind};
use super::object::{Obj, Static};
use pyo3::ffi as c;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicIsize, Ordering};

/// A class made by `type()`.
pub(crate) struct PyClass(Static);

impl PyClass {
    /// An empty place.
    pub(crate) const fn new() -> PyClass {
        PyClass(Static::new())
    }
    /// The type object.
    #[inline(always)]
    pub(crate) fn get(&'static self) -> &'static Obj {
        self.0.get()
    }
    /// Is `object` exactly of this class?
    #[inline(always)]
    pub(crate) fn is_exact(&'static self, object: &Obj) -> bool {
        // SAFETY: alive.
        unsafe { c::Py_TYPE(object.as_ptr()).cast() == self.get().as_ptr() }
    }
    /// Is `object` of this class or of one derived from it?
    #[inline]
    pub(crate) fn is_instance(&'static self, object: &Obj) -> bool {
        // SAFETY: alive.
        unsafe {
            self.is_exact(object)
                || c::PyType_IsSubtype(c::Py_TYPE(object.as_ptr()), self.get().as_ptr().cast()) != 0
        }
    }
    /// A new instance of exactly this class, all fields empty, `__init__` not called. From the pool
    /// that [`pooled`] has made, if there is one. It is hidden from the garbage collector: see [`track`].
    #[inline]
    pub(crate) fn alloc_pooled(&'static self, pool: &'static Pool) -> R<Obj> {
        match pool.revive() {
            Some(revived) => Ok(revived),
            None => {
                let new = self.alloc()?;
                untrack(&new);
                Ok(new)
            }
        }
    }
    /// A new instance of exactly this class, all fields empty, `__init__` not called.
    #[cold]
    fn alloc(&'static self) -> R<Obj> {
        // SAFETY: a heap type has a tp_alloc, which gives zeroed and tracked memory.
        unsafe { Obj::owned(c::PyType_GenericAlloc(self.get().as_ptr().cast(), 0)) }
    }
    /// Makes the class.
    pub(crate) fn fill(&'static self, class: Obj) {
        self.0.fill(class);
    }
}

/// The dict of a class in the making.
pub(crate) struct Body {
    module: &'static str,
    name: &'static str,
    dict: Obj,
}

impl Body {
    /// `class name:` in `module`, with these `__slots__`.
    pub(crate) fn new(module: &'static str, name: &'static str, slots: &[&str]) -> R<Body> {
        let dict = Obj::dict()?;
        dict.dict_set(&Obj::interned("__module__")?, &Obj::str(module)?)?;
        let names = slots
            .iter()
            .map(|slot| Obj::interned(slot))
            .collect::<R<Vec<_>>>()?;
        let names: Vec<&Obj> = names.iter().collect();
        dict.dict_set(&Obj::interned("__slots__")?, &Obj::tuple(&names)?)?;
        Ok(Body { module, name, dict })
    }
    /// `def`
    pub(crate) fn method(&mut self, sig: &str, imp: Imp) -> R<()> {
        self.function(sig, imp, Kind::Plain)
    }
    /// `async def`
    pub(crate) fn async_method(&mut self, sig: &str, imp: Imp) -> R<()> {
        self.function(sig, imp, Kind::Async)
    }
    /// `__new__`: a static method, whose first argument is the class.
    pub(crate) fn new_method(&mut self, sig: &str, imp: Imp) -> R<()> {
        let new = function::make(sig, self.module, Some(self.name), imp, Kind::Plain)?;
        let staticmethod = Obj::import("builtins")?.getattr_str("staticmethod")?;
        self.attribute("__new__", &staticmethod.call(&[&new])?)
    }
    fn function(&mut self, sig: &str, imp: Imp, kind: Kind) -> R<()> {
        let name = sig.split('(').next().unwrap_or_default();
        let function = function::make(sig, self.module, Some(self.name), imp, kind)?;
        self.dict.dict_set(&Obj::interned(name)?, &function)
    }
    /// A property; `set` gets the new value.
    pub(crate) fn property(&mut self, name: &'static str, get: Imp, set: Option<Imp>) -> R<()> {
        let getter = function::make(
            &format!("{name}(self)"),
            self.module,
            Some(self.name),
            get,
            Kind::Plain,
        )?;
        let setter = match set {
            Some(set) => function::make(
                &format!("{name}(self, value)"),
                self.module,
                Some(self.name),
                set,
                Kind::Plain,
            )?,
            None => Obj::none(),
        };
        let property = Obj::import("builtins")?
            .getattr_str("property")?
            .call(&[&getter, &setter])?;
        self.dict.dict_set(&Obj::interned(name)?, &property)
    }
    /// Any class attribute.
    pub(crate) fn attribute(&mut self, name: &str, value: &Obj) -> R<()> {
        self.dict.dict_set(&Obj::interned(name)?, value)
    }
    /// `type(name, bases, dict)`
    pub(crate) fn build(self, bases: &[&Obj]) -> R<Obj> {
        // SAFETY: a static of the interpreter.
        let metaclass = unsafe { Obj::borrowed_unchecked((&raw mut c::PyType_Type).cast()) };
        metaclass.call(&[&Obj::str(self.name)?, &Obj::tuple(bases)?, &self.dict])
    }
}

/// One `__slots__` member of a class, found by name, used by offset.
pub(crate) struct Field(AtomicIsize);

#[repr(C)]
struct MemberDescr {
    head: c::PyObject,
    class: *mut c::PyTypeObject,
    name: *mut c::PyObject,
    qualname: *mut c::PyObject,
    member: *mut c::PyMemberDef,
}

impl Field {
    /// An empty place.
    pub(crate) const fn new() -> Field {
        Field(AtomicIsize::new(0))
    }

    /// Finds `class.name`, which must be a member descriptor of an object field.
    pub(crate) fn find(&self, class: &Obj, name: &str) -> R<()> {
        let descriptor = class.getattr_str(name)?;
        // SAFETY: the class of the descriptor is checked before its layout is used.
        unsafe {
            if c::Py_TYPE(descriptor.as_ptr()) != &raw mut c::PyMemberDescr_Type {
                return Err(super::errors::runtime_error(&format!(
                    "{name} is not a __slots__ member"
                )));
            }
            let member = (*descriptor.as_ptr().cast::<MemberDescr>()).member;
            if (*member).type_code != c::Py_T_OBJECT_EX {
                return Err(super::errors::runtime_error(&format!(
                    "{name} is not an object member"
                )));
            }
            self.0.store((*member).offset, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Where it is in an instance.
    pub(crate) fn offset(&self) -> usize {
        self.0.load(Ordering::Relaxed) as usize
    }

    #[inline(always)]
    fn place(&self, object: &Obj) -> *mut *mut c::PyObject {
        // SAFETY: only used on instances of the class in which the field was found (callers check the class).
        unsafe { object.as_ptr().byte_offset(self.0.load(Ordering::Relaxed)).cast() }
    }

    /// What is there.
    #[inline(always)]
    pub(crate) fn get(&self, object: &Obj) -> Option<Obj> {
        // SAFETY: null or a live reference.
        unsafe {
            let value = *self.place(object);
            if value.is_null() {
                None
            } else {
                Some(Obj::borrowed_unchecked(value))
            }
        }
    }

    /// `f` of what is there. It must not run Python code.
    #[inline(always)]
    pub(crate) fn look<T>(&self, object: &Obj, f: impl FnOnce(&Obj) -> T) -> Option<T> {
        // SAFETY: null or a live reference, which nobody can replace meanwhile.
        unsafe {
            let place = &*self.place(object);
            (!place.is_null()).then(|| f(Obj::view(place)))
        }
    }

    /// Is this very object there?
    #[inline(always)]
    pub(crate) fn holds(&self, object: &Obj, value: &Obj) -> bool {
        // SAFETY: a read of the pointer.
        unsafe { *self.place(object) == value.as_ptr() }
    }

    /// For a `tp_traverse` of whoever owns the object.
    pub(crate) fn visit(&self, object: &Obj, visitor: &mut super::Visitor) {
        // SAFETY: null or a live reference; traversal runs no code.
        unsafe {
            let place = &*self.place(object);
            if !place.is_null() {
                visitor.obj(Obj::view(place));
            }
        }
    }

    /// Puts a value; the old one is dropped last.
    #[inline(always)]
    pub(crate) fn set(&self, object: &Obj, value: Obj) {
        // SAFETY: the place owns its reference; it is replaced before the old one is dropped.
        unsafe {
            let old = std::mem::replace(&mut *self.place(object), value.into_ptr());
            c::Py_XDECREF(old);
        }
    }

    /// The instance of one of our classes that is there. For fields that only we write.
    #[inline(always)]
    pub(crate) fn view<'a, T: super::Class>(&self, object: &'a Obj) -> Option<&'a super::Own<T>> {
        // SAFETY: `'a` borrows the object, and such a field is written once, when the object is made.
        unsafe {
            let place = &*self.place(object);
            if place.is_null() {
                None
            } else {
                Some(super::Own::view(place))
            }
        }
    }
}

/// Dead instances of one class, kept for re-use, and which fields a living one has.
pub(crate) struct Pool {
    class: std::cell::Cell<*mut c::PyTypeObject>,
    fields: std::cell::UnsafeCell<Vec<isize>>,
    free: std::cell::UnsafeCell<Vec<NonNull<c::PyObject>>>,
}

// SAFETY: touched only with the GIL held.
unsafe impl Sync for Pool {}

impl Pool {
    /// An empty pool.
    pub(crate) const fn new() -> Pool {
        Pool {
            class: std::cell::Cell::new(std::ptr::null_mut()),
            fields: std::cell::UnsafeCell::new(Vec::new()),
            free: std::cell::UnsafeCell::new(Vec::new()),
        }
    }

    /// A dead instance made a living one: all fields empty, hidden from the garbage collector.
    #[inline]
    fn revive(&self) -> Option<Obj> {
        // SAFETY: the GIL is held; what is in the pool is a dead instance, which has kept its reference to
        // the type.
        unsafe {
            let ptr = (*self.free.get()).pop()?.as_ptr();
            super::class::init_head(ptr);
            Some(Obj::owned_unchecked(ptr))
        }
    }
}

/// Hides an object from the garbage collector, whose owner shows what it refers to in its place.
#[inline]
fn untrack(object: &Obj) {
    // SAFETY: an object of a class with GC support.
    unsafe { super::class::untrack(object.as_ptr()) }
}

/// Is the garbage collector looking at it?
#[inline]
pub(crate) fn is_tracked(object: &Obj) -> bool {
    // SAFETY: an object of a class with GC support.
    unsafe { super::class::is_tracked(object.as_ptr()) }
}

/// Shows it to the garbage collector (again).
#[inline]
pub(crate) fn track(object: &Obj) {
    if !is_tracked(object) {
        // SAFETY: an object of a class with GC support, complete, not tracked.
        unsafe { c::PyObject_GC_Track(object.as_ptr().cast()) }
    }
}

/// Gives a class that [`Body::build`] has made a slot in the place of the interpreter's, which looks up its `__hash__` and
/// calls it. `hash` is what that says, and never -1. A derived class has the interpreter's.
pub(crate) fn hashed<F: Fn(&Obj) -> R<isize> + Copy>(class: &'static PyClass, _hash: F) {
    // SAFETY: a heap type that we have just made; nobody has an instance yet.
    unsafe { (*class.get().as_ptr().cast::<c::PyTypeObject>()).tp_hash = Some(hash::<F>) }
}

unsafe extern "C" fn hash<F: Fn(&Obj) -> R<isize> + Copy>(op: *mut c::PyObject) -> c::Py_hash_t {
    // SAFETY: the interpreter calls it with an instance, which is alive for the call.
    guard(-1, || match zst::<F>()(unsafe { Obj::view(&op) }) {
        Ok(hash) => hash,
        Err(raised) => {
            raised.leave();
            -1
        }
    })
}

/// Where a pool is kept: one static for each class, named by a type.
pub(crate) trait Pooled {
    /// The pool.
    fn pool() -> &'static Pool;
}

/// How many dead instances a pool keeps.
const POOL_SIZE: usize = 16_384;

/// Gives a class that [`Body::build`] has made (with no `__slots__` of its own) a deallocator that knows
/// its fields, and a pool: CPython's general one walks bases, slots, dict and finalizers for each. What the
/// class makes when it is called comes from the pool, too.
/// `fields` are all the object fields that instances have, inherited ones included.
pub(crate) fn pooled<P: Pooled>(class: &'static PyClass, fields: &[&Field]) {
    let pool = P::pool();
    // SAFETY: a heap type that we have just made; nobody has an instance yet. The fields are those of the
    // base classes' `__slots__`, all of which the caller names.
    unsafe {
        let class: *mut c::PyTypeObject = class.get().as_ptr().cast();
        pool.class.set(class);
        *pool.fields.get() = fields
            .iter()
            .map(|field| field.0.load(Ordering::Relaxed))
            .collect();
        (*class).tp_dealloc = Some(pool_dealloc::<P>);
        (*class).tp_alloc = Some(pool_alloc::<P>);
    }
}

/// For instances that a program makes: they end in the pool, so they come from there.
unsafe extern "C" fn pool_alloc<P: Pooled>(
    class: *mut c::PyTypeObject,
    items: c::Py_ssize_t,
) -> *mut c::PyObject {
    let pool = P::pool();
    if class == pool.class.get()
        && let Some(revived) = pool.revive()
    {
        track(&revived);
        return revived.into_ptr();
    }
    // SAFETY: what the class had in its place before.
    unsafe { c::PyType_GenericAlloc(class, items) }
}

unsafe extern "C" fn pool_dealloc<P: Pooled>(op: *mut c::PyObject) {
    let pool = P::pool();
    // SAFETY: called once, with the last reference gone, on an instance of the class or of one derived from
    // it (then by way of CPython's own deallocator, which has dealt with what the derived class added).
    unsafe {
        super::class::untrack(op);
        // (all have the field: it comes with `asyncio.Handle`)
        let weakrefs: *mut *mut c::PyObject = op.byte_offset((*pool.class.get()).tp_weaklistoffset).cast();
        if !(*weakrefs).is_null() {
            c::PyObject_ClearWeakRefs(op);
        }
        for offset in &*pool.fields.get() {
            let place: *mut *mut c::PyObject = op.byte_offset(*offset).cast();
            let value = *place;
            if !value.is_null() {
                place.write(std::ptr::null_mut());
                c::Py_DECREF(value);
            }
        }
        let class = c::Py_TYPE(op);
        let free = &mut *pool.free.get();
        if class == pool.class.get() && free.len() < POOL_SIZE && !cfg!(Py_GIL_DISABLED) {
            free.push(NonNull::new_unchecked(op));
            return;
        }
        if let Some(tp_free) = (*class).tp_free {
            tp_free(op.cast());
        }
        c::Py_DECREF(class.cast());
    }
}
