//! Whether a loop is alive, seen from another thread.
//!
//! Owns the pulse of a loop (a counter that the loop keeps anyway, and what else a watcher needs to tell a callback that
//! does not end from a loop that sleeps), and the one thread of the process that looks at it.
//!
//! | file | owns |
//! |---|---|
//! | `pulse.rs` | what a loop writes down of itself |
//! | `sight.rs` | what follows from two looks at it |
//! | `watchdog.rs` | the thread that looks, and when it may sleep |

mod pulse;
mod sight;
mod watchdog;

pub use pulse::{Pulse, State};
pub use sight::{Block, Look, Seen, Sight};
pub use watchdog::{CALM, Watched, go_on, is_watching, pause, set_threshold, stop, unwatch, watch};
