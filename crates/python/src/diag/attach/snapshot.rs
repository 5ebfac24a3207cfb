//! All tasks at one moment, as nearly as that can be had: where each stands, and what it waits for.
//!
//! Who waits for whom is read from both ends. A task's `waiter` leads to the task, or to the `gather()`, that it awaits;
//! for `wait()`, `shield()`, `TaskGroup` and their like the waiter is a future of theirs, and what is awaited is found by
//! the hooks that lie on the awaited tasks and lead back to it.

use super::json::Json;
use super::layout::{Kind, Kinds, at};
use super::walk::{self, Raw};
use crate::diag::holders::{KNOWN, SCOPED, layout as layout_of_holders};
use crate::diag::own;
use crate::ffi::coroutine::layout as coroutine;
use crate::ffi::peek::{self, CLASS, word_in};
use crate::ffi::stack::{Frame, Reader};
use crate::futures::future::{Callback, layout as future};
use crate::futures::{State, iter};
use crate::hook::layout as hook;
use crate::locks::{lock, semaphore};
use crate::tasks::gather;
use crate::tasks::task::{NAMED, layout};
use aioxide_core::memory;
use std::collections::{HashMap, HashSet};

/// How many hooks lead from an awaited task to the one that waits.
const MOST_HOOKS: usize = 6;
/// The file of our own functions, as the reader of stacks has it.
const OUR_FILE: &str = "<aioxide>";

/// How a task is called.
pub(super) struct Name {
    /// Unique in its process, for ever: `7` of `Task-7`, `n3` of the third task that was made with a name.
    pub(super) id: String,
    pub(super) name: String,
}

impl Name {
    /// Of a task that was given this name, or none.
    fn with(raw: &Raw, given: Option<String>) -> Name {
        let number = match raw.kind {
            Kind::Task => raw.word(layout::NUMBER) as u64,
            _ => 0,
        };
        let is_numbered = number != 0 && number & NAMED == 0;
        let id = match number {
            // a task of asyncio's, or one whose `__init__` has not run: there is nothing but its address
            0 => format!("x{:x}", raw.address),
            number => id_of(number),
        };
        let name = given.unwrap_or_else(|| {
            if is_numbered {
                format!("Task-{number}")
            } else {
                "?".to_owned()
            }
        });
        Name { id, name }
    }
}

/// [`Name::id`] of the task of this identity.
pub(super) fn id_of(identity: u64) -> String {
    if identity & NAMED == 0 {
        identity.to_string()
    } else {
        format!("n{}", identity & !NAMED)
    }
}

/// A task, and what is known of it.
pub(super) struct Task {
    raw: Raw,
    pub(super) name: Name,
    state: &'static str,
    /// From the outermost coroutine inwards; ours among them.
    frames: Vec<Frame>,
    /// What kind of thing its `waiter` is.
    waits_for: Kind,
    /// In words.
    waits: String,
    /// Whose ends it waits for: indices.
    awaits: Vec<usize>,
    /// The tasks of its `TaskGroup`, though it may be waiting for something else.
    children: Vec<usize>,
    /// Who holds the lock or semaphore that it waits for: identities.
    holders: Vec<u64>,
}

/// All tasks.
pub(super) struct Snapshot {
    pub(super) tasks: Vec<Task>,
    by_address: HashMap<usize, usize>,
    by_number: HashMap<u64, usize>,
    pub(super) consistent: bool,
}

impl Snapshot {
    /// Names only.
    pub(super) fn names() -> Snapshot {
        let mut kinds = Kinds::default();
        let (raws, consistent) = walk::all(&mut kinds);
        let names: Vec<usize> = raws.iter().map(|raw| raw.word(layout::NAME)).collect();
        let texts = match Reader::new() {
            Some(reader) => reader.texts(&names),
            None => vec![None; raws.len()],
        };
        let tasks: Vec<Task> = raws
            .into_iter()
            .zip(texts)
            .map(|(raw, text)| Task {
                name: Name::with(&raw, text),
                raw,
                state: "",
                frames: Vec::new(),
                waits_for: Kind::Other,
                waits: String::new(),
                awaits: Vec::new(),
                children: Vec::new(),
                holders: Vec::new(),
            })
            .collect();
        let numbered = tasks.iter().enumerate();
        Snapshot {
            by_address: numbered
                .clone()
                .map(|(index, task)| (task.raw.address, index))
                .collect(),
            by_number: numbered
                .filter(|(_, task)| task.raw.kind == Kind::Task)
                .map(|(index, task)| (task.raw.word(layout::NUMBER) as u64, index))
                .collect(),
            tasks,
            consistent,
        }
    }

