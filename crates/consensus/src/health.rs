//! How well a node is, beside what Raft says of it: its syncs, and how often leaders took office.

use quorate_storage::{Durations, Recent};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an election counts as new.
const ELECTION_IS_NEW: Duration = Duration::from_secs(3_600);
/// Elections that are remembered: one a minute already says that something is wrong.
pub const ELECTIONS_MAX: usize = 64;

/// What is noted now and then, and read when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Health {
    recent_syncs: Mutex<Recent>,
    elections: Mutex<Elections>,
    /// Elections since the start, but for the first leader that was seen.
    elected: AtomicU64,
}

/// How long the newest syncs of the log took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncTimes {
    /// How many there were.
    pub count: u64,
    /// What half of them took at most, as near as buckets tell.
    pub p50: Duration,
    /// What 99 of 100 of them took at most.
    pub p99: Duration,
}

#[derive(Debug, Default)]
struct Elections {
    /// The term of the leader that was seen last.
    last_term: Option<u64>,
    /// When the newest ones were seen, the oldest first.
    seen_at: VecDeque<Instant>,
}

impl Elections {
    /// Answers whether it is another leader than the one before.
    fn led_in(&mut self, term: u64, now: Instant) -> bool {
        // The first leader that a node sees may have been there for long.
        let other = self.last_term.replace(term).is_some_and(|last| last != term);
        if other {
            if self.seen_at.len() == ELECTIONS_MAX {
                self.seen_at.pop_front();
            }
            self.seen_at.push_back(now);
        }
        other
    }

    fn new_ones(&self, now: Instant) -> usize {
        let is_new = |seen: &&Instant| now.saturating_duration_since(**seen) < ELECTION_IS_NEW;
        self.seen_at.iter().filter(is_new).count()
    }
}

impl Health {
    /// How long all syncs since the start took.
    pub(crate) fn synced(&self, all: &Durations) {
        self.recent_syncs.lock().unwrap_or_else(PoisonError::into_inner).look(all);
    }

    /// Of `all` the newest; none when there were none.
    pub(crate) fn sync_times(&self, all: &Durations) -> Option<SyncTimes> {
        let recent = self.recent_syncs.lock().unwrap_or_else(PoisonError::into_inner).of(all);
        let (p50, p99) = (recent.percentile(50)?, recent.percentile(99)?);
        Some(SyncTimes { count: recent.count(), p50, p99 })
    }

    /// A leader is seen in this term.
    pub(crate) fn led_in(&self, term: u64) {
        let mut elections = self.elections.lock().unwrap_or_else(PoisonError::into_inner);
        if elections.led_in(term, Instant::now()) {
            self.elected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a leader took office since the start, but for the first one that was seen.
    pub(crate) fn elected(&self) -> u64 {
        self.elected.load(Ordering::Relaxed)
    }

    /// How often a leader took office in the newest hour, up to [`ELECTIONS_MAX`].
    pub(crate) fn elections_hour(&self) -> u32 {
        let elections = self.elections.lock().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(elections.new_ones(Instant::now())).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elections_are_counted_for_an_hour_and_up_to_a_bound() {
        let (mut elections, start) = (Elections::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // The first is none; neither is the same leader again.
        elections.led_in(3, at(0));
        elections.led_in(3, at(1));
        assert_eq!(elections.new_ones(at(1)), 0);
        elections.led_in(4, at(10));
        elections.led_in(7, at(20));
        assert_eq!(elections.new_ones(at(20)), 2);
        assert_eq!(elections.new_ones(at(3_609)), 2);
        assert_eq!(elections.new_ones(at(3_610)), 1);
        assert_eq!(elections.new_ones(at(3_620)), 0);
        for term in 8..200 {
            elections.led_in(term, at(4_000 + term));
        }
        assert_eq!(elections.new_ones(at(4_200)), ELECTIONS_MAX);
        assert_eq!(elections.seen_at.len(), ELECTIONS_MAX);
    }

    #[test]
    fn leaders_are_counted_since_the_start() {
        let health = Health::default();
        for term in [3, 3, 4, 4, 9] {
            health.led_in(term);
        }
        assert_eq!((health.elected(), health.elections_hour()), (2, 2));
    }

    #[test]
    fn times_of_no_syncs_are_none() {
        assert_eq!(Health::default().sync_times(&Durations::default()), None);
    }
}
