//! `asyncio.queues`: Queue, PriorityQueue, LifoQueue.

use crate::ffi::{Obj, R};

/// Exports this area's classes and functions.
pub(crate) fn register(_module: &Obj) -> R<()> {
    Ok(())
}