    /// Everything.
    pub(super) fn take() -> Snapshot {
        let mut snapshot = Snapshot::names();
        let mut kinds = Kinds::default();
        let current: Vec<usize> = crate::diag::running()
            .iter()
            .map(|running| walk::current(&running.vitals))
            .collect();
        snapshot.consistent &= look(&mut snapshot.tasks, &current, &mut kinds);
        snapshot.connect(&mut kinds);
        snapshot
    }

    /// The id of the task at an address.
    pub(super) fn id_at(&self, address: usize) -> Option<&str> {
        let index = self.by_address.get(&address)?;
        Some(&self.tasks.get(*index)?.name.id)
    }

    /// Who waits for whom.
    fn connect(&mut self, kinds: &mut Kinds) {
        let mut edges = Vec::new();
        // (a gather or a group has one hook for all of its tasks)
        let mut hooks = HashMap::new();
        for (index, task) in self.tasks.iter().enumerate() {
            let waiter = task.waiter();
            match task.waits_for {
                Kind::Task | Kind::TheirTask => edges.push((index, waiter, false)),
                Kind::Gathering => {
                    for child in gathered(waiter, kinds) {
                        edges.push((index, child, false));
                    }
                }
                _ => {}
            }
            if task.raw.kind == Kind::Task {
                for callback in callbacks(&task.raw) {
                    let behind = hooks
                        .entry(callback)
                        .or_insert_with(|| self.behind(callback, kinds, MOST_HOOKS));
                    if let Some((waiting, of_group)) = *behind {
                        edges.push((waiting, task.raw.address, of_group));
                    }
                }
            }
        }
        let mut met = HashSet::new();
        for (from, to, of_group) in edges {
            let Some(&to) = self.by_address.get(&to) else {
                continue;
            };
            let Some(task) = self.tasks.get_mut(from) else {
                continue;
            };
            if of_group && met.insert((from, to, true)) {
                task.children.push(to);
            }
            // a group's owner waits for its tasks at the end of the block only
            let waits = !of_group || task.waits == "TaskGroup.__aexit__";
            if waits && task.state != "running" && met.insert((from, to, false)) {
                task.awaits.push(to);
            }
        }
    }

    /// The task that a done-callback wakes up in the end, and whether that is the owner of a group.
    fn behind(&self, callback: usize, kinds: &mut Kinds, left: usize) -> Option<(usize, bool)> {
        let left = left.checked_sub(1)?;
        match kinds.of(callback) {
            Kind::Task => Some((*self.by_address.get(&callback)?, false)),
            Kind::Hook => {
                let first = memory::word(callback + at(hook::A))?;
                let second = memory::word(callback + at(hook::B))?;
                match kinds.of(first) {
                    // what wakes a task up has nothing else
                    Kind::Task if second == 0 => Some((*self.by_address.get(&first)?, false)),
                    Kind::Future | Kind::Gathering => {
                        let next = memory::word(first + at(future::CALLBACK))?;
                        let more = memory::word(first + at(future::MORE))?;
                        listeners(next, more)
                            .into_iter()
                            .find_map(|next| self.behind(next, kinds, left))
                    }
                    // (the group's is asked for its owner)
                    Kind::TaskGroup => Some((*self.by_address.get(&second)?, true)),
                    _ => {
                        let waits = memory::array::<1>(callback + at(hook::WAITS))?;
                        let waiting = self.by_address.get(&second).filter(|_| waits != [0])?;
                        Some((*waiting, false))
                    }
                }
            }
            _ => None,
        }
    }

