//! A producer's wake-up reaches the loop whenever it comes, and many cost one system call.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "the other side of a test is a thread that sleeps"
)]

mod support;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aioxide_core::{Events, Reactor};
use support::{LONG, poll};

/// How often the eventfd was written to.
fn written(reactor: &Reactor) -> u64 {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", reactor.waker().fd())).unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("eventfd-count:"))
        .unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn nothing_is_written_while_the_loop_is_awake() {
    let reactor: Reactor = Reactor::new().unwrap();
    reactor.waker().wake();
    reactor.waker().park();
    reactor.waker().unpark();
    reactor.waker().wake();
    assert_eq!(written(&reactor), 0);
}

#[test]
fn many_wake_ups_are_one_write() {
    let reactor: Reactor = Reactor::new().unwrap();
    reactor.waker().park();
    for _ in 0..1000 {
        reactor.waker().wake();
    }
    assert!(!reactor.waker().is_parked());
    assert_eq!(written(&reactor), 1);
}

#[test]
fn a_wake_up_before_the_wait_ends_it_once_and_is_not_told() {
    let reactor: Reactor = Reactor::new().unwrap();
    let mut events = Events::new();
    for _ in 0..3 {
        reactor.waker().park();
        reactor.waker().wake();
        reactor.poller().wait(&mut events, None).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(support::dispatch(&reactor, &mut events), []);
        reactor.poller().wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }
    assert_eq!(poll(&reactor), []);
    assert_eq!(reactor.watched(), 0);
}

#[test]
fn a_wake_up_during_the_wait_ends_it() {
    let reactor: Reactor = Reactor::new().unwrap();
    let mut events = Events::new();
    reactor.waker().park();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            reactor.waker().wake();
        });
        reactor.poller().wait(&mut events, None).unwrap();
    });
    assert_eq!(events.len(), 1);
}

/// One loop and two producers, whose steps can be taken in any order.
struct Model {
    reactor: Reactor,
    events: Events,
    /// How many items are in the queue.
    queue: usize,
    /// The loop's steps, which it goes through again and again.
    steps: [Step; 4],
    next: usize,
    /// What the last look found.
    empty: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Park,
    Look,
    Block,
    UnparkAndTake,
}

impl Model {
    /// Takes one step of the loop, and says whether it could: it cannot while it is blocked.
    fn step(&mut self) -> bool {
        match self.steps[self.next] {
            Step::Park => self.reactor.waker().park(),
            Step::Look => self.empty = self.queue == 0,
            Step::Block if self.empty => {
                self.reactor
                    .poller()
                    .wait(&mut self.events, Some(Duration::ZERO))
                    .unwrap();
                if self.events.is_empty() {
                    return false;
                }
                self.reactor.dispatch(&mut self.events, |_, _| ());
            }
            Step::Block => {}
            Step::UnparkAndTake => {
                self.reactor.waker().unpark();
                self.queue = 0;
            }
        }
        self.next = (self.next + 1) % self.steps.len();
        true
    }

    /// Takes the steps in the order of `schedule`, then lets the loop run until it sleeps. Whether an item is
    /// left.
    fn loses(steps: [Step; 4], schedule: &[Option<usize>]) -> bool {
        let reactor = Reactor::new().unwrap();
        let mut model = Self {
            reactor,
            events: Events::new(),
            queue: 0,
            steps,
            next: 0,
            empty: false,
        };
        let mut pushed = [false; 2];
        for actor in schedule {
            match *actor {
                None => {
                    model.step();
                }
                Some(producer) if pushed[producer] => model.reactor.waker().wake(),
                Some(producer) => {
                    model.queue += 1;
                    pushed[producer] = true;
                }
            }
        }
        while model.step() {}
        model.queue > 0
    }
}

