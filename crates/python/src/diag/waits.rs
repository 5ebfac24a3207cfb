//! The wait-for graph: what a task waits for, whose it is to end that wait, and where in the program it waits.
//!
//! Nothing is kept for it but the holders of locks (`holders.rs`). A task's coroutine awaits another, and so on; the
//! innermost one of ours is the primitive that it waits at, whose fields say the rest.
//!
//! Rules
//! 1. It is asked on the loop's own thread, between two entries: every task is suspended or about to run.
//! 2. [`edge`] is cheap (no frame is looked at) and says only what is certain. [`Wait::of`] is for a report.
//! 3. It changes nothing.

use super::holders::Held;
use super::own::{self, InFile};
use super::records::Record;
use crate::ffi::errors::{R, Raised};
use crate::ffi::function::Kind::Plain;
use crate::ffi::{Args, Class, Coroutine, Obj, Own, running};
use crate::futures::callbacks::as_native;
use crate::futures::{Future, Role};
use crate::imports;
use crate::locks::{lock::Lock, semaphore::Semaphore};
use crate::taskgroups::TaskGroup;
use crate::tasks::gather::Gathering;
use crate::tasks::{Task, shield, wait, wait_for};

/// How many coroutines deep we look.
const DEEPEST: usize = 200;

/// Who can end a wait.
pub(crate) enum Edge {
    /// Not known, or anybody.
    Open,
    /// All of these have to be done.
    All(Vec<Obj>),
    /// One of these has to be done.
    Any(Vec<Obj>),
    /// One of these tasks has to release; or anybody, if not all of them are in an `async with`.
    Held(Held),
}

/// May this task have an edge? A look at two objects, for the many that have none.
#[inline]
pub(crate) fn waits_for_tasks(task: &Own<Task>) -> bool {
    let waits = task.waiter.look(|waiter| match Future::class().exact(waiter) {
        Some(future) => !future.is_done() && future.role.get() == Role::ForTasks,
        None => as_native(waiter).is_some_and(|future| !future.is_done()),
    });
    waits.unwrap_or(false)
}

/// Whose it is to end the wait of `task`.
pub(crate) fn edge(task: &Own<Task>) -> R<Edge> {
    let Some(waiter) = task.waiter.get() else {
        return Ok(Edge::Open);
    };
    let Some(future) = as_native(&waiter).filter(|future| !future.is_done()) else {
        return Ok(Edge::Open);
    };
    if let Some(edge) = edge_of_future(future)? {
        return Ok(edge);
    }
    match Chain::of(task)?.native.last() {
        Some(innermost) => edge_of_body(innermost),
        None => Ok(Edge::Open),
    }
}

/// What a task, `gather()` or `shield()` waits for.
fn edge_of_future(future: &Own<Future>) -> R<Option<Edge>> {
    if Task::class().is_exact(future.obj()) {
        return Ok(Some(Edge::All(vec![future.obj().clone()])));
    }
    if let Some(gathering) = Gathering::class().exact(future.obj()) {
        return Ok(Some(Edge::All(flat(gathering.awaited()?)?)));
    }
    if let Some(inner) = shield::awaited(future) {
        return Ok(Some(Edge::All(flat(vec![inner])?)));
    }
    Ok(None)
}

/// The tasks among what a `gather()` waits for, also by way of others.
fn flat(awaited: Vec<Obj>) -> R<Vec<Obj>> {
    let mut all = Vec::with_capacity(awaited.len());
    for each in awaited {
        match as_native(&each) {
            Some(future) if future.is_done() => {}
            Some(future) if !Task::class().is_exact(&each) => match edge_of_future(future)? {
                Some(Edge::All(inner)) => all.extend(inner),
                _ => all.push(each),
            },
            _ => all.push(each),
        }
    }
    Ok(all)
}

