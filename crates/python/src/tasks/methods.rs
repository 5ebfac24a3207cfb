//! The Python face of `asyncio.Task`.

use super::spawn;
use super::task::{Task, check_coroutine};
use crate::event_loop::core;
use crate::ffi::errors::{attribute_error, runtime_error, type_error};
use crate::ffi::{Args, Obj, R, Slots, context};
use crate::futures::methods::init_fields;
use crate::imports::{self, names};
use crate::version;

pub(super) fn slots(slots: &mut Slots<Task>) -> R<()> {
    slots.init(
        "(self, coro, *, loop=None, name=None, context=None, eager_start=False)",
        init,
    );
    for (sig, imp) in [
        ("cancel(self, /, msg=None)", cancel as crate::ffi::function::Imp),
        ("cancelling(self, /)", cancelling),
        ("uncancel(self, /)", uncancel),
        ("get_coro(self, /)", get_coro),
        ("get_context(self, /)", get_context),
        ("get_name(self, /)", get_name),
        ("set_name(self, value, /)", set_name),
        ("set_result(self, result, /)", set_result),
        ("set_exception(self, exception, /)", set_exception),
        ("get_stack(self, /, *, limit=None)", get_stack),
        ("print_stack(self, /, *, limit=None, file=None)", print_stack),
    ] {
        slots.method(sig, imp)?;
    }
    slots.get(c"_coro", |this| Ok(this.coro.get_or_none()));
    slots.get(c"_fut_waiter", |this| Ok(this.waiter.get_or_none()));
    slots.get(c"_must_cancel", |this| Ok(Obj::bool(this.must_cancel.get())));
    slots.get_set(
        c"_log_destroy_pending",
        |this| Ok(Obj::bool(this.log_destroy_pending.get())),
        |this, value| {
            let Some(value) = value else {
                return Err(attribute_error("cannot delete attribute"));
            };
            this.log_destroy_pending.set(value.truth()?);
            Ok(())
        },
    );
    Ok(())
}

/// `Task.__init__(coro, *, loop=None, name=None, context=None, eager_start=False)`
fn init(args: &Args) -> R<Obj> {
    let this = args.this::<Task>()?;
    let coro = args.req(1)?;
    init_fields(this.as_future(), args.opt(2))?;
    if !check_coroutine(coro)? {
        this.log_destroy_pending.set(false);
        return Err(type_error(&format!(
            "a coroutine was expected, got {}",
            coro.repr()?
        )));
    }
    let context = match args.opt(4) {
        None => context::copy()?,
        Some(given) if version::TASK_CONTEXT_CHECKED.get() && !context::is_context(given) => {
            this.log_destroy_pending.set(false);
            let name = given.full_class_name()?;
            return Err(type_error(&format!(
                "a contextvars.Context was expected, got {name}"
            )));
        }
        Some(given) => given.clone(),
    };
    let name = match args.opt(3) {
        None => None,
        Some(name) => Some(as_str(name)?),
    };
    this.leave_list();
    this.fill(coro.clone(), context, name);
    let loop_ = this.as_future().require_loop()?;
    let eager = match args.get(5) {
        Some(eager) => eager.truth()? && is_running(&loop_)?,
        None => false,
    };
    spawn::start(this, &loop_, eager)?;
    Ok(Obj::none())
}

/// `loop.is_running()`
fn is_running(loop_: &Obj) -> R<bool> {
    match core::fast(loop_) {
        Some(core) => Ok(core.thread.get() != 0),
        None => loop_.call_method(&names::IS_RUNNING, &[])?.truth(),
    }
}

/// `str(name)`, unless it is one already.
pub(crate) fn as_str(name: &Obj) -> R<Obj> {
    if crate::ffi::object::is_exact_str(name) {
        Ok(name.clone())
    } else {
        name.to_str()
    }
}

fn cancel(args: &Args) -> R<Obj> {
    let this = args.this::<Task>()?;
    this.as_future().alive()?;
    Ok(Obj::bool(this.cancel(args.opt(1))?))
}

fn cancelling(args: &Args) -> R<Obj> {
    Obj::int(args.this::<Task>()?.cancels.get().into())
}

fn uncancel(args: &Args) -> R<Obj> {
    Obj::int(args.this::<Task>()?.uncancel().into())
}

fn get_coro(args: &Args) -> R<Obj> {
    Ok(args.this::<Task>()?.coro.get_or_none())
}

fn get_context(args: &Args) -> R<Obj> {
    Ok(args.this::<Task>()?.context.get_or_none())
}

fn get_name(args: &Args) -> R<Obj> {
    args.this::<Task>()?.name()
}

fn set_name(args: &Args) -> R<Obj> {
    let this = args.this::<Task>()?;
    this.set_name(as_str(args.req(1)?)?);
    Ok(Obj::none())
}

fn set_result(_: &Args) -> R<Obj> {
    Err(runtime_error("Task does not support set_result operation"))
}

fn set_exception(_: &Args) -> R<Obj> {
    Err(runtime_error("Task does not support set_exception operation"))
}

fn get_stack(args: &Args) -> R<Obj> {
    let limit = args.get(1).cloned().unwrap_or_else(Obj::none);
    imports::TASK_GET_STACK.call(&[args.req(0)?, &limit])
}

fn print_stack(args: &Args) -> R<Obj> {
    let limit = args.get(1).cloned().unwrap_or_else(Obj::none);
    let file = args.get(2).cloned().unwrap_or_else(Obj::none);
    imports::TASK_PRINT_STACK.call(&[args.req(0)?, &limit, &file])
}
