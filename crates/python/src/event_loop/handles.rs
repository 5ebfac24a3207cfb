//! `asyncio.Handle` and `asyncio.TimerHandle`: what `call_soon` and its family give back.
//!
//! Our classes derive from asyncio's and use its own fields, so every inherited method (`__repr__`,
//! comparison) and every library that reads `_callback`, `_args` or `_when` finds what it expects.

use super::core::{Entry, LoopCore, Timer, of};
use super::{errors, run};
use crate::ffi::errors::finally;
use crate::ffi::function::{self, Imp, Kind};
use crate::ffi::pyclass::{Body, Field, Pool, Pooled, PyClass, is_tracked, pooled, track};
use crate::ffi::{Args, Obj, Own, R, Visitor, context, python_function};
use crate::imports::{self, names};
use crate::version;

static HANDLE: PyClass = PyClass::new();
static TIMER_HANDLE: PyClass = PyClass::new();
/// What `call_soon_threadsafe` gives: since 3.14 a class of its own, before a `Handle`.
static THREAD_SAFE_HANDLE: PyClass = PyClass::new();
static CALLBACK: Field = Field::new();
static ARGS: Field = Field::new();
static CANCELLED: Field = Field::new();
static LOOP: Field = Field::new();
static SOURCE_TRACEBACK: Field = Field::new();
static REPR: Field = Field::new();
static CONTEXT: Field = Field::new();
static WHEN: Field = Field::new();
static SCHEDULED: Field = Field::new();
/// An RLock that is held while the callback runs, so that other threads that cancel or ask wait for its end. Made when
/// the handle first runs: before that the GIL is enough.
static LOCK: Field = Field::new();

static HANDLES: Pool = Pool::new();
static TIMER_HANDLES: Pool = Pool::new();
static THREAD_SAFE_HANDLES: Pool = Pool::new();

struct OfHandles;
impl Pooled for OfHandles {
    fn pool() -> &'static Pool {
        &HANDLES
    }
}

struct OfTimerHandles;
impl Pooled for OfTimerHandles {
    fn pool() -> &'static Pool {
        &TIMER_HANDLES
    }
}

struct OfThreadSafeHandles;
impl Pooled for OfThreadSafeHandles {
    fn pool() -> &'static Pool {
        &THREAD_SAFE_HANDLES
    }
}

/// Makes the classes.
pub(super) fn init() -> R<()> {
    let handle: &Obj = &imports::ASYNCIO_HANDLE;
    for (field, name) in [
        (&CALLBACK, "_callback"),
        (&ARGS, "_args"),
        (&CANCELLED, "_cancelled"),
        (&LOOP, "_loop"),
        (&SOURCE_TRACEBACK, "_source_traceback"),
        (&REPR, "_repr"),
        (&CONTEXT, "_context"),
    ] {
        field.find(handle, name)?;
    }
    WHEN.find(&imports::ASYNCIO_TIMER_HANDLE, "_when")?;
    SCHEDULED.find(&imports::ASYNCIO_TIMER_HANDLE, "_scheduled")?;
    let common: [(&str, Imp); 2] = [("cancelled(self)", cancelled), ("get_context(self)", get_context)];
    let run = python_run()?;
    let mut body = Body::new("asyncio.events", "Handle", &[])?;
    for (sig, imp) in common {
        body.method(sig, imp)?;
    }
    body.method("__init__(self, callback, args, loop, context=None)", init_handle)?;
    body.method("cancel(self)", cancel)?;
    body.attribute("_run", &run)?;
    HANDLE.fill(body.build(&[handle])?);
    let mut body = Body::new("asyncio.events", "TimerHandle", &[])?;
    for (sig, imp) in common {
        body.method(sig, imp)?;
    }
    body.method(
        "__init__(self, when, callback, args, loop, context=None)",
        init_timer,
    )?;
    body.method("cancel(self)", cancel_timer)?;
    body.method("when(self)", when)?;
    body.attribute("_run", &run)?;
    // isinstance(timer, aioxide.Handle) holds as isinstance(timer, asyncio.Handle) does
    TIMER_HANDLE.fill(body.build(&[&imports::ASYNCIO_TIMER_HANDLE, HANDLE.get()])?);
    let fields = [
        &CALLBACK,
        &ARGS,
        &CANCELLED,
        &LOOP,
        &SOURCE_TRACEBACK,
        &REPR,
        &CONTEXT,
    ];
    pooled::<OfHandles>(&HANDLE, &fields);
    let timer_fields = [&fields[..], &[&WHEN, &SCHEDULED]].concat();
    pooled::<OfTimerHandles>(&TIMER_HANDLE, &timer_fields);
    if !version::SINCE_314.get() {
        THREAD_SAFE_HANDLE.fill(HANDLE.get().clone());
        return Ok(());
    }
    let base = Obj::import("asyncio.events")?.getattr_str("_ThreadSafeHandle")?;
    LOCK.find(&base, "_lock")?;
    let mut body = Body::new("asyncio.events", "_ThreadSafeHandle", &[])?;
    body.method("__init__(self, callback, args, loop, context=None)", init_handle)?;
    body.method("get_context(self)", get_context)?;
    body.method("cancelled(self)", cancelled_threadsafe)?;
    body.method("cancel(self)", cancel_threadsafe)?;
    body.method("_run(self)", run_threadsafe)?;
    THREAD_SAFE_HANDLE.fill(body.build(&[&base, HANDLE.get()])?);
    pooled::<OfThreadSafeHandles>(&THREAD_SAFE_HANDLE, &[&fields[..], &[&LOCK]].concat());
    Ok(())
}

