//! How long silence is waited out: longer while it turns out to be slowness.
//!
//! A cluster with too much to do answers late. If all its clients then gave up at once, dialled anew and
//! asked again, that would be more work than the answers are, and it would not come out of it even when
//! they ask for less (Bronson et al., *Metastable Failures in Distributed Systems*, HotOS 2021). So, as
//! TCP's timer for retransmission does (RFC 6298, 5.5), a client waits twice as long after it waited in
//! vain, and as before once answers come soon.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Doublings at most: 8 times as long.
const LEVEL_MAX: u32 = 3;
/// Answers in a row that came soon, after which a doubling is taken back.
const SOON: u32 = 16;

/// What a client has learnt of how late answers come.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Doublings. Beside the rest, so that nothing is locked while all is well.
    level: AtomicU32,
    learnt: Mutex<Learnt>,
}

#[derive(Debug, Default)]
struct Learnt {
    raised_at: Option<Instant>,
    soon: u32,
}

impl Patience {
    /// So long, as it is now.
    pub(crate) fn stretch(&self, base: Duration) -> Duration {
        base.saturating_mul(1 << self.level.load(Ordering::Relaxed))
    }

    /// Something that began at this time was waited for in vain.
    pub(crate) fn in_vain(&self, begun: Instant) {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.soon = 0;
        // All calls that waited for the same silence are one piece of news.
        if learnt.raised_at.is_none_or(|raised| begun >= raised) {
            let level = self.level.load(Ordering::Relaxed);
            self.level.store((level + 1).min(LEVEL_MAX), Ordering::Relaxed);
            learnt.raised_at = Some(Instant::now());
        }
    }

    /// An answer came after this long, where without doublings so long would have been waited for it.
    pub(crate) fn answered(&self, took: Duration, base: Duration) {
        if self.level.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.soon = if took <= base / 2 { learnt.soon + 1 } else { 0 };
        if learnt.soon >= SOON {
            learnt.soon = 0;
            let level = self.level.load(Ordering::Relaxed);
            self.level.store(level.saturating_sub(1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn patience_doubles_with_each_silence_and_returns_with_answers_that_come_soon() {
        let patience = Patience::default();
        for factor in [2, 4, 8, 8] {
            let begun = Instant::now();
            tokio::time::sleep(BASE).await;
            // Many that waited together count once.
            (0..10).for_each(|_| patience.in_vain(begun));
            assert_eq!(patience.stretch(BASE), factor * BASE);
        }
        for _ in 1..SOON {
            patience.answered(BASE / 2, BASE);
        }
        patience.answered(BASE, BASE);
        assert_eq!(patience.stretch(BASE), 8 * BASE, "not in a row");
        for factor in [4, 2, 1, 1] {
            for _ in 0..SOON {
                patience.answered(BASE / 2, BASE);
            }
            assert_eq!(patience.stretch(BASE), factor * BASE);
        }
    }
}
