//! Whatever is done to them, timers behave as a list that is kept sorted by hand.

use aioxide_core::Timers;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Push(f64),
    Pop,
    PopDue(f64),
    Purge(usize),
    Drain,
}

/// Few different deadlines, so that many are equal, and all the odd ones.
fn when() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0_u8..6).prop_map(f64::from),
        1 => any::<f64>(),
        1 => prop::sample::select(vec![f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => when().prop_map(Op::Push),
        4 => Just(Op::Pop),
        4 => when().prop_map(Op::PopDue),
        1 => (2_usize..4).prop_map(Op::Purge),
        1 => Just(Op::Drain),
    ]
}

/// `a < b`, where NaN is less than all others.
fn before(a: f64, b: f64) -> bool {
    a < b || (a.is_nan() && !b.is_nan())
}

fn same(a: Option<(f64, usize)>, b: Option<(f64, usize)>) -> bool {
    match (a, b) {
        (Some((a, i)), Some((b, j))) => i == j && (a == b || (a.is_nan() && b.is_nan())),
        (a, b) => a.is_none() && b.is_none(),
    }
}

proptest! {
    #[test]
    fn timers_match_a_sorted_list(ops in prop::collection::vec(op(), 0..200)) {
        let mut timers = Timers::new();
        let mut model: Vec<(f64, usize)> = Vec::new();
        for (id, op) in ops.into_iter().enumerate() {
            match op {
                Op::Push(when) => {
                    timers.push(when, id);
                    // Behind those that are equal.
                    let place = model.iter().position(|(other, _)| before(when, *other)).unwrap_or(model.len());
                    model.insert(place, (when, id));
                }
                Op::Pop => {
                    let expected = (!model.is_empty()).then(|| model.remove(0));
                    prop_assert!(same(timers.pop(), expected));
                }
                Op::PopDue(end) => {
                    let due = model.first().is_some_and(|(when, _)| before(*when, end));
                    let expected = due.then(|| model.remove(0));
                    prop_assert!(same(timers.pop_due(end), expected));
                }
                Op::Purge(nth) => {
                    let mut removed = timers.purge(|id| id % nth == 0);
                    removed.sort_unstable();
                    let (gone, kept): (Vec<_>, Vec<_>) = model.into_iter().partition(|(_, id)| id % nth == 0);
                    let mut gone: Vec<_> = gone.into_iter().map(|(_, id)| id).collect();
                    gone.sort_unstable();
                    prop_assert_eq!(removed, gone);
                    model = kept;
                }
                Op::Drain => {
                    let mut all = timers.drain();
                    all.sort_unstable();
                    let mut expected: Vec<_> = model.drain(..).map(|(_, id)| id).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(all, expected);
                }
            }
            prop_assert_eq!(timers.len(), model.len());
            let first = timers.peek_when().zip(timers.peek().copied());
            prop_assert!(same(first, model.first().copied()));
        }
        for expected in model {
            prop_assert!(same(timers.pop(), Some(expected)));
        }
        prop_assert!(timers.is_empty());
    }
}
