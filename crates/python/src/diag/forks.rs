//! `os.fork()`: the threads that watch and answer are not there while it is under way.
//!
//! Python counts the threads of the process (since 3.12) and warns of a fork if there are others than the one that forks:
//! of ours a program knows nothing. So they end before, and begin again when a loop comes to it, which is after that.
//!
//! Must never wait for a thread that might wait for the GIL: ours never take it.

use super::{Job, at_next_boundary, attach, outlets, running};
use crate::ffi::{Obj, R};
use crate::hook::Hook;
use aioxide_core::watch;
use std::sync::atomic::{AtomicBool, Ordering};

/// A loop runs for the first time: begins to hear of forks.
#[cold]
pub(super) fn watch() {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if !ONCE.swap(true, Ordering::Relaxed)
        && let Err(raised) = register()
    {
        // (then Python warns of our threads, and that is all)
        raised.ignore();
    }
}

fn register() -> R<()> {
    let hook = |name, run| Hook::new(name, run, None, None);
    let before = hook("before_fork", |_, _| {
        watch::pause();
        attach::pause();
        outlets::pause();
        Ok(())
    })?;
    let after = hook("after_fork_in_parent", |_, _| {
        outlets::fork_is_over();
        for running in running() {
            at_next_boundary(&running, Job::GoOn);
        }
        Ok(())
    })?;
    let names = Obj::tuple(&[&Obj::interned("before")?, &Obj::interned("after_in_parent")?])?;
    Obj::import("os")?
        .getattr_str("register_at_fork")?
        .call_kw(&[before.obj(), after.obj()], Some(&names))
        .map(drop)
}

/// The fork is over. By a loop's thread, between two entries.
pub(super) fn go_on() {
    watch::go_on();
    attach::go_on();
    outlets::go_on();
}
