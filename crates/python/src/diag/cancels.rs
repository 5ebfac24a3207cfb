//! Cancel forensics: who cancelled a task, from where and why; and which cancellations come to nothing.
//!
//! Rules
//! 1. A [`Cancellation`] keeps nothing alive: of a task that cancelled, or through which it came, its number and (if it had
//!    one of its own) the text of its name; of the line, a [`Site`].
//! 2. What is *swallowed* is decided by what has happened, not by what might: a task that has got a CancelledError and
//!    awaits something is cleaning up, as long as any of its functions still handles that exception or has it in a
//!    variable. If none has, and it goes on for [`SWALLOWED_AFTER`], or ends with a result, it is swallowed; unless
//!    somebody has called `uncancel()`.
//! 3. A task that has caught its CancelledError and ends with a result without awaiting anything but clean-up is not
//!    reported but in development: the cancellation has had its effect, though nobody can tell. Nor is the block of a
//!    `timeout()` that ends so: who has caught the CancelledError there may know very well that the time is over.
//! 4. One record for each cancellation at most.
//! 5. Up to 3.12 a TaskGroup that has cancelled its parent while that waited for it keeps the CancelledError, and does not
//!    call `uncancel()`. That is no swallowing, and the parent need not end: the group has what it wanted. (It keeps what
//!    others have sent as well, which is swallowed. Of asyncio's groups it is not known which of them has asked: where an
//!    inner one keeps what an outer one has sent, nothing is told.)

use super::own;
use super::records::{self, Record};
use super::waits::{self, Chain, Place};
use super::{dev, settings};
use crate::event_loop::core::{self, LoopCore};
use crate::ffi::errors::{R, Raised, type_error};
use crate::ffi::function::Kind::Plain;
use crate::ffi::object::Static;
use crate::ffi::stack::Site;
use crate::ffi::{Args, Class, ClassCell, Fifo, Obj, Own, Slot, Slots, Visitor, class, running};
use crate::imports;
use crate::tasks::Task;
use crate::version;
use aioxide_core::coarse_now;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;

/// For how long a task may await other things, having forgotten its CancelledError: seconds.
const SWALLOWED_AFTER: f64 = 1.0;
/// When a task that was cancelled and has not ended is slow: seconds.
const SLOW_AFTER: f64 = 5.0;
/// How many CancelledErrors are remembered.
const EXCEPTIONS: usize = 256;

/// Why a task was cancelled.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(crate) enum Why {
    /// The program called `cancel()`.
    #[default]
    Program,
    /// A `timeout()`, or a `wait_for()`, was over.
    Timeout,
    /// A task of its group failed, or the group's block did.
    TaskGroup,
    /// The `gather()` that it was part of was cancelled.
    Gather,
    /// Its runner ended: `asyncio.run()` cancels what is left.
    Shutdown,
    /// Ctrl-C.
    Interrupt,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Why::Program => "cancel()",
            Why::Timeout => "timeout",
            Why::TaskGroup => "task group",
            Why::Gather => "gather",
            Why::Shutdown => "shutdown",
            Why::Interrupt => "Ctrl-C",
        }
    }
}

/// The reason that a `cancel()` is to be told.
#[derive(Clone, Copy, Default)]
struct Cause {
    why: Why,
    /// The task whose cancellation was handed on, because it waits for this one. Its name is in [`THROUGH`].
    through: u64,
}

thread_local! {
    static CAUSE: Cell<Cause> = const { Cell::new(Cause { why: Why::Program, through: 0 }) };
    /// The name of its own, of the task that hands on its cancellation: a str.
    static THROUGH: RefCell<Option<Obj>> = const { RefCell::new(None) };
}

/// Whatever `f` cancels is cancelled for this reason.
pub(crate) fn because<T>(why: Why, f: impl FnOnce() -> T) -> T {
    let before = CAUSE.get();
    // what is handed on keeps the reason that it began with
    let why = if before.why == Why::Program {
        why
    } else {
        before.why
    };
    CAUSE.set(Cause { why, ..before });
    let result = f();
    CAUSE.set(before);
    result
}

/// Whatever `f` cancels is cancelled because `task` was, which waits for it.
pub(crate) fn handed_on<T>(task: &Own<Task>, f: impl FnOnce() -> T) -> T {
    let before = CAUSE.get();
    CAUSE.set(Cause {
        through: task.serial(),
        ..before
    });
    let name_before = THROUGH.replace(task.own_name());
    let result = f();
    CAUSE.set(before);
    drop(THROUGH.replace(name_before));
    result
}

