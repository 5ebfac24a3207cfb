//! Whether a child has begun to run its program: a pipe whose end in the child closes by itself when it does.
//!
//! Owns the pipe, and the pipes for a child's files. What the child writes in is why it cannot run the program.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::{read, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

/// A pipe for the file of a child: the end to read from, and the one to write to.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// The parent's side of the news.
#[derive(Debug)]
pub struct Beginning {
    reader: OwnedFd,
    writer: Option<OwnedFd>,
}

impl Beginning {
    /// Before the child is made. `None`: its number would be one of the standard files', which the child replaces.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    pub fn new() -> io::Result<Option<Self>> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let is_free = writer.as_raw_fd() > 2;
        Ok(is_free.then_some(Self {
            reader,
            writer: Some(writer),
        }))
    }

    /// What the child gets: the end that it closes, and the one that it keeps.
    #[must_use]
    pub fn ends(&self) -> (RawFd, RawFd) {
        (
            self.reader.as_raw_fd(),
            self.writer.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        )
    }

    /// The child has been made: waits until it runs its program, or says why it cannot.
    ///
    /// # Errors
    /// What it says.
    pub fn wait(mut self) -> Result<(), Vec<u8>> {
        self.writer = None;
        let mut word = [0; 256];
        match retry_on_intr(|| read(&self.reader, &mut word)) {
            Ok(length) if length > 0 => Err(word[..length].to_vec()),
            // (an error is none of the child's)
            _ => Ok(()),
        }
    }
}

/// Takes the status of a child that has not begun, and so ends.
pub fn forget(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // (it fails if the program ignores SIGCHLD: then there is nothing to take)
        let _ = retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use rustix::io::{dup, write};

    #[test]
    fn a_closed_end_is_good_news_and_a_word_is_bad_news() {
        let beginning = Beginning::new().unwrap().unwrap();
        drop(dup(beginning.writer.as_ref().unwrap()).unwrap());
        assert_eq!(beginning.wait(), Ok(()));

        let beginning = Beginning::new().unwrap().unwrap();
        let child = dup(beginning.writer.as_ref().unwrap()).unwrap();
        write(&child, b"OSError:2:").unwrap();
        assert_eq!(beginning.wait(), Err(b"OSError:2:".to_vec()));
    }
}
