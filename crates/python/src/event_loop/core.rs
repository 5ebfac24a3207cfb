//! The state of an event loop, behind every `EventLoop` object.
//!
//! The ready queue holds *kinds*, not handles: a task's step is one pointer in a ring. Only
//! `call_soon` and its family, whose result the program may keep, make a Handle.
//!
//! Rules
//! 1. Everything here is touched with the GIL held. The one thing that happens without it is
//!    waiting in the poller, which shares nothing with this struct.
//! 2. `fast` is true while nothing about the loop asks for the slow path: not closed, not in debug
//!    mode, no method replaced on the instance.
//! 3. Dropping an entry may run user code: never inside `Inner::with`.

use super::class;
use super::handles::Queued;
use super::readers::Side;
use crate::diag::Vitals;
use crate::diag::deadlock::Diagnosis;
use crate::diag::dev::Pace;
use crate::diag::flight::Flight;
use crate::ffi::spare::Spares;
use crate::ffi::window::Window;
use crate::ffi::{
    Class, ClassCell, Fifo, Inner, Obj, Own, OwnSlot, R, Slot, Slots, Unowned, Visitor, threads,
};
use crate::futures::Future;
use crate::tasks::Task;
use crate::transports::outbox::Outbox;
use crate::transports::peers::Peers;
use crate::transports::{Happening, Source};
use aioxide_core::{Clock, Events, Monotonic, Reactor, Resolver, SignalPipe, Timers};
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;
use std::sync::Arc;

/// Something to do in a turn of the loop.
pub(crate) enum Entry {
    /// The first step of a task, or the one after a bare yield.
    Step(Own<Task>),
    /// What the task waited for is done.
    Wake(Own<Task>),
    /// A callback with one argument or none, in a context; a hook of ours without.
    Callback {
        /// The callable, or a [`crate::hook::Hook`].
        callback: Obj,
        /// Usually the future that is done.
        argument: Option<Obj>,
        /// `None` for hooks.
        context: Option<Obj>,
    },
    /// A `Handle` of `call_soon` and family.
    Handle(Queued),
    /// `sleep()` is over: the future gets its result, if nobody was faster.
    Slept(Own<Future>),
    /// A transport or the like, and what has happened to it.
    Source(Source, Happening),
}

/// Something to do at a time.
pub(crate) enum Timer {
    /// A `TimerHandle`.
    Handle(Queued),
    /// The future of a `sleep()`.
    Sleep(Own<Future>),
    /// The hook of an [alarm](crate::tasks::alarm).
    Hook(Own<crate::hook::Hook>),
}

/// Who is told that a descriptor is ready.
#[derive(Clone)]
pub(crate) enum Waiter {
    /// A handle of `add_reader` and family: run each time. And what the program has called the descriptor, if that was
    /// no number: rule 4 of `readers.rs`.
    Handle(Obj, Option<Obj>),
    /// What a `sock_*` awaits: ended once, and with it the wait.
    Future(Own<Future>),
    /// A transport or the like: told each time.
    Source(Source),
}

/// Who waits for one descriptor.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) reader: Option<Waiter>,
    pub(crate) writer: Option<Waiter>,
    /// A weak reference to the socket for which the kernel watches it: rule 2 of `readers.rs`.
    pub(crate) owner: Option<Obj>,
    /// The transport whose descriptor it is, which takes itself out of here before it dies.
    pub(crate) transport: Option<Unowned>,
}

