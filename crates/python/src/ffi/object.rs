//! `Obj`: an owned, non-null reference to any Python object, and what one does with it.

use super::errors::{R, Raised};
use pyo3::ffi as c;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// An owned reference. Clone is `Py_INCREF`, drop is `Py_DECREF`, at once and never deferred.
#[repr(transparent)]
pub(crate) struct Obj(NonNull<c::PyObject>);

impl Clone for Obj {
    #[inline(always)]
    fn clone(&self) -> Obj {
        // SAFETY: alive, and the GIL is held.
        unsafe { c::Py_INCREF(self.0.as_ptr()) };
        Obj(self.0)
    }
}

impl Drop for Obj {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: we own one reference, and the GIL is held.
        unsafe { c::Py_DECREF(self.0.as_ptr()) }
    }
}

impl Obj {
    /// Takes over a new reference; null means that an exception is set.
    ///
    /// # Safety
    /// `ptr` is null with an exception set, or a reference that the caller owns.
    #[inline(always)]
    pub(crate) unsafe fn owned(ptr: *mut c::PyObject) -> R<Obj> {
        match NonNull::new(ptr) {
            Some(ptr) => Ok(Obj(ptr)),
            None => Err(Raised::set()),
        }
    }

    /// # Safety
    /// `ptr` is a non-null reference that the caller owns.
    #[inline(always)]
    pub(crate) unsafe fn owned_unchecked(ptr: *mut c::PyObject) -> Obj {
        // SAFETY: the caller's promise.
        Obj(unsafe { NonNull::new_unchecked(ptr) })
    }

    /// # Safety
    /// `ptr` is a live object.
    #[inline(always)]
    pub(crate) unsafe fn borrowed_unchecked(ptr: *mut c::PyObject) -> Obj {
        // SAFETY: the caller's promise.
        unsafe {
            c::Py_INCREF(ptr);
            Obj::owned_unchecked(ptr)
        }
    }

