//! What another process is told that asks: `python -m aioxide ps PID` (`python/aioxide/attach` is the other side).
//!
//! `aioxide_core::attach` has the socket and its rules; here is what the answers say. They are given by a thread that
//! never takes the GIL, so also while the loop's thread has it and does not come back. So all that they say is read from
//! memory, by reads that cannot fault, while it changes.
//!
//! Rules
//! 1. No value of a variable or an argument is told: names of tasks and functions, files, lines, and who waits for whom.
//! 2. Nothing is changed, and nothing of what is asked is ever run. Only of rings the loops are asked, which look as they do
//!    by themselves: a second rule for them would not agree with the reports for long.
//! 3. An answer whose parts may not have been there all at once says so: `consistent` is false.
//!
//! | file | owns |
//! |---|---|
//! | `layout.rs` | where the fields of our objects are, and which class an object is of |
//! | `walk.rs` | the lists of tasks, and each task's own fields |
//! | `snapshot.rs` | all tasks: where each stands, and what it waits for |
//! | `tracing.rs` | the flight recorder, for `trace` |
//! | `json.rs` | the form of answers |

mod json;
mod layout;
mod snapshot;
mod tracing;
mod walk;

use super::{Job, Vitals, at_next_boundary, blocks, deadlock, own, settings};
use crate::ffi::{R, stack, threads};
use aioxide_core::watch::{self, State};
use aioxide_core::{Clock, Monotonic, PerProcess, attach, cpu};
use json::Json;
use snapshot::Snapshot;
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use tracing::Traces;

/// The version of requests and answers.
const VERSION: u32 = 1;
/// How many tasks one answer has at most.
const PAGE: usize = 10_000;

/// In which process a thread was started: the number of forks, and one more. 0: not yet.
static STARTED: AtomicU32 = AtomicU32::new(0);
/// A fork is under way, or has been and no loop has run since.
const PAUSED: u32 = u32::MAX;

/// The thread, or what it has while a fork is under way.
#[derive(Default)]
enum Thread {
    #[default]
    None,
    Running(attach::Running<Answers>),
    Stopped(attach::Stopped<Answers>),
}

static THREAD: PerProcess<Mutex<Thread>> = PerProcess::new();

fn thread() -> MutexGuard<'static, Thread> {
    THREAD.lock()
}

/// A loop begins to run, for the first time or again: the thread is started, if it is not yet. With the GIL.
#[inline]
pub(super) fn on_run(is_first: bool) {
    let here = threads::fork_epoch().wrapping_add(1);
    if STARTED.swap(here, Ordering::Relaxed) != here || is_first && is_lost() {
        start();
    }
}

/// Has the program closed all descriptors, that of the thread too?
fn is_lost() -> bool {
    matches!(&*thread(), Thread::Running(running) if !running.is_there())
}

#[cold]
fn start() {
    super::signals::on_first_run();
    if is_lost() {
        pause();
    }
    go_on();
    let is_missing = matches!(*thread(), Thread::None);
    // (without a thread nobody can ask, and that is all)
    if is_missing && let Err(raised) = prepare() {
        raised.ignore();
    }
}

fn prepare() -> R<()> {
    layout::init()?;
    let runtime = settings::variable("XDG_RUNTIME_DIR")?.map(PathBuf::from);
    if let Ok(Some(running)) = attach::start(runtime, Answers::default()) {
        *thread() = Thread::Running(running);
    }
    Ok(())
}

/// Before a fork ([`super::forks`]): ends the thread, if there is one. It goes on when a loop comes to it.
pub(super) fn pause() {
    let mut thread = thread();
    *thread = match std::mem::take(&mut *thread) {
        Thread::Running(running) => {
            STARTED.store(PAUSED, Ordering::Relaxed);
            running.stop().map_or(Thread::None, Thread::Stopped)
        }
        other => other,
    };
}

/// Starts it again, if it was ended.
pub(super) fn go_on() {
    let mut thread = thread();
    *thread = match std::mem::take(&mut *thread) {
        Thread::Stopped(stopped) => stopped.go_on().map_or(Thread::None, Thread::Running),
        other => other,
    };
}

/// In the child of a `fork`, where only a signal handler's functions may be called. (The child has a [`THREAD`] of its
/// own; the parent's is never dropped there, for its descriptors are closed here.)
pub(crate) fn after_fork() {
    attach::after_fork();
}

/// What is asked: a word, and numbers by name.
struct Request<'a> {
    verb: &'a str,
    arguments: Vec<(&'a str, u64)>,
}