/// A handle in one of the loop's queues.
///
/// While it is there, the loop shows the garbage collector what the handle refers to, and the handle
/// itself is hidden from it, and so is the copy of a context that was made for it: most handles live and die in
/// the queue, and thousands of them would be traversed for nothing. What the program has kept is shown again
/// when the handle leaves the queue.
pub(crate) struct Queued(Obj);

impl Queued {
    /// A handle that others hold too (a reader's) goes into a queue.
    #[inline(always)]
    pub(crate) fn shared(handle: Obj) -> Queued {
        Queued(handle)
    }

    /// The handle.
    #[inline(always)]
    pub(crate) fn get(&self) -> &Obj {
        &self.0
    }

    /// For the loop's `tp_traverse`: the handle, or in its place what it refers to.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        if self.0.refcount() > 1 || is_tracked(&self.0) {
            return visitor.obj(&self.0);
        }
        for field in [&CALLBACK, &ARGS, &LOOP, &SOURCE_TRACEBACK] {
            field.visit(&self.0, visitor);
        }
        CONTEXT.look(&self.0, |context| {
            if context.refcount() == 1 && context::is_hidden(context) {
                visitor.inside(context);
            } else {
                visitor.obj(context);
            }
        });
    }
}

impl Drop for Queued {
    #[inline(always)]
    fn drop(&mut self) {
        let kept = self.0.refcount() > 1;
        if kept {
            track(&self.0);
        }
        CONTEXT.look(&self.0, |context| {
            if kept || context.refcount() > 1 {
                context::show(context);
            }
        });
    }
}

/// The class `Handle`.
pub(crate) fn class() -> &'static Obj {
    HANDLE.get()
}

/// The class `TimerHandle`.
pub(crate) fn timer_class() -> &'static Obj {
    TIMER_HANDLE.get()
}

fn fill(handle: &Obj, loop_: &Obj, callback: Obj, args: Obj, context: Obj) -> R<()> {
    CALLBACK.set(handle, callback);
    ARGS.set(handle, args);
    CANCELLED.set(handle, Obj::bool(false));
    LOOP.set(handle, loop_.clone());
    REPR.set(handle, Obj::none());
    CONTEXT.set(handle, context);
    let debug = match of(loop_) {
        Some(core) => core.debug.get(),
        None => loop_.call_method(&names::GET_DEBUG, &[])?.truth()?,
    };
    let traceback = if debug {
        crate::debug::extract_stack()?
    } else {
        Obj::none()
    };
    SOURCE_TRACEBACK.set(handle, traceback);
    Ok(())
}

