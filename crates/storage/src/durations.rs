//! How long something took, counted in buckets without a lock: cheap enough for every sync and
//! every entry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the first bucket reaches to, in nanoseconds: the fastest disks sync in about that.
const FIRST_NS: u64 = 16_000;
/// Each bucket reaches twice as far as the one before: the last but one to 8.4 s. The last has no
/// end.
const BUCKETS: usize = 21;

/// Counts durations; any thread may at any time.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What was counted so far. One that is being counted may be in one of the numbers only.
    #[must_use]
    pub fn read(&self) -> Durations {
        Durations {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

/// The bucket of a duration: each holds what is above the end of the one before.
fn bucket(ns: u64) -> usize {
    let firsts = ns.div_ceil(FIRST_NS).max(1);
    let doublings = u64::BITS - (firsts - 1).leading_zeros();
    usize::try_from(doublings).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// What a [`Histogram`] had counted at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    counts: [u64; BUCKETS],
    sum_ns: u64,
}

impl Durations {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The buckets in order: up to and with which duration, and how many of those that fit none
    /// before. The last has no end.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        self.counts.iter().enumerate().map(|(at, count)| {
            let end = (at + 1 < BUCKETS).then(|| Duration::from_nanos(FIRST_NS << at));
            (end, *count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_first_bucket_that_reaches_to_it() {
        let ends: Vec<u64> = (0..BUCKETS - 1).map(|at| FIRST_NS << at).collect();
        assert_eq!(bucket(0), 0);
        for (at, end) in ends.iter().enumerate() {
            assert_eq!(bucket(*end), at, "{end}");
            assert_eq!(bucket(end + 1), at + 1, "{end} and one more");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_was_counted_is_read() {
        let histogram = Histogram::default();
        for micros in [1, 16, 17, 3_000_000, 60_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!(read.count(), 5);
        assert_eq!(read.sum(), Duration::from_micros(63_000_034));
        let filled: Vec<_> = read.buckets().filter(|(_, count)| *count > 0).collect();
        let micros = |micros| Some(Duration::from_micros(micros));
        assert_eq!(filled, [(micros(16), 2), (micros(32), 1), (micros(16 << 18), 1), (None, 1)]);
    }
}
