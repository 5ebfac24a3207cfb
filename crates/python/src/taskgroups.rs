//! `asyncio.TaskGroup`: tasks that end before their block does.
//!
//! Rules
//! 1. `tasks` are those whose done-callback has not run. The block ends when there are none.
//! 2. `aborting`: the tasks have been cancelled; set once, by [`abort`](Own::abort).
//! 3. `parent_cancel_requested`: we have cancelled the parent, and take that back exactly once, with
//!    `uncancel()`, before the block ends.
//! 4. One hook is the callback of all tasks. A derived class is asked for its `_on_task_done`, `_abort` and
//!    `_is_base_error`.
//!
//! What leaving the block does is in `exit.rs`.

mod exit;

use crate::copying::{self, Copied};
use crate::diag::cancels::{self, Why};
use crate::event_loop::core;
use crate::ffi::errors::{exc, not_deleted, runtime_error};
use crate::ffi::{
    Args, Class, ClassCell, Coroutine, Obj, Own, R, Raised, Slot, Slots, Step, Visitor, WeakRefs, class,
    running,
};
use crate::futures::callbacks::{self, Outcome};
use crate::hook::Hook;
use crate::imports::names;
use crate::tasks::{Task, registry, spawn, waiting};
use crate::version;
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// The struct behind `asyncio.TaskGroup`.
#[derive(Default)]
pub(crate) struct TaskGroup {
    dict: Slot,
    weakrefs: WeakRefs,
    loop_: Slot,
    parent: Slot,
    /// A dict used as a set (rule 1) that keeps the order of creation: so children are cancelled in it. From
    /// the moment that the program asks for `_tasks` it is the set that the program got.
    tasks: Slot,
    /// Rule 4.
    hook: Slot,
    /// `_errors`: a list, made when it is needed.
    errors: Slot,
    base_error: Slot,
    /// `_on_completed_fut`: what `__aexit__` waits for.
    completed: Slot,
    /// The cancellation that `__aexit__` is to raise, and the last one that reached it while it waited.
    propagate: Slot,
    pending: Slot,
    entered: Cell<bool>,
    exiting: Cell<bool>,
    aborting: Cell<bool>,
    parent_cancel_requested: Cell<bool>,
    /// … and taken back (rule 3).
    taken_back: Cell<bool>,
    cancel_on_enter: Cell<bool>,
    /// `cancel()` was called: the block ends without a CancelledError, on versions before 3.15 too.
    cancelled: Cell<bool>,
    /// `_errors` is None: they have been raised.
    finished: Cell<bool>,
}

impl Own<TaskGroup> {
    fn has_tasks(&self) -> R<bool> {
        Ok(match self.tasks.get() {
            Some(tasks) => tasks.len()? > 0,
            None => false,
        })
    }

    /// The tasks whose end the block waits for.
    pub(crate) fn awaited(&self) -> R<Vec<Obj>> {
        self.tasks
            .get()
            .map_or_else(|| Ok(Vec::new()), |tasks| tasks.to_vec())
    }

    fn parent(&self) -> Obj {
        self.parent.get_or_none()
    }

    /// `__aenter__`
    fn enter(&self) -> R<()> {
        if self.entered.get() {
            return Err(self.error("has already been entered"));
        }
        let loop_ = match self.loop_.get() {
            Some(loop_) => loop_,
            None => running::require()?,
        };
        self.loop_.set(loop_.clone());
        self.parent.put(registry::current(&loop_)?);
        if self.parent.is_empty() {
            return Err(self.error("cannot determine the parent task"));
        }
        self.entered.set(true);
        if self.cancel_on_enter.get() {
            self.cancel()
        } else {
            Ok(())
        }
    }

    #[cold]
    fn error(&self, what: &str) -> Raised {
        match self.obj().repr() {
            Ok(this) => runtime_error(&format!("TaskGroup {this} {what}")),
            Err(raised) => raised,
        }
    }

