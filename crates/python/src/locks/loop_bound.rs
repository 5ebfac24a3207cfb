//! `asyncio.mixins._LoopBoundMixin`: a primitive belongs to the loop in which it first had to wait.

use crate::ffi::errors::runtime_error;
use crate::ffi::{Args, Class, Obj, Own, R, Slot, Slots, Visitor, running};
use crate::futures::methods;

/// The field behind `_loop`.
#[derive(Default)]
pub(crate) struct LoopBound(Slot);

/// A class that has one.
pub(crate) trait Bound: Class {
    /// Where it is.
    fn bound(&self) -> &LoopBound;
}

impl LoopBound {
    /// `_get_loop()`: the running loop, which becomes the primitive's own, or must be it.
    #[inline]
    pub(crate) fn get(&self, owner: &Obj) -> R<Obj> {
        let running = running::get()?.unwrap_or_else(Obj::none);
        if self.0.is_empty() && !running.is_none() {
            self.0.set(running.clone());
        }
        if self.0.is_empty() || self.0.holds(&running) {
            Ok(running)
        } else {
            Err(elsewhere(owner)?)
        }
    }

    /// `self._get_loop().create_future()`
    #[inline]
    pub(crate) fn create_future(&self, owner: &Obj) -> R<Obj> {
        methods::create(&self.get(owner)?)
    }

    /// For `tp_traverse`.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.0.visit(visitor);
    }

    /// For `tp_clear`.
    pub(crate) fn clear(&self) {
        self.0.put(None);
    }
}

#[cold]
fn elsewhere(owner: &Obj) -> R<crate::ffi::Raised> {
    Ok(runtime_error(&format!(
        "{} is bound to a different event loop",
        owner.repr()?
    )))
}

fn get_loop<T: Bound>(args: &Args) -> R<Obj> {
    let this = args.this::<T>()?;
    this.bound().get(this.obj())
}

fn read<T: Bound>(this: &Own<T>) -> R<Obj> {
    Ok(this.bound().0.get_or_none())
}

fn write<T: Bound>(this: &Own<T>, value: Option<&Obj>) -> R<()> {
    this.bound().0.put(value.and_then(Obj::non_none).cloned());
    Ok(())
}

/// Adds `_loop` and `_get_loop()` to a class.
pub(crate) fn slots<T: Bound>(slots: &mut Slots<T>) -> R<()> {
    slots.get_set(c"_loop", read::<T>, write::<T>);
    slots.method("_get_loop(self)", get_loop::<T>)
}
