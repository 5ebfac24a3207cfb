//! Which class an object is of, and where its fields lie, for a thread without the GIL.
//!
//! Owns the addresses of our classes, noted once. The offsets are those of the structs, from the modules that have them.

use crate::ffi::class::body_offset;
use crate::ffi::{Class, Coroutine, Obj, R, peek, stack};
use crate::futures::Future;
use crate::futures::iter::FutureIter;
use crate::hook::Hook;
use crate::locks::lock::Lock;
use crate::locks::semaphore::Semaphore;
use crate::taskgroups::TaskGroup;
use crate::tasks::Task;
use crate::tasks::gather::Gathering;
use std::collections::HashMap;
use std::sync::OnceLock;

/// What an object is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A task of ours.
    Task,
    /// A task of asyncio's own (`_asyncio.Task`): on 3.14+ in the same lists.
    TheirTask,
    Future,
    Gathering,
    /// One of our coroutines.
    Coroutine,
    /// What `Future.__await__` gives.
    FutureIter,
    Hook,
    TaskGroup,
    Lock,
    Semaphore,
    List,
    Other,
}

/// What is known once and for all.
struct Known {
    classes: Vec<(usize, Kind)>,
    python: String,
}

static KNOWN: OnceLock<Known> = OnceLock::new();

fn address<T: Class>() -> usize {
    T::class().get().as_ptr().addr()
}

/// Notes the addresses of the classes. With the GIL, when all of them have been made.
pub(super) fn init() -> R<()> {
    if KNOWN.get().is_some() {
        return Ok(());
    }
    // (`platform` says the same, and takes longer to import than a loop to run; and a program that has changed its user or
    // its root may not find it any more)
    let version = Obj::import("sys")?.getattr_str("version")?.to_string()?;
    let version = version.split(' ').next().unwrap_or_default().to_owned();
    let theirs = Obj::import("_asyncio")?.getattr_str("Task")?;
    let _ = KNOWN.set(Known {
        classes: vec![
            (address::<Task>(), Kind::Task),
            (theirs.as_ptr().addr(), Kind::TheirTask),
            (address::<Gathering>(), Kind::Gathering),
            (address::<Future>(), Kind::Future),
            (address::<Coroutine>(), Kind::Coroutine),
            (address::<FutureIter>(), Kind::FutureIter),
            (address::<Hook>(), Kind::Hook),
            (address::<TaskGroup>(), Kind::TaskGroup),
            (address::<Lock>(), Kind::Lock),
            (address::<Semaphore>(), Kind::Semaphore),
            (peek::list_class(), Kind::List),
        ],
        python: version,
    });
    Ok(())
}

/// The running Python's version.
pub(super) fn python() -> &'static str {
    KNOWN.get().map_or("", |known| &known.python)
}

/// Tells objects apart; remembers the classes that it has met. To be made anew for each look.
#[derive(Default)]
pub(super) struct Kinds {
    derived: HashMap<usize, Kind>,
}

/// How far a class may be derived from one of ours.
const MOST_BASES: usize = 32;

impl Kinds {
    /// What instances of this class are.
    pub(super) fn of_class(&mut self, class: usize) -> Kind {
        let Some(known) = KNOWN.get() else {
            return Kind::Other;
        };
        let exactly = |class: usize| {
            let found = known.classes.iter().find(|(address, _)| *address == class);
            found.map(|(_, kind)| *kind)
        };
        if let Some(kind) = exactly(class) {
            return kind;
        }
        *self.derived.entry(class).or_insert_with(|| {
            let mut base = class;
            for _ in 0..MOST_BASES {
                base = peek::base_of(base);
                if base == 0 {
                    break;
                }
                if let Some(kind) = exactly(base) {
                    return kind;
                }
            }
            Kind::Other
        })
    }

    /// What the object at this address is.
    pub(super) fn of(&mut self, object: usize) -> Kind {
        if object == 0 {
            return Kind::Other;
        }
        self.of_class(peek::class_of(object))
    }
}

/// Where a field of a body is in its object.
pub(super) const fn at(offset: usize) -> usize {
    body_offset() + offset
}

/// `threading.get_native_id()` of the thread whose state is at this address; 0: unknown.
pub(super) fn native_thread(state: usize) -> u64 {
    if state == 0 {
        return 0;
    }
    stack::Reader::new()
        .and_then(|reader| {
            let threads = reader.threads(state);
            threads
                .iter()
                .find(|thread| thread.state == state)
                .map(|thread| thread.native)
        })
        .unwrap_or(0)
}