    /// One task, as an object.
    pub(super) fn write(&self, json: &mut Json, index: usize, stacks: bool) {
        let Some(task) = self.tasks.get(index) else {
            return;
        };
        let ids = |json: &mut Json, key: &str, indices: &[usize]| {
            if !indices.is_empty() {
                json.list_at(key, |json| {
                    for index in indices {
                        if let Some(task) = self.tasks.get(*index) {
                            json.text(&task.name.id);
                        }
                    }
                });
            }
        };
        json.object(|json| {
            json.text_at("id", &task.name.id);
            json.text_at("name", &task.name.name);
            json.text_at("state", task.state);
            if task.raw.kind == Kind::Task {
                json.integer_at("steps", (task.raw.word(future::STEPS) & 0xffff_ffff) as u64);
            }
            if let Some(outermost) = task.frames.first() {
                json.text_at("coro", &outermost.function);
            }
            let frames = task.frames.iter().rev().filter(|frame| &*frame.file != OUR_FILE);
            if let Some(frame) = own::line(frames) {
                json.list_at("at", |json| frame_items(json, frame));
            }
            if !task.waits.is_empty() {
                json.text_at("waits", &task.waits);
            }
            ids(json, "for", &task.awaits);
            ids(json, "children", &task.children);
            if !task.holders.is_empty() {
                json.list_at("held", |json| {
                    for number in &task.holders {
                        match self
                            .by_number
                            .get(number)
                            .and_then(|index| self.tasks.get(*index))
                        {
                            Some(holder) => json.text(&holder.name.id),
                            // it has ended without letting go
                            None => json.text(&id_of(*number)),
                        }
                    }
                });
            }
            if task.raw.cancels() > 0 {
                json.integer_at("cancelling", task.raw.cancels().into());
            }
            if stacks {
                json.list_at("stack", |json| {
                    for frame in &task.frames {
                        write_frame(json, frame);
                    }
                });
            }
        });
    }
}

/// A frame: `[file, line, function]`; line 0: one of our own functions.
pub(super) fn write_frame(json: &mut Json, frame: &Frame) {
    json.list(|json| frame_items(json, frame));
}

pub(super) fn frame_items(json: &mut Json, frame: &Frame) {
    json.text(&frame.file);
    let is_ours = &*frame.file == OUR_FILE;
    json.integer(if is_ours { 0 } else { frame.line.into() });
    json.text(&frame.function);
}

impl Raw {
    fn cancels(&self) -> u32 {
        match self.kind {
            Kind::Task => (self.word(layout::CANCELS) & 0xffff_ffff) as u32,
            _ => 0,
        }
    }
}

impl Task {
    /// What drives it.
    fn coroutine(&self) -> usize {
        match self.raw.kind {
            Kind::Task => self.raw.word(layout::COROUTINE),
            _ => self.raw.word(layout::CORO),
        }
    }

    /// The future that it waits for; 0: none that we know of.
    fn waiter(&self) -> usize {
        match self.raw.kind {
            Kind::Task => self.raw.word(layout::WAITER),
            _ => 0,
        }
    }
}

/// The children of a `gather()` that may not be done yet.
fn gathered(gathering: usize, kinds: &mut Kinds) -> Vec<usize> {
    let list = memory::word(gathering + at(gather::CHILDREN)).unwrap_or(0);
    if kinds.of(list) != Kind::List {
        return Vec::new();
    }
    peek::list_items(list)
}

/// The done-callbacks of a task.
fn callbacks(raw: &Raw) -> Vec<usize> {
    listeners(raw.word(future::CALLBACK), raw.word(future::MORE))
}

/// The first callback, and those behind it.
fn listeners(first: usize, more: usize) -> Vec<usize> {
    let mut all = vec![first];
    if more != 0 {
        all.extend(peek::deque_items(more, size_of::<Callback>()));
    }
    all.retain(|callback| *callback != 0);
    all
}

/// What of a future is read.
const FUTURE_SIZE: usize = at(future::STATE) + 1;
/// What of an awaitable of ours is read: the fields of a coroutine, or the future of an iterator.
const AWAITABLE_SIZE: usize = largest([at(coroutine::THIS), at(coroutine::NUMBER), at(iter::FUTURE)]) + 8;
/// What of it is there to be read, if not more.
const LEAST_SIZE: usize = CLASS + 8;

const fn largest(all: [usize; 3]) -> usize {
    let two = if all[0] > all[1] { all[0] } else { all[1] };
    if two > all[2] { two } else { all[2] }
}

/// Finds out where each task stands, and what it waits for. `false`: one did not hold still.
fn look(tasks: &mut [Task], current: &[usize], kinds: &mut Kinds) -> bool {
    let waiters: Vec<usize> = tasks.iter().map(Task::waiter).collect();
    let futures = peek::many(&waiters, FUTURE_SIZE, FUTURE_SIZE);
    for (index, task) in tasks.iter_mut().enumerate() {
        let bytes = futures.get(index);
        let kind = bytes.map_or(Kind::Other, |bytes| kinds.of_class(word_in(bytes, CLASS)));
        let is_done = matches!(kind, Kind::Task | Kind::Future | Kind::Gathering)
            && bytes.is_some_and(|bytes| bytes[at(future::STATE)] != State::Pending as u8);
        task.state = if current.contains(&task.raw.address) {
            "running"
        } else if task.raw.kind == Kind::TheirTask || (task.waiter() != 0 && !is_done) {
            "waiting"
        } else {
            "ready"
        };
        task.waits_for = kind;
    }
    let Some(mut reader) = Reader::new() else {
        return true;
    };
    let coroutines: Vec<usize> = tasks.iter().map(Task::coroutine).collect();
    let chains = reader.coroutines(&coroutines);
    let mut consistent = true;
    let awaited: Vec<usize> = tasks
        .iter_mut()
        .zip(chains)
        .map(|(task, chain)| {
            // (the current task's coroutine runs: it has no place to stand at)
            consistent &= chain.consistent || task.state == "running";
            task.frames = chain.frames;
            if task.state == "waiting" { chain.awaits } else { 0 }
        })
        .collect();
    name_waits(tasks, &awaited, kinds);
    consistent
}

