//! Who watches which descriptor: the `_selector` of asyncio's `BaseSelectorEventLoop`.
//!
//! Owns the table of watched descriptors, the backend and the loop's waker. Whoever waits holds a [`Poller`],
//! which borrows nothing of the table: the caller lets go of Python's lock while it waits, and another thread
//! that gets the lock may change an interest meanwhile.
//! Must never own a watched descriptor (it neither opens nor closes one), and never call back anybody but the
//! closure of [`Reactor::dispatch`].

mod interest;
mod token;

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::io::Errno;

use crate::sys::Backend;
use crate::sys::epoll::Epoll;
use crate::sys::events::Events;
use crate::sys::wakeup::Waker;

pub use interest::{Interest, Readiness};
pub use token::Token;

/// The table of watched descriptors.
#[derive(Debug)]
pub struct Reactor<B = Epoll> {
    backend: Arc<B>,
    waker: Arc<Waker>,
    /// Indexed by descriptor: the kernel gives out the lowest free number, so the table stays as short as it
    /// can be.
    slots: Vec<Slot>,
    watched: usize,
    /// The kernel reports a registration that nothing can end: see [`Reactor::shed_orphans`].
    orphans: AtomicBool,
}

/// What we know about one descriptor.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Empty: nobody watches it.
    interest: Interest,
    /// That of the present registration, or of the next if there is none. It wraps: after 2³² registrations
    /// of one descriptor, no event is left that belongs to the first.
    generation: u32,
}

impl<B: Backend> Reactor<B> {
    /// A reactor that watches nothing but its own waker.
    pub fn new() -> io::Result<Self> {
        Self::with_backend(B::new()?)
    }

