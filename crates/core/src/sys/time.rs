//! The readings of the kernel's clocks.
//!
//! Owns the call. It is libc's, which goes through the vDSO: rustix would look for the vDSO by itself, where valgrind hides
//! it. Asking libc costs the same.
//! Must never decide what a time is for: `clock` does.
#![allow(unsafe_code, reason = "rustix's safe way does not survive valgrind")]

use std::mem::MaybeUninit;

/// Time since an arbitrary moment, which no one sets.
pub(crate) const MONOTONIC: libc::clockid_t = libc::CLOCK_MONOTONIC;
/// The same at the kernel's last tick.
pub(crate) const MONOTONIC_COARSE: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
/// Time since 1970 in UTC.
pub(crate) const REALTIME: libc::clockid_t = libc::CLOCK_REALTIME;

/// Seconds, and nanoseconds: what a clock says. `None`: there is no such clock (any more).
#[inline]
#[allow(clippy::useless_conversion, reason = "on 32 bits they are shorter")]
pub(crate) fn read(clock: libc::clockid_t) -> Option<(i64, i64)> {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the place is ours, and the call writes all of it or answers -1. Any number may be asked for.
    let now = unsafe {
        if libc::clock_gettime(clock, now.as_mut_ptr()) != 0 {
            return None;
        }
        now.assume_init()
    };
    Some((now.tv_sec.into(), now.tv_nsec.into()))
}
