//! asyncio's own `all_tasks` sees our tasks, also for those who imported it before us.
//!
//! asyncio keeps a WeakSet of tasks. Ours are not in it (adding one costs more than a whole step);
//! instead that very set gets a class whose iteration goes on with our list. Every `all_tasks` there is
//! iterates the set: the Python ones of 3.11 to 3.13 and the C one of 3.14+, which keeps it hidden in
//! its module's state, where the garbage collector finds it. Where our tasks are in the interpreter's own
//! lists (`ffi/outside.rs`), none of this is needed; `_core.external_introspection` says whether they are.
//!
//! Must never: change what the set holds, or what asyncio's own tasks see of it.

use super::registry;
use crate::ffi::errors::runtime_error;
use crate::ffi::object::Static;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Obj, R, outside};
use crate::imports;

static CHAIN: Static = Static::new();

/// `__iter__` of the set: what is in it, then ours.
fn iter(args: &Args) -> R<Obj> {
    let theirs = imports::WEAK_SET.call_method_str("__iter__", &[args.req(0)?])?;
    CHAIN.call(&[&theirs, &registry::scheduled_tasks(args)?])
}

/// The set that asyncio's `all_tasks` iterates.
fn scheduled() -> R<Obj> {
    let accelerator = Obj::import("_asyncio")?;
    for name in ["_all_tasks", "_scheduled_tasks"] {
        if let Some(set) = accelerator.getattr_opt(&Obj::interned(name)?)? {
            return Ok(set);
        }
    }
    let found = Obj::import("gc")?.call_method_str("get_referents", &[&accelerator])?;
    for object in found.to_vec()? {
        if object.isinstance(&imports::WEAK_SET)? {
            return Ok(object);
        }
    }
    Err(runtime_error(
        "aioxide does not find where this Python's asyncio keeps its tasks",
    ))
}

/// Makes our tasks visible. Called once, at import.
pub(crate) fn init(module: &Obj) -> R<()> {
    let state = outside::find(&Obj::import("_asyncio")?)?;
    module.setattr_str("external_introspection", &Obj::str(state)?)?;
    if outside::linked() {
        // they are in the lists that asyncio's own are in
        return Ok(());
    }
    CHAIN.fill(Obj::import("itertools")?.getattr_str("chain")?);
    let mut body = Body::new("aioxide", "WeakSet", &[])?;
    body.method("__iter__(self)", iter)?;
    let class = body.build(&[&imports::WEAK_SET])?;
    scheduled()?.setattr(&imports::names::CLASS, &class)
}
