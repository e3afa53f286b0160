//! How a queue works when nothing is said, and what its options come to.

use super::DEAD;
use crate::limits::{DEAD_LETTERS_DEFAULT, QUEUE_JOBS_DEFAULT};
use crate::{Backoff, DeadLetters, JobId, QueueOptions, WhenFull, codec};

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            visibility_ms: 30_000,
            attempts_max: 5,
            backoff: Backoff::default(),
            dead_letters: DeadLetters::Own,
            keep_done_ms: 0,
            jobs_max: QUEUE_JOBS_DEFAULT,
            when_full: WhenFull::Reject,
            parallel_max: 0,
            rate: None,
            dedupe_window_ms: 300_000,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { exponential: true, base_ms: 1_000, cap_ms: 300_000, jitter_permille: 200 }
    }
}

impl QueueOptions {
    /// What a queue of this name does when nothing is said.
    pub(super) fn by_name(name: &str) -> Self {
        if name.ends_with(DEAD) { Self::of_dead_letters() } else { Self::default() }
    }

    /// Dead letters have no dead letters of their own: they stay until somebody looks after them, or
    /// there are too many.
    pub(super) fn of_dead_letters() -> Self {
        Self {
            attempts_max: 0,
            dead_letters: DeadLetters::Discard,
            jobs_max: DEAD_LETTERS_DEFAULT,
            when_full: WhenFull::DropOldest,
            ..Self::default()
        }
    }

    /// The queue that dead letters of a queue of this name go to.
    pub(crate) fn dead_letters_of(&self, name: &str) -> Option<String> {
        match &self.dead_letters {
            DeadLetters::Own => Some(format!("{name}{DEAD}")),
            // A queue can't be its own: its letters would never end.
            DeadLetters::To(to) => Some(to.clone()).filter(|to| to != name),
            DeadLetters::Discard => None,
        }
    }
}

impl Backoff {
    /// How long a job waits that failed at this attempt.
    pub(super) fn delay_ms(&self, id: JobId, attempt: u32) -> u64 {
        let doublings = if self.exponential { attempt.saturating_sub(1).min(63) } else { 0 };
        let whole_ms = self.base_ms.saturating_mul(1 << doublings).min(self.cap_ms);
        // As good as random, and the same on every replica.
        let hash = codec::fingerprint(&(id, attempt));
        let off_permille = hash % (u64::from(self.jitter_permille.min(1_000)) + 1);
        whole_ms - whole_ms.saturating_mul(off_permille) / 1_000
    }
}
