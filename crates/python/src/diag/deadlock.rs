//! Deadlocks: tasks that wait for each other in a ring, and programs in which nothing is left that could wake anybody.
//!
//! The loop looks itself, on its own thread: when it has been idle for [`CALM`], once, and while it is busy at most that
//! often. Nobody is woken for it again until something has happened. The thread that watches says when the loop has been
//! idle for so long.
//!
//! Rules
//! 1. A *ring* is told only if each of its waits can be ended by none but the next in the ring: a lock by its holder, if
//!    that has entered `async with` (anybody may give back what was acquired otherwise); a task by its end. A wait that a
//!    timer can end (a timeout, a `call_later` that knows the task) is no part of one. On a busy loop it must be there
//!    twice.
//! 2. *Quiescent* is told only if it is certain that nobody in the process is left: nothing ready, no timer, no watched
//!    descriptor, no look-up, no child, no signal handler of the program's, and no other thread but idle workers of the
//!    default executor and our own. Any other thread might call `call_soon_threadsafe`: then nothing is said.
//! 3. A ring is told once. What waits behind a ring is named with it, and is no second deadlock.
//! 4. The cost is bounded: a look at two objects for each task, more only for those that wait for tasks; and the next
//!    look comes the later the longer this one took.

use super::cancels::Watched;
use super::records::{self, Record};
use super::waits::{self, Edge, Wait};
use super::{dev, settings, trace};
use crate::event_loop::core::{LoopCore, Timer};
use crate::event_loop::{handles, lookups};
use crate::ffi::errors::{R, Raised};
use crate::ffi::{Class, Inner, Obj, Own, Visitor};
use crate::hook::Hook;
use crate::imports;
use crate::tasks::Task;
use crate::timeouts::Timeout;
use aioxide_core::PerProcess;
use aioxide_core::sys::threads;
use aioxide_core::watch::CALM;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

/// After a first sight, on a busy loop: seconds.
const SECOND_LOOK: f64 = 0.3;
/// The looks of a busy loop take no more than one part in this many of its time.
const SHARE: f64 = 500.0;
/// How many tasks are told of in one record.
const TOLD: usize = 50;

/// What a loop has seen when it was asked to look: rules 1 and 4, for others.
#[derive(Clone)]
pub(crate) struct Sighting {
    /// Which loop.
    pub(crate) number: u32,
    /// How often it has been asked.
    pub(crate) looks: u64,
    /// It had nothing to do, so the rings are there for good. Else they must be there twice.
    pub(crate) is_certain: bool,
    /// The identities of their tasks.
    pub(crate) rings: Vec<Vec<u64>>,
}

static SIGHTINGS: PerProcess<Mutex<Vec<Sighting>>> = PerProcess::new();

/// What the loops have seen that were [asked](Diagnosis::asked). Any thread, without the GIL.
pub(crate) fn sightings() -> Vec<Sighting> {
    SIGHTINGS.lock().clone()
}

/// When a loop looks next, and what it has seen. All of it is the loop's thread's own.
#[derive(Default)]
pub(crate) struct Diagnosis {
    /// Not before this time does a busy loop look.
    next: Cell<f64>,
    /// How many entries had run when an idle loop looked: until it is another number there is nothing new to see.
    seen: Cell<u64>,
    /// Tasks that have been cancelled and go on, and the earliest time at which one of them is to be looked at.
    cancelled: Inner<Vec<Watched>>,
    due: Cell<Option<f64>>,
    /// The rings that have been told of, and those seen once: the identities of their tasks.
    told: Inner<HashSet<Vec<u64>>>,
    suspected: Inner<HashSet<Vec<u64>>>,
    /// The tasks of the last quiescent state that was told of.
    quiescent: Inner<Vec<u64>>,
}

impl Diagnosis {
    /// How long the loop may sleep: not longer than until a task that was cancelled is to be looked at.
    #[inline]
    pub(crate) fn limit(&self, core: &LoopCore, timeout: Option<Duration>) -> Option<Duration> {
        let Some(due) = self.due.get() else {
            return timeout;
        };
        let left = Duration::try_from_secs_f64(due - core.now()).unwrap_or_default();
        Some(timeout.map_or(left, |timeout| timeout.min(left)))
    }

    /// The loop was idle for as long as it was allowed to.
    #[cold]
    pub(crate) fn was_idle(&self, core: &Own<LoopCore>) {
        self.look_at_cancelled(core);
    }

