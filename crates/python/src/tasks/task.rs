//! `asyncio.Task`: a future that drives a coroutine.
//!
//! Rules
//! 1. `waiter` is what the coroutine waits for; it is set in `step.rs` when a future is yielded and
//!    emptied when the next step begins.
//! 2. `must_cancel` is a cancellation that could not be handed to a waiter; the next step throws it in.
//! 3. A task is in the list of all tasks from its making until it is done.
//! 4. The coroutine and the context live as long as the task (reprs and debuggers want them).
//!
//! Must never: drop the coroutine while it runs.

use crate::diag::{cancels, dev};
use crate::ffi::links::{Head, Linked, Links};
use crate::ffi::object::{is_exact_str, is_int};
use crate::ffi::outside::{self, IsTask, Shown};
use crate::ffi::stack::Site;
use crate::ffi::{Class, ClassCell, Obj, Own, R, Slot, Slots, Visitor};
use crate::futures::callbacks;
use crate::futures::{Future, State};
use crate::imports::{self, names};
use crate::version;
use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The struct behind `asyncio.Task`. The fields from `awaited_by` on lie where those of asyncio's own tasks
/// do: `ffi/outside.rs` has the table.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Task {
    pub(crate) future: Future,
    /// `_fut_waiter`
    pub(crate) waiter: Slot,
    /// Who awaits it, for other processes: see `graph.rs`.
    pub(crate) awaited_by: Shown,
    /// `cancelling()`
    pub(crate) cancels: Cell<u32>,
    is_task: IsTask,
    pub(crate) awaited_by_is_set: Cell<bool>,
    pub(crate) must_cancel: Cell<bool>,
    pub(crate) log_destroy_pending: Cell<bool>,
    /// The number of `Task-N`, for a task without a name of its own; with [`NAMED`], one that says only which task it is.
    number: Cell<u64>,
    pub(crate) context: Slot,
    /// The coroutine, for other processes: if it is one with a frame.
    shown_coro: Shown,
    name: Slot,
    pub(crate) coro: Slot,
    links: Links,
    /// The line that made it; or where its coroutine begins, if that was no line of the program.
    site: Cell<Site>,
}

/// Where the fields are that other processes read (3.14+).
#[cfg_attr(not(Py_3_14), allow(dead_code))]
pub(crate) mod layout {
    use super::Task;
    use std::mem::offset_of;

    pub(crate) const SIZE: usize = size_of::<Task>();
    pub(crate) const NAME: usize = offset_of!(Task, name);
    pub(crate) const AWAITED_BY: usize = offset_of!(Task, awaited_by);
    pub(crate) const IS_TASK: usize = offset_of!(Task, is_task);
    pub(crate) const AWAITED_BY_IS_SET: usize = offset_of!(Task, awaited_by_is_set);
    pub(crate) const CORO: usize = offset_of!(Task, shown_coro);
    pub(crate) const LINKS: usize = offset_of!(Task, links);
    // … and those that readers of this process want: `ffi/stack/tasks.rs`, `diag/attach`
    pub(crate) const NUMBER: usize = offset_of!(Task, number);
    pub(crate) const SITE: usize = offset_of!(Task, site);
    pub(crate) const WAITER: usize = offset_of!(Task, waiter);
    pub(crate) const CANCELS: usize = offset_of!(Task, cancels);
    pub(crate) const COROUTINE: usize = offset_of!(Task, coro);
}

/// The last number of a task without a name.
static COUNTER: AtomicU64 = AtomicU64::new(0);
/// … and of one that was made with a name: `Task-N` counts without those.
static NAMED_COUNTER: AtomicU64 = AtomicU64::new(NAMED);

/// Of numbers that are in no name.
pub(crate) const NAMED: u64 = 1 << 63;

