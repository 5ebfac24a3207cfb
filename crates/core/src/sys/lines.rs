//! Lines of a report, written by whichever thread has them, which never waits for whoever reads them.
//!
//! Owns no descriptor and no lock: a file is opened for each write, so that it may be moved away or removed meanwhile,
//! and a `fork` at any moment leaves nothing behind.
//!
//! Must never change how the descriptor 2 itself is open: others, and other processes, have it too.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, AtFlags, CWD, FileType, OFlags, accessat, fstat};
use rustix::io::{Errno, retry_on_intr, write};
use rustix::net::{SendFlags, send};

use super::apart;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The descriptor 2.
    Stderr,
    /// The end of a file, which is made if it is not there, for its owner alone.
    File(PathBuf),
}

/// What the kernel takes without waiting, if a poll says that a pipe has room.
const PIPE_BUF: usize = 4096;

/// Writes as much as the place takes without waiting. Answers how much that was. (A disk is not waited for, as far as
/// the kernel is concerned.)
///
/// # Errors
/// The kernel's, if it has taken nothing. ENXIO: nobody reads the named pipe.
pub fn write_now(place: &Place, bytes: &[u8]) -> io::Result<usize> {
    match place {
        Place::File(path) => {
            let file = nonblocking(OpenOptions::new().append(true).create(true).mode(0o600)).open(path)?;
            to_file(file, bytes)
        }
        Place::Stderr => apart::with(rustix::stdio::stderr(), |stderr| to_stderr(stderr, bytes)),
    }
}

/// Can lines be written there? The file is not made.
///
/// # Errors
/// The kernel's.
pub fn check(path: &Path) -> io::Result<()> {
    match nonblocking(OpenOptions::new().append(true)).open(path) {
        // (a named pipe may get its reader later)
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("."));
            Ok(accessat(
                CWD,
                directory,
                Access::WRITE_OK | Access::EXEC_OK,
                AtFlags::EACCESS,
            )?)
        }
        other => other.map(drop),
    }
}

fn nonblocking(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
}

/// A file that was opened by [`nonblocking`].
fn to_file(mut file: File, bytes: &[u8]) -> io::Result<usize> {
    until_full(bytes, |rest| file.write(rest))
}

/// Calls `write` until all is written, or would block.
fn until_full(bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match write(&bytes[done..]) {
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // (what has been taken has been taken: who comes again gets the error)
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn to_stderr(stderr: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    match FileType::from_raw_mode(fstat(stderr)?.st_mode) {
        FileType::Socket => until_full(bytes, |rest| {
            Ok(send(stderr, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
        }),
        FileType::Fifo | FileType::CharacterDevice => {
            // The same pipe or terminal, opened anew, so that only this writer does not wait.
            match nonblocking(OpenOptions::new().write(true)).open("/proc/self/fd/2") {
                Ok(file) => to_file(file, bytes),
                // another user's, or no /proc: whoever else writes to it may be faster than what the poll says
                Err(_) => until_full(bytes, |rest| {
                    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
                    if retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))? == 0 {
                        return Err(Errno::AGAIN.into());
                    }
                    Ok(write(stderr, &rest[..rest.len().min(PIPE_BUF)])?)
                }),
            }
        }
        _ => until_full(bytes, |rest| Ok(write(stderr, rest)?)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::io::Read;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("aioxide-lines-{name}-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        directory
    }

    #[test]
    fn a_file_is_made_and_grows() {
        let directory = directory("file");
        let path = directory.join("log");
        check(&path).unwrap();
        assert!(!path.exists());
        let place = Place::File(path.clone());
        assert_eq!(write_now(&place, b"one\n").unwrap(), 4);
        assert_eq!(write_now(&place, b"two\n").unwrap(), 4);
        check(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        for wrong in [directory.join("none/log"), directory.clone(), path.join("log")] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
            assert!(write_now(&Place::File(wrong), b"x").is_err());
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_full_pipe_is_not_waited_for() {
        let directory = directory("pipe");
        let path = directory.join("pipe");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let place = Place::File(path.clone());
        check(&path).unwrap();
        assert_eq!(
            write_now(&place, b"x").unwrap_err().raw_os_error(),
            Some(libc::ENXIO)
        );
        let mut reader = nonblocking(OpenOptions::new().read(true)).open(&path).unwrap();
        let bytes = vec![b'x'; 1 << 20];
        let written = write_now(&place, &bytes).unwrap();
        assert!((4096..bytes.len()).contains(&written));
        assert_eq!(write_now(&place, &bytes).unwrap(), 0);
        let mut read = vec![0; written];
        reader.read_exact(&mut read).unwrap();
        assert!(write_now(&place, &bytes).unwrap() > 0);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
