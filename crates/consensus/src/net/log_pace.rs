//! How fast log is sent to a node that was away. One that keeps up is never held up.
//!
//! A token bucket (Turner, *New directions in communications*, 1986). It fills with time, and with
//! what this node appends itself, twice over: a node that keeps up takes no more than that, and one
//! that is behind gets nearer, however much is written meanwhile.

use std::time::Duration;
use tokio::time::Instant;

/// Bytes that may be sent at once after a while without any.
const BURST: u32 = 4 << 20;
/// Bytes of what this node has appended that count at once, at most.
const APPENDED_MAX: u32 = 64 << 20;

pub(super) struct LogPace {
    /// None: as fast as the network takes it.
    bytes_per_second: Option<u64>,
    /// Bytes that this node has appended so far.
    appended: Box<dyn Fn() -> u64 + Send>,
    appended_seen: u64,
    tokens: f64,
    filled_at: Instant,
}

impl LogPace {
    pub(super) fn new(
        bytes_per_second: Option<u64>,
        appended: impl Fn() -> u64 + Send + 'static,
        now: Instant,
    ) -> Self {
        let appended_seen = appended();
        let appended = Box::new(appended);
        Self { bytes_per_second, appended, appended_seen, tokens: BURST.into(), filled_at: now }
    }

    /// Takes what is sent; how long to wait before anything else is.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let rate = rate.max(1) as f64;
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        let most = self.tokens.max(BURST.into());
        self.tokens = (self.tokens + passed * rate).min(most) - bytes as f64;
        if self.tokens < 0.0 {
            // Asked only now, because most of the time there is no need to.
            let appended = (self.appended)();
            let more = appended.saturating_sub(self.appended_seen).min(APPENDED_MAX.into());
            self.appended_seen = appended;
            self.tokens += 2.0 * more as f64;
        }
        Duration::from_secs_f64((-self.tokens).max(0.0) / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const RATE: u64 = 1 << 20;
    const PIECE: usize = 64 << 10;

    /// Sends pieces as fast as it may, while so much is appended beside; how long it takes.
    fn sent_in(pieces: u64, appended_per_piece: u64) -> Duration {
        let appended = Arc::<AtomicU64>::default();
        let seen = Arc::clone(&appended);
        let begun = Instant::now();
        let mut now = begun;
        let mut pace = LogPace::new(Some(RATE), move || seen.load(Ordering::Relaxed), now);
        for _ in 0..pieces {
            appended.fetch_add(appended_per_piece, Ordering::Relaxed);
            now += pace.take(PIECE, now);
        }
        now - begun
    }

    #[test]
    fn who_keeps_up_is_never_held_up() {
        assert_eq!(sent_in(100_000, PIECE as u64), Duration::ZERO);
        let mut any = LogPace::new(None, || 0, Instant::now());
        assert_eq!(any.take(usize::MAX, Instant::now()), Duration::ZERO);
    }

    #[test]
    fn who_is_behind_is_sent_log_at_the_pace_and_twice_what_is_written_beside() {
        // 64 MiB, of which a burst of 4 MiB takes no time.
        let alone = sent_in(1_024, 0).as_secs_f64();
        assert!((59.9..60.1).contains(&alone), "{alone}");
        let beside = sent_in(1_024, PIECE as u64 / 4).as_secs_f64();
        assert!((27.9..30.1).contains(&beside), "{beside}");
    }

    #[test]
    fn what_was_not_used_counts_for_a_burst_only() {
        let begun = Instant::now();
        let appended = Arc::<AtomicU64>::default();
        let seen = Arc::clone(&appended);
        let mut pace = LogPace::new(Some(RATE), move || seen.load(Ordering::Relaxed), begun);
        appended.store(1 << 40, Ordering::Relaxed);
        let later = begun + Duration::from_secs(3_600);
        let bytes = usize::try_from(BURST + 2 * APPENDED_MAX + (1 << 20)).expect("it fits");
        let wait = pace.take(bytes, later).as_secs_f64();
        assert!((0.9..1.1).contains(&wait), "{wait}");
    }
}