    /// The loop has been idle for [`CALM`].
    #[cold]
    pub(crate) fn calm(&self, loop_: &Obj, core: &Own<LoopCore>) {
        if self.seen.get() != core.entries() && core.is_idle() {
            self.seen.set(core.entries());
            self.look(loop_, core, true);
        }
    }

    /// Somebody has asked, who reads [`sightings`]: looks at once. It is told to nobody else.
    #[cold]
    pub(crate) fn asked(&self, loop_: &Obj, core: &Own<LoopCore>) {
        let rings = || -> R<Vec<Vec<u64>>> {
            let stuck = Stuck::among(&waits::tasks_of(loop_))?.without_timed(core)?;
            Ok(stuck.rings().iter().map(Ring::identities).collect())
        };
        let rings = rings().map_err(Raised::ignore).unwrap_or_default();
        let (number, is_certain) = (core.vitals.number(), core.is_idle());
        let present = super::running();
        let mut all = SIGHTINGS.lock();
        let looks = all
            .iter()
            .find(|one| one.number == number)
            .map_or(0, |one| one.looks);
        all.retain(|one| {
            one.number != number
                && present
                    .iter()
                    .any(|running| running.vitals.number() == one.number)
        });
        all.push(Sighting {
            number,
            looks: looks + 1,
            is_certain,
            rings,
        });
    }

    /// The loop is busy, or goes to sleep for a while; `now` is about now.
    #[inline]
    pub(crate) fn passing(&self, loop_: &Obj, core: &Own<LoopCore>, now: f64) {
        if now >= self.next.get() && settings::enabled() {
            self.look_in_passing(loop_, core);
        }
    }

    #[cold]
    fn look_in_passing(&self, loop_: &Obj, core: &Own<LoopCore>) {
        self.look_at_cancelled(core);
        let began = core.now();
        self.look(loop_, core, false);
        let took = core.now() - began;
        let again = if self.suspected.with(|suspected| suspected.is_empty()) {
            CALM
        } else {
            SECOND_LOOK
        };
        self.next.set(began + again.max(took * SHARE));
    }

    /// For `tp_traverse`.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.cancelled
            .with(|all| all.iter().for_each(|watched| watched.visit(visitor)));
    }

    /// For `tp_clear`.
    pub(crate) fn clear(&self) {
        drop(self.cancelled.with(std::mem::take));
    }

    /// Watches a task that was cancelled and goes on.
    pub(crate) fn watch_cancelled(&self, core: &LoopCore, task: &Own<Task>) {
        let Some(watched) = Watched::new(task) else { return };
        let due = watched.due.min(self.due.get().unwrap_or(f64::INFINITY));
        let before = self.cancelled.with(|all| {
            let before = all
                .iter()
                .position(|each| each.is(task))
                .map(|index| all.swap_remove(index));
            all.push(watched);
            before
        });
        drop(before);
        self.due.set(Some(due));
        self.next.set(self.next.get().min(due.max(core.now())));
    }

    fn look_at_cancelled(&self, core: &Own<LoopCore>) {
        if self.due.get().is_none_or(|due| core.now() < due) {
            return;
        }
        let mut all = self.cancelled.with(std::mem::take);
        let now = core.now();
        all.retain_mut(|watched| watched.due > now || watched.look(core));
        let all = self.cancelled.with(|new| {
            all.append(new);
            std::mem::replace(new, all)
        });
        drop(all);
        let due = self
            .cancelled
            .with(|all| all.iter().map(|watched| watched.due).reduce(f64::min));
        self.due.set(due);
    }

    fn look(&self, loop_: &Obj, core: &Own<LoopCore>, idle: bool) {
        let looked = || -> R<()> {
            let all = waits::tasks_of(loop_);
            if dev::enabled() {
                dev::look_for_forgotten(&all);
            }
            let rings = Stuck::among(&all)?.without_timed(core)?.rings();
            let deadlocked = !rings.is_empty();
            self.tell_rings(rings, &all, idle)?;
            if idle && !deadlocked && !all.is_empty() && is_quiescent(core)? {
                self.tell_quiescent(&all)?;
            }
            Ok(())
        };
        // (a report that cannot be made must not disturb the program)
        if let Err(raised) = looked() {
            raised.ignore();
        }
    }

    /// Rules 1 and 3.
    fn tell_rings(&self, rings: Vec<Ring>, all: &[Own<Task>], idle: bool) -> R<()> {
        let present: HashSet<Vec<u64>> = rings.iter().map(Ring::identities).collect();
        self.told.with(|told| told.retain(|ring| present.contains(ring)));
        let suspected = self
            .suspected
            .with(|suspected| std::mem::replace(suspected, present));
        for ring in rings {
            let identities = ring.identities();
            let certain = idle || suspected.contains(&identities);
            if certain && self.told.with(|told| told.insert(identities)) {
                tell_ring(&ring, all)?;
            }
        }
        // what has been told of is no suspicion
        let told = self.told.with(|told| told.clone());
        self.suspected
            .with(|suspected| suspected.retain(|ring| !told.contains(ring)));
        Ok(())
    }

    fn tell_quiescent(&self, all: &[Own<Task>]) -> R<()> {
        let mut identities: Vec<u64> = all.iter().map(|task| task.serial()).collect();
        identities.sort_unstable();
        if self.quiescent.with(|before| *before == identities) {
            return Ok(());
        }
        self.quiescent.with(|before| *before = identities);
        let mut message = format!(
            "Deadlock: {}, and nothing is left that could end the wait: no timer, no descriptor, no other thread.",
            counted(all.len(), "task waits", "tasks wait")
        );
        let told = told(all.iter().take(TOLD), all, &mut message)?;
        if all.len() > TOLD {
            message += &format!("\n  … and {} more", all.len() - TOLD);
        }
        records::emit(
            Record::new("deadlock")
                .text("kind", "quiescent")
                .raw("tasks", &told)
                .integer("count", all.len() as i64)
                .message(message),
        );
        trace::on_event("deadlock");
        Ok(())
    }
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// The waits of `tasks` as JSON, and in words at the end of `message`.
fn told<'a>(
    tasks: impl Iterator<Item = &'a Own<Task>>,
    all: &[Own<Task>],
    message: &mut String,
) -> R<String> {
    let mut json = Vec::new();
    for task in tasks {
        let wait = Wait::of(task, all)?;
        *message += &wait.in_words();
        json.push(wait.as_record().close());
    }
    Ok(format!("[{}]", json.join(",")))
}