    /// The same on a backend that was made elsewhere, such as a script for a test.
    pub fn with_backend(backend: B) -> io::Result<Self> {
        let waker = Waker::new()?;
        backend.add_waker(waker.fd())?;
        Ok(Self {
            backend: Arc::new(backend),
            waker: Arc::new(waker),
            slots: Vec::new(),
            watched: 0,
            orphans: AtomicBool::new(false),
        })
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Replaces what is watched about `fd`. The empty interest stops watching it.
    ///
    /// The kernel forgets a descriptor when it is closed, and does not tell. So the table may be out of date,
    /// and this function sets right what it finds, where asyncio would fail or hang: a descriptor that was
    /// closed and reused is registered afresh. Therefore it asks the kernel even if the interest is what the
    /// table has already; a caller in a hurry compares with [`Reactor::interest`] first.
    ///
    /// # Errors
    /// What the kernel answers: `EBADF` if `fd` is not open, `EPERM` if it cannot be watched (a regular
    /// file). Then `fd` is not watched any more.
    pub fn set_interest(&mut self, fd: RawFd, interest: Interest) -> io::Result<()> {
        match (self.interest(fd).is_empty(), interest.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => self.add(fd, interest),
            (false, false) => self.modify(fd, interest),
            (false, true) => self.remove(fd),
        }
    }

    /// What is watched about `fd`.
    #[inline]
    #[must_use]
    pub fn interest(&self, fd: RawFd) -> Interest {
        self.slot(fd).interest
    }

    /// Stops watching `fd` without asking the kernel: for a descriptor that is closed already.
    ///
    /// If another descriptor still refers to the same open file, the kernel goes on to report it.
    /// [`Reactor::dispatch`] ignores such reports, but they wake the loop: better call
    /// [`Reactor::set_interest`] before closing.
    pub fn forget(&mut self, fd: RawFd) {
        if !self.interest(fd).is_empty() {
            self.release(fd);
        }
    }

    /// How many descriptors are watched, the waker's own not counted.
    #[inline]
    #[must_use]
    pub fn watched(&self) -> usize {
        self.watched
    }

    /// What other threads wake the loop with.
    #[inline]
    #[must_use]
    pub fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// A handle to wait with. It stays good for as long as the reactor, even after
    /// [`Reactor::reopen_after_fork`].
    #[must_use]
    pub fn poller(&self) -> Poller<B> {
        Poller {
            backend: Arc::clone(&self.backend),
        }
    }

    /// Tells `on_ready` what the last wait found, in the kernel's order, and empties `events`.
    ///
    /// Left out are events of registrations that have ended since, and what nobody asks for any more. A
    /// wake-up is not told: the caller looks at its queue after every wait anyway.
    #[inline]
    pub fn dispatch(&self, events: &mut Events, mut on_ready: impl FnMut(RawFd, Readiness)) {
        for (token, readiness) in events.iter() {
            if token == Token::WAKER {
                continue;
            }
            let fd = token.fd();
            let slot = self.slot(fd);
            if slot.interest.is_empty() {
                self.disarm(fd);
            } else if slot.generation == token.generation() {
                let readiness = readiness.masked_by(slot.interest);
                if !readiness.is_empty() {
                    on_ready(fd, readiness);
                }
            } else {
                self.orphans.store(true, Relaxed);
            }
        }
        events.clear();
    }

    /// Gets rid of what [`Reactor::dispatch`] has found: registrations of descriptors that were closed behind our
    /// back while a duplicate (a child's, for instance) keeps the file open.
    ///
    /// No descriptor is left by which the kernel would find such a registration, and it would wake the loop again
    /// and again. So everything is registered afresh, with a new backend in the old one's place. Costs nothing if
    /// there are none.
    ///
    /// # Errors
    /// What the kernel answers.
    #[inline]
    pub fn shed_orphans(&mut self) -> io::Result<()> {
        if std::mem::take(self.orphans.get_mut()) {
            self.register_afresh()
        } else {
            Ok(())
        }
    }

    /// Makes the reactor this process's own, after `fork`, in the child.
    ///
    /// A forked child shares the parent's epoll and eventfd: what it registers or reads there, the parent
    /// would lose. This puts new ones in their places and registers every descriptor again, except those that
    /// were closed since. Wakers and pollers that were handed out before stay good.
    pub fn reopen_after_fork(&mut self) -> io::Result<()> {
        self.waker.reopen()?;
        self.register_afresh()
    }

    /// A new backend under the old one's number, with everything that the table has.
    #[cold]
    fn register_afresh(&mut self) -> io::Result<()> {
        self.backend.reopen()?;
        self.backend.add_waker(self.waker.fd())?;
        for index in 0..self.slots.len() {
            let slot = self.slots[index];
            if slot.interest.is_empty() {
                continue;
            }
            let fd = index as RawFd;
            match self
                .backend
                .add(fd, Token::new(fd, slot.generation), slot.interest)
            {
                // Closed since, or closed and reused for a file that cannot be watched.
                Err(error) if is(&error, Errno::BADF) || is(&error, Errno::PERM) => self.release(fd),
                result => result?,
            }
        }
        Ok(())
    }

    /// Registers a descriptor that the table does not have.
    fn add(&mut self, fd: RawFd, interest: Interest) -> io::Result<()> {
        let token = Token::new(fd, self.slot(fd).generation);
        match self.backend.add(fd, token, interest) {
            // The kernel has it though we do not: somebody called `forget` and had not closed it. The waker's
            // own is nobody else's to take.
            Err(error) if is(&error, Errno::EXIST) && fd != self.waker.fd() => {
                self.backend.modify(fd, token, interest)?;
            }
            result => result?,
        }
        // Only now, after the kernel has agreed that `fd` exists, is it safe to make the table that long.
        let index = fd as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        self.slots[index].interest = interest;
        self.watched += 1;
        Ok(())
    }

    /// Changes the interest in a descriptor that the table has.
    fn modify(&mut self, fd: RawFd, interest: Interest) -> io::Result<()> {
        match self
            .backend
            .modify(fd, Token::new(fd, self.slot(fd).generation), interest)
        {
            Ok(()) => {
                self.slots[fd as usize].interest = interest;
                Ok(())
            }
            Err(error) => {
                // Whatever the kernel says, the old registration is void.
                self.release(fd);
                // ENOENT: `fd` was closed behind our back, and is another file now. A new owner, a new
                // generation.
                if is(&error, Errno::NOENT) {
                    self.add(fd, interest)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Ends the registration of a descriptor that the table has.
    fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        self.release(fd);
        match self.backend.delete(fd) {
            // It was closed before, and the kernel has forgotten it: that is all we wanted.
            Err(error) if is(&error, Errno::NOENT) || is(&error, Errno::BADF) => Ok(()),
            result => result,
        }
    }

    /// Strikes a descriptor out of the table: from now on its events are stale.
    fn release(&mut self, fd: RawFd) {
        let slot = &mut self.slots[fd as usize];
        slot.interest = Interest::EMPTY;
        slot.generation = slot.generation.wrapping_add(1);
        self.watched -= 1;
    }

    /// Tries to end a registration that the table does not have, lest it wake the loop again and again.
    ///
    /// It succeeds if `fd` was forgotten and is still open. It cannot if `fd` was closed while a duplicate
    /// keeps the file open: then it is an orphan.
    #[cold]
    fn disarm(&self, fd: RawFd) {
        if self.backend.delete(fd).is_err() {
            self.orphans.store(true, Relaxed);
        }
    }

    #[inline]
    fn slot(&self, fd: RawFd) -> Slot {
        // A negative number becomes a huge one, which is not in the table either.
        self.slots.get(fd as usize).copied().unwrap_or_default()
    }
}

/// A handle to wait with, which does not borrow the reactor.
#[derive(Debug)]
pub struct Poller<B = Epoll> {
    backend: Arc<B>,
}

impl<B: Backend> Poller<B> {
    /// Blocks until something happens, or `timeout` has passed, or a signal has come; `None` waits for ever.
    ///
    /// What `events` held before is gone. It never returns before its time with nothing to tell: a timeout is
    /// rounded up to what the kernel can do, and not a spin.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`] if a signal came, so that the caller can run Python's handlers.
    #[inline]
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.backend.wait(events, timeout)
    }
}

// By hand, because a derive would ask for `B: Clone`.
impl<B> Clone for Poller<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}
