//! `metrics()` and `prometheus()`: the figures of the loops, with names.
//!
//! Owns the list of loops that have run, and what is known of how long which task ran. What is counted, and when, says
//! `aioxide_core::metrics`.
//!
//! Must never: keep a loop or a task alive, or make either slower by more than a few instructions.

use super::Vitals;
use crate::event_loop::core::{self, LoopCore};
use crate::ffi::function::Kind::Plain;
use crate::ffi::object::Static;
use crate::ffi::stack::Reader;
use crate::ffi::{Args, Class, Obj, Own, R};
use crate::imports;
use crate::module::export;
use crate::tasks::Task;
use aioxide_core::metrics::{BOUNDS, Counts, Exposition, Kind, Times};
use aioxide_core::{Clock, Monotonic, PerProcess, cpu};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// `{number: loop}`, weakly.
static LOOPS: Static = Static::new();

/// How long a task has been seen to run, by its [identity](Task::identity). Of the tasks that have run longest.
type Seen = HashMap<(usize, u64), f64>;
static SEEN: PerProcess<Mutex<Seen>> = PerProcess::new();
/// When there are so many, those that have run shortest are forgotten.
const MOST_SEEN: usize = 4096;

/// How often it is looked which task runs, in seconds of the loop's running: to read it costs as much as the rest of a look.
const EVERY: f64 = 0.08;

/// The thread that watches has seen that the loop runs; the look before was so many seconds ago.
pub(super) fn sampled(vitals: &Vitals, now: f64, seconds: f64) {
    if vitals.figures.looked(now) {
        vitals.pulse.ask();
    }
    let seconds = f64::from_bits(vitals.unseen.load(Ordering::Relaxed)) + seconds;
    let is_due = seconds >= EVERY;
    vitals.unseen.store(
        if is_due { 0.0_f64 } else { seconds }.to_bits(),
        Ordering::Relaxed,
    );
    if is_due && let Some(task) = Reader::new().and_then(|reader| reader.identity_at(vitals.current())) {
        task_seen(task, seconds);
    }
}

fn task_seen(task: (usize, u64), seconds: f64) {
    let mut seen = SEEN.lock();
    *seen.entry(task).or_default() += seconds;
    if seen.len() > MOST_SEEN {
        let mut times: Vec<f64> = seen.values().copied().collect();
        let (_, median, _) = times.select_nth_unstable_by(MOST_SEEN / 2, f64::total_cmp);
        let median = *median;
        seen.retain(|_, time| *time > median);
    }
}

/// How long a task has been seen to run, in seconds. Any thread.
pub(crate) fn busy(task: (usize, u64)) -> f64 {
    let seen = SEEN.lock();
    seen.get(&task).copied().unwrap_or_default()
}

/// A loop begins to run for the first time.
pub(crate) fn add(loop_: &Obj, number: u32) -> R<()> {
    LOOPS
        .call_method_str("__setitem__", &[&Obj::int(number.into())?, loop_])
        .map(drop)
}

/// What is known of one loop.
struct Figures {
    number: u32,
    is_running: bool,
    times: Times,
    cpu: Option<f64>,
    turns: u64,
    entries: u64,
    ready: u64,
    timers: usize,
    tasks: Vec<Obj>,
    blocks: u64,
    blocked: u64,
    lag: Counts,
    timer_lag: Counts,
    callbacks: Counts,
}

impl Figures {
    fn of(loop_: &Obj, core: &Own<LoopCore>, now: f64) -> R<Figures> {
        let vitals = &core.vitals;
        let figures = &vitals.figures;
        let (turns, ready) = figures.turns();
        let (blocks, blocked) = figures.blocks();
        Ok(Figures {
            number: vitals.number(),
            is_running: vitals.thread() != 0,
            times: figures.times(now),
            cpu: figures.cpu().and_then(cpu::time).map(|time| time.as_secs_f64()),
            turns,
            entries: vitals.pulse.entries(),
            ready: ready.max(core.ready.len() as u64),
            timers: core.timers.with(|timers| timers.len()),
            tasks: imports::ALL_TASKS.call(&[loop_])?.to_vec()?,
            blocks,
            blocked,
            lag: figures.lag.counts(),
            timer_lag: figures.timers.counts(),
            callbacks: figures.entries.counts(),
        })
    }

