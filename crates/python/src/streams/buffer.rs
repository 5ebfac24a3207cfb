//! `ReadBuffer`: a `bytearray` that stays native until Python looks at it.
//!
//! Programs read `reader._buffer` (is there something?) and some change it. A `bytearray` costs a call per operation
//! and a copy per message, so the bytes lie in a buffer of ours. When Python reads the attribute they move into a real
//! `bytearray`, which is *lent*: from then on it is the truth, whatever the program does with it. When nobody else
//! holds it any more, the bytes come back. (`deque.rs` does the same for deques.)
//!
//! Rules
//! 1. The bytes are in one place: in `native`, or in `lent` if that is filled.
//! 2. What the program puts in its stead is used through the methods that a `bytearray` has.
//!
//! Must never: run Python code while the bytes are native.

use crate::ffi::bytes::{self, Buffer as View, Bytes};
use crate::ffi::{Inner, Obj, R, Raised, Slot, Visitor};
use crate::imports::names;
use aioxide_core::{Buffer, Search, Verdict};

/// See the module.
#[derive(Default)]
pub(super) struct ReadBuffer {
    native: Inner<Buffer<Bytes>>,
    lent: Slot,
}

impl ReadBuffer {
    /// The bytes are ours, perhaps because they have just come back.
    #[inline(always)]
    fn is_native(&self) -> bool {
        self.lent.is_empty() || self.take_back()
    }

    /// Takes the bytes back from a lent bytearray that nobody else holds.
    #[cold]
    fn take_back(&self) -> bool {
        let Some(lent) = self.lent.get() else { return true };
        // two: the slot's reference and this variable's
        if lent.refcount() > 2 || !bytes::is_exact_array(&lent) {
            return false;
        }
        let Some(view) = View::readable(&lent).map_err(Raised::ignore).ok() else {
            return false;
        };
        self.lent.put(None);
        self.native.with(|native| view.with(|bytes| native.extend(bytes)));
        true
    }

    /// The bytes as a Python bytearray: what `getattr` gives.
    pub(super) fn lend(&self) -> R<Obj> {
        if !self.is_native() {
            return Ok(self.lent.get_or_none());
        }
        let array = self.native.with(|native| bytes::array(native.as_slice()))?;
        self.native.with(Buffer::clear);
        self.lent.set(array.clone());
        Ok(array)
    }

    /// `setattr`: this is the truth now; `None`: an empty buffer.
    pub(super) fn adopt(&self, array: Option<Obj>) {
        self.native.with(Buffer::clear);
        self.lent.put(array);
    }

    /// `len(self)`
    #[inline(always)]
    pub(super) fn len(&self) -> R<usize> {
        if self.is_native() {
            return Ok(self.native.with(|native| native.len()));
        }
        self.lent.get_or_none().len()
    }

    /// `not self`
    #[inline(always)]
    pub(super) fn is_empty(&self) -> R<bool> {
        if self.is_native() {
            return Ok(self.native.with(|native| native.is_empty()));
        }
        Ok(!self.lent.get_or_none().truth()?)
    }

    /// `extend(data)`
    #[inline]
    pub(super) fn add(&self, data: Obj) -> R<()> {
        if !self.is_native() {
            return self
                .lent
                .get_or_none()
                .call_method(&names::EXTEND, &[&data])
                .map(drop);
        }
        match Bytes::of_exact(data) {
            Ok(piece) => {
                self.native.with(|native| native.push(piece));
                Ok(())
            }
            Err(other) => self.add_other(&other),
        }
    }

    /// Anything that a bytearray can be extended with: views of bytes, iterables of numbers.
    #[cold]
    fn add_other(&self, data: &Obj) -> R<()> {
        let array = bytes::array(&[])?;
        array.call_method(&names::EXTEND, &[data])?;
        // (that may have run code which has borrowed the bytes)
        if !self.is_native() {
            let lent = self.lent.get_or_none();
            return lent.call_method(&names::EXTEND, &[&array]).map(drop);
        }
        let view = View::readable(&array)?;
        self.native.with(|native| view.with(|bytes| native.extend(bytes)));
        Ok(())
    }

    /// `bytes(self[:count])`, then `del self[:count]`
    #[inline]
    pub(super) fn take(&self, count: usize) -> R<Obj> {
        if self.is_native() {
            return self.native.with(|native| {
                let all = native.as_slice();
                if count >= all.len()
                    && let Some(piece) = native.take_piece()
                {
                    return Ok(piece.into_obj());
                }
                let all = native.as_slice();
                let count = count.min(all.len());
                let taken = bytes::new(&all[..count])?;
                native.consume(count);
                Ok(taken)
            });
        }
        let lent = self.lent.get_or_none();
        let count = count.min(lent.len()?);
        let taken = View::readable(&lent)?.with(|bytes| bytes::new(bytes.get(..count).unwrap_or(bytes)))?;
        bytes::delete_front(&lent, count)?;
        Ok(taken)
    }

    /// `del self[:count]`
    pub(super) fn drop_front(&self, count: usize) -> R<()> {
        if self.is_native() {
            self.native.with(|native| native.consume(count.min(native.len())));
            return Ok(());
        }
        bytes::delete_front(&self.lent.get_or_none(), count)
    }

    /// `clear()`
    pub(super) fn clear(&self) -> R<()> {
        if self.is_native() {
            self.native.with(Buffer::clear);
            return Ok(());
        }
        self.lent.get_or_none().call_method(&names::CLEAR, &[]).map(drop)
    }

    /// Where the message ends.
    #[inline]
    pub(super) fn look<S: AsRef<[u8]>>(
        &self,
        search: &mut Search,
        separators: &[S],
        limit: usize,
    ) -> R<Verdict> {
        self.with(|bytes| search.look(bytes, separators, limit))
    }

    /// `startswith(prefix, start)`
    pub(super) fn has_at(&self, start: usize, prefix: &[u8]) -> R<bool> {
        self.with(|bytes| bytes.get(start..).is_some_and(|rest| rest.starts_with(prefix)))
    }

    /// A look at the bytes. `f` must not run Python code.
    #[inline]
    fn with<T>(&self, f: impl FnOnce(&[u8]) -> T) -> R<T> {
        if self.is_native() {
            return Ok(self.native.with(|native| f(native.as_slice())));
        }
        Ok(View::readable(&self.lent.get_or_none())?.with(f))
    }

    /// For `tp_traverse`.
    pub(super) fn visit(&self, visitor: &mut Visitor) {
        self.lent.visit(visitor);
    }
}