/// The state.
#[derive(Default)]
pub(crate) struct LoopCore {
    pub(crate) ready: Fifo<Entry>,
    pub(crate) timers: Inner<Timers<Timer>>,
    pub(crate) reactor: Inner<Option<Reactor>>,
    pub(crate) events: Cell<Option<Box<Events>>>,
    pub(crate) watches: Inner<Vec<Watch>>,
    /// How many waiters there are in `watches`, and one more if there are signal handlers.
    pub(crate) watched: Cell<usize>,
    /// A buffer of `readers::dispatch`.
    pub(crate) told: Cell<Vec<(Waiter, Side)>>,
    /// What everything is read into: see [`with_scratch`](LoopCore::with_scratch).
    scratch: Cell<Option<Box<[u8]>>>,
    /// What came in and is not used any more, to be used again.
    pub(crate) spares: Spares,
    /// Those that are asked in the next turn whether there is more to read, whatever the kernel says by then.
    pub(crate) eager: Fifo<Source>,
    /// Whom datagrams came from.
    pub(crate) peers: Peers,
    /// What TLS reads into.
    pub(crate) window: OwnSlot<Window>,
    /// Transports that have something to send.
    pub(crate) outbox: Outbox,
    /// The task whose step runs. (On 3.14+ the thread state knows.)
    #[cfg(not(Py_3_14))]
    pub(crate) current: OwnSlot<Task>,
    /// `_current_tasks[loop]` has been brought up to date, and is the truth until the step ends.
    #[cfg(not(Py_3_14))]
    pub(crate) published: Cell<bool>,
    /// Rule 2.
    pub(crate) fast: Cell<bool>,
    pub(crate) patched: Cell<bool>,
    /// `time` is not our own method.
    pub(crate) own_time: Cell<bool>,
    pub(crate) debug: Cell<bool>,
    pub(crate) closed: Cell<bool>,
    pub(crate) stopping: Cell<bool>,
    pub(crate) thread: Cell<u64>,
    pub(crate) last_poll: Cell<f64>,
    /// What `effects::count()` was then.
    pub(crate) effects: Cell<u32>,
    /// It took long to win back the GIL after the last sleep.
    pub(crate) contended: Cell<bool>,
    /// How many entries have run (rule 2 of `run.rs`), and what else threads that watch may see.
    pub(crate) vitals: Arc<Vitals>,
    /// When `entries` is this, it is time for a breath (rule 2 of `run.rs`) and for a sample.
    pub(crate) breath: Cell<u64>,
    /// While it records what it does.
    flight: Inner<Option<Rc<Flight>>>,
    /// For deadlocks and cancellations.
    pub(crate) diagnosis: Diagnosis,
    /// For development.
    pub(crate) pace: Pace,
    pub(crate) forks: Cell<u32>,
    pub(crate) slow_callback_duration: Slot,
    pub(crate) current_handle: Slot,
    pub(crate) exception_handler: Slot,
    pub(crate) task_factory: Slot,
    pub(crate) default_executor: Slot,
    pub(crate) executor_shutdown: Cell<bool>,
    pub(crate) asyncgens: Slot,
    pub(crate) asyncgens_shutdown: Cell<bool>,
    pub(crate) old_asyncgen_hooks: Slot,
    pub(crate) origin_tracking: Cell<i32>,
    /// The executor of look-ups that Python makes.
    pub(crate) resolver: Slot,
    /// The threads of those that we make, and who waits for which: `lookups.rs`.
    pub(crate) names: Inner<Option<Resolver>>,
    pub(crate) asked: Inner<HashMap<u64, Own<Future>>>,
    /// `{socket: inode}` of the Unix servers whose files are ours to remove.
    pub(crate) unix_servers: Slot,
    /// `{signum: Handle}`
    pub(crate) signal_handlers: Slot,
    /// There are some, and `watched` counts them as one.
    pub(crate) has_signal_handlers: Cell<bool>,
    pub(crate) signal_pipe: Inner<Option<SignalPipe>>,
    /// The wake-up descriptor of the process is our pipe for as long as the loop runs.
    pub(crate) wakes_by_signal: Cell<bool>,
}

/// How much is read at once: asyncio's `max_size`.
pub(crate) const MOST: usize = 256 * 1024;

impl LoopCore {
    /// Uses the buffer that everything is read into. `f` must not run Python code.
    #[inline]
    pub(crate) fn with_scratch<T>(&self, f: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut scratch = self.scratch.take().unwrap_or_else(|| aioxide_core::scratch(MOST));
        let result = f(&mut scratch);
        self.scratch.set(Some(scratch));
        result
    }

    /// Puts something at the end of the ready queue.
    #[inline(always)]
    pub(crate) fn push(&self, entry: Entry) {
        self.ready.push_back(entry);
    }

