//! What the runtime says of itself while it runs: `aioxide.diag`.
//!
//! Some of it is found out by threads that are none of Python's, and must be: the loop's thread may be the one that is
//! stuck. So there are two sides.
//!
//! Rules
//! 1. A thread that watches or serves takes neither the GIL nor a lock that a forked child might need (`Published`,
//!    `PerProcess`), and touches no Python object but by reads that cannot fault (`ffi/stack`).
//! 2. What needs Python is a [`Job`], done by the loop's own thread between two entries ([`at_next_boundary`]).
//! 3. A loop that nobody looks at pays nothing: see `aioxide_core::watch`.
//! 4. `AIOXIDE_DIAG=0` turns off all of it.
//!
//! | file | owns |
//! |---|---|
//! | `settings.rs` | the environment and `configure()` |
//! | `blocks.rs` | callbacks that keep a loop from going on |
//! | `own.rs` | which line of a stack is the program's |
//! | `records.rs` | one line for each finding, and where it goes |
//! | `outlets.rs` | lines that a pipe does not take just now |
//! | `attach/` | what another process is told that asks |
//! | `metrics.rs` | the figures of the loops, with names, and for Prometheus |
//! | `flight.rs`, `trace.rs` | the flight recorder: what a loop writes down, and the files that are made of it |
//! | `forks.rs` | where our threads are while the process forks: nowhere |
//! | `signals.rs` | a signal that asks for all of it |
//! | `waits.rs`, `holders.rs` | who waits for what, held by whom |
//! | `deadlock.rs` | rings of waits, and programs that nothing can wake |
//! | `cancels.rs` | who cancelled whom and why, and cancellations that come to nothing |
//! | `dev.rs` | what is looked for in development only |
//! | `probe.rs` | what tests need of the reader of stacks |

pub(crate) mod attach;
mod blocks;
pub(crate) mod cancels;
pub(crate) mod deadlock;
pub(crate) mod dev;
pub(crate) mod flight;
mod forks;
pub(crate) mod holders;
pub(crate) mod metrics;
mod outlets;
mod own;
mod probe;
pub(crate) mod records;
pub(crate) mod settings;
mod signals;
pub(crate) mod trace;
pub(crate) mod waits;

use crate::event_loop::core::LoopCore;
use crate::ffi::errors::finally;
use crate::ffi::object::Static;
use crate::ffi::{Obj, Own, R, stack, threads};
use aioxide_core::metrics::Figures;
use aioxide_core::watch::Seen;
use aioxide_core::{PerProcess, Pulse, Waker, cpu};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What others may know of a loop, at any time and without the GIL.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    /// Whether it is alive. First, and on a cache line of its own.
    pub(crate) pulse: Pulse,
    /// What is counted and timed.
    pub(crate) figures: Figures,
    /// The [jobs](Job) that are wanted, one bit each.
    jobs: AtomicU32,
    /// How often it has come aside for them.
    asides: AtomicU32,
    /// Which loop of the process it is, in the order of their first run, from 0.
    number: AtomicU32,
    /// The address of its thread's state, while it runs: for [`stack`].
    thread: AtomicUsize,
    /// Where the pointer to its current task is, while it runs.
    current: AtomicUsize,
    /// For how long it has run since it was last looked which task it runs, as the bits of a float. For the thread that
    /// watches.
    pub(crate) unseen: AtomicU64,
    /// What the thread that watches knows of the entry that runs.
    pub(crate) seen: Seen,
}

impl Vitals {
    /// Which loop of the process it is.
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed).wrapping_sub(1)
    }

    /// The address of its thread's state; 0: it does not run.
    pub(crate) fn thread(&self) -> usize {
        self.thread.load(Ordering::Relaxed)
    }

    /// Where the pointer to its current task is; 0: it does not run.
    pub(crate) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The loop's thread does `job` before its next entry, or before it sleeps.
    fn want(&self, job: Job) {
        self.jobs.fetch_or(job as u32, Ordering::AcqRel);
        self.pulse.ask();
    }
}

/// Something that a loop's thread is to do between two entries. A job has no arguments: those are where it looks.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Job {
    /// [`records::deliver`]
    Deliver = 1,
    /// [`blocks::ended`]
    BlockEnded = 1 << 1,
    /// [`flight::refresh`]
    Flight = 1 << 2,
    /// [`forks::go_on`]
    GoOn = 1 << 3,
    /// [`deadlock::Diagnosis::calm`]
    Calm = 1 << 4,
    /// [`deadlock::Diagnosis::asked`]
    Rings = 1 << 5,
}

/// A loop that runs.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) vitals: Arc<Vitals>,
    waker: Arc<Waker>,
}