/// Makes a handle that any thread may cancel, and puts it into the ready queue.
pub(super) fn soon_threadsafe(
    loop_: &Obj,
    core: &LoopCore,
    callback: Obj,
    args: &[Obj],
    context: Option<Obj>,
) -> R<Obj> {
    if !version::SINCE_314.get() {
        return soon(loop_, core, callback, args, context);
    }
    let handle = THREAD_SAFE_HANDLE.alloc_pooled(&THREAD_SAFE_HANDLES)?;
    fill(&handle, loop_, callback, tuple(args)?, copied(context)?)?;
    core.push(Entry::Handle(Queued(handle.clone())));
    Ok(handle)
}

/// A handle. `context`: `None` copies the current one.
pub(crate) fn make(loop_: &Obj, callback: Obj, args: &[Obj], context: Option<Obj>) -> R<Obj> {
    let handle = HANDLE.alloc_pooled(&HANDLES)?;
    fill(&handle, loop_, callback, tuple(args)?, copied(context)?)?;
    track(&handle);
    Ok(handle)
}

/// The given context, or a copy of the current one.
#[inline]
fn copied(context: Option<Obj>) -> R<Obj> {
    context.map_or_else(context::copy, Ok)
}

/// The context of a handle that will be in a queue for long.
#[inline]
fn hidden(context: Option<Obj>) -> R<Obj> {
    context.map_or_else(context::hidden_copy, Ok)
}

/// In a ready queue of this length a context is likely to see a collection. To hide it takes a few instructions,
/// so before that it does not pay.
const LONG: usize = 64;

/// Makes a handle and puts it into the ready queue.
#[inline]
pub(crate) fn soon(
    loop_: &Obj,
    core: &LoopCore,
    callback: Obj,
    args: &[Obj],
    context: Option<Obj>,
) -> R<Obj> {
    let handle = HANDLE.alloc_pooled(&HANDLES)?;
    let context = if core.ready.len() < LONG {
        copied(context)?
    } else {
        hidden(context)?
    };
    fill(&handle, loop_, callback, tuple(args)?, context)?;
    core.push(Entry::Handle(Queued(handle.clone())));
    Ok(handle)
}

/// Makes a timer handle and puts it among the timers. `seconds` is the number that `when` is.
#[inline]
pub(super) fn at(
    (loop_, core): (&Obj, &LoopCore),
    (when, seconds): (Obj, f64),
    callback: Obj,
    args: &[Obj],
    context: Option<Obj>,
) -> R<Obj> {
    let handle = TIMER_HANDLE.alloc_pooled(&TIMER_HANDLES)?;
    fill(&handle, loop_, callback, tuple(args)?, hidden(context)?)?;
    WHEN.set(&handle, when);
    SCHEDULED.set(&handle, Obj::bool(true));
    core.push_timer(seconds, Timer::Handle(Queued(handle.clone())));
    Ok(handle)
}

#[inline]
fn tuple(args: &[Obj]) -> R<Obj> {
    if args.is_empty() {
        Ok(Obj::empty_tuple())
    } else {
        Obj::tuple_of(args)
    }
}

/// The arguments that a program gives to a class: its own tuple, or what it has instead, as a tuple.
fn arguments(given: &Obj) -> R<Obj> {
    if given.is_tuple() {
        Ok(given.clone())
    } else {
        tuple(&given.to_vec()?)
    }
}

fn init_handle(args: &Args) -> R<Obj> {
    fill(
        args.req(0)?,
        args.req(3)?,
        args.req(1)?.clone(),
        arguments(args.req(2)?)?,
        copied(args.opt(4).cloned())?,
    )?;
    Ok(Obj::none())
}

fn init_timer(args: &Args) -> R<Obj> {
    let this = args.req(0)?;
    fill(
        this,
        args.req(4)?,
        args.req(2)?.clone(),
        arguments(args.req(3)?)?,
        copied(args.opt(5).cloned())?,
    )?;
    WHEN.set(this, args.req(1)?.clone());
    SCHEDULED.set(this, Obj::bool(false));
    Ok(Obj::none())
}

/// `handle.cancelled()`
#[inline]
pub(crate) fn is_cancelled(handle: &Obj) -> bool {
    CANCELLED.holds(handle, &crate::ffi::object::TRUE)
}

