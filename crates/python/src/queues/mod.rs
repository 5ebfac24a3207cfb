//! `asyncio.queues`: Queue, PriorityQueue, LifoQueue.
//!
//! | file | owns |
//! |---|---|
//! | `queue.rs` | the state of a queue, and every operation that does not wait |
//! | `waiting.rs` | `put`, `get` and `join`: waiting, then doing it |
//! | `methods.rs` | the Python face |
//! | `order.rs` | in which order items leave; the derived classes |
//!
//! `shutdown` is there on every version. The exception classes are asyncio's own, so that `except`
//! matches for everybody; before 3.13 asyncio has no `QueueShutDown`, and it is made here.

mod methods;
mod order;
mod queue;
mod waiting;

use crate::ffi::errors::raise_with_context;
use crate::ffi::object::Static;
use crate::ffi::pyclass::Body;
use crate::ffi::{Class, Obj, R, Raised, class, errors::exc};
use order::{LifoQueue, PriorityQueue};
use queue::Queue;

/// `asyncio.QueueShutDown`
static QUEUE_SHUT_DOWN: Static = Static::new();

/// asyncio's class, or the one that stands in for it.
fn queue_shut_down() -> R<Obj> {
    if let Some(class) = Obj::import("asyncio.queues")?.getattr_opt(&Obj::interned("QueueShutDown")?)? {
        return Ok(class);
    }
    // where pickle finds it
    let mut body = Body::new("aioxide.queues", "QueueShutDown", &[])?;
    body.attribute(
        "__doc__",
        &Obj::str("Raised when putting on to or getting from a shut-down Queue.")?,
    )?;
    body.build(&[exc::exception()])
}

/// `raise class`
#[cold]
fn raise_class(class: &Obj) -> Raised {
    match class.call0() {
        Ok(exception) => raise_with_context(&exception),
        Err(raised) => raised,
    }
}

/// Exports this area's classes.
pub(crate) fn register(module: &Obj) -> R<()> {
    QUEUE_SHUT_DOWN.fill(queue_shut_down()?);
    class::create::<Queue>(None)?;
    class::create::<PriorityQueue>(Some(Queue::class().get()))?;
    class::create::<LifoQueue>(Some(Queue::class().get()))?;
    for (name, class) in [
        ("Queue", Queue::class().get()),
        ("PriorityQueue", PriorityQueue::class().get()),
        ("LifoQueue", LifoQueue::class().get()),
        ("QueueShutDown", QUEUE_SHUT_DOWN.get()),
    ] {
        module.setattr_str(name, class)?;
    }
    Ok(())
}
