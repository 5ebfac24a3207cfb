//! "Unix signals": add_signal_handler, remove_signal_handler; and how a signal wakes the loop.
//!
//! CPython's C handler writes the number of a signal to the wake-up descriptor of the process. Ours is a
//! pipe that the loop watches, so a signal ends its sleep even if it comes just before the loop goes to
//! sleep, or in another thread; then the handlers written in Python run at once.
//!
//! Rules
//! 1. The wake-up descriptor is ours while there are signal handlers (as in asyncio), and while the loop
//!    runs in the main thread, unless it was somebody else's when the loop began. It is given back when
//!    the loop stops, unless somebody has replaced it.
//! 2. The writing end is never closed while the wake-up descriptor may still be that number.
//! 3. A forked child lets go of the wake-up descriptor, and its loop gets another pipe
//!    (`readers::after_fork`): its signals do not reach the parent.

use super::class::this;
use super::core::{Entry, LoopCore};
use super::handles;
use crate::ffi::errors::{Raised, exc, os_error, raise, runtime_error, type_error, value_error};
use crate::ffi::function::{self, Imp, Kind};
use crate::ffi::object::Static;
use crate::ffi::{Args, Obj, Own, R, exceptions, threads};
use crate::imports;
use crate::resource_warning;
use aioxide_core::{Interest, SignalPipe};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// What this file adds to the class.
pub(super) const METHODS: &[(&str, Imp)] = &[
    (
        "add_signal_handler(self, sig, callback, *args)",
        add_signal_handler,
    ),
    ("remove_signal_handler(self, sig)", remove_signal_handler),
    ("_handle_signal(self, sig)", |args| {
        let (loop_, core) = this(args)?;
        handle_signal(loop_, core, args.req(1)?).map(|()| Obj::none())
    }),
];

/// No descriptor.
const NONE: i32 = -1;

/// The wake-up descriptor, as far as we have set it: the pipe of one of our loops, or none.
static INSTALLED: AtomicI32 = AtomicI32::new(NONE);

/// Python's handler of a signal that has a callback: the loop learns of it by the pipe.
static NOOP: Static = Static::new();

/// The end of the pipe that the loop watches.
#[inline]
pub(super) fn reader(core: &LoopCore) -> Option<i32> {
    core.signal_pipe
        .with(|pipe| pipe.as_ref().map(SignalPipe::reader))
}

/// The other one, for the wake-up descriptor; or [`NONE`].
fn writer(core: &LoopCore) -> i32 {
    core.signal_pipe
        .with(|pipe| pipe.as_ref().map_or(NONE, SignalPipe::writer))
}

/// The pipe is readable: the handles of its signals go to the end of the ready queue.
#[cold]
pub(super) fn arrived(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    let numbers = core.signal_pipe.with(|pipe| pipe.as_ref().map(SignalPipe::drain));
    for number in numbers.unwrap_or_default() {
        handle_signal(loop_, core, &Obj::int(number.into())?)?;
    }
    Ok(())
}

/// `_handle_signal(sig)`
fn handle_signal(loop_: &Obj, core: &Own<LoopCore>, sig: &Obj) -> R<()> {
    // no handler: a signal that only wakes the loop
    let Some(handle) = core.signal_handlers.get_or_none().dict_get(sig)? else {
        return Ok(());
    };
    if handles::is_cancelled(&handle) {
        return loop_.call_method_str("remove_signal_handler", &[sig]).map(drop);
    }
    core.push(Entry::Handle(handles::Queued::shared(handle)));
    Ok(())
}

// --- the wake-up descriptor -----------------------------------------------------------------------

/// `signal.set_wakeup_fd(fd)`: the old one. ValueError outside the main thread.
fn set_wakeup(fd: i32) -> R<i32> {
    let old = imports::SET_WAKEUP_FD.call(&[&Obj::int(fd.into())?])?.to_i64()?;
    INSTALLED.store(fd, Ordering::Relaxed);
    Ok(old as i32)
}

/// Lets go of the wake-up descriptor if it is `ours`, and leaves anybody else's alone.
fn reset_wakeup(ours: i32) -> R<()> {
    match set_wakeup(NONE)? {
        NONE => Ok(()),
        old if old == ours => Ok(()),
        old => give_back(old),
    }
}

/// Puts somebody else's descriptor back. Whether it was to warn when it is full cannot be found out;
/// not to is the lesser evil.
fn give_back(fd: i32) -> R<()> {
    let kwnames = Obj::tuple(&[&Obj::interned("warn_on_full_buffer")?])?;
    imports::SET_WAKEUP_FD.call_kw(&[&Obj::int(fd.into())?, &Obj::bool(false)], Some(&kwnames))?;
    INSTALLED.store(NONE, Ordering::Relaxed);
    Ok(())
}

