//! Signals that a thread of ours answers, whatever the program's own threads are doing.
//!
//! Owns a number that the C handler counts up, and nothing of Python: a handler of Python's runs when the main thread
//! comes round to it, which is what it does not do when this is wanted. It is a futex and no descriptor: there is none
//! that the program could close, to open something of its own under that number.
//! Must never do more in the handler than that. In a forked child, whose thread is not there, nobody waits.
#![allow(unsafe_code, reason = "rustix installs no signal handlers")]

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex;

use super::apart;
use super::threads::names;

/// How many signals have been caught (modulo 2³²).
static COUNT: AtomicU32 = AtomicU32::new(0);

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

/// What it does may be done in a handler: an atomic, and a system call that is made without libc and leaves errno alone.
extern "C" fn handler(_: libc::c_int) {
    COUNT.fetch_add(1, Ordering::Release);
    let _ = futex::wake(&COUNT, futex::Flags::PRIVATE, 1);
}

/// Catches a signal, in place of what was done with it before. System calls that it interrupts go on, if they can.
///
/// # Errors
/// The kernel's: EINVAL for a signal that cannot be caught.
pub fn catch(signal: i32) -> io::Result<Before> {
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

/// Starts the thread that answers whatever is caught from now on, for as long as the process lives. One for a process.
/// Signals that come together are answered once.
///
/// # Errors
/// No thread can be started.
pub fn answer(answer: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut seen = COUNT.load(Ordering::Acquire);
    let serve = move || {
        super::names::block_signals();
        loop {
            seen = wait(seen);
            answer();
        }
    };
    apart::spawn(names::SIGNAL, serve).map(drop)
}

/// Waits until the count is another: that one.
fn wait(seen: u32) -> u32 {
    loop {
        let count = COUNT.load(Ordering::Acquire);
        if count != seen {
            return count;
        }
        // (what ends it for no reason, a signal or whatever else, makes us look again)
        let _ = futex::wait(&COUNT, futex::Flags::PRIVATE, seen, None);
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
        let seen = COUNT.load(Ordering::Acquire);
        let before = catch(libc::SIGWINCH).unwrap();
        // SAFETY: the handler is there.
        unsafe { libc::raise(libc::SIGWINCH) };
        assert_eq!(wait(seen), seen.wrapping_add(1));
        let again = catch(libc::SIGWINCH).unwrap();
        assert_ne!(again.0.sa_sigaction, before.0.sa_sigaction);
        restore(libc::SIGWINCH, &before).unwrap();
        assert_eq!(
            catch(libc::SIGWINCH).unwrap().0.sa_sigaction,
            before.0.sa_sigaction
        );
        restore(libc::SIGWINCH, &before).unwrap();
        assert_eq!(
            catch(libc::SIGKILL).unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    }
}
