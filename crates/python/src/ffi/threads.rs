//! The GIL and threads: who am I, and letting others run while the loop sleeps.

use super::errors::R;
use super::object::{Obj, Static, check};
use aioxide_core::forks;
use pyo3::ffi as c;

/// `threading.get_ident()`
#[inline]
pub(crate) fn ident() -> u64 {
    unsafe extern "C" {
        fn PyThread_get_thread_ident() -> std::ffi::c_ulong;
    }
    // SAFETY: no preconditions.
    unsafe { PyThread_get_thread_ident() as u64 }
}

/// The address of this thread's state, for [`super::stack`].
pub(crate) fn state() -> usize {
    // SAFETY: the GIL is held.
    unsafe { c::PyThreadState_Get() }.addr()
}

/// Runs `f` with the GIL released. `f` must not touch Python (it can't: `Obj` is not `Send`).
pub(crate) fn without_gil<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    struct Restore(*mut c::PyThreadState);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: gives back the thread state that was saved on this thread.
            unsafe { c::PyEval_RestoreThread(self.0) }
        }
    }
    // SAFETY: the GIL is held now, and again when `_restore` is dropped, also on a panic.
    let _restore = Restore(unsafe { c::PyEval_SaveThread() });
    f()
}

/// Runs the Python-level handlers of signals that have come in (main thread only).
#[inline]
pub(crate) fn check_signals() -> R<()> {
    // SAFETY: the GIL is held.
    check(unsafe { c::PyErr_CheckSignals() })
}

static BREATH: Static = Static::new();

/// Makes the function behind [`breathe`]. Called once.
pub(crate) fn init() -> R<()> {
    BREATH.fill(Obj::import("builtins")?.call_method_str("eval", &[&Obj::str("lambda: None")?])?);
    Ok(())
}

/// Does what the interpreter does from time to time between two bytecodes, by running two of them: hands
/// the GIL to a thread that has waited for it for a switch interval, runs signal handlers and pending calls.
///
/// Releasing the GIL instead would hand it over unasked, and win it back only after the other's interval.
pub(crate) fn breathe() -> R<()> {
    BREATH.call0().map(drop)
}

/// Makes this thread stand still, instead of being unwound, when it asks for the GIL of an interpreter that ends. To be
/// called before the thread runs a loop, or waits in a frame of ours.
///
/// Up to 3.13 such a thread (a daemon) is ended by `pthread_exit()`, wherever it is: glibc then unwinds all of its frames.
/// Frames of C let that happen. Frames of Rust must not: their destructors would touch Python without the GIL, and
/// where the compiler was promised that nothing unwinds, the process aborts. Since 3.14 CPython lets the thread hang,
/// for the same reason; here a cleanup handler does so for the older ones. The handlers of glibc run when the frame that
/// holds their record is left; ours is in no frame of the stack, so it runs before the first frame is.
pub(crate) fn stand_still_at_exit() {
    #[cfg(all(not(Py_3_14), target_env = "gnu"))]
    unwinding::install();
}

/// What lies in a frame of Rust that C has called, while it calls Python: a last net under [`stand_still_at_exit`], for threads
/// that run no loop (workers that call back, a thread that waits for others). A thread that is unwound otherwise than
/// by a panic stands still here.
pub(crate) struct Unwound;

impl Drop for Unwound {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            stand_still();
        }
    }
}

/// For good.
fn stand_still() -> ! {
    loop {
        // SAFETY: no preconditions.
        unsafe { libc::pause() };
    }
}

#[cfg(all(not(Py_3_14), target_env = "gnu"))]
mod unwinding {
    use std::ffi::{c_int, c_void};
    use std::ptr::null_mut;

    /// `struct _pthread_cleanup_buffer`
    #[repr(C)]
    struct Record {
        routine: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
        cancel_type: c_int,
        previous: *mut Record,
    }

    unsafe extern "C" {
        fn _pthread_cleanup_push(
            record: *mut Record,
            routine: unsafe extern "C" fn(*mut c_void),
            argument: *mut c_void,
        );
        fn _pthread_cleanup_pop(record: *mut Record, execute: c_int);
        #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
        fn Py_IsFinalizing() -> c_int;
    }

    /// A record that the thread knows.
    struct Installed(*mut Record);

    thread_local! {
        static INSTALLED: Installed = Installed::new();
    }

    pub(super) fn install() {
        // (in a thread that has let go of its storage already nothing can be done)
        let _ = INSTALLED.try_with(|_| {});
    }

    impl Installed {
        fn new() -> Self {
            // on the heap: what is in the thread's own storage may count as a part of its stack
            let record = Box::into_raw(Box::new(Record {
                routine: at_end,
                argument: null_mut(),
                cancel_type: 0,
                previous: null_mut(),
            }));
            // SAFETY: the record lives until it is taken back.
            unsafe { _pthread_cleanup_push(record, at_end, null_mut()) };
            Installed(record)
        }
    }

    impl Drop for Installed {
        fn drop(&mut self) {
            // SAFETY: the thread ends: whatever was pushed later has been left. Nobody else has the record.
            unsafe {
                _pthread_cleanup_pop(self.0, 0);
                drop(Box::from_raw(self.0));
            }
        }
    }

    /// Runs in a thread that is about to be unwound, by `pthread_exit()` or `pthread_cancel()`.
    unsafe extern "C" fn at_end(_: *mut c_void) {
        // SAFETY: reads one word, with or without the GIL. Not everybody's `pthread_exit()` is the interpreter's.
        if unsafe { Py_IsFinalizing() } != 0 {
            super::stand_still();
        }
    }
}

/// How often this process has been forked off: a new number in every child.
pub(crate) fn fork_epoch() -> u32 {
    forks::epoch()
}

/// Starts counting forks. Called once.
pub(crate) fn watch_forks() {
    unsafe extern "C" fn child() {
        forks::note();
        crate::diag::attach::after_fork();
    }
    // SAFETY: registers a function that does what may be done after a fork: it adds to an atomic, and closes descriptors.
    unsafe {
        libc::pthread_atfork(None, None, Some(child));
    }
}

/// Runs `f`, which may come back here: RecursionError when it is too deep.
#[inline]
pub(crate) fn recursive<T>(f: impl FnOnce() -> R<T>) -> R<T> {
    // SAFETY: the GIL is held; entered and left in pairs, also when `f` fails.
    unsafe {
        // (any value but zero is a failure here)
        if c::Py_EnterRecursiveCall(c" while cancelling".as_ptr()) != 0 {
            return Err(super::Raised::set());
        }
        let result = f();
        c::Py_LeaveRecursiveCall();
        result
    }
}
