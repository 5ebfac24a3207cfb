//! "Scheduling callbacks" and "Scheduling delayed callbacks": call_soon, call_later, call_at,
//! call_soon_threadsafe, time.

use super::class::{self, this};
use super::core::{Entry, LoopCore, Timer};
use super::handles;
use crate::ffi::errors::{R, type_error};
use crate::ffi::function::Imp;
use crate::ffi::object::after;
use crate::ffi::{Args, Obj, Own, threads};
use crate::imports::names;

/// What this file adds to the class.
pub(super) const METHODS: &[(&str, Imp)] = &[
    ("call_soon(self, callback, *args, context=None)", call_soon),
    (
        "call_soon_threadsafe(self, callback, *args, context=None)",
        call_soon_threadsafe,
    ),
    (
        "call_later(self, delay, callback, *args, context=None)",
        call_later,
    ),
    ("call_at(self, when, callback, *args, context=None)", call_at),
    ("time(self)", time),
    ("_call_soon(self, callback, args, context)", call_soon_unchecked),
    ("_add_callback(self, handle)", add_callback),
    ("_add_callback_signalsafe(self, handle)", add_callback_signalsafe),
    ("_timer_handle_cancelled(self, handle)", timer_handle_cancelled),
    ("_check_closed(self)", |args| {
        this(args)?.1.check_closed().map(|()| Obj::none())
    }),
    ("_write_to_self(self)", |args| {
        this(args)?.1.wake_up();
        Ok(Obj::none())
    }),
    ("_run_once(self)", |args| {
        let (loop_, core) = this(args)?;
        super::run::turn_of_guest(loop_, core).map(|()| Obj::none())
    }),
];

/// What debug mode looks at before anything is scheduled.
#[cold]
fn debug_checks(core: &LoopCore, callback: &Obj, method: &str, thread: bool) -> R<()> {
    if thread {
        core.check_thread()?;
    }
    crate::debug::check_callback(callback, method)
}

/// `loop.call_soon(callback, *args, context=None)`
fn call_soon(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let callback = args.req(1)?;
    core.check_closed()?;
    if core.debug.get() {
        debug_checks(core, callback, "call_soon", true)?;
    }
    handles::soon(loop_, core, callback.clone(), args.rest(), args.opt(2).cloned())
}

/// `loop.call_soon_threadsafe(callback, *args, context=None)`: any thread, or a signal handler.
/// The GIL makes the queue safe; the loop is woken only if it sleeps.
fn call_soon_threadsafe(args: &Args) -> R<Obj> {
    threads::stand_still_at_exit();
    let (loop_, core) = this(args)?;
    let callback = args.req(1)?;
    core.check_closed()?;
    if core.debug.get() {
        debug_checks(core, callback, "call_soon_threadsafe", false)?;
    }
    let context = args.opt(2).cloned();
    let handle = handles::soon_threadsafe(loop_, core, callback.clone(), args.rest(), context)?;
    core.wake_up();
    Ok(handle)
}

/// `loop.call_later(delay, callback, *args, context=None)`, in seconds.
fn call_later(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let delay = args.req(1)?;
    if delay.is_none() {
        return Err(type_error("delay must not be None"));
    }
    let when = after(core.time(loop_)?, delay)?;
    if core.patched.get() || !class::EVENT_LOOP.is_exact(loop_) {
        return overridden_call_at(loop_, when, args);
    }
    at(loop_, core, Obj::float(when)?, when, args, "call_later")
}

/// `self.call_at(when, callback, *args, context=context)`: a derived class may have one of its own.
#[cold]
fn overridden_call_at(loop_: &Obj, when: f64, args: &Args) -> R<Obj> {
    let (when, context) = (Obj::float(when)?, args.get(3).cloned().unwrap_or_else(Obj::none));
    let mut all = vec![&when, args.req(2)?];
    all.extend(args.rest());
    all.push(&context);
    loop_.call_method_kw(&names::CALL_AT, &all, Some(&crate::kwnames::CONTEXT))
}

/// `loop.call_at(when, callback, *args, context=None)`: `when` in seconds of `loop.time()`.
fn call_at(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let when = args.req(1)?;
    if when.is_none() {
        return Err(type_error("when cannot be None"));
    }
    at(loop_, core, when.clone(), when.to_f64()?, args, "call_at")
}

fn at(loop_: &Obj, core: &Own<LoopCore>, when: Obj, seconds: f64, args: &Args, method: &str) -> R<Obj> {
    let callback = args.req(2)?;
    core.check_closed()?;
    if core.debug.get() {
        debug_checks(core, callback, method, true)?;
    }
    let context = args.opt(3).cloned();
    handles::at(
        (loop_, core),
        (when, seconds),
        callback.clone(),
        args.rest(),
        context,
    )
}

/// `loop.time()`: seconds of the monotonic clock.
fn time(args: &Args) -> R<Obj> {
    Obj::float(this(args)?.1.now())
}

/// For `asyncio.TimerHandle`s that are not ours.
fn timer_handle_cancelled(args: &Args) -> R<Obj> {
    this(args)?.1.timer_cancelled();
    Ok(Obj::none())
}

/// `_ready`: what is queued, as a list made for the occasion. Programs look whether there is anything (playwright,
/// prompt_toolkit). Only what the program has scheduled itself has a handle; for the rest stands what will run.
pub(super) fn ready_snapshot(args: &Args) -> R<Obj> {
    let mut entries = Vec::new();
    this(args)?.1.ready.for_each(|entry| {
        entries.push(match entry {
            Entry::Handle(handle) => handle.get().clone(),
            Entry::Step(task) | Entry::Wake(task) => task.obj().clone(),
            Entry::Callback { callback, .. } => callback.clone(),
            Entry::Slept(future) => future.obj().clone(),
            Entry::Source(..) => Obj::none(),
        });
    });
    Obj::list(&entries)
}

/// `_call_soon(callback, args, context)`: `call_soon` without its checks.
fn call_soon_unchecked(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let (callback, arguments, context) = (args.req(1)?, args.req(2)?, args.opt(3));
    handles::soon(
        loop_,
        core,
        callback.clone(),
        arguments.tuple_items(),
        context.cloned(),
    )
}

/// `_add_callback(handle)`: a handle that the program has made.
fn add_callback(args: &Args) -> R<Obj> {
    let (_, core) = this(args)?;
    let handle = args.req(1)?;
    if !handle.call_method(&names::CANCELLED, &[])?.truth()? {
        core.push(Entry::Handle(handles::Queued::shared(handle.clone())));
    }
    Ok(Obj::none())
}

/// `_add_callback_signalsafe(handle)`: the same from a signal handler.
fn add_callback_signalsafe(args: &Args) -> R<Obj> {
    add_callback(args)?;
    this(args)?.1.wake_up();
    Ok(Obj::none())
}

/// `_scheduled`: the timer handles, in no order.
pub(super) fn scheduled_snapshot(args: &Args) -> R<Obj> {
    let handles: Vec<Obj> = this(args)?.1.timers.with(|timers| {
        let handle = |timer: &Timer| {
            if let Timer::Handle(handle) = timer {
                Some(handle.get().clone())
            } else {
                None
            }
        };
        timers.iter().filter_map(handle).collect()
    });
    Obj::list(&handles)
}
