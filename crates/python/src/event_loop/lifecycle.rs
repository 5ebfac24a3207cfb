//! "Running and stopping the loop": run_forever, run_until_complete, stop, close, shutdown_asyncgens.

use super::class::{EVENT_LOOP, this};
use super::core::{self, LoopCore};
use super::run;
use crate::ffi::errors::{exc, finally, finally_raised, runtime_error};
use crate::ffi::function::Imp;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Co, Coroutine, Obj, Own, R, running, threads};
use crate::futures::callbacks;
use crate::futures::foreign;
use crate::hook::Hook;
use crate::imports::{self, names};
use crate::resource_warning;
use crate::tasks::spawn;
use crate::version;

/// What this file adds to the class.
pub(super) const METHODS: &[(&str, Imp)] = &[
    ("run_forever(self)", run_forever),
    ("run_until_complete(self, future)", run_until_complete),
    ("stop(self)", stop),
    ("close(self)", close),
    ("is_running(self)", |args| {
        Ok(Obj::bool(this(args)?.1.thread.get() != 0))
    }),
    ("is_closed(self)", |args| {
        Ok(Obj::bool(this(args)?.1.closed.get()))
    }),
    ("get_debug(self)", |args| Ok(Obj::bool(this(args)?.1.debug.get()))),
    ("set_debug(self, enabled)", set_debug),
    ("_set_coroutine_origin_tracking(self, enabled)", |args| {
        crate::debug::set_origin_tracking(this(args)?.1, args.req(1)?.truth()?)?;
        Ok(Obj::none())
    }),
    ("_asyncgen_firstiter_hook(self, agen)", asyncgen_firstiter),
    ("_asyncgen_finalizer_hook(self, agen)", asyncgen_finalizer),
];

/// What a loop that runs inside of another one (of a GUI, say) does around its own turns, which call `_run_once`.
/// asyncio has it since 3.13, where `run_forever` calls what a derived class has made of it.
const GUEST_METHODS: &[(&str, Imp)] = &[
    ("_run_forever_setup(self)", |args| {
        let (loop_, core) = this(args)?;
        set_up(loop_, core).map(|()| Obj::none())
    }),
    ("_run_forever_cleanup(self)", |args| {
        let (loop_, core) = this(args)?;
        leave(loop_, core).map(|()| Obj::none())
    }),
];

/// The coroutines, and what not every version has.
pub(super) fn add_more_methods(body: &mut Body) -> R<()> {
    if version::SINCE_313.get() {
        for (sig, imp) in GUEST_METHODS {
            body.method(sig, *imp)?;
        }
    }
    body.async_method("shutdown_asyncgens(self)", shutdown_asyncgens)
}

/// `loop.run_forever()`
fn run_forever(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    forever(loop_, core)?;
    Ok(Obj::none())
}

fn check_running(core: &LoopCore) -> R<()> {
    if core.thread.get() != 0 {
        return Err(runtime_error("This event loop is already running"));
    }
    if running::get()?.is_some() {
        return Err(runtime_error(
            "Cannot run the event loop while another loop is running",
        ));
    }
    Ok(())
}

/// Runs until `stop()`; whatever happens, the thread is left as it was found.
pub(crate) fn forever(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    if version::SINCE_313.get() && is_changed(loop_, core, &["_run_forever_setup", "_run_forever_cleanup"])? {
        loop_.call_method_str("_run_forever_setup", &[])?;
        return finally(turns(loop_, core), || {
            loop_.call_method_str("_run_forever_cleanup", &[]).map(drop)
        });
    }
    check_startable(core)?;
    let result = enter(loop_, core).and_then(|()| turns(loop_, core));
    finally(result, || leave(loop_, core))
}

/// Turn after turn, until `stop()`.
fn turns(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    if !is_changed(loop_, core, &["_run_once"])? {
        return run::until_stopped(loop_, core);
    }
    while {
        loop_.call_method_str("_run_once", &[])?;
        !core.stopping.get()
    } {}
    Ok(())
}

