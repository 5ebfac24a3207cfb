//! Bytes and buffers: what programs hand to `write()`, and where their `get_buffer()` lets us read to.

use super::errors::R;
use super::object::{Obj, check};
use pyo3::ffi as c;
use std::mem::MaybeUninit;

/// `bytes(data)`
#[inline]
pub(crate) fn new(data: &[u8]) -> R<Obj> {
    // SAFETY: copies that many bytes; a slice is never longer than an isize.
    unsafe {
        Obj::owned(c::PyBytes_FromStringAndSize(
            data.as_ptr().cast(),
            data.len() as isize,
        ))
    }
}

/// `bytes` that are filled where they are: `fill` gets room for so many, and says how many it has put there.
/// It must not run Python code.
#[inline]
pub(crate) fn filled<E>(
    room: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
) -> R<Result<Obj, E>> {
    unsafe extern "C" {
        fn _PyBytes_Resize(bytes: *mut *mut c::PyObject, size: isize) -> std::ffi::c_int;
    }
    // SAFETY: a new object that nobody has seen, with room for so many bytes and uninitialised; it is cut down
    // to those that are filled. A failed resize has dropped it, and raised.
    unsafe {
        let object = Obj::owned(c::PyBytes_FromStringAndSize(std::ptr::null(), room as isize))?;
        let place = c::PyBytes_AsString(object.as_ptr()).cast::<MaybeUninit<u8>>();
        let count = match fill(std::slice::from_raw_parts_mut(place, room)) {
            Ok(count) => count.min(room),
            Err(error) => return Ok(Err(error)),
        };
        let mut ptr = object.into_ptr();
        if count < room {
            check(_PyBytes_Resize(&raw mut ptr, count as isize))?;
        }
        Ok(Ok(Obj::owned_unchecked(ptr)))
    }
}

/// Is it `bytes`, `bytearray` or `memoryview` (or derived from them)?
#[inline]
pub(crate) fn is_data(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe {
        let object = object.as_ptr();
        c::PyBytes_Check(object) != 0
            || c::PyByteArray_Check(object) != 0
            || c::PyMemoryView_Check(object) != 0
    }
}

/// A `bytes` object, which nobody can change.
#[derive(Clone)]
pub(crate) struct Bytes(Obj);

impl Bytes {
    /// `object`, if it is one.
    #[inline]
    pub(crate) fn of(object: &Obj) -> Option<Bytes> {
        // SAFETY: alive.
        (unsafe { c::PyBytes_Check(object.as_ptr()) } != 0).then(|| Bytes(object.clone()))
    }
    /// A copy of `data`.
    pub(crate) fn copy(data: &[u8]) -> R<Bytes> {
        new(data).map(Bytes)
    }
    /// `object`, if it is exactly one: then dropping it runs no code.
    #[inline]
    pub(crate) fn of_exact(object: Obj) -> Result<Bytes, Obj> {
        // SAFETY: alive.
        if unsafe { c::PyBytes_CheckExact(object.as_ptr()) } != 0 {
            Ok(Bytes(object))
        } else {
            Err(object)
        }
    }
    /// The object.
    #[inline]
    pub(crate) fn obj(&self) -> &Obj {
        &self.0
    }
    /// The object.
    #[inline]
    pub(crate) fn into_obj(self) -> Obj {
        self.0
    }
    /// What is in it.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: of the class (see `of`), immutable, and alive as long as `self`.
        unsafe {
            let object = self.0.as_ptr();
            std::slice::from_raw_parts(c::PyBytes_AS_STRING(object).cast(), c::Py_SIZE(object) as usize)
        }
    }
}

/// Reads what is in `object`. `None`: it is not something that can be read in one piece. `f` must not run Python code.
#[inline]
pub(crate) fn with<T>(object: &Obj, f: impl FnOnce(&[u8]) -> T) -> Option<T> {
    if let Some(bytes) = Bytes::of(object) {
        return Some(f(bytes.as_slice()));
    }
    Buffer::readable_or_none(object).map(|buffer| buffer.with(f))
}

impl AsRef<[u8]> for Bytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// `bytearray(data)`
pub(crate) fn array(data: &[u8]) -> R<Obj> {
    // SAFETY: copies that many bytes.
    unsafe {
        Obj::owned(c::PyByteArray_FromStringAndSize(
            data.as_ptr().cast(),
            data.len() as isize,
        ))
    }
}

/// `type(object) is bytearray`
pub(crate) fn is_exact_array(object: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyByteArray_CheckExact(object.as_ptr()) != 0 }
}

/// `del object[:count]`
pub(crate) fn delete_front(object: &Obj, count: usize) -> R<()> {
    // SAFETY: alive.
    check(unsafe { c::PySequence_DelSlice(object.as_ptr(), 0, count as isize) })
}