fn tell_ring(ring: &Ring, all: &[Own<Task>]) -> R<()> {
    let count = ring.tasks.len();
    let mut message = if count == 1 {
        "Deadlock: a task waits for itself.".to_owned()
    } else {
        format!("Deadlock: {count} tasks wait for each other.")
    };
    let told = told(ring.tasks.iter().take(TOLD), all, &mut message)?;
    let mut behind = Vec::new();
    for task in ring.behind.iter().take(TOLD) {
        behind.push(waits::name_of(task.obj())?);
    }
    if !behind.is_empty() {
        message += &format!("\n  Behind them: {}", behind.join(", "));
        if ring.behind.len() > TOLD {
            message += &format!(" and {} more", ring.behind.len() - TOLD);
        }
    }
    records::emit(
        Record::new("deadlock")
            .text("kind", "cycle")
            .raw("tasks", &told)
            .integer("count", count as i64)
            .texts("behind", behind)
            .message(message),
    );
    trace::on_event("deadlock");
    Ok(())
}

/// Tasks each of which waits for the next, the last for the first.
struct Ring {
    tasks: Vec<Own<Task>>,
    /// Those that wait for one of these, directly or not.
    behind: Vec<Own<Task>>,
}

impl Ring {
    fn identities(&self) -> Vec<u64> {
        let mut identities: Vec<u64> = self.tasks.iter().map(|task| task.serial()).collect();
        identities.sort_unstable();
        identities
    }
}

/// A task that waits for tasks, and for which: indices of others.
struct Waiting {
    task: Own<Task>,
    targets: Vec<usize>,
    /// One of the targets has to be stuck for this one to be stuck (it needs all of them); else all have to be.
    needs_all: bool,
    stuck: bool,
}

/// The tasks that can never go on: those of rings, and those that wait for them.
struct Stuck(Vec<Waiting>);

