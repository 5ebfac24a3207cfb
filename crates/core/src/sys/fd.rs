//! What safe Rust cannot say about descriptors.
//!
//! Owns two conversions that the backends need.
//! Must never close a descriptor, nor keep one.
#![allow(unsafe_code, reason = "descriptors come as numbers, from Python")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{DupFlags, Errno, dup3};

/// Passes `fd` to a system call that validates it, for instance `epoll_ctl`.
///
/// The number is all that we have: its owner is a Python object, which may have closed it.
pub(super) fn with_borrowed<R>(
    fd: RawFd,
    call: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
) -> io::Result<R> {
    if fd < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: `fd` is not -1. Whether it is open cannot be known, but it is used for this one call only,
    // which answers EBADF if it is not, and which neither reads, writes nor closes it if it is somebody
    // else's.
    call(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Puts `fresh` in the place of `old`, under the same number, close-on-exec.
pub(super) fn replace(old: &OwnedFd, fresh: &OwnedFd) -> io::Result<()> {
    // SAFETY: `old` owns the number before and after: `target` is never dropped. dup3 changes at once, for
    // all threads, what the number stands for, so that nobody finds it closed.
    let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(old.as_raw_fd()) });
    Ok(dup3(fresh, &mut target, DupFlags::CLOEXEC)?)
}
