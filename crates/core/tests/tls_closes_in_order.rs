//! The states of a TLS connection: asyncio's ways between them, and no other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aioxide_core::tls::{App, Close, End, Feed, Machine, Pressure, State, Valve, Write};
use proptest::prelude::*;

fn wrapped() -> Machine {
    let mut machine = Machine::new(true);
    machine.start().unwrap();
    machine.handshaken().unwrap();
    assert!(machine.tell_made());
    machine
}

#[test]
fn a_connection_goes_through_all_states() {
    let mut machine = Machine::new(true);
    assert_eq!(machine.received(), Feed::Nothing);
    machine.start().unwrap();
    assert_eq!(machine.received(), Feed::Handshake);
    machine.handshaken().unwrap();
    assert!(machine.tell_made());
    assert_eq!(machine.received(), Feed::Read);
    assert_eq!(machine.close(), Close::Flush);
    assert_eq!(machine.received(), Feed::Flush);
    assert!(machine.flushed());
    assert_eq!(machine.received(), Feed::Shutdown);
    assert!(machine.tell_end());
    assert!(machine.lose());
    assert_eq!((machine.state(), machine.app()), (State::Unwrapped, App::Lost));
}

#[test]
fn a_second_start_is_refused() {
    let mut machine = wrapped();
    let refused = machine.start().unwrap_err();
    assert_eq!(
        (refused.from.name(), refused.to.name()),
        ("WRAPPED", "DO_HANDSHAKE")
    );
    assert!(machine.handshaken().is_err());
}

#[test]
fn before_the_handshake_closing_is_aborting() {
    let mut machine = Machine::new(true);
    assert_eq!(machine.close(), Close::Already);
    machine.start().unwrap();
    assert_eq!(machine.close(), Close::Abort);
    assert!(machine.handshake_is_late());
    assert!(!machine.lose(), "a protocol that was never made hears of no loss");
}

#[test]
fn a_protocol_that_was_made_before_is_not_made_again() {
    let mut machine = Machine::new(false);
    machine.start().unwrap();
    machine.handshaken().unwrap();
    assert!(!machine.tell_made());
    assert!(machine.lose());
}

#[test]
fn the_end_waits_for_a_protocol_that_does_not_read() {
    let mut machine = wrapped();
    machine.reading_paused = true;
    assert_eq!(machine.received_end(), End::Wait);
    assert!(machine.ended() && machine.shutdown_is_late());
    assert_eq!(machine.received(), Feed::Flush);
    assert_eq!(machine.received_end(), End::WriteAndShutdown);
}

#[test]
fn the_end_without_close_notify_is_an_end() {
    let mut machine = wrapped();
    assert_eq!(machine.received_end(), End::Flush);
    assert!(machine.flushed());
    assert_eq!(machine.received_end(), End::Shutdown);
    assert!(machine.tell_end() && !machine.tell_end());
}

#[test]
fn the_end_of_a_handshake_is_a_failure() {
    let mut machine = Machine::new(true);
    assert_eq!(machine.received_end(), End::Nothing);
    machine.start().unwrap();
    assert_eq!(machine.received_end(), End::HandshakeFailed);
}

#[test]
fn writes_wait_for_the_handshake_and_are_refused_after_the_close() {
    let mut machine = Machine::new(true);
    assert_eq!(machine.write(), Write::Refused(0));
    machine.start().unwrap();
    assert_eq!(machine.write(), Write::Keep);
    machine.handshaken().unwrap();
    assert_eq!(machine.write(), Write::Now);
    assert_eq!(machine.close(), Close::Flush);
    assert_eq!(machine.write(), Write::Refused(1));
    assert_eq!(machine.write(), Write::Refused(2));
    assert_eq!(machine.lost_count(), 3);
}

#[test]
fn an_aborted_connection_is_not_shut_down() {
    let mut machine = wrapped();
    assert_eq!(machine.close(), Close::Flush);
    machine.unwrap();
    assert!(!machine.flushed());
    assert_eq!(machine.state(), State::Unwrapped);
}

#[test]
fn the_valve_stops_at_the_high_mark_and_opens_at_the_low_one() {
    let mut valve = Valve::new(10, 2);
    assert_eq!(valve.measure(9), Pressure::Fine);
    assert_eq!(valve.measure(10), Pressure::Stop);
    assert_eq!(valve.measure(11), Pressure::Fine);
    assert_eq!(valve.measure(3), Pressure::Fine);
    assert!(valve.is_shut());
    assert_eq!(valve.measure(2), Pressure::Resume);
    valve.set(0, 0);
    assert_eq!(valve.marks(), (0, 0));
    assert_eq!(valve.measure(0), Pressure::Stop);
    assert_eq!(valve.measure(0), Pressure::Resume);
}

/// Something that happens to a connection.
#[derive(Clone, Copy, Debug)]
enum Event {
    Start,
    Handshaken,
    Made,
    Bytes,
    End,
    Write,
    Close,
    Flushed,
    TellEnd,
    Abort,
    Lose,
    Pause(bool),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = prop_oneof![
        Just(Event::Start),
        Just(Event::Handshaken),
        Just(Event::Made),
        Just(Event::Bytes),
        Just(Event::End),
        Just(Event::Write),
        Just(Event::Close),
        Just(Event::Flushed),
        Just(Event::TellEnd),
        Just(Event::Abort),
        Just(Event::Lose),
        any::<bool>().prop_map(Event::Pause),
    ];
    prop::collection::vec(one, 0..40)
}

proptest! {
    #[test]
    fn whatever_happens_the_protocol_is_told_in_order_and_once(events in events()) {
        let mut machine = Machine::new(true);
        let mut told = Vec::new();
        for event in events {
            let before = machine.state();
            match event {
                Event::Start => prop_assert_eq!(machine.start().is_ok(), before == State::Unwrapped),
                Event::Handshaken => {
                    prop_assert_eq!(machine.handshaken().is_ok(), before == State::Handshake);
                }
                Event::Made if machine.state() == State::Wrapped => {
                    if machine.tell_made() {
                        told.push("made");
                    }
                }
                Event::TellEnd => {
                    if machine.tell_end() {
                        told.push("end");
                    }
                }
                Event::Lose => {
                    if machine.lose() {
                        told.push("lost");
                    }
                    prop_assert_eq!(machine.state(), State::Unwrapped);
                }
                Event::Bytes => {
                    let _ = machine.received();
                }
                Event::End => {
                    let end = machine.received_end();
                    prop_assert_eq!(end == End::Nothing, before == State::Unwrapped);
                }
                Event::Write => {
                    let now = machine.write() == Write::Now;
                    prop_assert_eq!(now, before == State::Wrapped);
                }
                Event::Close => {
                    let flush = machine.close() == Close::Flush;
                    prop_assert_eq!(flush, before == State::Wrapped);
                }
                Event::Flushed => prop_assert_eq!(machine.flushed(), before == State::Flushing),
                Event::Abort => machine.unwrap(),
                Event::Pause(paused) => machine.reading_paused = paused,
                Event::Made => {}
            }
        }
        let orders: [&[&str]; 5] = [&[], &["made"], &["made", "end"], &["made", "lost"], &["made", "end", "lost"]];
        prop_assert!(orders.contains(&told.as_slice()), "{told:?}");
    }
}