impl Stuck {
    /// Those among `all`.
    fn among(all: &[Own<Task>]) -> R<Stuck> {
        let candidates: Vec<&Own<Task>> = all.iter().filter(|task| waits::waits_for_tasks(task)).collect();
        let places: HashMap<usize, usize> = candidates
            .iter()
            .enumerate()
            .map(|(index, task)| (task.obj().as_ptr().addr(), index))
            .collect();
        let mut identities = HashMap::new();
        let mut waiting = Vec::with_capacity(candidates.len());
        for task in &candidates {
            let (targets, needs_all, complete) = match waits::edge(task)? {
                Edge::Open => (Vec::new(), true, true),
                Edge::All(targets) => (indices(&targets, &places).0, true, true),
                Edge::Any(targets) => {
                    let (indices, complete) = indices(&targets, &places);
                    (indices, false, complete)
                }
                Edge::Held(held) if !held.is_scoped => (Vec::new(), true, true),
                Edge::Held(held) => {
                    let holders = held.by;
                    if identities.is_empty() {
                        identities = candidates
                            .iter()
                            .enumerate()
                            .map(|(index, task)| (task.serial(), index))
                            .collect();
                    }
                    let known: Vec<usize> = holders
                        .iter()
                        .filter_map(|holder| identities.get(holder).copied())
                        .collect();
                    let complete = known.len() == holders.len();
                    (known, false, complete)
                }
            };
            waiting.push(Waiting {
                task: (*task).clone(),
                stuck: !targets.is_empty() && complete,
                targets,
                needs_all,
            });
        }
        let mut stuck = Stuck(waiting);
        stuck.settle();
        Ok(stuck)
    }

