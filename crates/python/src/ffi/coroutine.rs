//! `coroutine`: what our `async def`s return.
//!
//! Two kinds of body share one object:
//! * a *step function* `fn(&Own<Coroutine>, R<Obj>) -> Step`, a state machine by hand, for what is hot
//!   (`sleep`, `Lock.acquire`, `Queue.get`): no allocation but the object itself;
//! * a Rust `async` block that awaits through [`Co`], for what is intricate (`Barrier.wait`,
//!   `TaskGroup.__aexit__`): it reads like the Python that it replaces.
//!
//! Rule: no `Obj` lives across an `.await` in a Rust variable; it lies in `locals`, where the garbage
//! collector sees it.
//!
//! To Python it behaves as a coroutine does: `send/throw/close`, `cr_*`, "was never awaited",
//! "cannot reuse already awaited coroutine", StopIteration inside becomes RuntimeError.

use super::class::{Class, ClassCell, Own, Resume, Slots, Step, Visitor};
use super::errors::{R, Raised, exc, raise, runtime_error, type_error, value_error};
use super::function::Args;
use super::object::Obj;
use super::{Slot, WeakRefs, exceptions, send};
use crate::diag::dev;
use crate::version;
use std::cell::{Cell, UnsafeCell};
use std::ffi::CStr;
use std::future::Future;
use std::mem::offset_of;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// How many objects every body can keep.
pub(crate) const LOCALS: usize = 4;
/// How many more an `async` body can keep.
const MORE_LOCALS: usize = 6;

/// Where the qualified name is: `stack.rs` reads it.
pub(super) const NAME_OFFSET: usize = offset_of!(Coroutine, name);

/// A body as a step function. The input is what was sent in; `Err`: an exception was thrown in (and is set).
pub(crate) type StepFn = fn(&Own<Coroutine>, R<&Obj>) -> Step;

#[derive(Clone, Copy, PartialEq, Default)]
enum Status {
    #[default]
    Created,
    Suspended,
    Running,
    Closed,
}

/// The object.
#[derive(Default)]
pub(crate) struct Coroutine {
    weakrefs: WeakRefs,
    name: Cell<&'static str>,
    step: Cell<Option<StepFn>>,
    /// `self` of a method with a step function. Rule: it is there until the body has ended, for only
    /// [`finish`](Coroutine::finish) takes it away.
    this: Slot,
    /// Objects of the body. Of an `async` one 0 is `self`.
    pub(crate) locals: [Slot; LOCALS],
    /// A number of the body (a delay, a count).
    pub(crate) number: Cell<f64>,
    /// Where a step function is.
    pub(crate) stage: Cell<u8>,
    status: Cell<Status>,
    /// It was hidden from the garbage collector when it was made, and has not suspended since.
    unseen: Cell<bool>,
    machine: UnsafeCell<Option<Box<Machine>>>,
}

/// What only `async` bodies need.
struct Machine {
    body: UnsafeCell<Pin<Box<dyn Future<Output = R<Obj>>>>>,
    /// The iterator of what is awaited.
    awaiting: Slot,
    inbox: Cell<Option<R<Obj>>>,
    outbox: Slot,
    /// Objects from [`LOCALS`] on.
    locals: [Slot; MORE_LOCALS],
}

impl Status {
    /// What `inspect.getcoroutinestate()` says.
    fn text(self) -> &'static str {
        match self {
            Status::Created => "CORO_CREATED",
            Status::Suspended => "CORO_SUSPENDED",
            Status::Running => "CORO_RUNNING",
            Status::Closed => "CORO_CLOSED",
        }
    }
}

/// Where the fields are that `diag/attach` reads without the GIL.
pub(crate) mod layout {
    use super::Coroutine;
    use std::mem::offset_of;

    pub(crate) const THIS: usize = offset_of!(Coroutine, this);
    pub(crate) const NUMBER: usize = offset_of!(Coroutine, number);
}

/// A coroutine has been made.
#[inline(always)]
fn made(coroutine: Obj) -> Obj {
    if dev::enabled() {
        dev::note_made(&coroutine);
    }
    coroutine
}

/// "coroutine … was never awaited", told to whoever is told of the interpreter's own.
fn warn_unawaited(coroutine: &Obj) -> R<Obj> {
    if dev::enabled() {
        return dev::warn_unawaited(coroutine);
    }
    crate::imports::WARN_UNAWAITED.call(&[coroutine])
}