/// What has become of a cancellation.
#[derive(Clone, Copy, PartialEq, Default)]
enum Fate {
    /// It is on its way, or has ended the task.
    #[default]
    Open,
    /// The task has got it, and cleans up (rule 2).
    Handled,
    /// The task has got it and goes on as if nothing had happened.
    Forgotten,
    /// `uncancel()`
    TakenBack,
    /// It has been reported.
    Reported,
}

/// The last cancellation of a task; part of what few futures have. It costs a task that is cancelled no allocation of
/// its own, as the CancelledError that it ends with is kept there too.
#[derive(Default)]
pub(crate) struct Cancellation {
    by: Cell<u64>,
    /// A str.
    by_name: Slot,
    through: Cell<u64>,
    /// A str.
    through_name: Slot,
    site: Cell<Site>,
    why: Cell<Why>,
    /// On the monotonic clock, a few milliseconds old at most. 0: it was never cancelled.
    at: Cell<f64>,
    requests: Cell<u32>,
    deliveries: Cell<u32>,
    /// Of the requests that are not taken back, how many nobody is going to (rule 5).
    kept: Cell<u32>,
    fate: Cell<Fate>,
    /// Where the CancelledError came in, and where it was caught.
    thrown: RefCell<Vec<Place>>,
}

/// What is known of a cancellation at some moment.
#[derive(Clone)]
struct Facts {
    by: u64,
    by_name: Option<Obj>,
    through: u64,
    through_name: Option<Obj>,
    site: Site,
    why: Why,
    at: f64,
    requests: u32,
    deliveries: u32,
}

impl Cancellation {
    /// For `tp_traverse`.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.by_name.visit(visitor);
        self.through_name.visit(visitor);
    }

    /// For `tp_clear`.
    pub(crate) fn clear(&self) {
        self.by_name.put(None);
        self.through_name.put(None);
    }

    fn facts(&self) -> Facts {
        Facts {
            by: self.by.get(),
            by_name: self.by_name.get(),
            through: self.through.get(),
            through_name: self.through_name.get(),
            site: self.site.get(),
            why: self.why.get(),
            at: self.at.get(),
            requests: self.requests.get(),
            deliveries: self.deliveries.get(),
        }
    }

    /// Has it come in, and does nobody have its CancelledError any more, to raise it later?
    fn is_gone(&self) -> bool {
        if self.deliveries.get() < self.requests.get() {
            return false;
        }
        let Some(exception) = self.delivered() else {
            return true;
        };
        // (one reference is ours, and one that of the step of the task which has thrown it in)
        if self.fate.get() == Fate::Handled || exception.refcount() > 2 {
            return false;
        }
        let thrown = places_of(&exception).map_err(Raised::ignore).unwrap_or_default();
        self.thrown.replace(thrown);
        true
    }

    /// Rule 5: as good as taken back.
    fn keep(&self) {
        self.kept.set(self.kept.get() + 1);
        self.fate.set(Fate::TakenBack);
    }

    /// Is it for this reason, has it come in, and was there no other?
    fn is_one_by(&self, why: Why) -> bool {
        (self.why.get(), self.requests.get(), self.deliveries.get()) == (why, 1, 1)
    }

    /// Rule 5, of asyncio's TaskGroup. (Whoever caught it in the block has had it taken back by the group. What the group
    /// has let through has a traceback of more lines than one.)
    fn is_kept_by_group(&self) -> bool {
        let of_group = |file: &str, function: &str, name: &str| {
            function == name && file.ends_with("asyncio/taskgroups.py") && own::is_library(file)
        };
        let settled = matches!(self.fate.get(), Fate::TakenBack | Fate::Reported);
        if version::TASKGROUP_313.get() || settled || !self.is_one_by(Why::Program) {
            return false;
        }
        let by = self.site.get().resolve();
        by.is_some_and(|by| of_group(&by.file, &by.function, "TaskGroup._on_task_done"))
            && match &self.thrown.borrow()[..] {
                [] => true,
                [at] => of_group(&at.file, &at.function, "TaskGroup.__aexit__"),
                _ => false,
            }
    }

    /// The CancelledError that the task has got last, if it is still there.
    fn delivered(&self) -> Option<Obj> {
        let here = self.facts();
        let thrown = THROWN_CLASS.exact(&THROWN)?.0.snapshot();
        let found = thrown.into_iter().rev().find(|(_, facts)| {
            (facts.by, facts.site, facts.requests, facts.deliveries)
                == (here.by, here.site, here.requests, here.deliveries)
                && facts.at.to_bits() == here.at.to_bits()
        });
        found?.0.referent()
    }
}

