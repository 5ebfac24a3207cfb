//! `asyncio.streams.FlowControlMixin`: who waits in `drain()` while a protocol is told to pause.
//!
//! Rules
//! 1. `drain()` below the mark does not suspend, and makes no future.
//! 2. Whoever waits leaves the line itself, however its wait ends.

use crate::ffi::errors::{R, assertion_error, exc, not_implemented, raise_new};
use crate::ffi::{Args, Class, ClassCell, Coroutine, Obj, Own, Raised, Slot, Slots, Step, Visitor, WeakRefs};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::locks::waiters::{self, START, Waiters};
use crate::transports::log_debug;
use std::cell::{Cell, OnceCell};
use std::ffi::CStr;
use std::mem::offset_of;

/// The struct behind `FlowControlMixin`, and the first part of `StreamReaderProtocol`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct FlowControl {
    pub(super) dict: Slot,
    weakrefs: WeakRefs,
    pub(super) loop_: Slot,
    /// Made when somebody waits.
    waiters: OnceCell<Box<Waiters>>,
    pub(super) paused: Cell<bool>,
    pub(super) connection_lost: Cell<bool>,
}

impl FlowControl {
    fn waiters(&self) -> &Waiters {
        self.waiters.get_or_init(Box::default)
    }

    /// `__init__(loop)`
    pub(crate) fn fill(&self, loop_: Option<&Obj>) -> R<()> {
        let loop_ = match loop_ {
            Some(loop_) => loop_.clone(),
            None => imports::GET_EVENT_LOOP.call0()?,
        };
        self.loop_.set(loop_);
        self.paused.set(false);
        self.connection_lost.set(false);
        if let Some(waiters) = self.waiters.get() {
            waiters.adopt(None);
        }
        Ok(())
    }

    /// `_loop`
    pub(crate) fn loop_(&self) -> Obj {
        self.loop_.get_or_none()
    }

    pub(crate) fn visit_fields(&self, visitor: &mut Visitor) {
        self.loop_.visit(visitor);
        if let Some(waiters) = self.waiters.get() {
            waiters.visit(visitor);
        }
    }

    pub(crate) fn clear_fields(&self) {
        self.loop_.put(None);
        if let Some(waiters) = self.waiters.get() {
            waiters.clear();
        }
    }
}

impl Own<FlowControl> {
    /// `pause_writing()`
    pub(super) fn pause_writing(&self) -> R<()> {
        if self.paused.replace(true) {
            return Err(assertion_error(""));
        }
        self.say("%r pauses writing")
    }

    /// `resume_writing()`
    pub(super) fn resume_writing(&self) -> R<()> {
        if !self.paused.replace(false) {
            return Err(assertion_error(""));
        }
        self.say("%r resumes writing")?;
        self.wake_all()
    }

    /// `connection_lost(exc)`
    pub(super) fn lose_connection(&self, exception: &Obj) -> R<()> {
        self.connection_lost.set(true);
        // whoever waits goes on, now that nothing will resume it
        if !self.paused.get() {
            return Ok(());
        }
        match (exception.non_none(), self.waiters.get()) {
            (Some(exception), Some(waiters)) => waiters.fail_all(exception),
            _ => self.wake_all(),
        }
    }

    fn wake_all(&self) -> R<()> {
        match self.waiters.get() {
            Some(waiters) => waiters.wake_many(f64::INFINITY, &Obj::none()),
            None => Ok(()),
        }
    }

    fn say(&self, text: &str) -> R<()> {
        let loop_ = self.loop_.get_or_none();
        if crate::event_loop::core::fast(&loop_).is_some()
            || !loop_.call_method(&names::GET_DEBUG, &[])?.truth()?
        {
            return Ok(());
        }
        log_debug(text, &[self.obj()], None)
    }

    /// `await self._drain_helper()` begins, in a coroutine of ours.
    #[inline]
    pub(super) fn begin_to_drain(&self, co: &Own<Coroutine>) -> R<Step> {
        if self.connection_lost.get() {
            return Err(connection_lost());
        }
        if !self.paused.get() {
            return Ok(Step::Return(Obj::none()));
        }
        let future = methods::create(&self.loop_.get_or_none())?;
        self.waiters().add(&future)?;
        let step = waiters::park(co, future);
        Ok(self.drained(co, step))
    }

    /// Rule 2.
    pub(super) fn drained(&self, co: &Own<Coroutine>, step: Step) -> Step {
        match step {
            Step::Yield(future) => Step::Yield(future),
            Step::Return(_) => match self.waiters().remove(&waiters::unpark(co)) {
                Ok(()) => Step::Return(Obj::none()),
                Err(raised) => Step::Raise(raised),
            },
            Step::Raise(raised) => {
                waiters::cleaning_up(raised, |_| self.waiters().remove(&waiters::unpark(co)))
            }
        }
    }
}

#[cold]
fn connection_lost() -> Raised {
    raise_new(exc::connection_reset_error(), "Connection lost")
}

fn drain_helper(args: &Args) -> R<Obj> {
    let step = |co: &Own<Coroutine>, input: R<&Obj>| {
        let this = match co.this::<FlowControl>() {
            Ok(this) => this,
            Err(raised) => return Step::Raise(raised),
        };
        if co.stage.get() == START {
            return this.begin_to_drain(co).unwrap_or_else(Step::Raise);
        }
        let step = waiters::resume(co, input);
        this.drained(co, step)
    };
    Coroutine::of_method("FlowControlMixin._drain_helper", step, args.req(0)?.clone()).alloc()
}

static CLASS: ClassCell<FlowControl> = ClassCell::new();

impl Class for FlowControl {
    const NAME: &'static CStr = c"asyncio.streams.FlowControlMixin";
    const DICT: Option<usize> = Some(offset_of!(FlowControl, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(FlowControl, weakrefs));

    fn class() -> &'static ClassCell<FlowControl> {
        &CLASS
    }
    fn slots(slots: &mut Slots<FlowControl>) -> R<()> {
        slots.init("(self, loop=None)", |args| {
            args.this::<FlowControl>()?.fill(args.opt(1))?;
            Ok(Obj::none())
        });
        slots.attribute("__doc__", imports::STREAM_FLOW_CONTROL.getattr_str("__doc__")?);
        slots.method("pause_writing(self)", |args| {
            args.this::<FlowControl>()?.pause_writing()?;
            Ok(Obj::none())
        })?;
        slots.method("resume_writing(self)", |args| {
            args.this::<FlowControl>()?.resume_writing()?;
            Ok(Obj::none())
        })?;
        slots.method("connection_lost(self, exc)", |args| {
            args.this::<FlowControl>()?.lose_connection(args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.async_method("_drain_helper(self)", drain_helper)?;
        slots.method("_get_close_waiter(self, stream)", |_| Err(not_implemented("")))?;
        slots.object(c"_loop", |this| &this.loop_);
        slots.flag(c"_paused", |this| &this.paused);
        slots.flag(c"_connection_lost", |this| &this.connection_lost);
        slots.get_set(
            c"_drain_waiters",
            |this| this.waiters().lend(),
            |this, value| {
                this.waiters().adopt(value);
                Ok(())
            },
        );
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.visit_fields(visitor);
    }
    fn clear(&self) {
        self.clear_fields();
    }
}
