//! `asyncio.locks`: one primitive = one file.

use crate::ffi::{Obj, R};

/// Exports this area's classes.
pub(crate) fn register(_module: &Obj) -> R<()> {
    Ok(())
}