/// What the body of a coroutine of ours waits for.
fn edge_of_body(body: &Own<Coroutine>) -> R<Edge> {
    let subject = body.subject().unwrap_or_else(Obj::none);
    Ok(match body.qualified_name() {
        "Lock.acquire" | "Semaphore.acquire" | "_ContextManagerMixin.__aenter__" => holders(&subject),
        "TaskGroup.__aexit__" => match TaskGroup::class().instance(&subject) {
            Some(group) => Edge::All(flat(group.awaited()?)?),
            None => Edge::Open,
        },
        "wait" => match wait::awaited(body)? {
            (futures, true) => Edge::Any(futures),
            (futures, false) => Edge::All(flat(futures)?),
        },
        "wait_for" => match wait_for::awaited(body) {
            Some(future) => Edge::All(vec![future]),
            None => Edge::Open,
        },
        "_cancel_and_wait" => Edge::All(flat(vec![subject])?),
        _ => Edge::Open,
    })
}

/// Who holds a lock, or all units of a semaphore: if we know.
fn holders(primitive: &Obj) -> Edge {
    if let Some(lock) = Lock::class().instance(primitive)
        && lock.is_locked()
        && let Some(held) = lock.holder.get()
    {
        return Edge::Held(held);
    }
    if let Some(semaphore) = Semaphore::class().instance(primitive)
        && let Some(held) = semaphore.holders.get()
    {
        return Edge::Held(held);
    }
    Edge::Open
}

/// The coroutines of a suspended task, from outside in.
#[derive(Default)]
pub(crate) struct Chain {
    /// Those of the interpreter's own, which have frames.
    pub(crate) framed: Vec<Obj>,
    /// Those of ours after the last of these.
    pub(crate) native: Vec<Own<Coroutine>>,
}

impl Chain {
    /// That of `task`.
    pub(crate) fn of(task: &Own<Task>) -> R<Chain> {
        let mut chain = Chain::default();
        let mut next = task.coro.get();
        for _ in 0..DEEPEST {
            let Some(here) = next else { break };
            next = if let Some(native) = Coroutine::class().exact(&here) {
                chain.native.push(native.clone());
                native.awaited()
            } else if let Some((_, awaited)) = ATTRIBUTES.iter().find(|(class, _)| class.is_class_of(&here)) {
                let awaited = here.getattr_str(awaited)?;
                chain.framed.push(here);
                chain.native.clear();
                awaited.non_none().cloned()
            } else {
                stepped(&here)?
            };
        }
        Ok(chain)
    }

    /// Where the program waits: its frames, from inside out.
    pub(crate) fn places(&self) -> R<Vec<Place>> {
        let mut places = Vec::with_capacity(self.framed.len());
        for coroutine in self.framed.iter().rev() {
            if let Some(frame) = frame_of(coroutine)? {
                places.push(Place::of_frame(&frame)?);
            }
        }
        Ok(places)
    }
}

/// What has a frame.
enum Framed {
    Coroutine,
    Generator,
    AsyncGenerator,
}

/// How one asks them what they await.
const ATTRIBUTES: [(Framed, &str); 3] = [
    (Framed::Coroutine, "cr_await"),
    (Framed::Generator, "gi_yieldfrom"),
    (Framed::AsyncGenerator, "ag_await"),
];

impl Framed {
    fn is_class_of(&self, object: &Obj) -> bool {
        match self {
            Framed::Coroutine => crate::ffi::send::is_coroutine(object),
            Framed::Generator => crate::ffi::send::is_generator(object),
            Framed::AsyncGenerator => crate::ffi::send::is_async_generator(object),
        }
    }
}