impl Task {
    /// The next number.
    #[inline(always)]
    fn next_number(counter: &AtomicU64) -> u64 {
        counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A number that no other task has, had or will have. 0: `__init__` has not run.
    #[inline(always)]
    pub(crate) fn serial(&self) -> u64 {
        self.number.get()
    }

    /// A task of `loop`, with all fields; not linked, nothing scheduled.
    #[inline(always)]
    pub(crate) fn new(loop_: Obj, coro: Obj, context: Obj, name: Option<Obj>) -> Task {
        let task = Task {
            future: Future::pending(loop_),
            ..Task::default()
        };
        task.fill(coro, context, name);
        task
    }

    /// What `__init__` writes.
    #[inline(always)]
    pub(crate) fn fill(&self, coro: Obj, context: Obj, name: Option<Obj>) {
        match name {
            Some(name) => {
                self.name.set(name);
                self.number.set(Task::next_number(&NAMED_COUNTER));
            }
            None => {
                let number = Task::next_number(&COUNTER);
                self.number.set(number);
                self.name.put(if outside::linked() {
                    number_object(number)
                } else {
                    None
                });
            }
        }
        if outside::EXISTS {
            self.awaited_by.clear();
            if outside::has_frame(&coro) {
                self.shown_coro.set(&coro);
            } else {
                self.shown_coro.clear();
            }
        }
        if dev::enabled() {
            dev::note_future(&self.future);
        }
        self.site.set(Site::here());
        self.coro.set(coro);
        self.context.set(context);
        self.cancels.set(0);
        self.must_cancel.set(false);
        self.log_destroy_pending.set(true);
    }

    /// `get_name()`; the text `Task-N` is made when somebody asks.
    pub(crate) fn name(&self) -> R<Obj> {
        if let Some(name) = self.name.get().filter(|name| !is_int(name)) {
            return Ok(name);
        }
        if self.number.get() == 0 || self.number.get() & NAMED != 0 {
            return Ok(Obj::none());
        }
        let name = Obj::str(&format!("Task-{}", self.number.get()))?;
        self.name.set(name.clone());
        Ok(name)
    }

    /// The number of `Task-N`, and the name, if it has been given one or somebody has asked for it.
    pub(crate) fn number_and_name(&self) -> (u64, Option<Obj>) {
        (self.number.get(), self.name.get().filter(|name| !is_int(name)))
    }

    /// What tells it from others, also from one that has had its place before: its address, and its number or where its
    /// name is. Threads that watch read the same without the GIL.
    pub(crate) fn identity(&self) -> (usize, u64) {
        let number = self.number.get();
        let name = || self.name.look(|name| name.as_ptr().addr() as u64);
        let told_by = if number == 0 {
            name().unwrap_or_default()
        } else {
            number
        };
        (std::ptr::from_ref(self).addr(), told_by)
    }

    /// The qualified name of its coroutine. No Python code runs for it: what is none of the interpreter's nor of ours is
    /// called by its class.
    pub(crate) fn coroutine_name(&self) -> R<Obj> {
        let Some(coro) = self.coro.get() else {
            return Obj::str("?");
        };
        if is_plain_coroutine(&coro) || crate::ffi::send::is_generator(&coro) {
            return coro.getattr(&names::QUALNAME);
        }
        Obj::str(&coro.class_name())
    }

    /// The name that it was given, as a plain str; `None`: it is `Task-N`, as its identity says.
    pub(crate) fn own_name(&self) -> Option<Obj> {
        self.name.get().filter(is_exact_str)
    }

    /// `Task-N`, for a task that was made without a name.
    pub(crate) fn unnamed(identity: u64) -> Option<String> {
        (identity != 0 && identity & NAMED == 0).then(|| format!("Task-{identity}"))
    }

    /// It was made by us, on nobody's call: what tells where it comes from is its coroutine.
    pub(crate) fn is_made_unasked(&self) -> R<()> {
        if let Some(coro) = self.coro.get()
            && crate::ffi::send::is_coroutine(&coro)
        {
            self.site.set(Site::beginning_of(&coro.getattr_str("cr_code")?));
        }
        Ok(())
    }

    /// `set_name(name)`
    pub(crate) fn set_name(&self, name: Obj) {
        self.name.set(name);
    }
}

/// `N` as a name: for other processes, which can't make the text themselves before somebody asks us.
fn number_object(number: u64) -> Option<Obj> {
    Obj::int(number as i64).map_err(crate::ffi::Raised::ignore).ok()
}

impl Own<Task> {
    /// As the future that it is.
    #[inline(always)]
    pub(crate) fn as_future(&self) -> &Own<Future> {
        self.upcast()
    }

    /// `cancel(msg)`: to the waiter if it takes it, else at the next step.
    pub(crate) fn cancel(&self, message: Option<&Obj>) -> R<bool> {
        let future = self.as_future();
        future.log_traceback.set(false);
        if future.is_done() {
            return Ok(false);
        }
        self.cancels.set(self.cancels.get() + 1);
        self.note_cancel();
        // Tasks may wait for each other in a long row, or in a ring.
        if let Some(waiter) = self.waiter.get()
            && crate::ffi::threads::recursive(|| cancel_waiter(self, &waiter, message))?
        {
            return Ok(true);
        }
        self.must_cancel.set(true);
        future.set_cancel_message(message);
        Ok(true)
    }

    /// `uncancel()`: how many requests remain.
    pub(crate) fn uncancel(&self) -> u32 {
        let left = self.cancels.get().saturating_sub(1);
        self.cancels.set(left);
        self.note_uncancel(left);
        if left == 0 && version::UNCANCEL_CLEARS_MUST_CANCEL.get() {
            self.must_cancel.set(false);
        }
        left
    }