    /// As the keyword arguments of `LoopMetrics`.
    fn to_dict(&self, with_tasks: bool) -> R<Obj> {
        let dict = Obj::dict()?;
        let by_task = if with_tasks {
            by_task(&self.tasks)?
        } else {
            Vec::new()
        };
        let entries = [
            ("number", Obj::int(self.number.into())?),
            ("is_running", Obj::bool(self.is_running)),
            ("running", seconds(self.times.running)?),
            ("idle", seconds(self.times.idle)?),
            ("held", seconds(self.times.held)?),
            ("cpu", self.cpu.map_or_else(|| Ok(Obj::none()), Obj::float)?),
            ("turns", Obj::int(self.turns as i64)?),
            ("entries", Obj::int(self.entries as i64)?),
            ("ready", Obj::int(self.ready as i64)?),
            ("timers", Obj::int(self.timers as i64)?),
            ("tasks", Obj::int(self.tasks.len() as i64)?),
            ("blocks", Obj::int(self.blocks as i64)?),
            ("blocked", seconds(self.blocked)?),
            ("lag", histogram(&self.lag)?),
            ("timer_lag", histogram(&self.timer_lag)?),
            ("callbacks", histogram(&self.callbacks)?),
            ("by_task", Obj::tuple_of(&by_task)?),
        ];
        for (name, value) in entries {
            dict.dict_set(&Obj::interned(name)?, &value)?;
        }
        Ok(dict)
    }
}

fn seconds(nanoseconds: u64) -> R<Obj> {
    Obj::float(nanoseconds as f64 / 1e9)
}

/// `(counts, sum, max)`
fn histogram(counts: &Counts) -> R<Obj> {
    let buckets = counts
        .buckets
        .iter()
        .map(|&count| Obj::int(count as i64))
        .collect::<R<Vec<Obj>>>()?;
    Obj::tuple(&[
        &Obj::tuple_of(&buckets)?,
        &seconds(counts.sum)?,
        &seconds(counts.max)?,
    ])
}

/// `(name, coroutine, steps, busy)` of those that are ours.
fn by_task(tasks: &[Obj]) -> R<Vec<Obj>> {
    tasks
        .iter()
        .filter_map(|task| Task::class().instance(task))
        .map(|task| {
            Obj::tuple(&[
                &task.name()?.to_str()?,
                &task.coroutine_name()?,
                &Obj::int(task.future.steps.get().into())?,
                &Obj::float(busy(task.identity()))?,
            ])
        })
        .collect()
}

/// The loops that are not closed, in the order of their numbers.
fn all() -> R<Vec<Figures>> {
    let now = Monotonic.now();
    let mut all = Vec::new();
    for loop_ in LOOPS.call_method_str("values", &[])?.to_vec()? {
        if let Some(core) = core::of(&loop_)
            && !core.closed.get()
        {
            all.push(Figures::of(&loop_, core, now)?);
        }
    }
    all.sort_by_key(|figures| figures.number);
    Ok(all)
}

/// `_metrics(tasks) -> (pid, time, [{…}, …])`
fn metrics(args: &Args) -> R<Obj> {
    let with_tasks = args.req(0)?.truth()?;
    let loops = all()?
        .iter()
        .map(|figures| figures.to_dict(with_tasks))
        .collect::<R<Vec<Obj>>>()?;
    Obj::tuple(&[
        &Obj::int(std::process::id().into())?,
        &Obj::float(Monotonic.now())?,
        &Obj::list(&loops)?,
    ])
}

/// One figure of a loop that is a number.
type Number = (&'static str, Kind, &'static str, fn(&Figures) -> Option<f64>);

fn as_seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