/// All orders in which two producers' two steps can fall among twelve steps: three rounds of the loop, or a
/// little less.
fn schedules() -> Vec<Vec<Option<usize>>> {
    const LENGTH: usize = 12;
    let pairs = || (0..LENGTH).flat_map(|first| (first + 1..LENGTH).map(move |second| [first, second]));
    let mut schedules = Vec::new();
    for a in pairs() {
        for b in pairs().filter(|b| !a.contains(&b[0]) && !a.contains(&b[1])) {
            let actor = |step| [a, b].iter().position(|steps| steps.contains(&step));
            schedules.push((0..LENGTH).map(actor).collect());
        }
    }
    schedules
}

#[test]
fn no_order_of_steps_loses_a_wake_up() {
    let steps = [Step::Park, Step::Look, Step::Block, Step::UnparkAndTake];
    assert_eq!(
        schedules()
            .iter()
            .filter(|schedule| Model::loses(steps, schedule))
            .count(),
        0
    );
}

/// Shows that the test above would find a fault, and why the protocol is what it is.
#[test]
fn a_loop_that_looks_before_it_parks_would_lose_some() {
    let steps = [Step::Look, Step::Park, Step::Block, Step::UnparkAndTake];
    assert!(schedules().iter().any(|schedule| Model::loses(steps, schedule)));
}

/// Passes time, a little more or less each round, so that the threads meet at ever other moments.
fn dawdle(round: usize, prime: usize) {
    for _ in 0..round * 7919 % prime {
        std::hint::spin_loop();
    }
}

/// The loop as the protocol describes it, against a producer that adds nothing more until the loop has taken
/// what there is. So no later wake-up can cover for one that was lost: the loop sleeps on, and the wait times
/// out.
#[test]
fn no_wake_up_is_lost_wherever_it_falls() {
    const ROUNDS: usize = 30_000;
    let reactor: Reactor = Reactor::new().unwrap();
    let queue = AtomicUsize::new(0);
    let taken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                dawdle(round, 401);
                queue.fetch_add(1, Ordering::Relaxed);
                reactor.waker().wake();
                while taken.load(Ordering::Acquire) <= round {
                    std::thread::yield_now();
                }
            }
        });
        let poller = reactor.poller();
        let mut events = Events::new();
        for round in 0..ROUNDS {
            while queue.load(Ordering::Relaxed) == 0 {
                dawdle(round, 211);
                reactor.waker().park();
                let empty = queue.load(Ordering::Relaxed) == 0;
                dawdle(round, 307);
                if empty {
                    poller.wait(&mut events, Some(LONG)).unwrap();
                    assert!(!events.is_empty(), "slept through the wake-up of round {round}");
                }
                reactor.waker().unpark();
                reactor.dispatch(&mut events, |_, _| ());
            }
            queue.store(0, Ordering::Relaxed);
            taken.store(round + 1, Ordering::Release);
        }
    });
}

#[test]
fn no_item_is_left_behind_by_many_producers() {
    const PRODUCERS: usize = 4;
    const ITEMS: usize = 5_000;
    let reactor: Reactor = Reactor::new().unwrap();
    let queue = Mutex::new(VecDeque::new());
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (reactor, queue) = (&reactor, &queue);
            scope.spawn(move || {
                for item in 0..ITEMS {
                    queue.lock().unwrap().push_back((producer, item));
                    reactor.waker().wake();
                    dawdle(item, 307);
                }
            });
        }
        let poller = reactor.poller();
        let mut events = Events::new();
        let mut next = [0; PRODUCERS];
        while next != [ITEMS; PRODUCERS] {
            reactor.waker().park();
            if queue.lock().unwrap().is_empty() {
                poller.wait(&mut events, Some(LONG)).unwrap();
                assert!(!events.is_empty(), "slept through a wake-up at {next:?}");
            }
            reactor.waker().unpark();
            reactor.dispatch(&mut events, |_, _| ());
            for (producer, item) in std::mem::take(&mut *queue.lock().unwrap()) {
                assert_eq!(item, next[producer]);
                next[producer] += 1;
            }
        }
    });
}