/// What stands between a coroutine and an asynchronous generator (`anext()` and the like), or the wrapper of
/// `coro.__await__()`: whoever it drives.
fn stepped(object: &Obj) -> R<Option<Obj>> {
    let between = imports::ASYNC_GENERATOR_STEPS
        .iter()
        .any(|class| object.is_exactly(class.get()))
        || matches!(
            object.class_name().as_str(),
            "coroutine_wrapper" | "anext_awaitable"
        );
    if !between {
        return Ok(None);
    }
    let driven = imports::GC_REFERENTS.call(&[object])?.to_vec()?;
    Ok(driven.into_iter().find(|each| {
        Coroutine::class().is_exact(each)
            || ATTRIBUTES.iter().any(|(class, _)| class.is_class_of(each))
            || imports::ASYNC_GENERATOR_STEPS
                .iter()
                .any(|class| each.is_exactly(class.get()))
    }))
}

/// The frame of a coroutine or a generator that has not ended.
fn frame_of(coroutine: &Obj) -> R<Option<Obj>> {
    let name = match ATTRIBUTES.iter().find(|(class, _)| class.is_class_of(coroutine)) {
        Some((Framed::Coroutine, _)) => "cr_frame",
        Some((Framed::Generator, _)) => "gi_frame",
        Some((Framed::AsyncGenerator, _)) => "ag_frame",
        None => return Ok(None),
    };
    let frame = coroutine.getattr_str(name)?;
    Ok(frame.non_none().cloned())
}

/// A line of a program.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: i64,
    pub(crate) function: String,
}

impl InFile for Place {
    fn file(&self) -> &str {
        &self.file
    }
}

impl Place {
    /// Where a frame is.
    pub(crate) fn of_frame(frame: &Obj) -> R<Place> {
        let code = frame.getattr_str("f_code")?;
        let line = frame.getattr_str("f_lineno")?;
        Ok(Place {
            file: code.getattr_str("co_filename")?.to_string()?,
            line: if line.is_none() { 0 } else { line.to_i64()? },
            function: code.getattr_str("co_qualname")?.to_string()?,
        })
    }

    /// `file:line:function`, as records have it.
    pub(crate) fn text(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.function)
    }
}

/// A wait, for a report.
pub(crate) struct Wait {
    /// The task's name.
    pub(crate) task: String,
    /// `Lock accounts`, `Queue.get jobs`, `Task worker-1`.
    pub(crate) what: String,
    /// The names of the tasks that hold it.
    pub(crate) held_by: Vec<String>,
    /// The names of the tasks that it waits for, if that is all that there is to know.
    pub(crate) tasks: Vec<String>,
    /// What else is to be known: how full a queue is, how many a barrier lacks.
    pub(crate) detail: String,
    /// Where, from inside out.
    pub(crate) places: Vec<Place>,
}

/// How many of the tasks that one waits for are named.
const NAMED_AT_MOST: usize = 20;

impl Wait {
    /// That of `task`. `all`: the tasks among which holders are looked for.
    pub(crate) fn of(task: &Own<Task>, all: &[Own<Task>]) -> R<Wait> {
        let chain = Chain::of(task)?;
        let mut wait = Wait {
            task: name_of(task.obj())?,
            what: String::new(),
            held_by: Vec::new(),
            tasks: Vec::new(),
            detail: String::new(),
            places: chain.places()?,
        };
        match edge(task)? {
            Edge::Open => {}
            Edge::All(targets) | Edge::Any(targets) => {
                for target in targets.iter().take(NAMED_AT_MOST) {
                    wait.tasks.push(name_of(target)?);
                }
            }
            Edge::Held(held) => {
                for identity in held.by {
                    wait.held_by.push(name_of_holder(identity, all)?);
                }
            }
        }
        wait.describe(task, &chain)?;
        Ok(wait)
    }

