//! `asyncio.runners`: `run` and `Runner`, from a program without a loop into one and out again.
//!
//! Owns: the life of one loop (made when first needed, run as often as asked, closed with everything
//! that is left on it) and the meaning of Ctrl-C while it runs: the first one cancels the main task,
//! the second one interrupts.
//!
//! Must never: leave a signal handler of ours behind, or keep a loop open because closing it failed
//! half-way.

use crate::copying::{self, Copied};
use crate::diag::cancels::{self, Why};
use crate::ffi::errors::{R, exc, finally, not_deleted, raise, runtime_error, type_error, value_error};
use crate::ffi::function::Imp;
use crate::ffi::function::Kind::Plain;
use crate::ffi::{Args, Class, ClassCell, Co, Coroutine, Obj, Own, Slot, Slots, Visitor, WeakRefs};
use crate::ffi::{context, exceptions, running};
use crate::hook::Hook;
use crate::imports::{self, names};
use crate::tasks::{gather, task};
use crate::{policy, version};
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// How far a runner's life is: `asyncio.runners._State`.
#[derive(Clone, Copy, PartialEq, Default)]
enum State {
    #[default]
    Created,
    Initialized,
    Closed,
}

/// `asyncio.Runner`: a context manager that owns an event loop.
#[derive(Default)]
pub(crate) struct Runner {
    dict: Slot,
    weakrefs: WeakRefs,
    state: Cell<State>,
    debug: Slot,
    loop_factory: Slot,
    loop_: Slot,
    context: Slot,
    /// How often Ctrl-C came during the present `run`.
    interrupts: Cell<u32>,
    /// `set_event_loop(loop)` was called, and is to be undone.
    set_event_loop: Cell<bool>,
}

impl Own<Runner> {
    /// Makes the loop, unless it is there.
    fn lazy_init(&self) -> R<Obj> {
        if self.state.get() == State::Closed {
            return Err(runtime_error("Runner is closed"));
        }
        if let Some(loop_) = self.loop_.get() {
            return Ok(loop_);
        }
        let loop_ = match self.loop_factory.get() {
            Some(factory) => factory.call0()?,
            None => self.default_loop()?,
        };
        self.loop_.set(loop_.clone());
        if let Some(debug) = self.debug.get() {
            loop_.call_method_str("set_debug", &[&debug])?;
        }
        self.context.set(context::copy()?);
        self.state.set(State::Initialized);
        Ok(loop_)
    }

    /// The loop of a runner without a factory; it becomes the thread's, once.
    fn default_loop(&self) -> R<Obj> {
        let loop_ = policy::default_loop()?;
        // kept before it is made known, so that `close` finds it whatever happens there
        self.loop_.set(loop_.clone());
        if !self.set_event_loop.get() {
            policy::set_event_loop(Some(&loop_))?;
            self.set_event_loop.set(true);
        }
        Ok(loop_)
    }

    /// `close()`: what is left is cancelled, generators and the executor are shut down, the loop is closed.
    fn close(&self) -> R<()> {
        if self.state.get() != State::Initialized {
            return Ok(());
        }
        let loop_ = self.loop_.get_or_none();
        finally(shut_down(&loop_), || {
            if self.set_event_loop.get() {
                policy::set_event_loop(None)?;
            }
            loop_.call_method(&names::CLOSE, &[])?;
            self.loop_.put(None);
            self.state.set(State::Closed);
            Ok(())
        })
    }

    /// `run(coro, context=context)`
    fn run(&self, coro: &Obj, given: Option<&Obj>) -> R<Obj> {
        let any_awaitable = version::RUN_TAKES_AWAITABLE.get();
        if !any_awaitable && !task::check_coroutine(coro)? {
            return Err(value_error(&format!(
                "a coroutine was expected, got {}",
                coro.repr()?
            )));
        }
        if running::get()?.is_some() {
            return Err(runtime_error(
                "Runner.run() cannot be called from a running event loop",
            ));
        }
        let loop_ = self.lazy_init()?;
        let coro = if any_awaitable {
            as_coroutine(coro)?
        } else {
            coro.clone()
        };
        let context = given.cloned().unwrap_or_else(|| self.context.get_or_none());
        let main = loop_.call_method_kw(
            &names::CREATE_TASK,
            &[&coro, &context],
            Some(&crate::kwnames::CONTEXT),
        )?;
        drop(coro);
        let handler = self.catch_interrupts(&main)?;
        self.interrupts.set(0);
        let result = match loop_.call_method_str("run_until_complete", &[&main]) {
            Err(raised) if raised.matches(&imports::CANCELLED_ERROR) => {
                let cancelled = raised.take();
                self.interrupted(&main, cancelled)
            }
            result => result,
        };
        finally(result, || {
            handler.map_or(Ok(()), |handler| release_interrupts(&handler))
        })
    }

