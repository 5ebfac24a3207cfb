//! `bound`: what `lock.__aenter__` and `lock.__aexit__` are.
//!
//! Up to 3.13 `async with` binds both as methods for each use, and two of the interpreter's method objects
//! cost a quarter of an `async with lock`: it keeps no dead ones for re-use. These stand for such methods.
//! A call goes straight to the function; for everything else (attributes, `isinstance`, repr, equality, hash,
//! copying) the method that they stand for is made and asked.

use super::class::{Class, ClassCell, Own, Slots, Visitor, guard};
use super::errors::{R, to_c};
use super::function;
use super::{Obj, Slot, WeakRefs};
use pyo3::ffi as c;
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ptr::null_mut;

/// The object.
#[derive(Default)]
pub(crate) struct Bound {
    vectorcall: Cell<Option<c::vectorcallfunc>>,
    weakrefs: WeakRefs,
    function: Slot,
    instance: Slot,
}

/// Binds one of our functions as a method.
#[inline]
pub(super) fn bind(function: Obj, instance: Obj) -> R<Obj> {
    let bound = Bound::default();
    bound.vectorcall.set(Some(vectorcall));
    bound.function.set(function);
    bound.instance.set(instance);
    Ok(CLASS.alloc_unseen(bound)?.into_obj())
}

/// `types.MethodType(function, instance)`
pub(super) fn method(function: &Obj, instance: &Obj) -> R<Obj> {
    unsafe extern "C" {
        fn PyMethod_New(function: *mut c::PyObject, instance: *mut c::PyObject) -> *mut c::PyObject;
    }
    // SAFETY: both alive.
    unsafe { Obj::owned(PyMethod_New(function.as_ptr(), instance.as_ptr())) }
}

impl Own<Bound> {
    /// The method that it stands for.
    #[cold]
    fn method(&self) -> R<Obj> {
        method(&self.function.get_or_none(), &self.instance.get_or_none())
    }
}

unsafe extern "C" fn vectorcall(
    callable: *mut c::PyObject,
    args: *const *mut c::PyObject,
    nargsf: usize,
    kwnames: *mut c::PyObject,
) -> *mut c::PyObject {
    // SAFETY: the interpreter calls this with one of ours, which it keeps alive for the call, and a valid
    // argument vector; the function in it is one of ours too.
    unsafe {
        let this = Own::<Bound>::view(&callable);
        let given = nargsf & !c::PY_VECTORCALL_ARGUMENTS_OFFSET;
        if let (Some(function), Some(instance)) = (this.function.peek(), this.instance.peek())
            && kwnames.is_null()
        {
            if given == 0 {
                return function::vectorcall(function.as_ptr(), &instance.as_ptr(), 1, kwnames);
            }
            if nargsf != given {
                // the caller lends us the place before its arguments
                let all = args.cast_mut().sub(1);
                let before = all.replace(instance.as_ptr());
                let result = function::vectorcall(function.as_ptr(), all, given + 1, kwnames);
                all.write(before);
                return result;
            }
        }
        guard(null_mut(), || match this.method() {
            Ok(method) => c::PyObject_Vectorcall(method.as_ptr(), args, nargsf, kwnames),
            Err(raised) => {
                raised.leave();
                null_mut()
            }
        })
    }
}

unsafe extern "C" fn get_attribute(op: *mut c::PyObject, name: *mut c::PyObject) -> *mut c::PyObject {
    // SAFETY: one of ours, and a name.
    guard(null_mut(), || unsafe {
        let value = Own::<Bound>::view(&op)
            .method()
            .and_then(|method| method.getattr(Obj::view(&name)));
        to_c(value)
    })
}

unsafe extern "C" fn compare(op: *mut c::PyObject, other: *mut c::PyObject, how: c_int) -> *mut c::PyObject {
    // SAFETY: one of ours, and any object, both alive.
    guard(null_mut(), || unsafe {
        let compared = || -> R<Obj> {
            let this = Own::<Bound>::view(&op).method()?;
            let other = match CLASS.exact(Obj::view(&other)) {
                Some(other) => other.method()?,
                None => Obj::view(&other).clone(),
            };
            Obj::owned(c::PyObject_RichCompare(this.as_ptr(), other.as_ptr(), how))
        };
        to_c(compared())
    })
}

unsafe extern "C" fn hash(op: *mut c::PyObject) -> c::Py_hash_t {
    // SAFETY: one of ours.
    guard(-1, || unsafe {
        let method = Own::<Bound>::view(&op).method();
        match method {
            Ok(method) => c::PyObject_Hash(method.as_ptr()),
            Err(raised) => {
                raised.leave();
                -1
            }
        }
    })
}

fn repr(this: &Own<Bound>) -> R<Obj> {
    Obj::str(&this.method()?.repr()?)
}

static CLASS: ClassCell<Bound> = ClassCell::new();

impl Class for Bound {
    const NAME: &'static CStr = c"aioxide._core.method";
    const SUBCLASSABLE: bool = false;
    const WEAKREFS: Option<usize> = Some(offset_of!(Bound, weakrefs));
    const VECTORCALL: Option<usize> = Some(offset_of!(Bound, vectorcall));
    const FREELIST: usize = 255;

    fn class() -> &'static ClassCell<Bound> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Bound>) -> R<()> {
        slots.no_new();
        slots.repr(repr);
        slots.slot(c::Py_tp_getattro, get_attribute as *mut c_void);
        slots.slot(c::Py_tp_richcompare, compare as *mut c_void);
        slots.slot(c::Py_tp_hash, hash as *mut c_void);
        // `copy` looks for it in the class
        slots.method("__reduce__(self)", |args| {
            let method = args.this::<Bound>()?.method()?;
            method.call_method_str("__reduce__", &[])
        })
    }
    #[inline(always)]
    fn may_be_unseen(&self) -> bool {
        true
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.function.visit(visitor);
        self.instance.visit(visitor);
    }
    fn clear(&self) {
        self.function.put(None);
        self.instance.put(None);
    }
}
