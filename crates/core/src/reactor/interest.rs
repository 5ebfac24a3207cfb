//! What one asks about a descriptor, and what one is told: `selectors.EVENT_READ` and `EVENT_WRITE`.
//!
//! Owns the two sets as plain data.
//! Must never know a kernel's bits: translating those is the business of a file in `sys`.

use std::ops::{BitAnd, BitOr, Not, Sub};

/// What somebody wants to know about a descriptor: a set, possibly empty.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Interest(u8);

impl Interest {
    /// Nothing: the descriptor is not watched.
    pub const EMPTY: Self = Self(0);
    /// `EVENT_READ`: `add_reader`. It has the same value as in `selectors`.
    pub const READABLE: Self = Self(1);
    /// `EVENT_WRITE`: `add_writer`.
    pub const WRITABLE: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);

    /// Whether it asks for nothing.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it asks for readability.
    #[inline]
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Whether it asks for writability.
    #[inline]
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }

    /// Whether it asks for all that `other` asks for.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Interest {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Interest {
    type Output = Self;
    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Interest {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        self & !other
    }
}

impl Not for Interest {
    type Output = Self;
    #[inline]
    fn not(self) -> Self {
        Self(!self.0 & Self::BOTH.0)
    }
}

/// What is known about a descriptor.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Readiness {
    /// A read would not block. It may fail, or find the end.
    pub readable: bool,
    /// A write would not block. It may fail.
    pub writable: bool,
}

impl Readiness {
    /// Whether there is nothing to tell.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.readable && !self.writable
    }

    /// What of it was asked for.
    #[inline]
    #[must_use]
    pub const fn masked_by(self, interest: Interest) -> Self {
        Self {
            readable: self.readable && interest.is_readable(),
            writable: self.writable && interest.is_writable(),
        }
    }
}
