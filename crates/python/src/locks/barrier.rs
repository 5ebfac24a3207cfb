//! `asyncio.Barrier`: a number of tasks meet.
//!
//! ```text
//! FILLING ──(the last party comes)──▶ DRAINING ──(the last one leaves)──▶ FILLING
//!    │ reset(), with parties inside ──▶ RESETTING ──(the last one leaves)──▶ FILLING
//!    └ abort() ──▶ BROKEN ──(reset())──▶ FILLING, by way of RESETTING if parties are inside
//! ```
//!
//! Rules
//! 1. Every change of state is made with the condition's lock held, and wakes all who wait for it.
//! 2. Who comes while the barrier drains or resets waits outside until it fills again.
//! 3. `count` is how many are inside; whoever came in goes out, however its wait ends.
//! 4. A derived class may have its own `_block`, `_release`, `_wait` and `_exit`: there they are called by name.

use super::condition::Condition;
use super::loop_bound::{self, Bound, LoopBound};
use crate::copying::{self, Copied};
use crate::ffi::errors::{finally, raise_new, type_error, value_error};
use crate::ffi::{
    Args, Class, ClassCell, Co, Coroutine, Obj, Own, OwnSlot, R, Slot, Slots, Visitor, WeakRefs,
};
use crate::imports::{self, names};
use crate::number::Number;
use crate::version;
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// `asyncio.locks._BarrierState`
#[derive(Clone, Copy, PartialEq, Default)]
enum State {
    #[default]
    Filling,
    Draining,
    Resetting,
    Broken,
}

impl State {
    const ALL: [State; 4] = [State::Filling, State::Draining, State::Resetting, State::Broken];

    fn text(self) -> &'static str {
        match self {
            State::Filling => "filling",
            State::Draining => "draining",
            State::Resetting => "resetting",
            State::Broken => "broken",
        }
    }
}

/// The struct behind `asyncio.Barrier`.
#[derive(Default)]
pub(crate) struct Barrier {
    dict: Slot,
    weakrefs: WeakRefs,
    loop_: LoopBound,
    condition: OwnSlot<Condition>,
    parties: Number,
    count: Cell<i64>,
    state: Cell<State>,
}

/// Local of the coroutines.
const SELF: usize = 0;

impl Barrier {
    fn condition(&self) -> R<Own<Condition>> {
        self.condition
            .get()
            .ok_or_else(|| crate::ffi::errors::attribute_error("_cond"))
    }

    /// Rule 1.
    fn notify_all(&self) -> R<()> {
        self.condition()?.notify(f64::INFINITY)
    }

    fn n_waiting(&self) -> i64 {
        if self.state.get() == State::Filling {
            self.count.get()
        } else {
            0
        }
    }

    /// Rule 2.
    fn is_closed_to_comers(&self) -> bool {
        matches!(self.state.get(), State::Draining | State::Resetting)
    }

    /// Whoever comes to a broken barrier is sent away.
    fn check_whole(&self) -> R<()> {
        if self.state.get() == State::Broken {
            return Err(raise_new(&imports::BROKEN_BARRIER_ERROR, "Barrier aborted"));
        }
        Ok(())
    }

    /// Comes in: its index.
    fn come_in(&self) -> i64 {
        let index = self.count.get();
        self.count.set(index + 1);
        index
    }

    fn is_last(&self, index: i64) -> bool {
        (index + 1) as f64 == self.parties.get()
    }

    /// `_release()`: the last party opens the barrier.
    fn open(&self) -> R<()> {
        self.state.set(State::Draining);
        self.notify_all()
    }

    /// Rule 3.
    fn go_out(&self) {
        self.count.set(self.count.get() - 1);
    }

    /// `_exit()`: the last one who goes out opens it for those outside.
    fn exit(&self) -> R<()> {
        if self.count.get() != 0 {
            return Ok(());
        }
        if self.is_closed_to_comers() {
            self.state.set(State::Filling);
        }
        self.notify_all()
    }

    /// Those who were inside when it was reset or aborted learn it here.
    fn check_unbroken(&self) -> R<()> {
        if matches!(self.state.get(), State::Broken | State::Resetting) {
            return Err(raise_new(
                &imports::BROKEN_BARRIER_ERROR,
                "Abort or reset of barrier",
            ));
        }
        Ok(())
    }

    fn reset(&self) -> R<()> {
        self.state.set(if self.count.get() > 0 {
            State::Resetting
        } else {
            State::Filling
        });
        self.notify_all()
    }