    /// Fills `what` and `detail`.
    fn describe(&mut self, task: &Own<Task>, chain: &Chain) -> R<()> {
        let Some(waiter) = task.waiter.get() else {
            self.what = "nothing: it is about to run".to_owned();
            return Ok(());
        };
        let frame = chain.framed.last().map_or(Ok(None), frame_of)?;
        let Some(outermost) = chain.native.first() else {
            self.what = if Task::class().is_instance(&waiter) {
                format!("Task {}", name_of(&waiter)?)
            } else if Gathering::class().is_exact(&waiter) {
                "gather()".to_owned()
            } else if as_native(&waiter).and_then(shield::awaited).is_some() {
                "shield()".to_owned()
            } else {
                named("Future", &waiter, frame.as_ref())?
            };
            return Ok(());
        };
        // what a condition waits for in the end is its lock
        let innermost = chain.native.last().unwrap_or(outermost);
        let subject = outermost.subject().unwrap_or_else(Obj::none);
        let short = outermost.qualified_name();
        let kind = match short {
            "_ContextManagerMixin.__aenter__" | "Lock.acquire" | "Semaphore.acquire" => {
                let class = subject.class_name();
                class.rsplit('.').next().unwrap_or_default().to_owned()
            }
            "Event.wait" => "Event".to_owned(),
            "TaskGroup.__aexit__" => "TaskGroup".to_owned(),
            "Condition.wait" | "Condition.wait_for" if innermost.qualified_name() == "Lock.acquire" => {
                "Condition's lock, of".to_owned()
            }
            "Condition.wait" | "Condition.wait_for" => "Condition".to_owned(),
            "Barrier.wait" => "Barrier".to_owned(),
            other => other.to_owned(),
        };
        self.what =
            if matches!(short, "wait" | "wait_for" | "sleep" | "_cancel_and_wait") || subject.is_none() {
                format!("{kind}()")
            } else {
                named(&kind, &subject, frame.as_ref())?
            };
        self.detail = detail(short, &subject)
            .map_err(Raised::ignore)
            .unwrap_or_default();
        Ok(())
    }

    /// The place that is the program's own.
    pub(crate) fn at(&self) -> Option<&Place> {
        own::line(&self.places)
    }
}

/// See [`Wait::detail`]. A derived class may have its own idea of it, or none.
fn detail(short: &str, subject: &Obj) -> R<String> {
    let number = |name: &str| subject.getattr_str(name)?.to_i64();
    Ok(match short {
        "Queue.get" | "Queue.put" => {
            let size = subject.call_method_str("qsize", &[])?.to_i64()?;
            format!("{size} of {} items", bound_of(subject)?)
        }
        "Queue.join" => format!(
            "task_done() was not called for {} items",
            number("_unfinished_tasks")?
        ),
        "Barrier.wait" => format!(
            "{} of {} parties are here",
            number("n_waiting")?,
            number("parties")?
        ),
        _ => String::new(),
    })
}

fn bound_of(queue: &Obj) -> R<String> {
    let bound = queue.getattr_str("maxsize")?;
    Ok(if bound.le(&Obj::int(0)?)? {
        "any number of".to_owned()
    } else {
        bound.to_str()?.to_string()?
    })
}

/// The name of a task or future.
pub(crate) fn name_of(object: &Obj) -> R<String> {
    match Task::class().instance(object) {
        Some(task) => task.name()?.to_str()?.to_string(),
        None => Ok(format!("{} at {:p}", object.class_name(), object.as_ptr())),
    }
}

/// The name of the task with this identity, which may be no more.
pub(crate) fn name_of_holder(identity: u64, all: &[Own<Task>]) -> R<String> {
    match all.iter().find(|task| task.serial() == identity) {
        Some(task) => name_of(task.obj()),
        None => Ok(match Task::unnamed(identity) {
            Some(name) => format!("{name} (it has ended)"),
            None => "a task that has ended".to_owned(),
        }),
    }
}

/// `kind`, and what the program calls the object where it waits for it.
fn named(kind: &str, object: &Obj, frame: Option<&Obj>) -> R<String> {
    let name = match frame {
        Some(frame) => variable(object, frame)?,
        None => None,
    };
    Ok(match name {
        Some(name) => format!("{kind} {name}"),
        None => format!("{kind} at {:p}", object.as_ptr()),
    })
}

