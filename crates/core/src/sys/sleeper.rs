//! How exactly the calling thread is woken when its time has come.
//!
//! Owns what the kernel has been told of it. A timer that may be late by a tick is served with one of the interrupts that
//! there are anyway while the processor is busy; an exact one is an interrupt of its own.

use std::num::NonZeroU64;

/// A tick of the kernel (4 ms where there are 250 a second), and a little more, so that there is one within it.
const TICK: Option<NonZeroU64> = NonZeroU64::new(4_500_000);

/// The sleep of one thread, which keeps it to itself.
#[derive(Debug, Default)]
pub(crate) struct Sleeper {
    /// It may be late.
    is_late: bool,
}

impl Sleeper {
    /// Shall the calling thread's next sleeps end in time, or may they be late by a tick? At first they are exact.
    pub(crate) fn is_exact(&mut self, exact: bool) {
        if self.is_late == exact {
            let slack = if exact { None } else { TICK };
            // (a kernel that does not know of this is always exact)
            let _ = rustix::thread::set_current_timer_slack(slack);
            self.is_late = !exact;
        }
    }
}
