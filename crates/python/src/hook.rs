//! `Hook`: a done-callback of ours that any loop and any future can hold.
//!
//! asyncio writes closures (`def _done_callback(fut): …`) and bound methods here. A hook is a
//! function of ours with two objects that it needs. It is callable from Python, so that a foreign
//! future's `add_done_callback` or a foreign loop's `call_soon` takes it; our own loop runs it directly.

use crate::ffi::{Args, Class, ClassCell, Obj, Own, R, Raised, Slot, Slots, Visitor};
use crate::tasks::Task;
use std::cell::Cell;
use std::ffi::CStr;

/// The name of what wakes up a task, which is asyncio's.
const WAKEUP: &str = "Task.task_wakeup";

/// What a hook does. `argument` is the future that is done, or `None` for a plain callback.
pub(crate) type Run = fn(&Own<Hook>, argument: Option<&Obj>) -> R<()>;

/// A callable with a name for reprs, a function, and what the function needs.
#[derive(Default)]
pub(crate) struct Hook {
    run: Cell<Option<Run>>,
    name: Cell<&'static str>,
    pub(crate) a: Slot,
    pub(crate) b: Slot,
    pub(crate) number: Cell<usize>,
    /// See [`Hook::waiting`].
    waits: Cell<bool>,
}

/// Where the fields are that `diag/attach` reads without the GIL.
pub(crate) mod layout {
    use super::Hook;
    use std::mem::offset_of;

    pub(crate) const A: usize = offset_of!(Hook, a);
    pub(crate) const B: usize = offset_of!(Hook, b);
    pub(crate) const WAITS: usize = offset_of!(Hook, waits);
}

impl Hook {
    /// A new hook. `name` is shown in reprs and by the exception handler.
    pub(crate) fn new(name: &'static str, run: Run, a: Option<Obj>, b: Option<Obj>) -> R<Own<Hook>> {
        let hook = Hook::default();
        hook.run.set(Some(run));
        hook.name.set(name);
        hook.a.put(a);
        hook.b.put(b);
        CLASS.alloc(hook)
    }

    /// A hook by which the task `b` waits for the future that it lies on. For as long as it lies there it is
    /// an edge of the call graph (3.14), so that there is nothing to add and nothing to discard.
    pub(crate) fn waiting(name: &'static str, run: Run, a: Option<Obj>, b: Option<Obj>) -> R<Own<Hook>> {
        let hook = Hook::new(name, run, a, b)?;
        hook.waits.set(true);
        Ok(hook)
    }

    /// What a task that waits for a foreign future (or on a foreign loop) leaves there.
    pub(crate) fn wakeup(task: &Own<Task>) -> R<Own<Hook>> {
        Hook::new(
            WAKEUP,
            crate::tasks::step::wakeup_hook,
            Some(task.obj().clone()),
            None,
        )
    }

    /// A task's next step, for a foreign loop.
    pub(crate) fn step(task: &Own<Task>, exception: Option<Obj>) -> R<Own<Hook>> {
        Hook::new(
            "TaskStepMethWrapper",
            crate::tasks::step::step_hook,
            Some(task.obj().clone()),
            exception,
        )
    }

    /// The task that waits by it, if that is what it is for.
    pub(crate) fn waiting_task(&self) -> Option<Obj> {
        if self.name.get() == WAKEUP {
            self.a.get()
        } else if self.waits.get() {
            self.b.get()
        } else {
            None
        }
    }

    /// What reprs call it.
    pub(crate) fn name(&self) -> &'static str {
        self.name.get()
    }

    /// Drops what it needs: after it, running it does nothing that keeps anything alive.
    pub(crate) fn release(&self) {
        self.a.put(None);
        self.b.put(None);
    }
}

impl Own<Hook> {
    /// Does it.
    #[inline]
    pub(crate) fn run(&self, argument: Option<&Obj>) -> R<()> {
        match self.run.get() {
            Some(run) => run(self, argument),
            None => Ok(()),
        }
    }
}

fn call(args: &Args) -> R<Obj> {
    let this = args.this::<Hook>()?;
    this.run(args.rest().first())?;
    Ok(Obj::none())
}

fn repr(this: &Own<Hook>) -> R<Obj> {
    Obj::str(&format!(
        "<{} object at {:p}>",
        this.name.get(),
        this.obj().as_ptr()
    ))
}

fn qualname(this: &Own<Hook>) -> R<Obj> {
    Obj::str(this.name.get())
}

fn self_attr(this: &Own<Hook>) -> R<Obj> {
    this.a
        .get()
        .ok_or_else(|| -> Raised { crate::ffi::errors::attribute_error("__self__") })
}

static CLASS: ClassCell<Hook> = ClassCell::new();

impl Class for Hook {
    const NAME: &'static CStr = c"aioxide._core.Hook";
    const SUBCLASSABLE: bool = false;
    const FREELIST: usize = 255;
    fn class() -> &'static ClassCell<Hook> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Hook>) -> R<()> {
        slots.no_new();
        slots.repr(repr);
        slots.get(c"__qualname__", qualname);
        slots.get(c"__name__", qualname);
        slots.get(c"__self__", self_attr);
        slots.call("(self, *args)", call)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.a.visit(visitor);
        self.b.visit(visitor);
    }
    fn clear(&self) {
        self.release();
    }
}
