//! Whether a loop is alive, seen from another thread.
//!
//! Owns the pulse of a loop: a counter that the loop keeps anyway, and what else a watcher needs to tell a callback that
//! does not end from a loop that sleeps.

mod pulse;

pub use pulse::{Pulse, State};
