//! The Python face of `asyncio.Future`: methods, attributes, `__init__`, `__repr__`.

use super::callbacks;
use super::future::{Future, State, invalid_state};
use super::iter::FutureIter;
use crate::diag::dev;
use crate::ffi::errors::{attribute_error, runtime_error, type_error, value_error};
use crate::ffi::{Args, Class, Obj, Own, R, Slot, Slots, context};
use crate::imports::{self, names};
use crate::version;

/// Everything that a Future has. A task has it too, and overrides some.
pub(super) fn slots(slots: &mut Slots<Future>) -> R<()> {
    slots.init("(self, *, loop=None)", init);
    slots.repr(repr);
    slots.iter(FutureIter::of);
    slots.await_(FutureIter::of);
    slots.generic()?;
    slots.get(c"__class__", class);
    for (sig, imp) in [
        ("result(self, /)", result as crate::ffi::function::Imp),
        ("exception(self, /)", exception),
        ("set_result(self, result, /)", set_result),
        ("set_exception(self, exception, /)", set_exception),
        (
            "add_done_callback(self, fn, /, *, context=<unrepresentable>)",
            add_done_callback,
        ),
        ("remove_done_callback(self, fn, /)", remove_done_callback),
        ("cancel(self, /, msg=None)", cancel),
        ("cancelled(self, /)", cancelled),
        ("done(self, /)", done),
        ("get_loop(self, /)", get_loop),
        ("_make_cancelled_error(self, /)", make_cancelled_error),
    ] {
        slots.method(sig, imp)?;
    }
    slots.get(c"_state", state);
    slots.get_set(c"_asyncio_future_blocking", get_blocking, set_blocking);
    slots.get(c"_loop", |this| Ok(this.loop_.get_or_none()));
    slots.get(c"_callbacks", callbacks::as_list);
    slots.get(c"_result", |this| {
        Ok(if this.state.get() == State::Result {
            this.value.get_or_none()
        } else {
            Obj::none()
        })
    });
    slots.get(c"_exception", |this| {
        Ok(if this.state.get() == State::Exception {
            this.value.get_or_none()
        } else {
            Obj::none()
        })
    });
    slots.get_set(
        c"_log_traceback",
        |this| Ok(Obj::bool(this.log_traceback.get())),
        set_log_traceback,
    );
    slots.get(c"_source_traceback", |this| {
        extra(this, |extra| &extra.source_traceback)
    });
    slots.get_set(
        c"_cancel_message",
        |this| extra(this, |extra| &extra.cancel_message),
        |this, value| {
            this.alive()?;
            if value.is_none() && version::SINCE_314.get() {
                return Err(attribute_error("cannot delete attribute"));
            }
            this.set_cancel_message(value);
            Ok(())
        },
    );
    if version::CALL_GRAPH.get() {
        slots.get(c"_asyncio_awaited_by", crate::graph::awaited_by);
    }
    Ok(())
}

fn extra(this: &Own<Future>, field: fn(&super::future::Extra) -> &Slot) -> R<Obj> {
    Ok(this
        .extra_opt()
        .map_or_else(Obj::none, |extra| field(extra).get_or_none()))
}

/// `__class__` is asyncio's own class, so that `isinstance(x, asyncio.Future)` holds for everybody,
/// also for those who imported it before us. A derived class is itself.
fn class(this: &Own<Future>) -> R<Obj> {
    Ok(if this.is_exact() {
        imports::C_FUTURE.clone()
    } else if crate::tasks::gather::Gathering::class().is_exact(this.obj()) {
        imports::GATHERING_FUTURE.clone()
    } else if crate::tasks::Task::class().is_exact(this.obj()) {
        imports::C_TASK.clone()
    } else {
        this.obj().class()
    })
}

/// `Future.__init__(*, loop=None)`
fn init(args: &Args) -> R<Obj> {
    let this = args.this::<Future>()?;
    init_fields(this, args.opt(1))?;
    Ok(Obj::none())
}

/// What `__init__` does, also for tasks. `None`: the current event loop.
pub(crate) fn init_fields(this: &Own<Future>, loop_: Option<&Obj>) -> R<()> {
    if version::FUTURE_INIT_ONCE.get() && !this.loop_.is_empty() {
        return Err(runtime_error("Future object is already initialized"));
    }
    let loop_ = match loop_ {
        Some(loop_) => loop_.clone(),
        None => imports::GET_EVENT_LOOP.call0()?,
    };
    // a second __init__ starts afresh (before 3.15)
    this.clear_fields();
    this.state.set(State::Pending);
    this.blocking.set(false);
    this.log_traceback.set(false);
    let debug = match crate::event_loop::core::of(&loop_) {
        Some(core) => core.debug.get(),
        None => loop_.call_method(&names::GET_DEBUG, &[])?.truth()?,
    };
    this.loop_.set(loop_);
    if debug {
        this.extra().source_traceback.set(crate::debug::extract_stack()?);
    }
    Ok(())
}

fn result(args: &Args) -> R<Obj> {
    args.this::<Future>()?.result()
}

fn exception(args: &Args) -> R<Obj> {
    args.this::<Future>()?.exception()
}

fn set_result(args: &Args) -> R<Obj> {
    let this = args.this::<Future>()?;
    this.alive()?;
    if this.is_done() {
        return Err(invalid_state("invalid state"));
    }
    this.finish(args.req(1)?.clone())?;
    Ok(Obj::none())
}

