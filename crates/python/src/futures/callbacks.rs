//! Who is told when a future is done.
//!
//! A callback is any callable with a context; a listener of ours (a waiting [`Task`], a [`Hook`])
//! lies in the same list without one. On our own loop a listener becomes an entry of the ready queue
//! with no Handle and no call; on any other loop everything goes through `loop.call_soon`.

use super::future::{Callback, Future, State};
use crate::event_loop::core::{self, Entry};
use crate::ffi::{Class, Obj, Own, R, outside};
use crate::graph;
use crate::hook::Hook;
use crate::imports::{self, names};
use crate::tasks::Task;
use crate::tasks::gather::Gathering;

impl Own<Future> {
    /// Adds a listener: a task of ours or a hook. On a future that is done it is scheduled at once.
    #[inline]
    pub(crate) fn add_listener(&self, listener: Obj) -> R<()> {
        if self.is_done() {
            let loop_ = self.require_loop()?;
            return schedule(&loop_, self.obj(), listener, None);
        }
        if outside::linked() && !Future::class().is_exact(self.obj()) {
            self.push_shown(listener);
        } else {
            self.push_callback(listener, None);
        }
        Ok(())
    }

    /// Adds a listener to what may be a task: other processes see who waits for it.
    fn push_shown(&self, listener: Obj) {
        let alone = match graph::waiter_behind(&listener) {
            Some(waiter) => graph::show_first(self, &waiter),
            None => graph::show_first(self, &listener),
        };
        self.push_callback(listener, None);
        if !alone {
            graph::show_all(self);
        }
    }

    /// `add_done_callback(callback, context=context)`
    pub(crate) fn add_callback(&self, callback: Obj, context: Obj) -> R<()> {
        self.alive()?;
        if self.is_done() {
            let loop_ = self.require_loop()?;
            return schedule(&loop_, self.obj(), callback, Some(context));
        }
        self.push_callback(callback, Some(context));
        Ok(())
    }

    #[inline(always)]
    fn push_callback(&self, callback: Obj, context: Option<Obj>) {
        let more_is_empty = self.more.get().is_none_or(|more| more.is_empty());
        if self.callback.is_empty() && more_is_empty {
            self.callback.set(callback);
            self.context.put(context);
        } else {
            self.more.get_or_init(Box::default).push_back((callback, context));
        }
    }

    /// Removes a listener that was added. `false`: it was not there.
    pub(crate) fn remove_listener(&self, listener: &Obj) -> bool {
        let first = if self.callback.holds(listener) && self.context.is_empty() {
            self.callback.take()
        } else {
            None
        };
        let removed = match first {
            Some(_) => None,
            None => self.more.get().and_then(|more| {
                more.remove_first(|(callback, context)| context.is_none() && callback.is(listener))
            }),
        };
        if outside::linked() {
            graph::show_all(self);
        }
        first.is_some() || removed.is_some()
    }

    /// Everybody who is to be told, in order.
    pub(crate) fn callbacks(&self) -> Vec<Callback> {
        let mut all = Vec::new();
        if let Some(first) = self.callback.get() {
            all.push((first, self.context.get()));
        }
        if let Some(more) = self.more.get() {
            all.extend(more.snapshot());
        }
        all
    }

    /// `remove_done_callback(fn)`: how many were removed. `==` runs user code, which may do anything.
    pub(crate) fn remove_callbacks(&self, callback: &Obj) -> R<usize> {
        let mut removed = 0;
        // The first one
        if let Some(first) = self.callback.get()
            && !self.context.is_empty()
            && first.eq(callback)?
            && self.callback.holds(&first)
        {
            drop((self.callback.take(), self.context.take()));
            removed += 1;
        }
        // The others: decide on a copy, then take out those that are still there.
        let Some(more) = self.more.get() else {
            return Ok(removed);
        };
        let mut doomed = Vec::new();
        for (candidate, context) in more.snapshot() {
            if context.is_some() && candidate.eq(callback)? {
                doomed.push(candidate);
            }
        }
        let mut dropped = Vec::new();
        for candidate in &doomed {
            if let Some(item) = more.remove_first(|(here, context)| context.is_some() && here.is(candidate)) {
                dropped.push(item);
                removed += 1;
            }
        }
        drop(dropped);
        Ok(removed)
    }

    /// Rule 2 of `future.rs`: empties the list and schedules everybody.
    #[inline]
    pub(crate) fn schedule_callbacks(&self) -> R<()> {
        let first = self.callback.take();
        let context = self.context.take();
        if let Some(callback) = first {
            let loop_ = self.require_loop()?;
            schedule(&loop_, self.obj(), callback, context)?;
        }
        if self.more.get().is_some_and(|more| !more.is_empty()) {
            self.schedule_more()?;
        }
        Ok(())
    }

    #[cold]
    fn schedule_more(&self) -> R<()> {
        let Some(more) = self.more.get() else {
            return Ok(());
        };
        let mut all = more.take();
        let loop_ = self.require_loop()?;
        while let Some((callback, context)) = all.pop_front() {
            schedule(&loop_, self.obj(), callback, context)?;
        }
        Ok(())
    }
}

/// `loop.call_soon(callback, future, context=context)`
#[inline]
fn schedule(loop_: &Obj, future: &Obj, callback: Obj, context: Option<Obj>) -> R<()> {
    if let Some(core) = core::fast(loop_) {
        if context.is_some() {
            core.push(Entry::Callback {
                callback,
                argument: Some(future.clone()),
                context,
            });
            return Ok(());
        }
        match Task::class().take_instance(callback) {
            Ok(task) => core.push(Entry::Wake(task)),
            Err(callback) => core.push(Entry::Callback {
                callback,
                argument: Some(future.clone()),
                context: None,
            }),
        }
        return Ok(());
    }
    schedule_slow(loop_, future, callback, context)
}

