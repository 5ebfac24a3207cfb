//! `asyncio.timeouts`: Timeout, timeout, timeout_at.
//!
//! Rules
//! 1. Created → Active → (Expiring → Expired | Finished); nothing else writes `state`.
//! 2. Entering and leaving never suspend. On our own loop they make no handle and no float: the
//!    deadline is a number until somebody asks for it.
//! 3. Every cancellation that the timeout asks for is taken back in `exit`, once.

use crate::copying::{self, Copied};
use crate::diag::cancels::{self, Why};
use crate::ffi::errors::{exc, not_deleted, raise, runtime_error, value_error};
use crate::ffi::function::Kind::Plain;
use crate::ffi::object::exact_number;
use crate::ffi::{
    Args, Class, ClassCell, Coroutine, Obj, Own, R, Raised, Slot, Slots, Step, Visitor, WeakRefs, class,
    exceptions, running,
};
use crate::futures::callbacks;
use crate::hook::Hook;
use crate::imports::{self, names};
use crate::tasks::{alarm, registry, waiting};
use crate::version;
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// `timeouts._State`
#[derive(Clone, Copy, PartialEq, Default)]
enum State {
    #[default]
    Created,
    Active,
    Expiring,
    Expired,
    Finished,
}

const STATES: [State; 5] = [
    State::Created,
    State::Active,
    State::Expiring,
    State::Expired,
    State::Finished,
];

impl State {
    /// The value of the enum's member, shown in texts.
    fn text(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Active => "active",
            State::Expiring => "expiring",
            State::Expired => "expired",
            State::Finished => "finished",
        }
    }
}

/// The struct behind `asyncio.Timeout`.
#[derive(Default)]
pub(crate) struct Timeout {
    dict: Slot,
    weakrefs: WeakRefs,
    state: Cell<State>,
    /// The deadline, if the timeout made it itself: `_when` as a number (rule 2).
    deadline: Cell<Option<f64>>,
    /// `_when`, if it was given or has been asked for. Both empty: no deadline.
    when: Slot,
    /// `_timeout_handler`
    alarm: Slot,
    task: Slot,
    /// `_cancelling`: the task's count when it entered.
    cancelling: Cell<i64>,
}

/// `timeout(delay)`; `None`: no deadline.
pub(crate) fn after(loop_: &Obj, delay: Option<&Obj>) -> R<Own<Timeout>> {
    let timeout = Timeout::default();
    if let Some(delay) = delay {
        match (crate::event_loop::core::fast(loop_), exact_number(delay)) {
            (Some(core), Some(seconds)) => timeout.deadline.set(Some(core.now() + seconds)),
            _ => timeout
                .when
                .set(loop_.call_method(&names::TIME, &[])?.add(delay)?),
        }
    }
    CLASS.alloc(timeout)
}

impl Own<Timeout> {
    /// `__aenter__`
    pub(crate) fn enter(&self, loop_: &Obj) -> R<()> {
        if self.state.get() != State::Created {
            return Err(runtime_error("Timeout has already been entered"));
        }
        let Some(task) = registry::current(loop_)? else {
            return Err(runtime_error("Timeout should be used inside a task"));
        };
        self.state.set(State::Active);
        let cancelling = waiting::cancelling(&task);
        self.task.set(task);
        self.cancelling.set(cancelling?);
        if self.is_exact() {
            return self.arm(loop_);
        }
        self.obj().call_method_str("reschedule", &[&self.when()?])?;
        Ok(())
    }

    /// `_when`
    fn when(&self) -> R<Obj> {
        match (self.when.get(), self.deadline.get()) {
            (Some(when), _) => Ok(when),
            (None, None) => Ok(Obj::none()),
            (None, Some(seconds)) => {
                let when = Obj::float(seconds)?;
                self.when.set(when.clone());
                Ok(when)
            }
        }
    }

    /// Sets the alarm, if there is a deadline.
    #[inline]
    fn arm(&self, loop_: &Obj) -> R<()> {
        let seconds = match (self.deadline.get(), self.when.get()) {
            (Some(seconds), _) => seconds,
            (None, Some(when)) => when.to_f64()?,
            (None, None) => return Ok(()),
        };
        let hook = Hook::new("Timeout._on_timeout", ring, Some(self.obj().clone()), None)?;
        let alarm = alarm::at(loop_, seconds, || self.when(), hook)?;
        self.alarm.set(alarm);
        Ok(())
    }

    /// The task that it will cancel.
    pub(crate) fn task(&self) -> Option<Obj> {
        self.task.get()
    }

    fn disarm(&self) -> R<()> {
        self.alarm.take().map_or(Ok(()), |alarm| alarm::cancel(&alarm))
    }

