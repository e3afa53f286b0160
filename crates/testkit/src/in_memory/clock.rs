//! The clock of brokers in memory: real time, and what a test has let pass besides.

use quorate_consensus::{Leaps, SystemClock, WallClock};
use std::sync::Arc;
use std::time::Duration;

/// The clock of all nodes of a cluster. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub(super) struct TestClock(Arc<Leaps>);

impl TestClock {
    /// Lets time pass at once, see [`Leaps::leap`].
    pub(super) async fn advance(&self, by: Duration) {
        self.0.leap(by).await;
    }

    /// How many there are of it.
    #[cfg(test)]
    pub(super) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl WallClock for TestClock {
    fn now_ms(&self) -> u64 {
        let passed_ms = u64::try_from(self.0.passed().as_millis()).unwrap_or(u64::MAX);
        SystemClock.now_ms().saturating_add(passed_ms)
    }

    fn leaps(&self) -> Option<Arc<Leaps>> {
        Some(Arc::clone(&self.0))
    }
}
