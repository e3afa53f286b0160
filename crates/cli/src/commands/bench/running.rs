//! What benchmarks have in common while they run: the time that is measured, what is done in it, what
//! the nodes count meanwhile.

use super::measured::{Latencies, Measured, grown};
use super::timing::{Times, Timing};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_client::{Client, Error, Member};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The time that is measured, and how many operations were done in it so far.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) times: Times,
    done: AtomicU64,
}

/// What one worker has measured: latencies, and failures by their reason.
#[derive(Debug)]
pub(super) struct Own {
    latencies: Latencies,
    failures: BTreeMap<String, u64>,
}

impl Own {
    pub(super) fn new() -> Self {
        Self { latencies: Latencies::new(), failures: BTreeMap::new() }
    }
}

impl Span {
    /// Begins now, with the warm-up.
    pub(super) fn start(timing: &Timing) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self { times: timing.start()?, done: AtomicU64::new(0) }))
    }

    /// When the worker's next operation begins, or was due; none when the time is over.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.times.next().await
    }

    /// Takes in an operation that ends now, if it is one that is measured. `measured_until` is where
    /// its latency ends, which may be before that.
    pub(super) fn take(
        &self,
        own: &mut Own,
        begun: Instant,
        measured_until: Instant,
        done: Result<(), Error>,
    ) {
        if !self.times.measures(begun) {
            return;
        }
        match done {
            Ok(()) => {
                own.latencies.record(measured_until - begun);
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => *own.failures.entry(error.reason().to_owned()).or_insert(0) += 1,
        }
    }

    /// Watches the workers, and the nodes through `watcher`, until the span is over and the workers
    /// have ended.
    pub(super) async fn measure(
        &self,
        watcher: &Client,
        nodes: &[Member],
        workers: Vec<JoinHandle<Own>>,
    ) -> anyhow::Result<Measured> {
        let Times { from, until, .. } = self.times;
        let before = tokio::time::timeout_at(until, async {
            tokio::time::sleep_until(from).await;
            counters(watcher, nodes).await
        });
        let (before, _) = before.await.unwrap_or_default();
        let per_second = self.watch().await;
        let (after, silent_nodes) = counters(watcher, nodes).await;

        let mut latencies = Latencies::new();
        let mut failures = BTreeMap::new();
        for worker in workers {
            let own =
                worker.await.map_err(|error| anyhow::anyhow!("a worker panicked: {error}"))?;
            latencies.add(&own.latencies);
            for (reason, count) in own.failures {
                *failures.entry(reason).or_insert(0) += count;
            }
        }
        let mut counted = BTreeMap::new();
        for (node, now) in &after {
            for (name, by) in grown(before.get(node).unwrap_or(&BTreeMap::new()), now) {
                *counted.entry(name).or_insert(0) += by;
            }
        }
        Ok(Measured {
            latencies,
            failures,
            not_begun: self.times.not_begun(),
            elapsed: until - from,
            counted,
            silent_nodes,
            per_second,
        })
    }

    /// Counts what is finished in each second, and shows it, until the end.
    async fn watch(&self) -> Vec<u64> {
        let Times { from, until, .. } = self.times;
        let bar = progress((until - from).as_secs(), "measuring");
        let mut counts = Vec::new();
        let mut counted = self.done.load(Ordering::Relaxed);
        let mut next = from;
        while next < until {
            next += Duration::from_secs(1);
            tokio::time::sleep_until(next).await;
            let now = self.done.load(Ordering::Relaxed);
            counts.push(now - counted);
            bar.set_message(format!("{} operations/s", now - counted));
            bar.inc(1);
            counted = now;
        }
        bar.finish_and_clear();
        counts
    }
}

pub(super) fn progress(length: u64, what: &'static str) -> ProgressBar {
    // Draws on stderr, and only on a terminal.
    let bar = ProgressBar::new(length).with_message(what);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

type ByNode = BTreeMap<u64, BTreeMap<String, u64>>;

/// The counters of each node, and how many nodes did not answer.
async fn counters(client: &Client, nodes: &[Member]) -> (ByNode, u64) {
    let mut counters = BTreeMap::new();
    let mut silent = 0;
    for node in nodes {
        let asked = match client.cluster().at(&node.client_addr) {
            Ok(cluster) => cluster.timeout(Duration::from_secs(1)).counters().await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(answer) => drop(counters.insert(node.node_id, answer)),
            Err(_) => silent += 1,
        }
    }
    (counters, silent)
}
