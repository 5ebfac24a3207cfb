//! A thread with a table of descriptors of its own.
//!
//! As long as two threads of a process share the table, the kernel counts references for each system call on a
//! descriptor: what sends and receives little pays 1.5 % for a thread that does nothing but sleep. So a thread of ours
//! that watches leaves the table to the program. What the program opens, closes and counts is then no concern of its
//! either, nor the other way round.
//!
//! Owns the leaving, and the way to a descriptor of the program's.
//! Must never be a reason not to watch: where the kernel is too old (5.9), or there is a filter of system calls, the thread
//! stays. Nor must it be tried out whether such a filter lets us: systemd's `@system-service`, for one, does not have
//! `pidfd_getfd`, and ends a process that calls what it does not have (SIGSYS).
//!
//! Rules
//! 1. In a thread that has left, a number stands for something else than in the program: who uses one of the program's
//!    asks [`with`]. It holds what it finds for no longer than that, for a descriptor that is held is not closed.
//! 2. A thread that is started by one that has left shares its table, and has to know: [`spawn`].
#![allow(
    unsafe_code,
    reason = "rustix has no close_range; and prctl takes any arguments"
)]

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

thread_local! {
    static IS_APART: Cell<bool> = const { Cell::new(false) };
}

/// Has this thread left?
#[inline]
#[must_use]
pub fn is_apart() -> bool {
    IS_APART.get()
}

/// Starts a thread, from one that may have left (rule 2).
///
/// # Errors
/// There can be no more threads.
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let is_apart = is_apart();
    thread::Builder::new().name(name.into()).spawn(move || {
        IS_APART.set(is_apart);
        run()
    })
}

/// Whether a thread that leaves would come to what the program has open: 0 if that has not been tried, else [`TRIED`]
/// and the answer.
static POSSIBLE: AtomicU8 = AtomicU8::new(0);
const TRIED: u8 = 2;

/// Has this thread a filter of system calls? (It cannot be got rid of, and threads inherit it.) If the kernel does not
/// say, as if it had.
fn is_filtered() -> bool {
    // SAFETY: no preconditions; the call takes no other arguments.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) != 0 }
}

/// Finds out whether a thread can leave, for a thread that is about to start one. (The kernel may let it go, and then not
/// let it come to anything. To try that takes two descriptors, for a moment.)
pub fn try_out() -> bool {
    if is_filtered() {
        return false;
    }
    let known = POSSIBLE.load(Ordering::Relaxed);
    if known != 0 {
        return known == TRIED + 1;
    }
    let is_possible = pidfd_open(getpid(), PidfdFlags::empty())
        .is_ok_and(|process| pidfd_getfd(&process, process.as_raw_fd(), PidfdGetfdFlags::empty()).is_ok());
    POSSIBLE.store(TRIED + u8::from(is_possible), Ordering::Relaxed);
    is_possible
}

/// Leaves, if that is possible ([`try_out`]). To be called before the thread has opened anything.
pub fn leave() -> bool {
    // SAFETY: closes nothing but in a table that is this thread's alone from then on, and in which it has nothing open.
    let left = try_out()
        && unsafe { libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, libc::CLOSE_RANGE_UNSHARE) == 0 };
    if left {
        IS_APART.set(true);
        reserve();
    }
    left
}

/// Whoever writes to the descriptor 2 without asking is to hit nothing.
fn reserve() {
    for _ in 0..3 {
        if let Ok(nothing) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            let _ = nothing.into_raw_fd();
        }
    }
}

/// `f` of a descriptor of the program's, from whichever thread.
///
/// # Errors
/// Those of `f`; and EBADF and others if the thread is apart and cannot come to it.
#[inline]
pub fn with<T>(fd: BorrowedFd<'_>, f: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
    if is_apart() { f(bring(fd)?.as_fd()) } else { f(fd) }
}

/// A descriptor for what one of the program's leads to, which is this thread's to keep. Only for what the program does
/// not know of (rule 1).
///
/// # Errors
/// EBADF if it is not open, EMFILE. EPERM if the program has put all its threads behind a filter since this one left.
pub fn bring(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    if !is_apart() {
        return fd.try_clone_to_owned();
    }
    if is_filtered() {
        return Err(Errno::PERM.into());
    }
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(process, fd.as_raw_fd(), PidfdGetfdFlags::empty())?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::{read, write};
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::sync::mpsc;

    #[test]
    fn a_thread_that_has_left_holds_nothing_and_comes_to_everything() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let bell = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let bell = &bell;
            std::thread::Builder::new()
                .spawn_scoped(scope, move || {
                    let left = leave();
                    assert_eq!(is_apart(), left);
                    with(bell.as_fd(), |fd| Ok(write(fd, &7_u64.to_ne_bytes())?)).unwrap();
                    let links = std::fs::read_dir("/proc/thread-self/fd").unwrap().flatten();
                    let open = links
                        .flat_map(|link| std::fs::read_link(link.path()))
                        .collect::<Vec<_>>();
                    tell.send((left, open)).unwrap();
                    let _ = ended.recv();
                })
                .unwrap();
            let (left, open) = told.recv().unwrap();
            if left {
                let strange =
                    |path: &&std::path::PathBuf| !path.ends_with("dev/null") && !path.starts_with("/proc");
                assert_eq!(open.iter().find(strange), None);
                // the program closes its end: nobody else has it open
                drop(writer);
                assert_eq!(read(&reader, &mut [0_u8; 1]).unwrap(), 0);
            }
            let mut count = [0; 8];
            read(bell, &mut count).unwrap();
            assert_eq!(u64::from_ne_bytes(count), 7);
            drop(end);
        });
        assert!(!is_apart());
    }
}
