//! What the reactor asks of a backend, call by call, against one that replays a script.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use aioxide_core::sys::scripted::{Call, Step};
use aioxide_core::{Events, Interest, Reactor, Scripted, Token};
use support::{BOTH, LONG, READABLE, WRITABLE, dispatch, wait};

/// The descriptors in this file are made up, and so high that none of them is the waker's, which is real.
fn reactor() -> Reactor<Scripted> {
    let reactor: Reactor<Scripted> = Reactor::new().unwrap();
    let fd = reactor.waker().fd();
    assert_eq!(
        reactor.backend().calls(),
        [Call::Add(fd, Token::WAKER, Interest::READABLE)]
    );
    reactor
}

#[test]
fn a_token_keeps_what_it_was_made_of() {
    for (fd, generation) in [(0, 0), (7, 1), (i32::MAX, u32::MAX)] {
        let token = Token::from_bits(Token::new(fd, generation).to_bits());
        assert_eq!((token.fd(), token.generation()), (fd, generation));
        assert_ne!(token, Token::WAKER);
    }
}

#[test]
fn each_change_is_one_call_and_each_registration_a_generation() {
    let mut reactor = reactor();
    reactor.set_interest(1007, Interest::EMPTY).unwrap();
    reactor.set_interest(1007, Interest::READABLE).unwrap();
    reactor.set_interest(1007, Interest::BOTH).unwrap();
    reactor.set_interest(1007, Interest::EMPTY).unwrap();
    reactor.set_interest(1007, Interest::WRITABLE).unwrap();
    assert_eq!(
        reactor.backend().calls(),
        [
            Call::Add(1007, Token::new(1007, 0), Interest::READABLE),
            Call::Modify(1007, Token::new(1007, 0), Interest::BOTH),
            Call::Delete(1007),
            Call::Add(1007, Token::new(1007, 1), Interest::WRITABLE),
        ]
    );
}

#[test]
fn a_lost_registration_is_added_again_as_a_new_one() {
    let mut reactor = reactor();
    reactor.set_interest(1007, Interest::READABLE).unwrap();
    reactor.backend().close(1007);
    reactor.set_interest(1007, Interest::WRITABLE).unwrap();
    assert_eq!(
        reactor.backend().calls()[1..],
        [
            Call::Modify(1007, Token::new(1007, 0), Interest::WRITABLE),
            Call::Add(1007, Token::new(1007, 1), Interest::WRITABLE),
        ]
    );
    assert_eq!(
        (reactor.watched(), reactor.interest(1007)),
        (1, Interest::WRITABLE)
    );

    reactor.backend().close(1007);
    reactor.set_interest(1007, Interest::EMPTY).unwrap();
    assert_eq!(reactor.watched(), 0);
}

#[test]
fn a_registration_that_we_forgot_is_taken_over() {
    let mut reactor = reactor();
    reactor.set_interest(1007, Interest::READABLE).unwrap();
    reactor.forget(1007);
    reactor.set_interest(1007, Interest::WRITABLE).unwrap();
    assert_eq!(
        reactor.backend().registration(1007),
        Some((Token::new(1007, 1), Interest::WRITABLE))
    );
    assert_eq!(reactor.watched(), 1);
}

#[test]
fn events_are_told_in_the_kernels_order_and_cut_to_the_interest() {
    let mut reactor = reactor();
    reactor.set_interest(1009, Interest::BOTH).unwrap();
    reactor.set_interest(1003, Interest::READABLE).unwrap();
    reactor.set_interest(1005, Interest::WRITABLE).unwrap();
    reactor.backend().then(Step::Ready(vec![
        (1009, BOTH),
        (1005, READABLE),
        (1003, BOTH),
        (1004, BOTH),
    ]));
    assert_eq!(wait(&reactor, None), [(1009, BOTH), (1003, READABLE)]);
}

#[test]
fn stale_tokens_reach_nobody_and_orphans_are_disarmed() {
    let mut reactor = reactor();
    reactor.set_interest(1007, Interest::READABLE).unwrap();
    reactor.set_interest(1007, Interest::EMPTY).unwrap();
    reactor.set_interest(1007, Interest::READABLE).unwrap();
    let _ = reactor.backend().calls();
    reactor.backend().then(Step::Tokens(vec![
        (Token::new(1007, 0), READABLE),
        (Token::new(1008, 0), READABLE),
        (Token::new(1007, 1), READABLE),
    ]));
    assert_eq!(wait(&reactor, Some(LONG)), [(1007, READABLE)]);
    assert_eq!(
        reactor.backend().calls(),
        [Call::Wait(Some(LONG)), Call::Delete(1008)]
    );
}

#[test]
fn a_wait_passes_on_its_timeout_and_how_it_ended() {
    let reactor = reactor();
    let poller = reactor.poller();
    let mut events = Events::new();
    reactor.backend().then(Step::Interrupted);
    reactor.backend().then(Step::TimedOut);
    let error = poller.wait(&mut events, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    poller
        .clone()
        .wait(&mut events, Some(Duration::from_nanos(1)))
        .unwrap();
    assert_eq!(
        reactor.backend().calls(),
        [Call::Wait(None), Call::Wait(Some(Duration::from_nanos(1)))]
    );
    assert!(events.is_empty());
}

#[test]
fn an_error_leaves_no_events_of_the_wait_before() {
    let mut reactor = reactor();
    let mut events = Events::new();
    reactor.set_interest(1007, Interest::BOTH).unwrap();
    reactor.backend().then(Step::Ready(vec![(1007, WRITABLE)]));
    reactor.backend().then(Step::Interrupted);
    reactor.poller().wait(&mut events, None).unwrap();
    assert_eq!(events.len(), 1);
    reactor.poller().wait(&mut events, None).unwrap_err();
    assert_eq!(dispatch(&reactor, &mut events), []);
}

#[test]
fn after_a_fork_all_is_registered_again() {
    let mut reactor = reactor();
    reactor.set_interest(1003, Interest::READABLE).unwrap();
    reactor.set_interest(1005, Interest::READABLE).unwrap();
    reactor.set_interest(1005, Interest::EMPTY).unwrap();
    reactor.set_interest(1007, Interest::WRITABLE).unwrap();
    let _ = reactor.backend().calls();
    reactor.reopen_after_fork().unwrap();
    assert_eq!(
        reactor.backend().calls(),
        [
            Call::Reopen,
            Call::Add(reactor.waker().fd(), Token::WAKER, Interest::READABLE),
            Call::Add(1003, Token::new(1003, 0), Interest::READABLE),
            Call::Add(1007, Token::new(1007, 0), Interest::WRITABLE),
        ]
    );
}
