//! The class `EventLoop`: an `asyncio.BaseEventLoop` (aiohttp asks for that) whose one field is our [`LoopCore`].

use super::core::LoopCore;
use super::{creation, errors, handles, lifecycle, readers, scheduling};
use crate::ffi::function::Imp;
use crate::ffi::pyclass::{self, Body, Field, PyClass};
use crate::ffi::{Args, Class, Obj, Own, R, threads};
use crate::imports;
use aioxide_core::Reactor;

/// The class.
pub(crate) static EVENT_LOOP: PyClass = PyClass::new();
/// Its field.
pub(crate) static CORE: Field = Field::new();

/// Makes the class.
pub(crate) fn init() -> R<()> {
    let mut body = Body::new("aioxide", "EventLoop", &["_core"])?;
    body.new_method("__new__(cls, *args, **kwargs)", new)?;
    // asyncio's takes a selector; ours waits in its own way
    body.method("__init__(self, selector=None)", |_| Ok(Obj::none()))?;
    body.method("__repr__(self)", repr)?;
    body.method("__del__(self)", lifecycle::del)?;
    body.method("__hash__(self)", hash)?;
    body.method("__setattr__(self, name, value)", set_attribute)?;
    for group in [
        scheduling::METHODS,
        lifecycle::METHODS,
        creation::METHODS,
        errors::METHODS,
        readers::METHODS,
    ] {
        for (sig, imp) in group {
            body.method(sig, *imp)?;
        }
    }
    creation::add_create_task(&mut body)?;
    lifecycle::add_more_methods(&mut body)?;
    crate::event_loop::add_later_groups(&mut body)?;
    attributes(&mut body)?;
    let class = body.build(&[&imports::BASE_EVENT_LOOP])?;
    CORE.find(&class, "_core")?;
    EVENT_LOOP.fill(class);
    pyclass::hashed(&EVENT_LOOP, hash_of);
    crate::event_loop::init_later_groups()?;
    handles::init()
}

/// `EventLoop.__new__`: the object with its state, whatever a derived class does in `__init__`.
fn new(args: &Args) -> R<Obj> {
    let class = args.req(0)?;
    let builtin_object = Obj::import("builtins")?.getattr_str("object")?;
    let this = builtin_object.call_method_str("__new__", &[class])?;
    let core = LoopCore::default();
    let reactor: Reactor = Reactor::new().map_err(|error| crate::ffi::errors::os_error(&error))?;
    core.reactor.with(|place| *place = Some(reactor));
    core.forks.set(threads::fork_epoch());
    core.debug.set(crate::debug::enabled_by_default()?);
    core.slow_callback_duration.set(Obj::float(0.1)?);
    core.asyncgens
        .set(Obj::import("weakref")?.getattr_str("WeakSet")?.call0()?);
    core.signal_handlers.set(Obj::dict()?);
    core.own_time.set(has_own_time(class)?);
    core.refresh_fast();
    let core = LoopCore::class().alloc(core)?;
    CORE.set(&this, core.into_obj());
    Ok(this)
}

/// Does a derived class override `time`?
fn has_own_time(class: &Obj) -> R<bool> {
    let name = &imports::names::TIME;
    Ok(!class.getattr(name)?.is(&EVENT_LOOP.get().getattr(name)?))
}

/// `self` of a loop method: the loop and its state.
#[inline(always)]
pub(crate) fn this<'a>(args: &'a Args) -> R<(&'a Obj, &'a Own<LoopCore>)> {
    let loop_ = args.req(0)?;
    match super::core::of(loop_) {
        Some(core) => Ok((loop_, core)),
        None => Err(crate::ffi::errors::type_error("an EventLoop is required")),
    }
}

fn repr(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let yes_no = |value: bool| if value { "True" } else { "False" };
    Obj::str(&format!(
        "<{} running={} closed={} debug={}>",
        loop_.class_name(),
        yes_no(core.thread.get() != 0),
        yes_no(core.closed.get()),
        yes_no(core.debug.get())
    ))
}

/// `__hash__`, for who calls it by this name, and for derived classes.
fn hash(args: &Args) -> R<Obj> {
    Obj::int(hash_of(this(args)?.0)? as i64)
}

/// A dict that is keyed by loops is about to look: see `tasks/registry.rs`. asyncio's own tasks do so four times a step.
fn hash_of(loop_: &Obj) -> R<isize> {
    if let Some(core) = super::core::of(loop_) {
        crate::tasks::registry::publish(loop_, core)?;
    }
    Ok((loop_.as_ptr().addr() >> 4) as isize)
}

/// Somebody replaces a method on the instance (`loop.call_soon = …`): from now on we call it.
fn set_attribute(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let (name, value) = (args.req(1)?, args.req(2)?);
    crate::ffi::object::generic_setattr(loop_, name, value)?;
    if value.callable() && loop_.class().getattr_opt(name)?.is_some() {
        core.patched.set(true);
        if name.eq(&imports::names::TIME)? {
            core.own_time.set(true);
        }
        core.refresh_fast();
    }
    Ok(Obj::none())
}

/// What libraries read of a loop's private state.
fn attributes(body: &mut Body) -> R<()> {
    let read: [(&'static str, Imp); 13] = [
        ("_thread_id", |args| {
            let thread = this(args)?.1.thread.get();
            if thread == 0 {
                Ok(Obj::none())
            } else {
                Obj::int(thread as i64)
            }
        }),
        ("_closed", |args| Ok(Obj::bool(this(args)?.1.closed.get()))),
        ("_debug", |args| Ok(Obj::bool(this(args)?.1.debug.get()))),
        ("_asyncgens", |args| Ok(this(args)?.1.asyncgens.get_or_none())),
        ("_exception_handler", |args| {
            Ok(this(args)?.1.exception_handler.get_or_none())
        }),
        ("_task_factory", |args| {
            Ok(this(args)?.1.task_factory.get_or_none())
        }),
        ("_signal_handlers", |args| {
            Ok(this(args)?.1.signal_handlers.get_or_none())
        }),
        ("_current_handle", |args| {
            Ok(this(args)?.1.current_handle.get_or_none())
        }),
        // programs ask for its class, to say in a message what the loop waits with
        ("_selector", |args| this(args).map(|(_, core)| core.obj().clone())),
        ("_clock_resolution", |_| Obj::float(aioxide_core::RESOLUTION)),
        ("_ready", scheduling::ready_snapshot),
        ("_scheduled", scheduling::scheduled_snapshot),
        ("_timer_cancelled_count", |args| {
            let cancelled = this(args)?.1.timers.with(|timers| timers.cancelled());
            Obj::int(cancelled as i64)
        }),
    ];
    for (name, get) in read {
        body.property(name, get, None)?;
    }
    // sanic takes a stop back
    body.property(
        "_stopping",
        |args| Ok(Obj::bool(this(args)?.1.stopping.get())),
        Some(|args| {
            this(args)?.1.stopping.set(args.req(1)?.truth()?);
            Ok(Obj::none())
        }),
    )?;
    body.property(
        "_default_executor",
        |args| Ok(this(args)?.1.default_executor.get_or_none()),
        Some(|args| {
            this(args)?.1.default_executor.set(args.req(1)?.clone());
            Ok(Obj::none())
        }),
    )?;
    body.property(
        "slow_callback_duration",
        |args| Ok(this(args)?.1.slow_callback_duration.get_or_none()),
        Some(|args| {
            this(args)?.1.slow_callback_duration.set(args.req(1)?.clone());
            Ok(Obj::none())
        }),
    )
}
