//! `cr_frame`, `cr_code`, and the coroutines that CPython has inside of ours.
//!
//! A native coroutine has no frame, but call graphs, `Task.get_stack()` and debuggers go by frames. Who asks for
//! one gets that of a *stand-in*: a coroutine of the interpreter's own with the name of ours, suspended, which
//! nobody resumes. It lives as long as our coroutine does; nothing is made before somebody asks.
//!
//! Where one function of ours does what CPython has divided into several (`wait` awaits `_wait`), call graphs
//! show CPython's functions: the stand-in of the outer one awaits that of the inner one.

use crate::ffi::object::Static;
use crate::ffi::{Coroutine, Obj, Own, R};
use crate::imports::names;
use std::sync::atomic::{AtomicBool, Ordering};

/// `async def stand_in(awaited): await awaited`
static STAND_IN: Static = Static::new();
/// `pause()`: something to await, which suspends.
static PAUSE: Static = Static::new();
/// `types.FunctionType`
static FUNCTION: Static = Static::new();
/// `WeakKeyDictionary`: our coroutines to their stand-ins.
static MADE: Static = Static::new();

/// Is `TaskGroup.__aexit__` divided in two? Since some patch release of 3.13.
static DIVIDED: AtomicBool = AtomicBool::new(false);

const SOURCE: &str = "import types
@types.coroutine
def pause(): yield
async def stand_in(awaited): await awaited
";

/// The file that tracebacks name.
const FILE: &str = "<aioxide>";

/// Makes the templates. Called once.
pub(crate) fn init() -> R<()> {
    let namespace = Obj::dict()?;
    Obj::import("builtins")?
        .getattr_str("exec")?
        .call(&[&Obj::str(SOURCE)?, &namespace])?;
    for (name, place) in [("stand_in", &STAND_IN), ("pause", &PAUSE)] {
        if let Some(function) = namespace.dict_get(&Obj::str(name)?)? {
            place.fill(function);
        }
    }
    FUNCTION.fill(STAND_IN.get().class());
    let group = Obj::import("asyncio.taskgroups")?.getattr_str("TaskGroup")?;
    DIVIDED.store(group.hasattr("_aexit")?, Ordering::Relaxed);
    MADE.fill(
        Obj::import("weakref")?
            .getattr_str("WeakKeyDictionary")?
            .call0()?,
    );
    Ok(())
}

/// The functions into which CPython has divided what our coroutine does in one, from outside in.
fn inner(coroutine: &Own<Coroutine>) -> &'static [&'static str] {
    if coroutine.is_async() {
        return &[]; // it really awaits what it awaits
    }
    match coroutine.qualified_name() {
        "wait" => &["_wait"],
        "TaskGroup.__aexit__" if DIVIDED.load(Ordering::Relaxed) => &["TaskGroup._aexit"],
        "_AsCompletedIterator._wait_for_one" => &["Queue.get"],
        "_AsCompletedIterator.__anext__" => &["_AsCompletedIterator._wait_for_one", "Queue.get"],
        "StreamReader.read" | "StreamReader.readexactly" | "StreamReader.readuntil" => {
            &["StreamReader._wait_for_data"]
        }
        "StreamReader.readline" => &["StreamReader.readuntil", "StreamReader._wait_for_data"],
        "StreamReader.__anext__" => &[
            "StreamReader.readline",
            "StreamReader.readuntil",
            "StreamReader._wait_for_data",
        ],
        "_ContextManagerMixin.__aenter__" => match coroutine.receiver() {
            Some(lock) if lock.class_name().ends_with("Semaphore") => &["Semaphore.acquire"],
            _ => &["Lock.acquire"],
        },
        _ => &[],
    }
}

/// A suspended coroutine of this name that awaits `awaited`.
fn stand_in(name: &str, awaited: &Obj) -> R<Obj> {
    let code = STAND_IN.get().getattr_str("__code__")?;
    let keywords = Obj::dict()?;
    let short = name.rsplit('.').next().unwrap_or_default();
    for (keyword, value) in [("co_name", short), ("co_qualname", name), ("co_filename", FILE)] {
        keywords.dict_set(&Obj::str(keyword)?, &Obj::str(value)?)?;
    }
    keywords.dict_set(&Obj::str("co_firstlineno")?, &Obj::int(1)?)?;
    let code = code
        .getattr_str("replace")?
        .call_with(&Obj::empty_tuple(), Some(&keywords))?;
    FUNCTION.get().call(&[&code, &Obj::dict()?])?.call(&[awaited])
}

/// The stand-in of our coroutine.
fn of(coroutine: &Own<Coroutine>) -> R<Obj> {
    let made = MADE.get();
    let known = made.call_method_str("get", &[coroutine.obj()])?;
    if !known.is_none() {
        return Ok(known);
    }
    let mut awaited = PAUSE.get().call0()?;
    for name in inner(coroutine).iter().rev() {
        awaited = stand_in(name, &awaited)?;
    }
    let outermost = stand_in(coroutine.qualified_name(), &awaited)?;
    outermost.call_method(&names::SEND, &[&Obj::none()])?;
    made.call_method_str("__setitem__", &[coroutine.obj(), &outermost])?;
    Ok(outermost)
}

/// `cr_frame`
pub(crate) fn frame(coroutine: &Own<Coroutine>) -> R<Obj> {
    if coroutine.is_closed() {
        return Ok(Obj::none());
    }
    of(coroutine)?.getattr_str("cr_frame")
}

/// `cr_code`
pub(crate) fn code(coroutine: &Own<Coroutine>) -> R<Obj> {
    of(coroutine)?.getattr_str("cr_code")
}

/// `cr_await` of a coroutine that does itself what CPython has another one for.
pub(crate) fn awaiting(coroutine: &Own<Coroutine>) -> R<Option<Obj>> {
    if inner(coroutine).is_empty() {
        return Ok(None);
    }
    of(coroutine)?.getattr_str("cr_await").map(Some)
}
