//! The leader's two clocks, from which every batch is stamped.
//!
//! `lease_ms` counts the time in which the cluster had a leader with a quorum; nothing else. So a
//! lease never shortens across a failover, a pause or a jump of the wall clock.

use quorate_state::Stamp;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Where wall time comes from. Two implementations: [`SystemClock`] and the simulation's.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
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
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Lease time at `sampled`, in microseconds: a millisecond a sample would be lost otherwise.
    lease_us: u64,
    wall_ms: u64,
    sampled: Instant,
}

impl TermClock {
    /// Goes on from what the term's first applied entry left, or from `wall_ms` if that is later.
    pub(crate) fn new(from: Stamp, wall_ms: u64, quorum_ttl: Duration) -> Self {
        let inner = Inner {
            lease_us: from.lease_ms.saturating_mul(1_000),
            wall_ms: from.wall_ms.max(wall_ms),
            sampled: Instant::now(),
        };
        Self { quorum_ttl, inner: Mutex::new(inner) }
    }

    /// The clocks now. `quorum_acked` is when a quorum last acknowledged this leader.
    pub(crate) fn sample(&self, quorum_acked: Option<Instant>, wall_ms: u64) -> Stamp {
        let now = Instant::now();
        let mut inner = self.inner.lock().expect("no holder of this lock can panic");
        // Time counts up to the moment at which the last acknowledgement wears off.
        let counted = quorum_acked.map_or(inner.sampled, |acked| now.min(acked + self.quorum_ttl));
        let lease = counted.saturating_duration_since(inner.sampled);
        let elapsed = now.saturating_duration_since(inner.sampled);
        inner.lease_us += u64::try_from(lease.as_micros()).unwrap_or(u64::MAX);
        // The wall clock may run up to twice as fast as time passes, to catch up, and never back:
        // a jump of an hour must not fire an hour's timers at once.
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let fastest = inner.wall_ms.saturating_add(elapsed_ms.saturating_mul(2));
        inner.wall_ms = wall_ms.clamp(inner.wall_ms, fastest.max(inner.wall_ms));
        if elapsed_ms > 0 || !lease.is_zero() {
            inner.sampled = now;
        }
        Stamp { lease_ms: inner.lease_us / 1_000, wall_ms: inner.wall_ms }
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
    async fn many_samples_lose_no_time() {
        let clock = clock();
        for _ in 0..10_000 {
            advance(Duration::from_micros(300)).await;
            clock.sample(Some(Instant::now()), 60_000);
        }
        assert_eq!(clock.sample(Some(Instant::now()), 60_000).lease_ms, 1_000 + 3_000);
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
    }
}