    /// May a task be made now?
    #[inline]
    fn check_open(&self, coro: &Obj) -> R<()> {
        let refusal = if !self.entered.get() {
            "has not been entered"
        } else if self.exiting.get() && !self.has_tasks()? {
            "is finished"
        } else if self.aborting.get() {
            "is shutting down"
        } else {
            return Ok(());
        };
        if version::TASKGROUP_313.get() {
            coro.call_method(&names::CLOSE, &[])?;
        }
        Err(self.error(refusal))
    }

    /// Takes over a task that was made for the group.
    #[inline]
    fn adopt(&self, task: &Obj) -> R<()> {
        let at_once = version::SINCE_312.get() && !version::TASKGROUP_314.get();
        if at_once && callbacks::is_done(task)? {
            // It ran eagerly to its end. On 3.11 and 3.14+ its callback is scheduled even so.
            return self.on_task_done(task);
        }
        self.add(task)?;
        self.listen(task)?;
        let late = self.aborting.get() && (version::TASKGROUP_315.get() || self.cancelled.get());
        if late && !callbacks::is_done(task)? {
            // running eagerly, it cancelled the group before it was one of its tasks
            cancels::because(Why::TaskGroup, || callbacks::cancel(task, None))?;
        }
        Ok(())
    }

    #[inline]
    fn add(&self, task: &Obj) -> R<()> {
        match self.tasks.get() {
            Some(tasks) if tasks.is_dict() => tasks.dict_set(task, task),
            Some(tasks) => tasks.call_method(&names::ADD, &[task]).map(drop),
            None => {
                let tasks = Obj::dict()?;
                tasks.dict_set(task, task)?;
                self.tasks.set(tasks);
                Ok(())
            }
        }
    }

    fn discard(&self, task: &Obj) -> R<()> {
        match self.tasks.get() {
            Some(tasks) if tasks.is_dict() => tasks.dict_discard(task),
            Some(tasks) => tasks.call_method(&names::DISCARD, &[task]).map(drop),
            None => Ok(()),
        }
    }

    fn has_errors(&self) -> R<bool> {
        self.errors.get().map_or(Ok(false), |errors| errors.truth())
    }

    #[cold]
    fn add_error(&self, error: &Obj) -> R<()> {
        self.errors_list()?
            .call_method(&names::APPEND, &[error])
            .map(drop)
    }

    fn errors_list(&self) -> R<Obj> {
        if let Some(errors) = self.errors.get() {
            return Ok(errors);
        }
        let errors = Obj::list(&[])?;
        self.errors.set(errors.clone());
        Ok(errors)
    }

    fn listen(&self, task: &Obj) -> R<()> {
        let hook = match self.hook.get() {
            Some(hook) => hook,
            None => {
                let hook = Hook::waiting(
                    "TaskGroup._on_task_done",
                    task_done,
                    Some(self.obj().clone()),
                    self.parent.get(),
                )?
                .into_obj();
                self.hook.set(hook.clone());
                hook
            }
        };
        match Task::class().exact(task) {
            Some(task) if self.is_exact() => task.as_future().add_listener(hook),
            // what a derived class does when a task is done wants its context
            _ => task.call_method(&names::ADD_DONE_CALLBACK, &[&hook]).map(drop),
        }
    }

    /// `_on_task_done(task)`
    fn on_task_done(&self, task: &Obj) -> R<()> {
        self.discard(task)?;
        if let Some(completed) = self.completed.get()
            && !self.has_tasks()?
            && !callbacks::is_done(&completed)?
        {
            waiting::set_result(&completed, &Obj::bool(true))?;
        }
        match callbacks::outcome(task)? {
            Outcome::Exception(exception) => self.failed(task, exception),
            _ => Ok(()),
        }
    }

