//! Where a message ends: what `asyncio.StreamReader.readuntil` decides between two arrivals of data.

use memchr::{memchr, memmem};

/// A search that goes on as more bytes come: what it has looked at it does not look at again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    /// No separator begins before this place.
    offset: usize,
}

/// What a look at the bytes has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// A separator begins at `start` and ends at `end`, which is the end of the message.
    Found {
        /// The length of the message without its separator.
        start: usize,
        /// And with it.
        end: usize,
    },
    /// As `Found`, but what comes before the separator is longer than the limit.
    TooLong {
        /// So long.
        start: usize,
    },
    /// There is none, and so many bytes, more than the limit, surely belong to no separator.
    Overrun {
        /// So many.
        consumed: usize,
    },
    /// There is none yet.
    NotYet,
}

impl Search {
    /// From here on.
    #[must_use]
    pub fn from(offset: usize) -> Search {
        Search { offset }
    }

    /// How far it has come.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Looks at the bytes, which begin as they did before. The separators are sorted by length, and none is empty.
    /// Of several the one that ends first counts; of those that end together the shortest.
    #[inline]
    pub fn look<S: AsRef<[u8]>>(&mut self, bytes: &[u8], separators: &[S], limit: usize) -> Verdict {
        let (Some(shortest), Some(longest)) = (separators.first(), separators.last()) else {
            return Verdict::NotYet;
        };
        // (the program may have taken bytes away)
        if bytes.len().saturating_sub(self.offset) < shortest.as_ref().len() {
            return Verdict::NotYet;
        }
        let mut found = None;
        let mut rest = &bytes[self.offset..];
        for separator in separators {
            let separator = separator.as_ref();
            if let Some(at) = find(rest, separator) {
                let end = at + separator.len();
                found = Some((at, end));
                // only what ends earlier is better
                rest = &rest[..end - 1];
            }
        }
        if let Some((at, end)) = found {
            let (start, end) = (self.offset + at, self.offset + end);
            return if start > limit {
                Verdict::TooLong { start }
            } else {
                Verdict::Found { start, end }
            };
        }
        self.offset = (bytes.len() + 1).saturating_sub(longest.as_ref().len());
        if self.offset > limit {
            return Verdict::Overrun {
                consumed: self.offset,
            };
        }
        Verdict::NotYet
    }
}

#[inline]
fn find(bytes: &[u8], separator: &[u8]) -> Option<usize> {
    match separator {
        [byte] => memchr(*byte, bytes),
        _ => memmem::find(bytes, separator),
    }
}