/// The pipe's writing end; the pipe is made and watched if it is not there yet.
fn open(core: &Own<LoopCore>) -> R<i32> {
    let_go_in_children()?;
    super::readers::after_fork(core)?;
    let opened = core.signal_pipe.with(|place| {
        if let Some(pipe) = place {
            return Ok(pipe.writer());
        }
        let pipe = SignalPipe::new()?;
        core.reactor.with(|reactor| match reactor {
            Some(reactor) => reactor.set_interest(pipe.reader(), Interest::READABLE),
            None => Ok(()),
        })?;
        Ok(place.insert(pipe).writer())
    });
    opened.map_err(|error: std::io::Error| os_error(&error))
}

/// See rule 3. (Since 3.12 asyncio resets the wake-up descriptor in a child, whosever it is.)
fn let_go_in_children() -> R<()> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    fn let_go(_: &Args) -> R<Obj> {
        match INSTALLED.load(Ordering::Relaxed) {
            NONE => Ok(Obj::none()),
            ours => reset_wakeup(ours).map(|()| Obj::none()),
        }
    }
    if REGISTERED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let let_go = function::make("_let_go_of_wakeup_fd()", "aioxide", None, let_go, Kind::Plain)?;
    let kwnames = Obj::tuple(&[&Obj::interned("after_in_child")?])?;
    Obj::import("os")?
        .getattr_str("register_at_fork")?
        .call_kw(&[&let_go], Some(&kwnames))?;
    Ok(())
}

/// The loop begins to run on this thread.
pub(super) fn on_run(core: &Own<LoopCore>) -> R<()> {
    let main = imports::MAIN_THREAD.call0()?.getattr_str("ident")?;
    if main.is_none() || main.to_i64()? as u64 != threads::ident() {
        return Ok(());
    }
    let ours = open(core)?;
    let ours_before = INSTALLED.load(Ordering::Relaxed);
    match set_wakeup(ours) {
        Ok(old) if old == NONE || old == ours => core.wakes_by_signal.set(true),
        // another loop of ours, which has handlers
        Ok(old) if old == ours_before => drop(set_wakeup(old)?),
        Ok(old) => give_back(old)?,
        // the main thread, but not of the main interpreter
        Err(raised) if raised.matches(exc::value_error()) => raised.ignore(),
        Err(raised) => return Err(raised),
    }
    Ok(())
}

/// The loop has stopped.
pub(super) fn on_stop(core: &Own<LoopCore>) -> R<()> {
    if core.wakes_by_signal.replace(false) && !has_handlers(core)? {
        return reset_wakeup(writer(core));
    }
    Ok(())
}

/// The loop is dropped while it runs: the host of a guest has let go of it too soon.
pub(super) fn on_drop(core: &LoopCore) {
    let ours = writer(core);
    if ours != NONE && INSTALLED.load(Ordering::Relaxed) == ours {
        core.wakes_by_signal.set(false);
        if let Err(raised) = reset_wakeup(ours) {
            // rule 2: this is not the main thread
            raised.ignore();
        }
    }
}

/// Rule 2, when nothing else has seen to it. Runs no Python code.
pub(super) fn abandon(core: &LoopCore) {
    let ours = writer(core);
    if ours != NONE
        && INSTALLED.load(Ordering::Relaxed) == ours
        && let Some(pipe) = core.signal_pipe.with(Option::take)
    {
        pipe.abandon();
    }
}

/// The loop is closed: no handlers any more.
pub(super) fn on_close(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    let removed = remove_all(loop_, core);
    let Some(pipe) = core.signal_pipe.with(Option::take) else {
        return removed;
    };
    let failure = removed.err().map(Raised::take);
    if INSTALLED.load(Ordering::Relaxed) == pipe.writer()
        && let Err(raised) = reset_wakeup(pipe.writer())
    {
        // rule 2: this is not the main thread
        raised.ignore();
        pipe.abandon();
    }
    match failure {
        Some(exception) => Err(raise(&exception)),
        None => Ok(()),
    }
}

fn remove_all(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    let handlers = core.signal_handlers.get_or_none();
    if handlers.is_none() || !handlers.truth()? {
        return Ok(());
    }
    if Obj::import("sys")?
        .call_method_str("is_finalizing", &[])?
        .truth()?
    {
        let text = format!(
            "Closing the loop {} on interpreter shutdown stage, skipping signal handlers removal",
            loop_.repr()?
        );
        resource_warning::warn(&imports::UNIX_LOOP, "close", &text, Some(loop_))?;
        handlers.call_method_str("clear", &[])?;
        return Ok(());
    }
    for sig in handlers.to_vec()? {
        loop_.call_method_str("remove_signal_handler", &[&sig])?;
    }
    Ok(())
}

// --- the methods ----------------------------------------------------------------------------------

fn has_handlers(core: &LoopCore) -> R<bool> {
    core.signal_handlers.get_or_none().truth()
}

/// A busy loop looks at the pipe only if it may find something there.
fn count_as_watched(core: &LoopCore) -> R<()> {
    let (now, before) = (has_handlers(core)?, core.has_signal_handlers.get());
    core.has_signal_handlers.set(now);
    core.watched
        .set(core.watched.get() + usize::from(now) - usize::from(before));
    Ok(())
}