impl Coroutine {
    /// A coroutine with a step function. `name` is its qualified name.
    #[inline(always)]
    pub(crate) fn stepping(name: &'static str, step: StepFn) -> Coroutine {
        let coroutine = Coroutine::default();
        coroutine.name.set(name);
        coroutine.step.set(Some(step));
        coroutine
    }

    /// The coroutine of a method: its body finds the object by [`this`](Own::this).
    #[inline(always)]
    pub(crate) fn of_method(name: &'static str, step: StepFn, this: Obj) -> Coroutine {
        let coroutine = Coroutine::stepping(name, step);
        coroutine.this.set(this);
        coroutine
    }

    /// Goes on by another step function.
    pub(crate) fn become_step(&self, step: StepFn) {
        self.step.set(Some(step));
    }

    /// Puts it behind an object head.
    #[inline(always)]
    pub(crate) fn alloc(self) -> R<Obj> {
        self.unseen.set(true);
        Ok(made(CLASS.alloc_unseen(self)?.into_obj()))
    }

    /// As [`alloc`](Coroutine::alloc), for one that holds no object yet: the garbage collector need not see
    /// it. To be [tracked](Own::track) before it holds one.
    #[inline(always)]
    pub(crate) fn alloc_empty(self) -> R<Obj> {
        debug_assert!(self.this.is_empty() && self.locals.iter().all(Slot::is_empty));
        Ok(made(CLASS.alloc_untracked(self)?.into_obj()))
    }

    /// A coroutine with an `async` body. `locals` are put in place before the body is made.
    pub(crate) fn boxed<F: Future<Output = R<Obj>> + 'static>(
        name: &'static str,
        locals: &[&Obj],
        body: impl FnOnce(Co) -> F,
    ) -> R<Obj> {
        let coroutine = Coroutine::stepping(name, poll);
        for (slot, value) in coroutine.locals.iter().zip(locals) {
            slot.set((*value).clone());
        }
        let object = CLASS.alloc(coroutine)?;
        let co = Co(&raw const *object);
        let machine = Machine {
            body: UnsafeCell::new(Box::pin(body(co))),
            awaiting: Slot::default(),
            inbox: Cell::new(None),
            outbox: Slot::default(),
            locals: Default::default(),
        };
        // SAFETY: nobody else has seen the object yet.
        unsafe { *object.machine.get() = Some(Box::new(machine)) };
        Ok(made(object.into_obj()))
    }

    fn machine(&self) -> Option<&Machine> {
        // SAFETY: replaced only by `boxed` (before anybody sees the object) and `finish` (when no poll is on).
        unsafe { (*self.machine.get()).as_deref() }
    }

    /// Has it an `async` body?
    pub(crate) fn is_async(&self) -> bool {
        self.machine().is_some()
    }

    /// It has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.status.get() == Status::Closed
    }

    /// `__qualname__`
    pub(crate) fn qualified_name(&self) -> &'static str {
        self.name.get()
    }

    /// What its body awaits: a future, an iterator, another coroutine.
    pub(crate) fn awaited(&self) -> Option<Obj> {
        match self.machine() {
            Some(machine) => machine.awaiting.get(),
            None => self.locals[LOCALS - 1].get(),
        }
    }

    /// `self` of a method.
    pub(crate) fn subject(&self) -> Option<Obj> {
        self.this.get().or_else(|| self.locals[0].get())
    }

    /// `self`, if it is that of a method with a step function.
    pub(crate) fn receiver(&self) -> Option<Obj> {
        self.this.get()
    }

    /// Drops everything that the body had.
    #[inline(always)]
    fn finish(&self) {
        self.status.set(Status::Closed);
        if !Slot::are_empty(&self.locals) || self.machine().is_some() {
            self.drop_locals();
        }
        self.this.put(None);
    }

    #[inline(never)]
    fn drop_locals(&self) {
        for local in &self.locals {
            local.put(None);
        }
        // SAFETY: the status says that nothing runs; the box is taken out before it is dropped.
        let machine = unsafe { (*self.machine.get()).take() };
        drop(machine);
    }
}

impl Own<Coroutine> {
    /// `self` of a method, in its step function.
    #[inline(always)]
    pub(crate) fn this<T: Class>(&self) -> R<&Own<T>> {
        // SAFETY: the step function runs, so the status keeps `finish` away until it has returned.
        let this = unsafe { self.this.peek() };
        let this = this.and_then(|this| match T::class().exact(this) {
            Some(this) => Some(this),
            None => T::class().instance(this),
        });
        this.ok_or_else(|| type_error("wrong self"))
    }
}

