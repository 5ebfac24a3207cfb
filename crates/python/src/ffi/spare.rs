//! Bytes that have been delivered and that nobody has kept: they are filled again.
//!
//! A message of 1 KiB is more than Python's own allocator takes, and more than glibc's lists of its threads: to make
//! and to drop its object was a sixth of all instructions that a server spends on an echo, outside of the kernel.
//!
//! Rules
//! 1. An object is filled again only if ours is the only reference. So nobody can see it change: whoever looks at a
//!    bytes object holds a reference to it.
//! 2. The program may keep what it gets, so an object is not much larger than twice what is in it.
//! 3. What was used last is used first: it is in the cache.

use super::bytes;
use super::cells::Inner;
use super::errors::R;
use super::object::Obj;
use pyo3::ffi as c;
use std::mem::{MaybeUninit, offset_of};

/// Python's own allocator is fast for what is not larger than this.
const SMALL: usize = 512 - offset_of!(c::PyBytesObject, ob_sval) - 1;
/// Up to so many bytes are copied into a spare object.
const LARGE: usize = 16 * 1024;
/// How many messages of one turn may be alive at once, and their objects be used again.
const PLACES: usize = 16;

/// See the module.
#[derive(Default)]
pub(crate) struct Spares(Inner<Places>);

#[derive(Default)]
struct Places {
    small: [Option<Spare>; PLACES],
    /// The one that was used last.
    last: usize,
    /// One to read into.
    large: Option<Spare>,
}

/// A `bytes` object of our making.
struct Spare {
    object: Obj,
    /// For how many bytes it was made.
    room: usize,
}

impl Spare {
    /// Rule 1.
    #[inline]
    fn is_free(&self) -> bool {
        self.object.refcount() == 1 && !cfg!(Py_GIL_DISABLED)
    }

    /// Rule 2.
    #[inline]
    fn fits(&self, count: usize) -> bool {
        (count..=2 * count).contains(&self.room)
    }

    /// One with nothing in it yet, which nobody has seen.
    fn new(room: usize) -> R<Spare> {
        // SAFETY: a new object with room for so many bytes.
        let object = unsafe { Obj::owned(c::PyBytes_FromStringAndSize(std::ptr::null(), room as isize))? };
        Ok(Spare { object, room })
    }

    /// The room. Only of a free one.
    #[inline]
    fn place(&mut self) -> &mut [MaybeUninit<u8>] {
        debug_assert_eq!(self.object.refcount(), 1);
        // SAFETY: of the class, with room for so many bytes, and nobody else has it.
        unsafe {
            let place = c::PyBytes_AsString(self.object.as_ptr());
            std::slice::from_raw_parts_mut(place.cast(), self.room)
        }
    }

    /// The object, in which the first `count` bytes have been filled. Only of a free one.
    #[inline]
    #[expect(deprecated, reason = "the hash of what was in it must go")]
    fn filled(&self, count: usize) -> Obj {
        debug_assert!(self.object.refcount() == 1 && count <= self.room);
        // SAFETY: of the class, nobody else has it, and it was made for no fewer bytes and the NUL behind them.
        unsafe {
            let bytes = self.object.as_ptr().cast::<c::PyBytesObject>();
            (*bytes).ob_base.ob_size = count as isize;
            (*bytes).ob_shash = -1;
            (&raw mut (*bytes).ob_sval).cast::<u8>().add(count).write(0);
        }
        self.object.clone()
    }

    /// The same with these bytes.
    #[inline]
    fn filled_with(&mut self, data: &[u8]) -> Obj {
        let place = &mut self.place()[..data.len()];
        // SAFETY: bytes may be anything, and `data` is elsewhere: nobody else has the object.
        unsafe {
            let place = place.as_mut_ptr().cast();
            data.as_ptr().copy_to_nonoverlapping(place, data.len());
        }
        self.filled(data.len())
    }

    /// The first `count` bytes, which have been filled.
    fn copy(&self, count: usize) -> R<Obj> {
        // SAFETY: of the class, and the caller has filled so many.
        bytes::new(unsafe {
            let place = c::PyBytes_AsString(self.object.as_ptr());
            std::slice::from_raw_parts(place.cast(), count)
        })
    }
}

impl Spares {
    /// `bytes(data)`
    #[inline]
    pub(crate) fn bytes(&self, data: &[u8]) -> R<Obj> {
        let count = data.len();
        if count <= SMALL || count > LARGE {
            return bytes::new(data);
        }
        let again = self.0.with(|places| {
            for place in [places.last, (places.last + 1) % PLACES] {
                if let Some(spare) = &mut places.small[place]
                    && spare.is_free()
                    && spare.fits(count)
                {
                    places.last = place;
                    return Some(spare.filled_with(data));
                }
            }
            None
        });
        again.map_or_else(|| self.fresh(data), Ok)
    }

    /// The same by a new object, which is kept.
    fn fresh(&self, data: &[u8]) -> R<Obj> {
        let object = bytes::new(data)?;
        let spare = Spare {
            object: object.clone(),
            room: data.len(),
        };
        let before = self.0.with(|places| {
            // in the place of one that does not fit, or else of the one that has been used longest ago
            if places.small[places.last]
                .as_ref()
                .is_some_and(|last| !last.is_free())
            {
                places.last = (places.last + 1) % PLACES;
            }
            places.small[places.last].replace(spare)
        });
        drop(before);
        Ok(object)
    }

    /// Bytes that are filled where they are: as [`bytes::filled`], for something large. `None`: nothing came.
    ///
    /// As long as the program keeps nothing of it, one object is used again and again.
    pub(crate) fn read<E>(
        &self,
        room: usize,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
    ) -> R<Result<Option<Obj>, E>> {
        let last = self.0.with(|places| places.large.take());
        let mut spare = match last {
            Some(last) if !last.is_free() => return self.read_and_cut(room, fill),
            Some(last) if last.fits(room) => last,
            // there has been none, or not of this size
            _ => Spare::new(room)?,
        };
        let data = match fill(&mut spare.place()[..room]) {
            Ok(0) => Ok(None),
            Ok(count) if spare.fits(count) => Ok(Some(spare.filled(count))),
            Ok(count) => Ok(Some(spare.copy(count)?)),
            Err(error) => Err(error),
        };
        drop(self.0.with(|places| places.large.replace(spare)));
        Ok(data)
    }

    /// The program keeps what it gets: an object of its own for each.
    fn read_and_cut<E>(
        &self,
        room: usize,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
    ) -> R<Result<Option<Obj>, E>> {
        let mut count = 0;
        let data = bytes::filled(room, |place| {
            count = fill(place)?;
            Ok(count)
        })?;
        let data = match data {
            Ok(data) if count > 0 => data,
            Ok(_) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        // the next time it is seen whether it is still kept
        let spare = Spare {
            object: data.clone(),
            room: count,
        };
        drop(self.0.with(|places| places.large.replace(spare)));
        Ok(Ok(Some(data)))
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        drop(self.0.with(std::mem::take));
    }
}
