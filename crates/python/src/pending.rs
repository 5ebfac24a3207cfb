//! Names that are about to be native and are asyncio's own until then: delete a name when its class or
//! function is registered, and this file with the last one.

use crate::ffi::errors::exc;
use crate::ffi::pyclass::Body;
use crate::ffi::{Obj, R};

const PENDING: &[(&str, &[&str])] = &[
    ("asyncio.locks", &["Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"]),
    ("asyncio.queues", &["Queue", "PriorityQueue", "LifoQueue", "QueueShutDown"]),
    ("asyncio.taskgroups", &["TaskGroup"]),
    ("asyncio.timeouts", &["Timeout", "timeout", "timeout_at"]),
    ("asyncio.tasks", &["wait", "wait_for", "as_completed", "shield"]),
];

/// Puts asyncio's own object under each of these names that nobody has registered.
pub(crate) fn fill(module: &Obj) -> R<()> {
    for (home, names) in PENDING {
        let theirs = Obj::import(home)?;
        for name in *names {
            if module.hasattr(name)? {
                continue;
            }
            let stand_in = match theirs.getattr_opt(&Obj::interned(name)?)? {
                Some(value) => value,
                // QueueShutDown before 3.13
                None => Body::new(home, name, &[])?.build(&[exc::exception()])?,
            };
            module.setattr_str(name, &stand_in)?;
        }
    }
    Ok(())
}