    fn abort(&self) -> R<()> {
        self.state.set(State::Broken);
        self.notify_all()
    }
}

fn this(co: &Co) -> R<Own<Barrier>> {
    co.this::<Barrier>()
}

/// `async with self._cond:` the first half.
async fn lock(co: Co) -> R<()> {
    let acquire = this(&co)?.condition()?.acquire()?;
    co.wait(acquire).await.map(drop)
}

/// `async with self._cond:` the second half. The exception of the block, if any, goes on.
fn unlock<T>(co: &Co, result: R<T>) -> R<T> {
    finally(result, || this(co)?.condition()?.release())
}

/// `await self._cond.wait()`
async fn wait_for_change(co: Co) -> R<()> {
    let wait = this(&co)?.condition()?.wait()?;
    co.wait(wait).await.map(drop)
}

async fn wait_body(co: Co) -> R<Obj> {
    lock(co).await?;
    let result = if is_plain(&co)? {
        pass(co).await
    } else {
        pass_by_name(co).await
    };
    Obj::int(unlock(&co, result)?)
}

/// Can nobody have overridden anything? (rule 4)
fn is_plain(co: &Co) -> R<bool> {
    let this = this(co)?;
    Ok(this.is_exact() && this.dict.is_empty())
}

/// One party's way through, with the lock held.
async fn pass(co: Co) -> R<i64> {
    block(co).await?;
    let index = this(&co)?.come_in();
    let result = meet(co, index).await;
    finally(result, || {
        let this = this(&co)?;
        this.go_out();
        this.exit()
    })?;
    Ok(index)
}

/// Inside: opens the barrier, or waits for the others.
async fn meet(co: Co, index: i64) -> R<()> {
    if this(&co)?.is_last(index) {
        return this(&co)?.open();
    }
    wait_inside(co).await
}

/// [`pass`] by rule 4.
async fn pass_by_name(co: Co) -> R<i64> {
    call(co, "_block").await?;
    let index = this(&co)?.come_in();
    let last = this(&co)?.is_last(index);
    let result = call(co, if last { "_release" } else { "_wait" }).await;
    finally(result, || {
        let this = this(&co)?;
        this.go_out();
        this.obj().call_method_str("_exit", &[]).map(drop)
    })?;
    Ok(index)
}

/// `await self.name()`
async fn call(co: Co, name: &'static str) -> R<()> {
    let awaitable = co.local(SELF).call_method_str(name, &[])?;
    co.wait(awaitable).await.map(drop)
}

/// `_block()`: rule 2.
async fn block(co: Co) -> R<()> {
    while this(&co)?.is_closed_to_comers() {
        wait_for_change(co).await?;
    }
    this(&co)?.check_whole()
}

/// `_wait()`: until the barrier opens.
async fn wait_inside(co: Co) -> R<()> {
    while this(&co)?.state.get() == State::Filling {
        wait_for_change(co).await?;
    }
    this(&co)?.check_unbroken()
}

async fn block_body(co: Co) -> R<Obj> {
    block(co).await.map(|()| Obj::none())
}

async fn release_body(co: Co) -> R<Obj> {
    this(&co)?.open().map(|()| Obj::none())
}

async fn wait_inside_body(co: Co) -> R<Obj> {
    wait_inside(co).await.map(|()| Obj::none())
}

async fn reset_body(co: Co) -> R<Obj> {
    lock(co).await?;
    unlock(&co, this(&co)?.reset())?;
    Ok(Obj::none())
}

async fn abort_body(co: Co) -> R<Obj> {
    lock(co).await?;
    unlock(&co, this(&co)?.abort())?;
    Ok(Obj::none())
}

async fn aenter_body(co: Co) -> R<Obj> {
    let wait = co.local(SELF).call_method(&names::WAIT, &[])?;
    co.wait(wait).await
}

fn coroutine<F: Future<Output = R<Obj>> + 'static>(
    args: &Args,
    name: &'static str,
    body: impl FnOnce(Co) -> F,
) -> R<Obj> {
    Coroutine::boxed(name, &[args.this::<Barrier>()?.obj()], body)
}

