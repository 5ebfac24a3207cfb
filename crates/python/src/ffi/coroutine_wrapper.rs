//! `coroutine_wrapper`: what `coro.__await__()` gives to a program that drives a coroutine by hand.
//!
//! `await` itself does not come here: the interpreter takes the coroutine as its own iterator. But a
//! coroutine must not be iterable (`for x in asyncio.sleep(1)` is an error), and what `__await__`
//! returns must be.

use super::class::Resume;
use super::coroutine::{Coroutine, method_close, method_send, method_throw};
use super::{Args, Class, ClassCell, Obj, Own, OwnSlot, R, Slots, Step, Visitor};
use std::ffi::CStr;

/// The iterator of a coroutine.
#[derive(Default)]
pub(crate) struct CoroutineWrapper {
    coroutine: OwnSlot<Coroutine>,
}

/// `coro.__await__()`
pub(super) fn of(args: &Args) -> R<Obj> {
    let wrapper = CoroutineWrapper::default();
    wrapper.coroutine.put(Some(args.this::<Coroutine>()?.clone()));
    Ok(CLASS.alloc(wrapper)?.into_obj())
}

impl Resume for CoroutineWrapper {
    fn resume(this: &Own<CoroutineWrapper>, value: &Obj) -> Step {
        match this.coroutine.get() {
            Some(coroutine) => Coroutine::resume(&coroutine, value),
            None => Step::Return(Obj::none()),
        }
    }
}

/// The same arguments with the coroutine as `self`.
fn forward(args: &Args, method: fn(&Args) -> R<Obj>) -> R<Obj> {
    match args.this::<CoroutineWrapper>()?.coroutine.get() {
        Some(coroutine) => args.with_self(coroutine.obj(), method),
        None => Ok(Obj::none()),
    }
}

static CLASS: ClassCell<CoroutineWrapper> = ClassCell::new();

impl Class for CoroutineWrapper {
    const NAME: &'static CStr = c"aioxide._core.coroutine_wrapper";
    const SUBCLASSABLE: bool = false;
    fn class() -> &'static ClassCell<CoroutineWrapper> {
        &CLASS
    }
    fn slots(slots: &mut Slots<CoroutineWrapper>) -> R<()> {
        slots.no_new();
        slots.iter(|this: &Own<CoroutineWrapper>| Ok(this.obj().clone()));
        slots.resume();
        slots.method("send(self, value, /)", |args| forward(args, method_send))?;
        slots.method("throw(self, typ, val=None, tb=None, /)", |args| {
            forward(args, method_throw)
        })?;
        slots.method("close(self, /)", |args| forward(args, method_close))
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.coroutine.visit(visitor);
    }
    fn clear(&self) {
        self.coroutine.put(None);
    }
}
