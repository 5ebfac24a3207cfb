//! Blocked loops: which line keeps one from going on, told while it does.
//!
//! Owns what is known of the blocks that last, and how often a culprit has been reported. The thread that watches
//! (`aioxide_core::watch`) tells of a block; the loop's own thread notes its end when it comes aside.
//!
//! Rules
//! 1. The loop is asked to come aside *before* its stack is read. So whatever ends the block comes by [`ended`], and if
//!    the loop has come aside by the time the stack has been read, the stack may be that of something else: it is dropped.
//! 2. Both sides hold the lock for as long as they are at it: the record of the end follows that of the block.
//! 3. The culprit is the program's own line (`own.rs`). Whatever it calls is doing its work for it.
//! 4. Of one culprit a block is reported at most every [`REPEAT`] seconds; the next report says how many were not.

use super::records::{Record, printable};
use super::{Job, Vitals, at_next_boundary, metrics, own, records, settings, trace};
use crate::event_loop::core::LoopCore;
use crate::ffi::function::Kind::Plain;
use crate::ffi::stack::{Frame, Holder, Reader, Stack};
use crate::ffi::{Args, Obj, R};
use crate::module::export;
use aioxide_core::watch::{self, Block, Watched};
use aioxide_core::{Clock, Monotonic, PerProcess, Pulse};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

/// Rule 4, in seconds.
const REPEAT: f64 = 10.0;
/// How many culprits are remembered.
const MOST_CULPRITS: usize = 1000;
/// How many frames a record shows, the innermost.
const MOST_FRAMES: usize = 64;
/// A block is told of again when it has lasted ten times as long.
const AGAIN: f64 = 10.0;
/// The length of a block is called exact if no more than this part of it may be missing.
const EXACT: f64 = 0.01;

/// A block that has been reported, and lasts.
struct Ongoing {
    loop_: u32,
    entry: u64,
    held: bool,
    id: u64,
    since: f64,
    /// How much sooner it may have begun, in seconds: since the loop last noted the time.
    missing: f64,
    /// At which age it is told of again.
    again: f64,
    samples: u32,
    found: Found,
    /// How many of the same culprit were not reported before.
    suppressed: u64,
}

/// What a look at the stack has shown.
struct Found {
    culprit: Option<Frame>,
    stack: Vec<Frame>,
    consistent: bool,
    task: Option<String>,
    task_site: Option<Frame>,
    gil: &'static str,
    /// The culprit of another thread that has the GIL.
    holder: Option<Frame>,
}

/// How often a culprit has been seen.
struct Seen {
    reported: f64,
    suppressed: u64,
}

#[derive(Default)]
struct Blocks {
    last_id: u64,
    ongoing: Vec<Ongoing>,
    culprits: HashMap<String, Seen>,
}

static BLOCKS: PerProcess<Mutex<Blocks>> = PerProcess::new();

fn lock() -> MutexGuard<'static, Blocks> {
    BLOCKS.lock()
}

/// Sees to the end of the watching. Called once.
pub(super) fn init(diag: &Obj) -> R<()> {
    // What the interpreter's threads do while it ends is no concern of anybody's: they never come back from waiting.
    let stop = |_: &Args| {
        watch::stop();
        records::finish()?;
        Ok(Obj::none())
    };
    export(diag, &[("aioxide._core.diag", "_stop()", stop, Plain)])?;
    let stop = diag.getattr_str("_stop")?;
    Obj::import("atexit")?
        .call_method_str("register", &[&stop])
        .map(drop)
}

impl Frame {
    /// `file:line:function`
    fn text(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.function)
    }
}

fn text(frame: &Option<Frame>) -> Option<String> {
    frame.as_ref().map(Frame::text)
}

fn culprit(stack: &[Frame]) -> Option<Frame> {
    own::line(stack).cloned()
}

