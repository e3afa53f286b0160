//! When operations begin, and which of them are measured.
//!
//! In a closed loop a worker's next operation begins when the one before has ended. So a cluster that
//! stands still for a second is asked once in that second by each worker, and what all the others would
//! have waited is in no percentile ("coordinated omission", Gil Tene). In an open loop (`--rate`) the
//! times at which operations are due are fixed beforehand, evenly spaced, and latency is counted from
//! when an operation was due, also if it could not begin by then because all workers were waiting.

use crate::duration;
use clap::Args;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The shortest the pacing thread sleeps: what is due by then begins together.
const PACE: Duration = Duration::from_micros(50);
/// How long after the end operations still begin that were due before it: workers that have nothing to wait
/// for come to them in that time. What has not begun by then waited for a worker.
const GRACE: Duration = Duration::from_millis(100);

/// What all benchmarks have in common on the command line.
#[derive(Clone, Debug, Args)]
pub(super) struct Timing {
    /// How long is measured, after the warm-up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How long it runs before that, unmeasured
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    warm_up: Duration,
    /// Begin so many operations a second, evenly spaced, all connections together, and count each
    /// one's latency from when it was due; without it each begins when the one before it has ended
    #[arg(long, value_name = "OPERATIONS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
}

impl Timing {
    /// Begins now, with the warm-up.
    pub(super) fn start(&self) -> anyhow::Result<Times> {
        let begun = Instant::now();
        let from = begun + self.warm_up;
        let until = from + Duration::from_secs(self.seconds);
        let due = self.rate.map(|rate| Due::start(rate, begun, until)).transpose()?;
        Ok(Times { from, until, due })
    }

    pub(super) fn warm_up_ms(&self) -> u64 {
        duration::millis(self.warm_up)
    }

    /// Operations due each second; none in a closed loop.
    pub(super) fn rate(&self) -> Option<u32> {
        self.rate
    }

    /// For titles.
    pub(super) fn text(&self) -> String {
        self.rate.map_or_else(String::new, |rate| format!(", {rate} due each second"))
    }
}

/// The time that is measured, and when operations begin in it.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) from: Instant,
    pub(super) until: Instant,
    /// None in a closed loop.
    due: Option<Arc<Due>>,
}

impl Times {
    /// When the worker's next operation begins, or should have begun; waits for that. None when the
    /// time is over.
    pub(super) async fn next(&self) -> Option<Instant> {
        let begun = match &self.due {
            None => Instant::now(),
            Some(due) => due.next().await?,
        };
        (begun < self.until).then_some(begun)
    }

    /// Whether an operation that ends now is measured. In a closed loop it must lie wholly within the
    /// time; in an open one all that were due in it count, or the slowest would be left out.
    pub(super) fn measures(&self, begun: Instant) -> bool {
        begun >= self.from && (self.due.is_some() || Instant::now() <= self.until)
    }

    /// Operations that were due in the time and never began, because every worker was waiting.
    pub(super) fn not_begun(&self) -> u64 {
        let Some(due) = &self.due else { return 0 };
        let all = due.count_before(self.until);
        all - due.count_before(self.from).max(due.next.load(Ordering::Relaxed)).min(all)
    }
}

/// Operations of an open loop. However many are overdue, they cost no memory: they are a count.
#[derive(Debug)]
struct Due {
    begun: Instant,
    rate: u32,
    /// One permit for each that is due and was not taken.
    waiting: Semaphore,
    /// The number of the next one.
    next: AtomicU64,
}

impl Due {
    fn start(rate: u32, begun: Instant, until: Instant) -> anyhow::Result<Arc<Self>> {
        let due =
            Arc::new(Self { begun, rate, waiting: Semaphore::new(0), next: AtomicU64::new(0) });
        let paced = Arc::clone(&due);
        // A thread of its own: the runtime's timers have a resolution of a millisecond.
        thread::Builder::new().name("pace".to_owned()).spawn(move || paced.pace(until))?;
        Ok(due)
    }

    /// Lets each begin when it is due, until the end.
    fn pace(&self, until: Instant) {
        let mut released = 0;
        loop {
            let now = Instant::now();
            let due = self.count_before(now.min(until));
            self.waiting.add_permits(usize::try_from(due - released).unwrap_or(usize::MAX));
            released = due;
            if now >= until + GRACE {
                return self.waiting.close();
            }
            let until = if now < until { until } else { until + GRACE };
            #[expect(clippy::disallowed_methods, reason = "a thread of its own")]
            thread::sleep((self.at(due).max(now).min(until) - now).max(PACE));
        }
    }

    async fn next(&self) -> Option<Instant> {
        // Closed: the time is over.
        self.waiting.acquire().await.ok()?.forget();
        Some(self.at(self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// When the one with this number is due.
    fn at(&self, number: u64) -> Instant {
        let rate = u64::from(self.rate);
        let nanos = number % rate * 1_000_000_000 / rate;
        self.begun + Duration::from_secs(number / rate) + Duration::from_nanos(nanos)
    }

    /// How many are due before this instant.
    fn count_before(&self, at: Instant) -> u64 {
        let due = ((at - self.begun).as_nanos() * u128::from(self.rate)).div_ceil(1_000_000_000);
        u64::try_from(due).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(rate: Option<u32>) -> Timing {
        Timing { seconds: 1, warm_up: Duration::from_millis(100), rate }
    }

    #[test]
    fn operations_are_due_at_even_times() {
        let begun = Instant::now();
        let due = Due { begun, rate: 3, waiting: Semaphore::new(0), next: AtomicU64::new(0) };
        assert_eq!(due.at(0), begun);
        assert_eq!(due.at(4) - begun, Duration::from_nanos(1_333_333_333));
        assert_eq!(due.count_before(begun), 0);
        assert_eq!(due.count_before(begun + Duration::from_nanos(1)), 1);
        assert_eq!(due.count_before(begun + Duration::from_secs(2)), 6);
    }

    /// One worker stands still for most of the time: what was due meanwhile is either measured from
    /// when it was due, or counted as never begun.
    #[tokio::test]
    async fn what_waits_for_a_worker_is_counted_from_when_it_was_due() {
        let times = timing(Some(1_000)).start().unwrap();
        let mut taken = 0;
        let mut latest = Duration::ZERO;
        let mut stood = false;
        while let Some(begun) = times.next().await {
            if begun < times.from {
                continue;
            }
            if !std::mem::replace(&mut stood, true) {
                tokio::time::sleep_until(times.until - Duration::from_millis(300)).await;
            }
            assert!(times.measures(begun));
            latest = latest.max(Instant::now() - begun);
            taken += 1;
        }
        assert!(latest >= Duration::from_millis(650), "{latest:?}");
        // A busy machine may come to the last ones too late.
        let all = taken + times.not_begun();
        assert_eq!(all, 1_000, "{taken} taken");
    }

    #[tokio::test]
    async fn what_never_begins_is_counted() {
        let times = timing(Some(1_000)).start().unwrap();
        tokio::time::sleep_until(times.until).await;
        assert_eq!(times.not_begun(), 1_000);
        let closed = timing(None).start().unwrap();
        assert_eq!(closed.not_begun(), 0);
        assert!(!closed.measures(closed.from - Duration::from_millis(1)));
    }
}
