//! What the kernel does for us: the only unsafe code of this crate.
//!
//! Owns one file per backend, the buffer that events come in, and the waker.
//! Must never know who watches a descriptor or why: that is the reactor's.
//!
//! # The contract of a backend
//!
//! A backend holds registrations and waits for them. A registration is a descriptor, a [`Token`] and an
//! [`Interest`] that is not empty. The rules, which `scripted` shows at their plainest and `tests/` checks:
//!
//! 1. **Shared.** All methods take `&self`. One thread may be in [`Backend::wait`] while another changes
//!    registrations; a change that makes something ready ends the wait.
//! 2. **Level-triggered.** What is ready is reported by every wait for as long as it is. Nothing needs
//!    re-arming. The waker alone is reported once for every write, so that nobody has to read it.
//! 3. **Tokens are opaque.** A backend stores a token and gives it back unchanged. It may report a token
//!    whose registration ended after the wait began; the reactor sorts that out.
//! 4. **Errors are the kernel's.** [`Backend::add`] answers `EEXIST` if the descriptor has a registration,
//!    and [`Backend::modify`] and [`Backend::delete`] answer `ENOENT` if it has none; all answer `EBADF` if
//!    it is not open. The reactor relies on these three. A call that fails has changed nothing.
//! 5. **Closing ends a registration** without a word, if the descriptor is the last of its open file.
//! 6. **Hang-ups and errors count as ready** for whatever was asked, since a read or a write would not block
//!    then. They are reported unasked, and so may go beyond the interest: the reactor cuts them to size.
//! 7. **A wait is honest.** It returns if there are events, if the timeout has passed (never sooner;
//!    `Some(0)` does not block; `None` never passes), or with [`io::ErrorKind::Interrupted`] if a signal
//!    came. It does not spin, and it does not go on waiting after a signal: the caller has handlers to run.
//! 8. **Order.** Events come in the kernel's order.
//! 9. **Forking.** [`Backend::reopen`] leaves the backend without registrations and apart from the process
//!    that it was forked from, in which nothing changes.

pub mod apart;
pub mod beginning;
pub mod caught;
pub mod child;
pub mod cpu;
pub mod epoll;
pub mod events;
mod fd;
pub mod file;
pub mod forks;
pub mod lines;
pub mod local;
pub mod memory;
pub mod names;
mod parked;
pub mod pipe;
pub mod published;
pub mod scripted;
mod sender;
pub(crate) mod sleeper;
pub mod socket;
pub mod threads;
pub mod ticks;
pub(crate) mod time;
pub mod wakeup;

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic;
use std::time::Duration;

use crate::reactor::{Interest, Token};
use events::Events;

/// A way to wait for descriptors. The [module](self) has the contract.
pub trait Backend: Send + Sync + Sized {
    /// A backend without registrations.
    fn new() -> io::Result<Self>;

    /// Begins a registration.
    fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()>;

    /// Begins the registration of the waker, under [`Token::WAKER`].
    fn add_waker(&self, fd: RawFd) -> io::Result<()>;

    /// Replaces the token and the interest of a registration.
    fn modify(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()>;

    /// Ends a registration.
    fn delete(&self, fd: RawFd) -> io::Result<()>;

    /// Waits, and replaces the contents of `events` by what happened, on errors by nothing.
    fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()>;

    /// Starts afresh, in the child after a `fork`.
    fn reopen(&self) -> io::Result<()>;
}
