//! What is counted while a node serves, for `/metrics` and for tests that nothing leaks. Counting
//! takes no lock; `exposition` puts it into text.

pub(crate) mod node;

use crate::access::audit::Denials;
use crate::grpc::public_methods;
use crate::tls;
use crate::trace::{Parent, Span, Tracer};
use quorate_consensus::Trace;
use quorate_storage::{Durations, Histogram};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;

/// Counters and gauges of one node's services.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Calls that were answered.
    pub(crate) requests: Requests,
    /// Open pipeline streams.
    pub(crate) pipelines: Gauge,
    /// Pipelines that were ended because their client did not read.
    pub(crate) slow_readers_cut: Counter,
    /// Callers that asked for more than one may have.
    pub(crate) callers: crate::limits::Refusals,
    /// Watches of keys.
    pub(crate) watches: Watches,
    /// Streams that consume queues.
    pub(crate) consumers: Consumers,
    /// Messages of the bus.
    pub(crate) bus: Bus,
    /// The cache.
    pub(crate) cache: Cache,
    /// The port of clients.
    pub(crate) client: Arc<Port>,
    /// The port of the other nodes.
    pub(crate) peer: Arc<Port>,
    /// The HTTP port.
    pub(crate) http: Arc<Port>,
    /// Who was not let do something.
    pub(crate) denials: Arc<Denials>,
    /// What the node was started with.
    pub(crate) facts: node::Facts,
}

/// What happens to watches.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// Open ones.
    pub(crate) open: Gauge,
    /// Pages of the history that were read from the tables for one watch.
    pub(crate) ring_misses: Counter,
    /// Those that were ended because their client did not read.
    pub(crate) slow_readers_cut: Counter,
    /// Those that were ended because what came next was trimmed.
    pub(crate) compacted: Counter,
    /// Those that were ended because there was no quorum.
    pub(crate) without_quorum: Counter,
}

/// What happens to streams that consume queues.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// Open ones.
    pub(crate) open: Gauge,
    /// Jobs handed over.
    pub(crate) deliveries: Counter,
    /// Those that were ended because their client did not read.
    pub(crate) slow_readers_cut: Counter,
}

/// What happens on the bus.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    /// Open subscriptions.
    pub(crate) subscriptions: Gauge,
    /// Requests that wait for an answer.
    pub(crate) requests: Gauge,
    /// Messages that this node numbered as the leader.
    pub(crate) published: Counter,
    /// Messages that this node sent to nodes as the leader, itself included.
    pub(crate) sent_to_nodes: Counter,
    /// Messages that the leader sent to this node.
    pub(crate) received: Counter,
    /// Messages and gaps handed out to subscribers.
    pub(crate) delivered: Counter,
    /// Gaps among those.
    pub(crate) gaps: Counter,
    /// Subscriptions that were ended because their clients read too slowly.
    pub(crate) slow_cut: Counter,
}

/// What happens in the cache.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// Reads that found a value.
    pub(crate) hits: Counter,
    /// Reads that found a stale one.
    pub(crate) stale_hits: Counter,
    /// Reads that found none.
    pub(crate) misses: Counter,
    /// Entries that this node evicted as the leader.
    pub(crate) evicted: Counter,
    /// Calls that wait for a value to be built.
    pub(crate) waits: Gauge,
    /// Open streams of what changes.
    pub(crate) invalidations: Gauge,
}

/// How often something happened.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Once more.
    pub(crate) fn count(&self) {
        self.add(1);
    }

    /// So often more.
    pub(crate) fn add(&self, times: u64) {
        self.0.fetch_add(times, Ordering::Relaxed);
    }

    /// How often so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// One more.
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections of one port.
#[derive(Debug, Default)]
pub(crate) struct Port {
    /// Open ones.
    pub(crate) open: Gauge,
    /// Those closed at once, because there were too many.
    pub(crate) refused: Counter,
    /// Those closed because there was no TLS handshake, or none that could be believed.
    pub(crate) handshakes_failed: Counter,
    /// How it was opened; none: it is not open yet.
    opened: OnceLock<Opened>,
}

/// How a port was opened.
pub(crate) struct Opened {
    /// Connections at once.
    pub(crate) max: usize,
    /// What it shows, if it speaks TLS.
    pub(crate) tls: Option<tls::Shown>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("max", &self.max).finish_non_exhaustive()
    }
}

impl Port {
    /// It is open from now on.
    pub(crate) fn opens(&self, max: usize, tls: Option<tls::Shown>) {
        drop(self.opened.set(Opened { max, tls }));
    }

    /// How it was opened.
    pub(crate) fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }
}