impl Watched for Vitals {
    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn blocked(&self, block: &Block) {
        let mut blocks = lock();
        let blocks = &mut *blocks;
        let known = blocks.ongoing.iter_mut().find(|ongoing| ongoing.is(self, block));
        if let Some(ongoing) = known {
            ongoing.samples += 1;
            if block.age >= ongoing.again {
                ongoing.again = block.age * AGAIN;
                if let Some(found) = look(self, block) {
                    ongoing.found = found;
                    tell(ongoing, block.age);
                }
            }
            return;
        }
        if block.sample > 1 {
            return; // it is one of those that are not reported
        }
        self.figures.block_begins(block.since);
        let Some(found) = look(self, block) else { return };
        let Some(suppressed) = blocks.admit(&found) else {
            return;
        };
        blocks.last_id += 1;
        let ongoing = Ongoing {
            loop_: self.number(),
            entry: block.entry,
            held: block.held,
            id: blocks.last_id,
            since: block.since,
            missing: block.since - self.pulse.woke().0,
            again: block.age * AGAIN,
            samples: 1,
            found,
            suppressed,
        };
        tell(&ongoing, block.age);
        blocks.ongoing.push(ongoing);
        trace::on_event("block");
    }

    fn seen(&self, entry: u64, since: f64) {
        self.seen.note(entry, since);
    }

    fn sampled(&self, now: f64, seconds: f64) {
        metrics::sampled(self, now, seconds);
    }

    fn calm(&self) {
        let all = super::running();
        if let Some(running) = all.iter().find(|running| std::ptr::eq(&*running.vitals, self)) {
            at_next_boundary(running, Job::Calm);
        }
    }
}

impl Ongoing {
    fn is(&self, vitals: &Vitals, block: &Block) -> bool {
        (self.loop_, self.entry, self.held) == (vitals.number(), block.entry, block.held)
    }

    /// Is an age right, or is it at least that?
    fn is_exact(&self, age: f64) -> bool {
        self.missing <= age * EXACT
    }
}

impl Blocks {
    /// Rule 4: how many were left out since the last report; `None`: this one is left out too.
    fn admit(&mut self, found: &Found) -> Option<u64> {
        let now = Monotonic.now();
        if self.culprits.len() >= MOST_CULPRITS {
            self.culprits.retain(|_, seen| now - seen.reported < REPEAT);
        }
        let key = found.culprit.as_ref().map_or_else(String::new, Frame::text);
        let repeat_all = settings::get().is_some_and(|settings| settings.repeat_all);
        let Some(seen) = self.culprits.get_mut(&key) else {
            let seen = Seen {
                reported: now,
                suppressed: 0,
            };
            self.culprits.insert(key, seen);
            return Some(0);
        };
        if !repeat_all && now - seen.reported < REPEAT {
            seen.suppressed += 1;
            return None;
        }
        seen.reported = now;
        Some(std::mem::take(&mut seen.suppressed))
    }
}

/// Reads the stack of the loop's thread, or that of whoever keeps it from running. `None`: rule 1.
fn look(vitals: &Vitals, block: &Block) -> Option<Found> {
    let before = vitals.asides.load(Ordering::Acquire);
    vitals.want(Job::BlockEnded);
    let mut reader = Reader::new()?;
    let thread = vitals.thread();
    let holder = reader.gil_holder(thread);
    let task = reader.task_at(vitals.current());
    let stack = stack_of(&mut reader, thread, block.held, &holder);
    let gil = match holder {
        Holder::Unknown => "unknown",
        _ if block.held => "waiting",
        Holder::Nobody => "free",
        Holder::Thread(state) if state == thread => "held",
        Holder::Thread(_) => "other",
    };
    let holder = match holder {
        Holder::Thread(other) if gil == "other" => culprit(&reader.thread(other).frames),
        _ => None,
    };
    let found = Found {
        culprit: culprit(&stack.frames),
        holder,
        consistent: stack.consistent,
        task: task.and_then(|task| reader.task_name(task)),
        task_site: task.and_then(|task| reader.task_site(task)),
        gil,
        stack: stack.frames,
    };
    let still = vitals.asides.load(Ordering::Acquire) == before && vitals.pulse.entries() == block.entry;
    still.then_some(found)
}

