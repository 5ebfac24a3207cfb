//! Files, by their numbers: what a loop does with one that it has not opened.
//!
//! Owns the system calls.
//! Must never keep a descriptor.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use rustix::fs::FileType;
use rustix::io::{Errno, retry_on_intr};

use super::fd::with_borrowed;
use crate::effects;

/// What stands behind a number, as far as it matters to a loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One end of a pipe, or a FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// A terminal and the like.
    CharacterDevice,
    /// A file, a directory, a disk: always ready, as far as the kernel is concerned.
    Other,
}

/// What is it?
///
/// # Errors
/// What the kernel answers.
pub fn kind(fd: RawFd) -> io::Result<Kind> {
    with_borrowed(fd, |fd| {
        Ok(match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharacterDevice,
            _ => Kind::Other,
        })
    })
}

/// `os.set_blocking(fd, False)`: for everybody who has the same open file.
///
/// # Errors
/// What the kernel answers.
pub fn set_non_blocking(fd: RawFd) -> io::Result<()> {
    with_borrowed(fd, |fd| Ok(rustix::io::ioctl_fionbio(fd, true)?))
}

/// `read(2)`: `Ok(0)` is the end.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if there is nothing yet.
#[inline]
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    with_borrowed(fd, |fd| Ok(retry_on_intr(|| rustix::io::read(fd, &mut *buffer))?))
}

/// The same into memory that holds nothing yet: the first so many bytes of it are filled.
///
/// # Errors
/// As for [`read`].
#[inline]
pub fn read_uninit(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    with_borrowed(fd, |fd| {
        // (not by `retry_on_intr`: what `read` gives borrows the buffer)
        loop {
            match rustix::io::read(fd, &mut *buffer) {
                Ok((taken, _)) => return Ok(taken.len()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// `write(2)`: how much of it the kernel took.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if that is nothing, [`io::ErrorKind::BrokenPipe`] if nobody reads any more.
#[inline]
pub fn write(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    effects::happened();
    with_borrowed(fd, |fd| Ok(retry_on_intr(|| rustix::io::write(fd, data))?))
}

/// `writev(2)`
///
/// # Errors
/// As for [`write`].
#[inline]
pub fn write_vectored(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    effects::happened();
    with_borrowed(fd, |fd| Ok(retry_on_intr(|| rustix::io::writev(fd, pieces))?))
}

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
    effects::happened();
    with_borrowed(to, |to| {
        with_borrowed(from, |from| {
            let mut offset = offset;
            Ok(rustix::fs::sendfile(to, from, Some(&mut offset), count)?)
        })
    })
}
