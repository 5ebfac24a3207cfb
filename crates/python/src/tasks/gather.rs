//! `asyncio.gather(*coros_or_futures, return_exceptions=False)`.

use super::spawn;
use super::task::is_plain_coroutine;
use crate::diag::cancels::{self, Why};
use crate::ffi::object::{Identity, IdentityHasher};
use crate::ffi::{Args, Class, ClassCell, Obj, Own, R, Slot, Slots, Visitor, running};
use crate::futures::callbacks::{self, Outcome, as_native};
use crate::futures::{Future, State, foreign, methods};
use crate::hook::Hook;
use crate::imports::{self, names};
use crate::{graph, version};
use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CStr;
use std::hash::BuildHasherDefault;

/// `_GatheringFuture`: done when all children are; cancelling it cancels them.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Gathering {
    pub(crate) future: Future,
    /// The children, in the order of the arguments: a list.
    children: Slot,
    /// How many different children are not done.
    pending: Cell<usize>,
    return_exceptions: Cell<bool>,
    cancel_requested: Cell<bool>,
}

/// Where the children are: `diag/attach` reads them without the GIL.
pub(crate) const CHILDREN: usize = std::mem::offset_of!(Gathering, children);

crate::ffi::class::extends!(Gathering, Future);

impl Own<Gathering> {
    /// What is awaited, done or not.
    pub(crate) fn awaited(&self) -> R<Vec<Obj>> {
        self.children.get_or_none().to_vec()
    }

    /// `cancel(msg)`: asks every child. `false`: nobody could be cancelled.
    pub(crate) fn cancel(&self, message: Option<&Obj>) -> R<bool> {
        if self.future.is_done() {
            return Ok(false);
        }
        let mut any = false;
        for child in self.children.get_or_none().to_vec()? {
            let message = message.cloned().unwrap_or_else(Obj::none);
            let cancelled = match as_native(&child) {
                Some(_) => cancels::because(Why::Gather, || callbacks::cancel(&child, message.non_none()))?,
                None => child
                    .call_method_kw(&names::CANCEL, &[&message], Some(&crate::kwnames::MSG))?
                    .truth()?,
            };
            any |= cancelled;
        }
        if any {
            // the outcome is decided when all children are done
            self.cancel_requested.set(true);
        }
        Ok(any)
    }
}

/// `gather(*coros_or_futures, return_exceptions=False)`
pub(crate) fn gather(args: &Args) -> R<Obj> {
    let return_exceptions = match args.get(0) {
        Some(value) => value.truth()?,
        None => false,
    };
    of(args.rest(), return_exceptions)
}

/// See [`gather`].
pub(crate) fn of(awaitables: &[Obj], return_exceptions: bool) -> R<Obj> {
    if awaitables.is_empty() {
        let outer = methods::create(&imports::GET_EVENT_LOOP.call0()?)?;
        outer.call_method(&names::SET_RESULT, &[&Obj::list(&[])?])?;
        return Ok(outer);
    }
    let hook = Hook::waiting("gather.<locals>._done_callback", child_done, None, None)?;
    if version::CALL_GRAPH.get()
        && let Some(running) = running::get()?
    {
        hook.b.put(graph::waiter(&running)?);
    }
    let mut seen = Seen::new(awaitables)?;
    let mut children = Vec::with_capacity(awaitables.len());
    let mut done = Vec::new();
    let mut loop_: Option<Obj> = None;
    let mut different = 0;
    for awaitable in awaitables {
        if let Some(index) = seen.put(awaitable, children.len())? {
            let known: &Obj = &children[index];
            children.push(known.clone());
            continue;
        }
        let child = spawn::ensure(awaitable, loop_.as_ref())?;
        if loop_.is_none() {
            loop_ = Some(foreign::loop_of(&child)?);
        }
        if !child.is(awaitable) {
            // The outer future reports for it: no "Task was destroyed but it is pending!"
            match super::Task::class().exact(&child) {
                Some(task) => task.log_destroy_pending.set(false),
                None => child.setattr(&names::LOG_DESTROY_PENDING, &Obj::bool(false))?,
            }
        }
        different += 1;
        if version::SINCE_312.get() && callbacks::is_done(&child)? {
            done.push(child.clone());
        } else {
            callbacks::listen(&child, &hook)?;
        }
        children.push(child);
    }
    let loop_ = loop_.unwrap_or_else(Obj::none);
    let outer = Gathering::default();
    outer.children.set(Obj::list(&children)?);
    outer.pending.set(different);
    outer.return_exceptions.set(return_exceptions);
    let outer = CLASS.alloc(outer)?;
    methods::init_fields(outer.upcast(), Some(&loop_))?;
    hook.a.set(outer.obj().clone());
    for child in &done {
        child_done(&hook, Some(child))?;
    }
    Ok(outer.into_obj())
}

/// `arg_to_fut`: at which index an awaitable was seen first. One that is given twice is one child.
enum Seen {
    /// There is only one.
    Nothing,
    /// All equal nothing but themselves.
    ByIdentity(HashMap<Identity, usize, BuildHasherDefault<IdentityHasher>>),
    /// By their `==` and `hash()`.
    ByEquality(Obj),
}

