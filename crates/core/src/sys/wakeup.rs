//! How another thread ends the wait of the loop: the `_write_to_self` of asyncio's `call_soon_threadsafe`.
//!
//! Owns the eventfd and the flag that says whether writing to it is worth a system call.
//! Must never hold what the wake-up is about: that is in the caller's queue.
//!
//! # The protocol
//!
//! The loop sleeps only if its queue is empty; a producer adds to the queue and wakes the loop. In between, a
//! wake-up must not be lost, and a thousand of them should not cost a thousand system calls. `parked` is true
//! from when the loop decides to sleep until it, or the first producer, takes that back.
//!
//! 1. A producer first makes its item visible in the queue, then calls [`Waker::wake`].
//! 2. The loop calls [`Waker::park`] *before* its last look at the queue, and blocks only if it finds it
//!    empty.
//! 3. If it finds something, it calls [`Waker::unpark`] and does not block.
//! 4. After the wait, however that ended, it calls [`Waker::unpark`], and looks at the queue again.
//! 5. Whoever turns `parked` from true to false in [`Waker::wake`], and nobody else, writes to the eventfd.
//! 6. Nobody reads the eventfd: the backend reports it once for every write. That may end a wait though nothing is
//!    in the queue (the loop woke by itself as the write was on its way): one turn for nothing, which does no harm.
//!
//! Why none is lost: `parked` is changed by swaps only, and the swaps of one variable have an order. Let W be
//! the swap of a producer, and P the next swap of `park`, or the one before.
//!
//! * W before P: P reads what W wrote, or what a later swap made of it. Each swap both acquires and releases,
//!   so all that came before W, the item above all, is visible after P, and the last look of rule 2 finds it.
//! * W after P, and the first that is: it reads true and writes to the eventfd. The kernel keeps the event for the
//!   next wait that asks, so the wait ends, whether it has begun or not.
//! * W after P, and not the first: a swap in between made it false. If that was a producer's, that one writes
//!   to the eventfd. If it was `unpark`, the loop is awake, and rule 4 makes it look: what W released, it
//!   either sees then or at the next `park`, by the first case.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{retry_on_intr, write};

use super::fd;

/// Ends the wait of a loop, from any thread, and from a signal handler too.
#[derive(Debug)]
pub struct Waker {
    fd: OwnedFd,
    parked: AtomicBool,
}

impl Waker {
    /// A waker whose loop is awake.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: open()?,
            parked: AtomicBool::new(false),
        })
    }

    /// Wakes the loop if it sleeps or is about to: one system call for the first of many.
    #[inline]
    pub fn wake(&self) {
        if self.claim() {
            self.signal();
        }
    }

    /// The first half of [`Waker::wake`]. `true`: the caller owes the other half, [`Waker::signal`], at once.
    #[inline]
    #[must_use]
    pub fn claim(&self) -> bool {
        self.parked.swap(false, Ordering::AcqRel)
    }

    /// Says that the loop is about to sleep. It must look at its queue once more after this (rule 2).
    #[inline]
    pub fn park(&self) {
        self.parked.swap(true, Ordering::AcqRel);
    }

    /// Says that the loop is awake (rules 3 and 4).
    #[inline]
    pub fn unpark(&self) {
        // A swap and not a store, which would break the chain from a producer's swap to the next `park`.
        self.parked.swap(false, Ordering::AcqRel);
    }

    /// Whether the loop has said that it sleeps, and nobody has woken it. For those who watch, not for
    /// deciding.
    #[inline]
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed)
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
        // It fails only if the count is at its limit, for which 2⁶⁴ wake-ups are too few.
        let _ = retry_on_intr(|| write(&self.fd, &1_u64.to_ne_bytes()));
    }
}

fn open() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}
