//! The Python face of `asyncio.Queue`: methods, attributes, reprs.

use super::order::Order;
use super::queue::Queue;
use super::{order, waiting};
use crate::ffi::errors::{attribute_error, type_error};
use crate::ffi::{Args, Class, Obj, Own, R, Slots};
use crate::imports::names;
use crate::locks::event::Event;
use crate::locks::waiters::{Waiters, wake};
use crate::{copying, locks::loop_bound};

/// Everything that a Queue has. The derived classes override `_init`, `_put` and `_get`.
pub(super) fn slots(slots: &mut Slots<Queue>) -> R<()> {
    slots.init("(self, maxsize=0)", init);
    slots.repr(repr);
    slots.generic()?;
    order::slots(slots)?;
    slots.method("__str__(self)", str)?;
    slots.method("_format(self)", |args| Obj::str(&format(args.this()?)?))?;
    slots.method("_wakeup_next(self, waiters)", wakeup_next)?;
    slots.method("qsize(self)", |args| {
        Obj::int(args.this::<Queue>()?.items.len()? as i64)
    })?;
    slots.method("empty(self)", |args| {
        Ok(Obj::bool(args.this::<Queue>()?.items.is_empty()?))
    })?;
    slots.method("full(self)", |args| {
        Ok(Obj::bool(args.this::<Queue>()?.compute_full()?))
    })?;
    slots.async_method("put(self, item)", waiting::put)?;
    slots.method("put_nowait(self, item)", |args| {
        args.this::<Queue>()?.put_nowait(args.req(1)?.clone())?;
        Ok(Obj::none())
    })?;
    slots.async_method("get(self)", waiting::get)?;
    slots.method("get_nowait(self)", |args| args.this::<Queue>()?.get_nowait())?;
    slots.method("task_done(self)", |args| {
        args.this::<Queue>()?.task_done()?;
        Ok(Obj::none())
    })?;
    slots.async_method("join(self)", waiting::join)?;
    slots.method("shutdown(self, immediate=False)", |args| {
        let immediate = args.get(1).map_or(Ok(false), Obj::truth)?;
        args.this::<Queue>()?.shutdown(immediate)?;
        Ok(Obj::none())
    })?;
    attributes(slots);
    copying::slots(slots)?;
    loop_bound::slots(slots)
}

/// What libraries read, and sometimes write, in asyncio's own.
fn attributes(slots: &mut Slots<Queue>) {
    slots.get(c"maxsize", |this| this.maxsize.object());
    slots.get_set(
        c"_maxsize",
        |this| this.maxsize.object(),
        |this, value| match value {
            Some(value) => this.maxsize.read(value),
            None => Err(attribute_error("_maxsize")),
        },
    );
    slots.get_set(
        c"_queue",
        |this| this.items.lend(),
        |this, value| {
            let Some(value) = value else {
                return Err(attribute_error("_queue"));
            };
            this.items.adopt(Some(value.clone()));
            Ok(())
        },
    );
    slots.get_set(
        c"_getters",
        |this| this.getters.lend(),
        |this, value| adopt(&this.getters, value),
    );
    slots.get_set(
        c"_putters",
        |this| this.putters.lend(),
        |this, value| adopt(&this.putters, value),
    );
    slots.get_set(
        c"_unfinished_tasks",
        |this| Obj::int(this.unfinished.get()),
        |this, value| {
            let Some(value) = value else {
                return Err(attribute_error("_unfinished_tasks"));
            };
            this.unfinished.set(value.to_i64()?);
            Ok(())
        },
    );
    slots.get_set(
        c"_finished",
        |this| match this.finished.get() {
            Some(finished) => Ok(finished.into_obj()),
            None => Err(attribute_error("_finished")),
        },
        |this, value| {
            let event = value.and_then(|value| Event::class().instance(value));
            let Some(event) = event else {
                return Err(type_error("_finished must be an Event"));
            };
            this.finished.put(Some(event.clone()));
            Ok(())
        },
    );
    slots.get_set(
        c"_is_shutdown",
        |this| Ok(Obj::bool(this.is_shutdown.get())),
        |this, value| {
            this.is_shutdown.set(value.map_or(Ok(false), Obj::truth)?);
            Ok(())
        },
    );
}

fn adopt(waiters: &Waiters, value: Option<&Obj>) -> R<()> {
    waiters.adopt(value);
    Ok(())
}

fn init(args: &Args) -> R<Obj> {
    let this = args.this::<Queue>()?;
    this.reset(args.get(1))?;
    this.init_items()?;
    Ok(Obj::none())
}

/// `_wakeup_next(waiters)`: of any deque.
fn wakeup_next(args: &Args) -> R<Obj> {
    let waiters = args.req(1)?;
    while waiters.truth()? {
        if wake(&waiters.call_method(&names::POPLEFT, &[])?, &Obj::none())? {
            break;
        }
    }
    Ok(Obj::none())
}

/// `_format()`
fn format(this: &Own<Queue>) -> R<String> {
    let mut text = format!("maxsize={}", this.maxsize.object()?.repr()?);
    if !this.items.is_empty()? {
        text += &format!(" _queue={}", Obj::list(&this.items.items()?)?.repr()?);
    }
    for (name, waiters) in [("getters", &this.getters), ("putters", &this.putters)] {
        match waiters.len()? {
            0 => {}
            count => text += &format!(" _{name}[{count}]"),
        }
    }
    match this.unfinished.get() {
        0 => {}
        count => text += &format!(" tasks={count}"),
    }
    if this.is_shutdown.get() {
        text += " shutdown";
    }
    Ok(text)
}

/// `self._format()`, which a derived class may have overridden.
fn formatted(this: &Own<Queue>) -> R<String> {
    match this.order() {
        Order::Custom => this
            .obj()
            .call_method(&names::FORMAT_, &[])?
            .to_str()?
            .to_string(),
        _ => format(this),
    }
}

fn repr(this: &Own<Queue>) -> R<Obj> {
    Obj::str(&format!(
        "<{} at {:p} {}>",
        this.obj().class_name(),
        this.obj().as_ptr(),
        formatted(this)?
    ))
}

fn str(args: &Args) -> R<Obj> {
    let this = args.this::<Queue>()?;
    Obj::str(&format!("<{} {}>", this.obj().class_name(), formatted(this)?))
}
