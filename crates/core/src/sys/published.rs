//! Values that any thread reads without waiting, and that survive a `fork`.
//!
//! A lock does not: if another thread has it at that moment, the child has it locked for ever. So a thread that is not
//! the program's own (one that watches, or serves) takes no lock that the child might need: what it reads is
//! [`Published`], and what it locks is [`PerProcess`].
//!
//! Must never hold what changes often: what has been published once is never freed.
#![allow(unsafe_code, reason = "reads through a pointer to what is never freed")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::forks::epoch;

/// A value that is replaced as a whole, seldom: settings.
#[derive(Debug)]
pub struct Published<T: 'static>(AtomicPtr<T>);

impl<T: Send + Sync> Published<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// What was published last.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or what `set` has leaked.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Publishes a value. The one before stays where it is, for those who are reading it.
    pub fn set(&self, value: T) {
        self.0.store(Box::leak(Box::new(value)), Ordering::Release);
    }
}

impl<T: Send + Sync> Default for Published<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A value of which every process has its own: a forked child begins with a new one. (With the [`epoch`] that it is of.)
#[derive(Debug)]
pub struct PerProcess<T: 'static>(AtomicPtr<(u32, T)>);

impl<T: Default + Send + Sync> PerProcess<T> {
    /// Made when it is first asked for.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's.
    #[must_use]
    pub fn get(&self) -> &'static T {
        let here = epoch();
        let known = self.0.load(Ordering::Acquire);
        // SAFETY: null, or what has been leaked below, here or in the process that this one was forked from.
        match unsafe { known.as_ref() } {
            Some((then, value)) if *then == here => return value,
            _ => {}
        }
        let new = Box::into_raw(Box::new((here, T::default())));
        match self
            .0
            .compare_exchange(known, new, Ordering::AcqRel, Ordering::Acquire)
        {
            // SAFETY: just leaked.
            Ok(_) => unsafe { &(*new).1 },
            Err(winner) => {
                // SAFETY: nobody has seen it; and the winner's is never freed.
                unsafe {
                    drop(Box::from_raw(new));
                    &(*winner).1
                }
            }
        }
    }
}

impl<T: Default + Send> PerProcess<Mutex<T>> {
    /// Locks this process's. Nobody leaves such a value half changed: one whose holder has panicked is as good as another.
    pub fn lock(&self) -> MutexGuard<'static, T> {
        self.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default + Send + Sync> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}