    /// Takes it out of the list of all tasks.
    #[inline(always)]
    pub(crate) fn leave_list(&self) {
        LIST.unlink(self);
        if outside::EXISTS {
            self.awaited_by.clear();
        }
    }

    /// Lets go of a coroutine that has ended.
    pub(crate) fn drop_coro(&self) {
        self.shown_coro.clear();
        self.coro.put(None);
    }

    /// Puts it into the list of all tasks.
    #[inline(always)]
    pub(crate) fn enter_list(&self) {
        LIST.link(self);
        if dev::enabled() {
            dev::note_begun(self);
        }
    }

    #[cold]
    fn report_destroyed_pending(&self) -> R<()> {
        let Some(loop_) = self.future.loop_.get() else {
            return Ok(());
        };
        if dev::enabled() {
            dev::destroyed_pending(self);
        }
        let context = Obj::dict()?;
        context.dict_set(&names::TASK, self.obj())?;
        context.dict_set(
            &names::MESSAGE,
            &Obj::str("Task was destroyed but it is pending!")?,
        )?;
        if let Some(traceback) = self
            .future
            .extra_opt()
            .and_then(|extra| extra.source_traceback.get())
        {
            context.dict_set(&names::SOURCE_TRACEBACK_KEY, &traceback)?;
        }
        loop_.call_method(&names::CALL_EXCEPTION_HANDLER, &[&context])?;
        Ok(())
    }
}

/// `waiter.cancel(msg=message)`, as `task` says it to what it waits for.
fn cancel_waiter(task: &Own<Task>, waiter: &Obj, message: Option<&Obj>) -> R<bool> {
    if Future::class().is_exact(waiter) {
        return callbacks::cancel(waiter, message);
    }
    cancels::handed_on(task, || {
        if callbacks::as_native(waiter).is_some() {
            return callbacks::cancel(waiter, message);
        }
        let message = message.cloned().unwrap_or_else(Obj::none);
        waiter
            .call_method_kw(&names::CANCEL, &[&message], Some(&crate::kwnames::MSG))?
            .truth()
    })
}

/// Is it exactly a coroutine, the interpreter's or ours?
#[inline(always)]
pub(crate) fn is_plain_coroutine(object: &Obj) -> bool {
    crate::ffi::send::is_coroutine(object) || crate::ffi::Coroutine::class().is_exact(object)
}

/// Is it something that a task can drive: `asyncio.iscoroutine`, the common case first.
#[inline]
pub(crate) fn check_coroutine(coro: &Obj) -> R<bool> {
    if is_plain_coroutine(coro) {
        return Ok(true);
    }
    imports::ISCOROUTINE.call(&[coro])?.truth()
}

// SAFETY is in the layout: `repr(C)`, and the first field is the Future.
crate::ffi::class::extends!(Task, Future);

static CLASS: ClassCell<Task> = ClassCell::new();
static LIST: Head<Task> = Head::new();

impl Linked for Task {
    const LINKS: usize = layout::LINKS;
    fn list() -> &'static Head<Task> {
        &LIST
    }
}

impl Class for Task {
    const NAME: &'static CStr = c"_asyncio.Task";
    const DICT: Option<usize> = Future::DICT;
    const WEAKREFS: Option<usize> = Future::WEAKREFS;
    const FINALIZE: bool = true;
    const FREELIST: usize = 255;

    fn class() -> &'static ClassCell<Task> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Task>) -> R<()> {
        super::methods::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.future.visit_fields(visitor);
        self.waiter.visit(visitor);
        self.coro.visit(visitor);
        self.context.visit(visitor);
        self.name.visit(visitor);
    }
    fn clear(&self) {
        self.future.clear_fields();
        self.awaited_by.clear();
        self.shown_coro.clear();
        self.waiter.put(None);
        self.coro.put(None);
        self.context.put(None);
        self.name.put(None);
    }
    fn leave(&self) {
        LIST.unlink(self);
    }
    #[inline(always)]
    fn wants_finalize(&self) -> bool {
        self.future.log_traceback.get()
            || (self.future.state.get() == State::Pending && self.log_destroy_pending.get())
    }
    fn finalize(this: &Own<Task>) {
        // Whoever resurrects it gets a task that runs no more: `all_tasks()` does not show it.
        this.leave_list();
        if this.future.state.get() == State::Pending
            && this.log_destroy_pending.get()
            && let Err(raised) = this.report_destroyed_pending()
        {
            raised.unraisable(this.obj());
        }
        if this.future.log_traceback.get() {
            this.as_future().report_never_retrieved();
        }
    }
}
