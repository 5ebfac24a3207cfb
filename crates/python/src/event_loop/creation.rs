//! "Creating futures and tasks": create_future, create_task, task factories.

use super::class::this;
use crate::ffi::errors::type_error;
use crate::ffi::function::Imp;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Obj, Own, R};
use crate::futures::methods;
use crate::tasks::spawn;
use crate::version;

/// What this file adds to the class.
pub(super) const METHODS: &[(&str, Imp)] = &[
    ("create_future(self)", create_future),
    ("set_task_factory(self, factory)", set_task_factory),
    ("get_task_factory(self)", |args| {
        Ok(this(args)?.1.task_factory.get_or_none())
    }),
];

/// `create_task`, which takes whatever the factory takes since 3.13.3. Before, `eager_start` is more than asyncio's takes.
pub(super) fn add_create_task(body: &mut Body) -> R<()> {
    if version::FACTORY_TAKES_KWARGS.get() {
        body.method(
            "create_task(self, coro, *, name=None, context=None, **kwargs)",
            create_task,
        )
    } else {
        body.method(
            "create_task(self, coro, *, name=None, context=None, eager_start=None)",
            create_task_strictly,
        )
    }
}

/// `loop.create_future()`
fn create_future(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    methods::create_native(loop_, core).map(Own::into_obj)
}

/// `loop.create_task(coro, *, name=None, context=None, **kwargs)`
fn create_task(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    core.check_closed()?;
    let (coro, name, context) = (args.req(1)?, args.get(2), args.get(3));
    spawn::on_loop(loop_, core, coro, name, context, args.kwargs())
}

/// `loop.create_task(coro, *, name=None, context=None, eager_start=None)`
fn create_task_strictly(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    core.check_closed()?;
    let (coro, name, context) = (args.req(1)?, args.get(2), args.get(3));
    let Some(eager_start) = args.get(4) else {
        return spawn::on_loop(loop_, core, coro, name, context, None);
    };
    let kwargs = Obj::dict()?;
    kwargs.dict_set(&Obj::interned("eager_start")?, eager_start)?;
    spawn::on_loop(loop_, core, coro, name, context, Some(&kwargs))
}

/// `loop.set_task_factory(factory)`: a callable `(loop, coro, **kwargs) -> future`, or None.
fn set_task_factory(args: &Args) -> R<Obj> {
    let (_, core) = this(args)?;
    let factory = args.req(1)?;
    if factory.is_none() {
        core.task_factory.put(None);
    } else if factory.callable() {
        core.task_factory.set(factory.clone());
    } else {
        return Err(type_error("task factory must be a callable or None"));
    }
    Ok(Obj::none())
}