    /// A task ended with an exception: the others and the parent are cancelled.
    #[cold]
    fn failed(&self, task: &Obj, exception: Obj) -> R<()> {
        self.add_error(&exception)?;
        if self.is_base_error(&exception)? && self.base_error.is_empty() {
            self.base_error.set(exception.clone());
        }
        let parent = self.parent();
        if callbacks::is_done(&parent)? {
            let text = format!(
                "Task {} has errored out but its parent task {} is already completed",
                task.repr()?,
                parent.to_str()?.to_string()?
            );
            let context = Obj::dict()?;
            context.dict_set(&names::MESSAGE, &Obj::str(&text)?)?;
            context.dict_set(&names::EXCEPTION, &exception)?;
            context.dict_set(&names::TASK, task)?;
            self.loop_
                .get_or_none()
                .call_method(&names::CALL_EXCEPTION_HANDLER, &[&context])?;
            return Ok(());
        }
        if !self.aborting.get() && !self.parent_cancel_requested.get() {
            self.abort()?;
            self.cancel_parent()?;
        }
        Ok(())
    }

    /// Breaks off whatever the block awaits right now (rule 3).
    fn cancel_parent(&self) -> R<()> {
        self.parent_cancel_requested.set(true);
        cancels::because(Why::TaskGroup, || callbacks::cancel(&self.parent(), None)).map(drop)
    }

    /// `_abort()`
    fn abort(&self) -> R<()> {
        if self.is_exact() {
            return self.cancel_tasks();
        }
        self.obj().call_method_str("_abort", &[]).map(drop)
    }

    fn cancel_tasks(&self) -> R<()> {
        self.aborting.set(true);
        let Some(tasks) = self.tasks.get() else {
            return Ok(());
        };
        for task in tasks.to_vec()? {
            if !callbacks::is_done(&task)? {
                cancels::because(Why::TaskGroup, || callbacks::cancel(&task, None))?;
            }
        }
        Ok(())
    }

    /// `_is_base_error(exc)`: SystemExit and KeyboardInterrupt are not for a group to collect.
    fn is_base_error(&self, exception: &Obj) -> R<bool> {
        if self.is_exact() {
            return is_base_error(exception);
        }
        self.obj()
            .call_method_str("_is_base_error", &[exception])?
            .truth()
    }

    /// `cancel()`
    fn cancel(&self) -> R<()> {
        if !self.entered.get() {
            self.cancel_on_enter.set(true);
            return Ok(());
        }
        if self.exiting.get() && !self.has_tasks()? || self.aborting.get() {
            return Ok(());
        }
        self.cancelled.set(true);
        self.abort()?;
        if !self.parent.is_empty() && !self.parent_cancel_requested.get() {
            self.cancel_parent()?;
        }
        Ok(())
    }
}

fn is_base_error(exception: &Obj) -> R<bool> {
    Ok(exception.isinstance(exc::system_exit())? || exception.isinstance(exc::keyboard_interrupt())?)
}

/// The done-callback of every task: `a` is the group, `b` who waits.
fn task_done(hook: &Own<Hook>, task: Option<&Obj>) -> R<()> {
    let (Some(group), Some(task)) = (hook.a.get(), task) else {
        return Ok(());
    };
    match CLASS.exact(&group) {
        Some(group) => group.on_task_done(task),
        None => group.call_method_str("_on_task_done", &[task]).map(drop),
    }
}

/// `create_task(coro, *, name=None, context=None)`
fn create_task(args: &Args) -> R<Obj> {
    let this = args.this::<TaskGroup>()?;
    let (coro, name, context) = (args.req(1)?, args.get(2), args.get(3));
    this.check_open(coro)?;
    let loop_ = this.loop_.get_or_none();
    let task = match core::fast(&loop_) {
        Some(core) => spawn::on_loop(&loop_, core, coro, name, context, None)?,
        None => create_elsewhere(&loop_, coro, name, context)?,
    };
    this.adopt(&task)?;
    Ok(task)
}

