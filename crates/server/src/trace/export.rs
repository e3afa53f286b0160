//! Sends spans to a collector, on a thread of its own: nothing it does, or waits for, holds up a request
//! or the node.

use super::settings::{Complaints, Protocol, Settings};
use super::{Counts, Ended, Parent, Shared, Span, Tracer};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanExporter as _, SpanLinks,
};
use quorate_consensus::Passage;
use quorate_state::NodeId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What one passage becomes at most: forward, propose, fsync, commit, apply.
pub(super) const PASSAGE_SPANS: usize = 5;
/// How long the end waits for the collector to take what is left.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// How often it is said that spans are lost.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Keeps spans going out.
#[derive(Debug)]
pub(crate) struct Exporting {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Exporting {
    /// Sends what is left, for at most a second.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        // A collector that takes nothing is left alone, and its thread ends with the process.
        let _ = tokio::time::timeout(FLUSH_MAX, self.ended).await;
    }
}

/// Begins to trace, if the environment says where to.
pub(crate) fn start(node: NodeId) -> Option<(Tracer, Exporting)> {
    let (settings, Complaints(complaints)) = Settings::read(|name| std::env::var(name).ok());
    for complaint in complaints {
        tracing::warn!("traces: {complaint}");
    }
    start_with(settings?, node)
}

fn start_with(settings: Settings, node: NodeId) -> Option<(Tracer, Exporting)> {
    // Each has one span at least, so that this holds what may be queued.
    let (queue, queued) = mpsc::channel(settings.queued_max);
    let counts = Arc::<Counts>::default();
    let (stop, (ending, ended)) = (CancellationToken::new(), oneshot::channel());
    let Settings { sampler, queued_max, protocol, .. } = settings;
    let sending = Sending { settings, queued, counts: Arc::clone(&counts), stop: stop.clone() };
    let thread = std::thread::Builder::new().name("quorate-traces".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(sending.run(node)),
            Err(error) => tracing::warn!(%error, "traces: there is no runtime to send them with"),
        }
        // Nobody listens if the process has ended meanwhile.
        let _ = ending.send(());
    });
    if let Err(error) = thread {
        tracing::warn!(%error, "traces: there is no thread to send them with");
        return None;
    }
    tracing::info!(?protocol, "requests are traced");
    let tracer = Tracer(Arc::new(Shared { sampler, queue, counts, queued_max }));
    Some((tracer, Exporting { stop, ended }))
}

/// What the thread works on.
struct Sending {
    settings: Settings,
    queued: mpsc::Receiver<Box<Span>>,
    counts: Arc<Counts>,
    stop: CancellationToken,
}

impl Sending {
    async fn run(mut self, node: NodeId) {
        let exporter = match exporter(self.settings.protocol, node) {
            Ok(exporter) => exporter,
            // Its queue is closed then, and whatever is put into it is counted as dropped.
            Err(error) => return tracing::warn!(error, "traces can't be sent"),
        };
        let scope = InstrumentationScope::builder("quorate").build();
        let mut complained: Option<Instant> = None;
        let (mut lost, mut over) = (0, false);
        while !over {
            let batch;
            (batch, over) = self.next_batch(&scope).await;
            if batch.is_empty() {
                continue;
            }
            let count = batch.len() as u64;
            let sent = tokio::time::timeout(self.settings.timeout, exporter.export(batch)).await;
            let error = match sent {
                Ok(Ok(())) => {
                    self.counts.exported.add(count);
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("it took longer than {:?}", self.settings.timeout),
            };
            self.counts.failed.add(count);
            lost += count;
            if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                tracing::warn!(
                    error,
                    spans = lost,
                    "traces were lost: the collector did not take them"
                );
                (complained, lost) = (Some(Instant::now()), 0);
            }
        }
    }

    /// The next spans to be sent together, and whether they are the last.
    async fn next_batch(&mut self, scope: &InstrumentationScope) -> (Vec<SpanData>, bool) {
        let Settings { batch_max, delay, .. } = self.settings;
        let mut batch = Vec::new();
        let Some(first) = self.next(None).await else { return (batch, true) };
        let due = Instant::now() + delay;
        let mut next = Some(first);
        while let Some(span) = next {
            if let Some(ended) = &span.ended {
                self.counts.queued.fetch_sub(ended.count, Ordering::Relaxed);
                spans(&span, ended, scope, &mut batch);
            }
            if batch.len() >= batch_max {
                return (batch, false);
            }
            next = self.next(Some(due)).await;
        }
        // Either it is time, or it is over; then the next one finds nothing.
        (batch, false)
    }

    /// The next request, until it is time; once all is to end, only what is there.
    async fn next(&mut self, due: Option<Instant>) -> Option<Box<Span>> {
        let time = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            next = self.queued.recv() => next,
            () = self.stop.cancelled() => None,
            () = time => None,
        }
    }
}

fn exporter(protocol: Protocol, node: NodeId) -> Result<SpanExporter, String> {
    let builder = SpanExporter::builder();
    // Endpoint, headers, compression and timeout are as the environment says.
    let built = match protocol {
        Protocol::Grpc => builder.with_tonic().build(),
        Protocol::Http => builder.with_http().build(),
    };
    let mut exporter = built.map_err(|error| error.to_string())?;
    exporter.set_resource(&resource(node));
    Ok(exporter)
}

