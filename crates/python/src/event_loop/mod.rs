//! `asyncio.EventLoop`: one file per group of `AbstractEventLoop`'s documentation.
//!
//! | file | owns |
//! |---|---|
//! | `core.rs` | the state of a loop, and what the rest of the crate may do to it |
//! | `run.rs` | the turn: poll, due timers, run what is ready |
//! | `class.rs` | the class: making it, what a program sees as attributes |
//! | `lifecycle.rs` | run_forever, run_until_complete, stop, close, is_running |
//! | `scheduling.rs` | call_soon, call_later, call_at, call_soon_threadsafe, time |
//! | `handles.rs` | Handle and TimerHandle |
//! | `creation.rs` | create_future, create_task, task factories |
//! | `errors.rs` | exception handlers |
//! | `readers.rs` | add_reader and its family |
//! | `missing.rs` | what later versions bring, with a clear error |

pub(crate) mod class;
pub(crate) mod core;
pub(crate) mod creation;
pub(crate) mod errors;
pub(crate) mod handles;
pub(crate) mod lifecycle;
pub(crate) mod missing;
pub(crate) mod readers;
pub(crate) mod run;
pub(crate) mod scheduling;

use crate::ffi::pyclass::Body;
use crate::ffi::{Obj, Own, R};

/// The groups that have files of their own and coroutines among their methods.
fn add_later_groups(_body: &mut Body) -> R<()> {
    Ok(())
}

/// The loop begins to run on this thread.
fn on_run(_loop: &Obj, _core: &Own<core::LoopCore>) -> R<()> {
    Ok(())
}

/// The loop has stopped.
fn on_stop(_core: &Own<core::LoopCore>) -> R<()> {
    Ok(())
}

/// The loop is being closed.
fn on_close(_loop: &Obj, _core: &Own<core::LoopCore>) -> R<()> {
    Ok(())
}