/// `loop.create_task`, as the versions before 3.13.3 call it.
#[cold]
fn create_elsewhere(loop_: &Obj, coro: &Obj, name: Option<&Obj>, context: Option<&Obj>) -> R<Obj> {
    let kwargs = Obj::dict()?;
    let by_loop = version::TASKGROUP_313.get();
    if by_loop {
        kwargs.dict_set(&names::NAME, &name.cloned().unwrap_or_else(Obj::none))?;
    }
    if let Some(context) = context.and_then(Obj::non_none) {
        kwargs.dict_set(&names::CONTEXT, context)?;
    }
    let task = loop_
        .getattr(&names::CREATE_TASK)?
        .call_with(&Obj::tuple(&[coro])?, Some(&kwargs))?;
    if let Some(name) = name.and_then(Obj::non_none)
        && !by_loop
        && let Some(set_name) = task.getattr_opt(&names::SET_NAME)?
    {
        set_name.call(&[name])?;
    }
    Ok(task)
}

/// `create_task(coro, **kwargs)`
fn create_task_kwargs(args: &Args) -> R<Obj> {
    let this = args.this::<TaskGroup>()?;
    let coro = args.req(1)?;
    this.check_open(coro)?;
    let loop_ = this.loop_.get_or_none();
    let task = match (core::fast(&loop_), args.kwargs()) {
        (Some(core), None) => spawn::on_loop(&loop_, core, coro, None, None, None)?,
        (_, kwargs) => loop_
            .getattr(&names::CREATE_TASK)?
            .call_with(&Obj::tuple(&[coro])?, kwargs)?,
    };
    this.adopt(&task)?;
    Ok(task)
}

fn aenter(args: &Args) -> R<Obj> {
    fn step(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
        let entered = input.and_then(|_| {
            let group = this.this::<TaskGroup>()?;
            group.enter()?;
            Ok(group.obj().clone())
        });
        Step::from(entered)
    }
    let this = args.this::<TaskGroup>()?.obj().clone();
    Coroutine::of_method("TaskGroup.__aenter__", step, this).alloc()
}

fn init(args: &Args) -> R<Obj> {
    let this = args.this::<TaskGroup>()?;
    this.clear();
    for flag in [
        &this.entered,
        &this.exiting,
        &this.aborting,
        &this.parent_cancel_requested,
    ] {
        flag.set(false);
    }
    for flag in [
        &this.taken_back,
        &this.cancel_on_enter,
        &this.cancelled,
        &this.finished,
    ] {
        flag.set(false);
    }
    Ok(Obj::none())
}

fn repr(this: &Own<TaskGroup>) -> R<Obj> {
    let mut text = String::from("<TaskGroup");
    let tasks = this.tasks.get().map_or(Ok(0), |tasks| tasks.len())?;
    if tasks > 0 {
        text += &format!(" tasks={tasks}");
    }
    if this.has_errors()? {
        text += &format!(" errors={}", this.errors_list()?.len()?);
    }
    if this.aborting.get() {
        text += " cancelling";
    } else if this.entered.get() {
        text += " entered";
    }
    Obj::str(&(text + ">"))
}

static CLASS: ClassCell<TaskGroup> = ClassCell::new();

impl TaskGroup {
    fn held(&self) -> [&Slot; 9] {
        [
            &self.loop_,
            &self.parent,
            &self.tasks,
            &self.hook,
            &self.errors,
            &self.base_error,
            &self.completed,
            &self.propagate,
            &self.pending,
        ]
    }
}

/// asyncio's private attributes, which libraries read, and which some change.
fn attributes(slots: &mut Slots<TaskGroup>) {
    slots.get_set(
        c"_loop",
        |this| Ok(this.loop_.get_or_none()),
        |this, value| put(&this.loop_, value),
    );
    slots.get_set(
        c"_parent_task",
        |this| Ok(this.parent()),
        |this, value| put(&this.parent, value),
    );
    slots.get_set(
        c"_base_error",
        |this| Ok(this.base_error.get_or_none()),
        |this, value| put(&this.base_error, value),
    );
    slots.get_set(
        c"_on_completed_fut",
        |this| Ok(this.completed.get_or_none()),
        |this, value| put(&this.completed, value),
    );
    slots.get_set(c"_tasks", tasks, |this, value| put(&this.tasks, value));
    slots.get_set(c"_errors", errors, set_errors);
    slots.get_set(
        c"_entered",
        |this| Ok(Obj::bool(this.entered.get())),
        |this, value| set(&this.entered, value),
    );
    slots.get_set(
        c"_exiting",
        |this| Ok(Obj::bool(this.exiting.get())),
        |this, value| set(&this.exiting, value),
    );
    slots.get_set(
        c"_aborting",
        |this| Ok(Obj::bool(this.aborting.get())),
        |this, value| set(&this.aborting, value),
    );
    slots.get_set(
        c"_parent_cancel_requested",
        |this| Ok(Obj::bool(this.parent_cancel_requested.get())),
        |this, value| set(&this.parent_cancel_requested, value),
    );
}

