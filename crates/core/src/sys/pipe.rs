//! The pipe that the C handler of a signal writes to: asyncio's self-pipe, as far as signals go.
//!
//! Owns both ends. `signal.set_wakeup_fd` gets the number of the writing one; a loop watches the reading one,
//! so that a signal ends its wait whichever thread the kernel gives it to.
//! Must never block at either end: the writer is a signal handler, the reader is the loop.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::{read, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};

use super::fd::{self, Kept};

/// How many signal numbers are taken in by one read.
const CHUNK: usize = 256;

/// A pipe for signal numbers, one byte each.
#[derive(Debug)]
pub struct SignalPipe {
    reader: Kept,
    writer: Kept,
}

impl SignalPipe {
    /// An empty pipe.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = open()?;
        Ok(Self {
            reader: reader.into(),
            writer: writer.into(),
        })
    }

    /// The end to watch for readability.
    #[inline]
    #[must_use]
    pub fn reader(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// The end for `signal.set_wakeup_fd`.
    #[inline]
    #[must_use]
    pub fn writer(&self) -> RawFd {
        self.writer.as_raw_fd()
    }

    /// Takes out the numbers that are in it, in the order of the signals.
    #[must_use]
    pub fn drain(&self) -> Vec<u8> {
        let mut numbers = Vec::new();
        let mut chunk = [0; CHUNK];
        // It fails only if there is nothing to read.
        while let Ok(count) = retry_on_intr(|| read(&self.reader, &mut chunk)) {
            numbers.extend_from_slice(&chunk[..count]);
            if count < CHUNK {
                break;
            }
        }
        numbers
    }

    /// Starts afresh under the same numbers, in the child after a `fork`: a signal to the child must not
    /// reach the parent's loop.
    pub fn reopen(&self) -> io::Result<()> {
        let (reader, writer) = open()?;
        fd::replace(&self.reader, &reader)?;
        fd::replace(&self.writer, &writer)
    }

    /// Gives the pipe up without closing the writing end, because a signal handler may still write to that
    /// number, and would write into whatever file gets it next.
    pub fn abandon(self) {
        std::mem::forget(self.writer);
    }
}

fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use rustix::io::write;

    #[test]
    fn numbers_come_out_in_order_and_once() {
        let pipe = SignalPipe::new().unwrap();
        let sent: Vec<u8> = (0..600).map(|number| (number % 64) as u8).collect();
        write(&pipe.writer, &sent).unwrap();
        assert_eq!(pipe.drain(), sent);
        assert_eq!(pipe.drain(), []);
    }

    #[test]
    fn reopened_it_keeps_its_numbers_and_is_empty() {
        let pipe = SignalPipe::new().unwrap();
        let numbers = (pipe.reader(), pipe.writer());
        write(&pipe.writer, &[2]).unwrap();
        pipe.reopen().unwrap();
        assert_eq!((pipe.reader(), pipe.writer()), numbers);
        assert_eq!(pipe.drain(), []);
        write(&pipe.writer, &[15]).unwrap();
        assert_eq!(pipe.drain(), [15]);
    }
}