/// The loops that run.
static RUNNING: PerProcess<Mutex<Vec<Running>>> = PerProcess::new();

/// The module `_core.diag`, whose contents are `aioxide.diag`'s.
static MODULE: Static = Static::new();

/// How many loops have run.
static LOOPS: AtomicU64 = AtomicU64::new(0);

fn lock() -> std::sync::MutexGuard<'static, Vec<Running>> {
    RUNNING.lock()
}

/// The loops that run at present. Any thread, with or without the GIL.
pub(crate) fn running() -> Vec<Running> {
    lock().clone()
}

/// The loop's thread does `job` before its next entry; if it sleeps it is woken. Any thread, with or without the GIL.
pub(crate) fn at_next_boundary(running: &Running, job: Job) {
    running.vitals.want(job);
    running.waker.wake_from_apart();
}

/// The loop's thread has come aside because somebody has asked.
#[cold]
pub(crate) fn at_boundary(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    core.vitals.asides.fetch_add(1, Ordering::AcqRel);
    let jobs = core.vitals.jobs.swap(0, Ordering::AcqRel);
    // first, for what it tells is then delivered
    if jobs & Job::BlockEnded as u32 != 0 {
        blocks::ended(core);
    }
    if jobs & Job::GoOn as u32 != 0 {
        forks::go_on();
    }
    if jobs & Job::Calm as u32 != 0 {
        core.diagnosis.calm(loop_, core);
    }
    if jobs & Job::Rings as u32 != 0 {
        core.diagnosis.asked(loop_, core);
    }
    if jobs & (Job::Deliver as u32 | Job::BlockEnded as u32) != 0 {
        records::deliver();
    }
    if jobs & Job::Flight as u32 != 0 {
        flight::refresh(loop_, core, core.vitals.number())?;
    }
    Ok(())
}

/// The loop begins to run on this thread, or finds itself in a forked child. `true`: for the first time.
pub(crate) fn on_run(core: &LoopCore) -> bool {
    if !settings::enabled() {
        return false;
    }
    let vitals = &core.vitals;
    let Some(waker) = core
        .reactor
        .with(|reactor| reactor.as_ref().map(|reactor| reactor.waker().clone()))
    else {
        return false;
    };
    let is_first = vitals.number.load(Ordering::Relaxed) == 0;
    if is_first {
        let number = LOOPS.fetch_add(1, Ordering::Relaxed) + 1;
        vitals.number.store(number as u32, Ordering::Relaxed);
        forks::watch();
    }
    vitals.thread.store(threads::state(), Ordering::Relaxed);
    vitals.current.store(core.place_of_current(), Ordering::Relaxed);
    let now = core.now();
    vitals.figures.begins(now, cpu::clock_of_this_thread());
    vitals.pulse.runs(now);
    flight::on_run(core, vitals.number());
    if records::are_waiting() {
        vitals.want(Job::Deliver);
    }
    attach::on_run(is_first);
    let mut all = lock();
    if !all.iter().any(|running| Arc::ptr_eq(&running.vitals, vitals)) {
        all.push(Running {
            vitals: Arc::clone(vitals),
            waker,
        });
        drop(all);
        blocks::watch(vitals);
    }
    is_first
}

/// The loop has stopped.
pub(crate) fn on_stop(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    let vitals = &core.vitals;
    lock().retain(|running| !Arc::ptr_eq(&running.vitals, vitals));
    blocks::unwatch(vitals);
    vitals.pulse.stops();
    vitals.figures.stops(core.now());
    vitals.thread.store(0, Ordering::Relaxed);
    vitals.current.store(0, Ordering::Relaxed);
    let result = if vitals.pulse.is_asked() {
        at_boundary(loop_, core)
    } else {
        Ok(())
    };
    finally(result, || {
        // (what was found at this very end, with no loop to be asked)
        records::deliver();
        Ok(())
    })
}

/// Makes `_core.diag`. Called once.
pub(crate) fn init(module: &Obj) -> R<()> {
    stack::init()?;
    let diag = Obj::import("types")?.call_method_str("ModuleType", &[&Obj::str("aioxide._core.diag")?])?;
    module.setattr_str("diag", &diag)?;
    MODULE.fill(diag.clone());
    settings::init(&diag)?;
    own::init()?;
    blocks::init(&diag)?;
    records::register(&diag)?;
    metrics::register(&diag)?;
    flight::init()?;
    trace::register(&diag)?;
    signals::register(&diag)?;
    cancels::register(&diag)?;
    waits::register(&diag)?;
    dev::register(&diag)?;
    probe::register(&diag)
}
