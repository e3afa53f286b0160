//! What `/metrics` shows of a node, in the text format of Prometheus (OpenMetrics).
//!
//! Everything is read when it is asked for, from counters that others keep; nothing here is on the
//! way of a request. Each node has a registry of its own, because a simulation runs several in one
//! process.

mod disk;
mod process;
mod state;

use crate::limits::Refusals;
use crate::metrics::{Bus, Cache, Consumers, Counters, Port, Requests, Watches};
use crate::tls;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use quorate_consensus::{Load, Replica};
use quorate_state::{LogIndex, NodeId};
use quorate_storage::Durations;
use std::fmt;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::ErrorCounter;

/// The type of what [`Exposition::text`] makes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one node.
#[derive(Debug)]
pub(crate) struct Exposition {
    node: Registry,
    process: Registry,
}

impl Exposition {
    pub(crate) fn new(node: Scraped) -> Self {
        let mut registry = Registry::with_prefix("quorate");
        registry.register_collector(Box::new(node));
        // Every exporter shows these under the same names.
        let mut process = Registry::default();
        process.register_collector(Box::new(process::Process));
        Self { node: registry, process }
    }

    /// All metrics as they are now. Reads tables and files, so it may take some milliseconds.
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        text::encode_registry(&mut text, &self.node)
            .and_then(|()| text::encode(&mut text, &self.process))
            .expect("nothing that is written to a string can fail");
        text
    }
}

/// Where the numbers are.
pub(crate) struct Scraped {
    pub(crate) counters: Arc<Counters>,
    /// Once the node is part of its cluster.
    pub(crate) replica: Arc<OnceLock<Replica>>,
    /// When the node begins to stop.
    pub(crate) stopping: CancellationToken,
    /// Log lines that were dropped, when this process writes a log.
    pub(crate) dropped_lines: Option<ErrorCounter>,
}

impl fmt::Debug for Scraped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scraped").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Collector for Scraped {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.build()?;
        page.services(&self.counters)?;
        if let Some(dropped) = &self.dropped_lines {
            let help = "Log lines dropped because stderr did not take them.";
            page.counter("log_lines_dropped", help, None, dropped.dropped_lines() as u64)?;
        }
        if let Some(data_dir) = self.counters.facts.data_dir() {
            page.disk(data_dir)?;
        }
        let replica = self.replica.get();
        let led = replica.is_some_and(|replica| replica.leader().is_some());
        let help = "Whether this node serves and knows a leader: cheaper to ask than /readyz, and later to \
                    notice that a quorum is gone.";
        page.gauge("ready", help, u64::from(led && !self.stopping.is_cancelled()))?;
        match replica {
            Some(replica) => {
                page.replica(replica)?;
                page.state(replica, self.counters.facts.queues_max())
            }
            None => Ok(()),
        }
    }
}

