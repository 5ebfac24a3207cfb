//! One step of a task: resume the coroutine, look at what it yielded, arrange for the next step.
//!
//! The fast path is native task + native future + native loop: no attribute is looked up, no bound
//! method made, no exception raised to carry a value. Everything else goes by the protocol that
//! asyncio documents (`_asyncio_future_blocking`, `add_done_callback`, `call_soon`).
//!
//! Rules
//! 1. A step runs inside the task's context: [`in_context`] enters it; a foreign loop has entered it.
//! 2. Whatever the coroutine did wrong is thrown into it at a later step, never raised to the loop.
//! 3. KeyboardInterrupt and SystemExit end the task *and* go on to the loop.

use super::task::Task;
use crate::diag::cancels;
use crate::event_loop::core::{self, Entry, LoopCore};
use crate::ffi::errors::{R, Raised, exc, raise, runtime_error};
use crate::ffi::{Obj, Own, Step, context, send};
use crate::futures::callbacks::{as_native, cancel};
use crate::futures::future::{Future, State, invalid_state};
use crate::hook::Hook;
use crate::imports::{self, names};

/// What is to be done after a step.
enum After {
    /// Nothing: it waits, or it has ended.
    Nothing,
    /// It gave up its turn (a bare yield): its next step is due in the next turn.
    Again,
}

/// A step on our own loop, in the task's context. `Err`: the task too, to be named in the report.
#[inline]
pub(crate) fn on_our_loop(task: Own<Task>, core: &LoopCore) -> Result<(), (Own<Task>, Raised)> {
    match in_context(&task, core, None) {
        Ok(After::Nothing) => Ok(()),
        Ok(After::Again) => {
            core.push(Entry::Step(task));
            Ok(())
        }
        Err(raised) => Err((task, raised)),
    }
}

/// Enters the context, tells who is current, runs.
#[inline(always)]
fn in_context(task: &Own<Task>, core: &LoopCore, exception: Option<Obj>) -> R<After> {
    let Some(entered) = task.context.look(context::enter) else {
        return Err(runtime_error("Task object is not initialized."));
    };
    let entered = entered?;
    let result = match core.enter_task(task) {
        Ok(()) => {
            let result = match run(task, exception) {
                Ok(After::Again) if !core.fast.get() => again_slowly(task),
                result => result,
            };
            core.leave_task(task, result)
        }
        Err(raised) => Err(raised),
    };
    entered.exit_with(result)
}

/// The loop has come to ask for the slow path while the step ran: its `call_soon` decides.
#[cold]
fn again_slowly(task: &Own<Task>) -> R<After> {
    let loop_ = task.future.require_loop()?;
    call_soon(task, &loop_, None)?;
    Ok(After::Nothing)
}

/// The exception with which a waiter ended, if it did not end well. Marks it as retrieved.
#[inline]
fn failure(waiter: &Own<Future>) -> R<Option<Obj>> {
    match waiter.state.get() {
        State::Result => Ok(None),
        State::Pending => Err(invalid_state("Result is not set.")),
        State::Cancelled => Ok(Some(waiter.make_cancelled_error()?)),
        State::Exception => Ok(Some(waiter.raise_exception().take())),
    }
}

/// The waiter is done: the next step, on our own loop.
#[inline]
pub(crate) fn wake(task: Own<Task>, core: &LoopCore) -> Result<(), (Own<Task>, Raised)> {
    let exception = task.waiter.get().and_then(|waiter| {
        let waiter = as_native(&waiter)?;
        // (it has its result, nearly always)
        (waiter.state.get() != State::Result).then(|| failure(waiter))
    });
    match exception {
        None | Some(Ok(None)) => on_our_loop(task, core),
        Some(exception) => throw(task, core, exception),
    }
}

