//! What several tests need.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use aioxide_core::{Backend, Events, Reactor, Readiness};

pub(crate) const READABLE: Readiness = Readiness {
    readable: true,
    writable: false,
};
pub(crate) const WRITABLE: Readiness = Readiness {
    readable: false,
    writable: true,
};
pub(crate) const BOTH: Readiness = Readiness {
    readable: true,
    writable: true,
};

/// Long enough for anything that ought to happen.
pub(crate) const LONG: Duration = Duration::from_secs(5);

pub(crate) fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

/// The same open file under the first free number from `number`, so that tests that run side by side do not
/// take each other's numbers.
pub(crate) fn at(number: RawFd, socket: UnixStream) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(&socket, number).unwrap()
}

/// What is ready now.
pub(crate) fn poll<B: Backend>(reactor: &Reactor<B>) -> Vec<(RawFd, Readiness)> {
    wait(reactor, Some(Duration::ZERO))
}

pub(crate) fn wait<B: Backend>(reactor: &Reactor<B>, timeout: Option<Duration>) -> Vec<(RawFd, Readiness)> {
    let mut events = Events::new();
    reactor.poller().wait(&mut events, timeout).unwrap();
    dispatch(reactor, &mut events)
}

pub(crate) fn dispatch<B: Backend>(reactor: &Reactor<B>, events: &mut Events) -> Vec<(RawFd, Readiness)> {
    let mut seen = Vec::new();
    reactor.dispatch(events, |fd, readiness| seen.push((fd, readiness)));
    assert!(events.is_empty());
    seen
}