    /// `reschedule(when)`
    fn reschedule(&self, when: Option<&Obj>) -> R<()> {
        match self.state.get() {
            State::Active => {}
            State::Created => return Err(runtime_error("Timeout has not been entered")),
            state => {
                return Err(runtime_error(&format!(
                    "Cannot change state of {} Timeout",
                    state.text()
                )));
            }
        }
        self.deadline.set(None);
        self.when.put(when.cloned());
        self.disarm()?;
        if when.is_some() {
            self.arm(&running::require()?)
        } else {
            Ok(())
        }
    }

    /// The deadline has come: `_on_timeout()`.
    fn expire(&self) -> R<()> {
        if self.state.get() != State::Active {
            return Err(out_of_order());
        }
        if let Some(task) = self.task.get() {
            cancels::because(Why::Timeout, || callbacks::cancel(&task, None))?;
        }
        self.state.set(State::Expiring);
        self.alarm.put(None);
        Ok(())
    }

    /// `__aexit__`: `Err` with TimeoutError, if the cancellation that leaves the block is this timeout's.
    /// `kind` and `value`: the exception with which the block ends.
    #[inline]
    pub(crate) fn exit(&self, kind: Option<&Obj>, value: Option<&Obj>) -> R<()> {
        let state = self.state.get();
        if !matches!(state, State::Active | State::Expiring) {
            return Err(out_of_order());
        }
        self.disarm()?;
        if state == State::Active {
            self.state.set(State::Finished);
            return Ok(());
        }
        self.exit_expired(kind, value)
    }

    #[cold]
    fn exit_expired(&self, kind: Option<&Obj>, value: Option<&Obj>) -> R<()> {
        self.state.set(State::Expired);
        let task = self.task.get_or_none();
        if kind.is_none() {
            cancels::swallowed_by_block(&task);
        }
        let left = waiting::uncancel(&task)?;
        let Some(kind) = kind.filter(|_| left <= self.cancelling.get()) else {
            return Ok(());
        };
        // Nobody else wants the task cancelled: it is for us to handle.
        let cancelled = if version::CANCELLED_SUBCLASS.get() {
            kind.issubclass(&imports::CANCELLED_ERROR)?
        } else {
            kind.is(&imports::CANCELLED_ERROR)
        };
        match value {
            _ if cancelled => Err(waiting::timed_out(value)),
            Some(value) if version::TIMEOUT_INSERTS_CONTEXT.get() => insert_everywhere(value),
            _ => Ok(()),
        }
    }
}

/// `assert self._state is …`
#[cold]
fn out_of_order() -> Raised {
    exc::assertion_error()
        .call0()
        .map_or_else(|raised| raised, |error| raise(&error))
}

/// The alarm's function.
fn ring(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    let timeout = hook.a.take();
    match timeout.as_ref().and_then(|timeout| CLASS.instance(timeout)) {
        Some(timeout) => timeout.expire(),
        None => Ok(()),
    }
}

/// The block ended with another exception while it was being cancelled: the chain says that this was a timeout.
fn insert_everywhere(exception: &Obj) -> R<()> {
    insert_timeout_error(exception)?;
    if exception.isinstance(&imports::EXCEPTION_GROUP)? {
        for each in exception.getattr_str("exceptions")?.to_vec()? {
            insert_timeout_error(&each)?;
        }
    }
    Ok(())
}

/// `_insert_timeout_error(exc_val)`: between the first CancelledError in the chain and what it led to.
fn insert_timeout_error(exception: &Obj) -> R<()> {
    let mut exception = exception.clone();
    while let Some(context) = exceptions::context(&exception) {
        if context.isinstance(&imports::CANCELLED_ERROR)? {
            let timeout = exc::timeout_error().call0()?;
            exceptions::set_cause(&timeout, Some(context.clone()));
            exceptions::set_context(&timeout, Some(context));
            exceptions::set_context(&exception, Some(timeout));
            break;
        }
        exception = context;
    }
    Ok(())
}

/// Locals of `__aexit__`.
const KIND: usize = 1;
const VALUE: usize = 2;

fn aenter(args: &Args) -> R<Obj> {
    fn step(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
        let entered = input.and_then(|_| {
            let timeout = this.this::<Timeout>()?;
            timeout.enter(&running::require()?)?;
            Ok(timeout.obj().clone())
        });
        Step::from(entered)
    }
    let this = args.this::<Timeout>()?.obj().clone();
    Coroutine::of_method("Timeout.__aenter__", step, this).alloc()
}

