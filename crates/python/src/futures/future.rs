//! `asyncio.Future`: the fields, the state, and the only functions that change it.
//!
//! Rules
//! 1. `Pending` is left once, by [`Own<Future>::finish`], [`finish_with`](Own::finish_with) or
//!    [`cancel_base`](Own::cancel_base); nothing else writes `state`.
//! 2. Leaving it schedules every callback, in order, and empties the list first: a callback that is
//!    added while the others are being scheduled finds a future that is done.
//! 3. `value` is the result or the exception; which, says `state`.
//! 4. A future without a loop is one whose `__init__` never ran: every method says so.
//!
//! Must never: call user code while a field is half written.

use crate::diag::cancels::Cancellation;
use crate::diag::dev;
use crate::ffi::errors::{exc, raise_new, raise_with_context, runtime_error, type_error};
use crate::ffi::stack::Site;
use crate::ffi::{Class, ClassCell, Fifo, Obj, Own, R, Raised, Slot, Slots, Visitor, WeakRefs};
use crate::imports;
use crate::version;
use std::cell::{Cell, OnceCell};
use std::ffi::CStr;
use std::mem::offset_of;

/// `Future._state`
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub(crate) enum State {
    /// Not done.
    #[default]
    Pending,
    /// Done: cancelled.
    Cancelled,
    /// Done with a result.
    Result,
    /// Done with an exception.
    Exception,
}

/// What a future was made for, where somebody who meets it has to know.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Role {
    /// Nothing that matters.
    #[default]
    Any,
    /// The timer of a `sleep()` has it, and the sleeper waits.
    Timed,
    /// Who waits for it waits for other tasks: for a lock that they hold, or for their end (`diag/waits.rs`).
    ForTasks,
}

/// Somebody who waits: the callable (or our own listener) and the context that it runs in.
/// Listeners of ours (tasks, hooks) have no context.
pub(crate) type Callback = (Obj, Option<Obj>);

/// The struct behind `asyncio.Future`, and the first part of [`crate::tasks::Task`].
#[repr(C)]
#[derive(Default)]
pub(crate) struct Future {
    dict: Slot,
    weakrefs: WeakRefs,
    pub(crate) loop_: Slot,
    /// The first callback: most futures have one.
    pub(crate) callback: Slot,
    pub(crate) context: Slot,
    pub(crate) more: OnceCell<Box<Fifo<Callback>>>,
    pub(crate) value: Slot,
    extra: OnceCell<Box<Extra>>,
    pub(crate) state: Cell<State>,
    /// `_asyncio_future_blocking`
    pub(crate) blocking: Cell<bool>,
    /// `_log_traceback`: the exception has not been retrieved.
    pub(crate) log_traceback: Cell<bool>,
    /// Made for one of our own waits, or not.
    pub(crate) role: Cell<Role>,
    /// Of a task: how many of its steps have begun. It lies here because there is room.
    pub(crate) steps: Cell<u32>,
}

// (a word more for each future, for the sake of a number that few ask for, would be too much)
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Future>() == 72);
/// Where the fields are that `diag/attach` reads without the GIL.
pub(crate) mod layout {
    use super::Future;
    use std::mem::offset_of;

    pub(crate) const CALLBACK: usize = offset_of!(Future, callback);
    pub(crate) const MORE: usize = offset_of!(Future, more);
    pub(crate) const STATE: usize = offset_of!(Future, state);
    pub(crate) const STEPS: usize = offset_of!(Future, steps);
}

/// What few futures have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) source_traceback: Slot,
    pub(crate) cancel_message: Slot,
    /// The CancelledError that a cancelled task ended with, re-raised once.
    pub(crate) cancelled_exc: Slot,
    /// The traceback of the exception when it was set: `result()` starts from it.
    pub(crate) exception_tb: Slot,
    /// `_asyncio_awaited_by`: who waits for it other than by a callback (3.14).
    pub(crate) awaited_by: Slot,
    /// All who wait for a task, if they are several: what `Task::awaited_by` shows.
    pub(crate) shown: Slot,
    /// Where it was made: in development only.
    pub(crate) made: Cell<Site>,
    /// A task's last cancellation.
    pub(crate) cancellation: Cancellation,
}

impl Future {
    /// A pending future of `loop`.
    #[inline(always)]
    pub(crate) fn pending(loop_: Obj) -> Future {
        let future = Future::default();
        future.loop_.set(loop_);
        future
    }

    /// The rare fields, made when first asked for.
    pub(crate) fn extra(&self) -> &Extra {
        self.extra.get_or_init(Box::default)
    }

    /// The rare fields, if there are any.
    pub(crate) fn extra_opt(&self) -> Option<&Extra> {
        self.extra.get().map(Box::as_ref)
    }

    /// `done()`
    #[inline(always)]
    pub(crate) fn is_done(&self) -> bool {
        self.state.get() != State::Pending
    }

