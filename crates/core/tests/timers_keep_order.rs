//! Timers: the earliest first, equal ones first in first out, the cancelled ones purged as asyncio does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::rc::Rc;

use aioxide_core::{RESOLUTION, Timers};

fn popped<T>(timers: &mut Timers<T>) -> Vec<T> {
    std::iter::from_fn(|| timers.pop().map(|(_, item)| item)).collect()
}

#[test]
fn equal_deadlines_are_first_in_first_out() {
    let mut timers = Timers::new();
    for item in 0..1000 {
        timers.push(f64::from(item % 3), item);
    }
    let expected: Vec<_> = (0..3)
        .flat_map(|rest| (0..1000).filter(move |item| item % 3 == rest))
        .collect();
    assert_eq!(popped(&mut timers), expected);
}

#[test]
fn the_first_can_be_looked_at() {
    let mut timers = Timers::new();
    assert_eq!((timers.peek(), timers.peek_when()), (None, None));
    timers.push(2.0, "b");
    timers.push(1.0, "a");
    assert_eq!((timers.peek(), timers.peek_when()), (Some(&"a"), Some(1.0)));
    assert_eq!(timers.len(), 2);
}

#[test]
fn due_is_strictly_before_the_end() {
    let mut timers = Timers::new();
    timers.push(1.0, ());
    assert_eq!(timers.pop_due(1.0), None);
    assert_eq!(timers.pop_due(1.0 + RESOLUTION), Some((1.0, ())));
    assert_eq!(timers.pop_due(f64::INFINITY), None);
}

#[test]
fn any_number_is_a_deadline() {
    let mut timers = Timers::new();
    let sorted = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1.0,
        -f64::MIN_POSITIVE,
        0.0,
        5e-324,
        1.0,
        f64::MAX,
        f64::INFINITY,
    ];
    for when in sorted.iter().rev() {
        timers.push(*when, *when);
    }
    timers.push(f64::NAN, f64::NAN);
    timers.push(-f64::NAN, -f64::NAN);
    for _ in 0..2 {
        let (when, item) = timers.pop_due(0.0).unwrap();
        assert!(when.is_nan() && item.is_nan());
    }
    for expected in sorted {
        assert_eq!(timers.pop(), Some((expected, expected)));
    }
}

#[test]
fn the_zeros_are_equal() {
    let mut timers = Timers::new();
    timers.push(0.0, "first");
    timers.push(-0.0, "second");
    assert_eq!(popped(&mut timers), ["first", "second"]);
}

#[test]
fn a_purge_is_due_when_more_than_half_of_more_than_a_hundred_are_cancelled() {
    let mut timers = Timers::new();
    for item in 0..100 {
        timers.push(0.0, item);
        timers.note_cancelled();
    }
    assert!(!timers.should_purge());
    timers.push(0.0, 100);
    assert!(timers.should_purge());
    while timers.cancelled() > 51 {
        timers.note_uncounted();
    }
    assert!(timers.should_purge());
    timers.note_uncounted();
    assert!(!timers.should_purge());
}

#[test]
fn a_purge_removes_the_cancelled_and_keeps_the_order() {
    let mut timers = Timers::new();
    for item in 0..300 {
        timers.push(f64::from(item % 7), item);
        if item % 3 != 0 {
            timers.note_cancelled();
        }
    }
    let mut removed = timers.purge(|item| item % 3 != 0);
    removed.sort_unstable();
    assert_eq!(removed, (0..300).filter(|item| item % 3 != 0).collect::<Vec<_>>());
    assert_eq!((timers.len(), timers.cancelled()), (100, 0));
    let expected: Vec<_> = (0..7)
        .flat_map(|rest| (0..300).filter(move |item| item % 3 == 0 && item % 7 == rest))
        .collect();
    assert_eq!(popped(&mut timers), expected);
    // A cancelled one that was popped before the purge may be discounted after it.
    timers.note_uncounted();
    assert_eq!(timers.cancelled(), 0);
}

/// What Python's `__del__` may do: schedule a timer.
struct PushesWhenDropped(Rc<RefCell<Timers<Option<Self>>>>);

impl Drop for PushesWhenDropped {
    fn drop(&mut self) {
        self.0.borrow_mut().push(0.0, None);
    }
}

#[test]
fn a_purged_item_may_push_when_it_is_dropped() {
    let timers = Rc::new(RefCell::new(Timers::new()));
    timers
        .borrow_mut()
        .push(1.0, Some(PushesWhenDropped(Rc::clone(&timers))));
    let removed = timers.borrow_mut().purge(Option::is_some);
    drop(removed);
    assert_eq!(timers.borrow().len(), 1);
    assert_eq!(timers.borrow().peek_when(), Some(0.0));
}

#[test]
fn draining_takes_all() {
    let mut timers = Timers::new();
    for item in 0..10 {
        timers.push(f64::from(-item), item);
    }
    timers.note_cancelled();
    assert_eq!(timers.iter().sum::<i32>(), 45);
    let mut items = timers.drain();
    items.sort_unstable();
    assert_eq!(items, (0..10).collect::<Vec<_>>());
    assert!(timers.is_empty());
    assert_eq!(timers.cancelled(), 0);
}
