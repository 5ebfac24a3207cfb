//! The clock is Python's, the test clock moves when told, and timeouts are never too short.

use std::sync::Arc;
use std::time::Duration;

use aioxide_core::{Clock, Monotonic, TestClock, timeout_until};

#[test]
fn it_is_the_systems_monotonic_clock_and_never_steps_back() {
    let system = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        (now.tv_sec * 1_000_000_000 + now.tv_nsec) as f64 / 1e9
    };
    let mut last = system();
    for _ in 0..10_000 {
        let now = Monotonic.now();
        assert!(now >= last);
        last = system();
        assert!(last >= now);
    }
}

#[test]
fn the_test_clock_moves_only_when_told() {
    let clock = Arc::new(TestClock::new(10.0));
    let seen_by_the_loop = Arc::clone(&clock);
    assert_eq!(seen_by_the_loop.now(), 10.0);
    clock.advance(2.5);
    assert_eq!(seen_by_the_loop.now(), 12.5);
    clock.set(100.0);
    assert_eq!(seen_by_the_loop.now(), 100.0);
}

#[test]
fn a_timeout_is_rounded_up_and_kept_within_asyncios_bounds() {
    assert_eq!(timeout_until(1.5, 1.0), Duration::from_millis(500));
    assert_eq!(timeout_until(1e-10, 0.0), Duration::from_nanos(1));
    assert_eq!(timeout_until(1.0, 1.0), Duration::ZERO);
    assert_eq!(timeout_until(0.0, 1.0), Duration::ZERO);
    assert_eq!(timeout_until(f64::INFINITY, 1.0), Duration::from_secs(24 * 3600));
    assert_eq!(timeout_until(f64::NEG_INFINITY, 1.0), Duration::ZERO);
    assert_eq!(timeout_until(f64::NAN, 1.0), Duration::ZERO);
}
