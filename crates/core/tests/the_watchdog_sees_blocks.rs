//! The thread that watches: it tells of blocks while they last, parks when all loops sleep, and comes back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "plays a loop that blocks")]

use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use aioxide_core::watch::{Block, CALM, Seen, Watched, go_on, pause, set_threshold, unwatch, watch};
use aioxide_core::{Clock, Monotonic, Pulse};

#[derive(Default)]
struct Loop {
    pulse: Pulse,
    blocks: Mutex<Vec<(Block, f64)>>,
    sampled: Mutex<f64>,
    calms: Mutex<u32>,
    seen: Seen,
}

impl Watched for Loop {
    fn pulse(&self) -> &Pulse {
        &self.pulse
    }
    fn blocked(&self, block: &Block) {
        self.blocks.lock().unwrap().push((*block, Monotonic.now()));
    }
    fn sampled(&self, _: f64, seconds: f64) {
        *self.sampled.lock().unwrap() += seconds;
    }
    fn seen(&self, entry: u64, since: f64) {
        self.seen.note(entry, since);
    }
    fn calm(&self) {
        *self.calms.lock().unwrap() += 1;
    }
}

impl Loop {
    fn rest(&self, seconds: f64) {
        self.pulse.sleeps();
        sleep(Duration::from_secs_f64(seconds));
        self.pulse.wakes(Monotonic.now());
        self.pulse.goes_on(Monotonic.now());
    }

    /// A callback that takes so long; when it began.
    fn call(&self, seconds: f64) -> f64 {
        let _ = self.pulse.count();
        let began = Monotonic.now();
        sleep(Duration::from_secs_f64(seconds));
        began
    }

    fn told(&self) -> Vec<(Block, f64)> {
        std::mem::take(&mut self.blocks.lock().unwrap())
    }
}

/// How often the watcher has slept, as the kernel counts. `None`: there is none.
fn switches_of_watcher() -> Option<u64> {
    let mut found = None;
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let folder = thread.unwrap().path();
        if std::fs::read_to_string(folder.join("comm")).unwrap().trim() == "aioxide-watch" {
            let status = std::fs::read_to_string(folder.join("status")).unwrap();
            let line = status
                .lines()
                .find(|line| line.starts_with("voluntary_ctxt_switches"))
                .unwrap();
            assert!(found.is_none(), "there are two");
            found = line.split_whitespace().last().unwrap().parse().ok();
        }
    }
    found
}

// One test: there is one watcher in a process.
#[test]
fn it_sees_blocks_and_nothing_else() {
    const BLOCK: f64 = 0.25;
    set_threshold(0.1);
    let (first, second) = (Arc::new(Loop::default()), Arc::new(Loop::default()));
    for loop_ in [&first, &second] {
        loop_.pulse.runs(Monotonic.now());
        watch(Arc::clone(loop_) as Arc<dyn Watched>);
        loop_.rest(0.05);
    }

    // while it lasts, and from when it began (a loaded machine may be late, but not early)
    let began = first.call(BLOCK);
    let ended = Monotonic.now();
    let told = first.told();
    assert!(!told.is_empty(), "nothing was seen");
    assert!(
        told.iter()
            .all(|(block, at)| block.age >= 0.1 && *at <= ended + 1.0)
    );
    assert!(told[0].1 >= began + 0.1, "too early");
    assert!((told[0].0.since - began).abs() < 0.05, "{told:?} {began}");
    assert_eq!((told[0].0.sample, told[0].0.entry, told[0].0.held), (1, 1, false));
    assert_eq!(first.seen.since(1), Some(told[0].0.since));

    // many short ones are none
    let sampled = |loop_: &Loop| std::mem::take(&mut *loop_.sampled.lock().unwrap());
    sampled(&first);
    let began = Monotonic.now();
    while Monotonic.now() < began + 0.4 {
        first.call(0.001);
    }
    assert_eq!(first.told(), []);
    // but samples see what they take together
    let (seen, passed) = (sampled(&first), Monotonic.now() - began);
    assert!(seen > 0.2 && seen < passed + 0.05, "{seen} of {passed}");

    // everybody sleeps: it says so after a while, once, and parks, without a wake-up
    let calms = |loop_: &Loop| std::mem::take(&mut *loop_.calms.lock().unwrap());
    first.pulse.sleeps();
    second.pulse.sleeps();
    sleep(Duration::from_secs_f64(CALM / 2.0));
    assert_eq!((calms(&first), calms(&second)), (0, 0));
    sleep(Duration::from_secs_f64(CALM));
    assert_eq!((calms(&first), calms(&second)), (1, 1));
    let before = switches_of_watcher();
    sleep(Duration::from_secs_f64(CALM * 1.5));
    assert_eq!(switches_of_watcher(), before);
    assert_eq!((calms(&first), calms(&second)), (0, 0));

    // while the program forks it is not there; then it is
    pause();
    assert_eq!(switches_of_watcher(), None);
    go_on();

    // and it is back at once, for whoever wakes up
    second.rest(0.0);
    second.call(BLOCK);
    assert!(!second.told().is_empty());
    assert_eq!(first.told(), []);

    // who is not watched is not told of
    unwatch(&second);
    second.call(BLOCK);
    assert_eq!(second.told(), []);

    // nor is anybody when nothing counts as a block
    first.rest(0.0);
    set_threshold(0.0);
    sleep(Duration::from_millis(20));
    first.call(BLOCK);
    assert_eq!(first.told(), []);
    // but it is calm then, too, and nobody is woken for it again
    calms(&first);
    first.pulse.sleeps();
    sleep(Duration::from_secs_f64(CALM / 2.0));
    assert_eq!(calms(&first), 0);
    sleep(Duration::from_secs_f64(CALM));
    assert_eq!(calms(&first), 1);
    let before = switches_of_watcher();
    sleep(Duration::from_secs_f64(CALM * 1.5));
    assert_eq!((switches_of_watcher(), calms(&first)), (before, 0));
    set_threshold(0.1);
    first.rest(0.0);
    first.call(BLOCK);
    assert!(!first.told().is_empty());
}
