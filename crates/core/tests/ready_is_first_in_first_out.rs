//! The ready queue keeps the order of `call_soon`, and hands its items out whole.

use aioxide_core::Ready;

#[test]
fn items_come_out_in_the_order_they_went_in() {
    let mut ready = Ready::new();
    for item in 0..5 {
        ready.push_back(item);
    }
    ready.push_front(-1);
    assert_eq!(ready.len(), 6);
    assert_eq!(ready.iter().copied().collect::<Vec<_>>(), [-1, 0, 1, 2, 3, 4]);
    assert_eq!(ready.pop_front(), Some(-1));
    assert_eq!(ready.pop_front(), Some(0));
    assert_eq!(ready.drain(), [1, 2, 3, 4]);
    assert!(ready.is_empty());
    assert_eq!(ready.pop_front(), None);
}

#[test]
fn a_turn_runs_what_was_there_at_its_beginning() {
    let mut ready = Ready::new();
    ready.push_back(1);
    ready.push_back(2);
    let mut ran = Vec::new();
    for _ in 0..ready.len() {
        if let Some(item) = ready.pop_front() {
            ran.push(item);
            ready.push_back(item * 10);
        }
    }
    assert_eq!(ran, [1, 2]);
    assert_eq!(ready.drain(), [10, 20]);
}