    /// The loop, or the error for a future whose `__init__` never ran.
    #[inline(always)]
    pub(crate) fn require_loop(&self) -> R<Obj> {
        self.loop_.get().ok_or_else(uninitialised)
    }

    /// See rule 4.
    #[inline(always)]
    pub(crate) fn alive(&self) -> R<()> {
        if self.loop_.is_empty() {
            Err(uninitialised())
        } else {
            Ok(())
        }
    }

    /// `tp_traverse`, also for tasks.
    pub(crate) fn visit_fields(&self, visitor: &mut Visitor) {
        self.loop_.visit(visitor);
        self.callback.visit(visitor);
        self.context.visit(visitor);
        if let Some(more) = self.more.get() {
            more.for_each(|(callback, context)| {
                visitor.obj(callback);
                if let Some(context) = context {
                    visitor.obj(context);
                }
            });
        }
        self.value.visit(visitor);
        if let Some(extra) = self.extra.get() {
            for slot in [
                &extra.source_traceback,
                &extra.cancel_message,
                &extra.cancelled_exc,
                &extra.exception_tb,
                &extra.awaited_by,
                &extra.shown,
            ] {
                slot.visit(visitor);
            }
            extra.cancellation.visit(visitor);
        }
    }

    /// `tp_clear`, also for tasks.
    pub(crate) fn clear_fields(&self) {
        self.loop_.put(None);
        self.clear_callbacks();
        self.value.put(None);
        if let Some(extra) = self.extra.get() {
            extra.source_traceback.put(None);
            extra.cancel_message.put(None);
            extra.cancelled_exc.put(None);
            extra.exception_tb.put(None);
            extra.awaited_by.put(None);
            extra.shown.put(None);
            extra.cancellation.clear();
        }
    }

    pub(crate) fn clear_callbacks(&self) {
        let more = self.more.get().map(|more| more.take());
        let first = (self.callback.take(), self.context.take());
        drop(first);
        drop(more);
    }
}

#[cold]
fn uninitialised() -> Raised {
    runtime_error("Future object is not initialized.")
}

/// `InvalidStateError(text)`
#[cold]
pub(crate) fn invalid_state(text: &str) -> Raised {
    raise_new(&imports::INVALID_STATE_ERROR, text)
}

impl Own<Future> {
    /// Ends it with a result. `Err` only if the loop refuses a callback (or is closed).
    #[inline]
    pub(crate) fn finish(&self, value: Obj) -> R<()> {
        debug_assert!(!self.is_done());
        self.value.set(value);
        self.state.set(State::Result);
        self.schedule_callbacks()
    }

    /// Ends it with an exception object (an instance).
    pub(crate) fn finish_with(&self, exception: Obj) -> R<()> {
        debug_assert!(!self.is_done());
        if let Some(traceback) = traceback_of(&exception) {
            self.extra().exception_tb.set(traceback);
        }
        self.value.set(exception);
        self.state.set(State::Exception);
        let scheduled = self.schedule_callbacks();
        self.log_traceback.set(true);
        scheduled
    }

    /// `Future.cancel(msg)`, not a task's. `false`: it was done.
    pub(crate) fn cancel_base(&self, message: Option<&Obj>) -> R<bool> {
        self.log_traceback.set(false);
        if self.is_done() {
            return Ok(false);
        }
        self.state.set(State::Cancelled);
        self.set_cancel_message(message);
        self.schedule_callbacks()?;
        Ok(true)
    }

    /// `_cancel_message = message`
    pub(crate) fn set_cancel_message(&self, message: Option<&Obj>) {
        match message.and_then(Obj::non_none) {
            Some(message) => self.extra().cancel_message.set(message.clone()),
            None => {
                if let Some(extra) = self.extra_opt() {
                    extra.cancel_message.put(None);
                }
            }
        }
    }

    /// `set_exception(exception)`, with its checks.
    pub(crate) fn set_exception(&self, exception: &Obj) -> R<()> {
        self.alive()?;
        if self.is_done() {
            return Err(invalid_state("invalid state"));
        }
        let exception = self.checked_exception(exception)?;
        // making the exception may have run user code
        if self.is_done() {
            return Err(invalid_state("invalid state"));
        }
        self.finish_with(exception)
    }

    fn checked_exception(&self, exception: &Obj) -> R<Obj> {
        let exception = if is_exception_class(exception) {
            exception.call0()?
        } else {
            exception.clone()
        };
        if !exception.isinstance(exc::base_exception())? {
            return Err(type_error("invalid exception object"));
        }
        if version::STOP_ITERATION_BECOMES_RUNTIME_ERROR.get() {
            if exception.isinstance(exc::stop_iteration())? {
                let text = "StopIteration interacts badly with generators and cannot be raised into a Future";
                let wrapped = exc::runtime_error().call(&[&Obj::str(text)?])?;
                wrapped.setattr(&imports::names::CAUSE_ATTR, &exception)?;
                wrapped.setattr(&imports::names::CONTEXT_ATTR, &exception)?;
                return Ok(wrapped);
            }
        } else if exception.class().is(exc::stop_iteration()) {
            return Err(type_error(
                "StopIteration interacts badly with generators and cannot be raised into a Future",
            ));
        }
        Ok(exception)
    }