/// Writes to what `object` lets others write to. BufferError or TypeError if that is nothing. `f` must not run Python
/// code.
#[inline]
pub(crate) fn with_writable<T>(object: &Obj, f: impl FnOnce(&mut [u8]) -> T) -> R<T> {
    View::of(object, c::PyBUF_WRITABLE, |view| {
        if view.len == 0 || view.readonly != 0 {
            return f(&mut []);
        }
        // SAFETY: the exporter keeps the memory in place while there is a view, allows writing, and with the GIL held
        // and no Python code running nobody else writes to it.
        f(unsafe { std::slice::from_raw_parts_mut(view.buf.cast(), view.len as usize) })
    })
}

/// Reads what is in `object`. BufferError if it is not one piece. `f` must not run Python code.
#[inline]
pub(crate) fn with_readable<T>(object: &Obj, f: impl FnOnce(&[u8]) -> T) -> R<T> {
    View::of(object, c::PyBUF_SIMPLE, |view| {
        if view.len == 0 {
            return f(&[]);
        }
        // SAFETY: as above.
        f(unsafe { std::slice::from_raw_parts(view.buf.cast(), view.len as usize) })
    })
}

/// A view that lives for one call, where it is: it may refer to itself, and so is never moved.
struct View(MaybeUninit<c::Py_buffer>);

impl View {
    #[inline]
    fn of<T>(object: &Obj, flags: i32, f: impl FnOnce(&c::Py_buffer) -> T) -> R<T> {
        let mut view = View(MaybeUninit::uninit());
        // SAFETY: the place is valid, and filled if the call succeeds.
        check(unsafe { c::PyObject_GetBuffer(object.as_ptr(), view.0.as_mut_ptr(), flags) })?;
        let filled = Filled(&mut view);
        // SAFETY: filled.
        Ok(f(unsafe { filled.0.0.assume_init_ref() }))
    }
}

/// Gives it back, however the call ends.
struct Filled<'a>(&'a mut View);

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        // SAFETY: filled by `PyObject_GetBuffer`, released once.
        unsafe { c::PyBuffer_Release(self.0.0.as_mut_ptr()) }
    }
}

/// A view of somebody's buffer, which can change its contents but not its size while we have it.
pub(crate) struct Buffer(Box<c::Py_buffer>);

impl Buffer {
    fn get(object: &Obj, flags: i32) -> R<Buffer> {
        let mut view = Box::new(MaybeUninit::<c::Py_buffer>::zeroed());
        // SAFETY: the place is valid, and filled if the call succeeds.
        unsafe {
            check(c::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags))?;
            Ok(Buffer(view.assume_init()))
        }
    }
    /// To read from it. BufferError if it is not one piece.
    pub(crate) fn readable(object: &Obj) -> R<Buffer> {
        Buffer::get(object, c::PyBUF_SIMPLE)
    }
    /// To write to it. BufferError or TypeError if that is not allowed.
    pub(crate) fn writable(object: &Obj) -> R<Buffer> {
        Buffer::get(object, c::PyBUF_WRITABLE)
    }
    /// As [`Buffer::readable`], for whoever knows another way.
    pub(crate) fn readable_or_none(object: &Obj) -> Option<Buffer> {
        Buffer::readable(object).map_err(super::Raised::ignore).ok()
    }
    /// As [`Buffer::writable`], for whoever knows another way.
    pub(crate) fn writable_or_none(object: &Obj) -> Option<Buffer> {
        Buffer::writable(object).map_err(super::Raised::ignore).ok()
    }
    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len as usize
    }
    /// Where it lies, and how large it is.
    #[inline]
    pub(super) fn begin(&self) -> (*const u8, usize) {
        (self.0.buf.cast(), self.len())
    }
    /// The same, to write to it. 0: nobody may.
    #[inline]
    pub(super) fn begin_mut(&mut self) -> (*mut u8, usize) {
        let size = if self.0.readonly == 0 { self.len() } else { 0 };
        (self.0.buf.cast(), size)
    }
    /// Reads it. `f` must not run Python code.
    #[inline]
    pub(crate) fn with<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        if self.len() == 0 {
            return f(&[]);
        }
        // SAFETY: the exporter keeps the memory in place while we have the view, and with the GIL held and
        // no Python code running nobody writes to it.
        f(unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.len()) })
    }
    /// Writes to it. `f` must not run Python code.
    #[inline]
    pub(crate) fn with_mut<T>(&mut self, f: impl FnOnce(&mut [u8]) -> T) -> T {
        if self.len() == 0 || self.0.readonly != 0 {
            return f(&mut []);
        }
        // SAFETY: as in `with`, and the exporter allows writing.
        f(unsafe { std::slice::from_raw_parts_mut(self.0.buf.cast(), self.len()) })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: filled by `PyObject_GetBuffer`, released once.
        unsafe { c::PyBuffer_Release(&raw mut *self.0) }
    }
}
