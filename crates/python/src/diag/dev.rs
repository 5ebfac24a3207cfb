//! Development mode: mistakes that are worth a look at every coroutine, every task and every audited call.
//!
//! `python -X dev`, `AIOXIDE_DEV=1` or `aioxide run --dev`. asyncio's debug mode is another thing, which `-X dev` turns on as
//! it always has: it takes the slow path everywhere. Nothing here does.
//!
//! | record | what it tells |
//! |---|---|
//! | `never_awaited` | a coroutine that nobody awaited: where it was made |
//! | `never_retrieved` | an exception that nobody looked at: where the task was made, and where it was raised |
//! | `destroyed_pending` | a task that was destroyed while it waited: where it was made, and where it waited |
//! | `forgotten_task` | a task that only the loop refers to: where it was made |
//! | `blocking_call` | a call that blocks the loop's thread, by `sys.audit`: the program's line |
//!
//! Rules
//! 1. One record for a line of the program, however often it makes the mistake.
//! 2. An audit hook cannot be removed. It is there only in development, and looks at nothing on other threads.
//! 3. Nothing here changes what the program does. `warnings` is told of coroutines as before.

use super::own::{self, is_library};
use super::records::{self, Record};
use super::waits::{self, Chain, Place};
use super::{MODULE, settings};
use crate::debug;
use crate::event_loop::core::LoopCore;
use crate::ffi::errors::{R, Raised};
use crate::ffi::function::Kind::Plain;
use crate::ffi::object::{Static, exact_number, is_int};
use crate::ffi::stack::{self, Frame, Site};
use crate::ffi::{Args, Class, Coroutine, Obj, Own, audit, exceptions, running, send, threads, unseen};
use crate::futures::Future;
use crate::tasks::Task;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

static ENABLED: AtomicBool = AtomicBool::new(false);

/// Is this a program under development?
#[inline(always)]
pub(crate) fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// How deep the interpreter notes where a coroutine is made.
pub(crate) const ORIGIN_DEPTH: i64 = 1;

/// `warnings._warn_unawaited_coroutine`: our module has it under its name, while [`UNAWAITED`] is in its place.
const WARN: &str = "_warn_unawaited_coroutine";
static UNAWAITED: Static = Static::new();

/// From now on it is one, unless all of diag is off.
fn enable() -> R<()> {
    if !settings::enabled() || ENABLED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let warnings = Obj::import("warnings")?;
    MODULE.setattr_str(WARN, &warnings.getattr_str(WARN)?)?;
    warnings.setattr_str(WARN, &UNAWAITED)?;
    audit::listen(heard)
}

/// `_core._develop()`: before the program begins. Whether it is under development now.
fn develop(_: &Args) -> R<Obj> {
    enable()?;
    Ok(Obj::bool(enabled()))
}

/// Exports this area's functions, and looks whether the program is under development.
pub(super) fn register(module: &Obj) -> R<()> {
    crate::module::export(
        module,
        &[
            ("aioxide._core.diag", "_develop()", develop, Plain),
            ("aioxide._core.diag", "_unawaited(coroutine)", unawaited, Plain),
        ],
    )?;
    UNAWAITED.fill(module.getattr_str("_unawaited")?);
    if settings::in_development()? {
        enable()
    } else {
        Ok(())
    }
}

// --- once for a line ----------------------------------------------------------------------------

thread_local! {
    static TOLD: RefCell<HashSet<String>> = RefCell::new(HashSet::new());
}

/// How many lines are remembered; a program that makes more mistakes hears of the first ones again.
const REMEMBERED: usize = 10_000;

/// Is it the first mistake of this kind there? (rule 1)
fn is_news(kind: &str, line: &str) -> bool {
    TOLD.with(|told| {
        let mut told = told.borrow_mut();
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert(format!("{kind} {line}"))
    })
}

fn text_of(frame: &Frame) -> String {
    format!("{}:{}:{}", frame.file, frame.line, frame.function)
}

/// `site` in words; empty if it is not known.
fn line_of(site: Site) -> String {
    site.resolve().map_or_else(String::new, |frame| text_of(&frame))
}

// --- coroutines that nobody awaited --------------------------------------------------------------

/// Where coroutines of ours were made, by their addresses: a later one takes the place of an earlier one now and then.
const PLACES: usize = 4096;

thread_local! {
    static MADE: RefCell<Vec<(usize, Site)>> = const { RefCell::new(Vec::new()) };
}