impl Own<Task> {
    /// `cancel()` was called, and the task is not done.
    #[inline]
    pub(crate) fn note_cancel(&self) {
        let cause = CAUSE.get();
        let cancellation = &self.future.extra().cancellation;
        if cancellation.is_kept_by_group() {
            cancellation.keep();
        }
        if cancellation.fate.get() == Fate::TakenBack {
            cancellation.requests.set(0);
            cancellation.deliveries.set(0);
        }
        cancellation.fate.set(Fate::Open);
        cancellation.thrown.borrow_mut().clear();
        let (by, name) = running::current_task(|task| (task.serial(), task.own_name())).unwrap_or_default();
        cancellation.by.set(by);
        cancellation.by_name.put(name);
        cancellation.through.set(cause.through);
        cancellation.through_name.put(match cause.through {
            0 => None,
            _ => THROUGH.with_borrow(Clone::clone),
        });
        cancellation.why.set(cause.why);
        cancellation.site.set(running::site());
        cancellation.at.set(coarse_now());
        cancellation.requests.set(cancellation.requests.get() + 1);
    }

    /// A request to cancel it was taken back, and so many are left.
    #[inline]
    pub(crate) fn note_uncancel(&self, left: u32) {
        if let Some(cancellation) = self.cancellation()
            && left <= cancellation.kept.get()
        {
            cancellation.kept.set(left);
            cancellation.fate.set(Fate::TakenBack);
        }
    }

    /// Rule 5: a group of ours ends that had asked for it.
    pub(crate) fn note_kept_by_group(&self) {
        if let Some(cancellation) = self.cancellation()
            && cancellation.is_one_by(Why::TaskGroup)
        {
            cancellation.keep();
        }
    }

    fn cancellation(&self) -> Option<&Cancellation> {
        let extra = self.future.extra_opt()?;
        Some(&extra.cancellation).filter(|cancellation| cancellation.at.get() > 0.0)
    }
}

/// The CancelledErrors that tasks have got lately: weak references to them, and what they came from.
#[derive(Default)]
struct Thrown(Fifo<(Obj, Facts)>);

static THROWN_CLASS: ClassCell<Thrown> = ClassCell::new();
static THROWN: Static = Static::new();

impl Class for Thrown {
    const NAME: &'static CStr = c"aioxide._core.Thrown";
    const SUBCLASSABLE: bool = false;

    fn class() -> &'static ClassCell<Thrown> {
        &THROWN_CLASS
    }
    fn slots(slots: &mut Slots<Thrown>) -> R<()> {
        slots.no_new();
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.0.for_each(|(exception, facts)| {
            for object in [
                Some(exception),
                facts.by_name.as_ref(),
                facts.through_name.as_ref(),
            ]
            .into_iter()
            .flatten()
            {
                visitor.obj(object);
            }
        });
    }
    fn clear(&self) {
        drop(self.0.take());
    }
}

/// A task is about to get `exception`.
#[cold]
pub(crate) fn delivers(task: &Own<Task>, exception: &Obj) {
    let Some(cancellation) = task.cancellation().filter(|_| is_cancelled_error(exception)) else {
        return;
    };
    cancellation.deliveries.set(cancellation.deliveries.get() + 1);
    let Some(thrown) = THROWN_CLASS.exact(&THROWN) else {
        return;
    };
    match exception.weak_reference() {
        Ok(exception) => thrown.0.push_back((exception, cancellation.facts())),
        Err(raised) => raised.ignore(),
    }
    let oldest = if thrown.0.len() > EXCEPTIONS {
        thrown.0.pop_front()
    } else {
        None
    };
    drop(oldest);
}