/// A timer handle is no longer in the heap.
pub(crate) fn unschedule(handle: &Obj) {
    SCHEDULED.set(handle, Obj::bool(false));
}

/// Is it exactly of a class of ours?
#[inline(always)]
fn is_ours(handle: &Obj) -> bool {
    HANDLE.is_exact(handle) || TIMER_HANDLE.is_exact(handle) || THREAD_SAFE_HANDLE.is_exact(handle)
}

/// Is it one of asyncio's handles (or derived from them)? Every field access below rests on it.
#[inline]
fn this<'a>(args: &'a Args) -> R<&'a Obj> {
    let this = args.req(0)?;
    if is_ours(this) || this.isinstance(&imports::ASYNCIO_HANDLE)? {
        Ok(this)
    } else {
        Err(crate::ffi::errors::type_error("a Handle is required"))
    }
}

fn cancelled(args: &Args) -> R<Obj> {
    Ok(Obj::bool(is_cancelled(this(args)?)))
}

fn get_context(args: &Args) -> R<Obj> {
    Ok(CONTEXT.get(this(args)?).unwrap_or_else(Obj::none))
}

/// `handle.cancel()`: forgets callback and arguments, so that nothing is kept alive.
pub(crate) fn cancel_handle(handle: &Obj) -> R<()> {
    if is_cancelled(handle) {
        return Ok(());
    }
    CANCELLED.set(handle, Obj::bool(true));
    let debug = LOOP.look(handle, |loop_| of(loop_).map(|core| core.debug.get()));
    if let Some(debug) = debug
        && debug != Some(false)
    {
        keep_repr(handle, debug)?;
    }
    CALLBACK.set(handle, Obj::none());
    ARGS.set(handle, Obj::none());
    Ok(())
}

/// In debug mode the repr of a cancelled handle shows what it would have called. `debug`: of our own loop.
#[cold]
fn keep_repr(handle: &Obj, debug: Option<bool>) -> R<()> {
    let debug = match debug {
        Some(debug) => debug,
        None => LOOP
            .get(handle)
            .unwrap_or_else(Obj::none)
            .call_method(&names::GET_DEBUG, &[])?
            .truth()?,
    };
    if debug {
        REPR.set(handle, Obj::str(&handle.repr()?)?);
    }
    Ok(())
}

fn cancel(args: &Args) -> R<Obj> {
    cancel_handle(this(args)?)?;
    Ok(Obj::none())
}

fn cancel_timer(args: &Args) -> R<Obj> {
    cancel_timer_handle(this(args)?)?;
    Ok(Obj::none())
}

/// `timer_handle.cancel()`, telling the loop that one of its timers is dead.
pub(crate) fn cancel_timer_handle(this: &Obj) -> R<()> {
    if is_cancelled(this) {
        return Ok(());
    }
    let ours = LOOP.look(this, |loop_| match of(loop_) {
        Some(core) => {
            if SCHEDULED.holds(this, &crate::ffi::object::TRUE) {
                core.timer_cancelled();
            }
            true
        }
        None => false,
    });
    if ours == Some(false) {
        let loop_ = LOOP.get(this).unwrap_or_else(Obj::none);
        loop_.call_method_str("_timer_handle_cancelled", &[this])?;
    }
    cancel_handle(this)
}

fn when(args: &Args) -> R<Obj> {
    Ok(WHEN.get(this(args)?).unwrap_or_else(Obj::none))
}

fn run_method(args: &Args) -> R<Obj> {
    let handle = this(args)?;
    let loop_ = LOOP.get(handle).unwrap_or_else(Obj::none);
    call(&loop_, handle)?;
    Ok(Obj::none())
}

/// `Handle._run` as a Python function: its code stands for "the event loop" in the eyes of playwright, which cuts
/// stacks there, and ddtrace.
fn python_run() -> R<Obj> {
    let native = function::make(
        "_run(self)",
        "asyncio.events",
        Some("Handle"),
        run_method,
        Kind::Plain,
    )?;
    // (an exception's traceback may lead to this frame, and the frame to the task that holds the exception)
    let source = "class Handle:\n    def _run(self):\n        run(self)\n        self = None\n";
    let defined = python_function::define(source, "asyncio.events", &[("run", &native)])?;
    defined
        .call_method_str("get", &[&Obj::interned("Handle")?])?
        .getattr(&names::RUN_)
}

