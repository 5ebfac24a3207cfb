//! What another process sees of our tasks: `python -m asyncio ps PID` and `pstree PID` (3.14+).
//!
//! Such a tool stops the program nowhere; it reads its memory. Where, CPython says in a section of its
//! binary, `.AsyncioDebug`: the offsets of a task's name, coroutine, waiters and list node, and where in a
//! thread's state the running loop, the current task and the list of its tasks are. `tasks/task.rs` lays a
//! task out so that these fields lie where asyncio's own have them. Whether this Python agrees is looked up
//! and tried once, at import ([`find`]). If it does not, tasks stay in a list of ours and the tools don't
//! see them; `_core.external_introspection` says why.
//!
//! What is known of the thread's state serves ourselves too: [`enter`], [`leave`] and [`running`] do in a
//! store or a load what asyncio's functions need a call for.
//!
//! | offset in a task | field | what may lie there |
//! |---|---|---|
//! | 96 | awaited_by | null, a task, or (flag at 109) a set of tasks |
//! | 108, 109 | is_task, awaited_by_is_set | one byte each |
//! | 128 | coro | null, or a coroutine or generator of the interpreter, or a step of one: its frame is read |
//! | 136 | name | a str, or an int that stands for `Task-N`; never null |
//! | 152 | node | next and previous |
//!
//! Must never: put anything else there; a reader follows these pointers without asking.

use super::class::body_offset;
use super::object::Obj;
use crate::imports;
use crate::tasks::task::layout;
use pyo3::ffi as c;
use std::cell::Cell;

/// Size, name, awaited_by, is_task, awaited_by_is_set, coro, node.
const OURS: [usize; 7] = [
    168,
    body_offset() + layout::NAME,
    body_offset() + layout::AWAITED_BY,
    body_offset() + layout::IS_TASK,
    body_offset() + layout::AWAITED_BY_IS_SET,
    body_offset() + layout::CORO,
    body_offset() + layout::LINKS,
];
const _: () = assert!(body_offset() + layout::SIZE >= OURS[0]);
#[cfg(all(target_pointer_width = "64", not(Py_GIL_DISABLED)))]
const _: () = assert!(
    OURS[1] == 136 && OURS[2] == 96 && OURS[3] == 108 && OURS[4] == 109 && OURS[5] == 128 && OURS[6] == 152
);

/// A pointer for readers in other processes. We only ever write it; what it points to is kept elsewhere.
#[repr(transparent)]
pub(crate) struct Shown(Cell<*mut c::PyObject>);

impl Default for Shown {
    fn default() -> Shown {
        Shown(Cell::new(std::ptr::null_mut()))
    }
}

impl Shown {
    /// Shows an object.
    #[inline(always)]
    pub(crate) fn set(&self, object: &Obj) {
        self.0.set(object.as_ptr());
    }
    /// Shows nothing.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        self.0.set(std::ptr::null_mut());
    }
    /// Does it show nothing?
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get().is_null()
    }
}

/// The byte that says "this is a task".
#[repr(transparent)]
pub(crate) struct IsTask(#[allow(dead_code)] u8);

impl Default for IsTask {
    fn default() -> IsTask {
        IsTask(1)
    }
}

/// Is it something whose frame a reader may look for: exactly a coroutine or a generator, or what
/// `anext()` and `aclose()` give, in which readers find the asynchronous generator?
#[inline(always)]
pub(crate) fn has_frame(coro: &Obj) -> bool {
    // SAFETY: alive.
    let exactly =
        unsafe { c::PyCoro_CheckExact(coro.as_ptr()) != 0 || c::PyGen_CheckExact(coro.as_ptr()) != 0 };
    exactly || steps_async_generator(coro)
}

/// Is it an `async_generator_asend` or `async_generator_athrow`?
#[cold]
fn steps_async_generator(coro: &Obj) -> bool {
    imports::ASYNC_GENERATOR_STEPS
        .iter()
        .any(|class| coro.is_exactly(class.get()))
}

#[cfg(not(all(
    Py_3_14,
    not(Py_GIL_DISABLED),
    target_os = "linux",
    target_pointer_width = "64"
)))]
mod place {
    use crate::ffi::{Obj, R};