/// A coroutine of ours is made, by the program.
#[cold]
pub(crate) fn note_made(coroutine: &Obj) {
    let address = coroutine.as_ptr().addr();
    let site = running::site();
    MADE.with(|made| {
        let mut made = made.borrow_mut();
        if made.is_empty() {
            made.resize(PLACES, (0, Site::default()));
        }
        made[address / 16 % PLACES] = (address, site);
    });
}

fn made_at(coroutine: &Obj) -> Site {
    let address = coroutine.as_ptr().addr();
    MADE.with(|made| match made.borrow().get(address / 16 % PLACES) {
        Some((known, site)) if *known == address => *site,
        _ => Site::default(),
    })
}

/// `_core._unawaited(coroutine)`: takes the place of `warnings._warn_unawaited_coroutine` (rule 3).
fn unawaited(args: &Args) -> R<Obj> {
    warn_unawaited(args.req(0)?)
}

/// Tells of a coroutine that nobody awaited, then warns as ever.
pub(crate) fn warn_unawaited(coroutine: &Obj) -> R<Obj> {
    // (a report that cannot be made must not keep the warning from being given)
    if let Err(raised) = tell_unawaited(coroutine) {
        raised.ignore();
    }
    MODULE.getattr_str(WARN)?.call(&[coroutine])
}