/// The body's view of its coroutine. Valid while the body lives, which the coroutine owns.
#[derive(Clone, Copy)]
pub(crate) struct Co(*const Coroutine);

impl Co {
    fn coroutine(&self) -> &Coroutine {
        // SAFETY: the body that holds this `Co` is owned by the coroutine, whose address is fixed.
        unsafe { &*self.0 }
    }

    /// Object `index` of the body.
    pub(crate) fn local(&self, index: usize) -> Obj {
        self.place(index).map_or_else(Obj::none, Slot::get_or_none)
    }

    /// Puts object `index`.
    pub(crate) fn set(&self, index: usize, value: Obj) {
        if let Some(place) = self.place(index) {
            place.set(value);
        }
    }

    /// Takes object `index` out.
    pub(crate) fn take(&self, index: usize) -> Option<Obj> {
        self.place(index).and_then(Slot::take)
    }

    /// Nowhere, once the coroutine has been cleared.
    fn place(&self, index: usize) -> Option<&Slot> {
        debug_assert!(index < LOCALS + MORE_LOCALS);
        let coroutine = self.coroutine();
        match coroutine.locals.get(index) {
            Some(place) => Some(place),
            None => coroutine.machine()?.locals.get(index - LOCALS),
        }
    }

    /// `self` of a method: local 0.
    pub(crate) fn this<T: Class>(&self) -> R<Own<T>> {
        let this = self.local(0);
        T::class()
            .instance(&this)
            .cloned()
            .ok_or_else(|| type_error("wrong self"))
    }

    /// Suspends with `value` (None or a future). `Err`: an exception was thrown in.
    pub(crate) fn suspend(&self, value: Obj) -> impl Future<Output = R<Obj>> + use<> {
        if let Some(machine) = self.coroutine().machine() {
            machine.outbox.set(value);
        }
        Suspend {
            co: *self,
            suspended: false,
        }
    }

    /// `await object`
    pub(crate) async fn wait(&self, object: Obj) -> R<Obj> {
        {
            let iter = send::await_iter(&object)?;
            let Some(machine) = self.coroutine().machine() else {
                return Err(runtime_error("closed"));
            };
            machine.awaiting.set(iter);
        }
        drop(object);
        let mut input: R<Obj> = Ok(Obj::none());
        loop {
            let step = {
                let Some(machine) = self.coroutine().machine() else {
                    return Err(runtime_error("closed"));
                };
                let iter = machine.awaiting.get_or_none();
                match input {
                    Ok(value) => send::send(&iter, &value),
                    Err(raised) => delegate_throw(&iter, raised),
                }
            };
            match step {
                Step::Yield(value) => input = self.suspend(value).await,
                Step::Return(value) => {
                    self.done_waiting();
                    return Ok(value);
                }
                Step::Raise(raised) => {
                    // what the iterator's deallocation runs must not disturb the exception
                    let exception = raised.take();
                    self.done_waiting();
                    return Err(raise(&exception));
                }
            }
        }
    }

    fn done_waiting(&self) {
        if let Some(machine) = self.coroutine().machine() {
            machine.awaiting.put(None);
        }
    }
}

/// Throws into what is awaited, as `yield from` does.
#[cold]
pub(crate) fn delegate_throw(iter: &Obj, raised: Raised) -> Step {
    let closing = raised.matches(exc::generator_exit());
    let exception = raised.take();
    if closing {
        return match iter
            .getattr_opt(&crate::imports::names::CLOSE)
            .and_then(|close| close.map_or(Ok(Obj::none()), |c| c.call0()))
        {
            Ok(_) => Step::Raise(raise(&exception)),
            Err(raised) => Step::Raise(raised),
        };
    }
    match iter.getattr_opt(&crate::imports::names::THROW) {
        Ok(Some(_)) => send::throw(iter, &exception),
        Ok(None) => Step::Raise(raise(&exception)),
        Err(raised) => Step::Raise(raised),
    }
}

struct Suspend {
    co: Co,
    suspended: bool,
}

