//! A forked child has values of its own, whatever its process id is.

use aioxide_core::{PerProcess, forks};
use std::sync::Mutex;

static VALUE: PerProcess<Mutex<u32>> = PerProcess::new();

#[test]
fn a_child_begins_with_a_new_value_though_its_process_id_may_be_its_parents() {
    *VALUE.lock() = 5;
    let held = VALUE.lock(); // by a thread that the child does not have
    forks::note();
    assert_eq!(*VALUE.lock(), 0);
    *VALUE.lock() = 6;
    assert_eq!((*VALUE.lock(), *held), (6, 5));
}
