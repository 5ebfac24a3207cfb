//! `copy.copy` and `copy.deepcopy` of a primitive.
//!
//! asyncio's are ordinary instances, which copy themselves attribute by attribute; programs rely on it
//! when they copy a configuration or a dataclass that happens to hold a lock. Ours name the attributes
//! that make up their state.

use crate::ffi::{Args, Class, Obj, R, Slot, Slots};

/// A class whose instances can be copied.
pub(crate) trait Copied: Class {
    /// The attributes that asyncio's instances have in their `__dict__`; each can be set.
    const STATE: &'static [&'static str];
    /// The instance's own attributes. (Asking for `__dict__` would make one.)
    fn dict(&self) -> &Slot;
}

/// `__getstate__()`: a dict of everything.
fn getstate<T: Copied>(args: &Args) -> R<Obj> {
    let this = args.this::<T>()?;
    let state = match this.dict().get() {
        Some(dict) => dict.call_method_str("copy", &[])?,
        None => Obj::dict()?,
    };
    for name in T::STATE {
        state.dict_set(&Obj::interned(name)?, &this.obj().getattr_str(name)?)?;
    }
    Ok(state)
}

/// `__setstate__(state)`
fn setstate<T: Copied>(args: &Args) -> R<Obj> {
    let this = args.this::<T>()?.obj();
    for pair in args.req(1)?.call_method_str("items", &[])?.to_vec()? {
        if let [name, value] = pair.tuple_items() {
            this.setattr(name, value)?;
        }
    }
    Ok(Obj::none())
}

/// Adds both to a class.
pub(crate) fn slots<T: Copied>(slots: &mut Slots<T>) -> R<()> {
    slots.method("__getstate__(self)", getstate::<T>)?;
    slots.method("__setstate__(self, state)", setstate::<T>)
}
