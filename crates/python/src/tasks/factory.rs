//! What `asyncio.create_eager_task_factory(constructor)` returns.

use super::spawn;
use crate::ffi::{Args, Class, ClassCell, Obj, R, Slot, Slots, Visitor};
use std::ffi::CStr;

/// A task factory that constructs with `eager_start=True`.
#[derive(Default)]
pub(crate) struct EagerFactory {
    constructor: Slot,
}

/// A factory for this constructor.
pub(crate) fn make(constructor: &Obj) -> R<Obj> {
    let factory = EagerFactory::default();
    factory.constructor.set(constructor.clone());
    Ok(CLASS.alloc(factory)?.into_obj())
}

fn call(args: &Args) -> R<Obj> {
    let constructor = args.this::<EagerFactory>()?.constructor.get_or_none();
    spawn::construct_eagerly(&constructor, args, 1)
}

static CLASS: ClassCell<EagerFactory> = ClassCell::new();

impl Class for EagerFactory {
    const NAME: &'static CStr = c"aioxide._core.eager_task_factory";
    const SUBCLASSABLE: bool = false;
    fn class() -> &'static ClassCell<EagerFactory> {
        &CLASS
    }
    fn slots(slots: &mut Slots<EagerFactory>) -> R<()> {
        slots.no_new();
        slots.call(
            "(self, loop, coro, *, eager_start=True, name=None, context=None, **kwargs)",
            call,
        )
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.constructor.visit(visitor);
    }
    fn clear(&self) {
        self.constructor.put(None);
    }
}
