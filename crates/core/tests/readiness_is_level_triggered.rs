//! What is ready is told, as often as it is looked for, to whom asked for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "the other side of a test is a thread that sleeps"
)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use aioxide_core::{Events, Interest, Reactor};
use support::{BOTH, LONG, READABLE, WRITABLE, at, pair, poll, wait};

#[test]
fn a_socket_is_readable_until_it_is_read() {
    let (mut a, mut b) = pair();
    let mut reactor: Reactor = Reactor::new().unwrap();
    reactor.set_interest(a.as_raw_fd(), Interest::READABLE).unwrap();
    assert_eq!(poll(&reactor), []);
    b.write_all(b"hello").unwrap();
    assert_eq!(poll(&reactor), [(a.as_raw_fd(), READABLE)]);
    assert_eq!(poll(&reactor), [(a.as_raw_fd(), READABLE)]);
    a.read_exact(&mut [0; 5]).unwrap();
    assert_eq!(poll(&reactor), []);
}

#[test]
fn only_what_was_asked_for_is_told() {
    let (a, mut b) = pair();
    let fd = a.as_raw_fd();
    b.write_all(b"hello").unwrap();
    let mut reactor: Reactor = Reactor::new().unwrap();
    for (interest, expected) in [
        (Interest::READABLE, READABLE),
        (Interest::BOTH, BOTH),
        (Interest::WRITABLE, WRITABLE),
    ] {
        reactor.set_interest(fd, interest).unwrap();
        assert_eq!(reactor.interest(fd), interest);
        assert_eq!(poll(&reactor), [(fd, expected)]);
        assert_eq!(reactor.watched(), 1);
    }
    reactor.set_interest(fd, Interest::EMPTY).unwrap();
    assert_eq!(poll(&reactor), []);
    assert_eq!(reactor.watched(), 0);
}

#[test]
fn a_pipe_wakes_a_wait_without_end() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut reactor: Reactor = Reactor::new().unwrap();
    reactor
        .set_interest(reader.as_raw_fd(), Interest::READABLE)
        .unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            rustix::io::write(&writer, b"x").unwrap();
        });
        assert_eq!(wait(&reactor, None), [(reader.as_raw_fd(), READABLE)]);
    });
}

#[test]
fn an_interest_may_change_while_another_thread_waits() {
    let (a, _b) = pair();
    let mut reactor: Reactor = Reactor::new().unwrap();
    let poller = reactor.poller();
    let mut events = std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let mut events = Events::new();
            poller.wait(&mut events, Some(LONG)).unwrap();
            events
        });
        std::thread::sleep(Duration::from_millis(20));
        reactor.set_interest(a.as_raw_fd(), Interest::WRITABLE).unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(
        support::dispatch(&reactor, &mut events),
        [(a.as_raw_fd(), WRITABLE)]
    );
}

#[test]
fn an_interest_that_was_dropped_after_the_wait_is_not_told() {
    let (a, mut b) = pair();
    let fd = a.as_raw_fd();
    b.write_all(b"hello").unwrap();
    let mut reactor: Reactor = Reactor::new().unwrap();
    let mut events = Events::new();
    reactor.set_interest(fd, Interest::BOTH).unwrap();
    reactor.poller().wait(&mut events, None).unwrap();
    reactor.set_interest(fd, Interest::READABLE).unwrap();
    assert_eq!(support::dispatch(&reactor, &mut events), [(fd, READABLE)]);
}

#[test]
fn the_buffer_grows_when_it_was_full() {
    let (a, _b) = pair();
    let mut reactor: Reactor = Reactor::new().unwrap();
    let mut events = Events::new();
    let copies: Vec<_> = (0..events.capacity() + 44)
        .map(|_| at(0, a.try_clone().unwrap()))
        .collect();
    for copy in &copies {
        reactor
            .set_interest(copy.as_raw_fd(), Interest::WRITABLE)
            .unwrap();
    }
    assert_eq!(reactor.watched(), 300);
    let poller = reactor.poller();
    poller.wait(&mut events, None).unwrap();
    assert_eq!((events.len(), events.capacity()), (256, 512));
    poller.wait(&mut events, None).unwrap();
    assert_eq!((events.len(), events.capacity()), (300, 512));
    assert_eq!(support::dispatch(&reactor, &mut events).len(), 300);
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let mut reactor: Reactor = Reactor::new().unwrap();
    let mut refused = |fd| reactor.set_interest(fd, Interest::READABLE).unwrap_err();
    assert_eq!(refused(file.as_raw_fd()).kind(), ErrorKind::PermissionDenied);
    for nonsense in [-1, i32::MIN, i32::MAX] {
        assert_eq!(refused(nonsense).raw_os_error(), Some(libc::EBADF));
    }
    assert_eq!(reactor.watched(), 0);
    assert_eq!(reactor.interest(-1), Interest::EMPTY);
    reactor.set_interest(-1, Interest::EMPTY).unwrap();
    reactor.forget(-1);
}

#[test]
fn the_waker_cannot_be_taken_over() {
    let mut reactor: Reactor = Reactor::new().unwrap();
    let fd = reactor.waker().fd();
    assert_eq!(
        reactor.set_interest(fd, Interest::WRITABLE).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    reactor.waker().park();
    reactor.waker().wake();
    let mut events = Events::new();
    reactor.poller().wait(&mut events, Some(LONG)).unwrap();
    assert_eq!(events.len(), 1);
}
