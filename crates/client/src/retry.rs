//! When to try again: full-jitter back-off, and a budget that keeps retries from becoming the load.

use crate::random::Random;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most a first retry waits: about a round trip, since another node is likely to do better at once.
const BACKOFF_BASE: Duration = Duration::from_millis(10);
/// Most any retry waits: a fraction of an election, so that its end is noticed soon.
const BACKOFF_CAP: Duration = Duration::from_millis(500);
/// Tokens are kept in thousandths, so that a slow refill does not round to nothing.
const TOKEN: u64 = 1_000;

/// How long to wait before retry `nth` (from 0): evenly random below a bound that doubles.
pub(crate) fn backoff(nth: u32, random: &Random) -> Duration {
    let bound = BACKOFF_BASE.saturating_mul(1u32 << nth.min(16)).min(BACKOFF_CAP);
    random.up_to(bound)
}

/// How many retries a client may make beyond its successes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Retries that may be made at once. Covers what is in flight when a leader dies.
    pub burst: u32,
    /// Retries that are allowed again per second, beside one for every call that succeeds.
    pub per_second: u32,
}

impl Default for RetryBudget {
    /// Two for each of the 1 024 calls a session may have in flight, and 200 per second.
    fn default() -> Self {
        Self { burst: 2_048, per_second: 200 }
    }
}

/// The token bucket behind [`RetryBudget`]. An empty one delays retries; it never fails a call
/// before its deadline.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: RetryBudget,
    bucket: Mutex<Bucket>,
    /// Lets the waiting calls pass one after the other, in the order they came.
    turn: tokio::sync::Mutex<()>,
    deposited: Notify,
}

#[derive(Debug)]
struct Bucket {
    tokens: u64,
    filled_at: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(limits: RetryBudget) -> Self {
        let bucket = Bucket { tokens: u64::from(limits.burst) * TOKEN, filled_at: None };
        Self {
            limits,
            bucket: Mutex::new(bucket),
            turn: tokio::sync::Mutex::new(()),
            deposited: Notify::new(),
        }
    }

    /// A call succeeded: one more retry is allowed.
    pub(crate) fn deposit(&self) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.tokens = (bucket.tokens + TOKEN).min(self.capacity());
        drop(bucket);
        self.deposited.notify_one();
    }

    /// Waits for leave to retry; false when it does not come before `deadline`.
    ///
    /// # Cancel safety
    /// A token is taken at the very end, so nothing is lost when the future is dropped.
    pub(crate) async fn withdraw(&self, deadline: Instant) -> bool {
        let wait = async {
            let _turn = self.turn.lock().await;
            loop {
                let Err(due) = self.try_withdraw() else { return };
                tokio::select! {
                    biased;
                    () = self.deposited.notified() => {}
                    () = until(due) => {}
                }
            }
        };
        tokio::time::timeout_at(deadline, wait).await.is_ok()
    }

    /// Takes a token, or says when the next one falls due (never, if nothing refills the bucket).
    fn try_withdraw(&self) -> Result<(), Option<Instant>> {
        let now = Instant::now();
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = bucket.filled_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let idle_micros = u64::try_from(idle.as_micros()).unwrap_or(u64::MAX);
        // per_second whole tokens in a second are per_second thousandths in a millisecond.
        let refill = idle_micros.saturating_mul(u64::from(self.limits.per_second)) / 1_000;
        if refill > 0 || bucket.filled_at.is_none() {
            bucket.tokens = bucket.tokens.saturating_add(refill).min(self.capacity());
            bucket.filled_at = Some(now);
        }
        if bucket.tokens >= TOKEN {
            bucket.tokens -= TOKEN;
            return Ok(());
        }
        let missing_micros = ((TOKEN - bucket.tokens) * 1_000)
            .checked_div(u64::from(self.limits.per_second))
            .ok_or(None)?;
        Err(Some(now + Duration::from_micros(missing_micros) + Duration::from_millis(1)))
    }

    fn capacity(&self) -> u64 {
        u64::from(self.limits.burst) * TOKEN
    }
}

/// Waits for a moment, or for ever when there is none.
pub(crate) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_is_below_a_bound_that_doubles_up_to_the_cap() {
        let random = Random::seeded(7);
        for (nth, bound_ms) in [(0, 10), (1, 20), (2, 40), (5, 320), (6, 500), (60, 500)] {
            let longest = (0..2_000).map(|_| backoff(nth, &random)).max().expect("not empty");
            let bound = Duration::from_millis(bound_ms);
            assert!(longest <= bound, "{nth}: {longest:?}");
            assert!(longest > bound * 9 / 10, "{nth}: {longest:?} never comes near {bound:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_bucket_refills_with_time_and_with_successes() {
        let budget = Budget::new(RetryBudget { burst: 2, per_second: 4 });
        let start = Instant::now();
        let soon = start + Duration::from_millis(100);
        assert!(budget.withdraw(soon).await && budget.withdraw(soon).await);
        assert_eq!(start.elapsed(), Duration::ZERO, "the burst is free");
        assert!(!budget.withdraw(soon).await, "the next is due after 250 ms");
        assert_eq!(start.elapsed(), Duration::from_millis(100));
        assert!(budget.withdraw(start + Duration::from_secs(1)).await);
        let waited = start.elapsed();
        assert!((250..=252).contains(&waited.as_millis()), "{waited:?}");
        budget.deposit();
        assert!(budget.withdraw(Instant::now() + Duration::from_millis(1)).await);
        assert_eq!(start.elapsed(), waited, "a success paid for it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deposit_wakes_the_one_who_waits() {
        let budget = Budget::new(RetryBudget { burst: 1, per_second: 0 });
        let far = Instant::now() + Duration::from_secs(60);
        assert!(budget.withdraw(far).await);
        let start = Instant::now();
        let (granted, ()) = tokio::join!(budget.withdraw(far), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            budget.deposit();
        });
        assert!(granted);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
