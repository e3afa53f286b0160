//! Durations as one says them.

use std::time::Duration;

/// `30.s()` instead of `Duration::from_secs(30)`.
pub trait Time {
    /// So many milliseconds.
    fn ms(self) -> Duration;
    /// So many seconds.
    fn s(self) -> Duration;
    /// So many minutes.
    fn minutes(self) -> Duration;
    /// So many hours.
    fn hours(self) -> Duration;
}

impl Time for u64 {
    fn ms(self) -> Duration {
        Duration::from_millis(self)
    }

    fn s(self) -> Duration {
        Duration::from_secs(self)
    }

    fn minutes(self) -> Duration {
        Duration::from_secs(self.saturating_mul(60))
    }

    fn hours(self) -> Duration {
        Duration::from_secs(self.saturating_mul(3_600))
    }
}
