//! The flight recorder, on the side of the loop: what is written down, and when.
//!
//! Rules
//! 1. While it is off there is nothing: the loop comes aside before each entry only while it is on (`Pulse`), and every
//!    event of a task is found there. An entry that has appeared in the ready queue meanwhile is something that
//!    has become ready; a task that is done after its step has ended.
//! 2. The loop's thread alone writes. Others want it on or off by [`want`], and read the [`Recording`]s. What the program
//!    wants goes before: who traces it from outside has no ring of his own then, and takes nothing from it.
//! 3. No reference to a task or a callback is kept, and no Python code is run: names are those of functions and coroutines
//!    of the interpreter, of ours, and of classes.

use super::{Job, at_next_boundary, running};
use crate::event_loop::core::{Entry, LoopCore};
use crate::event_loop::handles;
use crate::ffi::object::{Static, is_exact_str};
use crate::ffi::{Class, Obj, Own, R, threads};
use crate::futures::future::State;
use crate::hook::Hook;
use crate::imports::{self, names};
use crate::tasks::Task;
use crate::transports::Happening;
use aioxide_core::PerProcess;
use aioxide_core::flight::{Event, Label, Name, Recorder, Recording};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// How large a ring the program wants, in bytes. 0: none.
static WANTED: AtomicUsize = AtomicUsize::new(0);
/// How large a one somebody wants who traces this process from outside.
static TRACER: PerProcess<AtomicUsize> = PerProcess::new();

/// The recordings there are. One that nobody else has is written no more.
static RECORDINGS: PerProcess<Mutex<Vec<Entered>>> = PerProcess::new();
/// So many that nobody writes any more are kept: a program may ask when its loop has ended.
const KEPT: usize = 2;
/// How many names are remembered by address.
const MOST_NAMES: usize = 4096;

static FUNCTION: Static = Static::new();
static METHOD: Static = Static::new();
static BUILTIN: Static = Static::new();

/// The number of a loop, and what it has recorded.
type Entered = (u32, Arc<Recording>);

/// Who wants recordings.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    /// The program, or who started it.
    Program,
    /// `aioxide trace PID`
    Tracer,
}

/// Wants rings of so many bytes, or none: all loops that run, and that will. Any thread, with the GIL or without.
pub(crate) fn want(who: Who, bytes: usize) {
    match who {
        Who::Program => &WANTED,
        Who::Tracer => TRACER.get(),
    }
    .store(bytes, Ordering::Release);
    for loop_ in running() {
        at_next_boundary(&loop_, Job::Flight);
    }
}

/// How many bytes the program wants.
pub(crate) fn wanted() -> usize {
    WANTED.load(Ordering::Acquire)
}

/// How many a loop is to have.
fn due() -> usize {
    match wanted() {
        0 => TRACER.get().load(Ordering::Acquire),
        bytes => bytes,
    }
}

fn entered() -> MutexGuard<'static, Vec<Entered>> {
    RECORDINGS.lock()
}

/// The recordings, with the numbers of their loops. Any thread.
pub(crate) fn recordings() -> Vec<Entered> {
    entered().clone()
}

/// What a loop has while it records.
pub(crate) struct Flight {
    recorder: Recorder,
    bytes: usize,
    /// In which process of a family it was made.
    epoch: u32,
    /// How many entries of the ready queue have been noted, from its front.
    seen: Cell<usize>,
    names: RefCell<Names>,
    sleep: Name,
}

/// The names that have a number.
#[derive(Default)]
struct Names {
    /// By the address of the text; the object is kept so that the address is not another's.
    by_address: HashMap<usize, (Option<Obj>, Name)>,
    by_text: HashMap<String, Name>,
}

impl Flight {
    fn new(bytes: usize) -> Flight {
        let recorder = Recorder::new(bytes);
        let sleep = recorder.text("sleep() is over");
        Flight {
            recorder,
            bytes,
            epoch: threads::fork_epoch(),
            seen: Cell::new(0),
            names: RefCell::default(),
            sleep,
        }
    }