impl Seen {
    fn new(awaitables: &[Obj]) -> R<Seen> {
        let plain = |object: &Obj| is_plain_coroutine(object) || as_native(object).is_some();
        Ok(if awaitables.len() < 2 {
            Seen::Nothing
        } else if awaitables.iter().all(plain) {
            Seen::ByIdentity(HashMap::with_capacity_and_hasher(
                awaitables.len(),
                BuildHasherDefault::default(),
            ))
        } else {
            Seen::ByEquality(Obj::dict()?)
        })
    }

    /// Notes an awaitable with its index, or gives the index with which it was noted before.
    #[inline]
    fn put(&mut self, awaitable: &Obj, index: usize) -> R<Option<usize>> {
        match self {
            Seen::Nothing => Ok(None),
            Seen::ByIdentity(seen) => Ok(match seen.entry(awaitable.identity()) {
                Entry::Occupied(known) => Some(*known.get()),
                Entry::Vacant(place) => {
                    place.insert(index);
                    None
                }
            }),
            Seen::ByEquality(seen) => match seen.dict_get(awaitable)? {
                Some(known) => Ok(Some(known.to_i64()? as usize)),
                None => {
                    seen.dict_set(awaitable, &Obj::int(index as i64)?)?;
                    Ok(None)
                }
            },
        }
    }
}

/// `_done_callback(fut)`
fn child_done(hook: &Own<Hook>, child: Option<&Obj>) -> R<()> {
    let Some(child) = child else { return Ok(()) };
    let outer = hook.a.get();
    let outer = outer.as_ref().and_then(|outer| CLASS.exact(outer));
    let Some(outer) = outer else {
        return mark_retrieved(child);
    };
    outer.pending.set(outer.pending.get().saturating_sub(1));
    let future: &Own<Future> = outer.upcast();
    if future.is_done() {
        return mark_retrieved(child);
    }
    if !outer.return_exceptions.get() {
        match native_state(child) {
            Some(State::Result) => {}
            _ => match callbacks::outcome(child)? {
                Outcome::Cancelled => return fail(hook, outer, callbacks::cancelled_error(child)?),
                Outcome::Exception(exception) => return fail(hook, outer, exception),
                Outcome::Result(_) => {}
            },
        }
    }
    if outer.pending.get() > 0 {
        return Ok(());
    }
    let children = outer.children.get_or_none().to_vec()?;
    let mut results = Vec::with_capacity(children.len());
    for each in &children {
        results.push(match callbacks::outcome(each)? {
            Outcome::Result(value) => value,
            Outcome::Exception(exception) => exception,
            Outcome::Cancelled => cancelled_result(each)?,
        });
    }
    if outer.cancel_requested.get() {
        // Even if every child ended well: the outer future was asked to be cancelled. The error is that of
        // the last child in the list, not of the last to end: so it is in asyncio, by its loop variable.
        let last = children.last().unwrap_or(child);
        return future.finish_with(callbacks::cancelled_error(last)?);
    }
    future.finish(Obj::list(&results)?)
}

/// Ends the outer future before its time; whoever gathered no longer waits for the other children.
fn fail(hook: &Own<Hook>, outer: &Own<Gathering>, exception: Obj) -> R<()> {
    hook.b.put(None);
    let future: &Own<Future> = outer.upcast();
    future.finish_with(exception)
}

#[inline]
fn native_state(child: &Obj) -> Option<State> {
    as_native(child).map(|child| child.state.get())
}

fn mark_retrieved(child: &Obj) -> R<()> {
    if !callbacks::is_cancelled(child)? {
        match as_native(child) {
            Some(child) => child.log_traceback.set(false),
            None => drop(child.call_method(&names::EXCEPTION, &[])?),
        }
    }
    Ok(())
}

/// A cancelled child as a result: `CancelledError(message or '')`.
fn cancelled_result(child: &Obj) -> R<Obj> {
    let message = match as_native(child) {
        Some(child) => child.extra_opt().and_then(|extra| extra.cancel_message.get()),
        None => child
            .getattr_opt(&Obj::interned("_cancel_message")?)?
            .and_then(|message| message.non_none().cloned()),
    };
    match message {
        Some(message) => imports::CANCELLED_ERROR.call(&[&message]),
        None => imports::CANCELLED_ERROR.call(&[&Obj::str("")?]),
    }
}

fn cancel(args: &Args) -> R<Obj> {
    Ok(Obj::bool(args.this::<Gathering>()?.cancel(args.opt(1))?))
}

static CLASS: ClassCell<Gathering> = ClassCell::new();

impl Class for Gathering {
    const NAME: &'static CStr = c"asyncio.tasks._GatheringFuture";
    const DICT: Option<usize> = Future::DICT;
    const WEAKREFS: Option<usize> = Future::WEAKREFS;
    const SUBCLASSABLE: bool = false;
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<Gathering> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Gathering>) -> R<()> {
        slots.no_new();
        slots.get(c"_children", |this| Ok(this.children.get_or_none()));
        slots.get(c"_cancel_requested", |this| {
            Ok(Obj::bool(this.cancel_requested.get()))
        });
        slots.method("cancel(self, msg=None)", cancel)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.future.visit_fields(visitor);
        self.children.visit(visitor);
    }
    fn clear(&self) {
        self.future.clear_fields();
        self.children.put(None);
    }
    fn wants_finalize(&self) -> bool {
        self.future.log_traceback.get()
    }
    fn finalize(this: &Own<Gathering>) {
        if this.future.log_traceback.get() {
            this.upcast().report_never_retrieved();
        }
    }
}
