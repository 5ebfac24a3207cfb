//! Errors and hang-ups are told as readiness for what was asked, as `selectors.EpollSelector` does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::fd::AsRawFd;

use aioxide_core::{Interest, Reactor};
use support::{BOTH, READABLE, WRITABLE, pair, poll};

#[test]
fn a_hang_up_is_whatever_was_asked_for() {
    let (a, b) = pair();
    let fd = a.as_raw_fd();
    drop(b);
    let mut reactor: Reactor = Reactor::new().unwrap();
    for (interest, expected) in [
        (Interest::READABLE, READABLE),
        (Interest::WRITABLE, WRITABLE),
        (Interest::BOTH, BOTH),
    ] {
        reactor.set_interest(fd, interest).unwrap();
        assert_eq!(poll(&reactor), [(fd, expected)]);
    }
}

/// EPOLLHUP alone: nothing to read.
#[test]
fn the_end_of_a_pipe_is_readable() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(writer);
    let mut reactor: Reactor = Reactor::new().unwrap();
    reactor
        .set_interest(reader.as_raw_fd(), Interest::READABLE)
        .unwrap();
    assert_eq!(poll(&reactor), [(reader.as_raw_fd(), READABLE)]);
}

/// EPOLLERR: how `connect_write_pipe` learns that nobody reads any more, by asking for readability.
#[test]
fn a_pipe_without_a_reader_is_readable_at_its_writing_end() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut reactor: Reactor = Reactor::new().unwrap();
    reactor
        .set_interest(writer.as_raw_fd(), Interest::READABLE)
        .unwrap();
    assert_eq!(poll(&reactor), []);
    drop(reader);
    assert_eq!(poll(&reactor), [(writer.as_raw_fd(), READABLE)]);
}
