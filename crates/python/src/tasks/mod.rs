//! `asyncio.tasks`: coroutines that run concurrently, and waiting for them.
//!
//! | file | owns |
//! |---|---|
//! | `task.rs` | the class `Task`: fields, cancellation counts, completion |
//! | `methods.rs` | its Python face |
//! | `step.rs` | one step: resume the coroutine, look at what it yielded |
//! | `registry.rs` | `current_task`, `all_tasks`, and what early importers of them see |
//! | `visible.rs` | what asyncio's own `all_tasks` sees of us |
//! | `spawn.rs` | `create_task`, `ensure_future`, eager factories |
//! | `sleep.rs`, `gather.rs`, `wait.rs`, `wait_for.rs`, `shield.rs`, `as_completed.rs` | the functions of these names |
//! | `waiting.rs`, `alarm.rs` | what those share: `await` in a step function; a callback at a time |

pub(crate) mod alarm;
mod as_completed;
pub(crate) mod factory;
pub(crate) mod gather;
mod methods;
pub(crate) mod registry;
pub(crate) mod shield;
pub(crate) mod sleep;
pub(crate) mod spawn;
pub(crate) mod step;
pub(crate) mod task;
mod visible;
pub(crate) mod wait;
pub(crate) mod wait_for;
pub(crate) mod waiting;

pub(crate) use task::Task;

use crate::ffi::function::Kind::{Async, Plain};
use crate::ffi::{Obj, R};
use crate::module::{Export, export};
use crate::version;

/// Exports this area's functions.
pub(crate) fn register(module: &Obj) -> R<()> {
    let create: Export = if version::FACTORY_TAKES_KWARGS.get() {
        (
            "asyncio.tasks",
            "create_task(coro, **kwargs)",
            spawn::create_task_kwargs,
            Plain,
        )
    } else {
        (
            "asyncio.tasks",
            "create_task(coro, *, name=None, context=None)",
            spawn::create_task,
            Plain,
        )
    };
    visible::init(module)?;
    factory::register(module)?;
    as_completed::register()?;
    export(
        module,
        &[
            create,
            ("asyncio.tasks", "sleep(delay, result=None)", sleep::sleep, Async),
            (
                "asyncio.tasks",
                "gather(*coros_or_futures, return_exceptions=False)",
                gather::gather,
                Plain,
            ),
            (
                "asyncio.tasks",
                "wait(fs, *, timeout=None, return_when='ALL_COMPLETED')",
                wait::wait,
                Async,
            ),
            (
                "asyncio.tasks",
                "wait_for(fut, timeout)",
                wait_for::wait_for,
                Async,
            ),
            ("asyncio.tasks", "shield(arg)", shield::shield, Plain),
            (
                "asyncio.tasks",
                "as_completed(fs, *, timeout=None)",
                as_completed::as_completed,
                Plain,
            ),
            (
                "asyncio.tasks",
                "ensure_future(coro_or_future, *, loop=None)",
                spawn::ensure_future,
                Plain,
            ),
            (
                "asyncio.tasks",
                "current_task(loop=None)",
                registry::current_task,
                Plain,
            ),
            (
                "asyncio.tasks",
                "all_tasks(loop=None)",
                registry::all_tasks,
                Plain,
            ),
            (
                "aioxide._core",
                "_native_tasks()",
                registry::scheduled_tasks,
                Plain,
            ),
        ],
    )
}