/// The next step, on our own loop, of a task whose waiter has ended with an exception.
#[cold]
fn throw(task: Own<Task>, core: &LoopCore, exception: R<Option<Obj>>) -> Result<(), (Own<Task>, Raised)> {
    match exception.and_then(|exception| in_context(&task, core, exception)) {
        Ok(After::Nothing) => Ok(()),
        Ok(After::Again) => {
            core.push(Entry::Step(task));
            Ok(())
        }
        Err(raised) => Err((task, raised)),
    }
}

/// A step of a task on a loop that is not ours (or is in debug mode): the context is entered already.
fn on_foreign_loop(task: &Own<Task>, exception: Option<Obj>) -> R<()> {
    let loop_ = task.as_future().require_loop()?;
    if let Some(core) = core::of(&loop_) {
        core.enter_task(task)?;
        let result = run_and_go_on(task, &loop_, exception);
        return core.leave_task(task, result);
    }
    imports::ENTER_TASK.call(&[&loop_, task.obj()])?;
    let result = run_and_go_on(task, &loop_, exception);
    leave_foreign(&loop_, task, result)
}

/// A step, and the next one arranged if it gave up its turn.
pub(super) fn run_and_go_on(task: &Own<Task>, loop_: &Obj, exception: Option<Obj>) -> R<()> {
    match run(task, exception)? {
        After::Nothing => Ok(()),
        After::Again => call_soon(task, loop_, None),
    }
}

/// `_leave_task`, keeping the step's own exception if it has one.
pub(crate) fn leave_foreign<T>(loop_: &Obj, task: &Own<Task>, result: R<T>) -> R<T> {
    match result {
        Ok(value) => imports::LEAVE_TASK.call(&[loop_, task.obj()]).map(|_| value),
        Err(raised) => {
            let exception = raised.take();
            match imports::LEAVE_TASK.call(&[loop_, task.obj()]) {
                Ok(_) => Err(raise(&exception)),
                Err(raised) => Err(raised),
            }
        }
    }
}

/// The hook behind `call_soon(step)`: `b` is the exception to throw.
pub(crate) fn step_hook(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    let Some(task) = hook.a.get() else { return Ok(()) };
    let task = as_task(&task)?;
    on_foreign_loop(task, hook.b.take())
}

/// The hook behind `add_done_callback(wakeup)`.
pub(crate) fn wakeup_hook(hook: &Own<Hook>, future: Option<&Obj>) -> R<()> {
    let Some(task) = hook.a.get() else { return Ok(()) };
    let task = as_task(&task)?;
    let exception = match future {
        None => None,
        Some(future) => match as_native(future) {
            Some(future) => failure(future)?,
            None => match future.call_method(&names::RESULT, &[]) {
                Ok(_) => None,
                Err(raised) => Some(raised.take()),
            },
        },
    };
    on_foreign_loop(task, exception)
}

fn as_task(object: &Obj) -> R<&Own<Task>> {
    use crate::ffi::Class;
    Task::class()
        .instance(object)
        .ok_or_else(|| runtime_error("not a task"))
}

/// Arranges for the first or next step: `call_soon(step)`.
#[inline]
pub(crate) fn call_soon(task: &Own<Task>, loop_: &Obj, exception: Option<Obj>) -> R<()> {
    if exception.is_none()
        && let Some(core) = core::fast(loop_)
    {
        core.push(Entry::Step(task.clone()));
        return Ok(());
    }
    let hook = Hook::step(task, exception)?;
    let context = task.context.get_or_none();
    loop_.call_method_kw(
        &names::CALL_SOON,
        &[hook.obj(), &context],
        Some(&crate::kwnames::CONTEXT),
    )?;
    Ok(())
}

