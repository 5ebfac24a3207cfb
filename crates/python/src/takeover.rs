//! `aioxide.install()`: from then on asyncio's names mean ours, for every module of the process.
//!
//! What is bound follows from what there is: each public name of asyncio's for which the extension has
//! an object of its own. That object goes wherever asyncio's modules hold the original: under its name,
//! in the copies that `from … import` has made (`base_events`, `streams`, …), and under the names by
//! which asyncio knows its C classes (`_CTask`). The pure-Python ones (`_PyTask`) stay. Loops come from us by way of the stock policy, so a policy that the program sets still counts.
//!
//! Must never: touch anything outside asyncio's modules (its C module is one of them), or something that `uninstall()` cannot undo.

use crate::event_loop::class::EVENT_LOOP;
use crate::ffi::errors::runtime_error;
use crate::ffi::function::Kind::Plain;
use crate::ffi::object::Static;
use crate::ffi::{Args, Obj, R, running};
use crate::imports;
use std::sync::atomic::{AtomicBool, Ordering};

static INSTALLED: AtomicBool = AtomicBool::new(false);
/// `[(module, name, original)]`, in the order of replacement.
static REPLACED: Static = Static::new();
static CORE: Static = Static::new();

/// asyncio's own stay: it asks the policy, whose loops are ours; and its `all_tasks` sees our tasks.
const STAY: [&str; 4] = [
    "all_tasks",
    "get_event_loop",
    "get_event_loop_policy",
    "new_event_loop",
];

/// In no `__all__`, but programs that upgrade a connection by themselves, or write to a pipe
/// (`connect_write_pipe(asyncio.streams.FlowControlMixin, …)`), or derive from these, name them.
const UNLISTED: [&str; 4] = [
    "SSLProtocol",
    "FlowControlMixin",
    "Process",
    "SubprocessStreamProtocol",
];

/// Is asyncio ours at present?
pub(crate) fn installed() -> bool {
    INSTALLED.load(Ordering::Relaxed)
}

/// `install()`. A second call does nothing.
fn install(_: &Args) -> R<Obj> {
    if installed() {
        return Ok(Obj::none());
    }
    if running::get()?.is_some() {
        return Err(runtime_error(
            "aioxide.install() must be called before an event loop runs: the tasks of the running one are asyncio's",
        ));
    }
    let modules = asyncio_modules()?;
    let pairs = pairs(&modules)?;
    for module in &modules {
        for (name, value) in globals(module)? {
            let ours = pairs.iter().find(|(original, _)| original.is(&value));
            if let Some((_, ours)) = ours.filter(|_| is_public(&name) || name.starts_with("_C")) {
                replace(module, &name, &value, ours)?;
            }
        }
    }
    let policy: &Obj = &imports::STOCK_POLICY;
    replace(
        policy,
        "_loop_factory",
        &policy.getattr_str("_loop_factory")?,
        EVENT_LOOP.get(),
    )?;
    INSTALLED.store(true, Ordering::Relaxed);
    Ok(Obj::none())
}

/// `uninstall()`: asyncio as it was. What was made meanwhile stays what it is.
fn uninstall(_: &Args) -> R<Obj> {
    INSTALLED.store(false, Ordering::Relaxed);
    let replaced = REPLACED.to_vec()?;
    REPLACED.call_method_str("clear", &[])?;
    for entry in replaced.iter().rev() {
        if let [module, name, original] = entry.tuple_items() {
            module.setattr(name, original)?;
        }
    }
    Ok(Obj::none())
}

/// `_replaced()`: what is replaced now, and what was there, as a list of `(module, name, original)`. For the doctor.
fn replaced(_: &Args) -> R<Obj> {
    REPLACED.call_method_str("copy", &[])
}

fn replace(owner: &Obj, name: &str, original: &Obj, ours: &Obj) -> R<()> {
    REPLACED.call_method_str(
        "append",
        &[&Obj::tuple(&[owner, &Obj::interned(name)?, original])?],
    )?;
    owner.setattr_str(name, ours)
}

/// asyncio and its modules, as far as they are imported, and its C module: `pickle` looks for `asyncio.Task` there.
fn asyncio_modules() -> R<Vec<Obj>> {
    let modules = Obj::import("sys")?.getattr_str("modules")?;
    let mut found = Vec::new();
    for name in modules.call_method_str("copy", &[])?.to_vec()? {
        let text = name.to_string()?;
        if text == "asyncio" || text == "_asyncio" || text.starts_with("asyncio.") {
            found.extend(modules.dict_get(&name)?);
        }
    }
    Ok(found)
}

/// asyncio's objects, and ours that take their place.
fn pairs(modules: &[Obj]) -> R<Vec<(Obj, Obj)>> {
    let mut pairs = Vec::new();
    for (name, ours) in globals(CORE.get())? {
        if !is_public(&name) || STAY.contains(&name.as_str()) {
            continue;
        }
        for module in modules {
            if let Some(original) = public_original(module, &name)?
                && !original.is(&ours)
            {
                pairs.push((original, ours));
                break;
            }
        }
    }
    Ok(pairs)
}

/// `module.name`, if the module lists it as its own (or nobody does).
fn public_original(module: &Obj, text: &str) -> R<Option<Obj>> {
    let (namespace, name) = (module.getattr_str("__dict__")?, Obj::interned(text)?);
    match namespace.dict_get(&Obj::interned("__all__")?)? {
        Some(all) if all.contains(&name)? => namespace.dict_get(&name),
        _ if UNLISTED.contains(&text) => namespace.dict_get(&name),
        _ => Ok(None),
    }
}

fn globals(module: &Obj) -> R<Vec<(String, Obj)>> {
    let items = module.getattr_str("__dict__")?.call_method_str("items", &[])?;
    let mut globals = Vec::new();
    for item in items.to_vec()? {
        if let [name, value] = item.tuple_items() {
            globals.push((name.to_string()?, value.clone()));
        }
    }
    Ok(globals)
}

fn is_public(name: &str) -> bool {
    !name.starts_with('_')
}

/// Exports the functions.
pub(crate) fn register(module: &Obj) -> R<()> {
    CORE.fill(module.clone());
    REPLACED.fill(Obj::list(&[])?);
    module.setattr_str("SelectorEventLoop", EVENT_LOOP.get())?;
    module.setattr_str("__version__", &Obj::str(env!("CARGO_PKG_VERSION"))?)?;
    crate::module::export(
        module,
        &[
            ("aioxide", "install()", install, Plain),
            ("aioxide", "uninstall()", uninstall, Plain),
            ("aioxide._core", "_replaced()", replaced, Plain),
        ],
    )
}
