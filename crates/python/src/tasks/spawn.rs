//! Making tasks: `create_task`, `ensure_future`, task factories, eager start.

use super::methods::as_str;
use super::task::{Task, check_coroutine};
use super::{factory, step};
use crate::event_loop::core::{self, LoopCore};
use crate::ffi::errors::{exc, raise, type_error, value_error};
use crate::ffi::{Args, Class, Obj, Own, R, context, running};
use crate::futures::foreign;
use crate::imports::{self, names};
use crate::version;

/// `asyncio.create_task(coro, *, name=None, context=None)`
pub(crate) fn create_task(args: &Args) -> R<Obj> {
    let loop_ = running::require()?;
    let (coro, name, context) = (args.req(0)?, args.get(1), args.get(2));
    if let Some(core) = core::fast(&loop_) {
        return on_loop(&loop_, core, coro, name, context, args.kwargs());
    }
    // another loop: what the running version's own create_task does
    let kwargs = args.kwargs().cloned().map_or_else(Obj::dict, Ok)?;
    if let Some(context) = context.filter(|context| version::SINCE_314.get() || !context.is_none()) {
        kwargs.dict_set(&names::CONTEXT, context)?;
    }
    let create = loop_.getattr(&names::CREATE_TASK)?;
    let named_by_factory = version::FACTORY_TAKES_KWARGS.get();
    if let Some(name) = name.filter(|name| named_by_factory || !name.is_none()) {
        kwargs.dict_set(&names::NAME, name)?;
    }
    create.call_with(&Obj::tuple(&[coro])?, Some(&kwargs))
}

/// `asyncio.create_task(coro, **kwargs)`, the signature of 3.14.
pub(crate) fn create_task_kwargs(args: &Args) -> R<Obj> {
    let loop_ = running::require()?;
    let coro = args.req(0)?;
    match (core::fast(&loop_), args.kwargs()) {
        (Some(core), None) => on_loop(&loop_, core, coro, None, None, None),
        (_, kwargs) => loop_
            .getattr(&names::CREATE_TASK)?
            .call_with(&Obj::tuple(&[coro])?, kwargs),
    }
}

/// `loop.create_task(coro, …)` on one of our loops.
pub(crate) fn on_loop(
    loop_: &Obj,
    core: &Own<LoopCore>,
    coro: &Obj,
    name: Option<&Obj>,
    task_context: Option<&Obj>,
    kwargs: Option<&Obj>,
) -> R<Obj> {
    let mut eager = false;
    if let Some(factory) = core.task_factory.get() {
        // (where the factory is not told the name, the task gets it after its first step)
        let named_late = !version::FACTORY_TAKES_KWARGS.get() && name.and_then(Obj::non_none).is_some();
        let plain = !core.debug.get()
            && kwargs.is_none()
            && task_context.and_then(Obj::non_none).is_none()
            && !named_late;
        if !plain || core.thread.get() == 0 || !factory::makes_our_tasks(&factory)? {
            return by_factory(loop_, &factory, coro, name, task_context, kwargs);
        }
        eager = true;
    }
    if core.debug.get() || kwargs.is_some() {
        return constructed(loop_, coro, name, task_context, kwargs);
    }
    if !check_coroutine(coro)? {
        return Err(type_error(&format!(
            "a coroutine was expected, got {}",
            coro.repr()?
        )));
    }
    let task_context = match task_context.and_then(Obj::non_none) {
        Some(given) if version::TASK_CONTEXT_CHECKED.get() && !context::is_context(given) => {
            return constructed(loop_, coro, name, Some(given), None);
        }
        Some(given) => given.clone(),
        None => context::copy()?,
    };
    let name = name.and_then(Obj::non_none).map(as_str).transpose()?;
    let task = Task::class().alloc(Task::new(loop_.clone(), coro.clone(), task_context, name))?;
    start(&task, loop_, eager)?;
    Ok(task.into_obj())
}

/// `Task(coro, loop=loop, …)`: through `__init__`, with all its checks.
#[cold]
fn constructed(
    loop_: &Obj,
    coro: &Obj,
    name: Option<&Obj>,
    context: Option<&Obj>,
    kwargs: Option<&Obj>,
) -> R<Obj> {
    let all = Obj::dict()?;
    if let Some(kwargs) = kwargs {
        all.call_method_str("update", &[kwargs])?;
    }
    all.dict_set(&names::LOOP, loop_)?;
    for (key, value) in [(&names::NAME, name), (&names::CONTEXT, context)] {
        if let Some(value) = value {
            all.dict_set(key, value)?;
        }
    }
    Task::class().get().call_with(&Obj::tuple(&[coro])?, Some(&all))
}

