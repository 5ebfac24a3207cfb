//! `asyncio.futures`: a result that will be there later.
//!
//! | file | owns |
//! |---|---|
//! | `future.rs` | the class `Future`: its fields, state and the rules of its transitions |
//! | `methods.rs` | its Python face |
//! | `callbacks.rs` | who is told when it is done, and how they are scheduled |
//! | `iter.rs` | `await future` |
//! | `foreign.rs` | futures that are not ours: isfuture, wrap_future, chaining |

pub(crate) mod callbacks;
pub(crate) mod foreign;
pub(crate) mod future;
pub(crate) mod iter;
pub(crate) mod methods;

pub(crate) use future::{Future, Role, State};

use crate::ffi::function::Kind::Plain;
use crate::ffi::{Obj, R};

/// Exports this area's functions.
pub(crate) fn register(module: &Obj) -> R<()> {
    crate::module::export(
        module,
        &[
            ("asyncio.base_futures", "isfuture(obj)", foreign::isfuture, Plain),
            (
                "asyncio.futures",
                "wrap_future(future, *, loop=None)",
                foreign::wrap_future,
                Plain,
            ),
        ],
    )
}
