//! A wait ends when it should: neither sooner nor by spinning, and at once for a signal.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "the other side of a test is a thread that sleeps"
)]
#![allow(unsafe_code, reason = "sends itself a signal")]

mod support;

use std::io::ErrorKind;
use std::sync::mpsc;
use std::time::Duration;

use aioxide_core::{Clock, Events, Monotonic, Reactor, timeout_until};
use support::LONG;

#[test]
fn a_wait_below_a_millisecond_takes_its_time_in_one_go() {
    let reactor: Reactor = Reactor::new().unwrap();
    let poller = reactor.poller();
    let mut events = Events::new();
    for microseconds in [1, 50, 300, 999, 1500, 3001] {
        let deadline = Monotonic.now() + f64::from(microseconds) * 1e-6;
        let mut waits = 0;
        while Monotonic.now() < deadline {
            poller
                .wait(&mut events, Some(timeout_until(deadline, Monotonic.now())))
                .unwrap();
            waits += 1;
        }
        assert!(waits <= 1, "{microseconds} µs took {waits} waits");
    }
}

#[test]
fn a_zero_timeout_does_not_block() {
    let reactor: Reactor = Reactor::new().unwrap();
    let mut events = Events::new();
    reactor.poller().wait(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty());
}

#[test]
fn a_signal_ends_it_so_that_its_handler_can_run() {
    extern "C" fn handler(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = handler;
    // SAFETY: the handler does nothing. Nobody else in this process uses SIGUSR1.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };

    let reactor: Reactor = Reactor::new().unwrap();
    let poller = reactor.poller();
    let (send, receive) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        // SAFETY: it has no preconditions.
        send.send(unsafe { libc::pthread_self() }).unwrap();
        poller.wait(&mut Events::new(), Some(LONG))
    });
    let thread = receive.recv().unwrap();
    // A signal before the wait begins is in vain: send another until one has hit.
    while !waiting.is_finished() {
        // SAFETY: the thread is not joined yet, so its id is good.
        unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(
        waiting.join().unwrap().unwrap_err().kind(),
        ErrorKind::Interrupted
    );
}
