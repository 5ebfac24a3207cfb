//! What runs next: the queues of `BaseEventLoop`.
//!
//! Owns the order of things that are [ready](Ready) and of things that wait for a [time](Timers).
//! Must never run anything, and never drop an item while a queue is inconsistent: dropping one may run user
//! code.

mod ready;
mod timers;

pub use ready::Ready;
pub use timers::Timers;