fn aexit(args: &Args) -> R<Obj> {
    fn step(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
        let (kind, value) = (this.locals[KIND].take(), this.locals[VALUE].take());
        let left = input.and_then(|_| this.this::<Timeout>()?.exit(kind.as_ref(), value.as_ref()));
        Step::from(left.map(|()| Obj::none()))
    }
    let this = args.this::<Timeout>()?.obj().clone();
    let coroutine = Coroutine::of_method("Timeout.__aexit__", step, this);
    coroutine.locals[KIND].put(args.opt(1).cloned());
    coroutine.locals[VALUE].put(args.opt(2).cloned());
    coroutine.alloc()
}

fn init(args: &Args) -> R<Obj> {
    let this = args.this::<Timeout>()?;
    this.state.set(State::Created);
    this.deadline.set(None);
    this.when.put(args.opt(1).cloned());
    this.alarm.put(None);
    this.task.put(None);
    Ok(Obj::none())
}

fn reschedule(args: &Args) -> R<Obj> {
    args.this::<Timeout>()?.reschedule(args.opt(1))?;
    Ok(Obj::none())
}

fn on_timeout(args: &Args) -> R<Obj> {
    args.this::<Timeout>()?.expire()?;
    Ok(Obj::none())
}

fn expired(args: &Args) -> R<Obj> {
    Ok(Obj::bool(matches!(
        args.this::<Timeout>()?.state.get(),
        State::Expiring | State::Expired
    )))
}

fn repr(this: &Own<Timeout>) -> R<Obj> {
    let state = this.state.get();
    let mut text = format!("<Timeout [{}]", state.text());
    if state == State::Active {
        let when = this.when()?;
        let rounded = match when.non_none() {
            Some(when) => imports::ROUND.call(&[when, &Obj::int(3)?])?,
            None => when,
        };
        text += &format!(" when={}", rounded.to_str()?.to_string()?);
    }
    Obj::str(&(text + ">"))
}

fn timeout(args: &Args) -> R<Obj> {
    Ok(after(&running::require()?, args.opt(0))?.into_obj())
}

fn timeout_at(args: &Args) -> R<Obj> {
    let timeout = Timeout::default();
    timeout.when.put(args.opt(0).cloned());
    Ok(CLASS.alloc(timeout)?.into_obj())
}

static CLASS: ClassCell<Timeout> = ClassCell::new();

/// asyncio's private attributes.
fn attributes(slots: &mut Slots<Timeout>) {
    slots.get_set(
        c"_when",
        |this| this.when(),
        |this, value| {
            this.deadline.set(None);
            this.when.put(not_deleted(value)?.non_none().cloned());
            Ok(())
        },
    );
    slots.object(c"_task", |this| &this.task);
    slots.object(c"_timeout_handler", |this| &this.alarm);
    slots.get_set(
        c"_cancelling",
        |this| Obj::int(this.cancelling.get()),
        |this, value| {
            this.cancelling.set(not_deleted(value)?.to_i64()?);
            Ok(())
        },
    );
    slots.get_set(
        c"_state",
        |this| imports::TIMEOUT_STATE.call(&[&Obj::str(this.state.get().text())?]),
        |this, value| {
            let text = not_deleted(value)?.getattr(&names::VALUE)?.to_string()?;
            match STATES.iter().find(|state| state.text() == text) {
                Some(state) => this.state.set(*state),
                None => return Err(value_error(&format!("{text} is no state of a timeout"))),
            }
            Ok(())
        },
    );
}

impl Copied for Timeout {
    const STATE: &'static [&'static str] = &["_state", "_timeout_handler", "_task", "_when", "_cancelling"];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

impl Class for Timeout {
    const NAME: &'static CStr = c"asyncio.timeouts.Timeout";
    const DICT: Option<usize> = Some(offset_of!(Timeout, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Timeout, weakrefs));
    const FREELIST: usize = 255;

    fn class() -> &'static ClassCell<Timeout> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Timeout>) -> R<()> {
        slots.init("(self, when)", init);
        slots.repr(repr);
        slots.method("when(self)", |args| args.this::<Timeout>()?.when())?;
        slots.method("reschedule(self, when)", reschedule)?;
        slots.method("expired(self)", expired)?;
        slots.async_method("__aenter__(self)", aenter)?;
        slots.async_method("__aexit__(self, exc_type, exc_val, exc_tb)", aexit)?;
        slots.method("_on_timeout(self)", on_timeout)?;
        attributes(slots);
        copying::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in [&self.when, &self.alarm, &self.task] {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        for slot in [&self.when, &self.alarm, &self.task] {
            slot.put(None);
        }
    }
}

/// Exports this area's classes and functions.
pub(crate) fn register(module: &Obj) -> R<()> {
    class::create::<Timeout>(None)?;
    module.setattr_str("Timeout", CLASS.get())?;
    crate::module::export(
        module,
        &[
            ("asyncio.timeouts", "timeout(delay)", timeout, Plain),
            ("asyncio.timeouts", "timeout_at(when)", timeout_at, Plain),
        ],
    )
}
