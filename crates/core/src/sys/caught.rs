//! Signals that a thread of ours answers, whatever the program's own threads are doing.
//!
//! Owns an eventfd that the C handler writes to, and nothing of Python: a handler of Python's runs when the main thread
//! comes round to it, which is what it does not do when this is wanted.
//! Must never do more in the handler than that; and in a forked child, whose thread is not there, nothing at all.
#![allow(unsafe_code, reason = "rustix installs no signal handlers")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::thread;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, retry_on_intr};

use super::forks::epoch;
use super::threads::names;

/// What the handler writes to, and in which process: its [`epoch`].
static PLACE: AtomicI32 = AtomicI32::new(-1);
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Where caught signals are waited for. One for a process; it is never dropped.
#[derive(Debug)]
pub struct Caught(OwnedFd);

/// What a signal did before.
#[derive(Clone, Copy)]
pub struct Before(libc::sigaction);

impl std::fmt::Debug for Before {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Before")
            .field(&self.0.sa_sigaction)
            .finish()
    }
}

extern "C" fn handler(_: libc::c_int) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: errno, an atomic and write may be used in a handler; the descriptor is open as long as the process is the one
    // that made it, and the number of another is not written to.
    unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        if epoch() == PROCESS.load(Ordering::Relaxed) {
            libc::write(PLACE.load(Ordering::Relaxed), one.as_ptr().cast(), one.len());
        }
        *errno = kept;
    }
}

impl Caught {
    /// The place of this process, to be kept for good: see [`Caught`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
        PLACE.store(fd.as_raw_fd(), Ordering::Relaxed);
        PROCESS.store(epoch(), Ordering::Relaxed);
        Ok(Self(fd))
    }

    /// Catches a signal, in place of what was done with it before. System calls that it interrupts go on, if they can.
    ///
    /// # Errors
    /// The kernel's: EINVAL for a signal that cannot be caught.
    pub fn catch(&self, signal: i32) -> io::Result<Before> {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: both are places of ours, and all zeros is a valid `sigaction`; the handler is what the flags say.
        unsafe {
            let action = action.assume_init_mut();
            action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            if libc::sigaction(signal, action, before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Before(before.assume_init()))
        }
    }

    /// Starts the thread that answers, for as long as the process lives. Signals that come together are answered once.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn answer(self: &Arc<Self>, answer: impl Fn() + Send + 'static) -> io::Result<()> {
        let caught = Arc::clone(self);
        let serve = move || {
            super::names::block_signals();
            while caught.wait().is_ok() {
                answer();
            }
        };
        thread::Builder::new()
            .name(names::SIGNAL.into())
            .spawn(serve)
            .map(drop)
    }

    /// Waits for the next signals. They are not counted: several may be one.
    fn wait(&self) -> io::Result<()> {
        let mut count = [0; 8];
        retry_on_intr(|| read(&self.0, &mut count))?;
        Ok(())
    }
}

/// Does with a signal what was done before, unless somebody else has changed that meanwhile.
///
/// # Errors
/// The kernel's.
pub fn restore(signal: i32, before: &Before) -> io::Result<()> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a place of ours, and an action that the kernel has given.
    unsafe {
        if libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let ours = now.assume_init().sa_sigaction == handler as extern "C" fn(libc::c_int) as usize;
        if ours && libc::sigaction(signal, &raw const before.0, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_the_wait_and_what_was_before_comes_back() {
        let caught = Caught::new().unwrap();
        let before = caught.catch(libc::SIGWINCH).unwrap();
        // SAFETY: the handler is there.
        unsafe { libc::raise(libc::SIGWINCH) };
        caught.wait().unwrap();
        let again = caught.catch(libc::SIGWINCH).unwrap();
        assert_ne!(again.0.sa_sigaction, before.0.sa_sigaction);
        restore(libc::SIGWINCH, &before).unwrap();
        assert_eq!(
            caught.catch(libc::SIGWINCH).unwrap().0.sa_sigaction,
            before.0.sa_sigaction
        );
        restore(libc::SIGWINCH, &before).unwrap();
        assert_eq!(
            caught.catch(libc::SIGKILL).unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    }
}
