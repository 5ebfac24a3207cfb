//! `asyncio.locks`: one primitive = one file.
//!
//! | file | owns |
//! |---|---|
//! | `lock.rs`, `event.rs`, `condition.rs`, `semaphore.rs`, `barrier.rs` | the classes of these names |
//! | `waiters.rs` | the wait queue under all of them, and suspending in it |
//! | `context_manager.rs` | `async with` |
//! | `loop_bound.rs` | to which loop a primitive belongs |
//!
//! An operation that need not wait neither suspends nor makes a future. A fast path is taken by exact
//! class and only while the instance has no attributes of its own: a program that overrides a method,
//! in a class or on an instance, gets it called.

mod barrier;
mod condition;
pub(crate) mod context_manager;
pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod loop_bound;
pub(crate) mod semaphore;
pub(crate) mod waiters;

use crate::ffi::{Class, Obj, R, class};

/// Exports this area's classes.
pub(crate) fn register(module: &Obj) -> R<()> {
    class::create::<lock::Lock>(None)?;
    class::create::<event::Event>(None)?;
    class::create::<condition::Condition>(None)?;
    class::create::<semaphore::Semaphore>(None)?;
    class::create::<semaphore::BoundedSemaphore>(Some(semaphore::Semaphore::class().get()))?;
    class::create::<barrier::Barrier>(None)?;
    for (name, class) in [
        ("Lock", lock::Lock::class().get()),
        ("Event", event::Event::class().get()),
        ("Condition", condition::Condition::class().get()),
        ("Semaphore", semaphore::Semaphore::class().get()),
        ("BoundedSemaphore", semaphore::BoundedSemaphore::class().get()),
        ("Barrier", barrier::Barrier::class().get()),
    ] {
        module.setattr_str(name, class)?;
    }
    Ok(())
}

/// `<asyncio.locks.Lock object at 0x7f… [locked, waiters:2]>`
fn repr(this: &Obj, extra: &str) -> R<Obj> {
    let class = this.class();
    let module = class.getattr_str("__module__")?.to_string()?;
    let name = class.getattr_str("__qualname__")?.to_string()?;
    Obj::str(&format!(
        "<{module}.{name} object at {:p} [{extra}]>",
        this.as_ptr()
    ))
}

/// `, waiters:2`, or nothing.
fn waiters_text(waiters: &waiters::Waiters) -> R<String> {
    Ok(match waiters.len()? {
        0 => String::new(),
        count => format!(", waiters:{count}"),
    })
}