/// What all spans of this process have in common.
fn resource(node: NodeId) -> Resource {
    let mut ours = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", node.to_string()),
    ];
    // What nobody named has this name; what the environment says of the rest goes first as well.
    let found = Resource::builder().build();
    let named = found.iter().any(|(key, value)| {
        key.as_str() == "service.name" && !value.as_str().starts_with("unknown_service")
    });
    if !named {
        ours.push(KeyValue::new("service.name", "quorate"));
    }
    ours.retain(|one| one.key.as_str() == "service.name" || found.get(&one.key).is_none());
    Resource::builder().with_attributes(ours).build()
}

/// The spans of a request: its own, and where each of its commands was.
fn spans(span: &Span, ended: &Ended, scope: &InstrumentationScope, into: &mut Vec<SpanData>) {
    let ids = RandomIdGenerator::default();
    let (began, since) = (span.began, span.passed.since());
    // On the wall clock of the moment at which the request arrived, so that all times fit each other.
    let wall = |at: Instant| began + at.saturating_duration_since(since);
    let end = wall(ended.at);
    let parent = span.parent.as_ref();
    let state: TraceState = parent.and_then(|p| p.state.parse().ok()).unwrap_or_default();
    let trace = TraceId::from_bytes(span.trace_id.to_be_bytes());
    let own = SpanId::from_bytes(span.id.to_be_bytes());
    let data = |id: SpanId, name: &'static str, start: SystemTime, end: SystemTime| SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, state.clone()),
        parent_span_id: own,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: start,
        end_time: end,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope.clone(),
    };
    into.push(SpanData {
        parent_span_id: parent.map_or(SpanId::INVALID, Parent::span_id),
        parent_span_is_remote: parent.is_some(),
        span_kind: SpanKind::Server,
        attributes: attributes(span, &ended.method, ended.outcome),
        status: match ended.outcome {
            "unknown" => Status::error("nobody knows whether it took effect"),
            _ => Status::Unset,
        },
        ..data(own, "request", began, end)
    });
    for passage in span.passed.passages() {
        for (name, from, to) in steps(&passage, since) {
            let from = wall(from).min(end);
            into.push(data(ids.new_span_id(), name, from, wall(to).clamp(from, end)));
        }
    }
}

impl Parent {
    fn span_id(&self) -> SpanId {
        SpanId::from_bytes(self.span.to_be_bytes())
    }
}

fn attributes(span: &Span, method: &str, outcome: &'static str) -> Vec<KeyValue> {
    let mut attributes =
        vec![KeyValue::new("rpc.system", "grpc"), KeyValue::new("quorate.outcome", outcome)];
    // What is not of our API has no service that is known.
    match method.split_once('/') {
        Some((service, name)) => attributes.extend([
            KeyValue::new("rpc.service", format!("quorate.v1.{service}")),
            KeyValue::new("rpc.method", name.to_owned()),
        ]),
        None => attributes.push(KeyValue::new("rpc.method", method.to_owned())),
    }
    if let Some(caller) = &span.caller {
        attributes.push(KeyValue::new("quorate.caller", caller.clone()));
    }
    attributes
}

/// Where a command was: from when until when, in order. `since` its request arrived.
fn steps(passage: &Passage, since: Instant) -> Vec<(&'static str, Instant, Instant)> {
    let mut steps = Vec::with_capacity(PASSAGE_SPANS);
    // Another node's times are as late as the answer took to come. Nobody knows how long that was, since
    // no two clocks agree; of what was spent on the way it is taken to be half.
    let late = match passage.elsewhere {
        true => passage.arrived.saturating_duration_since(since) / 2,
        false => Duration::ZERO,
    };
    let at = |at: Instant| at.checked_sub(late).unwrap_or(at);
    let begun = match passage.elsewhere {
        true => at(passage.arrived),
        false => since,
    };
    let handed = at(passage.handed);
    if passage.elsewhere {
        steps.push(("forward", since, at(passage.applied) + late));
    }
    steps.push(("propose", begun, handed));
    steps.extend(passage.synced.map(|synced| ("fsync", handed, at(synced))));
    steps.extend(passage.committed.map(|committed| ("commit", handed, at(committed))));
    steps.extend(passage.applying.map(|applying| ("apply", at(applying), at(passage.applied))));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_nodes_steps_lie_in_the_middle_of_the_way_there_and_back() {
        let since = Instant::now();
        let ms = |ms| since + Duration::from_millis(ms);
        // It was on its way for 10 ms, of which the leader had it for 6, the last of them answering.
        let passage = Passage {
            elsewhere: true,
            arrived: ms(4),
            handed: ms(5),
            synced: Some(ms(7)),
            committed: Some(ms(8)),
            applying: Some(ms(9)),
            applied: ms(10),
        };
        assert_eq!(
            steps(&passage, since),
            [
                ("forward", since, ms(10)),
                ("propose", ms(2), ms(3)),
                ("fsync", ms(3), ms(5)),
                ("commit", ms(3), ms(6)),
                ("apply", ms(7), ms(8)),
            ]
        );
        let here = Passage { elsewhere: false, synced: None, ..passage };
        assert_eq!(
            steps(&here, since),
            [("propose", since, ms(5)), ("commit", ms(5), ms(8)), ("apply", ms(9), ms(10))]
        );
    }
}
