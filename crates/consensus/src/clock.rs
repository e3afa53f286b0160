//! The leader's two clocks, from which every batch is stamped.
//!
//! `lease_ms` counts the time in which the cluster had a leader with a quorum; nothing else. So a
//! lease never shortens across a failover, a pause or a jump of the wall clock.

use crate::leaps::Leaps;
use quorate_state::Stamp;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Where wall time comes from. Two implementations: [`SystemClock`] and the simulation's.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// The leaps that a test makes, which this clock shares: it is ahead by what they have passed.
    /// There are none elsewhere.
    fn leaps(&self) -> Option<Arc<Leaps>> {
        None
    }
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The clocks of one leader in one term.
#[derive(Debug)]
pub(crate) struct TermClock {
    /// An acknowledgement by a quorum counts for this long.
    quorum_ttl: Duration,
    leaps: Option<Arc<Leaps>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Lease time at `sampled`, in microseconds: a millisecond a sample would be lost otherwise.
    lease_us: u64,
    /// Wall time at `sampled`, in microseconds for the same reason.
    wall_us: u64,
    /// What was leapt up to `sampled`, in microseconds.
    leapt_us: u64,
    sampled: Instant,
}

/// How far a new leader may set the wall clock forward at once, one week: a cluster that was
/// switched off over some days is on time again at once; a clock further ahead is broken, and what
/// it says of the future would be kept for ever, because the clock never goes back.
const TAKE_OVER_STEP_MS: u64 = 7 * 24 * 3_600 * 1_000;

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl TermClock {
    /// Goes on from what the term's first applied entry left. Only a cluster that has no wall time
    /// yet takes over this node's as it is; later on a node whose clock is ahead by a year must not
    /// carry the cluster along, so it only approaches it as in [`TermClock::sample`].
    pub(crate) fn new(from: Stamp, wall_ms: u64, quorum_ttl: Duration) -> Self {
        let wall_ms = match from.wall_ms {
            0 => wall_ms,
            known => wall_ms.clamp(known, known.saturating_add(TAKE_OVER_STEP_MS)),
        };
        let inner = Inner {
            lease_us: from.lease_ms.saturating_mul(1_000),
            wall_us: wall_ms.saturating_mul(1_000),
            leapt_us: 0,
            sampled: Instant::now(),
        };
        Self { quorum_ttl, leaps: None, inner: Mutex::new(inner) }
    }

    /// The same, which leaps along from now on, where there are leaps.
    pub(crate) fn leaping(mut self, leaps: Option<Arc<Leaps>>) -> Self {
        let leapt_us = leaps.as_ref().map_or(0, |leaps| leaps.passed_us());
        self.inner.get_mut().expect("nobody has it yet").leapt_us = leapt_us;
        Self { leaps, ..self }
    }

    /// The clocks now. `quorum_acked` is when a quorum last acknowledged this leader.
    pub(crate) fn sample(&self, quorum_acked: Option<Instant>, wall_ms: u64) -> Stamp {
        let now = Instant::now();
        let mut inner = self.inner.lock().expect("no holder of this lock can panic");
        // Time counts up to the moment at which the last acknowledgement wears off. A leader samples
        // several times within `quorum_ttl`; what lies further back was a pause, and time without
        // a known quorum, whatever arrived just before this sample.
        let counted = quorum_acked.map_or(inner.sampled, |acked| now.min(acked + self.quorum_ttl));
        let lease = counted.saturating_duration_since(inner.sampled).min(self.quorum_ttl);
        let elapsed_us = micros(now.saturating_duration_since(inner.sampled));
        if let Some(leaps) = &self.leaps {
            let leapt_us = leaps.passed_us();
            let leap_us = leapt_us.saturating_sub(inner.leapt_us);
            inner.lease_us = inner.lease_us.saturating_add(leap_us);
            inner.wall_us = inner.wall_us.saturating_add(leap_us);
            inner.leapt_us = leapt_us;
        }
        if elapsed_us > 0 {
            inner.lease_us = inner.lease_us.saturating_add(micros(lease));
            // The wall clock may run up to twice as fast as time passes, to catch up, and never
            // back: a jump of an hour must not fire an hour's timers at once.
            let fastest_us = inner.wall_us.saturating_add(elapsed_us.saturating_mul(2));
            inner.wall_us = wall_ms.saturating_mul(1_000).clamp(inner.wall_us, fastest_us);
            inner.sampled = now;
        }
        Stamp { lease_ms: inner.lease_us / 1_000, wall_ms: inner.wall_us / 1_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const TTL: Duration = Duration::from_millis(500);

    fn clock() -> TermClock {
        TermClock::new(Stamp { lease_ms: 1_000, wall_ms: 50_000 }, 60_000, TTL)
    }

    #[tokio::test(start_paused = true)]
    async fn lease_time_passes_only_with_a_quorum() {
        let clock = clock();
        let acked = Instant::now();
        advance(Duration::from_millis(400)).await;
        assert_eq!(clock.sample(Some(acked), 60_000).lease_ms, 1_400);
        // The acknowledgement wears off 100 ms from here; the rest of the second counts for nobody.
        advance(Duration::from_millis(1_000)).await;
        assert_eq!(clock.sample(Some(acked), 60_000).lease_ms, 1_500);
        advance(Duration::from_millis(10_000)).await;
        assert_eq!(clock.sample(Some(acked), 60_000).lease_ms, 1_500);
        // A new acknowledgement counts from now on, not backwards.
        let acked = Instant::now();
        advance(Duration::from_millis(100)).await;
        assert_eq!(clock.sample(Some(acked), 60_000).lease_ms, 1_600);
        assert_eq!(clock.sample(None, 60_000).lease_ms, 1_600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_counts_for_one_acknowledgement_at_most() {
        let clock = clock();
        advance(Duration::from_secs(10)).await;
        // The process was stopped, and an answer came in before anybody looked at the clock.
        assert_eq!(clock.sample(Some(Instant::now()), 60_000).lease_ms, 1_500);
    }

    #[tokio::test(start_paused = true)]
    async fn many_samples_lose_no_time() {
        let clock = clock();
        for step in 1..=10_000 {
            advance(Duration::from_micros(300)).await;
            clock.sample(Some(Instant::now()), 60_000 + step * 300 / 1_000);
        }
        // The wall clock catches up with its whole milliseconds a moment later.
        advance(Duration::from_millis(1)).await;
        let stamp = clock.sample(Some(Instant::now()), 63_001);
        assert_eq!((stamp.lease_ms, stamp.wall_ms), (1_000 + 3_001, 63_001));
    }

    #[tokio::test(start_paused = true)]
    async fn both_clocks_leap_by_what_a_test_asks_for_and_by_no_more() {
        let leaps = Arc::<Leaps>::default();
        leaps.pass(Duration::from_secs(7));
        let clock = clock().leaping(Some(Arc::clone(&leaps)));
        // What passed before this term is in what it began with.
        let before = Stamp { lease_ms: 1_000, wall_ms: 60_000 };
        assert_eq!(clock.sample(Some(Instant::now()), 60_000), before);
        leaps.pass(Duration::from_secs(30));
        // Also while the wall clock was read a moment before the leap.
        let after = Stamp { lease_ms: 31_000, wall_ms: 90_000 };
        assert_eq!(clock.sample(Some(Instant::now()), 60_000), after);
        assert_eq!(clock.sample(None, 90_000), after);
        advance(Duration::from_millis(100)).await;
        let later = Stamp { lease_ms: 31_100, wall_ms: 90_100 };
        assert_eq!(clock.sample(Some(Instant::now()), 90_100), later);
    }

    #[tokio::test(start_paused = true)]
    async fn wall_time_never_goes_back_and_never_leaps() {
        let clock = clock();
        advance(Duration::from_millis(100)).await;
        assert_eq!(clock.sample(None, 60_100).wall_ms, 60_100);
        advance(Duration::from_millis(100)).await;
        assert_eq!(clock.sample(None, 10).wall_ms, 60_100, "set back an hour");
        advance(Duration::from_millis(100)).await;
        assert_eq!(clock.sample(None, 3_660_000).wall_ms, 60_300, "set forward an hour");
        let next = TermClock::new(Stamp { lease_ms: 0, wall_ms: 60_300 }, u64::MAX, TTL);
        assert_eq!(next.sample(None, u64::MAX).wall_ms, 60_300 + TAKE_OVER_STEP_MS);
        let first = TermClock::new(Stamp::default(), 1_700_000_000_000, TTL);
        assert_eq!(first.sample(None, 0).wall_ms, 1_700_000_000_000);
    }
}
