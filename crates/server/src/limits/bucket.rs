//! A rate, as the generic cell rate algorithm keeps it (ITU-T I.371, annex A: "virtual scheduling"): one
//! number, the time at which all that was taken so far would have been due.
//!
//! A second's worth may come at once; after that, as much as the rate gives back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What may come at once: as much as in this time.
const BURST_NS: u64 = NS_PER_SECOND;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// So much a second.
#[derive(Debug)]
pub(super) struct Bucket {
    /// 0: as much as you like.
    per_second: u64,
    /// When what was taken would have been due, on the clock of whoever asks.
    due_ns: AtomicU64,
}

impl Bucket {
    pub(super) fn new(per_second: u64) -> Self {
        Self { per_second, due_ns: AtomicU64::new(0) }
    }

    /// Whether it bounds anything.
    pub(super) fn is_bound(&self) -> bool {
        self.per_second > 0
    }

    /// Takes so much, if that is there. Otherwise it says how long until it is.
    pub(super) fn take(&self, now_ns: u64, amount: u64) -> Result<(), Duration> {
        if !self.is_bound() {
            return Ok(());
        }
        let cost = self.cost(amount);
        let mut due = self.due_ns.load(Ordering::Relaxed);
        loop {
            let after = due.max(now_ns).saturating_add(cost);
            let allowed = now_ns.saturating_add(BURST_NS);
            if after > allowed {
                return Err(Duration::from_nanos(after - allowed));
            }
            let swapped =
                self.due_ns.compare_exchange_weak(due, after, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => return Ok(()),
                Err(other) => due = other,
            }
        }
    }

    /// Whether anything is there; otherwise how long until something is.
    pub(super) fn has_any(&self, now_ns: u64) -> Result<(), Duration> {
        let allowed = now_ns.saturating_add(BURST_NS);
        match self.due_ns.load(Ordering::Relaxed).checked_sub(allowed) {
            None | Some(0) => Ok(()),
            Some(debt) => Err(Duration::from_nanos(debt)),
        }
    }

    /// Takes so much whether it is there or not: what is owed is waited for by whoever comes next.
    pub(super) fn charge(&self, now_ns: u64, amount: u64) {
        if !self.is_bound() {
            return;
        }
        let cost = self.cost(amount);
        let update = |due: u64| Some(due.max(now_ns).saturating_add(cost));
        // It always gives a value, so it can't fail.
        let _ = self.due_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Whether it would be no other if it had just been made.
    pub(super) fn is_full(&self, now_ns: u64) -> bool {
        self.due_ns.load(Ordering::Relaxed) <= now_ns
    }

    fn cost(&self, amount: u64) -> u64 {
        let ns = u128::from(amount) * u128::from(NS_PER_SECOND) / u128::from(self.per_second);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = NS_PER_SECOND;

    #[test]
    fn a_second_comes_at_once_and_then_the_rate() {
        let bucket = Bucket::new(100);
        assert!((0..100).all(|_| bucket.take(0, 1).is_ok()));
        assert_eq!(bucket.take(0, 1), Err(Duration::from_millis(10)));
        assert!(bucket.take(SECOND / 100, 1).is_ok(), "what was waited for");
        assert!(bucket.take(SECOND / 100, 1).is_err());
        // After a long pause there is a second's worth again, and no more.
        assert_eq!((0..500).filter(|_| bucket.take(90 * SECOND, 1).is_ok()).count(), 100);
        assert!(!bucket.is_full(90 * SECOND));
        assert!(bucket.is_full(91 * SECOND));
    }

    #[test]
    fn what_is_charged_beyond_is_owed() {
        let bucket = Bucket::new(1_000);
        assert!(bucket.has_any(0).is_ok());
        bucket.charge(0, 3_000);
        assert_eq!(bucket.has_any(0), Err(Duration::from_secs(2)));
        assert!(bucket.has_any(2 * SECOND).is_ok());
    }

    #[test]
    fn without_a_rate_nothing_is_bound() {
        let bucket = Bucket::new(0);
        assert!((0..100_000).all(|_| bucket.take(0, u64::MAX).is_ok()));
        bucket.charge(0, u64::MAX);
        assert!(bucket.has_any(0).is_ok() && bucket.is_full(0) && !bucket.is_bound());
    }
}
