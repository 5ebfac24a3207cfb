//! How many requests are answered in a second.

use super::REQUESTS_PER_SECOND;
use std::time::Duration;

/// A bucket: full at the beginning, and refilled at the rate.
#[derive(Debug)]
pub(super) struct Limit {
    left: f64,
    since: f64,
}

impl Limit {
    /// A full one.
    pub(super) fn new(now: f64) -> Self {
        Self {
            left: f64::from(REQUESTS_PER_SECOND),
            since: now,
        }
    }

    /// How long the next request has to wait.
    pub(super) fn wait(&mut self, now: f64) -> Duration {
        let rate = f64::from(REQUESTS_PER_SECOND);
        self.left = (self.left + (now - self.since).max(0.0) * rate).min(rate);
        self.since = now;
        if self.left >= 1.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64((1.0 - self.left) / rate)
        }
    }

    /// One has been answered.
    pub(super) fn take(&mut self) {
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_and_the_rest_waits() {
        let mut limit = Limit::new(10.0);
        for _ in 0..REQUESTS_PER_SECOND {
            assert_eq!(limit.wait(10.0), Duration::ZERO);
            limit.take();
        }
        let wait = limit.wait(10.0);
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(10));
        assert_eq!(limit.wait(10.02), Duration::ZERO);
        // a long rest does not add up to more
        limit.wait(1000.0);
        for _ in 0..REQUESTS_PER_SECOND {
            assert_eq!(limit.wait(1000.0), Duration::ZERO);
            limit.take();
        }
        assert!(limit.wait(1000.0) > Duration::ZERO);
    }
}