/// `loop.add_signal_handler(sig, callback, *args)`
fn add_signal_handler(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let (sig, callback) = (args.req(1)?, args.req(2)?);
    if imports::ISCOROUTINE.call(&[callback])?.truth()?
        || imports::ISCOROUTINEFUNCTION.call(&[callback])?.truth()?
    {
        return Err(type_error("coroutines cannot be used with add_signal_handler()"));
    }
    check_signal(sig)?;
    core.check_closed()?;
    // Outside the main thread this is where it fails, before anything has changed.
    if let Err(raised) = set_wakeup(open(core)?) {
        return Err(as_runtime_error(raised)?);
    }
    let handle = handles::make(loop_, callback.clone(), args.rest(), None)?;
    let handlers = core.signal_handlers.get_or_none();
    handlers.dict_set(sig, &handle)?;
    count_as_watched(core)?;
    if let Err(raised) = install(sig) {
        let exception = raised.take();
        handlers.call_method_str("pop", &[sig, &Obj::none()])?;
        removed(core)?;
        return Err(cannot_be_caught(sig, &exception)?);
    }
    Ok(Obj::none())
}

/// A Python-level handler that does nothing, so that the C-level one writes to the pipe.
fn install(sig: &Obj) -> R<()> {
    if !NOOP.filled() {
        let noop: Imp = |_| Ok(Obj::none());
        NOOP.fill(function::make(
            "_sighandler_noop(signum, frame)",
            "asyncio.unix_events",
            None,
            noop,
            Kind::Plain,
        )?);
    }
    let signal = Obj::import("signal")?;
    signal.call_method_str("signal", &[sig, &NOOP])?;
    // SA_RESTART: system calls of the program are not interrupted
    signal.call_method_str("siginterrupt", &[sig, &Obj::bool(false)])?;
    Ok(())
}

/// `loop.remove_signal_handler(sig)`: was there one?
fn remove_signal_handler(args: &Args) -> R<Obj> {
    let (_, core) = this(args)?;
    let sig = args.req(1)?;
    check_signal(sig)?;
    let handlers = core.signal_handlers.get_or_none();
    if handlers.dict_get(sig)?.is_none() {
        return Ok(Obj::bool(false));
    }
    handlers.call_method_str("pop", &[sig, &Obj::none()])?;
    let signal = Obj::import("signal")?;
    let interrupt = sig.eq(&signal.getattr_str("SIGINT")?)?;
    let default = signal.getattr_str(if interrupt {
        "default_int_handler"
    } else {
        "SIG_DFL"
    })?;
    if let Err(raised) = signal.call_method_str("signal", &[sig, &default]) {
        count_as_watched(core)?;
        if !raised.matches(exc::os_error()) {
            return Err(raised);
        }
        return Err(cannot_be_caught(sig, &raised.take())?);
    }
    removed(core)?;
    Ok(Obj::bool(true))
}

/// After the last handler the wake-up descriptor is let go, unless the loop runs.
fn removed(core: &LoopCore) -> R<()> {
    count_as_watched(core)?;
    if has_handlers(core)? || core.wakes_by_signal.get() {
        return Ok(());
    }
    match set_wakeup(NONE) {
        Ok(_) => Ok(()),
        Err(raised) if raised.matches(exc::value_error()) || raised.matches(exc::os_error()) => {
            let exception = raised.take();
            imports::LOGGER
                .call_method_str("info", &[&Obj::str("set_wakeup_fd(-1) failed: %s")?, &exception])?;
            Ok(())
        }
        Err(raised) => Err(raised),
    }
}

/// `_check_signal(sig)`
fn check_signal(sig: &Obj) -> R<()> {
    if !crate::ffi::object::is_int(sig) {
        return Err(type_error(&format!("sig must be an int, not {}", sig.repr()?)));
    }
    if !Obj::import("signal")?
        .call_method_str("valid_signals", &[])?
        .contains(sig)?
    {
        return Err(value_error(&format!(
            "invalid signal number {}",
            sig.to_str()?.to_string()?
        )));
    }
    Ok(())
}

/// `raise RuntimeError(str(exc))` while ValueError or OSError is handled; others stay.
fn as_runtime_error(raised: Raised) -> R<Raised> {
    if !raised.matches(exc::value_error()) && !raised.matches(exc::os_error()) {
        return Ok(raised);
    }
    let exception = raised.take();
    let text = exception.to_str()?.to_string()?;
    Ok(while_handling(&exception, &text))
}

/// EINVAL of `signal.signal` as RuntimeError; others stay.
fn cannot_be_caught(sig: &Obj, exception: &Obj) -> R<Raised> {
    let invalid = exception.isinstance(exc::os_error())?
        && exception
            .getattr_str("errno")?
            .eq(&Obj::int(libc::EINVAL.into())?)?;
    if !invalid {
        return Ok(raise(exception));
    }
    Ok(while_handling(
        exception,
        &format!("sig {} cannot be caught", sig.to_str()?.to_string()?),
    ))
}

fn while_handling(exception: &Obj, text: &str) -> Raised {
    let error = runtime_error(text).take();
    exceptions::set_context(&error, Some(exception.clone()));
    raise(&error)
}