/// The page that is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn build(&mut self) -> fmt::Result {
        let help = "What runs.";
        let mut info = self.0.encode_descriptor("build", help, None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    fn services(&mut self, counters: &Counters) -> fmt::Result {
        let help = "Calls answered, by method and by what the answer says of the effect.";
        let mut requests = self.0.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (method, outcome, count) in counters.requests.all() {
            let labels = [("method", method), ("outcome", outcome)];
            let mut one = requests.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        self.took(&counters.requests)?;
        self.gauge("pipelines", "Open pipeline streams.", counters.pipelines.get())?;
        let help = "Pipelines ended because their client did not read.";
        self.counter("slow_readers_cut", help, None, counters.slow_readers_cut.get())?;
        self.callers(&counters.callers)?;
        self.watches(&counters.watches)?;
        self.consumers(&counters.consumers)?;
        self.bus(&counters.bus)?;
        self.cache(&counters.cache)?;
        let ports =
            [("client", &counters.client), ("peer", &counters.peer), ("http", &counters.http)];
        self.ports(&ports)?;
        self.access(counters)
    }

    fn access(&mut self, counters: &Counters) -> fmt::Result {
        let help = "Calls and questions that were refused because of who asked, by whether that was not \
                    known, or was and was not enough.";
        let mut denied = self.0.encode_descriptor("denied", help, None, MetricType::Counter)?;
        let denials = &counters.denials;
        for (kind, count) in
            [("unauthenticated", &denials.unauthenticated), ("forbidden", &denials.forbidden)]
        {
            let labels = [("kind", kind)];
            let mut one = denied.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&count.get(), None)?;
        }
        let Some(streams) = counters.facts.streams_per_connection_max() else { return Ok(()) };
        let help = "Requests at once that one connection of a client may make.";
        self.gauge("streams_per_connection_max", help, streams.into())
    }

    fn callers(&mut self, refusals: &Refusals) -> fmt::Result {
        let help = "Refusals because one caller had as much as he may have, by what of.";
        let mut limited =
            self.0.encode_descriptor("caller_limited", help, None, MetricType::Counter)?;
        for (limit, count) in refusals.all() {
            let labels = [("limit", limit)];
            let mut one = limited.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let help = "Requests given up because they were not complete in time.";
        self.counter("requests_incomplete", help, None, refusals.incomplete.get())
    }

    fn took(&mut self, requests: &Requests) -> fmt::Result {
        let help = "How long calls took until they were answered, or their streams began, by method; of \
                    methods that were called.";
        let mut took = self.0.encode_descriptor(
            "request_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (method, durations) in requests.took() {
            let (sum, count) = (durations.sum().as_secs_f64(), durations.count());
            let labels = [("method", method)];
            let mut one = took.encode_family(&labels)?;
            one.encode_histogram::<NoLabelSet>(sum, count, &buckets(&durations), None)?;
        }
        let Some(tracer) = requests.tracer() else { return Ok(()) };
        let help = "Spans of traced requests, by what became of them: exported, dropped for want of \
                    room, or failed because the collector did not take them.";
        let mut spans = self.0.encode_descriptor("trace_spans", help, None, MetricType::Counter)?;
        let counts = tracer.counts();
        for (fate, count) in [
            ("exported", &counts.exported),
            ("dropped", &counts.dropped),
            ("failed", &counts.failed),
        ] {
            let labels = [("fate", fate)];
            let mut one = spans.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&count.get(), None)?;
        }
        Ok(())
    }

    fn watches(&mut self, watches: &Watches) -> fmt::Result {
        self.gauge("watches", "Open watches of keys.", watches.open.get())?;
        let help = "Pages of the history that a watch read for itself, because they were not, or \
                    not any more, in the memory that all share.";
        self.counter("watch_ring_misses", help, None, watches.ring_misses.get())?;
        let help = "Watches ended by this node, by the reason they were told.";
        let mut cut = self.0.encode_descriptor("watches_cut", help, None, MetricType::Counter)?;
        for (reason, count) in [
            ("slow_reader", &watches.slow_readers_cut),
            ("compacted", &watches.compacted),
            ("no_leader", &watches.without_quorum),
        ] {
            let labels = [("reason", reason)];
            let mut one = cut.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&count.get(), None)?;
        }
        Ok(())
    }

    fn consumers(&mut self, consumers: &Consumers) -> fmt::Result {
        self.gauge("consumers", "Open streams that consume queues.", consumers.open.get())?;
        let help = "Jobs handed over to streams that consume queues.";
        self.counter("consumer_deliveries", help, None, consumers.deliveries.get())?;
        let help = "Streams that consume queues ended because their client did not read.";
        self.counter("consumers_cut", help, None, consumers.slow_readers_cut.get())
    }

    fn bus(&mut self, bus: &Bus) -> fmt::Result {
        let open = bus.subscriptions.get();
        self.gauge("bus_subscriptions", "Open subscriptions to channels.", open)?;
        let help = "Requests of this node's clients that wait for an answer.";
        self.gauge("bus_requests_waiting", help, bus.requests.get())?;
        let help = "Messages that this node numbered as the leader.";
        self.counter("bus_published", help, None, bus.published.get())?;
        let help = "Messages that this node, as the leader, sent to nodes with subscribers.";
        self.counter("bus_sent_to_nodes", help, None, bus.sent_to_nodes.get())?;
        let help = "Messages that came to this node from the leader.";
        self.counter("bus_received", help, None, bus.received.get())?;
        let help = "Messages and gaps handed out to subscribers of this node.";
        self.counter("bus_delivered", help, None, bus.delivered.get())?;
        let help =
            "Gaps handed out to subscribers of this node: each tells of messages that it missed.";
        self.counter("bus_gaps", help, None, bus.gaps.get())?;
        let help = "Subscriptions ended because their client did not read fast enough.";
        self.counter("bus_slow_subscribers_cut", help, None, bus.slow_cut.get())
    }

    fn cache(&mut self, cache: &Cache) -> fmt::Result {
        let help = "Reads of the cache on this node, by what they found.";
        let mut reads = self.0.encode_descriptor("cache_reads", help, None, MetricType::Counter)?;
        for (found, count) in
            [("fresh", &cache.hits), ("stale", &cache.stale_hits), ("nothing", &cache.misses)]
        {
            let labels = [("found", found)];
            let mut one = reads.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&count.get(), None)?;
        }
        let help = "Entries of the cache that this node, as the leader, evicted to make room.";
        self.counter("cache_evicted", help, None, cache.evicted.get())?;
        let help = "Calls that wait for a value that is being built.";
        self.gauge("cache_waits", help, cache.waits.get())?;
        let help = "Open streams of what changes in the cache.";
        self.gauge("cache_invalidation_streams", help, cache.invalidations.get())
    }

    fn ports(&mut self, ports: &[(&str, &Arc<Port>)]) -> fmt::Result {
        let help = "Open connections that came in, by port.";
        let mut open = self.0.encode_descriptor("connections", help, None, MetricType::Gauge)?;
        for (name, port) in ports {
            open.encode_family(&[("port", *name)])?.encode_gauge(&port.open.get())?;
        }
        let help = "Connections that may be open at once, by port.";
        let mut most =
            self.0.encode_descriptor("connections_max", help, None, MetricType::Gauge)?;
        for (name, opened) in ports.iter().filter_map(|(name, port)| Some((name, port.opened()?))) {
            most.encode_family(&[("port", *name)])?.encode_gauge(&(opened.max as u64))?;
        }
        let help =
            "When the certificate that a port shows ends, or one that it comes with, in Unix time.";
        let mut ends = self.0.encode_descriptor(
            "tls_certificate_expires_timestamp",
            help,
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (name, port) in ports {
            let shown = port.opened().and_then(|opened| opened.tls.as_ref());
            if let Some(end) = shown.and_then(tls::Shown::expires_unix_s) {
                ends.encode_family(&[("port", *name)])?.encode_gauge(&end)?;
            }
        }
        let help = "Connections closed at once because there were too many, by port.";
        let mut refused =
            self.0.encode_descriptor("connections_refused", help, None, MetricType::Counter)?;
        for (name, port) in ports {
            let labels = [("port", *name)];
            let mut one = refused.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&port.refused.get(), None)?;
        }
        let help = "Connections closed because no TLS handshake could be believed, by port.";
        let mut failed =
            self.0.encode_descriptor("tls_handshakes_failed", help, None, MetricType::Counter)?;
        for (name, port) in ports {
            let labels = [("port", *name)];
            let mut one = failed.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&port.handshakes_failed.get(), None)?;
        }
        Ok(())
    }

    fn replica(&mut self, replica: &Replica) -> fmt::Result {
        let status = replica.status();
        let leader = status.leader.map_or(0, |leader| leader.0);
        self.gauge("raft_leader_id", "The leader this node knows; 0: none.", leader)?;
        let leads = u64::from(status.leader == Some(status.node));
        self.gauge("raft_is_leader", "Whether this node leads.", leads)?;
        self.gauge("raft_term", "The term this node is in.", status.term)?;
        let index = |index: Option<LogIndex>| index.map_or(0, |index| index.0);
        let (applied, last) = (index(status.applied), index(status.last_log));
        self.gauge("raft_applied_index", "The last entry applied here.", applied)?;
        let help = "The last entry this node knows to be committed.";
        self.gauge("raft_committed_index", help, index(status.committed))?;
        self.gauge("raft_last_log_index", "The last entry of this node's log.", last)?;
        let help = "The last entry in this node's newest snapshot.";
        self.gauge("raft_snapshot_index", help, index(status.snapshot))?;
        let help = "Entries of this node's log that it has not applied.";
        self.gauge("raft_apply_lag_entries", help, last.saturating_sub(applied))?;
        self.followers(&replica.replication_lag())?;

        let counters = replica.counters();
        self.load(&counters.load)?;
        let help = "Leaders that took office under this node's eyes, but for the first one it saw.";
        self.counter("raft_elections", help, None, counters.elections)?;
        let help =
            "Commands that this node refused as the leader because its disk was almost full.";
        self.counter("disk_full_refused", help, None, counters.load.refused_full)?;
        let help = "Entries appended to this node's log.";
        self.counter("raft_log_entries", help, None, counters.log.entries)?;
        let help = "Bytes appended to this node's log.";
        self.counter("raft_log", help, Some(&Unit::Bytes), counters.log.bytes)?;
        self.counter("raft_log_fsyncs", "Syncs of this node's log.", None, counters.log.syncs)?;
        let help = "Entries that this node proposed as the leader.";
        self.counter("raft_entries_proposed", help, None, counters.entries_proposed)?;
        let help = "Commands in the entries that this node proposed.";
        self.counter("raft_commands_proposed", help, None, counters.commands_proposed)?;
        let help = "How long each sync of the log took.";
        self.durations("raft_fsync_duration", help, &counters.log.sync_times)?;
        let help = "From the proposal of an entry on this node until it was applied here.";
        self.durations("raft_commit_duration", help, &counters.commit_times)?;
        let help = "How long it took to apply a batch of entries that was on disk.";
        self.durations("raft_apply_duration", help, &counters.apply_times)?;
        let help = "How long it took to take a snapshot of the state.";
        self.durations("raft_snapshot_duration", help, &counters.snapshot_times)
    }

    fn load(&mut self, load: &Load) -> fmt::Result {
        let help = "Commands that are held: at the door until they are answered, and, on the leader, \
                    with the proposer.";
        let mut held = self.0.encode_descriptor("commands_held", help, None, MetricType::Gauge)?;
        for (at, count) in [("door", load.held), ("proposer", load.proposed)] {
            held.encode_family(&[("at", at)])?.encode_gauge(&count)?;
        }
        let help = "Bytes of them.";
        let mut held =
            self.0.encode_descriptor("commands_held_bytes", help, None, MetricType::Gauge)?;
        for (at, bytes) in [("door", load.held_bytes), ("proposer", load.proposed_bytes)] {
            held.encode_family(&[("at", at)])?.encode_gauge(&bytes)?;
        }
        let help = "What was not done because there was too much, by what was full; deadline: what \
                    had its turn too late.";
        let mut refused =
            self.0.encode_descriptor("overload_refused", help, None, MetricType::Counter)?;
        for (reason, count) in [
            ("door", load.refused_held),
            ("proposer", load.refused_proposed),
            ("reads", load.refused_reads),
            ("deadline", load.late),
        ] {
            let labels = [("reason", reason)];
            let mut one = refused.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn followers(&mut self, lags: &[(NodeId, u64)]) -> fmt::Result {
        let help = "Entries of the leader's log that a follower is not known to have on disk; of \
                    the leader only.";
        let mut lag = self.0.encode_descriptor(
            "raft_replication_lag_entries",
            help,
            None,
            MetricType::Gauge,
        )?;
        for (follower, entries) in lags {
            lag.encode_family(&[("follower", follower.0)])?.encode_gauge(entries)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let mut counter = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        counter.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn durations(&mut self, name: &str, help: &str, durations: &Durations) -> fmt::Result {
        let buckets = buckets(durations);
        let unit = Some(&Unit::Seconds);
        let mut histogram = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        let (sum, count) = (durations.sum().as_secs_f64(), durations.count());
        histogram.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// The buckets of durations: how many were in each, by where it ends.
fn buckets(durations: &Durations) -> Vec<(f64, u64)> {
    durations
        .buckets()
        .map(|(end, count)| (end.map_or(f64::INFINITY, |end| end.as_secs_f64()), count))
        .collect()
}
