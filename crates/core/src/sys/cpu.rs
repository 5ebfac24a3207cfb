//! How much CPU time a thread has used, asked from another.
//!
//! Owns the calls; the clock of a thread is a number, which its owner must stop using when the thread ends.
//! Must never be asked on the way of every callback: each reading is a system call.
#![allow(unsafe_code, reason = "rustix reads the clock of the calling thread only")]

use std::time::Duration;

use super::time;

/// The clock of the calling thread's CPU time; 0 if there is none.
#[must_use]
pub fn clock_of_this_thread() -> i32 {
    let mut clock = 0;
    // SAFETY: the thread exists, and the place is ours.
    let error = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
    if error == 0 { clock } else { 0 }
}

/// How much CPU time the thread of a clock has used since it was started. `None`: it has ended.
#[must_use]
pub fn time(clock: i32) -> Option<Duration> {
    if clock == 0 {
        return None;
    }
    let (seconds, nanoseconds) = time::read(clock)?;
    Some(Duration::new(
        seconds.try_into().ok()?,
        nanoseconds.try_into().ok()?,
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_time_of_another_thread_is_read_until_it_ends() {
        let (tell, clock) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .spawn(move || {
                let clock = clock_of_this_thread();
                while time(clock).unwrap() < Duration::from_millis(20) {}
                tell.send(clock).unwrap();
                let _ = ended.recv();
            })
            .unwrap();
        let clock = clock.recv().unwrap();
        assert_ne!(clock, clock_of_this_thread());
        let used = time(clock).unwrap();
        assert!(
            used >= Duration::from_millis(20) && used < Duration::from_secs(5),
            "{used:?}"
        );
        drop(end);
        thread.join().unwrap();
        assert_eq!(time(clock), None);
        assert_eq!(time(0), None);
    }
}