    /// Takes out who waits for somebody that is not stuck, until nobody is left to take out.
    fn settle(&mut self) {
        loop {
            let mut changed = false;
            for index in 0..self.0.len() {
                let waiting = &self.0[index];
                if !waiting.stuck {
                    continue;
                }
                let mut targets = waiting.targets.iter().map(|target| self.0[*target].stuck);
                let stuck = if waiting.needs_all {
                    targets.any(|stuck| stuck)
                } else {
                    targets.all(|stuck| stuck)
                };
                if !stuck {
                    self.0[index].stuck = false;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// Takes out those whose wait a timer can end.
    fn without_timed(mut self, core: &LoopCore) -> R<Stuck> {
        if !self.0.iter().any(|waiting| waiting.stuck) {
            return Ok(self);
        }
        let timed = known_to_timers(core)?;
        for waiting in &mut self.0 {
            let is_timed = |object: &Obj| timed.contains(&object.as_ptr().addr());
            if is_timed(waiting.task.obj()) || waiting.task.waiter.look(is_timed).unwrap_or(false) {
                waiting.stuck = false;
            }
        }
        self.settle();
        Ok(self)
    }

    /// The rings: components of tasks that reach each other, and no stuck task outside.
    fn rings(self) -> Vec<Ring> {
        let all = self.0;
        let targets = |index: usize| {
            all[index]
                .targets
                .iter()
                .copied()
                .filter(|target| all[*target].stuck)
        };
        let stuck: Vec<usize> = (0..all.len()).filter(|index| all[*index].stuck).collect();
        let mut rings: Vec<(HashSet<usize>, HashSet<usize>)> = Vec::new();
        let mut sources: HashMap<usize, Vec<usize>> = HashMap::new();
        for index in &stuck {
            for target in targets(*index) {
                sources.entry(target).or_default().push(*index);
            }
        }
        for start in &stuck {
            if rings
                .iter()
                .any(|(ring, behind)| ring.contains(start) || behind.contains(start))
            {
                continue;
            }
            // from here to a ring: whoever is reached and does not reach back is nearer to it
            let mut at = *start;
            let (ring, behind) = loop {
                let after = reached(at, targets);
                let before = reached(at, |index| sources.get(&index).into_iter().flatten().copied());
                match after.iter().find(|index| !before.contains(index)) {
                    Some(nearer) => at = *nearer,
                    None => {
                        let behind = before
                            .difference(&after)
                            .copied()
                            .filter(|index| *index != at)
                            .collect();
                        break (after, behind);
                    }
                }
            };
            rings.push((ring, behind));
        }
        let tasks = |of: HashSet<usize>| {
            let mut of: Vec<usize> = of.into_iter().collect();
            of.sort_unstable();
            of.into_iter().map(|index| all[index].task.clone()).collect()
        };
        let rings = rings.into_iter().map(|(ring, behind)| Ring {
            tasks: tasks(ring),
            behind: tasks(behind),
        });
        rings.collect()
    }
}

/// All that can be reached from `start`; itself only if a way leads back.
fn reached<I: Iterator<Item = usize>>(start: usize, next: impl Fn(usize) -> I) -> HashSet<usize> {
    let mut seen = HashSet::new();
    let mut left: Vec<usize> = next(start).collect();
    while let Some(at) = left.pop() {
        if seen.insert(at) {
            left.extend(next(at));
        }
    }
    seen
}

/// The indices of those among `targets` that wait for tasks themselves; and: are those all?
fn indices(targets: &[Obj], places: &HashMap<usize, usize>) -> (Vec<usize>, bool) {
    let known: Vec<usize> = targets
        .iter()
        .filter_map(|target| places.get(&target.as_ptr().addr()).copied())
        .collect();
    let complete = known.len() == targets.len();
    (known, complete)
}

/// The addresses of the tasks and futures that a timer may do something to.
fn known_to_timers(core: &LoopCore) -> R<HashSet<usize>> {
    let mut handles = Vec::new();
    let mut known: HashSet<usize> = core.timers.with(|timers| {
        let mut known = HashSet::new();
        for timer in timers.iter() {
            match timer {
                Timer::Handle(handle) => handles.push(handle.get().clone()),
                Timer::Sleep(future) => {
                    known.insert(future.obj().as_ptr().addr());
                }
                Timer::Hook(hook) => known.extend(known_to_hook(hook)),
            }
        }
        known
    });
    for handle in handles {
        let (callback, arguments, _) = handles::parts(&handle);
        let receiver = callback.getattr_opt(&Obj::interned("__self__")?)?;
        let arguments = if arguments.is_none() {
            Vec::new()
        } else {
            arguments.to_vec()?
        };
        known.extend(
            arguments
                .iter()
                .chain(&receiver)
                .map(|object| object.as_ptr().addr()),
        );
    }
    Ok(known)
}

/// What an alarm is for: a task to cancel, a future to end.
fn known_to_hook(hook: &Hook) -> Option<usize> {
    let object = hook.a.get()?;
    let target = match Timeout::class().instance(&object) {
        Some(timeout) => timeout.task()?,
        None => object,
    };
    Some(target.as_ptr().addr())
}

/// Rule 2.
fn is_quiescent(core: &Own<LoopCore>) -> R<bool> {
    Ok(core.is_idle()
        && core.timers.with(|timers| timers.len()) == 0
        && core.watched.get() == 0
        && !core.has_signal_handlers.get()
        && !lookups::are_pending(core)
        && no_other_thread(core)?
        && no_signal_handler()?)
}

/// Is nobody else in this process but idle workers of the default executor, and threads of ours that wait for nothing?
fn no_other_thread(core: &LoopCore) -> R<bool> {
    let (Some(own), Some(threads)) = (threads::current(), threads::all()) else {
        return Ok(false);
    };
    let mut others: Vec<u64> = threads
        .into_iter()
        .filter(|(id, name)| *id != own && !threads::is_bystander(name))
        .map(|(id, _)| id)
        .collect();
    if others.is_empty() {
        return Ok(true);
    }
    let Some(executor) = core.default_executor.get().filter(|executor| !executor.is_none()) else {
        return Ok(false);
    };
    let workers = executor.getattr_str("_threads")?;
    let idle = executor
        .getattr_str("_idle_semaphore")?
        .getattr_str("_value")?
        .to_i64()?;
    if idle < workers.len()? as i64
        || executor
            .getattr_str("_work_queue")?
            .call_method_str("qsize", &[])?
            .to_i64()?
            > 0
    {
        return Ok(false);
    }
    for worker in workers.to_vec()? {
        let id = worker.getattr_str("native_id")?;
        if !id.is_none() {
            let id = id.to_i64()? as u64;
            others.retain(|other| *other != id);
        }
    }
    Ok(others.is_empty())
}

/// Has the program no handler for a signal, in Python, that could do something? (Those of Ctrl-C that Python and
/// `asyncio.run` have put there end the program.)
fn no_signal_handler() -> R<bool> {
    let signal = Obj::import("signal")?;
    let ordinary = signal.getattr_str("default_int_handler")?;
    for number in imports::LIST
        .call(&[&signal.call_method_str("valid_signals", &[])?])?
        .to_vec()?
    {
        let handler = signal.call_method_str("getsignal", &[&number])?;
        let is_runners = Hook::class().is_exact(&handler) || is_asyncio_runner(&handler)?;
        if handler.callable() && !handler.is(&ordinary) && !is_runners && !is_number(&handler) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `signal.SIG_DFL` and `SIG_IGN` are members of an enumeration of numbers.
fn is_number(handler: &Obj) -> bool {
    crate::ffi::object::is_int(handler)
}

/// `functools.partial(runner._on_sigint, …)` of asyncio's own runner.
fn is_asyncio_runner(handler: &Obj) -> R<bool> {
    if !handler.isinstance(&imports::PARTIAL)? {
        return Ok(false);
    }
    let function = handler.getattr_str("func")?;
    let name = function.getattr_opt(&Obj::interned("__qualname__")?)?;
    name.map_or(Ok(false), |name| {
        Ok(name.to_str()?.to_string()? == "Runner._on_sigint")
    })
}