    /// `result()`: the value, or the exception raised.
    #[inline]
    pub(crate) fn result(&self) -> R<Obj> {
        if self.state.get() == State::Result {
            return Ok(self.value.get_or_none());
        }
        self.result_slow()
    }

    #[cold]
    fn result_slow(&self) -> R<Obj> {
        match self.state.get() {
            State::Pending => Err(invalid_state("Result is not set.")),
            State::Cancelled => Err(raise_with_context(&self.make_cancelled_error()?)),
            State::Result => Ok(self.value.get_or_none()),
            State::Exception => Err(self.raise_exception()),
        }
    }

    /// Raises the exception, its traceback being that of when it was set (the first time; later none),
    /// so that it does not grow with each `await`.
    #[cold]
    pub(crate) fn raise_exception(&self) -> Raised {
        self.log_traceback.set(false);
        let exception = self.value.get_or_none();
        let traceback = self.extra_opt().and_then(|extra| extra.exception_tb.take());
        set_traceback(&exception, &traceback.unwrap_or_else(Obj::none));
        raise_with_context(&exception)
    }

    /// `exception()`
    pub(crate) fn exception(&self) -> R<Obj> {
        match self.state.get() {
            State::Pending => Err(invalid_state("Exception is not set.")),
            State::Cancelled => Err(raise_with_context(&self.make_cancelled_error()?)),
            State::Result => Ok(Obj::none()),
            State::Exception => {
                self.log_traceback.set(false);
                Ok(self.value.get_or_none())
            }
        }
    }

    /// `_make_cancelled_error()`: the error that the task ended with (once), or a new one.
    #[cold]
    pub(crate) fn make_cancelled_error(&self) -> R<Obj> {
        let Some(extra) = self.extra_opt() else {
            return imports::CANCELLED_ERROR.call0();
        };
        if let Some(exception) = extra.cancelled_exc.take() {
            return Ok(exception);
        }
        match extra.cancel_message.get() {
            Some(message) => imports::CANCELLED_ERROR.call(&[&message]),
            None => imports::CANCELLED_ERROR.call0(),
        }
    }

    /// What `tp_finalize` does for an exception that nobody has looked at.
    #[cold]
    pub(crate) fn report_never_retrieved(&self) {
        self.log_traceback.set(false);
        let report = || -> R<()> {
            let names = &imports::names::MESSAGE;
            let (Some(loop_), Some(exception)) = (self.loop_.get(), self.value.get()) else {
                return Ok(());
            };
            if dev::enabled() {
                dev::never_retrieved(self, &exception);
            }
            let context = Obj::dict()?;
            let class = self
                .obj()
                .class()
                .getattr(&imports::names::NAME_ATTR)?
                .to_string()?;
            context.dict_set(
                names,
                &Obj::str(&format!("{class} exception was never retrieved"))?,
            )?;
            context.dict_set(&imports::names::EXCEPTION, &exception)?;
            context.dict_set(&imports::names::FUTURE, self.obj())?;
            if let Some(traceback) = self.extra_opt().and_then(|extra| extra.source_traceback.get()) {
                context.dict_set(&imports::names::SOURCE_TRACEBACK_KEY, &traceback)?;
            }
            loop_.call_method(&imports::names::CALL_EXCEPTION_HANDLER, &[&context])?;
            Ok(())
        };
        if let Err(raised) = report() {
            raised.unraisable(self.obj());
        }
    }
}

/// Is it an exception class (and not an instance)?
pub(crate) fn is_exception_class(object: &Obj) -> bool {
    crate::ffi::exceptions::is_class(object)
}

/// `exception.__traceback__`
pub(crate) fn traceback_of(exception: &Obj) -> Option<Obj> {
    crate::ffi::exceptions::traceback(exception)
}

/// `exception.__traceback__ = traceback`
pub(crate) fn set_traceback(exception: &Obj, traceback: &Obj) {
    crate::ffi::exceptions::set_traceback(exception, traceback);
}

static CLASS: ClassCell<Future> = ClassCell::new();

impl Class for Future {
    const NAME: &'static CStr = c"_asyncio.Future";
    const DICT: Option<usize> = Some(offset_of!(Future, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Future, weakrefs));
    const FINALIZE: bool = true;
    const FREELIST: usize = 255;

    fn class() -> &'static ClassCell<Future> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Future>) -> R<()> {
        super::methods::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.visit_fields(visitor);
    }
    fn clear(&self) {
        self.clear_fields();
    }
    #[inline(always)]
    fn wants_finalize(&self) -> bool {
        self.log_traceback.get()
    }
    fn finalize(this: &Own<Future>) {
        if this.log_traceback.get() {
            this.report_never_retrieved();
        }
    }
}