fn init(args: &Args) -> R<Obj> {
    let this = args.this::<Barrier>()?;
    let parties = args.req(1)?;
    if parties.lt(&Obj::int(1)?)? {
        let text = if version::SINCE_314.get() {
            "parties must be >= 1"
        } else {
            "parties must be > 0"
        };
        return Err(value_error(text));
    }
    this.parties.read(parties)?;
    this.condition.put(Some(Condition::create()?));
    this.state.set(State::Filling);
    this.count.set(0);
    Ok(Obj::none())
}

fn repr(this: &Own<Barrier>) -> R<Obj> {
    let state = this.state.get();
    let waiters = if state == State::Broken {
        String::new()
    } else {
        format!(
            ", waiters:{}/{}",
            this.n_waiting(),
            this.parties.object()?.repr()?
        )
    };
    super::repr(this.obj(), &format!("{}{waiters}", state.text()))
}

/// `_state`: asyncio's own enumeration.
fn state(this: &Own<Barrier>) -> R<Obj> {
    imports::BARRIER_STATE.call(&[&Obj::str(this.state.get().text())?])
}

fn set_state(this: &Own<Barrier>, value: Option<&Obj>) -> R<()> {
    let text = value
        .map_or_else(|| Ok(Obj::none()), |value| value.getattr(&names::VALUE))?
        .to_string()?;
    let known = State::ALL.into_iter().find(|state| state.text() == text);
    this.state
        .set(known.ok_or_else(|| value_error(&format!("{text} is not a valid _BarrierState")))?);
    Ok(())
}

fn set_count(this: &Own<Barrier>, value: Option<&Obj>) -> R<()> {
    this.count.set(value.map_or(Ok(0), Obj::to_i64)?);
    Ok(())
}

fn set_condition(this: &Own<Barrier>, value: Option<&Obj>) -> R<()> {
    let condition = value.and_then(|value| Condition::class().instance(value));
    let Some(condition) = condition else {
        return Err(type_error("_cond must be a Condition"));
    };
    this.condition.put(Some(condition.clone()));
    Ok(())
}

impl Bound for Barrier {
    fn bound(&self) -> &LoopBound {
        &self.loop_
    }
}

impl Copied for Barrier {
    const STATE: &'static [&'static str] = &["_loop", "_cond", "_parties", "_state", "_count"];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

static CLASS: ClassCell<Barrier> = ClassCell::new();

impl Class for Barrier {
    const NAME: &'static CStr = c"asyncio.locks.Barrier";
    const DICT: Option<usize> = Some(offset_of!(Barrier, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Barrier, weakrefs));

    fn class() -> &'static ClassCell<Barrier> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Barrier>) -> R<()> {
        slots.init("(self, parties)", init);
        slots.repr(repr);
        slots.async_method("wait(self)", |args| coroutine(args, "Barrier.wait", wait_body))?;
        slots.async_method("reset(self)", |args| coroutine(args, "Barrier.reset", reset_body))?;
        slots.async_method("abort(self)", |args| coroutine(args, "Barrier.abort", abort_body))?;
        slots.async_method("_block(self)", |args| {
            coroutine(args, "Barrier._block", block_body)
        })?;
        slots.async_method("_release(self)", |args| {
            coroutine(args, "Barrier._release", release_body)
        })?;
        slots.async_method("_wait(self)", |args| {
            coroutine(args, "Barrier._wait", wait_inside_body)
        })?;
        slots.method("_exit(self)", |args| {
            args.this::<Barrier>()?.exit().map(|()| Obj::none())
        })?;
        slots.async_method("__aenter__(self)", |args| {
            coroutine(args, "Barrier.__aenter__", aenter_body)
        })?;
        slots.async_method("__aexit__(self, *args)", |args| {
            coroutine(args, "Barrier.__aexit__", |_| async { Ok(Obj::none()) })
        })?;
        slots.get(c"parties", |this| this.parties.object());
        slots.get(c"n_waiting", |this| Obj::int(this.n_waiting()));
        slots.get(c"broken", |this| Ok(Obj::bool(this.state.get() == State::Broken)));
        slots.get_set(
            c"_parties",
            |this| this.parties.object(),
            |this, value| this.parties.assign(value),
        );
        slots.get_set(c"_count", |this| Obj::int(this.count.get()), set_count);
        slots.get_set(c"_cond", |this| Ok(this.condition()?.into_obj()), set_condition);
        slots.get_set(c"_state", state, set_state);
        copying::slots(slots)?;
        loop_bound::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.loop_.visit(visitor);
        self.condition.visit(visitor);
    }
    fn clear(&self) {
        self.loop_.clear();
        self.condition.put(None);
    }
}
