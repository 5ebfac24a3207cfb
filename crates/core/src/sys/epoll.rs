//! Linux's epoll, level-triggered: `selectors.EpollSelector`.
//!
//! Owns the epoll descriptor and the choice of the system call to wait with.
//! Must never use edge-triggering but for the waker: asyncio's `add_reader` promises to call back for as long as there
//! is something to read, however little of it the callback takes.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::events::Events;
use super::fd::Kept;
use super::{Backend, fd};
use crate::reactor::{Interest, Token};

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll {
    fd: Kept,
    /// Whether the kernel knows `epoll_pwait2`: until it says no.
    precise: AtomicBool,
}

impl Backend for Epoll {
    fn new() -> io::Result<Self> {
        Ok(Self {
            fd: epoll::create(CreateFlags::CLOEXEC)?.into(),
            precise: AtomicBool::new(true),
        })
    }

    fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        fd::with_borrowed(fd, |fd| {
            Ok(epoll::add(&self.fd, fd, data(token), flags(interest))?)
        })
    }

    fn add_waker(&self, fd: RawFd) -> io::Result<()> {
        fd::with_borrowed(fd, |fd| {
            let flags = EventFlags::IN | EventFlags::ET;
            Ok(epoll::add(&self.fd, fd, data(Token::WAKER), flags)?)
        })
    }

    fn modify(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        fd::with_borrowed(fd, |fd| {
            Ok(epoll::modify(&self.fd, fd, data(token), flags(interest))?)
        })
    }

    fn delete(&self, fd: RawFd) -> io::Result<()> {
        fd::with_borrowed(fd, |fd| Ok(epoll::delete(&self.fd, fd)?))
    }

    #[inline]
    fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.fill(|buffer| match timeout {
            Some(timeout) if !timeout.is_zero() => self.wait_for(buffer, timeout),
            Some(_) => self.wait_ms(buffer, Some(0)),
            None => self.wait_ms(buffer, None),
        })
    }

    fn reopen(&self) -> io::Result<()> {
        // A new one under the old number. The one that we shared with the parent lives on there.
        fd::replace(&self.fd, &epoll::create(CreateFlags::CLOEXEC)?)
    }
}

impl Epoll {
    /// Waits with the precision of a nanosecond where the kernel can (since 5.11), else of a millisecond.
    fn wait_for(&self, buffer: &mut [Event], timeout: Duration) -> io::Result<usize> {
        if self.precise.load(Ordering::Relaxed) {
            match self.wait_ns(buffer, timeout) {
                // EPERM is what old container runtimes answer to a call that they have not heard of.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.precise.store(false, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        self.wait_ms(buffer, Some(round_up_to_ms(timeout)))
    }

    /// `epoll_wait`: milliseconds, or `None` for ever.
    #[inline]
    fn wait_ms(&self, buffer: &mut [Event], milliseconds: Option<u32>) -> io::Result<usize> {
        let timeout = milliseconds.map(|ms| timespec(Duration::from_millis(ms.into())));
        Ok(epoll::wait(&self.fd, buffer, timeout.as_ref())?)
    }

    /// `epoll_pwait2`: nanoseconds.
    ///
    /// rustix decides between the two calls when it is compiled, and could then not do without this one.
    /// glibc has a function for it since 2.35, which is more than we want to ask for.
    #[allow(unsafe_code, reason = "no safe wrapper lets us fall back at run time")]
    fn wait_ns(&self, buffer: &mut [Event], timeout: Duration) -> io::Result<usize> {
        let timeout = timespec(timeout);
        // SAFETY: the descriptor is open, for it is ours. `buffer` is writable for `buffer.len()` events, in
        // the kernel's layout (rustix checks that it is). `timeout` outlives the call, and rustix's Timespec
        // has the layout of __kernel_timespec. Without a signal mask its size is not looked at.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr(),
                i32::try_from(buffer.len()).unwrap_or(i32::MAX),
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        // It is -1 on errors only.
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

fn data(token: Token) -> EventData {
    EventData::new_u64(token.to_bits())
}

fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, interest.is_readable());
    flags.set(EventFlags::OUT, interest.is_writable());
    flags
}

/// What `epoll_wait` takes. Up, because a wait of 0 ms for a timer in 0.4 ms would spin. More than it can
/// take (25 days) ends early; no loop blocks that long at a stretch.
fn round_up_to_ms(timeout: Duration) -> u32 {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    u32::try_from(milliseconds)
        .unwrap_or(u32::MAX)
        .min(i32::MAX as u32)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        // 292 billion years will do.
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::clock::{Clock, Monotonic};

    /// The kernels that lack `epoll_pwait2` are old; this one is made to look like one.
    #[test]
    fn without_epoll_pwait2_a_wait_is_rounded_up() {
        let epoll = Epoll::new().unwrap();
        epoll.precise.store(false, Ordering::Relaxed);
        let timeout = Duration::from_micros(1200);
        let start = Monotonic.now();
        epoll.wait(&mut Events::new(), Some(timeout)).unwrap();
        assert!(Monotonic.now() - start >= timeout.as_secs_f64());
    }

    #[test]
    fn milliseconds_are_rounded_up_and_bounded() {
        assert_eq!(round_up_to_ms(Duration::from_nanos(1)), 1);
        assert_eq!(round_up_to_ms(Duration::from_millis(7)), 7);
        assert_eq!(round_up_to_ms(Duration::from_micros(7001)), 8);
        assert_eq!(round_up_to_ms(Duration::MAX), i32::MAX as u32);
    }
}
