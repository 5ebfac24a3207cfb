//! "Executing code in thread or process pools": run_in_executor, set_default_executor,
//! shutdown_default_executor.
//!
//! Owns the default executor. Whatever runs in a pool is the pool's business; what comes back is a future
//! of the loop, chained to the pool's own in both directions.

use super::class::this;
use super::core::LoopCore;
use crate::ffi::errors::{exc, raise, runtime_error, type_error};
use crate::ffi::function::Imp;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Co, Coroutine, Obj, Own, R, exceptions, threads};
use crate::futures::{callbacks, foreign, methods};
use crate::hook::Hook;
use crate::imports::{self, names};

/// What this file adds to the class.
pub(super) const METHODS: &[(&str, Imp)] = &[
    ("run_in_executor(self, executor, func, *args)", run_in_executor),
    ("set_default_executor(self, executor)", set_default_executor),
];

/// The coroutines, and what programs read.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.property(
        "_executor_shutdown_called",
        |args| Ok(Obj::bool(this(args)?.1.executor_shutdown.get())),
        None,
    )?;
    body.async_method(
        "shutdown_default_executor(self, timeout=None)",
        shutdown_default_executor,
    )
}

/// `loop.run_in_executor(executor, func, *args)`
fn run_in_executor(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let func = args.req(2)?;
    core.check_closed()?;
    if core.debug.get() {
        crate::debug::check_callback(func, "run_in_executor")?;
    }
    let executor = match args.opt(1) {
        Some(executor) => executor.clone(),
        None => default_executor(core)?,
    };
    submit(loop_, &executor, func, args.rest())
}

/// `wrap_future(executor.submit(func, *args), loop=self)`
pub(super) fn submit(loop_: &Obj, executor: &Obj, func: &Obj, args: &[Obj]) -> R<Obj> {
    let arguments: Vec<&Obj> = std::iter::once(func).chain(args).collect();
    let future = match arguments.len() {
        ..=8 => executor.call_method(&names::SUBMIT, &arguments)?,
        _ => executor
            .getattr(&names::SUBMIT)?
            .call_with(&Obj::tuple(&arguments)?, None)?,
    };
    if foreign::is_future(&future)? {
        return Ok(future);
    }
    foreign::wrap(&future, Some(loop_))
}

fn default_executor(core: &Own<LoopCore>) -> R<Obj> {
    if core.executor_shutdown.get() {
        return Err(runtime_error("Executor shutdown has been called"));
    }
    if let Some(executor) = core.default_executor.get().filter(|executor| !executor.is_none()) {
        return Ok(executor);
    }
    let kwnames = Obj::tuple(&[&Obj::interned("thread_name_prefix")?])?;
    let executor = thread_pool()?.call_kw(&[&Obj::str("asyncio")?], Some(&kwnames))?;
    core.default_executor.set(executor.clone());
    Ok(executor)
}

/// `concurrent.futures.ThreadPoolExecutor`, which is imported when it is first wanted.
pub(super) fn thread_pool() -> R<Obj> {
    Obj::import("concurrent.futures")?.getattr_str("ThreadPoolExecutor")
}

/// `loop.set_default_executor(executor)`
fn set_default_executor(args: &Args) -> R<Obj> {
    let (_, core) = this(args)?;
    let executor = args.req(1)?;
    if !executor.isinstance(&thread_pool()?)? {
        return Err(type_error("executor must be ThreadPoolExecutor instance"));
    }
    core.default_executor.set(executor.clone());
    Ok(Obj::none())
}

/// Shuts an executor down: `executor.shutdown(wait=wait)`.
fn shutdown(executor: &Obj, wait: bool) -> R<()> {
    let kwnames = Obj::tuple(&[&Obj::interned("wait")?])?;
    executor
        .call_method_kw(&names::SHUTDOWN, &[&Obj::bool(wait)], Some(&kwnames))
        .map(drop)
}

/// Locals of the coroutine: the thread that waits for the pool and the future that it ends, the limit of
/// time, and the `timeout()`, which makes way for the exception that ended it.
const WAITING: usize = 1;
const LIMIT: usize = 2;
const TIMEOUT: usize = 3;

