//! `window`: memory of ours that C code reads from and writes to as a Python buffer.
//!
//! `bio.write(window)` and `sslobj.read(n, window)` take a view of it, so nothing has to be copied into an object
//! first. What they see is the part that was [opened](Own::<Window>::open); the memory lives and stays in
//! place as long as the object does, so a view that somebody keeps is at worst a view of later bytes.

use super::class::{Class, ClassCell, Own, Slots, Visitor, guard};
use super::errors::R;
use super::object::Obj;
use pyo3::ffi as c;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_int, c_void};
use std::ops::Range;

/// The object.
#[derive(Default)]
pub(crate) struct Window {
    memory: UnsafeCell<Box<[u8]>>,
    start: Cell<usize>,
    end: Cell<usize>,
}

impl Window {
    /// So many bytes, all zero.
    pub(crate) fn new(size: usize) -> R<Own<Window>> {
        let window = Window {
            memory: UnsafeCell::new(vec![0; size].into_boxed_slice()),
            ..Window::default()
        };
        CLASS.alloc(window)
    }

    /// How large it is.
    pub(crate) fn size(&self) -> usize {
        // SAFETY: the box itself is never replaced.
        unsafe { (&*self.memory.get()).len() }
    }

    /// Where a part of it lies, and how large that is.
    #[inline]
    pub(super) fn address(&self, part: Range<usize>) -> (*mut u8, usize) {
        let end = part.end.min(self.size());
        let start = part.start.min(end);
        // SAFETY: within the memory; the box itself is never replaced.
        unsafe { ((*self.memory.get()).as_mut_ptr().add(start), end - start) }
    }

    /// Reads or writes it. `f` must not run Python code.
    #[inline]
    pub(crate) fn with_mut<T>(&self, f: impl FnOnce(&mut [u8]) -> T) -> T {
        // SAFETY: `!Sync`, the GIL is held and no Python code runs: nobody else looks.
        f(unsafe { &mut *self.memory.get() })
    }
}

impl Own<Window> {
    /// Python sees this part from now on.
    #[inline]
    pub(crate) fn open(&self, part: Range<usize>) -> &Obj {
        let end = part.end.min(self.size());
        self.start.set(part.start.min(end));
        self.end.set(end);
        self.obj()
    }
}

unsafe extern "C" fn get_buffer(op: *mut c::PyObject, view: *mut c::Py_buffer, flags: c_int) -> c_int {
    guard(-1, || {
        // SAFETY: the interpreter calls this with one of ours and a place for a view, which gets a reference to the
        // object; `start..end` lies in the memory.
        unsafe {
            let this = Own::<Window>::view(&op);
            let memory: *mut u8 = (*this.memory.get()).as_mut_ptr();
            let (start, end) = (this.start.get(), this.end.get());
            c::PyBuffer_FillInfo(
                view,
                op,
                memory.add(start).cast(),
                (end - start) as isize,
                0,
                flags,
            )
        }
    })
}

static CLASS: ClassCell<Window> = ClassCell::new();

impl Class for Window {
    const NAME: &'static CStr = c"aioxide._core.window";
    const SUBCLASSABLE: bool = false;

    fn class() -> &'static ClassCell<Window> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Window>) -> R<()> {
        slots.no_new();
        slots.slot(c::Py_bf_getbuffer, get_buffer as *mut c_void);
        Ok(())
    }
    fn visit(&self, _: &mut Visitor) {}
    fn clear(&self) {}
}