    /// Is there such a list at all?
    pub(crate) const EXISTS: bool = false;

    /// The head of this thread's list of tasks.
    #[inline(always)]
    pub(crate) fn tasks_of_thread() -> Option<*const u8> {
        None
    }

    /// Are our tasks in the interpreter's lists?
    #[inline(always)]
    pub(crate) fn linked() -> bool {
        false
    }

    /// The address of the list of the thread whose state is at this one.
    pub(crate) fn tasks_of(_: usize) -> Option<usize> {
        None
    }

    /// The running loop, if its place is known.
    #[inline(always)]
    pub(crate) fn running() -> Option<Option<Obj>> {
        None
    }

    /// The current task of `loop`, if it is known.
    #[inline(always)]
    #[cfg(Py_3_14)]
    pub(crate) fn current(_: &Obj) -> Option<Option<Obj>> {
        None
    }

    /// The address of the pointer to this thread's current task: unknown.
    #[cfg(Py_3_14)]
    pub(crate) fn place_of_current() -> usize {
        0
    }

    /// This thread's current task: unknown.
    #[inline(always)]
    #[cfg(Py_3_14)]
    pub(crate) fn current_task<T>(_: impl FnOnce(&Obj) -> T) -> Option<T> {
        None
    }

    /// `_enter_task(loop, task)`: not by us.
    #[inline(always)]
    #[cfg(Py_3_14)]
    pub(crate) fn enter(_: &Obj, _: &Obj) -> bool {
        false
    }

    /// `_leave_task(loop, task)`: not by us.
    #[inline(always)]
    #[cfg(Py_3_14)]
    pub(crate) fn leave(_: &Obj, _: &Obj) -> bool {
        false
    }

    /// Looks up where the lists are.
    #[allow(clippy::unnecessary_wraps)]
    pub(crate) fn find(_: &Obj) -> R<&'static str> {
        Ok("no: this Python (or this build of it) has no list of tasks that another process could read")
    }
}

#[cfg(all(
    Py_3_14,
    not(Py_GIL_DISABLED),
    target_os = "linux",
    target_pointer_width = "64"
))]
mod place {
    use super::OURS;
    use crate::ffi::{Obj, R};
    use crate::imports;
    use pyo3::ffi as c;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Is there such a list at all?
    pub(crate) const EXISTS: bool = true;

    /// Where in a thread state its list of tasks begins; 0: unknown, and so are the others.
    static TASKS: AtomicUsize = AtomicUsize::new(0);
    static RUNNING_LOOP: AtomicUsize = AtomicUsize::new(0);
    static RUNNING_TASK: AtomicUsize = AtomicUsize::new(0);

    /// The words of the section, in CPython's order (`Py_AsyncioModuleDebugOffsets`).
    const WORDS: usize = 13;
    const TASK: usize = 0;
    const THREAD: usize = 9;

    /// A field of this thread's state.
    #[inline(always)]
    fn field(offset: usize) -> *mut u8 {
        // SAFETY: the state of the running thread; `find` has seen to it that the offset is inside of it.
        unsafe { c::PyThreadState_Get().cast::<u8>().byte_add(offset) }
    }

    /// The head of this thread's list of tasks.
    #[inline(always)]
    pub(crate) fn tasks_of_thread() -> Option<*const u8> {
        match TASKS.load(Ordering::Relaxed) {
            0 => None,
            offset => Some(field(offset).cast_const()),
        }
    }

    /// Are our tasks in the interpreter's lists?
    #[inline(always)]
    pub(crate) fn linked() -> bool {
        TASKS.load(Ordering::Relaxed) != 0
    }

    /// The address of the list of the thread whose state is at this one.
    pub(crate) fn tasks_of(state: usize) -> Option<usize> {
        match TASKS.load(Ordering::Relaxed) {
            0 => None,
            offset => Some(state + offset),
        }
    }

    /// A field that owns a reference, or is null.
    #[inline(always)]
    fn place(offset: &AtomicUsize) -> *mut *mut c::PyObject {
        field(offset.load(Ordering::Relaxed)).cast()
    }