fn tell_unawaited(coroutine: &Obj) -> R<()> {
    let name = coroutine.getattr_str("__qualname__")?.to_string()?;
    let created = if Coroutine::class().is_exact(coroutine) {
        line_of(made_at(coroutine))
    } else {
        match coroutine
            .getattr_str("cr_origin")?
            .tuple_items()
            .first()
            .map(Obj::tuple_items)
        {
            Some([file, line, function]) => {
                format!(
                    "{}:{}:{}",
                    file.to_string()?,
                    line.to_i64()?,
                    function.to_string()?
                )
            }
            _ => String::new(),
        }
    };
    if is_news("never_awaited", if created.is_empty() { &name } else { &created }) {
        let dropped = line_of(running::site());
        let message = format!(
            "Coroutine {name} was never awaited.{}{}",
            at("It was made", &created),
            at("It was dropped", &dropped)
        );
        let record = Record::new("never_awaited").text("coroutine", &name);
        let record = record.text_or_null("created", some(&created));
        records::emit_by_python(record.text_or_null("dropped", some(&dropped)).message(message));
    }
    Ok(())
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn at(what: &str, line: &str) -> String {
    some(line).map_or_else(String::new, |line| format!("\n  {what} at {line}"))
}

/// A loop is in a hurry that runs [`BREATH`](crate::event_loop::run) entries in less than this: seconds.
const HURRY: f64 = 0.005;
/// In a hurry one in so many stretches of them is tracked.
const TRACKED: u32 = 8;

/// How fast a loop runs, and whether coroutines are tracked just now.
#[derive(Default)]
pub(crate) struct Pace {
    last: Cell<f64>,
    stretch: Cell<u32>,
    paused: Cell<bool>,
}

/// A stretch of entries has run. The interpreter takes 140 ns to note where a coroutine is made, a third of what it takes
/// to make a task of it and to await that: so a loop in a hurry does it for some stretches only.
#[cold]
pub(crate) fn pace(core: &LoopCore, now: f64) -> R<()> {
    let pace = &core.pace;
    let hurries = now - pace.last.replace(now) < HURRY;
    let stretch = pace.stretch.get().wrapping_add(1);
    pace.stretch.set(stretch);
    let pause = hurries && stretch % TRACKED != 0;
    if pace.paused.replace(pause) == pause {
        return Ok(());
    }
    debug::pause_tracking(core, pause)
}

/// The loop is about to sleep.
#[inline]
pub(crate) fn rest(core: &LoopCore) -> R<()> {
    if core.pace.paused.replace(false) {
        debug::pause_tracking(core, false)?;
    }
    Ok(())
}

// --- tasks and futures ---------------------------------------------------------------------------

/// A task or a future is made.
#[cold]
pub(crate) fn note_future(future: &Future) {
    future.extra().made.set(running::site());
}

/// A task is in the list of all tasks. Its coroutine comes behind it for the garbage collector: if both are garbage, the
/// task is asked first, while the coroutine still knows where it waits.
#[cold]
pub(crate) fn note_begun(task: &Task) {
    if let Some(coroutine) = task.coro.get() {
        unseen::put_last(&coroutine);
    }
}

fn created(future: &Future) -> String {
    line_of(
        future
            .extra_opt()
            .map_or_else(Site::default, |extra| extra.made.get()),
    )
}

/// Its exception was never retrieved.
#[cold]
pub(crate) fn never_retrieved(future: &Own<Future>, exception: &Obj) {
    let told = || -> R<()> {
        let (kind, name) = kind_and_name(future)?;
        let created = created(future);
        let raised = raised_at(exception)?;
        let error = exception.class_name();
        if is_news("never_retrieved", &format!("{created} {raised}")) {
            let message = format!(
                "The exception of {name} ({error}) was never retrieved.{}{}",
                at("It was raised", &raised),
                at(&format!("The {kind} was made"), &created)
            );
            let record = Record::new("never_retrieved")
                .text(kind, &name)
                .text("exception", &error);
            let record = record.text_or_null("raised", some(&raised));
            records::emit_by_python(record.text_or_null("created", some(&created)).message(message));
        }
        Ok(())
    };
    told().unwrap_or_else(Raised::ignore);
}

fn kind_and_name(future: &Own<Future>) -> R<(&'static str, String)> {
    let kind = if Task::class().is_instance(future.obj()) {
        "task"
    } else {
        "future"
    };
    Ok((kind, waits::name_of(future.obj())?))
}

/// The program's innermost line in the traceback.
fn raised_at(exception: &Obj) -> R<String> {
    let mut found = String::new();
    let mut traceback = exceptions::traceback(exception);
    while let Some(here) = traceback {
        let mut place = Place::of_frame(&here.getattr_str("tb_frame")?)?;
        place.line = here.getattr_str("tb_lineno")?.to_i64()?;
        if found.is_empty() || !is_library(&place.file) {
            found = place.text();
        }
        traceback = here.getattr_str("tb_next")?.non_none().cloned();
    }
    Ok(found)
}

/// It is destroyed though it is pending.
#[cold]
pub(crate) fn destroyed_pending(task: &Own<Task>) {
    let told = || -> R<()> {
        let name = waits::name_of(task.obj())?;
        let created = created(&task.future);
        let places = Chain::of(task)?.places()?;
        let here = if places.is_empty() {
            first_line(task)?
        } else {
            own_line(&places)
        };
        if is_news("destroyed_pending", &format!("{created} {here}")) {
            let message = format!(
                "{name} was destroyed while it waited: nobody referred to it or to what it waited for.{}{}",
                at("It waited", &here),
                at("It was made", &created)
            );
            let record = Record::new("destroyed_pending").text("task", &name);
            let record = record.text_or_null("at", some(&here));
            records::emit_by_python(record.text_or_null("created", some(&created)).message(message));
        }
        Ok(())
    };
    told().unwrap_or_else(Raised::ignore);
}

/// Where the function begins whose coroutine does not know any more where it waited: it has been closed.
fn first_line(task: &Own<Task>) -> R<String> {
    let Some(coroutine) = task.coro.get().filter(send::is_coroutine) else {
        return Ok(String::new());
    };
    let code = coroutine.getattr_str("cr_code")?;
    Ok(format!(
        "{}:{}:{}",
        code.getattr_str("co_filename")?.to_string()?,
        code.getattr_str("co_firstlineno")?.to_i64()?,
        code.getattr_str("co_qualname")?.to_string()?
    ))
}

fn own_line(places: &[Place]) -> String {
    own::line(places).map_or_else(String::new, Place::text)
}

/// References to a task that waits and that the program has forgotten: ours, and that of the future it waits for.
const FORGOTTEN: isize = 2;

/// Looks for tasks that wait and to which nobody refers. `all`: all tasks, each with one reference of the caller's.
pub(crate) fn look_for_forgotten(all: &[Own<Task>]) {
    for task in all {
        let waits = task
            .waiter
            .look(|waiter| !Task::class().is_instance(waiter))
            .unwrap_or(false);
        if waits && task.obj().refcount() == FORGOTTEN {
            tell_forgotten(task).unwrap_or_else(Raised::ignore);
        }
    }
}

fn tell_forgotten(task: &Own<Task>) -> R<()> {
    let created = created(&task.future);
    let name = waits::name_of(task.obj())?;
    if !created.is_empty() && is_news("forgotten_task", &created) {
        let places = Chain::of(task)?.places()?;
        let here = own_line(&places);
        let message = format!(
            "Nobody refers to {name} but the future that it waits for: it may be destroyed before it ends, and its \
             exception is nobody's. Keep what create_task() gives, or use a TaskGroup.{}{}",
            at("It was made", &created),
            at("It waits", &here)
        );
        let record = Record::new("forgotten_task")
            .text("task", &name)
            .text("created", &created);
        records::emit(record.text_or_null("at", some(&here)).message(message));
    }
    Ok(())
}

// --- calls that block ----------------------------------------------------------------------------

/// Audited events of calls that block, and what the call is.
const BLOCKING: [(&CStr, &str); 16] = [
    (c"open", "open()"),
    (c"time.sleep", "time.sleep()"),
    (c"socket.connect", "socket.connect()"),
    (c"socket.getaddrinfo", "socket.getaddrinfo()"),
    (c"socket.gethostbyname", "socket.gethostbyname()"),
    (c"socket.gethostbyaddr", "socket.gethostbyaddr()"),
    (c"socket.getnameinfo", "socket.getnameinfo()"),
    (c"subprocess.Popen", "subprocess.Popen()"),
    (c"os.system", "os.system()"),
    (c"os.posix_spawn", "os.posix_spawn()"),
    (c"sqlite3.connect", "sqlite3.connect()"),
    (c"urllib.Request", "urllib.request.urlopen()"),
    (c"shutil.copyfile", "shutil.copyfile()"),
    (c"shutil.rmtree", "shutil.rmtree()"),
    (c"smtplib.connect", "smtplib.SMTP.connect()"),
    (c"builtins.input", "input()"),
];

thread_local! {
    /// What is audited is our own doing, or somebody is being told.
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// What `f` does is none of the program's doing, and does not block.
pub(crate) fn ours<T>(f: impl FnOnce() -> T) -> T {
    let before = OURS.replace(true);
    let result = f();
    OURS.set(before);
    result
}

/// An audited event, on any thread.
fn heard(event: &CStr, arguments: &Obj) {
    if !running::in_loop() || OURS.get() {
        return;
    }
    let Some((_, call)) = BLOCKING.iter().find(|(name, _)| *name == event) else {
        return;
    };
    if blocks(event, arguments) {
        ours(|| tell_blocking(call));
    }
}

/// Does this very call block?
fn blocks(event: &CStr, arguments: &Obj) -> bool {
    let first = arguments.tuple_items().first();
    match event.to_bytes() {
        // a descriptor that is open already
        b"open" => first.is_some_and(|file| !is_int(file)),
        b"time.sleep" => first.and_then(exact_number).is_none_or(|seconds| seconds > 0.0),
        b"socket.connect" => {
            let timeout = first.map(|socket| socket.call_method_str("gettimeout", &[]));
            let timeout = timeout.and_then(|timeout| timeout.map_err(Raised::ignore).ok());
            timeout.as_ref().and_then(exact_number) != Some(0.0)
        }
        _ => true,
    }
}

/// Does nobody call for what functions of this file do? An import and the lines of a traceback are read once; and what
/// we do in the program's name is our business.
fn is_excused(file: &str) -> bool {
    const READERS: [&str; 2] = ["/linecache.py", "/traceback.py"];
    file.starts_with("<frozen ")
        || file.starts_with("<aioxide")
        || READERS.iter().any(|end| file.ends_with(end))
}

fn tell_blocking(call: &str) {
    let frames = stack::thread_stack(threads::state()).frames;
    let Some(own) = frames.iter().position(|frame| !is_library(&frame.file)) else {
        return;
    };
    let (below, own) = (&frames[..own], &frames[own]);
    if below.iter().any(|frame| is_excused(&frame.file)) {
        return;
    }
    let line = text_of(own);
    if !is_news("blocking_call", &line) {
        return;
    }
    let task = running::current_task(Own::clone);
    let name = task.and_then(|task| waits::name_of(task.obj()).map_err(Raised::ignore).ok());
    let message = format!(
        "Blocking call: {call} keeps the event loop from running{}.\n  It is called at {line}",
        name.as_ref()
            .map_or_else(String::new, |name| format!(", in {name}"))
    );
    let record = Record::new("blocking_call")
        .text("call", call)
        .text_or_null("task", name.as_deref());
    let stack: Vec<String> = frames.iter().map(text_of).collect();
    records::emit(record.text("at", &line).texts("stack", stack).message(message));
}