/// The step itself: inside the context, `task` being the current task.
#[inline(always)]
fn run(task: &Own<Task>, exception: Option<Obj>) -> R<After> {
    let future = task.as_future();
    if future.is_done() {
        return Err(already_done(task, exception)?);
    }
    let Some(coro) = task.coro.get() else {
        return Err(runtime_error("Task object is not initialized."));
    };
    future.steps.set(future.steps.get().wrapping_add(1));
    if !task.waiter.is_empty() {
        task.waiter.put(None);
    }
    let exception = if task.must_cancel.get() {
        task.must_cancel.set(false);
        Some(cancellation(future, exception)?)
    } else {
        exception
    };
    let step = match exception {
        None => send::send(&coro, none()),
        Some(exception) => thrown(task, &coro, &exception),
    };
    match step {
        Step::Yield(value) if value.is_none() => {
            value.drop_none();
            return Ok(After::Again);
        }
        Step::Yield(value) => yielded(task, value),
        Step::Return(value) => ended(task, value),
        Step::Raise(raised) => ended_with(task, raised),
    }?;
    Ok(After::Nothing)
}

/// An exception goes into the coroutine.
#[cold]
fn thrown(task: &Own<Task>, coro: &Obj, exception: &Obj) -> Step {
    cancels::delivers(task, exception);
    let step = send::throw(coro, exception);
    if let Step::Yield(_) = step {
        cancels::goes_on(task, exception);
    }
    step
}

/// The coroutine has returned.
fn ended(task: &Own<Task>, value: Obj) -> R<()> {
    let future = task.as_future();
    task.leave_list();
    if future.is_done() {
        return Err(invalid_state("invalid state"));
    }
    if task.must_cancel.replace(false) {
        // cancelled right before it ended
        let message = future.extra_opt().and_then(|extra| extra.cancel_message.get());
        return future.cancel_base(message.as_ref()).map(drop);
    }
    if task.cancels.get() > 0 {
        cancels::ended(task, None);
    }
    future.finish(value)
}

#[cold]
fn already_done(task: &Own<Task>, exception: Option<Obj>) -> R<Raised> {
    let with = exception.map_or_else(|| Ok("None".to_owned()), |exception| exception.repr())?;
    Ok(invalid_state(&format!(
        "_step(): already done: {} {with}",
        task.obj().repr()?
    )))
}

#[inline(always)]
fn none() -> &'static Obj {
    use crate::ffi::object::NONE;
    NONE.get()
}

/// The exception of a step in which a cancellation is due: it replaces any but a CancelledError.
#[cold]
fn cancellation(future: &Own<Future>, exception: Option<Obj>) -> R<Obj> {
    if let Some(exception) = exception
        && exception.isinstance(&imports::CANCELLED_ERROR)?
    {
        return Ok(exception);
    }
    future.make_cancelled_error()
}

#[cold]
fn ended_with(task: &Own<Task>, raised: Raised) -> R<()> {
    let future = task.as_future();
    task.leave_list();
    let cancelled = raised.matches(&imports::CANCELLED_ERROR);
    let exception = raised.take();
    if future.is_done() {
        return Err(invalid_state("invalid state"));
    }
    if cancelled {
        future.extra().cancelled_exc.set(exception);
        return future.cancel_base(None).map(drop);
    }
    if task.cancels.get() > 0 {
        cancels::ended(task, Some(&exception));
    }
    let fatal =
        exception.isinstance(exc::keyboard_interrupt())? || exception.isinstance(exc::system_exit())?;
    future.finish_with(exception.clone())?;
    if fatal { Err(raise(&exception)) } else { Ok(()) }
}

/// What the coroutine yielded says what it waits for.
#[inline]
fn yielded(task: &Own<Task>, value: Obj) -> R<()> {
    let Some(future) = as_native(&value) else {
        return yielded_foreign(task, &task.future.require_loop()?, value);
    };
    if value.is(task.obj()) || !future.loop_.shares(&task.future.loop_) || !future.blocking.replace(false) {
        return refuse(task, future);
    }
    future.add_listener(task.obj().clone())?;
    task.waiter.set(value);
    if task.must_cancel.get() {
        hand_over_cancellation(task)?;
    }
    Ok(())
}