    /// An entry that has been taken from the queue is about to run.
    pub(crate) fn before(&self, core: &LoopCore, entry: &Entry) {
        match self.seen.get() {
            0 => self.note_entry(entry),
            seen => self.seen.set(seen - 1),
        }
        self.note_ready(core);
        let name = match entry {
            Entry::Step(task) | Entry::Wake(task) => {
                return self.recorder.note(Event::Step, address(task));
            }
            Entry::Callback { callback, .. } => self.callback(callback),
            Entry::Handle(handle) => self.callback(&handles::callback(handle.get())),
            Entry::Slept(_) => self.sleep,
            Entry::Source(source, happening) => {
                let (number, what) = match happening {
                    Happening::Made => (0, "made"),
                    Happening::Readable => (1, "readable"),
                    Happening::Again => (2, "readable again"),
                    Happening::Writable => (3, "writable"),
                    Happening::Lost => (4, "lost"),
                };
                let class = source.obj().class();
                self.known(class.as_ptr().addr() + number, || {
                    (
                        Some(class.clone()),
                        format!("{} {what}", source.obj().class_name()),
                    )
                })
            }
        };
        self.recorder.note(Event::Callback, name.subject());
    }

    /// The entry has run; `task` is the one whose step it was.
    pub(crate) fn after(&self, core: &LoopCore, task: Option<&Own<Task>>) {
        if let Some(task) = task {
            let event = match task.as_future().state.get() {
                State::Pending => None,
                State::Cancelled => Some(Event::Cancelled),
                State::Result => Some(Event::Returned),
                State::Exception => Some(Event::Raised),
            };
            if let Some(event) = event {
                self.recorder.ends(address(task), event);
            }
        }
        self.note_ready(core);
    }

    /// The loop asks the kernel.
    pub(crate) fn polls(&self, may_sleep: bool) {
        self.recorder.note(Event::Poll, u64::from(may_sleep));
    }

    /// … and has its answer.
    pub(crate) fn wakes(&self) {
        self.recorder.note(Event::Awake, 0);
    }

    /// Rule 1: what has appeared in the queue.
    #[inline]
    fn note_ready(&self, core: &LoopCore) {
        let (seen, length) = (self.seen.get(), core.ready.len());
        if seen == length {
            return;
        }
        self.seen.set(length);
        core.ready.for_each_from(seen, |entry| self.note_entry(entry));
    }

    fn note_entry(&self, entry: &Entry) {
        match entry {
            Entry::Step(task) if task.future.steps.get() == 0 => {
                self.name_task(task);
                self.recorder.note(Event::Spawn, address(task));
            }
            Entry::Step(task) | Entry::Wake(task) => {
                // (one that has begun eagerly, inside of another's step, has not been seen yet)
                if task.future.steps.get() == 1 {
                    self.name_task(task);
                }
                // (by a bare yield it makes itself ready)
                if matches!(entry, Entry::Wake(_)) {
                    self.recorder.note(Event::Ready, address(task));
                }
            }
            _ => {}
        }
    }

    fn name_task(&self, task: &Task) {
        let (number, name) = task.number_and_name();
        let coroutine = task.coroutine_name().map(|name| self.name(name));
        let label = Label {
            number,
            name: name.map(|name| self.name(name)),
            coroutine: coroutine.unwrap_or_else(|raised| {
                raised.ignore();
                self.text("?")
            }),
        };
        self.recorder.begins(address(task), label);
    }

    /// Rule 3.
    fn callback(&self, callback: &Obj) -> Name {
        if let Some(hook) = Hook::class().exact(callback) {
            let name = hook.name();
            return self.known(name.as_ptr().addr(), || (None, name.to_owned()));
        }
        let plain = |object: &Obj| object.is_exactly(FUNCTION.get()) || object.is_exactly(BUILTIN.get());
        let name = if plain(callback) {
            callback.getattr(&names::QUALNAME)
        } else if callback.is_exactly(METHOD.get()) {
            let function = callback.getattr(&names::FUNC);
            match function {
                Ok(function) if plain(&function) => function.getattr(&names::QUALNAME),
                _ => Obj::str(&callback.class_name()),
            }
        } else {
            Obj::str(&callback.class_name())
        };
        match name {
            Ok(name) => self.name(name),
            Err(raised) => {
                raised.ignore();
                self.text("?")
            }
        }
    }

