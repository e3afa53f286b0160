//! The last five minutes of this node, sampled once a second from what it counts anyway: what the
//! charts show. A sample costs a few hundred reads of counters, and nothing on the way of a request.

use super::Dashboard;
use super::answer::{Answer, Told};
use super::ask::Ask;
use crate::access::now_unix_ms;
use crate::metrics::Counters;
use quorate_consensus::Replica;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many samples are kept: about 90 KiB.
const SAMPLES_MAX: usize = 300;
/// From one to the next.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// What a sample has, beside when it was taken. `leader_id` is told as text, as all ids are.
const COLUMNS: [&str; 37] = [
    "requests_ok",
    "requests_not_applied",
    "requests_unknown",
    "commit_p50_us",
    "commit_p99_us",
    "fsync_p50_us",
    "fsync_p99_us",
    "fsyncs",
    "log_bytes",
    "entries_proposed",
    "commands_proposed",
    "apply_lag_entries",
    "term",
    "leader_id",
    "connections_client",
    "connections_peer",
    "connections_http",
    "connections_refused",
    "overload_door",
    "overload_proposer",
    "overload_reads",
    "overload_deadline",
    "held_bytes",
    "pipelines",
    "watches",
    "consumers",
    "slow_readers_cut",
    "cache_hits",
    "cache_stale_hits",
    "cache_misses",
    "cache_evicted",
    "bus_published",
    "bus_received",
    "bus_delivered",
    "bus_slow_cut",
    "bus_subscriptions",
    "bus_requests_waiting",
];

/// What was in one second.
#[derive(Debug)]
pub(super) struct Sample {
    at_unix_ms: u64,
    values: [Option<u64>; COLUMNS.len()],
}

impl Sample {
    /// As a tick tells it.
    pub(super) fn told(&self) -> Value {
        let mut told = Map::with_capacity(COLUMNS.len() + 1);
        told.insert("at_unix_ms".to_owned(), self.at_unix_ms.into());
        for (name, value) in COLUMNS.into_iter().zip(self.values) {
            told.insert(name.to_owned(), cell(name, value));
        }
        Value::Object(told)
    }
}

fn cell(name: &str, value: Option<u64>) -> Value {
    match value {
        None => Value::Null,
        Some(id) if name == "leader_id" => Value::String(id.to_string()),
        Some(number) => number.into(),
    }
}

/// The samples of one node.
pub(super) struct Series {
    kept: Mutex<VecDeque<Arc<Sample>>>,
    newest: watch::Sender<Option<Arc<Sample>>>,
}

impl Default for Series {
    fn default() -> Self {
        Self { kept: Mutex::default(), newest: watch::Sender::new(None) }
    }
}

impl Series {
    /// Is told of each new sample.
    pub(super) fn follow(&self) -> watch::Receiver<Option<Arc<Sample>>> {
        self.newest.subscribe()
    }

    /// Takes samples until the node stops.
    pub(super) async fn sample(
        &self,
        replica: &Replica,
        counters: &Counters,
        stop: &CancellationToken,
    ) {
        let mut before = Counted::now(replica, counters);
        let mut steps = tokio::time::interval_at(tokio::time::Instant::now() + STEP, STEP);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = steps.tick() => {}
            }
            let now = Counted::now(replica, counters);
            let sample = Arc::new(between(&before, &now, replica, counters));
            before = now;
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == SAMPLES_MAX {
                kept.pop_front();
            }
            kept.push_back(Arc::clone(&sample));
            drop(kept);
            self.newest.send_replace(Some(sample));
        }
    }

    fn table(&self) -> Value {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut table = Map::with_capacity(COLUMNS.len() + 1);
        let times = kept.iter().map(|sample| sample.at_unix_ms.into()).collect();
        table.insert("at_unix_ms".to_owned(), Value::Array(times));
        for (at, name) in COLUMNS.into_iter().enumerate() {
            let column = kept.iter().map(|sample| cell(name, sample.values[at])).collect();
            table.insert(name.to_owned(), Value::Array(column));
        }
        Value::Object(table)
    }
}