    /// There is nothing to do but to wait.
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.eager.is_empty() && !self.stopping.get()
    }

    /// What `loop.time()` says: the program may have given the loop a clock of its own, by a derived class
    /// or on the instance. Deadlines are measured with it.
    #[inline]
    pub(crate) fn time(&self, loop_: &Obj) -> R<f64> {
        if self.own_time.get() {
            return loop_.call_method(&crate::imports::names::TIME, &[])?.to_f64();
        }
        Ok(self.now())
    }

    /// The monotonic clock, in seconds.
    #[inline]
    pub(crate) fn now(&self) -> f64 {
        Monotonic.now()
    }

    /// How many entries have run.
    #[inline(always)]
    pub(crate) fn entries(&self) -> u64 {
        self.vitals.pulse.entries()
    }

    /// Puts something into the timers.
    pub(crate) fn push_timer(&self, when: f64, timer: Timer) {
        self.timers.with(|timers| timers.push(when, timer));
    }

    /// A timer that is in the heap has been cancelled: it is skipped, and the heap is cleaned when
    /// there are too many of them.
    pub(crate) fn timer_cancelled(&self) {
        self.timers.with(Timers::note_cancelled);
    }

    /// Recomputes `fast` (rule 2).
    pub(crate) fn refresh_fast(&self) {
        self.fast
            .set(!self.debug.get() && !self.closed.get() && !self.patched.get());
    }

    /// Puts something at the end of the ready queue, from another thread that has more to do before it lets the loop's
    /// have the GIL: a worker of an executor wants to be seen idle again.
    pub(crate) fn push_from_worker(&self, entry: Entry) {
        self.push(entry);
        self.reactor.with(|reactor| {
            if let Some(reactor) = reactor {
                reactor.waker().wake();
            }
        });
    }

    /// A loop that sleeps in the kernel wakes up. Any thread, with the GIL, which it gives up for the system call: the
    /// loop's thread may run as soon as it is woken, and would only wait for it.
    #[inline]
    pub(crate) fn wake_up(&self) {
        let waker = self.reactor.with(|reactor| {
            let waker = reactor.as_ref()?.waker();
            waker.claim().then(|| waker.clone())
        });
        if let Some(waker) = waker {
            threads::without_gil(move || waker.signal());
        }
    }

    /// Says that `task` is the current one. Errors as asyncio's `_enter_task`.
    #[cfg(not(Py_3_14))]
    #[inline]
    pub(crate) fn enter_task(&self, task: &Own<Task>) -> R<()> {
        if !self.current.is_empty() {
            return Err(already_running(self, task)?);
        }
        self.current.fill(task.clone());
        Ok(())
    }

    /// Says that `task` is the current one. Errors as asyncio's `_enter_task`.
    #[cfg(Py_3_14)]
    #[inline]
    pub(crate) fn enter_task(&self, task: &Own<Task>) -> R<()> {
        crate::ffi::running::enter_task(task)
    }

    /// Its flight recorder, while that is on.
    #[inline]
    pub(crate) fn flight(&self) -> Option<Rc<Flight>> {
        self.flight.with(|flight| flight.clone())
    }

    /// Is it on?
    #[inline]
    pub(crate) fn is_recording(&self) -> bool {
        self.flight.with(|flight| flight.is_some())
    }

    /// Sets it, and gives back the one before, whose names are references to objects.
    pub(crate) fn set_flight(&self, flight: Option<Rc<Flight>>) -> Option<Rc<Flight>> {
        self.flight.with(|here| std::mem::replace(here, flight))
    }

    /// The address of the pointer to the current task, for [`Vitals`].
    pub(crate) fn place_of_current(&self) -> usize {
        #[cfg(not(Py_3_14))]
        {
            (&raw const self.current).addr()
        }
        #[cfg(Py_3_14)]
        {
            crate::ffi::outside::place_of_current()
        }
    }

    /// The step is over; hands on its result.
    #[cfg(not(Py_3_14))]
    #[inline]
    pub(crate) fn leave_task<T>(&self, task: &Own<Task>, result: R<T>) -> R<T> {
        drop(self.current.take());
        if self.published.replace(false) {
            return self.unpublish(task, result);
        }
        result
    }

    /// The step is over; hands on its result.
    #[cfg(Py_3_14)]
    #[inline]
    pub(crate) fn leave_task<T>(&self, task: &Own<Task>, result: R<T>) -> R<T> {
        crate::ffi::running::leave_task(task, result)
    }

    #[cfg(not(Py_3_14))]
    #[cold]
    fn unpublish<T>(&self, task: &Own<Task>, result: R<T>) -> R<T> {
        let loop_ = task.as_future().require_loop()?;
        crate::tasks::registry::unpublish(&loop_, result)
    }

    /// `_check_thread()`: debug mode only.
    pub(crate) fn check_thread(&self) -> R<()> {
        let thread = self.thread.get();
        if thread == 0 || thread == threads::ident() {
            return Ok(());
        }
        Err(crate::ffi::errors::runtime_error(
            "Non-thread-safe operation invoked on an event loop other than the current one",
        ))
    }

    /// `_check_closed()`
    #[inline]
    pub(crate) fn check_closed(&self) -> R<()> {
        if self.closed.get() {
            Err(crate::ffi::errors::runtime_error("Event loop is closed"))
        } else {
            Ok(())
        }
    }
}

