//! What safe Rust cannot say about descriptors.
//!
//! Owns the conversions that the backends and `socket` need.
//! Must never keep a descriptor, nor close one that it was not given to close.
#![allow(unsafe_code, reason = "descriptors come as numbers, from Python")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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
    // which answers EBADF if it is not, and closes nothing. Those that read or write (`socket`) are for
    // descriptors that the caller owns.
    call(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// A descriptor that we keep for long. Meanwhile the program may close its number behind our back (`os.closerange` before
/// it goes into the background), which is no reason to abort: of an `OwnedFd` std does so in builds with debug assertions.
#[derive(Debug)]
pub(super) struct Kept(ManuallyDrop<OwnedFd>);

impl From<OwnedFd> for Kept {
    fn from(fd: OwnedFd) -> Kept {
        Kept(ManuallyDrop::new(fd))
    }
}

impl AsFd for Kept {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Kept {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        close(self.as_raw_fd());
    }
}

/// Puts `fresh` in the place of `old`, under the same number, close-on-exec.
pub(super) fn replace(old: &Kept, fresh: &OwnedFd) -> io::Result<()> {
    // SAFETY: `old` owns the number before and after: `target` is never dropped. dup3 changes at once, for
    // all threads, what the number stands for, so that nobody finds it closed.
    let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(old.as_raw_fd()) });
    Ok(dup3(fresh, &mut target, DupFlags::CLOEXEC)?)
}

/// Closes a descriptor that the caller owns and gives up. That somebody has closed it already is no error.
pub(super) fn close(fd: RawFd) {
    if fd >= 0 {
        // SAFETY: the caller's promise. (rustix takes it for a mistake of the program's own if the number is not open.)
        unsafe { libc::close(fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, close};
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::fcntl_dupfd_cloexec;
    use std::os::fd::AsRawFd;

    /// Tests are built with debug assertions.
    #[test]
    fn a_number_that_was_closed_behind_our_back_is_no_reason_to_abort() {
        let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        // a number that no other thread of the tests is given
        let kept = Kept::from(fcntl_dupfd_cloexec(&fd, 900).unwrap());
        close(kept.as_raw_fd());
        drop(kept);
    }
}