/// `await loop.shutdown_default_executor(timeout=None)`, as since 3.12.2: the limit of time holds.
fn shutdown_default_executor(args: &Args) -> R<Obj> {
    let (loop_, _) = this(args)?;
    let none = Obj::none();
    let limit = args.get(1).unwrap_or(&none);
    Coroutine::boxed(
        "BaseEventLoop.shutdown_default_executor",
        &[loop_, &none, limit],
        |co: Co| async move {
            if !begin_shutdown(&co)? {
                return Ok(Obj::none());
            }
            if co.local(LIMIT).is_none() {
                co.wait(future(&co)).await?;
                return join(&co);
            }
            let entering = {
                let timeout =
                    Obj::import("asyncio.timeouts")?.call_method_str("timeout", &[&co.local(LIMIT)])?;
                co.set(TIMEOUT, timeout.clone());
                timeout.call_method_str("__aenter__", &[])?
            };
            co.wait(entering).await?;
            match co.wait(future(&co)).await {
                Ok(_) => {
                    let none = Obj::none();
                    let leaving = co
                        .local(TIMEOUT)
                        .call_method_str("__aexit__", &[&none, &none, &none])?;
                    drop(none);
                    co.wait(leaving).await?;
                    join(&co)
                }
                Err(raised) => {
                    let leaving = leave_with(&co, &raised.take())?;
                    match co.wait(leaving).await {
                        Ok(_) => Err(raise(&co.local(TIMEOUT))),
                        Err(raised) if raised.matches(exc::timeout_error()) => {
                            raised.ignore();
                            too_slow(&co)
                        }
                        Err(raised) => Err(raised),
                    }
                }
            }
        },
    )
}

/// Starts the thread that waits for the pool. `false`: there is no pool.
fn begin_shutdown(co: &Co) -> R<bool> {
    let loop_ = co.local(0);
    let Some(core) = super::core::of(&loop_) else {
        return Ok(false);
    };
    core.executor_shutdown.set(true);
    let Some(executor) = core.default_executor.get().filter(|executor| !executor.is_none()) else {
        return Ok(false);
    };
    let future = methods::create(&loop_)?;
    let pair = Obj::tuple(&[&executor, &future])?;
    let waiting = Hook::new(
        "BaseEventLoop._do_shutdown",
        wait_for_pool,
        Some(loop_.clone()),
        Some(pair),
    )?;
    let kwnames = Obj::tuple(&[&Obj::interned("target")?])?;
    let thread = Obj::import("threading")?
        .getattr_str("Thread")?
        .call_kw(&[waiting.obj()], Some(&kwnames))?;
    co.set(WAITING, Obj::tuple(&[&thread, &future])?);
    thread.call_method_str("start", &[])?;
    Ok(true)
}

/// `_do_shutdown(future)`, in a thread of its own.
fn wait_for_pool(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    threads::stand_still_at_exit();
    let (Some(loop_), Some(pair)) = (hook.a.take(), hook.b.take()) else {
        return Ok(());
    };
    let [executor, future] = pair.tuple_items() else {
        return Ok(());
    };
    let closed = || loop_.call_method(&names::IS_CLOSED, &[])?.truth();
    match shutdown(executor, true) {
        Ok(()) if closed()? => Ok(()),
        Ok(()) => {
            let done = foreign::set_result_unless_cancelled_hook(future, None)?;
            loop_
                .call_method(&names::CALL_SOON_THREADSAFE, &[done.obj()])
                .map(drop)
        }
        Err(raised) if raised.matches(exc::exception()) => {
            let exception = raised.take();
            if !closed()? && !callbacks::is_cancelled(future)? {
                let set = future.getattr(&names::SET_EXCEPTION)?;
                loop_.call_method(&names::CALL_SOON_THREADSAFE, &[&set, &exception])?;
            }
            Ok(())
        }
        Err(raised) => Err(raised),
    }
}

fn waiting(co: &Co, index: usize) -> Obj {
    co.local(WAITING)
        .tuple_items()
        .get(index)
        .cloned()
        .unwrap_or_else(Obj::none)
}

fn future(co: &Co) -> Obj {
    waiting(co, 1)
}

fn join(co: &Co) -> R<Obj> {
    waiting(co, 0).call_method_str("join", &[]).map(|_| Obj::none())
}

/// `timeout.__aexit__(*sys.exc_info())`; the exception takes the place of the timeout.
fn leave_with(co: &Co, exception: &Obj) -> R<Obj> {
    let traceback = exceptions::traceback(exception).unwrap_or_else(Obj::none);
    let timeout = co.local(TIMEOUT);
    co.set(TIMEOUT, exception.clone());
    timeout.call_method_str("__aexit__", &[&exception.class(), exception, &traceback])
}

/// The threads of the pool have not ended in time: they are left to themselves.
fn too_slow(co: &Co) -> R<Obj> {
    let limit = co.local(LIMIT).to_str()?.to_string()?;
    let text = Obj::str(&format!(
        "The executor did not finishing joining its threads within {limit} seconds."
    ))?;
    // a native coroutine has no frame: one level up is who awaits it
    imports::WARN.call(&[&text, exc::runtime_warning(), &Obj::int(1)?])?;
    let loop_ = co.local(0);
    let executor = super::core::of(&loop_).and_then(|core| core.default_executor.get());
    match executor {
        Some(executor) => shutdown(&executor, false).map(|()| Obj::none()),
        None => Ok(Obj::none()),
    }
}
