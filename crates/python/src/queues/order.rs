//! In which order items leave: the hooks `_init`, `_put` and `_get`, and the classes that differ in them.
//!
//! `Queue` keeps its items in a native ring. `LifoQueue` and `PriorityQueue` keep a real list, as asyncio
//! does: `heapq` compares items, which runs Python code that may raise or come back, and it knows how
//! to stand that.

use super::queue::Queue;
use crate::ffi::function::Imp;
use crate::ffi::{Args, Class, ClassCell, Obj, Own, R, Slots, Visitor};
use crate::imports::{self, names};
use std::ffi::CStr;
use std::marker::PhantomData;

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

/// What the hooks of a derived class do.
pub(crate) trait Discipline: Default + 'static {
    /// The class's name.
    const NAME: &'static CStr;
    /// `_put(item)`
    const PUT: Imp;
    /// `_get()`
    const GET: Imp;
    /// Where its type object is kept.
    fn cell() -> &'static ClassCell<Derived<Self>>;
}

/// A class that differs from `Queue` in its hooks alone.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Derived<D: Discipline> {
    queue: Queue,
    discipline: PhantomData<D>,
}

impl<D: Discipline> Class for Derived<D> {
    const NAME: &'static CStr = D::NAME;
    const DICT: Option<usize> = Queue::DICT;
    const WEAKREFS: Option<usize> = Queue::WEAKREFS;

    fn class() -> &'static ClassCell<Derived<D>> {
        D::cell()
    }
    fn slots(slots: &mut Slots<Derived<D>>) -> R<()> {
        slots.new_only();
        slots.method("_init(self, maxsize)", init_list)?;
        slots.method("_put(self, item)", D::PUT)?;
        slots.method("_get(self)", D::GET)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.queue.visit(visitor);
    }
    fn clear(&self) {
        self.queue.clear();
    }
}

/// The last item first.
#[derive(Default)]
pub(crate) struct Lifo;

static LIFO: ClassCell<Derived<Lifo>> = ClassCell::new();

impl Discipline for Lifo {
    const NAME: &'static CStr = c"asyncio.queues.LifoQueue";
    const PUT: Imp = append;
    const GET: Imp = |args| args.this::<Queue>()?.items.pop();
    fn cell() -> &'static ClassCell<Derived<Lifo>> {
        &LIFO
    }
}

/// The smallest item first.
#[derive(Default)]
pub(crate) struct Priority;

static PRIORITY: ClassCell<Derived<Priority>> = ClassCell::new();

impl Discipline for Priority {
    const NAME: &'static CStr = c"asyncio.queues.PriorityQueue";
    const PUT: Imp = |args| push(args.this::<Queue>()?, args.req(1)?).map(|()| Obj::none());
    const GET: Imp = |args| pop(args.this::<Queue>()?);
    fn cell() -> &'static ClassCell<Derived<Priority>> {
        &PRIORITY
    }
}

/// `asyncio.LifoQueue`
pub(crate) type LifoQueue = Derived<Lifo>;
/// `asyncio.PriorityQueue`
pub(crate) type PriorityQueue = Derived<Priority>;

crate::ffi::class::extends!(LifoQueue, Queue, queue);
crate::ffi::class::extends!(PriorityQueue, Queue, queue);
