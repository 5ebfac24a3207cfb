//! `asyncio.threads` and what crosses threads: to_thread, run_coroutine_threadsafe.

use crate::ffi::{Obj, R};

/// Exports this area's classes and functions.
pub(crate) fn register(_module: &Obj) -> R<()> {
    Ok(())
}