    /// The main task was cancelled. If it was Ctrl-C alone that did it, that is what comes out.
    fn interrupted(&self, main: &Obj, cancelled: Obj) -> R<Obj> {
        if self.interrupts.get() > 0
            && let Some(uncancel) = main.getattr_opt(&names::UNCANCEL)?
            && uncancel.call0()?.eq(&Obj::int(0)?)?
        {
            let interrupt = exc::keyboard_interrupt().call0()?;
            exceptions::set_context(&interrupt, Some(cancelled));
            return Err(raise(&interrupt));
        }
        Err(raise(&cancelled))
    }

    /// Puts our SIGINT handler in the place of Python's own: main thread only, and only if the program
    /// has not put one there itself.
    fn catch_interrupts(&self, main: &Obj) -> R<Option<Own<Hook>>> {
        let threading = Obj::import("threading")?;
        let here = threading.call_method_str("current_thread", &[])?;
        if !here.is(&threading.call_method_str("main_thread", &[])?) {
            return Ok(None);
        }
        let signal = Obj::import("signal")?;
        let sigint = signal.getattr_str("SIGINT")?;
        let current = signal.call_method_str("getsignal", &[&sigint])?;
        if !current.is(&signal.getattr_str("default_int_handler")?) {
            return Ok(None);
        }
        let handler = Hook::new(
            "Runner._on_sigint",
            on_sigint,
            Some(self.obj().clone()),
            Some(main.clone()),
        )?;
        match signal.call_method_str("signal", &[&sigint, handler.obj()]) {
            Ok(_) => Ok(Some(handler)),
            // the main thread of an embedded interpreter may have no signals
            Err(raised) if raised.matches(exc::value_error()) => {
                raised.ignore();
                Ok(None)
            }
            Err(raised) => Err(raised),
        }
    }
}

/// Gives SIGINT back to Python, if it is still ours.
fn release_interrupts(handler: &Own<Hook>) -> R<()> {
    let signal = Obj::import("signal")?;
    let sigint = signal.getattr_str("SIGINT")?;
    if signal.call_method_str("getsignal", &[&sigint])?.is(handler.obj()) {
        signal.call_method_str("signal", &[&sigint, &signal.getattr_str("default_int_handler")?])?;
    }
    Ok(())
}

/// SIGINT: a signal handler, so it may run between any two instructions of the main thread.
fn on_sigint(hook: &Own<Hook>, _signum: Option<&Obj>) -> R<()> {
    let (Some(runner), Some(main)) = (hook.a.get(), hook.b.get()) else {
        return interrupt();
    };
    let Some(runner) = CLASS.instance(&runner) else {
        return interrupt();
    };
    runner.interrupts.set(runner.interrupts.get() + 1);
    if runner.interrupts.get() > 1 || main.call_method(&names::DONE, &[])?.truth()? {
        return interrupt();
    }
    cancels::because(Why::Interrupt, || main.call_method(&names::CANCEL, &[]))?;
    // the loop may be asleep in its poll
    let wake_up = Hook::new("Runner._on_sigint.<locals>.<lambda>", |_, _| Ok(()), None, None)?;
    runner
        .loop_
        .get_or_none()
        .call_method(&names::CALL_SOON_THREADSAFE, &[wake_up.obj()])?;
    Ok(())
}

fn interrupt() -> R<()> {
    Err(raise(&exc::keyboard_interrupt().call0()?))
}

/// A coroutine for any awaitable (3.14+).
fn as_coroutine(object: &Obj) -> R<Obj> {
    if task::check_coroutine(object)? {
        return Ok(object.clone());
    }
    if !imports::ISAWAITABLE.call(&[object])?.truth()? {
        return Err(type_error(
            "An asyncio.Future, a coroutine or an awaitable is required",
        ));
    }
    let name = "Runner.run.<locals>._wrap_awaitable";
    Coroutine::boxed(
        name,
        &[object],
        |co: Co| async move { co.wait(co.local(0)).await },
    )
}

/// Everything that is to end before a loop is closed.
fn shut_down(loop_: &Obj) -> R<()> {
    cancel_all_tasks(loop_)?;
    let complete = |future: Obj| loop_.call_method_str("run_until_complete", &[&future]);
    complete(loop_.call_method_str("shutdown_asyncgens", &[])?)?;
    let executor = Obj::interned("shutdown_default_executor")?;
    complete(if version::SINCE_312.get() {
        loop_.call_method(
            &executor,
            &[&imports::CONSTANTS.getattr_str("THREAD_JOIN_TIMEOUT")?],
        )?
    } else {
        loop_.call_method(&executor, &[])?
    })?;
    Ok(())
}

/// `_cancel_all_tasks(loop)`
fn cancel_all_tasks(loop_: &Obj) -> R<()> {
    let left = imports::ALL_TASKS.call(&[loop_])?.to_vec()?;
    if left.is_empty() {
        return Ok(());
    }
    for task in &left {
        cancels::because(Why::Shutdown, || task.call_method(&names::CANCEL, &[]))?;
    }
    loop_.call_method_str("run_until_complete", &[&gather::of(&left, true)?])?;
    for task in &left {
        if task.call_method(&names::CANCELLED, &[])?.truth()? {
            continue;
        }
        let exception = task.call_method(&names::EXCEPTION, &[])?;
        if exception.is_none() {
            continue;
        }
        let context = Obj::dict()?;
        let message = Obj::str("unhandled exception during asyncio.run() shutdown")?;
        context.dict_set(&names::MESSAGE, &message)?;
        context.dict_set(&names::EXCEPTION, &exception)?;
        context.dict_set(&names::TASK, task)?;
        loop_.call_method(&names::CALL_EXCEPTION_HANDLER, &[&context])?;
    }
    Ok(())
}

