//! Which process of a family this one is: how often it has been forked off, itself and those before it.
//!
//! Owns the count. The process id does not tell a child from its parent: in a namespace of its own the child may have
//! the same one, 1 for instance; and asking for it is a system call.
//!
//! Must never be told by anything but the C library's `fork`, once in each child: [`note`].

use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A new number in every child.
#[inline]
#[must_use]
pub fn epoch() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// This process is a child that has just been forked off. Safe wherever a signal handler is.
pub fn note() {
    COUNT.fetch_add(1, Ordering::Relaxed);
}
