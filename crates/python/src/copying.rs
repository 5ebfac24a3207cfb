//! `copy.copy`, `copy.deepcopy` and `pickle` of what asyncio makes as ordinary instances.
//!
//! asyncio's copy themselves attribute by attribute; programs rely on it when they copy a configuration or a dataclass
//! that happens to hold a lock. Ours name the attributes that make up their state. What asyncio's cannot be pickled for
//! (a loop, a task) is among them, and refuses as there.
//!
//! A pickle names a class by its module. Under `install()` what it finds there is ours. Without it asyncio has its own
//! class of that name, so a pickle names a function of ours that knows ours.

use crate::ffi::function::{self, Kind};
use crate::ffi::{Args, Class, Obj, R, Slot, Slots};
use crate::{imports, module, takeover};

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

/// `__reduce_ex__(protocol)`: object's own, unless a class of ours would not be found by its name.
fn reduce_ex<T: Copied>(args: &Args) -> R<Obj> {
    let this = args.this::<T>()?.obj();
    let class = this.class();
    // (of a StreamReader, `__class__` is asyncio's)
    if !takeover::installed() || !this.getattr_str("__class__")?.is(&class) {
        let (home, name) = (
            class.getattr_str("__module__")?,
            class.getattr_str("__qualname__")?,
        );
        if function::home_of(&home.to_string()?).is_some() && copied_class(&home, &name)?.is(&class) {
            let new = Obj::import("aioxide._core")?.getattr_str("_new_instance")?;
            let state = this.call_method_str("__getstate__", &[])?;
            return Obj::tuple(&[&new, &Obj::tuple(&[&home, &name])?, &state]);
        }
    }
    imports::OBJECT.call_method_str("__reduce_ex__", &[this, args.req(1)?])
}

/// `_new_instance(module, qualname)`: what `__reduce_ex__` gives to those who unpickle. It makes instances of the classes
/// of this file's and nothing else: see `function::find_ours`.
fn new_instance(args: &Args) -> R<Obj> {
    let class = copied_class(args.req(0)?, args.req(1)?)?;
    class.call_method_str("__new__", &[&class])
}

fn copied_class(module: &Obj, qualname: &Obj) -> R<Obj> {
    function::find_ours(&module.to_string()?, &qualname.to_string()?, |found| {
        let reduce = found.getattr_opt(&Obj::interned("__reduce_ex__")?)?;
        Ok(reduce.is_some_and(|reduce| function::is_ours(&reduce)))
    })
}

/// Adds all of it to a class.
pub(crate) fn slots<T: Copied>(slots: &mut Slots<T>) -> R<()> {
    slots.method("__getstate__(self)", getstate::<T>)?;
    slots.method("__setstate__(self, state)", setstate::<T>)?;
    slots.method("__reduce_ex__(self, protocol)", reduce_ex::<T>)
}

/// Exports the function.
pub(crate) fn register(module: &Obj) -> R<()> {
    let sig = "_new_instance(module, qualname)";
    module::export(module, &[("aioxide._core", sig, new_instance, Kind::Plain)])
}
