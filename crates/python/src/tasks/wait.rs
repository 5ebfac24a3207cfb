//! `asyncio.wait(fs, *, timeout=None, return_when=ALL_COMPLETED)`.

use super::alarm;
use super::task::check_coroutine;
use super::waiting::{self, AWAITING};
use crate::ffi::errors::{assertion_error, finally_raised, type_error, value_error};
use crate::ffi::{Args, Class, Coroutine, Obj, Own, R, Step, running};
use crate::futures::callbacks::{self, Outcome, as_native};
use crate::futures::{Future, Role, foreign, methods};
use crate::graph;
use crate::hook::{Hook, Run};

/// Locals: the argument, then a list of its futures.
const FS: usize = 0;
/// The argument `timeout`, then the alarm.
const TIMEOUT: usize = 1;
/// The argument `return_when`, then the hook on every future.
const HOOK: usize = 2;

const START: u8 = 0;
const WAITING: u8 = 1;

/// `wait(fs, *, timeout=None, return_when=ALL_COMPLETED)`
pub(crate) fn wait(args: &Args) -> R<Obj> {
    let coroutine = Coroutine::stepping("wait", step);
    coroutine.locals[FS].set(args.req(0)?.clone());
    coroutine.locals[TIMEOUT].put(args.opt(1).cloned());
    coroutine.locals[HOOK].put(args.get(2).cloned());
    coroutine.alloc()
}

/// `wait(tasks, timeout=seconds, return_when=when)`, for our own coroutines.
pub(crate) fn on(tasks: &[Obj], seconds: Option<f64>, when: &str) -> R<Obj> {
    let coroutine = Coroutine::stepping("wait", step);
    coroutine.locals[FS].set(Obj::list(tasks)?);
    coroutine.locals[TIMEOUT].put(seconds.map(Obj::float).transpose()?);
    coroutine.locals[HOOK].set(Obj::interned(when)?);
    coroutine.alloc()
}

fn step(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let step = match this.stage.get() {
        START => start(this).unwrap_or_else(Step::Raise),
        _ => waiting::resume(this, input),
    };
    match step {
        Step::Yield(value) => Step::Yield(value),
        Step::Raise(raised) if this.stage.get() == WAITING => {
            Step::Raise(finally_raised(raised, || let_go(this).map(drop)))
        }
        Step::Raise(raised) => Step::Raise(raised),
        Step::Return(_) => Step::from(let_go(this).and_then(|futures| sorted(&futures))),
    }
}

/// Looks at the arguments, listens to every future, waits for the first time.
fn start(this: &Own<Coroutine>) -> R<Step> {
    let fs = this.locals[FS].get_or_none();
    if foreign::is_future(&fs)? || check_coroutine(&fs)? {
        return Err(type_error(&format!(
            "expect a list of futures, not {}",
            fs.class_name()
        )));
    }
    if !fs.truth()? {
        return Err(value_error("Set of Tasks/Futures is empty."));
    }
    let (done, when) = match this.locals[HOOK].take() {
        None => (one_done::<ALL_COMPLETED> as Run, ALL_COMPLETED),
        Some(when) => condition(&when)?,
    };
    this.number.set(when.into());
    let futures = Obj::set(&fs.to_vec()?)?.to_vec()?;
    for future in &futures {
        if as_native(future).is_none() && check_coroutine(future)? {
            return Err(type_error(
                "Passing coroutines is forbidden, use tasks explicitly.",
            ));
        }
    }
    let loop_ = running::require()?;
    if futures.is_empty() {
        return Err(assertion_error("Set of Futures is empty."));
    }
    this.locals[FS].set(Obj::list(&futures)?);
    let waiter = methods::create(&loop_)?;
    if let Some(waiter) = Future::class().exact(&waiter) {
        waiter.role.set(Role::ForTasks);
    }
    if let Some(timeout) = this.locals[TIMEOUT].take() {
        let alarm = alarm::later(&loop_, &timeout, waiting::release_hook(&waiter, None)?)?;
        this.locals[TIMEOUT].set(alarm);
    }
    let hook = Hook::waiting(
        "_wait.<locals>._on_completion",
        done,
        Some(waiter.clone()),
        graph::waiter(&loop_)?,
    )?;
    hook.number.set(futures.len());
    for future in &futures {
        callbacks::listen(future, &hook)?;
    }
    this.locals[HOOK].set(hook.into_obj());
    this.stage.set(WAITING);
    Ok(waiting::begin(this, waiter))
}

const ALL_COMPLETED: u8 = 0;
const FIRST_COMPLETED: u8 = 1;
const FIRST_EXCEPTION: u8 = 2;

/// What a `wait()` that is suspended waits for, and whether one of them is enough.
pub(crate) fn awaited(this: &Own<Coroutine>) -> R<(Vec<Obj>, bool)> {
    let enough = this.number.get() == f64::from(FIRST_COMPLETED);
    Ok((this.locals[FS].get_or_none().to_vec()?, enough))
}

/// The done-callback for a `return_when`, and its number.
fn condition(when: &Obj) -> R<(Run, u8)> {
    let runs: [(&str, Run, u8); 3] = [
        ("ALL_COMPLETED", one_done::<ALL_COMPLETED>, ALL_COMPLETED),
        ("FIRST_COMPLETED", one_done::<FIRST_COMPLETED>, FIRST_COMPLETED),
        ("FIRST_EXCEPTION", one_done::<FIRST_EXCEPTION>, FIRST_EXCEPTION),
    ];
    for (name, run, number) in runs {
        if when.eq(&Obj::interned(name)?)? {
            return Ok((run, number));
        }
    }
    Err(value_error(&format!(
        "Invalid return_when value: {}",
        when.to_str()?.to_string()?
    )))
}

/// `_on_completion(f)`: `a` is the waiter, `b` who waits, `number` how many are not done.
fn one_done<const WHEN: u8>(hook: &Own<Hook>, future: Option<&Obj>) -> R<()> {
    let (Some(waiter), Some(future)) = (hook.a.get(), future) else {
        return Ok(());
    };
    hook.number.set(hook.number.get().saturating_sub(1));
    let enough = hook.number.get() == 0
        || WHEN == FIRST_COMPLETED
        || WHEN == FIRST_EXCEPTION && matches!(callbacks::outcome(future)?, Outcome::Exception(_));
    if enough { waiting::release(&waiter) } else { Ok(()) }
}

/// `finally:` of the wait: no alarm, no listener stays. Gives the futures.
fn let_go(this: &Own<Coroutine>) -> R<Vec<Obj>> {
    drop(this.locals[AWAITING].take());
    if let Some(alarm) = this.locals[TIMEOUT].take() {
        alarm::cancel(&alarm)?;
    }
    let futures = this.locals[FS].get_or_none().to_vec()?;
    let hook = this.locals[HOOK].get_or_none();
    if let Some(hook) = Hook::class().exact(&hook) {
        for future in &futures {
            callbacks::unlisten(future, hook)?;
        }
    }
    Ok(futures)
}

/// `(done, pending)`
fn sorted(futures: &[Obj]) -> R<Obj> {
    let (mut done, mut pending) = (Vec::new(), Vec::new());
    for future in futures {
        if callbacks::is_done(future)? {
            done.push(future.clone())
        } else {
            pending.push(future.clone())
        }
    }
    Obj::tuple(&[&Obj::set(&done)?, &Obj::set(&pending)?])
}