    /// The number of a str.
    fn name(&self, name: Obj) -> Name {
        self.known(name.as_ptr().addr(), || {
            let text = if is_exact_str(&name) {
                name.to_string().unwrap_or_else(|raised| {
                    raised.ignore();
                    "?".to_owned()
                })
            } else {
                "?".to_owned()
            };
            (Some(name.clone()), text)
        })
    }

    fn known(&self, address: usize, text: impl FnOnce() -> (Option<Obj>, String)) -> Name {
        if let Some((_, name)) = self.names.borrow().by_address.get(&address) {
            return *name;
        }
        let (kept, text) = text();
        let name = self.text(&text);
        let mut names = self.names.borrow_mut();
        if names.by_address.len() == MOST_NAMES {
            names.by_address.clear();
        }
        names.by_address.insert(address, (kept, name));
        name
    }

    fn text(&self, text: &str) -> Name {
        let mut names = self.names.borrow_mut();
        if let Some(name) = names.by_text.get(text) {
            return *name;
        }
        let name = self.recorder.text(text);
        names.by_text.insert(text.to_owned(), name);
        name
    }
}

#[inline(always)]
fn address(task: &Task) -> u64 {
    std::ptr::from_ref(task).addr() as u64
}

/// Is it wanted otherwise than it is, or is it of the process that this one was forked from?
fn is_stale(core: &LoopCore) -> bool {
    let wanted = due();
    core.flight().map_or(wanted != 0, |flight| {
        flight.bytes != wanted || flight.epoch != threads::fork_epoch()
    })
}

/// A loop begins to run, perhaps in a child.
pub(super) fn on_run(core: &LoopCore, number: u32) {
    if is_stale(core) {
        renew(core, number, &[]);
    }
}

/// [`want`] has been called. By the loop's thread.
pub(super) fn refresh(loop_: &Obj, core: &LoopCore, number: u32) -> R<()> {
    if is_stale(core) {
        let tasks = imports::ALL_TASKS.call(&[loop_])?.to_vec()?;
        renew(core, number, &tasks);
    }
    Ok(())
}

fn renew(core: &LoopCore, number: u32, tasks: &[Obj]) {
    drop(core.set_flight(None));
    let wanted = due();
    if wanted == 0 {
        return;
    }
    let flight = Rc::new(Flight::new(wanted));
    for task in tasks.iter().filter_map(|task| Task::class().instance(task)) {
        flight.name_task(task);
    }
    if !tasks.is_empty() {
        flight.seen.set(core.ready.len());
    }
    enter(number, Arc::clone(flight.recorder.recording()));
    drop(core.set_flight(Some(flight)));
    // from the next entry on
    core.vitals.pulse.ask();
}

fn enter(number: u32, recording: Arc<Recording>) {
    let mut all = entered();
    let is_over = |(_, recording): &Entered| Arc::strong_count(recording) == 1;
    let mut excess = all.iter().filter(|one| is_over(one)).count().saturating_sub(KEPT);
    all.retain(|one| {
        let goes = excess > 0 && is_over(one);
        excess -= usize::from(goes);
        !goes
    });
    all.push((number, recording));
}

/// Finds the classes whose instances have names that can be asked for (rule 3). Called once.
pub(super) fn init() -> R<()> {
    let types = Obj::import("types")?;
    for (place, name) in [
        (&FUNCTION, "FunctionType"),
        (&METHOD, "MethodType"),
        (&BUILTIN, "BuiltinFunctionType"),
    ] {
        place.fill(types.getattr_str(name)?);
    }
    Ok(())
}