/// What the loop's factory makes, called as the running version calls it.
#[cold]
fn by_factory(
    loop_: &Obj,
    factory: &Obj,
    coro: &Obj,
    name: Option<&Obj>,
    context: Option<&Obj>,
    kwargs: Option<&Obj>,
) -> R<Obj> {
    let all = Obj::dict()?;
    if let Some(kwargs) = kwargs {
        all.call_method_str("update", &[kwargs])?;
    }
    let keep = |value: &&Obj| version::SINCE_314.get() || !value.is_none();
    if let Some(context) = context.filter(keep) {
        all.dict_set(&names::CONTEXT, context)?;
    }
    let named_by_factory = version::FACTORY_TAKES_KWARGS.get();
    if named_by_factory && let Some(name) = name.filter(keep) {
        all.dict_set(&names::NAME, name)?;
    }
    let task = factory.call_with(&Obj::tuple(&[loop_, coro])?, Some(&all))?;
    if !named_by_factory && let Some(name) = name.and_then(Obj::non_none) {
        if let Some(set_name) = task.getattr_opt(&names::SET_NAME)? {
            set_name.call(&[name])?;
        }
    }
    Ok(task)
}

/// First step and registration of a task whose fields are set.
#[inline]
pub(crate) fn start(task: &Own<Task>, loop_: &Obj, eager: bool) -> R<()> {
    if eager {
        return start_eagerly(task, loop_);
    }
    step::call_soon(task, loop_, None)?;
    task.enter_list();
    Ok(())
}

/// The first step at once, inside `create_task`; it counts as current meanwhile.
#[cold]
fn start_eagerly(task: &Own<Task>, loop_: &Obj) -> R<()> {
    let interrupted = super::registry::interrupt(loop_, task)?;
    task.enter_list();
    let task_context = task.context.get_or_none();
    let result = context::run(&task_context, || step::run_and_go_on(task, loop_, None));
    let result = match result {
        Ok(()) => super::registry::resume(loop_, interrupted),
        Err(raised) => {
            let exception = raised.take();
            super::registry::resume(loop_, interrupted)?;
            Err(raise(&exception))
        }
    };
    if task.as_future().is_done() {
        task.leave_list();
        task.drop_coro();
    }
    result
}

/// `asyncio.ensure_future(coro_or_future, *, loop=None)`
pub(crate) fn ensure_future(args: &Args) -> R<Obj> {
    ensure(args.req(0)?, args.opt(1))
}

/// A future for anything that can be awaited. `loop_`: `None` is the current one.
pub(crate) fn ensure(object: &Obj, loop_: Option<&Obj>) -> R<Obj> {
    if foreign::is_future(object)? {
        if let Some(loop_) = loop_
            && !loop_.is(&foreign::loop_of(object)?)
        {
            let text = "The future belongs to a different loop than the one specified as the loop argument";
            return Err(value_error(text));
        }
        return Ok(object.clone());
    }
    let ours = check_coroutine(object)?;
    let coro = if ours {
        object.clone()
    } else if object.isinstance(&imports::AWAITABLE_ABC)? || imports::ISAWAITABLE.call(&[object])?.truth()? {
        wrap_awaitable(object)?
    } else {
        return Err(type_error(
            "An asyncio.Future, a coroutine or an awaitable is required",
        ));
    };
    let create = || -> R<Obj> {
        let loop_ = match loop_ {
            Some(loop_) => loop_.clone(),
            None => imports::GET_EVENT_LOOP.call0()?,
        };
        match core::fast(&loop_) {
            Some(core) => on_loop(&loop_, core, &coro, None, None, None),
            None => loop_.call_method(&names::CREATE_TASK, &[&coro]),
        }
    };
    match create() {
        Err(raised) if ours && raised.matches(exc::runtime_error()) => {
            let exception = raised.take();
            coro.call_method(&names::CLOSE, &[])?;
            Err(raise(&exception))
        }
        result => result,
    }
}

/// asyncio's own `_wrap_awaitable`: programs test that it is a coroutine of the interpreter's.
fn wrap_awaitable(object: &Obj) -> R<Obj> {
    imports::WRAP_AWAITABLE.call(&[object])
}
