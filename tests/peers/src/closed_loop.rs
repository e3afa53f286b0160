//! The closed loop that every peer is measured with, and its histogram. It counts as
//! `quorate bench` does: what begins and ends within the span, after a warm-up of one second.

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

const WARM_UP: Duration = Duration::from_secs(1);
/// A longer latency counts as this.
const LATENCY_MAX_US: u64 = 60_000_000;
/// An operation that takes longer has failed, so that a peer that hangs does not hang this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

impl Span {
    /// Begins after the warm-up, which begins now.
    pub(crate) fn after_warm_up(seconds: u64) -> Self {
        let from = Instant::now() + WARM_UP;
        Self { from, until: from + Duration::from_secs(seconds) }
    }

    pub(crate) fn seconds(&self) -> f64 {
        (self.until - self.from).as_secs_f64()
    }
}

#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    pub(crate) fn figures(&self, span: Span) -> Figures {
        Figures {
            operations: self.0.len(),
            per_second: self.0.len() as f64 / span.seconds(),
            p50_us: self.0.value_at_quantile(0.5),
            p99_us: self.0.value_at_quantile(0.99),
            more: Map::new(),
        }
    }
}

/// What one measurement has found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) operations: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// What only some works or systems tell.
    pub(crate) more: Map<String, Value>,
}

/// One operation after the other.
pub(crate) trait Lane: Send + 'static {
    /// Answers when the latency of the operation ended, which may be before all of it has.
    fn operate(&mut self) -> impl Future<Output = Result<Instant>> + Send;
}

/// Runs all lanes until the span is over. The first operation that fails ends all of it, because
/// figures of a system that refuses a part of the work say nothing.
pub(crate) async fn run(lanes: Vec<impl Lane>, span: Span) -> Result<Figures> {
    // Dropped with this future, so no lane outlives its measurement.
    let mut running = JoinSet::new();
    for lane in lanes {
        running.spawn(run_one(lane, span));
    }
    let mut latencies = Latencies::new()?;
    while let Some(own) = running.join_next().await {
        latencies.add(&own.context("a lane panicked")??)?;
    }
    ensure!(!latencies.0.is_empty(), "not one operation was done in time");
    Ok(latencies.figures(span))
}

async fn run_one(mut lane: impl Lane, span: Span) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    // One timer for all operations: one for each would cost a good part of a fast one.
    let patience = tokio::time::sleep_until(span.until + PATIENCE);
    tokio::pin!(patience);
    loop {
        let begun = Instant::now();
        if begun >= span.until {
            return Ok(latencies);
        }
        let measured_until = tokio::select! {
            biased;
            done = lane.operate() => done?,
            () = &mut patience => anyhow::bail!("no answer {PATIENCE:?} after the end"),
        };
        if begun >= span.from && Instant::now() <= span.until {
            latencies.record(measured_until - begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleeper(Duration);

    impl Lane for Sleeper {
        async fn operate(&mut self) -> Result<Instant> {
            tokio::time::sleep(self.0).await;
            Ok(Instant::now())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_within_the_span_is_counted() {
        let lanes = vec![Sleeper(Duration::from_millis(10)), Sleeper(Duration::from_millis(10))];
        let figures = run(lanes, Span::after_warm_up(2)).await.unwrap();
        assert_eq!(figures.operations, 400);
        assert_eq!(figures.per_second, 200.0);
        assert!((9_900..=11_000).contains(&figures.p50_us), "{figures:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_system_that_hangs_is_given_up() {
        let lanes = vec![Sleeper(Duration::from_secs(3_600))];
        assert!(run(lanes, Span::after_warm_up(1)).await.is_err());
    }
}