#[cold]
fn schedule_slow(loop_: &Obj, future: &Obj, callback: Obj, context: Option<Obj>) -> R<()> {
    // A listener becomes something that any loop can call.
    let (callback, context) = match (context, Task::class().instance(&callback)) {
        (Some(context), _) => (callback, Some(context)),
        (None, Some(task)) => (Hook::wakeup(task)?.into_obj(), task.context.get()),
        (None, None) => (callback, None),
    };
    match context {
        Some(context) => loop_.call_method_kw(
            &names::CALL_SOON,
            &[&callback, future, &context],
            Some(&crate::kwnames::CONTEXT),
        ),
        None => loop_.call_method(&names::CALL_SOON, &[&callback, future]),
    }?;
    Ok(())
}

/// `_callbacks`: what repr and introspection see; None if there are none.
pub(crate) fn as_list(future: &Own<Future>) -> R<Obj> {
    let all = future.callbacks();
    if all.is_empty() {
        return Ok(Obj::none());
    }
    let mut pairs = Vec::new();
    for (callback, context) in all {
        let (callback, context) = match (context, Task::class().instance(&callback)) {
            (Some(context), _) => (callback, context),
            (None, Some(task)) => (Hook::wakeup(task)?.into_obj(), task.context.get_or_none()),
            (None, None) => (callback, Obj::none()),
        };
        pairs.push(Obj::tuple(&[&callback, &context])?);
    }
    Obj::list(&pairs)
}

/// Adds a hook to any future: ours directly, another by its `add_done_callback`.
pub(crate) fn listen(future: &Obj, hook: &Own<Hook>) -> R<()> {
    if let Some(future) = as_native(future) {
        return future.add_listener(hook.obj().clone());
    }
    future.call_method(&names::ADD_DONE_CALLBACK, &[hook.obj()])?;
    Ok(())
}

/// Removes a hook from any future.
pub(crate) fn unlisten(future: &Obj, hook: &Own<Hook>) -> R<()> {
    if let Some(future) = as_native(future) {
        future.remove_listener(hook.obj());
        return Ok(());
    }
    future.call_method(&names::REMOVE_DONE_CALLBACK, &[hook.obj()])?;
    Ok(())
}

/// `future` as ours, if its class is exactly `Future`, `Task` or gather's (a derived class may override anything).
#[inline(always)]
pub(crate) fn as_native(future: &Obj) -> Option<&Own<Future>> {
    if let Some(future) = Future::class().exact(future) {
        return Some(future);
    }
    if let Some(task) = Task::class().exact(future) {
        return Some(task.upcast());
    }
    Gathering::class()
        .exact(future)
        .map(|gathering| gathering.upcast())
}

/// How a future ended, whatever its class.
pub(crate) enum Outcome {
    /// With this result.
    Result(Obj),
    /// With this exception; it counts as retrieved.
    Exception(Obj),
    /// Cancelled.
    Cancelled,
}

/// How a future that is done ended.
pub(crate) fn outcome(future: &Obj) -> R<Outcome> {
    if let Some(future) = as_native(future) {
        return Ok(match future.state.get() {
            State::Result => Outcome::Result(future.value.get_or_none()),
            State::Cancelled => Outcome::Cancelled,
            State::Exception => {
                future.log_traceback.set(false);
                Outcome::Exception(future.value.get_or_none())
            }
            State::Pending => return Err(super::future::invalid_state("Result is not set.")),
        });
    }
    if future.call_method(&names::CANCELLED, &[])?.truth()? {
        return Ok(Outcome::Cancelled);
    }
    let exception = future.call_method(&names::EXCEPTION, &[])?;
    if !exception.is_none() {
        return Ok(Outcome::Exception(exception));
    }
    Ok(Outcome::Result(future.call_method(&names::RESULT, &[])?))
}

/// `future.done()`, whatever its class.
pub(crate) fn is_done(future: &Obj) -> R<bool> {
    match as_native(future) {
        Some(future) => Ok(future.is_done()),
        None => future.call_method(&names::DONE, &[])?.truth(),
    }
}

/// `future.cancelled()`, whatever its class.
pub(crate) fn is_cancelled(future: &Obj) -> R<bool> {
    match as_native(future) {
        Some(future) => Ok(future.state.get() == State::Cancelled),
        None => future.call_method(&names::CANCELLED, &[])?.truth(),
    }
}

/// `future.cancel()` or `future.cancel(msg=message)`, whatever its class.
pub(crate) fn cancel(future: &Obj, message: Option<&Obj>) -> R<bool> {
    if let Some(task) = Task::class().exact(future) {
        return task.cancel(message);
    }
    if let Some(gathering) = Gathering::class().exact(future) {
        return gathering.cancel(message);
    }
    if let Some(future) = Future::class().exact(future) {
        return future.cancel_base(message);
    }
    match message {
        Some(message) => future
            .call_method_kw(&names::CANCEL, &[message], Some(&crate::kwnames::MSG))?
            .truth(),
        None => future.call_method(&names::CANCEL, &[])?.truth(),
    }
}

/// The error that a cancelled future raises: `future._make_cancelled_error()`.
pub(crate) fn cancelled_error(future: &Obj) -> R<Obj> {
    match as_native(future) {
        Some(future) => future.make_cancelled_error(),
        None => match future.getattr_opt(&names::MAKE_CANCELLED_ERROR)? {
            Some(make) => make.call0(),
            None => imports::CANCELLED_ERROR.call0(),
        },
    }
}
