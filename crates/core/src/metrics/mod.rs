//! Figures of a running loop, for monitoring: durations by their order of magnitude, and the text that Prometheus reads.
//!
//! Owns no figure of its own; the loop writes, anybody reads, no lock and no Python in between.
//! Must never make the writer wait for a reader.

mod exposition;
mod figures;
mod histogram;

pub use exposition::{Exposition, Kind};
pub use figures::{Figures, Times};
pub use histogram::{BOUNDS, Counts, Histogram};
