//! `TaskGroup.__aexit__`: wait for every task, then decide how the block ends.
//!
//! In this order: SystemExit or KeyboardInterrupt, a cancellation of the parent that is not ours (unless
//! tasks failed), an exception group of what failed.

use super::TaskGroup;
use crate::diag::cancels::{self, Why};
use crate::ffi::errors::{exc, finally_raised, raise_with_context};
use crate::ffi::{Args, Class, Coroutine, Obj, Own, R, Step, exceptions};
use crate::futures::{Future, Role, callbacks, methods};
use crate::imports;
use crate::tasks::Task;
use crate::tasks::waiting::{self, AWAITING};
use crate::version;

/// Locals: the class and the exception with which the block's body ended.
const KIND: usize = 1;
const BODY: usize = 2;

const START: u8 = 0;
const WAITING: u8 = 1;
/// Letting our own cancellation come in: see [`awaits_cancellation`](Own::awaits_cancellation).
const ABSORBING: u8 = 2;

/// `__aexit__(et, exc, tb)`
pub(super) fn aexit(args: &Args) -> R<Obj> {
    let this = args.this::<TaskGroup>()?.obj().clone();
    let coroutine = Coroutine::of_method("TaskGroup.__aexit__", step, this);
    coroutine.locals[KIND].put(args.opt(1).cloned());
    coroutine.locals[BODY].put(args.opt(2).cloned());
    coroutine.alloc()
}

fn step(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let group = match this.this::<TaskGroup>() {
        Ok(group) => group,
        Err(raised) => return Step::Raise(raised),
    };
    match advance(this, group, input) {
        Ok(Step::Yield(value)) => Step::Yield(value),
        Ok(Step::Return(value)) => {
            group.clean_up();
            Step::Return(value)
        }
        Ok(Step::Raise(raised)) | Err(raised) => Step::Raise(finally_raised(raised, || {
            drop((this.locals[KIND].take(), this.locals[BODY].take()));
            group.clean_up();
            Ok(())
        })),
    }
}

fn advance(this: &Own<Coroutine>, group: &Own<TaskGroup>, input: R<&Obj>) -> R<Step> {
    let mut waited = if this.stage.get() == START {
        input?;
        group.begin_exit(this.locals[KIND].get().as_ref(), this.locals[BODY].get().as_ref())?;
        None
    } else {
        Some(waiting::resume(this, input))
    };
    // A loop: the wait can be cancelled many times, if the parent is.
    loop {
        match waited.take() {
            None => {}
            Some(Step::Yield(value)) => return Ok(Step::Yield(value)),
            Some(Step::Raise(raised)) if raised.matches(&imports::CANCELLED_ERROR) => {
                group.wait_cancelled(raised.take())?;
            }
            Some(Step::Raise(raised)) => return Err(raised),
            Some(Step::Return(_)) => {}
        }
        if this.stage.get() == WAITING {
            group.completed.put(None);
            this.locals[AWAITING].put(None);
        }
        if !group.has_tasks()? {
            if this.stage.get() == ABSORBING || !group.awaits_cancellation()? {
                break;
            }
            this.stage.set(ABSORBING);
            return Ok(Step::Yield(Obj::none()));
        }
        let completed = methods::create(&group.loop_.get_or_none())?;
        if let Some(completed) = Future::class().exact(&completed) {
            completed.role.set(Role::ForTasks);
        }
        group.completed.set(completed.clone());
        this.stage.set(WAITING);
        waited = Some(waiting::begin(this, completed));
    }
    let (kind, body) = (this.locals[KIND].take(), this.locals[BODY].take());
    group.end_exit(kind, body).map(Step::Return)
}

fn is_cancellation(kind: &Obj) -> R<bool> {
    if version::CANCELLED_SUBCLASS.get() {
        kind.issubclass(&imports::CANCELLED_ERROR)
    } else {
        Ok(kind.is(&imports::CANCELLED_ERROR))
    }
}

impl Own<TaskGroup> {
    /// The body has ended: with an exception, everybody else is to end too.
    fn begin_exit(&self, kind: Option<&Obj>, body: Option<&Obj>) -> R<()> {
        self.exiting.set(true);
        if let Some(body) = body
            && self.is_base_error(body)?
            && self.base_error.is_empty()
        {
            self.base_error.set(body.clone());
        }
        if let Some(kind) = kind
            && is_cancellation(kind)?
        {
            self.propagate.put(body.cloned());
        }
        if !version::TASKGROUP_313.get() && self.parent_cancel_requested.get() {
            self.take_back_cancellation()?;
        }
        if kind.is_some() && !self.aborting.get() {
            self.abort()
        } else {
            Ok(())
        }
    }

