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

    /// What was counted after `earlier`, which was read before this from the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        Self { counts, sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns) }
    }

    /// What so many of 100 took at most, as near as the buckets tell: those of one bucket are taken
    /// to be spread evenly over it, and those of the last to be as short as it begins. None when
    /// nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let total = u128::from(self.count());
        let rank = (total * u128::from(percent.min(100))).div_ceil(100).max(1);
        let (mut before, mut begin) = (0_u128, Duration::ZERO);
        for (end, count) in self.buckets() {
            let count = u128::from(count);
            if count > 0 && before + count >= rank {
                let width = end.map_or(0, |end| (end - begin).as_nanos());
                let into = width * (rank - before) / count;
                return Some(begin + Duration::from_nanos(u64::try_from(into).unwrap_or(u64::MAX)));
            }
            before += count;
            begin = end.unwrap_or(begin);
        }
        None
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

/// How many make up the newest ones at least: enough for one of a hundred to be some.
const RECENT_MIN: u64 = 512;

/// Tells the newest durations of a [`Histogram`] from all that it ever counted: how a disk is, not
/// how it was last month.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent {
    /// The newest ones begin here.
    older: Durations,
    /// And will begin here once there are enough behind it.
    newer: Durations,
}

impl Recent {
    /// Looks at what was counted by now. The more often, the closer to [`Recent::of`]'s bounds.
    pub fn look(&mut self, now: &Durations) {
        if now.since(&self.newer).count() >= RECENT_MIN {
            self.older = self.newer;
            self.newer = *now;
        }
    }

    /// The newest ones: all while there were few; then at least 512, and at most about twice as many
    /// as that, or as came between two looks.
    #[must_use]
    pub fn of(&self, now: &Durations) -> Durations {
        now.since(&self.older)
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

    #[test]
    fn a_percentile_lies_in_its_bucket() {
        let micros = |micros| Some(Duration::from_micros(micros));
        assert_eq!(Durations::default().percentile(50), None);
        let histogram = Histogram::default();
        // 99 in the bucket from 128 to 256 µs, and one above 8.3 s, which has no end.
        (0..99).for_each(|_| histogram.record(Duration::from_micros(200)));
        histogram.record(Duration::from_secs(60));
        let read = histogram.read();
        assert_eq!(read.percentile(99), micros(256));
        assert_eq!(read.percentile(100), micros(16 << (BUCKETS - 2)));
        let half = read.percentile(50).expect("some were counted");
        assert!(half > Duration::from_micros(190) && half < Duration::from_micros(193), "{half:?}");
        // One is all percentiles.
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(17));
        assert_eq!(histogram.read().percentile(1), micros(32));
        assert_eq!(histogram.read().percentile(99), micros(32));
    }

    #[test]
    fn the_newest_are_told_from_the_rest() {
        let (histogram, mut recent) = (Histogram::default(), Recent::default());
        let count = |took: u64, times: u64, recent: &mut Recent| {
            for _ in 0..times {
                histogram.record(Duration::from_micros(took));
                recent.look(&histogram.read());
            }
            recent.of(&histogram.read())
        };
        assert_eq!(count(100, RECENT_MIN * 2 - 1, &mut recent).count(), RECENT_MIN * 2 - 1);
        assert_eq!(count(100, 1, &mut recent).count(), RECENT_MIN);
        // Those that were slow once are forgotten.
        let slow = count(5_000, RECENT_MIN, &mut recent);
        assert!(slow.percentile(99) > Some(Duration::from_millis(4)), "{slow:?}");
        let fast = count(100, RECENT_MIN * 2, &mut recent);
        assert!(fast.percentile(99) < Some(Duration::from_millis(1)), "{fast:?}");
    }
}