    /// The running loop, if its place is known.
    #[inline(always)]
    pub(crate) fn running() -> Option<Option<Obj>> {
        if !linked() {
            return None;
        }
        // SAFETY: null or a live reference, turned into one of ours at once.
        Some(unsafe { owned(*place(&RUNNING_LOOP)) })
    }

    /// The current task of `loop`, if that is the running loop of this thread.
    #[inline(always)]
    pub(crate) fn current(loop_: &Obj) -> Option<Option<Obj>> {
        // SAFETY: both places hold null or a live reference, turned into one of ours at once.
        unsafe {
            if !linked() || *place(&RUNNING_LOOP) != loop_.as_ptr() {
                return None;
            }
            Some(owned(*place(&RUNNING_TASK)))
        }
    }

    /// `f` of this thread's current task, if there is one and its place is known. `f` runs no Python code.
    #[inline(always)]
    pub(crate) fn current_task<T>(f: impl FnOnce(&Obj) -> T) -> Option<T> {
        if !linked() {
            return None;
        }
        // SAFETY: null or a live reference, looked at while nobody can take it away.
        unsafe {
            let task = &*place(&RUNNING_TASK);
            if task.is_null() {
                None
            } else {
                Some(f(Obj::view(task)))
            }
        }
    }

    /// A new reference, or `None` for null.
    ///
    /// # Safety
    /// Null or a live reference.
    #[inline(always)]
    unsafe fn owned(reference: *mut c::PyObject) -> Option<Obj> {
        if reference.is_null() {
            return None;
        }
        // SAFETY: by contract.
        Some(unsafe { Obj::borrowed_unchecked(reference) })
    }

    /// The address of the pointer to this thread's current task, if it is known; else 0.
    pub(crate) fn place_of_current() -> usize {
        if linked() { place(&RUNNING_TASK).addr() } else { 0 }
    }

    /// `_enter_task(loop, task)`. `false`: asyncio's own is to do it, and perhaps to complain.
    #[inline(always)]
    pub(crate) fn enter(loop_: &Obj, task: &Obj) -> bool {
        if !linked() {
            return false;
        }
        // SAFETY: the places hold null or a live reference; an empty one takes a new reference.
        unsafe {
            let current = place(&RUNNING_TASK);
            if !(*current).is_null() || *place(&RUNNING_LOOP) != loop_.as_ptr() {
                return false;
            }
            *current = task.clone().into_ptr();
        }
        true
    }

    /// `_leave_task(loop, task)`. `false`: as for [`enter`].
    #[inline(always)]
    pub(crate) fn leave(loop_: &Obj, task: &Obj) -> bool {
        if !linked() {
            return false;
        }
        // SAFETY: the place is emptied before its reference is dropped, and the caller has another.
        unsafe {
            let current = place(&RUNNING_TASK);
            if *current != task.as_ptr() || *place(&RUNNING_LOOP) != loop_.as_ptr() {
                return false;
            }
            drop(Obj::owned_unchecked(std::mem::replace(
                &mut *current,
                std::ptr::null_mut(),
            )));
        }
        true
    }

