//! What has come and has not been read yet: the bytes behind `asyncio.StreamReader._buffer`.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | [`Buffer`]: bytes come in at the end and leave at the front |
//! | `scratch.rs` | the memory that is read into |
//! | `search.rs` | [`Search`]: where a message ends, and whether that is too far (`readuntil`) |
//!
//! Rules
//! 1. What comes into an empty buffer stays the piece that it is: who reads all of it gets that very piece, and
//!    nothing has been copied. Only what comes after it is put together with it.
//! 2. The bytes lie in a row, wherever they are: in the piece, or in memory of the buffer's own.
//! 3. An empty buffer has no memory, and a large piece is not kept for the sake of a small rest.

mod scratch;
mod search;

pub use scratch::scratch;
pub use search::{Search, Verdict};

/// A piece that is smaller than this is kept for the smallest rest.
const SMALL: usize = 4096;
/// Of a larger one at least this part must be left.
const PART: usize = 4;

/// See the module. `P` is a piece of bytes that nobody changes, and whose drop does not come back here.
#[derive(Debug)]
pub struct Buffer<P> {
    piece: Option<P>,
    /// In use while there is no piece.
    own: Vec<u8>,
    /// How many bytes at the front (of the piece, or of `own`) have been read already.
    start: usize,
}

impl<P> Default for Buffer<P> {
    fn default() -> Self {
        Buffer {
            piece: None,
            own: Vec::new(),
            start: 0,
        }
    }
}

impl<P: AsRef<[u8]>> Buffer<P> {
    /// The bytes.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match &self.piece {
            Some(piece) => &piece.as_ref()[self.start..],
            None => &self.own[self.start..],
        }
    }

    /// How many.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// None?
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.piece.is_none() && self.own.is_empty()
    }

    /// Adds a piece.
    #[inline]
    pub fn push(&mut self, piece: P) {
        if piece.as_ref().is_empty() {
            return;
        }
        if self.is_empty() {
            self.piece = Some(piece);
        } else {
            self.extend(piece.as_ref());
        }
    }

    /// Adds a copy of bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.end(bytes.len()).extend_from_slice(bytes);
    }

    /// The end, for bytes to be put there, with room for at least so many.
    pub fn end(&mut self, room: usize) -> &mut Vec<u8> {
        match self.piece.take() {
            Some(piece) => {
                let rest = &piece.as_ref()[self.start..];
                self.own.reserve_exact(rest.len() + room);
                self.own.extend_from_slice(rest);
                self.start = 0;
            }
            None => {
                // what has been read makes room before new memory does
                if self.start > 0 && self.own.capacity() - self.own.len() < room {
                    self.own.drain(..self.start);
                    self.start = 0;
                }
                self.own.reserve(room);
            }
        }
        &mut self.own
    }

    /// Takes all of it, if it is a piece that nobody has read from.
    #[inline]
    pub fn take_piece(&mut self) -> Option<P> {
        if self.start == 0 { self.piece.take() } else { None }
    }

    /// So many bytes at the front have been read.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        let whole = self
            .piece
            .as_ref()
            .map_or(self.own.len(), |piece| piece.as_ref().len());
        if self.start >= whole {
            self.clear();
        } else if whole >= SMALL && (whole - self.start) < whole / PART {
            self.shrink();
        }
    }

    /// Rule 3.
    #[cold]
    fn shrink(&mut self) {
        let rest = self.as_slice().to_vec();
        self.clear();
        self.own = rest;
    }

    /// Forgets everything.
    #[inline]
    pub fn clear(&mut self) {
        self.piece = None;
        if self.own.capacity() > 0 {
            self.own = Vec::new();
        }
        self.start = 0;
    }
}