impl Future for Suspend {
    type Output = R<Obj>;
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<R<Obj>> {
        if !self.suspended {
            self.suspended = true;
            return Poll::Pending;
        }
        match self
            .co
            .coroutine()
            .machine()
            .and_then(|machine| machine.inbox.take())
        {
            Some(input) => Poll::Ready(input),
            None => Poll::Pending,
        }
    }
}

/// The step function of all `async` bodies.
fn poll(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let Some(machine) = this.machine() else {
        return Step::Raise(runtime_error("closed"));
    };
    machine.inbox.set(Some(input.cloned()));
    // SAFETY: the status `Running` keeps everybody else out of the body, and `finish` runs after it.
    let body = unsafe { &mut *machine.body.get() };
    match body.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Step::from(result),
        Poll::Pending => match machine.outbox.take() {
            Some(value) => Step::Yield(value),
            None => Step::Raise(runtime_error("a native coroutine suspended without a value")),
        },
    }
}

impl Resume for Coroutine {
    /// With the checks of a real coroutine.
    #[inline(always)]
    fn resume(this: &Own<Coroutine>, value: &Obj) -> Step {
        match this.status.get() {
            Status::Suspended => {}
            Status::Created if value.is_none() => {}
            status => return refuse(status),
        }
        advance(this, Ok(value))
    }
}

#[cold]
fn refuse(status: Status) -> Step {
    Step::Raise(match status {
        Status::Created => type_error("can't send non-None value to a just-started coroutine"),
        Status::Running => value_error("coroutine already executing"),
        _ => runtime_error("cannot reuse already awaited coroutine"),
    })
}

#[inline(always)]
fn advance(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let Some(step) = this.step.get() else {
        return Step::Raise(runtime_error("uninitialised coroutine"));
    };
    this.status.set(Status::Running);
    match step(this, input) {
        Step::Yield(value) => {
            this.status.set(Status::Suspended);
            if this.unseen.replace(false) {
                this.track();
            }
            Step::Yield(value)
        }
        Step::Return(value) => {
            this.finish();
            Step::Return(value)
        }
        Step::Raise(raised) => ended_by(this, raised),
    }
}

#[cold]
fn ended_by(this: &Own<Coroutine>, raised: Raised) -> Step {
    let stop = raised.matches(exc::stop_iteration());
    let exception = raised.take();
    this.finish();
    if !stop {
        return Step::Raise(raise(&exception));
    }
    let raised = runtime_error("coroutine raised StopIteration");
    let wrapped = raised.take();
    exceptions::set_cause(&wrapped, Some(exception.clone()));
    exceptions::set_context(&wrapped, Some(exception));
    Step::Raise(raise(&wrapped))
}

fn throw_into(this: &Own<Coroutine>, exception: &Obj) -> Step {
    match this.status.get() {
        Status::Created => {
            this.finish();
            Step::Raise(raise(exception))
        }
        Status::Suspended => advance(this, Err(raise(exception))),
        status => refuse(status),
    }
}

fn to_result(step: Step) -> R<Obj> {
    match step {
        Step::Yield(value) => Ok(value),
        Step::Return(value) => {
            send::stop_iteration(value);
            Err(Raised::set())
        }
        Step::Raise(raised) => Err(raised),
    }
}

pub(super) fn method_send(args: &Args) -> R<Obj> {
    to_result(Coroutine::resume(args.this()?, args.req(1)?))
}

pub(super) fn method_throw(args: &Args) -> R<Obj> {
    let this = args.this::<Coroutine>()?;
    to_result(throw_into(this, &crate::futures::iter::thrown(args)?))
}

pub(super) fn method_close(args: &Args) -> R<Obj> {
    let this = args.this::<Coroutine>()?;
    match this.status.get() {
        Status::Created | Status::Closed => {
            this.finish();
            return Ok(Obj::none());
        }
        Status::Running => return Err(value_error("coroutine already executing")),
        Status::Suspended => {}
    }
    match throw_into(this, &exc::generator_exit().call0()?) {
        Step::Yield(_) => Err(runtime_error("coroutine ignored GeneratorExit")),
        // 3.13+ returns the value
        Step::Return(value) => Ok(if cfg!(Py_3_13) { value } else { Obj::none() }),
        Step::Raise(raised)
            if raised.matches(exc::generator_exit()) || raised.matches(exc::stop_iteration()) =>
        {
            raised.ignore();
            Ok(Obj::none())
        }
        Step::Raise(raised) => Err(raised),
    }
}

fn itself(this: &Own<Coroutine>) -> R<Obj> {
    Ok(this.obj().clone())
}