/// `asyncio.run(main, *, debug=None, loop_factory=None)`
fn run(args: &Args) -> R<Obj> {
    if running::get()?.is_some() {
        return Err(runtime_error(
            "asyncio.run() cannot be called from a running event loop",
        ));
    }
    let runner = Runner::default();
    runner.debug.put(args.opt(1).cloned());
    runner.loop_factory.put(args.opt(2).cloned());
    let runner = CLASS.alloc(runner)?;
    let result = runner.lazy_init().and_then(|_| runner.run(args.req(0)?, None));
    finally(result, || runner.close())
}

fn this<'a>(args: &'a Args) -> R<&'a Own<Runner>> {
    args.this::<Runner>()
}

fn init(args: &Args) -> R<Obj> {
    let this = this(args)?;
    this.state.set(State::Created);
    this.debug.put(args.opt(1).cloned());
    this.loop_factory.put(args.opt(2).cloned());
    for slot in [&this.loop_, &this.context] {
        slot.put(None);
    }
    this.interrupts.set(0);
    this.set_event_loop.set(false);
    Ok(Obj::none())
}

/// `_state`, by the names of the enum's members.
const STATES: [(State, &str); 3] = [
    (State::Created, "CREATED"),
    (State::Initialized, "INITIALIZED"),
    (State::Closed, "CLOSED"),
];

fn state(this: &Own<Runner>) -> R<Obj> {
    let (_, name) = STATES[this.state.get() as usize];
    imports::RUNNER_STATE.getattr_str(name)
}

fn set_state(this: &Own<Runner>, value: Option<&Obj>) -> R<()> {
    let name = not_deleted(value)?.getattr_str("name")?.to_string()?;
    let Some((state, _)) = STATES.iter().find(|(_, of)| *of == name) else {
        return Err(value_error(&format!("{name} is no state of a runner")));
    };
    this.state.set(*state);
    Ok(())
}

static CLASS: ClassCell<Runner> = ClassCell::new();

impl Copied for Runner {
    const STATE: &'static [&'static str] = &[
        "_state",
        "_debug",
        "_loop_factory",
        "_loop",
        "_context",
        "_interrupt_count",
        "_set_event_loop",
    ];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

impl Class for Runner {
    const NAME: &'static CStr = c"asyncio.runners.Runner";
    const DICT: Option<usize> = Some(offset_of!(Runner, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Runner, weakrefs));

    fn class() -> &'static ClassCell<Runner> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Runner>) -> R<()> {
        slots.init("(self, *, debug=None, loop_factory=None)", init);
        let methods: [(&str, Imp); 6] = [
            ("run(self, coro, *, context=None)", |args| {
                this(args)?.run(args.req(1)?, args.opt(2))
            }),
            ("get_loop(self)", |args| this(args)?.lazy_init()),
            ("close(self)", |args| this(args)?.close().map(|()| Obj::none())),
            ("_lazy_init(self)", |args| {
                this(args)?.lazy_init().map(|_| Obj::none())
            }),
            ("__enter__(self)", |args| {
                this(args)?.lazy_init().and_then(|_| args.req(0).cloned())
            }),
            ("__exit__(self, exc_type, exc_val, exc_tb)", |args| {
                this(args)?.close().map(|()| Obj::none())
            }),
        ];
        for (sig, imp) in methods {
            slots.method(sig, imp)?;
        }
        slots.get_set(c"_state", state, set_state);
        slots.object(c"_debug", |this| &this.debug);
        slots.object(c"_loop_factory", |this| &this.loop_factory);
        slots.object(c"_loop", |this| &this.loop_);
        slots.object(c"_context", |this| &this.context);
        slots.get_set(
            c"_interrupt_count",
            |this| Obj::int(this.interrupts.get().into()),
            |this, value| {
                let count = not_deleted(value)?.to_i64()?;
                this.interrupts.set(u32::try_from(count).unwrap_or(u32::MAX));
                Ok(())
            },
        );
        slots.flag(c"_set_event_loop", |this| &this.set_event_loop);
        copying::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in [&self.debug, &self.loop_factory, &self.loop_, &self.context] {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        for slot in [&self.debug, &self.loop_factory, &self.loop_, &self.context] {
            slot.put(None);
        }
    }
}

/// Exports this area's class and function.
pub(crate) fn register(module: &Obj) -> R<()> {
    crate::ffi::class::create::<Runner>(None)?;
    module.setattr_str("Runner", CLASS.get())?;
    let sig = "run(main, *, debug=None, loop_factory=None)";
    crate::module::export(module, &[("asyncio.runners", sig, run, Plain)])
}