/// What an answer says of the request's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is answered with what it asked for.
    Ok,
    /// It failed, and has no effect.
    NotApplied,
    /// It failed, and may have an effect.
    Unknown,
}

impl Outcome {
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::Ok, "ok"), (Self::NotApplied, "not_applied"), (Self::Unknown, "unknown")];
}

/// A method, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method(usize);

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Begun {
    method: Method,
    at: Instant,
    /// If it is traced.
    span: Option<Box<Span>>,
}

impl Begun {
    /// What its commands are proposed with, if it is traced.
    pub(crate) fn trace(&self) -> Option<Arc<Trace>> {
        self.span.as_ref().map(|span| span.passed())
    }

    /// It is known whose it is.
    pub(crate) fn of_caller(&mut self, name: impl FnOnce() -> String) {
        if let Some(span) = &mut self.span {
            span.of_caller(name());
        }
    }
}

/// Calls that were answered, by method and outcome: unary ones, those of pipelines, and streams
/// when they begin. All methods of the public API are here from the start, so that a client can't
/// make up new ones.
#[derive(Debug)]
pub(crate) struct Requests {
    methods: HashMap<String, Method>,
    /// By method; the last is whatever is not of our API.
    names: Vec<Arc<str>>,
    counts: Vec<[Counter; Outcome::ALL.len()]>,
    took: Vec<Histogram>,
    /// Set when requests are traced.
    tracer: OnceLock<Tracer>,
}

impl Default for Requests {
    fn default() -> Self {
        let methods = public_methods().into_iter().zip(0..).map(|(name, at)| (name, Method(at)));
        let methods: HashMap<_, _> = methods.collect();
        let mut names = vec![Arc::from("other"); methods.len() + 1];
        for (name, at) in &methods {
            names[at.0] = name.as_str().into();
        }
        let counts = names.iter().map(|_| Default::default()).collect();
        let took = names.iter().map(|_| Histogram::default()).collect();
        Self { methods, names, counts, took, tracer: OnceLock::new() }
    }
}

impl Requests {
    /// The method of this name, such as `KvService/Get`.
    pub(crate) fn method(&self, name: &str) -> Method {
        self.methods.get(name).copied().unwrap_or(Method(self.methods.len()))
    }

    /// From now on requests are traced.
    pub(crate) fn trace_with(&self, tracer: Tracer) {
        // A node begins to trace once.
        drop(self.tracer.set(tracer));
    }

    /// What chooses the requests that are traced, if any are.
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.tracer.get()
    }

    /// A call arrived at this moment; `parent` is the span it was sent in.
    pub(crate) fn begun(
        &self,
        method: Method,
        at: Instant,
        parent: impl FnOnce() -> Option<Parent>,
    ) -> Begun {
        let span = self.tracer().and_then(|tracer| tracer.begin(at, parent()));
        Begun { method, at, span }
    }

    /// A call is answered now.
    pub(crate) fn answered(&self, call: Begun, outcome: Outcome) {
        let Begun { method, at, span } = call;
        self.counts[method.0][outcome as usize].count();
        self.took[method.0].record(at.elapsed());
        if let (Some(span), Some(tracer)) = (span, self.tracer()) {
            tracer.end(span, &self.names[method.0], outcome);
        }
    }

    /// How long the calls of each method took, by name: of those that were ever called.
    pub(crate) fn took(&self) -> Vec<(&str, Durations)> {
        let took = self.names.iter().zip(&self.took).map(|(name, took)| (&**name, took.read()));
        let mut called: Vec<_> = took.filter(|(_, took)| took.count() > 0).collect();
        called.sort_unstable_by_key(|(name, _)| *name);
        called
    }

    /// How many were answered, whatever their methods, in the order of [`Outcome::ALL`].
    pub(crate) fn by_outcome(&self) -> [u64; Outcome::ALL.len()] {
        let of = |outcome: Outcome| self.counts.iter().map(|one| one[outcome as usize].get()).sum();
        Outcome::ALL.map(|(outcome, _)| of(outcome))
    }

    /// How many of each were answered, by name.
    pub(crate) fn all(&self) -> Vec<(&str, &'static str, u64)> {
        let mut names: Vec<_> =
            self.methods.iter().map(|(name, at)| (name.as_str(), *at)).collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        names.push(("other", Method(self.methods.len())));
        names
            .into_iter()
            .flat_map(|(name, method)| {
                let counts = &self.counts[method.0];
                Outcome::ALL.map(|(outcome, word)| (name, word, counts[outcome as usize].get()))
            })
            .collect()
    }
}