fn repr(this: &Own<Coroutine>) -> R<Obj> {
    Obj::str(&format!(
        "<coroutine object {} at {:p}>",
        this.name.get(),
        this.obj().as_ptr()
    ))
}

fn name(this: &Own<Coroutine>) -> R<Obj> {
    Obj::str(this.name.get().rsplit('.').next().unwrap_or_default())
}

fn qualname(this: &Own<Coroutine>) -> R<Obj> {
    Obj::str(this.name.get())
}

fn awaiting(this: &Own<Coroutine>) -> R<Obj> {
    if this.status.get() != Status::Suspended {
        return Ok(Obj::none());
    }
    if let Some(inner) = crate::frames::awaiting(this)? {
        return Ok(inner);
    }
    Ok(this.machine().map_or_else(
        || this.locals[LOCALS - 1].get_or_none(),
        |machine| machine.awaiting.get_or_none(),
    ))
}

static CLASS: ClassCell<Coroutine> = ClassCell::new();

impl Class for Coroutine {
    const NAME: &'static CStr = c"aioxide._core.coroutine";
    const SUBCLASSABLE: bool = false;
    const WEAKREFS: Option<usize> = Some(offset_of!(Coroutine, weakrefs));
    const FINALIZE: bool = true;
    const FREELIST: usize = 255;

    fn class() -> &'static ClassCell<Coroutine> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Coroutine>) -> R<()> {
        slots.no_new();
        slots.repr(repr);
        slots.await_(itself);
        slots.resume();
        slots.hidden_method("__await__(self, /)", super::coroutine_wrapper::of)?;
        slots.method("send(self, value, /)", method_send)?;
        slots.method("throw(self, typ, val=None, tb=None, /)", method_throw)?;
        slots.method("close(self, /)", method_close)?;
        slots.hidden_method("__reduce_ex__(self, protocol, /)", |_| {
            Err(type_error("cannot pickle 'coroutine' object"))
        })?;
        slots.get(c"__name__", name);
        slots.get(c"__qualname__", qualname);
        slots.get(c"cr_await", awaiting);
        slots.get(c"cr_frame", crate::frames::frame);
        slots.get(c"cr_code", crate::frames::code);
        slots.get(c"cr_origin", |_| Ok(Obj::none()));
        if version::CORO_STATE.get() {
            slots.get(c"cr_state", |this| Obj::interned(this.status.get().text()));
        }
        slots.get(c"cr_running", |this| {
            Ok(Obj::bool(this.status.get() == Status::Running))
        });
        slots.get(c"cr_suspended", |this| {
            Ok(Obj::bool(this.status.get() == Status::Suspended))
        });
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.this.visit(visitor);
        for local in &self.locals {
            local.visit(visitor);
        }
        if let Some(machine) = self.machine() {
            machine.awaiting.visit(visitor);
            machine.outbox.visit(visitor);
            for local in &machine.locals {
                local.visit(visitor);
            }
        }
    }
    fn clear(&self) {
        if self.status.get() != Status::Running {
            self.finish();
        }
    }
    #[inline(always)]
    fn wants_finalize(&self) -> bool {
        !matches!(self.status.get(), Status::Closed)
    }
    #[inline(always)]
    fn may_be_unseen(&self) -> bool {
        self.unseen.get()
    }
    /// What has ended has been emptied by [`Coroutine::finish`].
    #[inline(always)]
    fn is_spent(&self) -> bool {
        matches!(self.status.get(), Status::Closed)
    }
    /// "coroutine … was never awaited"; a suspended one is closed, as generators are.
    fn finalize(this: &Own<Coroutine>) {
        match this.status.get() {
            Status::Created => {
                if let Err(raised) = warn_unawaited(this.obj()) {
                    raised.unraisable(this.obj());
                }
                this.finish();
            }
            Status::Suspended => {
                let exit = match exc::generator_exit().call0() {
                    Ok(exit) => exit,
                    Err(raised) => return raised.unraisable(this.obj()),
                };
                match throw_into(this, &exit) {
                    Step::Raise(raised) if raised.matches(exc::generator_exit()) => raised.ignore(),
                    Step::Raise(raised) => raised.unraisable(this.obj()),
                    Step::Return(_) => {}
                    Step::Yield(_) => runtime_error("coroutine ignored GeneratorExit").unraisable(this.obj()),
                }
            }
            _ => {}
        }
    }
}