/// What they wait for, in words, and who holds that. `awaited`: what the innermost coroutine of each awaits.
fn name_waits(tasks: &mut [Task], awaited: &[usize], kinds: &mut Kinds) {
    let awaitables = peek::many(awaited, AWAITABLE_SIZE, LEAST_SIZE);
    let kind_of = |index: usize, kinds: &mut Kinds| {
        awaitables
            .get(index)
            .map_or(Kind::Other, |bytes| kinds.of_class(word_in(bytes, CLASS)))
    };
    // the primitives whose methods they are in
    let receivers: Vec<usize> = (0..tasks.len())
        .map(|index| match (kind_of(index, kinds), awaitables.get(index)) {
            (Kind::Coroutine, Some(bytes)) => word_in(bytes, at(coroutine::THIS)),
            _ => 0,
        })
        .collect();
    let primitives = peek::many(&receivers, LEAST_SIZE, LEAST_SIZE);
    let mut names = HashMap::new();
    for (index, task) in tasks.iter_mut().enumerate() {
        if task.state != "waiting" {
            continue;
        }
        let kind = kind_of(index, kinds);
        if let (Kind::Coroutine, Some(bytes)) = (kind, awaitables.get(index)) {
            let class = primitives.get(index).map_or(0, |bytes| word_in(bytes, CLASS));
            let primitive = kinds.of_class(class);
            let name = task.frames.last().map_or("", |frame| &frame.function);
            task.waits = match name {
                "sleep" => {
                    let bits = word_in(bytes, at(coroutine::NUMBER)) as u64;
                    format!("sleep({})", f64::from_bits(bits))
                }
                "_ContextManagerMixin.__aenter__" => {
                    let class = match primitive {
                        Kind::Lock => "Lock",
                        Kind::Semaphore => "Semaphore",
                        _ => class_name(class, &mut names),
                    };
                    format!("{class}.acquire")
                }
                name => name.to_owned(),
            };
            task.holders = holders(primitive, receivers.get(index).copied().unwrap_or(0));
            continue;
        }
        let waiter = task.waiter();
        let kind = if waiter == 0 { kind } else { task.waits_for };
        let object = if waiter != 0 {
            waiter
        } else {
            awaited.get(index).copied().unwrap_or(0)
        };
        task.waits = match kind {
            Kind::Gathering => "gather",
            Kind::Task | Kind::TheirTask => "Task",
            Kind::Future => "Future",
            _ if object == 0 => "",
            _ => class_name(peek::class_of(object), &mut names),
        }
        .to_owned();
    }
}

/// Who holds a lock, or the units of a semaphore, if all of them are known: their numbers.
fn holders(primitive: Kind, address: usize) -> Vec<u64> {
    let known = match primitive {
        Kind::Lock => peek::words(address + at(lock::HOLDER), 1),
        Kind::Semaphore => {
            let holders = address + at(semaphore::HOLDERS);
            let unknown = memory::array(holders + layout_of_holders::UNKNOWN);
            let others = memory::array(holders + layout_of_holders::OTHERS).map(u32::from_ne_bytes);
            if unknown != Some([0]) || others != Some(0) {
                return Vec::new();
            }
            peek::words(holders + layout_of_holders::KNOWN, KNOWN)
        }
        _ => Vec::new(),
    };
    let mut numbers: Vec<u64> = known.into_iter().map(|number| number as u64 & !SCOPED).collect();
    numbers.retain(|number| *number != 0);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The name of a class.
fn class_name(class: usize, names: &mut HashMap<usize, String>) -> &str {
    let name = || peek::class_name(class).unwrap_or_else(|| "?".to_owned());
    names.entry(class).or_insert_with(name)
}