/// Is it a thread-safe handle (or derived from one)? The field `LOCK` rests on it.
#[inline]
fn this_threadsafe<'a>(args: &'a Args) -> R<&'a Obj> {
    let this = args.req(0)?;
    if THREAD_SAFE_HANDLE.is_exact(this) || this.isinstance(THREAD_SAFE_HANDLE.get())? {
        Ok(this)
    } else {
        Err(crate::ffi::errors::type_error("a _ThreadSafeHandle is required"))
    }
}

fn cancelled_threadsafe(args: &Args) -> R<Obj> {
    let handle = this_threadsafe(args)?;
    locked(LOCK.get(handle), || Ok(Obj::bool(is_cancelled(handle))))
}

fn cancel_threadsafe(args: &Args) -> R<Obj> {
    let handle = this_threadsafe(args)?;
    locked(LOCK.get(handle), || cancel_handle(handle))?;
    Ok(Obj::none())
}

fn run_threadsafe(args: &Args) -> R<Obj> {
    let handle = this_threadsafe(args)?;
    let loop_ = LOOP.get(handle).unwrap_or_else(Obj::none);
    call_threadsafe(&loop_, handle)?;
    Ok(Obj::none())
}

/// `_ThreadSafeHandle._run()`: other threads wait for its end.
fn call_threadsafe(loop_: &Obj, handle: &Obj) -> R<()> {
    let lock = match LOCK.get(handle) {
        Some(lock) => lock,
        None => {
            let lock = imports::RLOCK.call(&[])?;
            LOCK.set(handle, lock.clone());
            lock
        }
    };
    locked(Some(lock), || {
        // (cancelled while we waited for the lock)
        if is_cancelled(handle) {
            return Ok(());
        }
        call(loop_, handle)
    })
}

/// `with lock: f()`, if there is a lock.
fn locked<T>(lock: Option<Obj>, f: impl FnOnce() -> R<T>) -> R<T> {
    let Some(lock) = lock else { return f() };
    lock.call_method(&names::ACQUIRE, &[])?;
    let release = || lock.call_method(&names::RELEASE, &[]).map(drop);
    finally(f(), release)
}

/// Runs a handle that has become ready.
#[inline]
pub(super) fn run(loop_: &Obj, core: &Own<LoopCore>, handle: &Obj) -> R<()> {
    if is_cancelled(handle) {
        return Ok(());
    }
    if core.debug.get() || !is_ours(handle) {
        return crate::debug::run_timed(core, handle);
    }
    if version::SINCE_314.get() && THREAD_SAFE_HANDLE.is_exact(handle) {
        return call_threadsafe(loop_, handle);
    }
    call(loop_, handle)
}

/// `Handle._run()`: in its context; an exception goes to the exception handler.
#[inline]
fn call(loop_: &Obj, handle: &Obj) -> R<()> {
    // (kept: it may cancel its own handle)
    let (Some(callback), Some(args), Some(entered)) = (
        CALLBACK.get(handle),
        ARGS.get(handle),
        CONTEXT.look(handle, context::enter),
    ) else {
        return Ok(());
    };
    let result = entered.and_then(|entered| {
        let result = callback.call_tuple(&args);
        entered.exit_with(result)
    });
    match result {
        Ok(_) => Ok(()),
        Err(raised) if run::is_fatal(&raised) => Err(raised),
        Err(raised) => {
            let exception = raised.take();
            errors::report_callback(loop_, handle, &exception)
        }
    }
}

/// The callback.
pub(crate) fn callback(handle: &Obj) -> Obj {
    CALLBACK.get(handle).unwrap_or_else(Obj::none)
}

/// Callback and arguments, for messages.
pub(crate) fn parts(handle: &Obj) -> (Obj, Obj, Option<Obj>) {
    (
        CALLBACK.get(handle).unwrap_or_else(Obj::none),
        ARGS.get(handle).unwrap_or_else(Obj::none),
        SOURCE_TRACEBACK
            .get(handle)
            .filter(|traceback| !traceback.is_none()),
    )
}