const NUMBERS: [Number; 12] = [
    (
        "aioxide_loop_running_seconds_total",
        Kind::Counter,
        "Time that the loop has run, asleep or not.",
        |figures| Some(as_seconds(figures.times.running)),
    ),
    (
        "aioxide_loop_idle_seconds_total",
        Kind::Counter,
        "Time that it has slept, with nothing to do.",
        |figures| Some(as_seconds(figures.times.idle)),
    ),
    (
        "aioxide_loop_held_seconds_total",
        Kind::Counter,
        "Time that it was awake and waited for the GIL.",
        |figures| Some(as_seconds(figures.times.held)),
    ),
    (
        "aioxide_loop_thread_cpu_seconds_total",
        Kind::Counter,
        "CPU time of the thread that runs the loop.",
        |figures| figures.cpu,
    ),
    (
        "aioxide_loop_turns_total",
        Kind::Counter,
        "Turns of the loop.",
        |figures| Some(figures.turns as f64),
    ),
    (
        "aioxide_loop_entries_total",
        Kind::Counter,
        "Steps of tasks, callbacks and events that it has run.",
        |figures| Some(figures.entries as f64),
    ),
    (
        "aioxide_loop_blocks_total",
        Kind::Counter,
        "Callbacks that kept it for longer than block_ms.",
        |figures| Some(figures.blocks as f64),
    ),
    (
        "aioxide_loop_blocked_seconds_total",
        Kind::Counter,
        "How long those took that have ended.",
        |figures| Some(as_seconds(figures.blocked)),
    ),
    (
        "aioxide_loop_ready",
        Kind::Gauge,
        "Entries that are ready.",
        |figures| Some(figures.ready as f64),
    ),
    (
        "aioxide_loop_timers",
        Kind::Gauge,
        "Timers that wait.",
        |figures| Some(figures.timers as f64),
    ),
    (
        "aioxide_loop_tasks",
        Kind::Gauge,
        "Tasks that are not done.",
        |figures| Some(figures.tasks.len() as f64),
    ),
    (
        "aioxide_loop_is_running",
        Kind::Gauge,
        "1 while the loop runs.",
        |figures| Some(f64::from(u8::from(figures.is_running))),
    ),
];

/// One histogram of a loop.
type Durations = (&'static str, &'static str, fn(&Figures) -> &Counts);

const HISTOGRAMS: [Durations; 3] = [
    (
        "aioxide_loop_lag_seconds",
        "How late the loop was, at random moments at which it ran.",
        |figures| &figures.lag,
    ),
    (
        "aioxide_loop_timer_lag_seconds",
        "How late the first timer was of those that were due together.",
        |figures| &figures.timer_lag,
    ),
    (
        "aioxide_loop_callback_seconds",
        "How long an entry ran; of one in about a hundred.",
        |figures| &figures.callbacks,
    ),
];

/// `_prometheus()`
fn prometheus(_: &Args) -> R<Obj> {
    let all = all()?;
    let labels: Vec<String> = all.iter().map(|figures| figures.number.to_string()).collect();
    let mut text = Exposition::new();
    for (name, kind, help, read) in NUMBERS {
        text.family(name, kind, help);
        for (figures, label) in all.iter().zip(&labels) {
            if let Some(value) = read(figures) {
                text.sample(name, &[("loop", label)], value);
            }
        }
    }
    for (name, help, read) in HISTOGRAMS {
        text.family(name, Kind::Histogram, help);
        for (figures, label) in all.iter().zip(&labels) {
            text.histogram(name, &[("loop", label)], read(figures));
        }
    }
    Obj::str(&text.finish())
}

/// Puts the functions into the module. Called once.
pub(super) fn register(diag: &Obj) -> R<()> {
    LOOPS.fill(Obj::import("weakref")?.call_method_str("WeakValueDictionary", &[])?);
    let bounds = BOUNDS
        .iter()
        .map(|&bound| seconds(bound))
        .collect::<R<Vec<Obj>>>()?;
    diag.setattr_str("_bounds", &Obj::tuple_of(&bounds)?)?;
    export(
        diag,
        &[
            ("aioxide._core.diag", "_metrics(tasks)", metrics, Plain),
            ("aioxide._core.diag", "_prometheus()", prometheus, Plain),
        ],
    )
}