fn set_exception(args: &Args) -> R<Obj> {
    args.this::<Future>()?.set_exception(args.req(1)?)?;
    Ok(Obj::none())
}

fn add_done_callback(args: &Args) -> R<Obj> {
    let this = args.this::<Future>()?;
    let context = match args.opt(2) {
        Some(context) => context.clone(),
        None => context::copy()?,
    };
    this.add_callback(args.req(1)?.clone(), context)?;
    Ok(Obj::none())
}

fn remove_done_callback(args: &Args) -> R<Obj> {
    let this = args.this::<Future>()?;
    this.alive()?;
    Obj::int(this.remove_callbacks(args.req(1)?)? as i64)
}

fn cancel(args: &Args) -> R<Obj> {
    let this = args.this::<Future>()?;
    this.alive()?;
    Ok(Obj::bool(this.cancel_base(args.opt(1))?))
}

fn cancelled(args: &Args) -> R<Obj> {
    Ok(Obj::bool(args.this::<Future>()?.state.get() == State::Cancelled))
}

fn done(args: &Args) -> R<Obj> {
    Ok(Obj::bool(args.this::<Future>()?.is_done()))
}

fn get_loop(args: &Args) -> R<Obj> {
    args.this::<Future>()?.require_loop()
}

fn make_cancelled_error(args: &Args) -> R<Obj> {
    args.this::<Future>()?.make_cancelled_error()
}

fn state(this: &Own<Future>) -> R<Obj> {
    this.alive()?;
    Obj::interned(match this.state.get() {
        State::Pending => "PENDING",
        State::Cancelled => "CANCELLED",
        State::Result | State::Exception => "FINISHED",
    })
}

fn get_blocking(this: &Own<Future>) -> R<Obj> {
    Ok(Obj::bool(!this.loop_.is_empty() && this.blocking.get()))
}

fn set_blocking(this: &Own<Future>, value: Option<&Obj>) -> R<()> {
    this.alive()?;
    let Some(value) = value else {
        return Err(attribute_error("cannot delete attribute"));
    };
    this.blocking.set(value.truth()?);
    Ok(())
}

fn set_log_traceback(this: &Own<Future>, value: Option<&Obj>) -> R<()> {
    let Some(value) = value else {
        return Err(attribute_error("cannot delete attribute"));
    };
    if value.truth()? {
        return Err(value_error("_log_traceback can only be set to False"));
    }
    this.log_traceback.set(false);
    Ok(())
}

fn repr(this: &Own<Future>) -> R<Obj> {
    this.alive()?;
    if !crate::tasks::Task::class().is_instance(this.obj()) {
        return imports::FUTURE_REPR.call(&[this.obj()]);
    }
    if !version::SINCE_312.get() && this.obj().getattr_str("_coro")?.is_none() {
        return repr_of_eager(this.obj());
    }
    imports::TASK_REPR.call(&[this.obj()])
}

/// `repr(task)` of an eager task that has ended, and has no coroutine any more: asyncio has that since 3.12, and its
/// `_task_repr` before does not expect it.
fn repr_of_eager(task: &Obj) -> R<Obj> {
    let info = imports::FUTURE_REPR_INFO.call(&[task])?;
    let name = format!("name={}", task.call_method_str("get_name", &[])?.repr()?);
    info.call_method_str("insert", &[&Obj::int(1)?, &Obj::str(&name)?])?;
    let info = Obj::str(" ")?.call_method_str("join", &[&info])?;
    let class = task.class().getattr_str("__name__")?;
    Obj::str(&format!("<{} {}>", class.to_string()?, info.to_string()?))
}

/// `loop_.create_future()`. Whatever is not plainly our own loop is asked: a derived class may have a method
/// of its own, and so may the instance.
#[inline]
pub(crate) fn create(loop_: &Obj) -> R<Obj> {
    match crate::event_loop::core::fast(loop_) {
        Some(_) => Ok(Future::class().alloc(Future::pending(loop_.clone()))?.into_obj()),
        None => loop_.call_method(&names::CREATE_FUTURE, &[]),
    }
}

/// `loop_.create_future()`, for places where only futures of ours can stand: what else an overridden method makes is not
/// used.
pub(crate) fn create_ours(loop_: &Obj, core: &crate::event_loop::core::LoopCore) -> R<Own<Future>> {
    match Future::class().take_exact(create(loop_)?) {
        Ok(future) => Ok(future),
        Err(_) => create_native(loop_, core),
    }
}

/// What `create_future()` of our own loop does.
pub(crate) fn create_native(loop_: &Obj, core: &crate::event_loop::core::LoopCore) -> R<Own<Future>> {
    if !core.debug.get() {
        let future = Future::class().alloc(Future::pending(loop_.clone()))?;
        if dev::enabled() {
            dev::note_future(&future);
        }
        return Ok(future);
    }
    let future = Future::class().alloc(Future::default())?;
    init_fields(&future, Some(loop_))?;
    Ok(future)
}

/// The argument `waiter=None` of the methods that make transports.
pub(crate) fn waiter_argument(args: &Args, index: usize) -> R<Option<Own<Future>>> {
    match args.opt(index) {
        None => Ok(None),
        Some(waiter) => match Future::class().take_instance(waiter.clone()) {
            Ok(waiter) => Ok(Some(waiter)),
            Err(_) => Err(type_error("waiter must be a Future")),
        },
    }
}