fn put(place: &Slot, value: Option<&Obj>) -> R<()> {
    place.put(not_deleted(value)?.non_none().cloned());
    Ok(())
}

fn set(flag: &Cell<bool>, value: Option<&Obj>) -> R<()> {
    flag.set(not_deleted(value)?.truth()?);
    Ok(())
}

/// `_tasks`: a set, and the truth from now on.
fn tasks(this: &Own<TaskGroup>) -> R<Obj> {
    let tasks = match this.tasks.get() {
        Some(tasks) if !tasks.is_dict() => return Ok(tasks),
        Some(tasks) => Obj::set(&tasks.to_vec()?)?,
        None => Obj::set(&[])?,
    };
    this.tasks.set(tasks.clone());
    Ok(tasks)
}

fn errors(this: &Own<TaskGroup>) -> R<Obj> {
    if this.finished.get() {
        Ok(Obj::none())
    } else {
        this.errors_list()
    }
}

fn set_errors(this: &Own<TaskGroup>, value: Option<&Obj>) -> R<()> {
    let value = not_deleted(value)?;
    this.finished.set(value.is_none());
    put(&this.errors, Some(value))
}

impl Copied for TaskGroup {
    const STATE: &'static [&'static str] = &[
        "_entered",
        "_exiting",
        "_aborting",
        "_loop",
        "_parent_task",
        "_parent_cancel_requested",
        "_tasks",
        "_errors",
        "_base_error",
        "_on_completed_fut",
    ];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

impl Class for TaskGroup {
    const NAME: &'static CStr = c"asyncio.taskgroups.TaskGroup";
    const DICT: Option<usize> = Some(offset_of!(TaskGroup, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(TaskGroup, weakrefs));

    fn class() -> &'static ClassCell<TaskGroup> {
        &CLASS
    }
    fn slots(slots: &mut Slots<TaskGroup>) -> R<()> {
        slots.init("(self)", init);
        slots.repr(repr);
        slots.async_method("__aenter__(self)", aenter)?;
        slots.async_method("__aexit__(self, et, exc, tb)", exit::aexit)?;
        if version::FACTORY_TAKES_KWARGS.get() {
            slots.method("create_task(self, coro, **kwargs)", create_task_kwargs)?;
        } else {
            slots.method("create_task(self, coro, *, name=None, context=None)", create_task)?;
        }
        slots.method("cancel(self)", |args| {
            args.this::<TaskGroup>()?.cancel().map(|()| Obj::none())
        })?;
        slots.method("_on_task_done(self, task)", |args| {
            args.this::<TaskGroup>()?
                .on_task_done(args.req(1)?)
                .map(|()| Obj::none())
        })?;
        slots.method("_abort(self)", |args| {
            args.this::<TaskGroup>()?.cancel_tasks().map(|()| Obj::none())
        })?;
        slots.method("_is_base_error(self, exc)", |args| {
            Ok(Obj::bool(is_base_error(args.req(1)?)?))
        })?;
        attributes(slots);
        copying::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.held() {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        for slot in self.held() {
            slot.put(None);
        }
    }
}

/// Exports this area's classes and functions.
pub(crate) fn register(module: &Obj) -> R<()> {
    class::create::<TaskGroup>(None)?;
    module.setattr_str("TaskGroup", CLASS.get())
}