    /// Looks up where the lists are. `accelerator`: the module `_asyncio`.
    pub(crate) fn find(accelerator: &Obj) -> R<&'static str> {
        let module = accelerator.getattr_opt(&Obj::interned("__file__")?)?;
        let module = module
            .filter(|file| !file.is_none())
            .map(|file| file.to_string())
            .transpose()?;
        // where it is built in, it is the interpreter's binary or its library
        let files = [
            module.map(PathBuf::from),
            Some("/proc/self/exe".into()),
            library_of_interpreter(),
        ];
        let Some(words) = files.into_iter().flatten().find_map(|file| section(&file)) else {
            return Ok("no: this Python's binary does not say where tasks lie (no section .AsyncioDebug)");
        };
        let thread = [0, 1, 2, 3].map(|at| words[THREAD + at] as usize);
        let [size, running_loop, running_task, tasks] = thread;
        let outside = [running_loop + 8, running_task + 8, tasks + 16]
            .iter()
            .any(|end| *end > size);
        if outside || (0..OURS.len()).any(|at| words[TASK + at] as usize != OURS[at]) {
            return Ok("no: this Python's tasks are laid out differently");
        }
        RUNNING_LOOP.store(running_loop, Ordering::Relaxed);
        RUNNING_TASK.store(running_task, Ordering::Relaxed);
        if !is_list(tasks) || !are_current()? {
            return Ok("no: this thread's tasks are not where this Python's binary says");
        }
        TASKS.store(tasks, Ordering::Relaxed);
        Ok("yes")
    }

    /// Is the field at `offset` the head of a list: do its neighbours point back to it?
    fn is_list(offset: usize) -> bool {
        let head = field(offset).cast::<[*const *const u8; 2]>();
        // SAFETY: inside the thread's state, and read only.
        unsafe {
            let [next, prev] = *head;
            !next.is_null() && !prev.is_null() && *next.add(1) == head.cast() && *prev == head.cast()
        }
    }

    /// Do asyncio's functions write where we are going to read and write, and own what they leave there?
    /// Nobody else runs meanwhile.
    fn are_current() -> R<bool> {
        let before = imports::GET_RUNNING_LOOP.call0()?;
        let (probe, task) = (Obj::dict()?, Obj::dict()?);
        imports::SET_RUNNING_LOOP.call(&[&probe])?;
        let references = task.refcount();
        let previous = imports::SWAP_CURRENT_TASK.call(&[&probe, &task])?;
        // SAFETY: inside the thread's state, and read only.
        let found = unsafe { [*place(&RUNNING_LOOP), *place(&RUNNING_TASK)] };
        let right = found == [probe.as_ptr(), task.as_ptr()] && task.refcount() == references + 1;
        imports::SWAP_CURRENT_TASK.call(&[&probe, &previous])?;
        imports::SET_RUNNING_LOOP.call(&[&before])?;
        Ok(right)
    }

    /// The file that the interpreter's functions are in.
    fn library_of_interpreter() -> Option<PathBuf> {
        // SAFETY: `dladdr` fills the struct, whose name lives as long as the library.
        unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(c::PyThreadState_Get as *const libc::c_void, &mut info) == 0
                || info.dli_fname.is_null()
            {
                return None;
            }
            let name = std::ffi::CStr::from_ptr(info.dli_fname).to_str().ok()?;
            Some(PathBuf::from(name))
        }
    }

    /// The words of the section `.AsyncioDebug` of an ELF file. They are constants, so the file has them.
    fn section(path: &Path) -> Option<[u64; WORDS]> {
        let file = File::open(path).ok()?;
        let bytes = |at: u64, size: usize| -> Option<Vec<u8>> {
            let mut buffer = vec![0; size];
            file.read_exact_at(&mut buffer, at).ok()?;
            Some(buffer)
        };
        let word = |bytes: &[u8], at: usize, size: usize| -> Option<u64> {
            let mut word = [0; 8];
            word[..size].copy_from_slice(bytes.get(at..at + size)?);
            Some(u64::from_ne_bytes(word))
        };
        let header = bytes(0, 64)?;
        if !header.starts_with(b"\x7fELF") {
            return None;
        }
        let (table, entry, count, names) = (
            word(&header, 40, 8)?,
            word(&header, 58, 2)?,
            word(&header, 60, 2)?,
            word(&header, 62, 2)?,
        );
        let entry_of = |index: u64| bytes(table + index * entry, 64);
        let strings = entry_of(names)?;
        let strings = bytes(
            word(&strings, 24, 8)?,
            word(&strings, 32, 8)?.min(1 << 20) as usize,
        )?;
        for index in 0..count {
            let header = entry_of(index)?;
            let (name, at, size) = (
                word(&header, 0, 4)? as usize,
                word(&header, 24, 8)?,
                word(&header, 32, 8)?,
            );
            if strings.get(name..)?.starts_with(b".AsyncioDebug\0") && size as usize == WORDS * 8 {
                let content = bytes(at, WORDS * 8)?;
                let mut words = [0; WORDS];
                for (at, place) in words.iter_mut().enumerate() {
                    *place = word(&content, at * 8, 8)?;
                }
                return Some(words);
            }
        }
        None
    }
}

pub(crate) use place::{EXISTS, find, linked, running, tasks_of, tasks_of_thread};
#[cfg(Py_3_14)]
pub(crate) use place::{current, current_task, enter, leave, place_of_current};