/// The variable that has the object: a global one, an attribute of `self`, or a local one.
fn variable(object: &Obj, frame: &Obj) -> R<Option<String>> {
    if let Some(name) = key_of(&frame.getattr_str("f_globals")?, object)? {
        return Ok(Some(name));
    }
    let locals = Obj::dict()?;
    locals.call_method_str("update", &[&frame.getattr_str("f_locals")?])?;
    if let Some(this) = locals.dict_get(&Obj::interned("self")?)?
        && let Some(attributes) = instance_dict(&this)?
        && let Some(name) = key_of(&attributes, object)?
    {
        return Ok(Some(format!("self.{name}")));
    }
    key_of(&locals, object)
}

/// `this.__dict__`, without asking the program's own `__getattribute__`.
fn instance_dict(this: &Obj) -> R<Option<Obj>> {
    let found = imports::OBJECT.call_method_str("__getattribute__", &[this, &Obj::interned("__dict__")?]);
    Ok(found.map_err(Raised::ignore).ok().filter(Obj::is_dict))
}

/// The key under which a dict has the object.
fn key_of(dict: &Obj, object: &Obj) -> R<Option<String>> {
    for item in imports::LIST
        .call(&[&dict.call_method_str("items", &[])?])?
        .to_vec()?
    {
        let [key, value] = item.tuple_items() else {
            continue;
        };
        if value.is(object) && crate::ffi::object::is_exact_str(key) {
            return key.to_string().map(Some);
        }
    }
    Ok(None)
}

/// All tasks of `loop_` that are not done.
pub(crate) fn tasks_of(loop_: &Obj) -> Vec<Own<Task>> {
    use crate::ffi::links::Linked;
    let mut all = Task::list().of_thread();
    all.retain(|task| task.future.loop_.holds(loop_) && !task.future.is_done());
    all
}

/// Exports this area's function.
pub(super) fn register(diag: &Obj) -> R<()> {
    crate::module::export(diag, &[("aioxide._core.diag", "_waits(loop=None)", waits, Plain)])
}

/// `_waits(loop=None)`: all waits as JSON, in the form that they have in records.
fn waits(args: &Args) -> R<Obj> {
    let loop_ = match args.opt(0) {
        Some(loop_) => loop_.clone(),
        None => running::require()?,
    };
    let all = tasks_of(&loop_);
    let mut waits = Vec::new();
    for task in all.iter().filter(|task| !task.waiter.is_empty()) {
        waits.push(Wait::of(task, &all)?.as_record().close());
    }
    Obj::str(&format!("[{}]", waits.join(",")))
}

impl Wait {
    /// A part of a record.
    pub(crate) fn as_record(&self) -> Record {
        let mut record = Record::object().text("t", &self.task).text("waits", &self.what);
        for (key, names) in [("held_by", &self.held_by), ("for", &self.tasks)] {
            record = match names.as_slice() {
                [] => record,
                [one] => record.text(key, one),
                several => record.texts(key, several),
            };
        }
        if !self.detail.is_empty() {
            record = record.text("detail", &self.detail);
        }
        if let Some(place) = self.at() {
            record = record.text("at", &place.text());
        }
        record.texts("stack", self.places.iter().map(Place::text))
    }

    /// Two lines of a report.
    pub(crate) fn in_words(&self) -> String {
        let mut text = format!("\n  {} waits for {}", self.task, self.what);
        if !self.detail.is_empty() {
            text += &format!(" ({})", self.detail);
        }
        if !self.held_by.is_empty() {
            text += &format!(", held by {}", self.held_by.join(", "));
        } else if !self.tasks.is_empty() && !self.what.starts_with("Task ") {
            text += &format!(" of {}", self.tasks.join(", "));
        }
        if let Some(place) = self.at() {
            text += &format!("\n      at {}:{} in {}", place.file, place.line, place.function);
        }
        text
    }
}