/// A task has got `exception`, and awaits something.
#[cold]
pub(crate) fn goes_on(task: &Own<Task>, exception: &Obj) {
    if task.cancels.get() == 0 || !settings::enabled() || !is_cancelled_error(exception) {
        return;
    }
    let Some(cancellation) = task.cancellation() else {
        return;
    };
    // (in the step that got it; a further request makes it open again)
    if matches!(cancellation.fate.get(), Fate::TakenBack | Fate::Reported) {
        return;
    }
    let looked = || -> R<()> {
        let fate = if is_handled(task)? {
            Fate::Handled
        } else {
            Fate::Forgotten
        };
        cancellation.fate.set(fate);
        let thrown = places_of(exception)?;
        cancellation.thrown.replace(thrown);
        if fate == Fate::Forgotten && cancellation.is_kept_by_group() {
            cancellation.keep();
        }
        Ok(())
    };
    if let Err(raised) = looked() {
        raised.ignore();
    }
    if let Some(core) = task.future.loop_.get().as_ref().and_then(core::of) {
        core.diagnosis.watch_cancelled(core, task);
    }
}

fn is_cancelled_error(exception: &Obj) -> bool {
    exception
        .isinstance(&imports::CANCELLED_ERROR)
        .map_err(Raised::ignore)
        .unwrap_or(false)
}

/// Functions of ours that wait on, having been cancelled, and raise it in the end.
const PATIENT: [&str; 8] = [
    "TaskGroup.__aexit__",
    "Condition.wait",
    "Condition.wait_for",
    "Barrier.wait",
    "wait_for",
    "_cancel_and_wait",
    "BaseEventLoop.shutdown_default_executor",
    "Server.serve_forever",
];

