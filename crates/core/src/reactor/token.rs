//! What the kernel hands back with an event: whose it is.
//!
//! Owns the packing of a descriptor and a generation into the 64 bits that epoll stores for us.
//! Must never be made for a descriptor but by the reactor, which alone knows the generations.

use std::os::fd::RawFd;

/// A descriptor and the generation of its registration.
///
/// A descriptor's number is reused as soon as it is closed. The generation tells the new owner from the old
/// one, so that an event which was already on its way to the old owner cannot reach the new one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Token(u64);

impl Token {
    /// The waker's. It cannot be mistaken for a descriptor's: they are not negative.
    pub const WAKER: Self = Self(u64::MAX);

    /// The token of the `generation`th registration of `fd`.
    #[inline]
    #[must_use]
    pub const fn new(fd: RawFd, generation: u32) -> Self {
        Self((generation as u64) << 32 | fd as u32 as u64)
    }

    /// The descriptor (-1 for the waker).
    #[inline]
    #[must_use]
    pub const fn fd(self) -> RawFd {
        self.0 as u32 as RawFd
    }

    /// The generation.
    #[inline]
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The 64 bits for the kernel.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The token of 64 bits that the kernel gave back.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}
