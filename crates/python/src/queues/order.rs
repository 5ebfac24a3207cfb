//! In which order items leave: the hooks `_init`, `_put` and `_get`, and the classes that differ in them.
//!
//! `Queue` keeps its items in a native ring. `LifoQueue` and `PriorityQueue` keep a real list, as asyncio
//! does: `heapq` compares items, which runs Python code that may raise or come back, and it knows how
//! to stand that.

use super::queue::Queue;
use crate::ffi::{Args, Class, ClassCell, Obj, Own, R, Slots, Visitor};
use crate::imports::{self, names};
use std::ffi::CStr;

/// Whose hooks a queue has.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Order {
    /// Exactly a Queue.
    Fifo,
    /// Exactly a LifoQueue.
    Lifo,
    /// Exactly a PriorityQueue.
    Priority,
    /// Of a derived class, or with attributes of its own: every method may be overridden, so all go
    /// by name.
    Custom,
}

impl Own<Queue> {
    /// Whose hooks this queue has.
    #[inline(always)]
    pub(super) fn order(&self) -> Order {
        if !self.dict.is_empty() {
            Order::Custom
        } else if self.is_exact() {
            Order::Fifo
        } else if LIFO.is_exact(self.obj()) {
            Order::Lifo
        } else if PRIORITY.is_exact(self.obj()) {
            Order::Priority
        } else {
            Order::Custom
        }
    }

    /// `self._put(item)`
    #[inline]
    pub(super) fn put_item(&self, item: Obj) -> R<()> {
        match self.order() {
            Order::Fifo | Order::Lifo => self.items.append(item),
            Order::Priority => push(self, &item),
            Order::Custom => self.obj().call_method(&names::PUT_, &[&item]).map(drop),
        }
    }

    /// `self._get()`
    #[inline]
    pub(super) fn get_item(&self) -> R<Obj> {
        match self.order() {
            Order::Fifo => self.items.popleft(),
            Order::Lifo => self.items.pop(),
            Order::Priority => pop(self),
            Order::Custom => self.obj().call_method(&names::GET_, &[]),
        }
    }

    /// `self._init(maxsize)`
    pub(super) fn init_items(&self) -> R<()> {
        match self.order() {
            Order::Fifo => self.items.adopt(None),
            Order::Lifo | Order::Priority => self.items.adopt(Some(Obj::list(&[])?)),
            Order::Custom => drop(
                self.obj()
                    .call_method(&names::INIT_, &[&self.maxsize.object()?])?,
            ),
        }
        Ok(())
    }
}

fn push(queue: &Queue, item: &Obj) -> R<()> {
    imports::HEAPPUSH.call(&[&queue.items.lend()?, item]).map(drop)
}

fn pop(queue: &Queue) -> R<Obj> {
    imports::HEAPPOP.call(&[&queue.items.lend()?])
}

/// The hooks of `Queue` itself.
pub(super) fn slots(slots: &mut Slots<Queue>) -> R<()> {
    slots.method("_init(self, maxsize)", |args| {
        args.this::<Queue>()?.items.adopt(None);
        Ok(Obj::none())
    })?;
    slots.method("_put(self, item)", append)?;
    slots.method("_get(self)", |args| args.this::<Queue>()?.items.popleft())
}

fn append(args: &Args) -> R<Obj> {
    args.this::<Queue>()?.items.append(args.req(1)?.clone())?;
    Ok(Obj::none())
}

fn init_list(args: &Args) -> R<Obj> {
    args.this::<Queue>()?.items.adopt(Some(Obj::list(&[])?));
    Ok(Obj::none())
}

/// A class that differs from `Queue` in its hooks alone.
macro_rules! derived_queue {
    ($(#[$doc:meta])* $class:ident, $cell:ident, $name:literal, put: $put:expr, get: $get:expr) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Default)]
        pub(crate) struct $class {
            queue: Queue,
        }

        crate::ffi::class::extends!($class, Queue, queue);

        static $cell: ClassCell<$class> = ClassCell::new();

        impl Class for $class {
            const NAME: &'static CStr = $name;
            const DICT: Option<usize> = Queue::DICT;
            const WEAKREFS: Option<usize> = Queue::WEAKREFS;

            fn class() -> &'static ClassCell<$class> {
                &$cell
            }
            fn slots(slots: &mut Slots<$class>) -> R<()> {
                slots.new_only();
                slots.method("_init(self, maxsize)", init_list)?;
                slots.method("_put(self, item)", $put)?;
                slots.method("_get(self)", $get)
            }
            fn visit(&self, visitor: &mut Visitor) {
                self.queue.visit(visitor);
            }
            fn clear(&self) {
                self.queue.clear();
            }
        }
    };
}

derived_queue!(
    /// The struct behind `asyncio.LifoQueue`.
    LifoQueue, LIFO, c"asyncio.queues.LifoQueue",
    put: append,
    get: |args| args.this::<Queue>()?.items.pop()
);

derived_queue!(
    /// The struct behind `asyncio.PriorityQueue`.
    PriorityQueue, PRIORITY, c"asyncio.queues.PriorityQueue",
    put: |args| push(args.this::<Queue>()?, args.req(1)?).map(|()| Obj::none()),
    get: |args| pop(args.this::<Queue>()?)
);
