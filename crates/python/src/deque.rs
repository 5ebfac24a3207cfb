//! `Deque`: a `collections.deque` that stays native until Python looks at it.
//!
//! asyncio's primitives keep their waiters and items in deques that programs read and even change
//! (`queue._queue.clear()`, `len(event._waiters)`). A Python deque costs a call per operation, so the
//! items lie in a ring of ours. When Python reads the attribute they move into a real deque, which is
//! *lent*: from then on it is the truth, whatever the program does with it. When nobody else holds it
//! any more, the items come back.
//!
//! Rules
//! 1. The items are in one place: in `native`, or in `lent` if that is filled.
//! 2. Moving them runs no Python code and makes no object, so that nobody can come in half-way.
//! 3. What the program puts in the deque's stead (a list, a container of a subclass of Queue) is
//!    used through the methods that a deque has.
//!
//! Must never: run Python code while the items are native.

use crate::ffi::errors::{exc, raise_new};
use crate::ffi::{Fifo, Obj, R, Slot, Visitor};
use crate::imports::{self, names};

/// See the module.
#[derive(Default)]
pub(crate) struct Deque {
    native: Fifo<Obj>,
    lent: Slot,
}

impl Deque {
    /// The items are in the ring, perhaps because they have just come back.
    #[inline(always)]
    fn is_native(&self) -> bool {
        self.lent.is_empty() || self.take_back()
    }

    /// Takes the items back from a lent deque that nobody else holds.
    #[cold]
    fn take_back(&self) -> bool {
        let Some(lent) = self.lent.get() else { return true };
        // two: the slot's reference and this variable's
        if lent.refcount() > 2 || !lent.class().is(&imports::DEQUE) {
            return false;
        }
        self.lent.put(None);
        while let Ok(item) = popleft_if_any(&lent) {
            let Some(item) = item else { break };
            self.native.push_back(item);
        }
        true
    }

    /// The items as a Python deque: what `getattr` gives.
    pub(crate) fn lend(&self) -> R<Obj> {
        if !self.is_native() {
            return Ok(self.lent.get_or_none());
        }
        let deque = imports::DEQUE.call0()?;
        // making it may have run a finalizer, which may have come here
        if let Some(lent) = self.lent.get() {
            return Ok(lent);
        }
        while let Some(item) = self.native.pop_front() {
            deque.call_method(&names::APPEND, &[&item])?;
        }
        self.lent.set(deque.clone());
        Ok(deque)
    }

    /// `setattr`: this container is the truth now; `None`: an empty ring.
    pub(crate) fn adopt(&self, container: Option<Obj>) {
        let old = self.native.take();
        self.lent.put(container);
        drop(old);
    }

    /// `append(item)`
    #[inline(always)]
    pub(crate) fn append(&self, item: Obj) -> R<()> {
        if self.is_native() {
            self.native.push_back(item);
            return Ok(());
        }
        self.lent
            .get_or_none()
            .call_method(&names::APPEND, &[&item])
            .map(drop)
    }

    /// `popleft()`
    #[inline(always)]
    pub(crate) fn popleft(&self) -> R<Obj> {
        if self.is_native() {
            return match self.native.pop_front() {
                Some(item) => Ok(item),
                None => Err(raise_new(exc::index_error(), "pop from an empty deque")),
            };
        }
        self.lent.get_or_none().call_method(&names::POPLEFT, &[])
    }

    /// `popleft()`, or `None` when it is empty.
    #[inline(always)]
    pub(crate) fn pop_first(&self) -> R<Option<Obj>> {
        if self.is_native() {
            return Ok(self.native.pop_front());
        }
        popleft_if_any(&self.lent.get_or_none())
    }

    /// `pop()`: the last item.
    #[inline(always)]
    pub(crate) fn pop(&self) -> R<Obj> {
        if self.is_native() {
            return match self.native.pop_back() {
                Some(item) => Ok(item),
                None => Err(raise_new(exc::index_error(), "pop from an empty deque")),
            };
        }
        self.lent.get_or_none().call_method(&names::POP, &[])
    }

    /// `not self`
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> R<bool> {
        if self.is_native() {
            return Ok(self.native.is_empty());
        }
        Ok(!self.lent.get_or_none().truth()?)
    }

    /// `len(self)`
    #[inline(always)]
    pub(crate) fn len(&self) -> R<usize> {
        if self.is_native() {
            return Ok(self.native.len());
        }
        self.lent.get_or_none().len()
    }

    /// `remove(item)`; nothing happens if it is not there.
    pub(crate) fn remove(&self, item: &Obj) -> R<()> {
        if self.is_native() {
            drop(self.native.remove_first(|here| here.is(item)));
            return Ok(());
        }
        match self.lent.get_or_none().call_method(&names::REMOVE, &[item]) {
            Ok(_) => Ok(()),
            Err(raised) if raised.matches(exc::value_error()) => {
                raised.ignore();
                Ok(())
            }
            Err(raised) => Err(raised),
        }
    }

    /// The first item for which `found` has an answer. It may run Python code, and the items may change
    /// meanwhile: it then sees what is there when it gets there.
    #[inline(always)]
    pub(crate) fn search<T>(&self, mut found: impl FnMut(&Obj) -> R<Option<T>>) -> R<Option<T>> {
        let mut index = 0;
        if self.is_native() {
            while let Some(item) = self.native.get(index) {
                if let Some(answer) = found(&item)? {
                    return Ok(Some(answer));
                }
                index += 1;
            }
            return Ok(None);
        }
        for item in self.lent.get_or_none().to_vec()? {
            if let Some(answer) = found(&item)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// All items, copied out.
    pub(crate) fn items(&self) -> R<Vec<Obj>> {
        if self.is_native() {
            Ok(self.native.snapshot())
        } else {
            self.lent.get_or_none().to_vec()
        }
    }

    /// For `tp_traverse`.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.native.for_each(|item| visitor.obj(item));
        self.lent.visit(visitor);
    }

    /// For `tp_clear`.
    pub(crate) fn clear(&self) {
        self.adopt(None);
    }
}

/// `deque.popleft()`, or `None` when it is empty. Makes no object.
fn popleft_if_any(deque: &Obj) -> R<Option<Obj>> {
    if deque.truth()? {
        deque.call_method(&names::POPLEFT, &[]).map(Some)
    } else {
        Ok(None)
    }
}
