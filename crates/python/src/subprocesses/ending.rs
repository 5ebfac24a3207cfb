//! How the loop hears that a child has ended, and who takes its status.
//!
//! Rules
//! 1. We do, by a descriptor that the kernel makes readable (`aioxide_core::child`): no signal handler, no thread per
//!    child, no child of anybody else's.
//! 2. Up to 3.13 a program may set a child watcher. One that does what rule 1 says is not needed; any other one is asked,
//!    as asyncio does: then it takes the status.
//! 3. A child whose status somebody else has taken has the return code that `Popen` knows of, or else 255, with a warning.

use super::transport::{self, Subprocess};
use crate::event_loop::core::{Entry, LoopCore};
use crate::event_loop::readers::{self, Side};
use crate::event_loop::run::is_fatal;
use crate::event_loop::{errors, handles};
use crate::ffi::errors::{R, os_error};
use crate::ffi::{Obj, Own, Raised, context};
use crate::imports;
use crate::transports::{Happening, Source, log};
use crate::version;
use aioxide_core::child::Status;

/// The loop watches for the end of the child.
pub(crate) fn watch(this: &Own<Subprocess>, core: &Own<LoopCore>) -> R<()> {
    let Some(fd) = this.child.with(|child| child.as_ref().map(|child| child.end())) else {
        return Ok(());
    };
    this.context.set(context::copy()?);
    readers::add_source(core, fd, Side::Reader, Source::Subprocess(this.clone()), true)?;
    this.watched.set(true);
    Ok(())
}

/// What the loop calls it for.
pub(crate) fn run(this: &Own<Subprocess>, loop_: &Obj, core: &Own<LoopCore>, happening: Happening) -> R<()> {
    let happened = || match happening {
        Happening::Readable => ended(this, core),
        // (in the meantime somebody may have set it)
        _ => match this.status.get() {
            Some(status) if this.returncode.get().is_none() => transport::process_exited(this, status),
            _ => Ok(()),
        },
    };
    let result = match this.context.get() {
        Some(context) => context::run(&context, happened),
        None => happened(),
    };
    match result {
        Err(raised) if !is_fatal(&raised) => report(this, loop_, raised),
        result => result,
    }
}

#[cold]
fn report(this: &Own<Subprocess>, loop_: &Obj, raised: Raised) -> R<()> {
    let failure = raised.take();
    let callback = this.obj().getattr_str("_process_exited")?;
    let handle = handles::make(loop_, callback, &[], None)?;
    errors::report_callback(loop_, &handle, &failure)
}

/// The descriptor is readable.
fn ended(this: &Own<Subprocess>, core: &Own<LoopCore>) -> R<()> {
    if !this.watched.get() {
        return Ok(());
    }
    let popen = this.popen();
    let status = match known(&popen)? {
        Some(status) => {
            this.child.with(|child| {
                if let Some(child) = child {
                    child.give_up();
                }
            });
            status
        }
        None => {
            let taken = this
                .child
                .with(|child| child.as_mut().map_or(Ok(Status::Running), |child| child.take()));
            match taken.map_err(|error| os_error(&error))? {
                Status::Running => return Ok(()),
                Status::Ended(status) => status,
                Status::Lost => lost(this)?,
            }
        }
    };
    forget(this, core);
    // At once: whoever asks the Popen must not look for a child that is no more.
    if known(&popen)?.is_none() {
        popen.setattr_str("returncode", &Obj::int(status.into())?)?;
    }
    this.status.set(Some(status));
    if version::SINCE_314.get() {
        return transport::process_exited(this, status);
    }
    // a turn later, as asyncio's watchers do, which use `call_soon_threadsafe`
    core.push(Entry::Source(Source::Subprocess(this.clone()), Happening::Lost));
    Ok(())
}

/// What the Popen knows: the program may have polled it.
fn known(popen: &Obj) -> R<Option<i32>> {
    if popen.is_none() {
        return Ok(None);
    }
    match popen.getattr_str("returncode")?.non_none() {
        Some(code) => Ok(Some(code.to_i64()? as i32)),
        None => Ok(None),
    }
}

/// Rule 3.
#[cold]
fn lost(this: &Own<Subprocess>) -> R<i32> {
    let text = if version::SINCE_312.get() {
        "child process pid %d exit status already read:  will report returncode 255"
    } else {
        "Unknown child process pid %d, will report returncode 255"
    };
    log("warning", text, &[&this.pid()?], None)?;
    Ok(255)
}

/// The loop does not watch any longer.
pub(super) fn forget(this: &Subprocess, core: &Own<LoopCore>) {
    if this.watched.replace(false)
        && let Some(fd) = this.child.with(|child| child.as_ref().map(|child| child.end()))
    {
        readers::remove_source(core, fd, Side::Reader, false);
    }
}

/// Rule 2: the watcher that is to be asked.
pub(crate) fn foreign_watcher() -> R<Option<Obj>> {
    if version::SINCE_314.get() {
        return Ok(None);
    }
    let policy = imports::GET_POLICY.call0()?;
    let name = Obj::interned("get_child_watcher")?;
    let Some(method) = policy.class().getattr_opt(&name)? else {
        return Ok(None);
    };
    let abstract_one = imports::EVENTS
        .getattr_str("AbstractEventLoopPolicy")?
        .getattr_opt(&name)?;
    if abstract_one.is_some_and(|abstract_one| abstract_one.is(&method)) {
        return Ok(None);
    }
    let stock = imports::STOCK_POLICY.getattr(&name)?;
    let watcher = if method.is(&stock) {
        // asked for by its method, it would make one
        policy.getattr_opt(&Obj::interned("_watcher")?)?
    } else {
        Some(ask(&policy)?)
    };
    let Some(watcher) = watcher.filter(|watcher| !watcher.is_none()) else {
        return Ok(None);
    };
    for ours_in_effect in ["PidfdChildWatcher", "ThreadedChildWatcher"] {
        if watcher.is_exactly(&imports::UNIX_EVENTS.getattr_str(ours_in_effect)?) {
            return Ok(None);
        }
    }
    Ok(Some(watcher))
}

/// `policy.get_child_watcher()`, which may say that it is deprecated: not the program's business.
fn ask(policy: &Obj) -> R<Obj> {
    if !version::SINCE_312.get() {
        return policy.call_method_str("get_child_watcher", &[]);
    }
    let warnings = Obj::import("warnings")?;
    let caught = warnings.call_method_str("catch_warnings", &[])?;
    caught.call_method_str("__enter__", &[])?;
    let ignore = Obj::str("ignore")?;
    let result = warnings
        .call_method_str(
            "simplefilter",
            &[&ignore, crate::ffi::errors::exc::deprecation_warning()],
        )
        .and_then(|_| policy.call_method_str("get_child_watcher", &[]));
    let failure = match result {
        Ok(watcher) => Ok(watcher),
        Err(raised) => Err(raised.take()),
    };
    let none = Obj::none();
    caught.call_method_str("__exit__", &[&none, &none, &none])?;
    failure.map_err(|exception| crate::ffi::errors::raise(&exception))
}