/// Has a derived class, or the instance, a method of one of these names?
fn is_changed(loop_: &Obj, core: &LoopCore, names: &[&str]) -> R<bool> {
    let class = loop_.class();
    if class.is(EVENT_LOOP.get()) && !core.patched.get() {
        return Ok(false);
    }
    let own = loop_.getattr_str("__dict__")?;
    for name in names {
        let name = Obj::interned(name)?;
        if own.contains(&name)? || !class.getattr(&name)?.is(&EVENT_LOOP.get().getattr(&name)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_startable(core: &LoopCore) -> R<()> {
    core.check_closed()?;
    check_running(core)
}

fn set_up(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    check_startable(core)?;
    enter(loop_, core)?;
    core.vitals.pulse.sleeps();
    Ok(())
}

fn enter(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    threads::stand_still_at_exit();
    running::let_go_of_guest();
    crate::debug::track_origins(core, true)?;
    let sys = Obj::import("sys")?;
    core.old_asyncgen_hooks
        .set(sys.call_method_str("get_asyncgen_hooks", &[])?);
    core.thread.set(threads::ident());
    let hook = |name: &str| loop_.getattr_str(name);
    sys.call_method_str(
        "set_asyncgen_hooks",
        &[
            &hook("_asyncgen_firstiter_hook")?,
            &hook("_asyncgen_finalizer_hook")?,
        ],
    )?;
    super::on_run(core)?;
    if crate::diag::on_run(core) {
        crate::diag::metrics::add(loop_, core.vitals.number())?;
    }
    running::set(Some(loop_))
}

fn leave(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    core.stopping.set(false);
    core.thread.set(0);
    finally(crate::diag::on_stop(loop_, core), || {
        running::set(None)?;
        super::on_stop(core)?;
        crate::debug::track_origins(core, false)?;
        if let Some(hooks) = core.old_asyncgen_hooks.take() {
            Obj::import("sys")?.getattr_str("set_asyncgen_hooks")?.call_with(
                &Obj::tuple(&hooks.tuple_items().iter().collect::<Vec<_>>())?,
                None,
            )?;
        }
        Ok(())
    })
}

/// `loop.run_until_complete(future)`
fn run_until_complete(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    core.check_closed()?;
    check_running(core)?;
    let given = args.req(1)?;
    let new_task = !foreign::is_future(given)?;
    let future = spawn::ensure(given, Some(loop_))?;
    if new_task {
        // An exception is raised here, to the caller: no need to log that nobody took it.
        future.setattr(&names::LOG_DESTROY_PENDING, &Obj::bool(false))?;
    }
    // asyncio's own function: anyio knows the main task by it
    let done: &Obj = &imports::RUN_UNTIL_COMPLETE_CB;
    future.call_method(&names::ADD_DONE_CALLBACK, &[done])?;
    let result = loop_.call_method_str("run_forever", &[]);
    match result {
        Ok(_) => drop(future.call_method(&names::REMOVE_DONE_CALLBACK, &[done])?),
        Err(raised) => {
            return Err(finally_raised(raised, || {
                if new_task && callbacks::is_done(&future)? && !callbacks::is_cancelled(&future)? {
                    // The coroutine raised a BaseException: it comes out here, it is not lost.
                    future.call_method(&names::EXCEPTION, &[])?;
                }
                future
                    .call_method(&names::REMOVE_DONE_CALLBACK, &[done])
                    .map(drop)
            }));
        }
    }
    if !callbacks::is_done(&future)? {
        return Err(runtime_error("Event loop stopped before Future completed."));
    }
    future.call_method(&names::RESULT, &[])
}

/// `loop.stop()`: at the end of this turn.
fn stop(args: &Args) -> R<Obj> {
    let (_, core) = this(args)?;
    core.stopping.set(true);
    Ok(Obj::none())
}

/// `loop.close()`
fn close(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    if core.thread.get() != 0 {
        return Err(runtime_error("Cannot close a running event loop"));
    }
    if core.closed.get() {
        return Ok(Obj::none());
    }
    if core.debug.get() {
        imports::LOGGER.call_method_str("debug", &[&Obj::str("Close %r")?, loop_])?;
    }
    core.closed.set(true);
    core.refresh_fast();
    drop(core.ready.take());
    drop(core.eager.take());
    drop(core.timers.with(|timers| timers.drain()));
    core.executor_shutdown.set(true);
    if let Some(executor) = core.default_executor.take() {
        let kwnames = Obj::tuple(&[&Obj::interned("wait")?])?;
        executor.call_method_kw(&Obj::interned("shutdown")?, &[&Obj::bool(false)], Some(&kwnames))?;
    }
    drop(core.watches.with(std::mem::take));
    core.watched.set(0);
    drop(core.reactor.with(Option::take));
    super::on_close(loop_, core)?;
    Ok(Obj::none())
}

/// `EventLoop.__del__`: a loop that nobody closed.
pub(super) fn del(args: &Args) -> R<Obj> {
    let loop_ = args.req(0)?;
    let Some(core) = core::of(loop_) else {
        // its making has failed half-way
        return Ok(Obj::none());
    };
    if core.closed.get() || core.reactor.with(|reactor| reactor.is_none()) {
        return Ok(Obj::none());
    }
    let text = format!("unclosed event loop {}", loop_.repr()?);
    resource_warning::warn(&imports::BASE_EVENT_LOOP, "__del__", &text, Some(loop_))?;
    if core.thread.get() == 0 {
        loop_.call_method(&names::CLOSE, &[])?;
    } else {
        super::on_drop(core);
    }
    Ok(Obj::none())
}

/// `loop.set_debug(enabled)`
fn set_debug(args: &Args) -> R<Obj> {
    let (_, core) = this(args)?;
    let enabled = args.req(1)?.truth()?;
    core.debug.set(enabled);
    core.refresh_fast();
    if core.thread.get() != 0 {
        crate::debug::track_origins(core, true)?;
    }
    Ok(Obj::none())
}

/// `sys.set_asyncgen_hooks(firstiter=…)`
fn asyncgen_firstiter(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let agen = args.req(1)?;
    if core.asyncgens_shutdown.get() {
        let text = format!(
            "asynchronous generator {} was scheduled after loop.shutdown_asyncgens() call",
            agen.repr()?
        );
        let method = "_asyncgen_firstiter_hook";
        resource_warning::warn(&imports::BASE_EVENT_LOOP, method, &text, Some(loop_))?;
    }
    if let Some(all) = core.asyncgens.get() {
        all.call_method(&names::ADD, &[agen])?;
    }
    Ok(Obj::none())
}

/// `sys.set_asyncgen_hooks(finalizer=…)`: perhaps on another thread.
fn asyncgen_finalizer(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let agen = args.req(1)?;
    if let Some(all) = core.asyncgens.get() {
        all.call_method(&names::DISCARD, &[agen])?;
    }
    if !core.closed.get() {
        let hook = Hook::new("create_task", close_agen, Some(loop_.clone()), Some(agen.clone()))?;
        loop_.call_method(&names::CALL_SOON_THREADSAFE, &[hook.obj()])?;
    }
    Ok(Obj::none())
}

fn close_agen(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    let (Some(loop_), Some(agen)) = (hook.a.take(), hook.b.take()) else {
        return Ok(());
    };
    let closing = agen.call_method_str("aclose", &[])?;
    loop_.call_method(&names::CREATE_TASK, &[&closing])?;
    Ok(())
}

/// `await loop.shutdown_asyncgens()`
fn shutdown_asyncgens(args: &Args) -> R<Obj> {
    let (loop_, _) = this(args)?;
    Coroutine::boxed("EventLoop.shutdown_asyncgens", &[loop_], |co: Co| async move {
        let waiting = {
            let loop_ = co.local(0);
            let Some(core) = super::core::of(&loop_) else {
                return Ok(Obj::none());
            };
            core.asyncgens_shutdown.set(true);
            let all = core.asyncgens.get_or_none();
            let closing = all.to_vec()?;
            if closing.is_empty() {
                return Ok(Obj::none());
            }
            all.call_method_str("clear", &[])?;
            let mut coroutines = Vec::new();
            for agen in &closing {
                coroutines.push(agen.call_method_str("aclose", &[])?);
            }
            co.set(1, Obj::list(&closing)?);
            crate::tasks::gather::of(&coroutines, true)?
        };
        let results = co.wait(waiting).await?.to_vec()?;
        let loop_ = co.local(0);
        for (result, agen) in results.iter().zip(co.local(1).to_vec()?) {
            if result.isinstance(exc::exception())? {
                let context = Obj::dict()?;
                let text = format!(
                    "an error occurred during closing of asynchronous generator {}",
                    agen.repr()?
                );
                context.dict_set(&names::MESSAGE, &Obj::str(&text)?)?;
                context.dict_set(&names::EXCEPTION, result)?;
                context.dict_set(&Obj::str("asyncgen")?, &agen)?;
                loop_.call_method(&names::CALL_EXCEPTION_HANDLER, &[&context])?;
            }
        }
        Ok(Obj::none())
    })
}