impl<'a> Request<'a> {
    /// `1 tasks from=0 count=100`; an error is for the one who asks.
    fn parse(text: &'a str) -> Result<Request<'a>, String> {
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some("1") {
            return Err(format!("this process speaks version {VERSION}"));
        }
        let verb = words.next().ok_or("nothing was asked")?;
        let arguments = words
            .map(|word| {
                let (name, value) = word.split_once('=')?;
                Some((name, value.parse().ok()?))
            })
            .collect::<Option<_>>()
            .ok_or("arguments are name=number")?;
        Ok(Request { verb, arguments })
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.arguments
            .iter()
            .find(|(given, _)| *given == name)
            .map_or(default, |(_, value)| *value)
    }
}

/// What this process answers.
#[derive(Default)]
struct Answers {
    /// What the next page is taken from, and when it was read.
    paged: RefCell<Option<(f64, Snapshot)>>,
    sights: RefCell<Sights>,
    traces: RefCell<Traces>,
}

/// How long whoever turns pages finds them unchanged, in seconds.
const PAGED: f64 = 2.0;

impl attach::Answer for Answers {
    fn answer(&self, request: &str, answer: &mut Vec<u8>) {
        let begun = answer.len();
        let result = Request::parse(request).and_then(|request| {
            if request.verb == "trace" {
                // (the file itself)
                return self.traces.borrow_mut().end(request.number("trace", 0), answer);
            }
            Json::new(answer).object(|json| {
                head(json);
                match request.verb {
                    "tasks" => self.tasks(json, &request),
                    "threads" => all_threads(json),
                    "now" => self.now(json),
                    "rings" => rings(json),
                    "record" => match self.traces.borrow_mut().begin() {
                        Ok(number) => json.integer_at("trace", number),
                        Err(error) => json.text_at("error", &error),
                    },
                    _ => json.text_at("error", "this process does not know what was asked"),
                }
            });
            Ok(())
        });
        if let Err(error) = result {
            answer.truncate(begun);
            Json::new(answer).object(|json| {
                head(json);
                json.text_at("error", &error);
            });
        }
    }

    fn nobody_is_left(&self) {
        self.paged.take();
        let mut traces = self.traces.borrow_mut();
        if traces.are_begun() {
            traces.stop();
        }
    }
}

impl Answers {
    /// `tasks from=0 count=10000 stacks=0`
    fn tasks(&self, json: &mut Json, request: &Request) {
        let begun = Monotonic.now();
        let from = usize::try_from(request.number("from", 0)).unwrap_or(usize::MAX);
        let count = request.number("count", PAGE as u64).min(PAGE as u64) as usize;
        for running in super::running() {
            self.sights.borrow_mut().busy(&running.vitals);
        }
        let kept = self.paged.take();
        let snapshot = match kept.filter(|(when, _)| from > 0 && begun - when < PAGED) {
            Some((_, snapshot)) => snapshot,
            None => Snapshot::take(),
        };
        loops(json, &snapshot, &self.sights);
        let total = snapshot.tasks.len();
        json.integer_at("from", from as u64);
        json.integer_at("total", total as u64);
        json.boolean_at("consistent", snapshot.consistent);
        match stack::why_not() {
            Some(reason) => json.text_at("unreadable", reason),
            None => json.null_at("unreadable"),
        }
        let end = from.saturating_add(count).min(total);
        json.list_at("tasks", |json| {
            let stacks = request.number("stacks", 0) != 0;
            for index in from..end {
                snapshot.write(json, index, stacks);
            }
        });
        json.float_at("ms", (Monotonic.now() - begun) * 1000.0);
        if end < total {
            self.paged.replace(Some((begun, snapshot)));
        }
    }