/// What only grows, as it was at some moment.
struct Counted {
    raft: quorate_consensus::Counters,
    requests: [u64; 3],
    connections_refused: u64,
    slow_readers_cut: u64,
    cache: [u64; 4],
    bus: [u64; 4],
}

impl Counted {
    fn now(replica: &Replica, counters: &Counters) -> Self {
        let ports = [&counters.client, &counters.peer, &counters.http];
        let (cache, bus) = (&counters.cache, &counters.bus);
        Self {
            raft: replica.counters(),
            requests: counters.requests.by_outcome(),
            connections_refused: ports.iter().map(|port| port.refused.get()).sum(),
            slow_readers_cut: counters.slow_readers_cut.get()
                + counters.watches.slow_readers_cut.get()
                + counters.consumers.slow_readers_cut.get(),
            cache: [&cache.hits, &cache.stale_hits, &cache.misses, &cache.evicted]
                .map(crate::metrics::Counter::get),
            bus: [&bus.published, &bus.received, &bus.delivered, &bus.slow_cut]
                .map(crate::metrics::Counter::get),
        }
    }
}

/// What was between two moments, and how it is at the second.
fn between(before: &Counted, now: &Counted, replica: &Replica, counters: &Counters) -> Sample {
    let since = |now: u64, before: u64| Some(now.saturating_sub(before));
    let us = |took: Option<Duration>| Some(u64::try_from(took?.as_micros()).unwrap_or(u64::MAX));
    let (raft, old) = (&now.raft, &before.raft);
    let commits = raft.commit_times.since(&old.commit_times);
    let fsyncs = raft.log.sync_times.since(&old.log.sync_times);
    let status = replica.status();
    let index = |index: Option<quorate_state::LogIndex>| index.map_or(0, |index| index.0);
    let load = &raft.load;
    let part = |of: fn(&quorate_consensus::Load) -> u64| since(of(load), of(&old.load));
    let values = [
        since(now.requests[0], before.requests[0]),
        since(now.requests[1], before.requests[1]),
        since(now.requests[2], before.requests[2]),
        us(commits.percentile(50)),
        us(commits.percentile(99)),
        us(fsyncs.percentile(50)),
        us(fsyncs.percentile(99)),
        since(raft.log.syncs, old.log.syncs),
        since(raft.log.bytes, old.log.bytes),
        since(raft.entries_proposed, old.entries_proposed),
        since(raft.commands_proposed, old.commands_proposed),
        Some(index(status.last_log).saturating_sub(index(status.applied))),
        Some(status.term),
        status.leader.map(|leader| leader.0),
        Some(counters.client.open.get()),
        Some(counters.peer.open.get()),
        Some(counters.http.open.get()),
        since(now.connections_refused, before.connections_refused),
        part(|load| load.refused_held),
        part(|load| load.refused_proposed),
        part(|load| load.refused_reads),
        part(|load| load.late),
        Some(load.held_bytes),
        Some(counters.pipelines.get()),
        Some(counters.watches.open.get()),
        Some(counters.consumers.open.get()),
        since(now.slow_readers_cut, before.slow_readers_cut),
        since(now.cache[0], before.cache[0]),
        since(now.cache[1], before.cache[1]),
        since(now.cache[2], before.cache[2]),
        since(now.cache[3], before.cache[3]),
        since(now.bus[0], before.bus[0]),
        since(now.bus[1], before.bus[1]),
        since(now.bus[2], before.bus[2]),
        since(now.bus[3], before.bus[3]),
        Some(counters.bus.subscriptions.get()),
        Some(counters.bus.requests.get()),
    ];
    Sample { at_unix_ms: now_unix_ms(), values }
}

/// All of them, as columns.
pub(super) async fn get(ask: Ask) -> Answer {
    ask.may_look().await?;
    let Dashboard { context, series, .. } = &*ask.dashboard;
    Ok(Told(json!({
        "node_id": context.replica().node_id().0.to_string(),
        "now_unix_ms": now_unix_ms(),
        "step_ms": STEP.as_millis(),
        "columns": series.table(),
    })))
}