/// The stack that keeps a loop from going on: its own thread's; or, if it waits for the GIL, that of whoever has it.
pub(super) fn stack_of(reader: &mut Reader, thread: usize, held: bool, holder: &Holder) -> Stack {
    match holder {
        Holder::Thread(other) if held => reader.thread(*other),
        _ => reader.thread(thread),
    }
}

/// The record of a block that lasts.
fn tell(ongoing: &Ongoing, age: f64) {
    let found = &ongoing.found;
    let record = Record::new("block")
        .text("phase", "live")
        .integer("loop", ongoing.loop_.into())
        .integer("id", ongoing.id as i64)
        .milliseconds("ms", age * 1000.0)
        .boolean("exact", ongoing.is_exact(age));
    let stack = found.stack.iter().take(MOST_FRAMES).map(Frame::text);
    records::emit(
        found
            .name(record)
            .text("gil", found.gil)
            .text_or_null("gil_holder", text(&found.holder).as_deref())
            .boolean("consistent", found.consistent)
            .texts("stack", stack)
            .integer("suppressed", ongoing.suppressed as i64),
    );
}

impl Found {
    fn name(&self, record: Record) -> Record {
        let site = self
            .task_site
            .as_ref()
            .map(|site| format!("{}:{}", site.file, site.line));
        record
            .text_or_null("task", self.task.as_deref())
            .text_or_null("task_site", site.as_deref())
            .text_or_null("culprit", text(&self.culprit).as_deref())
    }

    /// What the log says.
    fn message(&self, milliseconds: f64, is_exact: bool, suppressed: u64) -> String {
        let least = if is_exact { "" } else { "at least " };
        let place = self.culprit.as_ref().map_or_else(
            || "a callback without Python code".to_owned(),
            |frame| {
                format!(
                    "{} ({}:{})",
                    printable(&frame.function),
                    printable(&frame.file),
                    frame.line
                )
            },
        );
        let mut text = if self.gil == "waiting" {
            format!(
                "event loop kept waiting for the GIL for {least}{milliseconds:.0} ms by {place} in another thread"
            )
        } else {
            format!("event loop blocked for {least}{milliseconds:.0} ms by {place}")
        };
        if let Some(task) = &self.task {
            text += &format!(", task '{}'", printable(task));
        }
        if let Some(holder) = &self.holder {
            text += &format!(
                ", while another thread had the GIL in {} ({}:{})",
                printable(&holder.function),
                printable(&holder.file),
                holder.line
            );
        }
        if suppressed > 0 {
            text += &format!("; {suppressed} more of it since the last report");
        }
        text
    }
}

/// The loop has come aside: what has blocked it is over. By its own thread.
pub(super) fn ended(core: &LoopCore) {
    let now = Monotonic.now();
    core.vitals.figures.block_ends(now);
    let number = core.vitals.number();
    let mut blocks = lock();
    while let Some(at) = blocks.ongoing.iter().position(|ongoing| ongoing.loop_ == number) {
        let ongoing = blocks.ongoing.swap_remove(at);
        let age = now - ongoing.since;
        let (milliseconds, is_exact) = (age * 1000.0, ongoing.is_exact(age));
        let record = Record::new("block")
            .text("phase", "end")
            .integer("loop", ongoing.loop_.into())
            .integer("id", ongoing.id as i64)
            .milliseconds("ms", milliseconds)
            .boolean("exact", is_exact)
            .integer("samples", ongoing.samples.into());
        let message = ongoing.found.message(milliseconds, is_exact, ongoing.suppressed);
        records::emit(ongoing.found.name(record).message(message));
    }
}

/// Begins to watch a loop that runs.
pub(super) fn watch(vitals: &Arc<Vitals>) {
    watch::watch(Arc::clone(vitals) as Arc<dyn Watched>);
}

/// Ends that.
pub(super) fn unwatch(vitals: &Arc<Vitals>) {
    watch::unwatch(vitals);
}

/// Another threshold, in seconds; 0: none.
pub(super) fn configure(threshold: f64) {
    watch::set_threshold(threshold);
}
