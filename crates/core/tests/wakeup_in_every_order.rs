//! The protocol of `sys/parked.rs` in every order that threads and memory allow: no wake-up is lost, and one write is
//! enough for many. Its own source, with loom's atomics in place of the standard library's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "`is_parked` is for those who watch")]
#[path = "../src/sys/parked.rs"]
mod parked;

use loom::sync::atomic::{self, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use parked::Parked;

/// The loop's side of things, and what producers touch.
struct Loop {
    parked: Parked,
    /// The queue: relaxed, so that only the protocol can make an item visible.
    pushed: AtomicUsize,
    /// The eventfd: how often it was written to and not reported yet.
    written: Mutex<usize>,
    readable: Condvar,
    writes: AtomicUsize,
}

impl Loop {
    fn new() -> Self {
        Self {
            parked: Parked::new(),
            pushed: AtomicUsize::new(0),
            written: Mutex::new(0),
            readable: Condvar::new(),
            writes: AtomicUsize::new(0),
        }
    }

    /// What `call_soon_threadsafe` does.
    fn push(&self) {
        self.pushed.fetch_add(1, Ordering::Relaxed);
        if self.parked.claim() {
            self.writes.fetch_add(1, Ordering::Relaxed);
            *self.written.lock().unwrap() += 1;
            self.readable.notify_one();
        }
    }

    /// Turns until that many items were seen. A lost wake-up is a deadlock here, which loom reports.
    fn run_until(&self, items: usize) {
        loop {
            self.parked.park();
            if self.pushed.load(Ordering::Relaxed) < items {
                let mut written = self.written.lock().unwrap();
                while *written == 0 {
                    written = self.readable.wait(written).unwrap();
                }
                *written = 0;
            }
            self.parked.unpark();
            if self.pushed.load(Ordering::Relaxed) == items {
                return;
            }
        }
    }
}

#[test]
fn no_wake_up_is_lost() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new(Loop::new());
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || shared.push())
            })
            .collect();
        shared.run_until(2);
        for producer in producers {
            producer.join().unwrap();
        }
        assert!(shared.writes.load(Ordering::Relaxed) <= 2);
    });
}

#[test]
fn a_sleeping_loop_costs_one_write() {
    loom::model(|| {
        let shared = Arc::new(Loop::new());
        shared.parked.park();
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || shared.push())
            })
            .collect();
        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!(shared.writes.load(Ordering::Relaxed), 1);
        assert_eq!(shared.pushed.load(Ordering::Relaxed), 2);
    });
}
