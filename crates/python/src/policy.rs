//! Event loop policies: which loop a thread has that runs none, and who makes it.
//!
//! asyncio's own functions ask the policy of the process. Ours ask it too; but where nobody has set
//! one, [`EventLoopPolicy`](init) answers in its stead, so that `import aioxide as asyncio` never gets
//! a loop that is not ours. Both share what they know of each thread: a loop that was made known to one
//! is known to the other.
//!
//! Must never: change asyncio's policy. Only `install()` does that.

use crate::event_loop::class::EVENT_LOOP;
use crate::ffi::function::{self, Kind::Plain};
use crate::ffi::object::Static;
use crate::ffi::pyclass::{Body, PyClass};
use crate::ffi::{Args, Obj, R, running};
use crate::imports;
use crate::takeover;

static EVENT_LOOP_POLICY: PyClass = PyClass::new();
static OURS: Static = Static::new();

/// Is it asyncio's policy that decides? So it is if the program has set one of its own.
fn decides(theirs: &Obj) -> bool {
    takeover::installed() || !theirs.class().is(&imports::STOCK_POLICY)
}

/// The policy that counts for us.
fn current() -> R<Obj> {
    let theirs = imports::GET_POLICY.call0()?;
    if decides(&theirs) {
        return Ok(theirs);
    }
    // every time, since a forked child starts with a new one
    OURS.setattr_str("_local", &theirs.getattr_str("_local")?)?;
    Ok(OURS.get().clone())
}

/// A loop for a runner without a factory.
pub(crate) fn default_loop() -> R<Obj> {
    if decides(&imports::GET_POLICY.call0()?) {
        // looked up each time: tests replace it
        return imports::EVENTS.call_method_str("new_event_loop", &[]);
    }
    EVENT_LOOP.get().call0()
}

/// `asyncio.set_event_loop(loop)`
pub(crate) fn set_event_loop(loop_: Option<&Obj>) -> R<()> {
    let loop_ = loop_.cloned().unwrap_or_else(Obj::none);
    imports::EVENTS
        .call_method_str("set_event_loop", &[&loop_])
        .map(drop)
}

/// `asyncio.get_event_loop()`: the running one, or the thread's.
fn get_event_loop(_: &Args) -> R<Obj> {
    match running::get()? {
        Some(loop_) => Ok(loop_),
        None => current()?.call_method_str("get_event_loop", &[]),
    }
}

/// `asyncio.get_event_loop_policy()`
fn get_event_loop_policy(_: &Args) -> R<Obj> {
    // asyncio's own warns that it is deprecated (3.14+)
    imports::EVENTS.call_method_str("get_event_loop_policy", &[])?;
    current()
}

/// `aioxide.new_event_loop()`: ours, whatever the policy.
fn new_event_loop(_: &Args) -> R<Obj> {
    EVENT_LOOP.get().call0()
}

/// Makes the class and exports it and the functions.
pub(crate) fn register(module: &Obj) -> R<()> {
    let mut body = Body::new("aioxide", "EventLoopPolicy", &[])?;
    body.attribute("_loop_factory", EVENT_LOOP.get())?;
    EVENT_LOOP_POLICY.fill(body.build(&[&imports::STOCK_POLICY])?);
    OURS.fill(EVENT_LOOP_POLICY.get().call0()?);
    module.setattr_str("EventLoopPolicy", EVENT_LOOP_POLICY.get())?;
    crate::module::export(
        module,
        &[
            (
                "asyncio.events",
                "get_event_loop_policy()",
                get_event_loop_policy,
                Plain,
            ),
            ("asyncio.events", "new_event_loop()", new_event_loop, Plain),
        ],
    )?;
    let get = function::make("get_event_loop()", "asyncio.events", None, get_event_loop, Plain)?;
    module.setattr_str("get_event_loop", &get)?;
    // from here on `Future()` without a loop asks us
    imports::GET_EVENT_LOOP.fill(get);
    Ok(())
}