/// Does any function of a suspended task handle a CancelledError, or keep one? (rule 2)
fn is_handled(task: &Own<Task>) -> R<bool> {
    let chain = Chain::of(task)?;
    if chain
        .native
        .iter()
        .any(|body| PATIENT.contains(&body.qualified_name()))
    {
        return Ok(true);
    }
    for framed in &chain.framed {
        for held in imports::GC_REFERENTS.call(&[framed])?.to_vec()? {
            if held.isinstance(&imports::CANCELLED_ERROR)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The lines in an exception's traceback, from inside out.
fn places_of(exception: &Obj) -> R<Vec<Place>> {
    let mut places = Vec::new();
    let mut traceback = crate::ffi::exceptions::traceback(exception);
    while let Some(here) = traceback {
        let mut place = Place::of_frame(&here.getattr_str("tb_frame")?)?;
        place.line = here.getattr_str("tb_lineno")?.to_i64()?;
        places.push(place);
        traceback = here.getattr_str("tb_next")?.non_none().cloned();
    }
    places.reverse();
    Ok(places)
}

/// A task that was cancelled, and never uncancelled, has ended: with a result, or with this exception.
#[cold]
pub(crate) fn ended(task: &Own<Task>, exception: Option<&Obj>) {
    let Some(cancellation) = task.cancellation() else {
        return;
    };
    let swallowed = match cancellation.fate.get() {
        Fate::Forgotten => true,
        // rule 3
        Fate::Open | Fate::Handled => cancellation.deliveries.get() > 0 && dev::enabled(),
        Fate::TakenBack | Fate::Reported => false,
    };
    if !swallowed
        || !settings::enabled()
        || exception.is_some_and(is_no_swallowing)
        || cancellation.is_kept_by_group()
    {
        return;
    }
    let how = match exception {
        None => "ended with a result".to_owned(),
        Some(exception) => format!("ended with {}", exception.class_name()),
    };
    report_swallowed(task, cancellation, &how, None);
}

/// What a task may end with, having been cancelled: several exceptions (a group had more than the cancellation to
/// tell of), the end of the process, or the error of a clean-up, whose context the CancelledError is.
fn is_no_swallowing(exception: &Obj) -> bool {
    let of = |class: &Obj| {
        exception
            .isinstance(class)
            .map_err(Raised::ignore)
            .unwrap_or(true)
    };
    if of(&imports::BASE_EXCEPTION_GROUP)
        || of(crate::ffi::errors::exc::keyboard_interrupt())
        || of(crate::ffi::errors::exc::system_exit())
    {
        return true;
    }
    let mut context = crate::ffi::exceptions::context(exception);
    for _ in 0..100 {
        match context {
            Some(here) if is_cancelled_error(&here) => return true,
            Some(here) => context = crate::ffi::exceptions::context(&here),
            None => break,
        }
    }
    false
}

/// The block of a `timeout()` that has expired has ended as if it had not.
#[cold]
pub(crate) fn swallowed_by_block(task: &Obj) {
    let Some(task) = Task::class().instance(task) else {
        return;
    };
    let Some(cancellation) = task.cancellation() else {
        return;
    };
    let swallowed = match cancellation.fate.get() {
        Fate::Forgotten => true,
        // rule 3
        Fate::Open | Fate::Handled => dev::enabled() && cancellation.is_gone(),
        Fate::TakenBack | Fate::Reported => false,
    };
    if !swallowed || !settings::enabled() || cancellation.is_kept_by_group() {
        return;
    }
    report_swallowed(
        task,
        cancellation,
        "left the block of the timeout as if in time",
        None,
    );
}

fn report_swallowed(task: &Own<Task>, cancellation: &Cancellation, how: &str, now: Option<&Place>) {
    cancellation.fate.set(Fate::Reported);
    let Some(name) = name(task) else { return };
    let thrown = cancellation.thrown.borrow();
    let mut message = format!(
        "Cancellation swallowed: {name} {how}, though it was cancelled {} and nobody called uncancel().",
        cancellation.facts().source()
    );
    let mut record = cancellation.record("cancel_swallowed", &name);
    if let Some(place) = own::line(&*thrown) {
        message += &format!("\n  It got the CancelledError at {}", place.text());
        record = record.text("at", &place.text());
    }
    if let Some(place) = thrown.last().filter(|_| thrown.len() > 1) {
        message += &format!("\n  and it was caught in {}", place.text());
        record = record.text("caught", &place.text());
    }
    if let Some(place) = now {
        message += &format!("\n  It goes on at {}", place.text());
        record = record.text("now", &place.text());
    }
    record = record.text("how", how);
    // A worker that empties its queue before it ends goes on, too: that is a warning for who is at work on the program.
    if now.is_none() || dev::enabled() {
        record = record.message(message);
    }
    records::emit(record);
}

fn report_slow(task: &Own<Task>, cancellation: &Cancellation, places: &[Place]) {
    cancellation.fate.set(Fate::Reported);
    let Some(name) = name(task) else { return };
    let mut message = format!(
        "Cancellation is slow: {name} was cancelled {} and has not ended after {:.1} s.",
        cancellation.facts().source(),
        cancellation.age()
    );
    let mut record = cancellation.record("cancel_slow", &name);
    if let Some(place) = own::line(places) {
        message += &format!("\n  It waits at {}", place.text());
        record = record.text("at", &place.text());
    }
    let stack = places.iter().map(Place::text);
    records::emit(record.texts("stack", stack).message(message));
}

fn name(task: &Own<Task>) -> Option<String> {
    waits::name_of(task.obj()).map_err(Raised::ignore).ok()
}

/// The name of a task that may be no more, by its number and the name of its own. `None`: there was no task, or none whose name
/// is a plain str.
fn name_kept(number: u64, name: Option<&Obj>) -> Option<String> {
    match name {
        Some(name) => name.to_string().map_err(Raised::ignore).ok(),
        None => Task::unnamed(number),
    }
}

impl Cancellation {
    fn age(&self) -> f64 {
        coarse_now() - self.at.get()
    }

    fn record(&self, event: &str, task: &str) -> Record {
        let facts = self.facts();
        let mut record = Record::new(event).text("task", task);
        for (key, value) in [
            ("by", facts.by()),
            ("by_site", facts.line()),
            ("through", facts.through()),
        ] {
            record = record.text_or_null(key, value.as_deref());
        }
        record
            .text("reason", facts.why.text())
            .milliseconds("ms", self.age() * 1e3)
            .integer("requests", facts.requests.into())
            .integer("deliveries", facts.deliveries.into())
    }
}

impl Facts {
    /// Who cancelled: the name of a task.
    fn by(&self) -> Option<String> {
        name_kept(self.by, self.by_name.as_ref())
    }

    /// Through whom.
    fn through(&self) -> Option<String> {
        name_kept(self.through, self.through_name.as_ref())
    }

    /// Where.
    fn line(&self) -> Option<String> {
        let frame = self.site.resolve()?;
        Some(format!("{}:{}:{}", frame.file, frame.line, frame.function))
    }

    /// `by Task-3 (timeout) at app.py:70:main`
    fn source(&self) -> String {
        let mut text = self
            .by()
            .map_or_else(|| "by a callback".to_owned(), |by| format!("by {by}"));
        if self.why != Why::Program {
            text += &format!(" ({})", self.why.text());
        }
        if let Some(through) = self.through() {
            text += &format!(" through {through}");
        }
        if let Some(line) = self.line() {
            text += &format!(" at {line}");
        }
        text
    }
}

/// A task that has been cancelled and has not ended; part of the loop's [`Diagnosis`](super::deadlock::Diagnosis).
pub(crate) struct Watched {
    /// A weak reference to the task.
    task: Obj,
    pub(crate) due: f64,
}

impl Watched {
    /// Watches a task from now on.
    pub(crate) fn new(task: &Own<Task>) -> Option<Watched> {
        let cancellation = task.cancellation()?;
        let mut watched = Watched {
            task: task.obj().weak_reference().map_err(Raised::ignore).ok()?,
            due: 0.0,
        };
        watched.set_due(cancellation);
        Some(watched)
    }

    fn set_due(&mut self, cancellation: &Cancellation) {
        let forgotten = cancellation.fate.get() == Fate::Forgotten;
        self.due = cancellation.at.get() + if forgotten { SWALLOWED_AFTER } else { SLOW_AFTER };
    }

    /// For `tp_traverse`.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        visitor.obj(&self.task);
    }

    /// Is it this task?
    pub(crate) fn is(&self, task: &Own<Task>) -> bool {
        self.task.weakly_refers_to(task.obj())
    }

    /// Its time has come: reports it if there is something to report. `false`: it need not be watched any longer.
    pub(crate) fn look(&mut self, _: &Own<LoopCore>) -> bool {
        let Some(task) = self.task.referent() else {
            return false;
        };
        let Some(task) = Task::class().instance(&task) else {
            return false;
        };
        let Some(cancellation) = task.cancellation() else {
            return false;
        };
        let fate = cancellation.fate.get();
        if task.future.is_done()
            || task.cancels.get() == 0
            || matches!(fate, Fate::TakenBack | Fate::Reported)
            || cancellation.is_kept_by_group()
        {
            return false;
        }
        let looked = || -> R<bool> {
            let places = Chain::of(task)?.places()?;
            if fate == Fate::Forgotten && !is_handled(task)? {
                let now = own::line(&places).cloned();
                report_swallowed(task, cancellation, "goes on", now.as_ref());
                return Ok(false);
            }
            if cancellation.age() >= SLOW_AFTER - 0.01 {
                report_slow(task, cancellation, &places);
                return Ok(false);
            }
            Ok(true)
        };
        let again = looked().map_err(Raised::ignore).unwrap_or(false);
        self.due = cancellation.at.get() + SLOW_AFTER;
        again
    }
}

/// Makes this area's class and exports its function.
pub(super) fn register(diag: &Obj) -> R<()> {
    class::create::<Thrown>(None)?;
    THROWN.fill(THROWN_CLASS.alloc(Thrown::default())?.into_obj());
    crate::module::export(
        diag,
        &[(
            "aioxide._core.diag",
            "_cancel_info(task_or_exception)",
            cancel_info,
            Plain,
        )],
    )
}

/// `_cancel_info(task_or_exception)`: `None`, or what is known.
fn cancel_info(args: &Args) -> R<Obj> {
    let object = args.req(0)?;
    let found = if let Some(task) = Task::class().instance(object) {
        task.cancellation().map(Cancellation::facts)
    } else if object.isinstance(&imports::CANCELLED_ERROR)? {
        let thrown = THROWN_CLASS
            .exact(&THROWN)
            .map(|thrown| thrown.0.snapshot())
            .unwrap_or_default();
        let found = thrown
            .into_iter()
            .rev()
            .find(|(exception, _)| exception.weakly_refers_to(object));
        found.map(|(_, facts)| facts)
    } else {
        return Err(type_error(&format!(
            "a task or a CancelledError was expected, got {}",
            object.repr()?
        )));
    };
    let Some(facts) = found else {
        return Ok(Obj::none());
    };
    let text = |text: Option<String>| text.map_or_else(|| Ok(Obj::none()), |text| Obj::str(&text));
    Obj::tuple_of(&[
        text(facts.by())?,
        text(facts.line())?,
        Obj::str(facts.why.text())?,
        text(facts.through())?,
        Obj::float(facts.at)?,
        Obj::int(facts.requests.into())?,
        Obj::int(facts.deliveries.into())?,
    ])
}
