//! Objects as they lie in memory, for threads without the GIL: their class, what it derives from, what a list or a queue
//! of ours holds.
//!
//! All of it is read by reads that cannot fault (`aioxide_core::memory`). Rule: what comes back is a claim, not a fact;
//! the caller compares classes before it believes, and has a limit for whatever it walks.

use pyo3::ffi as c;
use std::collections::VecDeque;
use std::mem::offset_of;
use std::sync::OnceLock;

use aioxide_core::memory;

/// The class of an object is behind its count of references.
pub(crate) const CLASS: usize = offset_of!(c::PyObject, ob_type);
/// The longest name of a class.
const LONGEST_NAME: usize = 200;
/// How many items are read of a list, and of a queue.
pub(crate) const MOST_ITEMS: usize = 10_000;

/// A word of what has been read.
#[inline]
pub(crate) fn word_in(bytes: &[u8], at: usize) -> usize {
    bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, usize::from_ne_bytes)
}

/// `type(object)`; 0: it cannot be read.
pub(crate) fn class_of(object: usize) -> usize {
    memory::word(object.wrapping_add(CLASS)).unwrap_or(0)
}

/// `class.__base__`; 0: it has none.
pub(crate) fn base_of(class: usize) -> usize {
    memory::word(class.wrapping_add(offset_of!(c::PyTypeObject, tp_base))).unwrap_or(0)
}

/// The name of a class, with its module if it says that.
pub(crate) fn class_name(class: usize) -> Option<String> {
    let at = memory::word(class.wrapping_add(offset_of!(c::PyTypeObject, tp_name)))?;
    let mut bytes = [0; LONGEST_NAME];
    // (it may end just before a page that is not there)
    let length = [LONGEST_NAME, 64, 16]
        .into_iter()
        .find(|length| memory::read(at, &mut bytes[..*length]))?;
    let end = bytes[..length].iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&bytes[..end]).ok().map(str::to_owned)
}

/// The items of a list. The caller has compared its class.
pub(crate) fn list_items(list: usize) -> Vec<usize> {
    let count = memory::word(list.wrapping_add(offset_of!(c::PyVarObject, ob_size))).unwrap_or(0);
    let items = memory::word(list.wrapping_add(offset_of!(c::PyListObject, ob_item))).unwrap_or(0);
    words(items, count.min(MOST_ITEMS))
}

/// The class of lists.
pub(crate) fn list_class() -> usize {
    (&raw const c::PyList_Type).addr()
}

/// The class of ints.
pub(crate) fn int_class() -> usize {
    (&raw const c::PyLong_Type).addr()
}

/// The value of an int that is not negative and below 2³⁰. `None`: it is another, or no int.
pub(crate) fn small_int(object: usize) -> Option<u32> {
    // behind the head: the number of digits (with bits below it since 3.12), then the digits, 30 bits each
    let bytes: [u8; 28] = memory::array(object)?;
    if word_in(&bytes, CLASS) != int_class() {
        return None;
    }
    let digits = word_in(&bytes, 16) >> if cfg!(Py_3_12) { 3 } else { 0 };
    let digit = u32::from_ne_bytes(bytes[24..].try_into().ok()?);
    match digits {
        0 => Some(0),
        1 => Some(digit),
        _ => None,
    }
}

/// `count` words from an address.
pub(crate) fn words(at: usize, count: usize) -> Vec<usize> {
    let mut bytes = vec![0; count * 8];
    if !memory::read(at, &mut bytes) {
        return Vec::new();
    }
    bytes.chunks_exact(8).map(|word| word_in(word, 0)).collect()
}

/// What was read at many addresses.
pub(crate) struct Blocks {
    bytes: Vec<u8>,
    whole: Vec<bool>,
    size: usize,
}

impl Blocks {
    /// What was at the address with this index, if that could be read.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let whole = self.whole.get(index).copied().unwrap_or(false);
        let begin = index * self.size;
        self.bytes.get(begin..begin + self.size).filter(|_| whole)
    }
}

/// Reads `size` bytes at each of many addresses, a thousand at a time. Where so many cannot be read, `least` of them are
/// enough, and the others are zero. The address 0 is none.
pub(crate) fn many(addresses: &[usize], size: usize, least: usize) -> Blocks {
    let mut bytes = vec![0; addresses.len() * size];
    let mut whole = vec![false; addresses.len()];
    let mut pieces = Vec::with_capacity(addresses.len());
    let mut indices = Vec::with_capacity(addresses.len());
    for (index, (&address, into)) in addresses
        .iter()
        .zip(bytes.chunks_exact_mut(size.max(1)))
        .enumerate()
    {
        if address != 0 {
            pieces.push(memory::Piece::new(address, into));
            indices.push(index);
        }
    }
    memory::read_all(&mut pieces);
    for (piece, index) in pieces.iter_mut().zip(indices) {
        if !piece.whole {
            piece.into.fill(0);
            piece.whole = memory::read(piece.address, &mut piece.into[..least.min(size)]);
        }
        whole[index] = piece.whole;
    }
    Blocks { bytes, whole, size }
}

/// The first words of the elements, `size` bytes each, of a `VecDeque` that lies at an address.
pub(crate) fn deque_items(at: usize, size: usize) -> Vec<usize> {
    let Some(order) = deque_order() else {
        return Vec::new();
    };
    let raw = words(at, DEQUE_WORDS);
    let [Some(&buffer), Some(&capacity), Some(&head), Some(&length)] = order.map(|at| raw.get(at)) else {
        return Vec::new();
    };
    if length > capacity || head >= capacity.max(1) || length > MOST_ITEMS {
        return Vec::new();
    }
    (0..length)
        .filter_map(|index| {
            let place = (head + index) % capacity;
            memory::word(buffer.wrapping_add(place.wrapping_mul(size)))
        })
        .collect()
}

/// A `VecDeque` is a pointer and three numbers, in an order that the compiler chooses.
const DEQUE_WORDS: usize = 4;

/// In which words of a `VecDeque` its buffer, capacity, head and length are: found out on one whose values all differ.
fn deque_order() -> Option<[usize; 4]> {
    static ORDER: OnceLock<Option<[usize; 4]>> = OnceLock::new();
    *ORDER.get_or_init(|| {
        const _: () = assert!(size_of::<VecDeque<usize>>() == DEQUE_WORDS * size_of::<usize>());
        let mut deque: VecDeque<usize> = VecDeque::with_capacity(11);
        deque.extend([0; 7]);
        deque.drain(..2);
        let (front, _) = deque.as_slices();
        let buffer = front.as_ptr().addr().checked_sub(2 * size_of::<usize>())?;
        // SAFETY: as large (asserted above), without padding, and only read.
        let raw: [usize; DEQUE_WORDS] = unsafe { std::ptr::read((&raw const deque).cast()) };
        let wanted = [buffer, deque.capacity(), 2, 5];
        let order = wanted.map(|value| raw.iter().position(|word| *word == value));
        match order {
            [Some(buffer), Some(capacity), Some(head), Some(length)] => {
                Some([buffer, capacity, head, length])
            }
            _ => None,
        }
    })
}
