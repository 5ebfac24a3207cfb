//! `register(signum)`: a signal at which the process tells what its loops are doing, whatever they are doing.
//!
//! Owns the thread that answers. Python's own handlers run in the main thread between two bytecodes, and so not while a
//! call into C holds the GIL, which is when one wants to know.
//!
//! A forked child has no such thread: it does nothing at the signal until a loop runs there, or it registers one itself.
//!
//! Must never: take the GIL in the thread that answers, nor the lock of what is registered anywhere else.

use super::records::{self, Record};
use super::{running, trace};
use crate::ffi::errors::{os_error, value_error};
use crate::ffi::function::Kind::Plain;
use crate::ffi::{Args, Obj, R, stack, threads};
use crate::module::export;
use aioxide_core::caught::{self, Before};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The process that has the thread, and the signals that it answers. A child inherits it: what it does at a signal is its
/// own, but what was done before is not forgotten.
#[derive(Debug)]
struct Registered {
    answered_in: Option<u32>,
    before: BTreeMap<i32, Before>,
}

/// Locked with the GIL only: so nobody has it at an `os.fork()`.
static REGISTERED: Mutex<Registered> = Mutex::new(Registered {
    answered_in: None,
    before: BTreeMap::new(),
});

impl Registered {
    fn lock() -> MutexGuard<'static, Registered> {
        REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This process has the thread from now on.
    fn answered_here(&mut self) -> io::Result<()> {
        let here = Some(threads::fork_epoch());
        if self.answered_in != here {
            caught::answer(answer)?;
            self.answered_in = here;
        }
        Ok(())
    }
}

/// A loop runs for the first time in this process: signals that a parent has registered are answered from now on.
pub(super) fn on_first_run() {
    let mut registered = Registered::lock();
    if !registered.before.is_empty() {
        // (without a thread nobody answers, and that is all)
        let _ = registered.answered_here();
    }
}

/// Those mean that the process is broken, and come from within.
const OF_CRASHES: [i32; 5] = [
    libc::SIGSEGV,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGILL,
];

/// `register(signum)`. With `AIOXIDE_DIAG=0` too: a program that was started so must not end by a signal that it catches
/// otherwise. There are no records then.
fn register_signal(args: &Args) -> R<Obj> {
    let signal = number(args.req(0)?)?;
    if OF_CRASHES.contains(&signal) {
        return Err(value_error("signals of crashes are faulthandler's"));
    }
    let mut registered = Registered::lock();
    registered.answered_here().map_err(|error| os_error(&error))?;
    let before = caught::catch(signal).map_err(|error| os_error(&error))?;
    registered.before.entry(signal).or_insert(before);
    Ok(Obj::none())
}

/// `unregister(signum)`: whether it was registered.
fn unregister_signal(args: &Args) -> R<Obj> {
    let signal = number(args.req(0)?)?;
    let mut registered = Registered::lock();
    let Some(before) = registered.before.remove(&signal) else {
        return Ok(Obj::bool(false));
    };
    caught::restore(signal, &before).map_err(|error| os_error(&error))?;
    Ok(Obj::bool(true))
}

fn number(signal: &Obj) -> R<i32> {
    i32::try_from(signal.to_i64()?).map_err(|_| value_error("signal number out of range"))
}

/// By the thread that answers: where each loop is, and the flight recorder's file if it is on.
fn answer() {
    for loop_ in running() {
        let stack = stack::thread_stack(loop_.vitals.thread());
        let lines: Vec<String> = stack
            .frames
            .iter()
            .map(|frame| format!("{}:{}:{}", frame.file, frame.line, frame.function))
            .collect();
        let top = lines.first().map_or("?", String::as_str);
        let state = format!("{:?}", loop_.vitals.pulse.state()).to_lowercase();
        let record = Record::new("dump")
            .integer("loop", loop_.vitals.number().into())
            .text("state", &state)
            .boolean("consistent", stack.consistent)
            .message(format!("loop {} is {state}, at {top}", loop_.vitals.number()))
            .texts("stack", &lines);
        records::emit(record);
    }
    trace::save_in_background("signal");
}

/// Puts the functions into the module. Called once.
pub(super) fn register(diag: &Obj) -> R<()> {
    export(
        diag,
        &[
            ("aioxide.diag", "register(signum)", register_signal, Plain),
            ("aioxide.diag", "unregister(signum)", unregister_signal, Plain),
        ],
    )
}
