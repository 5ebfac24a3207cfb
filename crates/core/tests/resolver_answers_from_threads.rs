//! The resolver answers what it is asked, wakes the loop, and lets its threads go.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use aioxide_core::names::{Failure, Question};
use aioxide_core::{Events, Reactor, Resolver};
use std::ffi::CString;
use std::time::Duration;

fn question(host: &str) -> Question {
    Question {
        host: Some(CString::new(host).unwrap()),
        service: Some(CString::new("80").unwrap()),
        family: libc::AF_UNSPEC,
        kind: libc::SOCK_STREAM,
        protocol: 0,
        flags: libc::AI_NUMERICHOST,
    }
}

/// Sleeps as a loop does, until everything has been answered.
fn collect(reactor: &mut Reactor, resolver: &Resolver, count: usize) -> Vec<(u64, bool)> {
    let (poller, waker, mut events) = (reactor.poller(), reactor.waker().clone(), Events::new());
    let mut found = Vec::new();
    while found.len() < count {
        waker.park();
        if !resolver.has_answers() {
            poller.wait(&mut events, Some(Duration::from_secs(20))).unwrap();
            assert!(events.iter().next().is_some(), "an answer has not woken the loop");
        }
        waker.unpark();
        reactor.dispatch(&mut events, |_, _| {});
        for (number, answer) in resolver.answers() {
            match &answer {
                Ok(lines) => assert_eq!(lines.len(), 1),
                Err(Failure::Name(code)) => assert_eq!(*code, libc::EAI_NONAME),
                Err(Failure::System(error)) => panic!("{error}"),
            }
            found.push((number, answer.is_ok()));
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn every_question_is_answered_once() {
    let mut reactor: Reactor = Reactor::new().unwrap();
    let resolver = Resolver::new(reactor.waker().clone());
    for round in 0..50 {
        let numbers: Vec<(u64, bool)> = (0..20)
            .map(|index| {
                let good = index % 3 != 0;
                let host = if good { "::1" } else { "no address" };
                (resolver.ask(question(host)).unwrap(), good)
            })
            .collect();
        assert_eq!(collect(&mut reactor, &resolver, 20), numbers, "round {round}");
        assert!(resolver.threads() <= aioxide_core::resolver::MOST_THREADS);
    }
}

#[test]
fn what_is_forgotten_is_not_asked() {
    let mut reactor: Reactor = Reactor::new().unwrap();
    let resolver = Resolver::new(reactor.waker().clone());
    let numbers: Vec<u64> = (0..100)
        .map(|_| resolver.ask(question("127.0.0.1")).unwrap())
        .collect();
    for number in &numbers[1..] {
        resolver.forget(*number);
    }
    let first = collect(&mut reactor, &resolver, 1);
    assert!(!first.is_empty());
}

#[test]
fn dropping_it_waits_for_nobody() {
    let reactor: Reactor = Reactor::new().unwrap();
    for _ in 0..20 {
        let resolver = Resolver::new(reactor.waker().clone());
        for _ in 0..10 {
            resolver.ask(question("127.0.0.1")).unwrap();
        }
    }
}