#[cfg(not(Py_3_14))]
#[cold]
fn already_running(core: &LoopCore, task: &Own<Task>) -> R<crate::ffi::Raised> {
    let current = core
        .current
        .get()
        .map_or(Ok("None".into()), |task| task.obj().repr())?;
    Ok(crate::ffi::errors::runtime_error(&format!(
        "Cannot enter into task {} while another task {current} is being executed.",
        task.obj().repr()?
    )))
}

/// The state of `loop`, if it is one of ours (or derived from ours).
#[inline(always)]
pub(crate) fn of(loop_: &Obj) -> Option<&Own<LoopCore>> {
    if class::EVENT_LOOP.is_instance(loop_) {
        class::CORE.view::<LoopCore>(loop_)
    } else {
        None
    }
}

/// The state of `loop`, if it is exactly ours and nothing asks for the slow path.
#[inline(always)]
pub(crate) fn fast(loop_: &Obj) -> Option<&Own<LoopCore>> {
    if !class::EVENT_LOOP.is_exact(loop_) {
        return None;
    }
    class::CORE.view::<LoopCore>(loop_).filter(|core| core.fast.get())
}

static CLASS: ClassCell<LoopCore> = ClassCell::new();

impl Class for LoopCore {
    const NAME: &'static CStr = c"aioxide._core.LoopCore";
    const SUBCLASSABLE: bool = false;
    fn class() -> &'static ClassCell<LoopCore> {
        &CLASS
    }
    fn slots(slots: &mut Slots<LoopCore>) -> R<()> {
        slots.no_new();
        Ok(())
    }
    fn leave(&self) {
        super::signals::abandon(self);
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.ready.for_each(|entry| match entry {
            Entry::Step(task) | Entry::Wake(task) => visitor.own(task),
            Entry::Callback {
                callback,
                argument,
                context,
            } => {
                visitor.obj(callback);
                for object in [argument, context].into_iter().flatten() {
                    visitor.obj(object);
                }
            }
            Entry::Handle(handle) => handle.visit(visitor),
            Entry::Slept(future) => visitor.own(future),
            Entry::Source(source, _) => source.visit(visitor),
        });
        self.diagnosis.visit(visitor);
        self.eager.for_each(|source| source.visit(visitor));
        self.peers.visit(visitor);
        self.outbox.visit(visitor);
        self.timers.with(|timers| {
            for timer in timers.iter() {
                match timer {
                    Timer::Handle(handle) => handle.visit(visitor),
                    Timer::Sleep(future) => visitor.own(future),
                    Timer::Hook(hook) => visitor.own(hook),
                }
            }
        });
        self.watches.with(|watches| {
            for watch in watches.iter() {
                for waiter in [&watch.reader, &watch.writer].into_iter().flatten() {
                    match waiter {
                        Waiter::Handle(handle, named) => {
                            visitor.obj(handle);
                            if let Some(named) = named {
                                visitor.obj(named);
                            }
                        }
                        Waiter::Future(future) => visitor.own(future),
                        Waiter::Source(source) => source.visit(visitor),
                    }
                }
                if let Some(owner) = &watch.owner {
                    visitor.obj(owner);
                }
            }
        });
        self.asked.with(|asked| {
            for future in asked.values() {
                visitor.own(future);
            }
        });
        #[cfg(not(Py_3_14))]
        self.current.visit(visitor);
        self.window.visit(visitor);
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        drop(self.ready.take());
        drop(self.timers.with(Timers::drain));
        drop(self.watches.with(std::mem::take));
        self.outbox.clear();
        drop(self.eager.take());
        self.diagnosis.clear();
        self.peers.clear();
        self.spares.clear();
        drop(self.asked.with(std::mem::take));
        #[cfg(not(Py_3_14))]
        drop(self.current.take());
        drop(self.window.take());
        for slot in self.slots_held() {
            slot.put(None);
        }
    }
}

impl LoopCore {
    fn slots_held(&self) -> [&Slot; 10] {
        [
            &self.slow_callback_duration,
            &self.current_handle,
            &self.exception_handler,
            &self.task_factory,
            &self.default_executor,
            &self.asyncgens,
            &self.old_asyncgen_hooks,
            &self.resolver,
            &self.unix_servers,
            &self.signal_handlers,
        ]
    }
}
