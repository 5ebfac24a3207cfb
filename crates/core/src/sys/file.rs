//! Files, by their numbers: what a loop does with one that it has not opened.
//!
//! Owns the system calls.
//! Must never keep a descriptor.

use std::io;
use std::os::fd::RawFd;

use super::fd::with_borrowed;

/// `fstat(fd).st_size`
///
/// # Errors
/// What the kernel answers.
pub fn size(fd: RawFd) -> io::Result<i64> {
    with_borrowed(fd, |fd| Ok(rustix::fs::fstat(fd)?.st_size))
}

/// `lseek(fd, position, SEEK_SET)`
///
/// # Errors
/// What the kernel answers: ESPIPE for what has no position.
pub fn go_to(fd: RawFd, position: u64) -> io::Result<()> {
    with_borrowed(fd, |fd| {
        rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(position))?;
        Ok(())
    })
}

/// `sendfile(to, from, offset, count)`: how much went; `Ok(0)` at the end of the file. The position of the file
/// stays where it is.
///
/// Whether it blocks is a property of `to`, as far as that goes; for the disk it waits in any case.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if there is no room, [`io::ErrorKind::Interrupted`] if a signal came first.
pub fn send(to: RawFd, from: RawFd, offset: u64, count: usize) -> io::Result<usize> {
    with_borrowed(to, |to| {
        with_borrowed(from, |from| {
            let mut offset = offset;
            Ok(rustix::fs::sendfile(to, from, Some(&mut offset), count)?)
        })
    })
}
