//! A forked child makes the reactor its own, and the parent notices nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "forks")]

mod support;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use aioxide_core::{Events, Interest, Reactor};
use support::{LONG, READABLE, WRITABLE, at, dispatch, pair, poll};

/// What a forked child does, and whether all was as expected.
fn in_a_child(body: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child has one thread. What it calls may allocate, for glibc keeps its heap usable across a
    // fork; it neither unwinds out of here nor runs the destructors of the parent's things.
    match unsafe { libc::fork() } {
        -1 => false,
        0 => {
            let passed = catch_unwind(AssertUnwindSafe(body)).unwrap_or(false);
            let code = i32::from(!passed);
            // SAFETY: it has no preconditions.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `child` is our child, and `status` is writable.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            waited == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        }
    }
}

#[test]
fn the_child_watches_on_and_the_parent_notices_nothing() {
    let (a, b) = pair();
    let (closed_in_child, _c) = pair();
    let fd = a.as_raw_fd();
    let mut reactor: Reactor = Reactor::new().unwrap();
    let waker = reactor.waker().clone();
    let poller = reactor.poller();
    reactor.set_interest(fd, Interest::READABLE).unwrap();
    let closed_in_child = at(460, closed_in_child);
    reactor
        .set_interest(closed_in_child.as_raw_fd(), Interest::READABLE)
        .unwrap();
    (&b).write_all(b"hello").unwrap();
    waker.park();

    assert!(in_a_child(|| {
        drop(closed_in_child);
        reactor.reopen_after_fork().is_ok() && {
            // The registrations are there, but for the closed one; the old handles are good.
            let mut events = Events::new();
            let all_there = reactor.watched() == 1
                && poller.wait(&mut events, Some(LONG)).is_ok()
                && dispatch(&reactor, &mut events) == [(fd, READABLE)];
            // The child may do what it likes with its own.
            waker.park();
            waker.wake();
            let woken = poller.wait(&mut events, Some(LONG)).is_ok() && events.len() == 2;
            all_there
                && woken
                && reactor.set_interest(fd, Interest::WRITABLE).is_ok()
                && dispatch(&reactor, &mut events).is_empty()
                && poll(&reactor) == [(fd, WRITABLE)]
                && reactor.set_interest(fd, Interest::EMPTY).is_ok()
                && {
                    // One wake-up that nobody here takes in.
                    waker.park();
                    waker.wake();
                    true
                }
        }
    }));

    // No wake-up from the child, and the interest is what it was.
    let mut events = Events::new();
    reactor.poller().wait(&mut events, Some(LONG)).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(dispatch(&reactor, &mut events), [(fd, READABLE)]);
    assert!(reactor.waker().is_parked());
}

#[test]
fn no_descriptor_leaks_into_a_program_that_is_started() {
    let mut reactor: Reactor = Reactor::new().unwrap();
    reactor.reopen_after_fork().unwrap();
    let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    assert!(
        !listing.contains("eventpoll") && !listing.contains("eventfd"),
        "{listing}"
    );
}
