//! How another thread ends the wait of the loop: the `_write_to_self` of asyncio's `call_soon_threadsafe`.
//!
//! Owns the eventfd. Whether writing to it is worth a system call is what [`Parked`] says, with the protocol of both.
//! Must never hold what the wake-up is about: that is in the caller's queue.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{retry_on_intr, write};

use super::apart;
use super::fd::{self, Kept};
use super::parked::Parked;

/// Ends the wait of a loop, from any thread, and from a signal handler too.
#[derive(Debug)]
pub struct Waker {
    fd: Kept,
    parked: Parked,
}

impl Waker {
    /// A waker whose loop is awake.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: open()?.into(),
            parked: Parked::new(),
        })
    }

    /// Wakes the loop if it sleeps or is about to: one system call for the first of many.
    #[inline]
    pub fn wake(&self) {
        if self.claim() {
            self.signal();
        }
    }

    /// The same from a thread that may have [left](apart) the table of descriptors.
    pub fn wake_from_apart(&self) {
        // First the way to the descriptor: who has claimed must write. (Without a way, whoever comes next wakes the loop.)
        let _ = apart::with(self.fd.as_fd(), |fd| {
            if self.claim() {
                ring(fd);
            }
            Ok(())
        });
    }

    /// The first half of [`Waker::wake`]. `true`: the caller owes the other half, [`Waker::signal`], at once.
    #[inline]
    #[must_use]
    pub fn claim(&self) -> bool {
        self.parked.claim()
    }

    /// Says that the loop is about to sleep. It must look at its queue once more after this (rule 2).
    #[inline]
    pub fn park(&self) {
        self.parked.park();
    }

    /// Says that the loop is awake (rules 3 and 4).
    #[inline]
    pub fn unpark(&self) {
        self.parked.unpark();
    }

    /// Whether the loop has said that it sleeps, and nobody has woken it. For those who watch, not for
    /// deciding.
    #[inline]
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parked.is_parked()
    }

    /// The descriptor to watch. It is the waker's own: not to be read, written or closed by
    /// others.
    #[inline]
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Starts afresh, in the child after a `fork`: a wake-up here must not reach the parent.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        fd::replace(&self.fd, &open()?)?;
        self.unpark();
        Ok(())
    }

    /// The second half: the system call.
    #[cold]
    pub fn signal(&self) {
        ring(self.fd.as_fd());
    }
}

fn ring(fd: BorrowedFd<'_>) {
    // It fails only if the count is at its limit, for which 2⁶⁴ wake-ups are too few.
    let _ = retry_on_intr(|| write(fd, &1_u64.to_ne_bytes()));
}

fn open() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}