/// A future that the task can't wait for.
#[cold]
fn refuse(task: &Own<Task>, future: &Own<Future>) -> R<()> {
    let loop_ = task.future.require_loop()?;
    let value = future.obj();
    let text = if value.is(task.obj()) {
        format!("Task cannot await on itself: {}", task.obj().repr()?)
    } else if !future.loop_.holds(&loop_) {
        wrong_loop(task, value)?
    } else {
        not_blocking(task, value)?
    };
    complain(task, &loop_, text)
}

/// A cancellation that came while the coroutine ran goes to what it waits for now.
#[cold]
fn hand_over_cancellation(task: &Own<Task>) -> R<()> {
    let Some(waiter) = task.waiter.get() else {
        return Ok(());
    };
    let message = task
        .future
        .extra_opt()
        .and_then(|extra| extra.cancel_message.get());
    let taken = match as_native(&waiter) {
        Some(_) => cancel(&waiter, message.as_ref())?,
        None => {
            let message = message.unwrap_or_else(Obj::none);
            waiter
                .call_method_kw(&names::CANCEL, &[&message], Some(&crate::kwnames::MSG))?
                .truth()?
        }
    };
    if taken {
        task.must_cancel.set(false);
    }
    Ok(())
}

fn not_blocking(task: &Own<Task>, value: &Obj) -> R<String> {
    Ok(format!(
        "yield was used instead of yield from in task {} with {}",
        task.obj().repr()?,
        value.repr()?
    ))
}

fn wrong_loop(task: &Own<Task>, value: &Obj) -> R<String> {
    Ok(format!(
        "Task {} got Future {} attached to a different loop",
        task.obj().repr()?,
        value.repr()?
    ))
}

/// Rule 2: a RuntimeError thrown into the coroutine at its next step.
#[cold]
fn complain(task: &Own<Task>, loop_: &Obj, text: String) -> R<()> {
    let exception = exc::runtime_error().call(&[&Obj::str(&text)?])?;
    call_soon(task, loop_, Some(exception))
}

/// Anything that is not exactly one of our futures.
#[cold]
fn yielded_foreign(task: &Own<Task>, loop_: &Obj, value: Obj) -> R<()> {
    if value.is(task.obj()) {
        return complain(
            task,
            loop_,
            format!("Task cannot await on itself: {}", task.obj().repr()?),
        );
    }
    match value.getattr_opt(&names::BLOCKING) {
        Ok(Some(blocking)) if !blocking.is_none() => return wait_for_foreign(task, loop_, value, &blocking),
        Ok(_) => {}
        Err(raised) => return call_soon(task, loop_, Some(raised.take())),
    }
    let (task_text, value_text) = (task.obj().repr()?, value.repr()?);
    let text = if send::is_generator(&value) {
        format!("yield was used instead of yield from for generator in task {task_text} with {value_text}")
    } else {
        format!("Task got bad yield: {value_text}")
    };
    complain(task, loop_, text)
}

fn wait_for_foreign(task: &Own<Task>, loop_: &Obj, value: Obj, blocking: &Obj) -> R<()> {
    let attempt = || -> R<Option<String>> {
        let theirs = crate::futures::foreign::loop_of(&value)?;
        if !theirs.is(loop_) {
            return Ok(Some(wrong_loop(task, &value)?));
        }
        if !blocking.truth()? {
            return Ok(Some(not_blocking(task, &value)?));
        }
        value.setattr(&names::BLOCKING, &Obj::bool(false))?;
        let wakeup = Hook::wakeup(task)?;
        let context = task.context.get_or_none();
        value.call_method_kw(
            &names::ADD_DONE_CALLBACK,
            &[wakeup.obj(), &context],
            Some(&crate::kwnames::CONTEXT),
        )?;
        task.waiter.set(value.clone());
        if task.must_cancel.get() {
            hand_over_cancellation(task)?;
        }
        Ok(None)
    };
    match attempt() {
        Ok(None) => Ok(()),
        Ok(Some(text)) => complain(task, loop_, text),
        Err(raised) => call_soon(task, loop_, Some(raised.take())),
    }
}
