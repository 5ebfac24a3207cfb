//! `asyncio.create_eager_task_factory` and `asyncio.eager_task_factory`.
//!
//! Python functions, since anyio knows a factory by its `__code__` and takes the constructor out of its `__closure__`.
//! Our loops know them the same way, and make the task without calling them.

use super::task::Task;
use crate::ffi::object::Static;
use crate::ffi::{Class, Obj, R, python_function};
use crate::imports::names;
use crate::version;

/// The code of every factory, whatever its constructor.
static CODE: Static = Static::new();

const SINCE_3133: &str = "
def create_eager_task_factory(custom_task_constructor):
    def factory(loop, coro, *, eager_start=True, **kwargs):
        return custom_task_constructor(coro, loop=loop, eager_start=eager_start, **kwargs)
    return factory
";
const BEFORE: &str = "
def create_eager_task_factory(custom_task_constructor):
    def factory(loop, coro, *, eager_start=True, name=None, context=None):
        return custom_task_constructor(
            coro, loop=loop, name=name, context=context, eager_start=eager_start)
    return factory
";

/// Exports both.
pub(super) fn register(module: &Obj) -> R<()> {
    let source = if version::FACTORY_TAKES_KWARGS.get() {
        SINCE_3133
    } else {
        BEFORE
    };
    // pickle must find them there, which before 3.12 it does not in asyncio's
    let home = if version::SINCE_312.get() {
        "asyncio.tasks"
    } else {
        "aioxide.tasks"
    };
    let defined = python_function::define(source, home, &[])?;
    let create = defined.call_method_str("pop", &[&Obj::interned("create_eager_task_factory")?])?;
    let eager = create.call(&[Task::class().get()])?;
    CODE.fill(eager.getattr_str("__code__")?);
    module.setattr_str("create_eager_task_factory", &create)?;
    module.setattr_str("eager_task_factory", &eager)
}

/// Would calling it be the same as making a [`Task`] that starts eagerly?
#[inline]
pub(super) fn makes_our_tasks(factory: &Obj) -> R<bool> {
    if !python_function::runs(factory, CODE.get()) {
        return Ok(false);
    }
    match factory.getattr(&names::CLOSURE)?.tuple_items() {
        [constructor] => Ok(constructor
            .getattr(&names::CELL_CONTENTS)?
            .is(Task::class().get())),
        _ => Ok(false),
    }
}