    /// The parent was cancelled while it waited for the tasks, by us or by another.
    #[cold]
    fn wait_cancelled(&self, cancellation: Obj) -> R<()> {
        self.pending.set(cancellation.clone());
        if self.aborting.get() {
            return Ok(());
        }
        self.propagate.set(cancellation);
        self.abort()
    }

    /// Rule 3. If nobody else wants the parent cancelled, there is nothing to propagate.
    fn take_back_cancellation(&self) -> R<()> {
        if self.taken_back.replace(true) {
            return Ok(());
        }
        let parent = self.parent();
        let left = waiting::uncancel(&parent)?;
        if left > 0 {
            if version::TASKGROUP_315.get() && self.propagate.is_empty() {
                // what remains is not ours
                self.propagate.put(self.pending.take());
            }
            return Ok(());
        }
        self.propagate.put(None);
        Ok(())
    }

    /// `cancel()`, and since then nothing was awaited: the parent's CancelledError is still to come. It must
    /// not come after the block. 3.13+ sees to that in `uncancel()`; before, we take it in here.
    fn awaits_cancellation(&self) -> R<bool> {
        if version::UNCANCEL_CLEARS_MUST_CANCEL.get() || !self.cancelled.get() {
            return Ok(false);
        }
        match self.parent().getattr_opt(&Obj::interned("_must_cancel")?)? {
            Some(must_cancel) => must_cancel.truth(),
            None => Ok(false),
        }
    }

    /// All tasks are done: how the block ends.
    fn end_exit(&self, kind: Option<Obj>, body: Option<Obj>) -> R<Obj> {
        if !version::TASKGROUP_313.get()
            && self.parent_cancel_requested.get()
            && !self.taken_back.get()
            && self.propagate.is_empty()
            && let Some(parent) = Task::class().instance(&self.parent())
        {
            parent.note_kept_by_group();
        }
        if let Some(error) = self.base_error.get() {
            return Err(raise_with_context(&error));
        }
        // Before 3.13 asyncio did this when the exit began; a later `cancel()` is of our making.
        if self.parent_cancel_requested.get() && (version::TASKGROUP_313.get() || self.cancelled.get()) {
            self.take_back_cancellation()?;
        }
        let propagate = self.propagate.take();
        if let Some(cancellation) = propagate
            && !self.has_errors()?
        {
            return Err(raise_with_context(&cancellation));
        }
        let mut alone = false;
        if let (Some(kind), Some(body)) = (&kind, &body)
            && !is_cancellation(kind)?
        {
            self.add_error(body)?;
            alone = version::TASKGROUP_315.get() && kind.issubclass(exc::generator_exit())?;
        }
        if !self.has_errors()? {
            let swallow = version::TASKGROUP_315.get() || self.cancelled.get();
            return Ok(if swallow { Obj::bool(true) } else { Obj::none() });
        }
        let parent = self.parent();
        if version::TASKGROUP_313.get() && waiting::cancelling(&parent)? > 0 {
            // Cancelled from outside: delivered again at the next await, and the count stays as it is.
            waiting::uncancel(&parent)?;
            cancels::because(Why::TaskGroup, || callbacks::cancel(&parent, None))?;
        }
        let errors = self.errors_list()?;
        if let Some(body) = &body
            && alone
            && errors.len()? == 1
        {
            // an asynchronous generator that is being closed wants to see just that
            return Err(raise_with_context(body));
        }
        let group =
            imports::BASE_EXCEPTION_GROUP.call(&[&Obj::str("unhandled errors in a TaskGroup")?, &errors])?;
        self.errors.put(None);
        self.finished.set(true);
        let raised = raise_with_context(&group);
        exceptions::set_cause(&group, None);
        Err(raised)
    }

    /// Exceptions hold frames, and frames the group: nothing of it stays.
    fn clean_up(&self) {
        match self.has_tasks() {
            Ok(false) => self.hook.put(None),
            Ok(true) => {}
            // (something odd that the program has put there)
            Err(raised) => raised.ignore(),
        }
        self.completed.put(None);
        self.propagate.put(None);
        self.pending.put(None);
        if version::TASKGROUP_314.get() {
            self.parent.put(None);
            self.base_error.put(None);
            self.finished.set(true);
            self.errors.put(None);
        }
    }
}
