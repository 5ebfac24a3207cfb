//! `asyncio.locks._ContextManagerMixin`: `async with lock`.
//!
//! `__aenter__` is `await self.acquire()` and gives None, `__aexit__` is `self.release()`. If a program
//! has overridden neither, they are the primitive's own functions with nothing in between.

use super::waiters::SELF;
use crate::ffi::coroutine::StepFn;
use crate::ffi::{Args, Class, Coroutine, Obj, Own, R, Slots, Step};
use crate::imports::names;

/// A primitive with `acquire` and `release`.
pub(crate) trait ContextManager: Class {
    /// The body of `acquire()`.
    const ACQUIRE: StepFn;
    /// The object that this body works on; `None` if a program may have overridden `acquire` or `release`.
    fn plain(this: &Own<Self>) -> Option<Obj>;
    /// Has no program overridden `acquire` or `release`?
    fn is_plain(this: &Own<Self>) -> bool;
    /// `release()` of an object that is plain.
    fn release(this: &Own<Self>) -> R<()>;
}

const NAME: &str = "_ContextManagerMixin.__aenter__";

/// Does this coroutine acquire for `async with`, and not for who has called `acquire()`?
#[inline(always)]
pub(crate) fn is_entering(co: &Coroutine) -> bool {
    co.qualified_name() == NAME
}

fn aenter<T: ContextManager>(args: &Args) -> R<Obj> {
    let this = args.this::<T>()?;
    if let Some(object) = T::plain(this) {
        return Coroutine::of_method(NAME, enter::<T>, object).alloc();
    }
    Coroutine::boxed(NAME, &[this.obj()], |co| async move {
        let acquire = co.local(SELF).call_method(&names::ACQUIRE, &[])?;
        co.wait(acquire).await?;
        Ok(Obj::none())
    })
}

/// `await self.acquire()`, whose result nobody sees.
fn enter<T: ContextManager>(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    match T::ACQUIRE(co, input) {
        Step::Return(_) => Step::Return(Obj::none()),
        other => other,
    }
}

fn aexit<T: ContextManager>(args: &Args) -> R<Obj> {
    let this = args.this::<T>()?.obj().clone();
    Coroutine::of_method("_ContextManagerMixin.__aexit__", leave::<T>, this).alloc()
}

fn leave<T: ContextManager>(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let release = || -> R<Obj> {
        input?;
        let this = co.this::<T>()?;
        if T::is_plain(this) {
            T::release(this)?;
        } else {
            this.obj().call_method(&names::RELEASE, &[])?;
        }
        Ok(Obj::none())
    };
    Step::from(release())
}

/// Adds both to a class.
pub(crate) fn slots<T: ContextManager>(slots: &mut Slots<T>) -> R<()> {
    slots.async_method("__aenter__(self)", aenter::<T>)?;
    slots.async_method("__aexit__(self, exc_type, exc, tb)", aexit::<T>)
}