    /// `now`: how the loops fare.
    fn now(&self, json: &mut Json) {
        let snapshot = Snapshot::names();
        loops(json, &snapshot, &self.sights);
        json.integer_at("total", snapshot.tasks.len() as u64);
    }
}

/// What every answer begins with.
fn head(json: &mut Json) {
    json.integer_at("v", VERSION.into());
    json.integer_at("pid", std::process::id().into());
    json.text_at("python", layout::python());
    json.text_at("aioxide", env!("CARGO_PKG_VERSION"));
}

/// `"loops": […]`: those that run.
fn loops(json: &mut Json, snapshot: &Snapshot, sights: &RefCell<Sights>) {
    let mut reader = stack::Reader::new();
    json.list_at("loops", |json| {
        for running in super::running() {
            let vitals = &running.vitals;
            let pulse = &vitals.pulse;
            let is_awake = matches!(pulse.state(), State::Running | State::Held);
            json.object(|json| {
                json.integer_at("loop", vitals.number().into());
                json.integer_at("thread", layout::native_thread(vitals.thread()));
                let state = match pulse.state() {
                    State::Stopped => "stopped",
                    State::Running => "running",
                    State::Asleep => "asleep",
                    State::Held => "held",
                };
                json.text_at("state", state);
                json.integer_at("entries", pulse.entries());
                let times = vitals.figures.times(Monotonic.now());
                let awake = times.running.saturating_sub(times.idle + times.held);
                json.float_at("awake", awake as f64 / 1e9);
                if let Some(used) = vitals.figures.cpu().and_then(cpu::time) {
                    json.float_at("cpu", used.as_secs_f64());
                }
                match snapshot.id_at(walk::current(vitals)) {
                    Some(id) => json.text_at("task", id),
                    None => json.null_at("task"),
                }
                json.boolean_at("watched", watch::is_watching());
                if is_awake {
                    json.float_at("busy", sights.borrow_mut().busy(vitals));
                    if let Some(reader) = &mut reader {
                        let thread = vitals.thread();
                        let holder = reader.gil_holder(thread);
                        let held = pulse.state() == State::Held;
                        let stack = blocks::stack_of(reader, thread, held, &holder);
                        if let Some(line) = own::line(&stack.frames) {
                            json.list_at("at", |json| snapshot::frame_items(json, line));
                        }
                        json.list_at("stack", |json| {
                            for frame in &stack.frames {
                                snapshot::write_frame(json, frame);
                            }
                        });
                    }
                }
            });
        }
    });
}

/// Since when each loop has been seen to be at the same entry: its number, the entry, the time. (The thread that watches
/// has looked more often, if there is one.)
#[derive(Default)]
struct Sights(Vec<(u32, u64, f64)>);

impl Sights {
    /// How long the callback that a loop is in has run, at least, in seconds.
    fn busy(&mut self, vitals: &Vitals) -> f64 {
        let (number, entries, now) = (vitals.number(), vitals.pulse.entries(), Monotonic.now());
        let (woke, woke_at) = vitals.pulse.woke();
        // the first one since it has woken up began then; and none began before
        let since_woke = if entries <= woke_at + 1 { woke } else { now };
        let since_seen = vitals.seen.since(entries).unwrap_or(now);
        let known = self.0.iter().position(|sight| sight.0 == number);
        let since = match known.and_then(|index| self.0.get_mut(index)) {
            Some(sight) if sight.1 == entries => sight.2,
            Some(sight) => {
                *sight = (number, entries, now);
                now
            }
            None => {
                self.0.push((number, entries, now));
                now
            }
        };
        now - since.min(since_woke).min(since_seen).clamp(woke.min(now), now)
    }
}

/// How long one waits for a loop to look, in seconds: it may be in a callback.
const LOOK: f64 = 0.25;

/// `rings`: which tasks wait for each other so that nothing else can end it, by the rule of the reports. Of a loop that did
/// not come to look, `rings` is null.
fn rings(json: &mut Json) {
    let running = super::running();
    let before = deadlock::sightings();
    let looked = |number: u32| {
        let looks = |all: &[deadlock::Sighting]| {
            let one = all.iter().find(|one| one.number == number);
            one.map_or(0, |one| one.looks)
        };
        let now = deadlock::sightings();
        let sighting = now.iter().find(|one| one.number == number);
        sighting.filter(|one| one.looks > looks(&before)).cloned()
    };
    for running in &running {
        at_next_boundary(running, Job::Rings);
    }
    let end = Monotonic.now() + LOOK;
    let numbers: Vec<u32> = running.iter().map(|running| running.vitals.number()).collect();
    while Monotonic.now() < end && numbers.iter().any(|number| looked(*number).is_none()) {
        aioxide_core::local::pause(0.001);
    }
    json.list_at("loops", |json| {
        for number in numbers {
            json.object(|json| {
                json.integer_at("loop", number.into());
                let Some(sighting) = looked(number) else {
                    return json.null_at("rings");
                };
                json.boolean_at("certain", sighting.is_certain);
                json.list_at("rings", |json| {
                    for ring in &sighting.rings {
                        json.list(|json| ring.iter().for_each(|task| json.text(&snapshot::id_of(*task))));
                    }
                });
            });
        }
    });
}

/// `threads`: what each thread of Python's is doing.
fn all_threads(json: &mut Json) {
    let running = super::running();
    let Some(mut reader) = stack::Reader::new() else {
        json.text_at("error", stack::why_not().unwrap_or_default());
        return;
    };
    let state = running.first().map_or(0, |running| running.vitals.thread());
    json.list_at("threads", |json| {
        for thread in if state == 0 {
            Vec::new()
        } else {
            reader.threads(state)
        } {
            let stack = reader.thread(thread.state);
            json.object(|json| {
                json.integer_at("native", thread.native);
                json.integer_at("ident", thread.ident);
                match running
                    .iter()
                    .find(|running| running.vitals.thread() == thread.state)
                {
                    Some(running) => json.integer_at("loop", running.vitals.number().into()),
                    None => json.null_at("loop"),
                }
                json.boolean_at("consistent", stack.consistent);
                json.list_at("stack", |json| {
                    for frame in &stack.frames {
                        snapshot::write_frame(json, frame);
                    }
                });
            });
        }
    });
}
