//! A descriptor's number is reused: what was meant for the old owner does not reach the new one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::os::fd::AsRawFd;

use aioxide_core::{Events, Interest, Reactor};
use support::{READABLE, WRITABLE, at, dispatch, pair, poll};

#[test]
fn an_event_of_the_old_owner_does_not_reach_the_new_one() {
    let mut reactor: Reactor = Reactor::new().unwrap();
    let mut events = Events::new();
    let (a, mut b) = pair();
    let old = at(400, a);
    let fd = old.as_raw_fd();
    reactor.set_interest(fd, Interest::READABLE).unwrap();
    b.write_all(b"for the old owner").unwrap();
    reactor.poller().wait(&mut events, None).unwrap();
    assert_eq!(events.len(), 1);

    // Between the wait and the dispatch, another thread has the lock.
    reactor.set_interest(fd, Interest::EMPTY).unwrap();
    drop(old);
    let (c, mut d) = pair();
    let new = at(fd, c);
    assert_eq!(new.as_raw_fd(), fd);
    reactor.set_interest(fd, Interest::READABLE).unwrap();

    assert_eq!(dispatch(&reactor, &mut events), []);
    d.write_all(b"for the new one").unwrap();
    assert_eq!(poll(&reactor), [(fd, READABLE)]);
}

#[test]
fn a_descriptor_that_was_reused_behind_our_back_is_registered_afresh() {
    let mut reactor: Reactor = Reactor::new().unwrap();
    let mut events = Events::new();
    let (a, mut b) = pair();
    let old = at(420, a);
    let fd = old.as_raw_fd();
    reactor.set_interest(fd, Interest::READABLE).unwrap();
    b.write_all(b"for the old owner").unwrap();
    reactor.poller().wait(&mut events, None).unwrap();

    drop(old);
    let (c, _d) = pair();
    let new = at(fd, c);
    assert_eq!(new.as_raw_fd(), fd);
    // The same interest as the table has: asyncio would not ask the kernel, and hang.
    reactor.set_interest(fd, Interest::READABLE).unwrap();
    assert_eq!(reactor.watched(), 1);
    assert_eq!(dispatch(&reactor, &mut events), []);
    reactor.set_interest(fd, Interest::WRITABLE).unwrap();
    assert_eq!(poll(&reactor), [(fd, WRITABLE)]);
}

#[test]
fn a_closed_descriptor_can_be_dropped_but_not_watched() {
    let mut reactor: Reactor = Reactor::new().unwrap();
    let (a, _b) = pair();
    let (c, _d) = pair();
    let (first, second) = (at(440, a), at(440, c));
    for fd in [first.as_raw_fd(), second.as_raw_fd()] {
        reactor.set_interest(fd, Interest::BOTH).unwrap();
    }
    let fds = [first.as_raw_fd(), second.as_raw_fd()];
    drop((first, second));
    reactor.set_interest(fds[0], Interest::EMPTY).unwrap();
    let error = reactor.set_interest(fds[1], Interest::READABLE).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    assert_eq!(reactor.watched(), 0);
    assert_eq!(reactor.interest(fds[1]), Interest::EMPTY);
}

#[test]
fn what_was_forgotten_but_not_closed_is_silenced_or_adopted() {
    let mut reactor: Reactor = Reactor::new().unwrap();
    let mut events = Events::new();
    let (a, _b) = pair();
    let fd = a.as_raw_fd();
    reactor.set_interest(fd, Interest::WRITABLE).unwrap();
    reactor.forget(fd);
    assert_eq!(reactor.watched(), 0);
    assert_eq!(poll(&reactor), []);
    // The first report was ignored; there is no second that would keep the loop awake.
    reactor
        .poller()
        .wait(&mut events, Some(std::time::Duration::ZERO))
        .unwrap();
    assert!(events.is_empty());

    // Forgotten and wanted again before any report: the kernel has it still (EEXIST).
    reactor.set_interest(fd, Interest::READABLE).unwrap();
    reactor.forget(fd);
    reactor.set_interest(fd, Interest::WRITABLE).unwrap();
    assert_eq!(poll(&reactor), [(fd, WRITABLE)]);
}

#[test]
fn what_was_closed_while_a_duplicate_lives_wakes_nobody_twice() {
    let mut reactor: Reactor = Reactor::new().unwrap();
    let mut events = Events::new();
    let (a, _b) = pair();
    let (c, _d) = pair();
    let closed = at(450, a);
    let fd = closed.as_raw_fd();
    let _duplicate = closed.try_clone().unwrap();
    for fd in [fd, c.as_raw_fd()] {
        reactor.set_interest(fd, Interest::WRITABLE).unwrap();
    }
    drop(closed);
    reactor.set_interest(fd, Interest::EMPTY).unwrap();
    assert_eq!(poll(&reactor), [(c.as_raw_fd(), WRITABLE)]);
    reactor.shed_orphans().unwrap();
    reactor.set_interest(c.as_raw_fd(), Interest::EMPTY).unwrap();
    reactor
        .poller()
        .wait(&mut events, Some(std::time::Duration::ZERO))
        .unwrap();
    assert!(events.is_empty());
    // The others are watched as before.
    reactor.set_interest(c.as_raw_fd(), Interest::WRITABLE).unwrap();
    assert_eq!(poll(&reactor), [(c.as_raw_fd(), WRITABLE)]);
}
