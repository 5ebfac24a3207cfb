//! `put`, `get` and `join`: waiting, then doing it.

use super::order::Order;
use super::queue::Queue;
use super::{QUEUE_SHUT_DOWN, raise_class};
use crate::ffi::{Args, Co, Coroutine, Obj, Own, R, Step};
use crate::futures::callbacks::{cancel, is_cancelled};
use crate::imports::names;
use crate::locks::event;
use crate::locks::waiters::{self, ARGUMENT, START, Waiters};

/// One side of a queue: those who put, or those who get.
trait Side {
    /// Does one have to wait?
    fn is_blocked(queue: &Own<Queue>) -> R<bool>;
    /// Will waiting never help, the queue being shut down?
    fn is_hopeless(queue: &Own<Queue>) -> R<bool>;
    /// Where one waits.
    fn line(queue: &Queue) -> &Waiters;
    /// What one came for, just after [`is_blocked`](Side::is_blocked) has said that one need not wait.
    fn act(queue: &Own<Queue>, co: &Own<Coroutine>) -> R<Obj>;
}

struct Putting;

impl Side for Putting {
    #[inline(always)]
    fn is_blocked(queue: &Own<Queue>) -> R<bool> {
        queue.is_full()
    }
    fn is_hopeless(queue: &Own<Queue>) -> R<bool> {
        Ok(queue.is_shutdown.get())
    }
    fn line(queue: &Queue) -> &Waiters {
        &queue.putters
    }
    #[inline(always)]
    fn act(queue: &Own<Queue>, co: &Own<Coroutine>) -> R<Obj> {
        let item = co.locals[ARGUMENT].take().unwrap_or_else(Obj::none);
        if queue.order() == Order::Custom {
            return queue.obj().call_method(&names::PUT_NOWAIT, &[&item]);
        }
        if queue.is_shutdown.get() {
            return Err(raise_class(&QUEUE_SHUT_DOWN));
        }
        queue.take_in(item)?;
        Ok(Obj::none())
    }
}

struct Getting;

impl Side for Getting {
    #[inline(always)]
    fn is_blocked(queue: &Own<Queue>) -> R<bool> {
        queue.is_empty()
    }
    fn is_hopeless(queue: &Own<Queue>) -> R<bool> {
        Ok(queue.is_shutdown.get() && queue.is_empty()?)
    }
    fn line(queue: &Queue) -> &Waiters {
        &queue.getters
    }
    #[inline(always)]
    fn act(queue: &Own<Queue>, _: &Own<Coroutine>) -> R<Obj> {
        if queue.order() == Order::Custom {
            return queue.obj().call_method(&names::GET_NOWAIT, &[]);
        }
        queue.give_out()
    }
}

/// The body of `put` and `get`.
fn body<S: Side>(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let queue = match co.this::<Queue>() {
        Ok(queue) => queue,
        Err(raised) => return Step::Raise(raised),
    };
    let mut step = match co.stage.get() {
        START => begin::<S>(queue, co),
        _ => again::<S>(queue, co, waiters::resume(co, input)),
    };
    // a wait can be over at once only on a loop whose futures are made done
    while let Err(waited) = step {
        step = again::<S>(queue, co, waited);
    }
    step.unwrap_or_else(|ended| ended)
}

/// Acts, or begins to wait. `Err`: a step of the wait, still to be looked at.
#[inline(always)]
fn begin<S: Side>(queue: &Own<Queue>, co: &Own<Coroutine>) -> Result<Step, Step> {
    match S::is_blocked(queue) {
        Ok(false) => Ok(Step::from(S::act(queue, co))),
        Ok(true) => match line_up::<S>(queue, co) {
            Ok(Step::Yield(future)) => Ok(Step::Yield(future)),
            Ok(waited) => Err(waited),
            Err(raised) => Ok(Step::Raise(raised)),
        },
        Err(raised) => Ok(Step::Raise(raised)),
    }
}

fn line_up<S: Side>(queue: &Own<Queue>, co: &Own<Coroutine>) -> R<Step> {
    if S::is_hopeless(queue)? {
        return Err(raise_class(&QUEUE_SHUT_DOWN));
    }
    S::line(queue).line_up(&queue.loop_, queue.obj(), co)
}

/// The wait goes on, or is over: rule 1 of `queue.rs`.
#[inline]
fn again<S: Side>(queue: &Own<Queue>, co: &Own<Coroutine>, waited: Step) -> Result<Step, Step> {
    match waited {
        Step::Yield(future) => Ok(Step::Yield(future)),
        Step::Return(_) => {
            drop(waiters::unpark(co));
            begin::<S>(queue, co)
        }
        Step::Raise(raised) => Ok(waiters::cleaning_up(raised, |_| {
            given_up::<S>(queue, &waiters::unpark(co))
        })),
    }
}

/// A wait ended with an exception: if it had been woken, the next in line is woken in its stead.
fn given_up<S: Side>(queue: &Own<Queue>, future: &Obj) -> R<()> {
    cancel(future, None)?;
    S::line(queue).remove(future)?;
    if !S::is_blocked(queue)? && !is_cancelled(future)? {
        S::line(queue).pop_and_wake()?;
    }
    Ok(())
}

/// `put(item)`
pub(super) fn put(args: &Args) -> R<Obj> {
    let this = args.this::<Queue>()?.obj().clone();
    let coroutine = Coroutine::of_method("Queue.put", body::<Putting>, this);
    coroutine.locals[ARGUMENT].set(args.req(1)?.clone());
    coroutine.alloc()
}

/// `get()`
pub(super) fn get(args: &Args) -> R<Obj> {
    Coroutine::of_method("Queue.get", body::<Getting>, args.this::<Queue>()?.obj().clone()).alloc()
}

/// `join()`
pub(super) fn join(args: &Args) -> R<Obj> {
    Coroutine::boxed("Queue.join", &[args.this::<Queue>()?.obj()], |co| async move {
        if let Some(wait) = wait_until_finished(&co)? {
            co.wait(wait).await?;
        }
        Ok(Obj::none())
    })
}

/// `self._finished.wait()`, if there is something to wait for.
fn wait_until_finished(co: &Co) -> R<Option<Obj>> {
    let queue = co.this::<Queue>()?;
    match queue.finished.get() {
        Some(finished) if queue.unfinished.get() > 0 => event::wait(&finished).map(Some),
        _ => Ok(None),
    }
}