    /// A view of a borrowed pointer as `&Obj`.
    ///
    /// # Safety
    /// `*place` is non-null and stays alive for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn view(place: &*mut c::PyObject) -> &Obj {
        // SAFETY: `Obj` is `repr(transparent)` over the pointer.
        unsafe { &*(place as *const *mut c::PyObject).cast::<Obj>() }
    }

    /// The pointer, still owned by `self`.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *mut c::PyObject {
        self.0.as_ptr()
    }

    /// The pointer and its reference.
    #[inline(always)]
    pub(crate) fn into_ptr(self) -> *mut c::PyObject {
        let ptr = self.0.as_ptr();
        std::mem::forget(self);
        ptr
    }

    /// `self is other`
    #[inline(always)]
    pub(crate) fn is(&self, other: &Obj) -> bool {
        self.0 == other.0
    }

    /// `id(self)`
    #[inline(always)]
    pub(crate) fn identity(&self) -> Identity {
        Identity(self.as_ptr().addr())
    }

    /// `self is None`
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        // SAFETY: the address of a static.
        self.as_ptr() == unsafe { c::Py_None() }
    }

    /// `None` becomes Rust's `None`.
    pub(crate) fn non_none(&self) -> Option<&Obj> {
        if self.is_none() { None } else { Some(self) }
    }

    /// `type(self)`
    pub(crate) fn class(&self) -> Obj {
        // SAFETY: a type is alive as long as its instance.
        unsafe { Obj::borrowed_unchecked(c::Py_TYPE(self.as_ptr()).cast()) }
    }

    /// `type(self) is class`
    #[inline(always)]
    pub(crate) fn is_exactly(&self, class: &Obj) -> bool {
        // SAFETY: alive.
        unsafe { c::Py_TYPE(self.as_ptr()).cast() == class.as_ptr() }
    }

    /// `type(self).__name__`, for error texts.
    pub(crate) fn class_name(&self) -> String {
        self.class()
            .getattr_str("__name__")
            .and_then(|name| name.to_string())
            .unwrap_or_else(|raised| {
                raised.ignore();
                "object".into()
            })
    }

    /// `%T` of CPython's own texts: the class with its module, if that is neither `builtins` nor `__main__`.
    pub(crate) fn full_class_name(&self) -> R<String> {
        let class = self.class();
        let name = class.getattr_str("__qualname__")?.to_string()?;
        let module = class.getattr_str("__module__")?;
        Ok(match module.to_string() {
            Ok(module) if module != "builtins" && module != "__main__" => format!("{module}.{name}"),
            Ok(_) => name,
            Err(raised) => {
                raised.ignore();
                name
            }
        })
    }

    // --- attributes -----------------------------------------------------------------------------

    /// `getattr(self, name)` with an interned name.
    #[inline]
    pub(crate) fn getattr(&self, name: &Obj) -> R<Obj> {
        // SAFETY: both alive.
        unsafe { Obj::owned(c::PyObject_GetAttr(self.as_ptr(), name.as_ptr())) }
    }

    /// `getattr(self, name)`; for cold code.
    pub(crate) fn getattr_str(&self, name: &str) -> R<Obj> {
        self.getattr(&Obj::interned(name)?)
    }

    /// `getattr(self, name, None)`, without hiding any error but AttributeError.
    pub(crate) fn getattr_opt(&self, name: &Obj) -> R<Option<Obj>> {
        #[cfg(Py_3_13)]
        {
            let mut out = std::ptr::null_mut();
            // SAFETY: both alive; `out` is a place for a new reference.
            match unsafe { c::PyObject_GetOptionalAttr(self.as_ptr(), name.as_ptr(), &mut out) } {
                // SAFETY: 1 means that `out` is a new reference.
                1 => Ok(Some(unsafe { Obj::owned_unchecked(out) })),
                0 => Ok(None),
                _ => Err(Raised::set()),
            }
        }
        #[cfg(not(Py_3_13))]
        match self.getattr(name) {
            Ok(value) => Ok(Some(value)),
            Err(raised) if raised.matches(super::errors::exc::attribute_error()) => {
                raised.ignore();
                Ok(None)
            }
            Err(raised) => Err(raised),
        }
    }

    /// `hasattr(self, name)`
    pub(crate) fn hasattr(&self, name: &str) -> R<bool> {
        Ok(self.getattr_opt(&Obj::str(name)?)?.is_some())
    }

    /// `setattr(self, name, value)`
    pub(crate) fn setattr(&self, name: &Obj, value: &Obj) -> R<()> {
        // SAFETY: all alive.
        check(unsafe { c::PyObject_SetAttr(self.as_ptr(), name.as_ptr(), value.as_ptr()) })
    }

    /// `setattr(self, name, value)`; for cold code.
    pub(crate) fn setattr_str(&self, name: &str, value: &Obj) -> R<()> {
        self.setattr(&Obj::interned(name)?, value)
    }

    // --- calls ----------------------------------------------------------------------------------

    /// `self()`
    #[inline]
    pub(crate) fn call0(&self) -> R<Obj> {
        // SAFETY: alive.
        unsafe { Obj::owned(c::PyObject_CallNoArgs(self.as_ptr())) }
    }

    /// `self(*args)`
    #[inline]
    pub(crate) fn call(&self, args: &[&Obj]) -> R<Obj> {
        if let [one] = args {
            // SAFETY: both alive.
            return unsafe { Obj::owned(c::PyObject_CallOneArg(self.as_ptr(), one.as_ptr())) };
        }
        self.call_kw(args, None)
    }

    /// `self(*args)` with a tuple.
    #[inline]
    pub(crate) fn call_tuple(&self, args: &Obj) -> R<Obj> {
        let items = args.tuple_items();
        // SAFETY: the tuple keeps its items alive for the call; `Obj` is one pointer.
        unsafe {
            Obj::owned(c::PyObject_Vectorcall(
                self.as_ptr(),
                items.as_ptr().cast(),
                items.len(),
                std::ptr::null_mut(),
            ))
        }
    }

    /// `self(*args)`, the last ones by the names in the tuple `kwnames`.
    #[inline]
    pub(crate) fn call_kw(&self, args: &[&Obj], kwnames: Option<&Obj>) -> R<Obj> {
        let mut stack: [*mut c::PyObject; 16] = [std::ptr::null_mut(); 16];
        let total = args.len();
        if total > 15 {
            return self.call_many(args, kwnames);
        }
        for (place, arg) in stack[1..].iter_mut().zip(args) {
            *place = arg.as_ptr();
        }
        let names = kwnames.map_or(std::ptr::null_mut(), Obj::as_ptr);
        let positional = total - kwnames.map_or(0, |names| names.tuple_len());
        // SAFETY: `stack` holds `total` live references after one free place, as the offset flag promises.
        unsafe {
            Obj::owned(c::PyObject_Vectorcall(
                self.as_ptr(),
                stack.as_ptr().add(1),
                positional | c::PY_VECTORCALL_ARGUMENTS_OFFSET,
                names,
            ))
        }
    }

    /// [`call_kw`](Self::call_kw) with more arguments than there is room for on the stack.
    #[cold]
    fn call_many(&self, args: &[&Obj], kwnames: Option<&Obj>) -> R<Obj> {
        let named = kwnames.map_or(0, Obj::tuple_len);
        let all: Vec<*mut c::PyObject> = args.iter().map(|arg| arg.as_ptr()).collect();
        // SAFETY: live references, of which the last ones have these names.
        unsafe {
            Obj::owned(c::PyObject_Vectorcall(
                self.as_ptr(),
                all.as_ptr(),
                all.len() - named,
                kwnames.map_or(std::ptr::null_mut(), Obj::as_ptr),
            ))
        }
    }

    /// `self(*args, **kwargs)` with a tuple and a dict.
    pub(crate) fn call_with(&self, args: &Obj, kwargs: Option<&Obj>) -> R<Obj> {
        // SAFETY: a tuple and a dict or null.
        unsafe {
            Obj::owned(c::PyObject_Call(
                self.as_ptr(),
                args.as_ptr(),
                kwargs.map_or(std::ptr::null_mut(), Obj::as_ptr),
            ))
        }
    }

    /// `self.name(*args)`
    #[inline]
    pub(crate) fn call_method(&self, name: &Obj, args: &[&Obj]) -> R<Obj> {
        self.call_method_kw(name, args, None)
    }

    /// `self.name(*args)`, the last ones by the names in the tuple `kwnames`.
    #[inline]
    pub(crate) fn call_method_kw(&self, name: &Obj, args: &[&Obj], kwnames: Option<&Obj>) -> R<Obj> {
        let mut stack: [*mut c::PyObject; 16] = [std::ptr::null_mut(); 16];
        if args.len() > 14 {
            return self.getattr(name)?.call_many(args, kwnames);
        }
        stack[1] = self.as_ptr();
        for (place, arg) in stack[2..].iter_mut().zip(args) {
            *place = arg.as_ptr();
        }
        let positional = 1 + args.len() - kwnames.map_or(0, |names| names.tuple_len());
        // SAFETY: as in `call_kw`; the first argument is the object itself.
        unsafe {
            Obj::owned(c::PyObject_VectorcallMethod(
                name.as_ptr(),
                stack.as_ptr().add(1),
                positional | c::PY_VECTORCALL_ARGUMENTS_OFFSET,
                kwnames.map_or(std::ptr::null_mut(), Obj::as_ptr),
            ))
        }
    }

    /// `self.name(*args)`; for cold code.
    pub(crate) fn call_method_str(&self, name: &str, args: &[&Obj]) -> R<Obj> {
        self.call_method(&Obj::interned(name)?, args)
    }

    /// `callable(self)`
    pub(crate) fn callable(&self) -> bool {
        // SAFETY: alive.
        unsafe { c::PyCallable_Check(self.as_ptr()) != 0 }
    }

    // --- operators ------------------------------------------------------------------------------

    /// `bool(self)`
    #[inline]
    pub(crate) fn truth(&self) -> R<bool> {
        // SAFETY: alive.
        match unsafe { c::PyObject_IsTrue(self.as_ptr()) } {
            -1 => Err(Raised::set()),
            value => Ok(value != 0),
        }
    }

    /// `self == other` (identity first, as containers do)
    pub(crate) fn eq(&self, other: &Obj) -> R<bool> {
        // SAFETY: both alive.
        match unsafe { c::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), c::Py_EQ) } {
            -1 => Err(Raised::set()),
            value => Ok(value != 0),
        }
    }

    /// `self < other`
    pub(crate) fn lt(&self, other: &Obj) -> R<bool> {
        // SAFETY: both alive.
        match unsafe { c::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), c::Py_LT) } {
            -1 => Err(Raised::set()),
            value => Ok(value != 0),
        }
    }

    /// `self <= other`
    pub(crate) fn le(&self, other: &Obj) -> R<bool> {
        // SAFETY: both alive.
        match unsafe { c::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), c::Py_LE) } {
            -1 => Err(Raised::set()),
            value => Ok(value != 0),
        }
    }

    /// `self >= other`
    pub(crate) fn ge(&self, other: &Obj) -> R<bool> {
        // SAFETY: both alive.
        match unsafe { c::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), c::Py_GE) } {
            -1 => Err(Raised::set()),
            value => Ok(value != 0),
        }
    }

    /// `self + other`
    pub(crate) fn add(&self, other: &Obj) -> R<Obj> {
        // SAFETY: both alive.
        unsafe { Obj::owned(c::PyNumber_Add(self.as_ptr(), other.as_ptr())) }
    }

    /// `issubclass(self, class)`
    pub(crate) fn issubclass(&self, class: &Obj) -> R<bool> {
        // SAFETY: both alive.
        match unsafe { c::PyObject_IsSubclass(self.as_ptr(), class.as_ptr()) } {
            -1 => Err(Raised::set()),
            value => Ok(value != 0),
        }
    }

    /// `isinstance(self, class)`
    pub(crate) fn isinstance(&self, class: &Obj) -> R<bool> {
        // SAFETY: both alive.
        match unsafe { c::PyObject_IsInstance(self.as_ptr(), class.as_ptr()) } {
            -1 => Err(Raised::set()),
            value => Ok(value != 0),
        }
    }

    /// `repr(self)`
    pub(crate) fn repr(&self) -> R<String> {
        // SAFETY: alive.
        unsafe { Obj::owned(c::PyObject_Repr(self.as_ptr())) }?.to_string()
    }

    /// `str(self)` as a Python string.
    pub(crate) fn to_str(&self) -> R<Obj> {
        // SAFETY: alive.
        unsafe { Obj::owned(c::PyObject_Str(self.as_ptr())) }
    }

    /// The text of a `str`.
    pub(crate) fn to_string(&self) -> R<String> {
        let mut size = 0;
        // SAFETY: alive; a non-str raises TypeError.
        let text = unsafe { c::PyUnicode_AsUTF8AndSize(self.as_ptr(), &mut size) };
        if text.is_null() {
            let raised = Raised::set();
            if raised.matches(super::errors::exc::type_error()) {
                return Err(raised);
            }
            // lone surrogates: keep the text readable rather than fail in a repr
            raised.ignore();
            return self
                .call_method_str("encode", &[&Obj::str("utf-8")?, &Obj::str("backslashreplace")?])?
                .bytes_lossy();
        }
        // SAFETY: CPython gives `size` bytes of UTF-8 that live as long as the object.
        Ok(
            unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(text.cast(), size as usize)) }
                .to_owned(),
        )
    }

    fn bytes_lossy(&self) -> R<String> {
        // SAFETY: called on a bytes object only.
        unsafe {
            let data = c::PyBytes_AsString(self.as_ptr());
            let size = c::PyBytes_Size(self.as_ptr());
            if data.is_null() || size < 0 {
                return Err(Raised::set());
            }
            Ok(String::from_utf8_lossy(std::slice::from_raw_parts(data.cast(), size as usize)).into_owned())
        }
    }

    /// `float(self)`
    #[inline]
    pub(crate) fn to_f64(&self) -> R<f64> {
        if let Some(value) = exact_number(self) {
            return Ok(value);
        }
        // SAFETY: alive.
        let value = unsafe { c::PyFloat_AsDouble(self.as_ptr()) };
        if value == -1.0 && occurred() {
            Err(Raised::set())
        } else {
            Ok(value)
        }
    }

    /// `int(self)` of an int (or anything with `__index__`).
    pub(crate) fn to_i64(&self) -> R<i64> {
        // SAFETY: alive.
        let value = unsafe { c::PyLong_AsLongLong(self.as_ptr()) };
        if value == -1 && occurred() {
            Err(Raised::set())
        } else {
            Ok(value)
        }
    }

    /// The value of an `int` (or of a class derived from it) that fits. Runs no Python code.
    pub(crate) fn to_i32(&self) -> Option<i32> {
        if !is_int(self) {
            return None;
        }
        let mut overflow = 0;
        // SAFETY: alive, and an int.
        let value = unsafe { c::PyLong_AsLongLongAndOverflow(self.as_ptr(), &mut overflow) };
        (overflow == 0).then(|| i32::try_from(value).ok()).flatten()
    }

    // --- making ---------------------------------------------------------------------------------

    /// `None`
    #[inline(always)]
    pub(crate) fn none() -> Obj {
        // SAFETY: a static.
        unsafe { Obj::singleton(c::Py_None()) }
    }

    /// `True` or `False`
    #[inline(always)]
    pub(crate) fn bool(value: bool) -> Obj {
        // SAFETY: statics.
        unsafe { Obj::singleton(if value { c::Py_True() } else { c::Py_False() }) }
    }

    /// Immortal from 3.12 on: there is nothing to count.
    ///
    /// # Safety
    /// None, True or False.
    #[inline(always)]
    unsafe fn singleton(ptr: *mut c::PyObject) -> Obj {
        // SAFETY: alive as long as the interpreter.
        unsafe {
            if cfg!(Py_3_12) {
                Obj::owned_unchecked(ptr)
            } else {
                Obj::borrowed_unchecked(ptr)
            }
        }
    }

    /// Drops what is known to be `None`.
    #[inline(always)]
    pub(crate) fn drop_none(self) {
        debug_assert!(self.is_none());
        if cfg!(Py_3_12) {
            std::mem::forget(self);
        }
    }

    /// An `int`.
    pub(crate) fn int(value: i64) -> R<Obj> {
        // SAFETY: the GIL is held.
        unsafe { Obj::owned(c::PyLong_FromLongLong(value)) }
    }

    /// A `float`.
    pub(crate) fn float(value: f64) -> R<Obj> {
        // SAFETY: the GIL is held.
        unsafe { Obj::owned(c::PyFloat_FromDouble(value)) }
    }

    /// A `str`.
    pub(crate) fn str(text: &str) -> R<Obj> {
        // SAFETY: valid UTF-8 with its length.
        unsafe {
            Obj::owned(c::PyUnicode_FromStringAndSize(
                text.as_ptr().cast(),
                text.len() as isize,
            ))
        }
    }

    /// An interned `str`: for names. Those that were asked for lately are remembered, by where their text lies: to make
    /// one, to hash it and to find it among the interned takes ten times as long.
    pub(crate) fn interned(text: &str) -> R<Obj> {
        let first = place_of(text);
        let places = [&INTERNED[first], &INTERNED[first ^ 1]];
        for place in places {
            let known = place.load(Relaxed);
            if known.is_null() || cfg!(Py_GIL_DISABLED) {
                continue;
            }
            // SAFETY: the place has a reference, and nobody replaces it before we have ours.
            let known = unsafe { Obj::borrowed_unchecked(known) };
            // (another text may lie there by now)
            if ascii(&known) == Some(text) {
                return Ok(known);
            }
        }
        let name = Obj::intern(text)?;
        if !cfg!(Py_GIL_DISABLED) {
            let before = places[0].swap(name.clone().into_ptr(), Relaxed);
            let oldest = places[1].swap(before, Relaxed);
            if !oldest.is_null() {
                // SAFETY: it was the place's; a `str` runs no code when it dies.
                drop(unsafe { Obj::owned_unchecked(oldest) });
            }
        }
        Ok(name)
    }

    fn intern(text: &str) -> R<Obj> {
        let mut ptr = Obj::str(text)?.into_ptr();
        // SAFETY: takes and gives back one owned reference.
        unsafe {
            c::PyUnicode_InternInPlace(&mut ptr);
            Obj::owned(ptr)
        }
    }

    /// `()`
    #[inline]
    pub(crate) fn empty_tuple() -> Obj {
        EMPTY_TUPLE.get().clone()
    }

    /// `b""`
    pub(crate) fn empty_bytes() -> R<Obj> {
        super::bytes::new(&[])
    }

    /// A tuple of new references.
    pub(crate) fn tuple(items: &[&Obj]) -> R<Obj> {
        // SAFETY: a fresh tuple of that length, filled with owned references before anybody sees it.
        unsafe {
            let tuple = Obj::owned(c::PyTuple_New(items.len() as isize))?;
            for (index, item) in items.iter().enumerate() {
                c::PyTuple_SET_ITEM(tuple.as_ptr(), index as isize, (*item).clone().into_ptr());
            }
            Ok(tuple)
        }
    }

    /// As [`Obj::tuple`], of owned ones.
    pub(crate) fn tuple_of(items: &[Obj]) -> R<Obj> {
        // SAFETY: as in `tuple`.
        unsafe {
            let tuple = Obj::owned(c::PyTuple_New(items.len() as isize))?;
            for (index, item) in items.iter().enumerate() {
                c::PyTuple_SET_ITEM(tuple.as_ptr(), index as isize, item.clone().into_ptr());
            }
            Ok(tuple)
        }
    }

    /// `isinstance(self, tuple)`
    pub(crate) fn is_tuple(&self) -> bool {
        // SAFETY: alive.
        unsafe { c::PyTuple_Check(self.as_ptr()) != 0 }
    }

    /// `len()` of a tuple.
    pub(crate) fn tuple_len(&self) -> usize {
        // SAFETY: only called on tuples (checked in debug builds).
        unsafe {
            debug_assert!(c::PyTuple_Check(self.as_ptr()) != 0);
            c::PyTuple_GET_SIZE(self.as_ptr()) as usize
        }
    }

    /// The items of a tuple; empty for anything else.
    pub(crate) fn tuple_items(&self) -> &[Obj] {
        // SAFETY: a tuple is immutable and holds `tuple_len` live references in a row; `Obj` is one pointer.
        unsafe {
            if c::PyTuple_Check(self.as_ptr()) == 0 {
                return &[];
            }
            let tuple = self.as_ptr().cast::<c::PyTupleObject>();
            std::slice::from_raw_parts((&raw const (*tuple).ob_item).cast::<Obj>(), self.tuple_len())
        }
    }

    /// `[*items]`
    pub(crate) fn list(items: &[Obj]) -> R<Obj> {
        // SAFETY: a fresh list, filled before anybody sees it.
        unsafe {
            let list = Obj::owned(c::PyList_New(items.len() as isize))?;
            for (index, item) in items.iter().enumerate() {
                c::PyList_SET_ITEM(list.as_ptr(), index as isize, item.clone().into_ptr());
            }
            Ok(list)
        }
    }

    /// `self[index]`, of a sequence.
    pub(crate) fn item(&self, index: usize) -> R<Obj> {
        // SAFETY: alive; too large an index raises IndexError.
        unsafe { Obj::owned(c::PySequence_GetItem(self.as_ptr(), index as isize)) }
    }

    /// `list(self)` as a Vec: any iterable.
    pub(crate) fn to_vec(&self) -> R<Vec<Obj>> {
        // SAFETY: a fresh list nobody else knows; its items are live.
        unsafe {
            let list = Obj::owned(c::PySequence_List(self.as_ptr()))?;
            let size = c::PyList_GET_SIZE(list.as_ptr());
            Ok((0..size)
                .map(|index| Obj::borrowed_unchecked(c::PyList_GET_ITEM(list.as_ptr(), index)))
                .collect())
        }
    }

    /// `{}`
    pub(crate) fn dict() -> R<Obj> {
        // SAFETY: the GIL is held.
        unsafe { Obj::owned(c::PyDict_New()) }
    }

    /// Is it exactly a dict?
    #[inline(always)]
    pub(crate) fn is_dict(&self) -> bool {
        // SAFETY: alive.
        unsafe { c::PyDict_CheckExact(self.as_ptr()) != 0 }
    }
    /// `self[key] = value` for a dict.
    pub(crate) fn dict_set(&self, key: &Obj, value: &Obj) -> R<()> {
        // SAFETY: alive; a non-dict raises SystemError.
        check(unsafe { c::PyDict_SetItem(self.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    /// `self.get(key)` for a dict.
    pub(crate) fn dict_get(&self, key: &Obj) -> R<Option<Obj>> {
        // SAFETY: alive; borrowed result turned into an owned one at once.
        let found = unsafe { c::PyDict_GetItemWithError(self.as_ptr(), key.as_ptr()) };
        if found.is_null() {
            return if occurred() { Err(Raised::set()) } else { Ok(None) };
        }
        // SAFETY: a live borrowed reference.
        Ok(Some(unsafe { Obj::borrowed_unchecked(found) }))
    }

    /// `self.pop(key, None)` for a dict.
    pub(crate) fn dict_discard(&self, key: &Obj) -> R<()> {
        // SAFETY: alive; a non-dict raises SystemError.
        unsafe {
            match c::PyDict_Contains(self.as_ptr(), key.as_ptr()) {
                0 => Ok(()),
                1 => check(c::PyDict_DelItem(self.as_ptr(), key.as_ptr())),
                _ => Err(Raised::set()),
            }
        }
    }

    /// `set(items)`
    pub(crate) fn set(items: &[Obj]) -> R<Obj> {
        // SAFETY: a fresh set.
        unsafe {
            let set = Obj::owned(c::PySet_New(std::ptr::null_mut()))?;
            for item in items {
                check(c::PySet_Add(set.as_ptr(), item.as_ptr()))?;
            }
            Ok(set)
        }
    }

    /// `self.add(item)` for a set.
    #[cfg(Py_3_14)]
    pub(crate) fn set_add(&self, item: &Obj) -> R<()> {
        // SAFETY: alive; a non-set raises SystemError.
        check(unsafe { c::PySet_Add(self.as_ptr(), item.as_ptr()) })
    }

    /// `self.discard(item)` for a set.
    pub(crate) fn set_discard(&self, item: &Obj) -> R<()> {
        // SAFETY: alive; a non-set raises SystemError.
        check(unsafe { c::PySet_Discard(self.as_ptr(), item.as_ptr()) })
    }

    /// `item in self` for a set or dict or anything with `__contains__`.
    pub(crate) fn contains(&self, item: &Obj) -> R<bool> {
        // SAFETY: alive.
        match unsafe { c::PySequence_Contains(self.as_ptr(), item.as_ptr()) } {
            -1 => Err(Raised::set()),
            value => Ok(value != 0),
        }
    }

    /// `len(self)`
    pub(crate) fn len(&self) -> R<usize> {
        // SAFETY: alive.
        match unsafe { c::PyObject_Size(self.as_ptr()) } {
            -1 => Err(Raised::set()),
            size => Ok(size as usize),
        }
    }

    /// How many references there are; for tests of "nobody else has it".
    pub(crate) fn refcount(&self) -> isize {
        // SAFETY: alive.
        unsafe { c::Py_REFCNT(self.as_ptr()) as isize }
    }

    /// `weakref.ref(self)`
    pub(crate) fn weak_reference(&self) -> R<Obj> {
        // SAFETY: alive; an object without weak references raises TypeError.
        unsafe { Obj::owned(c::PyWeakref_NewRef(self.as_ptr(), std::ptr::null_mut())) }
    }

    /// `self()`, for a weak reference: what it refers to, if that is alive. `None` as well if it is none.
    #[inline]
    pub(crate) fn referent(&self) -> Option<Obj> {
        // SAFETY: alive; a live referent is given as a new (3.13+) or a borrowed reference.
        unsafe {
            if c::PyWeakref_Check(self.as_ptr()) == 0 {
                return None;
            }
            #[cfg(Py_3_13)]
            {
                let mut referent = std::ptr::null_mut();
                (c::PyWeakref_GetRef(self.as_ptr(), &mut referent) == 1)
                    .then(|| Obj::owned_unchecked(referent))
            }
            #[cfg(not(Py_3_13))]
            {
                let referent = c::PyWeakref_GetObject(self.as_ptr());
                (referent != c::Py_None()).then(|| Obj::borrowed_unchecked(referent))
            }
        }
    }

    /// `self() is object`, for a weak reference.
    pub(crate) fn weakly_refers_to(&self, object: &Obj) -> bool {
        self.referent().is_some_and(|referent| referent.is(object))
    }

    /// `self == b''`
    pub(crate) fn is_empty_bytes(&self) -> bool {
        // SAFETY: alive; the class is checked before the size is read.
        unsafe { c::PyBytes_Check(self.as_ptr()) != 0 && c::PyBytes_Size(self.as_ptr()) == 0 }
    }

    /// `memoryview(self)`
    pub(crate) fn memoryview(&self) -> R<Obj> {
        // SAFETY: alive.
        unsafe { Obj::owned(c::PyMemoryView_FromObject(self.as_ptr())) }
    }

    /// `self[start:end]`
    pub(crate) fn slice(&self, start: usize, end: usize) -> R<Obj> {
        // SAFETY: alive; an end beyond the length is cut down to it.
        unsafe {
            Obj::owned(c::PySequence_GetSlice(
                self.as_ptr(),
                start as isize,
                end.min(isize::MAX as usize) as isize,
            ))
        }
    }

    /// `import name`
    pub(crate) fn import(name: &str) -> R<Obj> {
        let name = Obj::str(name)?;
        // SAFETY: a str.
        unsafe { Obj::owned(c::PyImport_Import(name.as_ptr())) }
    }
}

/// `id(object)`, as a key for as long as the object lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(usize);

impl std::hash::Hash for Identity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_usize(self.0);
    }
}

/// A hasher for [`Identity`]: nobody chooses addresses to make them collide.
#[derive(Default)]
pub(crate) struct IdentityHasher(u64);

impl std::hash::Hasher for IdentityHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize((*byte).into());
        }
    }
    fn write_usize(&mut self, number: usize) {
        // Fibonacci hashing: the low bits of an address are all zero, the top ones all the same
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

/// Is an exception set?
#[inline]
pub(crate) fn occurred() -> bool {
    // SAFETY: the GIL is held.
    unsafe { !c::PyErr_Occurred().is_null() }
}

/// The C API's int result: -1 means that an exception is set.
#[inline(always)]
pub(crate) fn check(result: std::ffi::c_int) -> R<()> {
    if result < 0 { Err(Raised::set()) } else { Ok(()) }
}

/// A place for one Python object that lives as long as the process: an import or an interned name.
/// Filled once, when the extension module is made.
pub(crate) struct Static(std::sync::atomic::AtomicPtr<c::PyObject>);

impl Static {
    /// An empty place.
    pub(crate) const fn new() -> Static {
        Static(std::sync::atomic::AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Puts the object there (and keeps it for ever).
    pub(crate) fn fill(&self, value: Obj) {
        self.0
            .store(value.into_ptr(), std::sync::atomic::Ordering::Relaxed);
    }

    /// Is it filled?
    pub(crate) fn filled(&self) -> bool {
        !self.0.load(std::sync::atomic::Ordering::Relaxed).is_null()
    }

    /// The object. Only after module initialisation, which fills every place or fails.
    #[inline(always)]
    pub(crate) fn get(&'static self) -> &'static Obj {
        debug_assert!(self.filled());
        // SAFETY: an AtomicPtr has the layout of a pointer, `Obj` of a non-null one; written once, before use.
        unsafe { &*(self as *const Static).cast::<Obj>() }
    }
}

impl std::ops::Deref for Static {
    type Target = Obj;
    #[inline(always)]
    fn deref(&self) -> &Obj {
        debug_assert!(self.filled());
        // SAFETY: as in `get`.
        unsafe { &*(self as *const Static).cast::<Obj>() }
    }
}

/// `type(object) is str`
pub(crate) fn is_exact_str(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyUnicode_CheckExact(object.as_ptr()) != 0 }
}

/// `isinstance(object, str)`
pub(crate) fn is_str(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyUnicode_Check(object.as_ptr()) != 0 }
}

/// `None`, as a place (for calls that want a reference to one).
pub(crate) static NONE: Static = Static::new();

/// `object.__setattr__(self, name, value)`
pub(crate) fn generic_setattr(this: &Obj, name: &Obj, value: &Obj) -> R<()> {
    // SAFETY: all alive.
    check(unsafe { c::PyObject_GenericSetAttr(this.as_ptr(), name.as_ptr(), value.as_ptr()) })
}

/// `True`, as a place.
pub(crate) static TRUE: Static = Static::new();

/// `0`, as a place.
pub(crate) static ZERO: Static = Static::new();

/// `()`, as a place.
static EMPTY_TUPLE: Static = Static::new();

/// Fills the places above.
pub(crate) fn init() -> R<()> {
    NONE.fill(Obj::none());
    TRUE.fill(Obj::bool(true));
    ZERO.fill(Obj::int(0)?);
    EMPTY_TUPLE.fill(Obj::tuple(&[])?);
    Ok(())
}

/// `now + delay` as Python adds them, with its words if it cannot.
#[inline]
pub(crate) fn after(now: f64, delay: &Obj) -> R<f64> {
    match exact_number(delay) {
        Some(seconds) => Ok(now + seconds),
        None => Obj::float(now)?.add(delay)?.to_f64(),
    }
}

/// The value of an exact `int` or `float`.
#[inline]
pub(crate) fn exact_number(object: &Obj) -> Option<f64> {
    // SAFETY: alive; the class is checked before the value is read. An int too large is left to the caller.
    unsafe {
        // the one that is asked for most; small ints are singletons
        if object.is(&ZERO) {
            return Some(0.0);
        }
        if c::PyFloat_CheckExact(object.as_ptr()) != 0 {
            return Some(c::PyFloat_AS_DOUBLE(object.as_ptr()));
        }
        if c::PyLong_CheckExact(object.as_ptr()) != 0 {
            let mut overflow = 0;
            let value = c::PyLong_AsLongLongAndOverflow(object.as_ptr(), &mut overflow);
            return if overflow == 0 { Some(value as f64) } else { None };
        }
        None
    }
}

/// The value of an exact `int` that is not too large.
#[inline]
pub(crate) fn exact_int(object: &Obj) -> Option<i64> {
    // SAFETY: alive; the class is checked before the value is read.
    unsafe {
        if c::PyLong_CheckExact(object.as_ptr()) == 0 {
            return None;
        }
        let mut overflow = 0;
        let value = c::PyLong_AsLongLongAndOverflow(object.as_ptr(), &mut overflow);
        (overflow == 0).then_some(value)
    }
}

/// How many names are remembered.
const NAMES: usize = 512;
/// See [`Obj::interned`].
static INTERNED: [AtomicPtr<c::PyObject>; NAMES] = [const { AtomicPtr::new(std::ptr::null_mut()) }; NAMES];

/// Where it is remembered.
#[inline]
fn place_of(text: &str) -> usize {
    let lies_at = text.as_ptr() as u64 ^ (text.len() as u64) << 32;
    (lies_at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - NAMES.ilog2())) as usize
}

/// The text of an exact `str` that is all ASCII, as long as nobody drops the object.
#[inline]
pub(crate) fn ascii(object: &Obj) -> Option<&str> {
    // SAFETY: alive; the class is checked first. A str that is as long in UTF-8 as in characters is ASCII, and does not
    // change.
    unsafe {
        let text = object.as_ptr();
        if c::PyUnicode_CheckExact(text) == 0 {
            return None;
        }
        let mut size = 0;
        let data = c::PyUnicode_AsUTF8AndSize(text, &mut size);
        if data.is_null() {
            Raised::set().ignore();
            return None;
        }
        if size != c::PyUnicode_GET_LENGTH(text) {
            return None;
        }
        let text = std::slice::from_raw_parts(data.cast(), size as usize);
        Some(std::str::from_utf8_unchecked(text))
    }
}

/// `isinstance(object, int)`
pub(crate) fn is_int(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyLong_Check(object.as_ptr()) != 0 }
}

/// `PyObject_GC_New`: untracked memory for an instance of `class`, its head made.
///
/// # Safety
/// `class` is a type with `Py_TPFLAGS_HAVE_GC`; the caller writes every field before tracking it.
#[inline(always)]
pub(crate) unsafe fn gc_new(class: *mut c::PyObject) -> *mut c::PyObject {
    unsafe extern "C" {
        #[link_name = "_PyObject_GC_New"]
        fn new(class: *mut c::PyTypeObject) -> *mut c::PyObject;
    }
    // SAFETY: the caller's promise.
    unsafe { new(class.cast()) }
}

/// `isinstance(object, float)`
pub(crate) fn is_float(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyFloat_Check(object.as_ptr()) != 0 }
}
