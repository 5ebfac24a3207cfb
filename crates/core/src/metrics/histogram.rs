//! How long things took, by order of magnitude.
//!
//! Owns one array of counts. Each bucket is twice as wide as the one before, from a microsecond to a minute, so that a
//! duration costs a bit count and two additions, and no configuration can be wrong.
//! Must never be written by two threads at once: an addition is a load and a store.

use std::sync::atomic::{AtomicU64, Ordering};

/// The first bucket ends at 2¹⁰ ns, a microsecond.
const FIRST: u32 = 10;
/// The last one that ends: at 2³⁶ ns, 69 seconds.
const LAST: u32 = 36;
/// The buckets that end, and the one that does not.
const BUCKETS: usize = (LAST - FIRST + 2) as usize;

/// Where the buckets end, in nanoseconds, the end included; the last bucket, which has no end, is not here.
pub const BOUNDS: [u64; BUCKETS - 1] = {
    let mut bounds = [0; BUCKETS - 1];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = 1 << (FIRST as usize + index);
        index += 1;
    }
    bounds
};

/// Durations that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Of all, in nanoseconds.
    sum: AtomicU64,
    /// The longest, in nanoseconds.
    max: AtomicU64,
}

impl Histogram {
    /// Adds a duration. One thread only.
    #[inline]
    pub fn record(&self, nanoseconds: u64) {
        add(&self.buckets[bucket(nanoseconds)], 1);
        // (a loop that has been blocked for days: a sum that stands still is better than one that begins anew)
        let sum = self.sum.load(Ordering::Relaxed).saturating_add(nanoseconds);
        self.sum.store(sum, Ordering::Relaxed);
        if nanoseconds > self.max.load(Ordering::Relaxed) {
            self.max.store(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Adds a duration in seconds; a negative one or a NaN counts as none. One thread only.
    #[inline]
    pub fn record_seconds(&self, seconds: f64) {
        // `as` saturates, and makes zero of a NaN
        self.record((seconds * 1e9) as u64);
    }

    /// What has been written so far. While the writer writes, the sum may be one duration ahead of the counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut buckets = [0; BUCKETS];
        for (count, bucket) in buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        Counts {
            buckets,
            sum: self.sum.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
        }
    }
}

#[inline]
fn add(place: &AtomicU64, more: u64) {
    place.store(
        place.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}

#[inline]
fn bucket(nanoseconds: u64) -> usize {
    let bits = u64::BITS - nanoseconds.saturating_sub(1).leading_zeros();
    bits.clamp(FIRST, LAST + 1) as usize - FIRST as usize
}

/// A [`Histogram`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// How many durations there were in each bucket: up to each of [`BOUNDS`], and longer than the last.
    pub buckets: [u64; BUCKETS],
    /// All of them together, in nanoseconds.
    pub sum: u64,
    /// The longest, in nanoseconds.
    pub max: u64,
}

impl Counts {
    /// How many durations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration in nanoseconds that the part `share` of all durations (0 to 1) does not exceed: exact to a factor of
    /// two, within the bucket by proportion, and never more than the longest. `None` if there were none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = share.clamp(0.0, 1.0) * count as f64;
        let mut before = 0.0;
        for (index, &here) in self.buckets.iter().enumerate() {
            let here = here as f64;
            if here > 0.0 && before + here >= wanted {
                let start = index.checked_sub(1).map_or(0, |previous| BOUNDS[previous]) as f64;
                let end = BOUNDS.get(index).map_or(self.max, |&end| end.min(self.max)) as f64;
                return Some(start + (end - start).max(0.0) * ((wanted - before) / here).clamp(0.0, 1.0));
            }
            before += here;
        }
        Some(self.max as f64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_in_its_bucket_and_the_next_nanosecond_is_not() {
        for (index, &bound) in BOUNDS.iter().enumerate() {
            assert_eq!(bucket(bound), index);
            assert_eq!(bucket(bound + 1), index + 1);
        }
        assert_eq!((bucket(0), bucket(1), bucket(u64::MAX)), (0, 0, BUCKETS - 1));
    }

    #[test]
    fn counts_sum_and_longest() {
        let histogram = Histogram::default();
        for nanoseconds in [500, 1500, 1500, 5_000_000] {
            histogram.record(nanoseconds);
        }
        histogram.record_seconds(0.25);
        histogram.record_seconds(-1.0);
        histogram.record_seconds(f64::NAN);
        let counts = histogram.counts();
        assert_eq!(counts.count(), 7);
        assert_eq!((counts.buckets[0], counts.buckets[1]), (3, 2));
        assert_eq!((counts.sum, counts.max), (255_003_500, 250_000_000));
    }

    #[test]
    fn a_quantile_is_right_to_a_factor_of_two() {
        let histogram = Histogram::default();
        assert_eq!(histogram.counts().quantile(0.5), None);
        for microseconds in 1..=1000 {
            histogram.record(microseconds * 1000);
        }
        let counts = histogram.counts();
        for share in [0.1, 0.5, 0.9, 0.99] {
            let (found, exact) = (counts.quantile(share).unwrap(), share * 1e6);
            assert!(exact / 2.0 <= found && found <= exact * 2.0, "{share}: {found}");
        }
        assert_eq!(counts.quantile(1.0), Some(1e6));
        assert_eq!(counts.quantile(2.0), Some(1e6));
    }

    #[test]
    fn what_is_longer_than_the_last_bound_is_counted_too() {
        let histogram = Histogram::default();
        histogram.record(1 << 40);
        let counts = histogram.counts();
        assert_eq!(counts.buckets.last(), Some(&1));
        assert_eq!(counts.quantile(1.0), Some((1_u64 << 40) as f64));
    }
}
