//! What this thread has done that another descriptor may show: it has sent, written, connected, shut down or closed.
//!
//! The other end of a connection is often watched by the same loop. Whoever compares two counts knows whether there may
//! be something to see that was not there before.

use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

/// One more.
#[inline]
pub fn happened() {
    COUNT.with(|count| count.set(count.get().wrapping_add(1)));
}

/// How many there have been in this thread; it begins again after 2³².
#[inline]
#[must_use]
pub fn count() -> u32 {
    COUNT.with(Cell::get)
}
