//! Traces: for some requests, a span of the request and spans of where its commands were, sent by OTLP.
//!
//! What a request costs that is not traced is a look at its metadata, and nothing where no collector is
//! named. One that is traced notes times while it runs; everything else, from ids of the inner spans to
//! bytes, is made by the thread that sends them (`export.rs`). Between the two is a bounded queue: what
//! does not fit is dropped and counted, so that a collector that takes nothing holds nobody up.
//!
//! A span has the name of the method, what the answer said of the effect, and the name of the caller if it
//! is known: never keys, values, payloads or anything secret.

mod export;
mod jobs;
mod parent;
mod settings;

pub(crate) use export::{Exporting, start};
pub(crate) use jobs::{into_call, into_content, into_jobs, into_messages};
pub(crate) use parent::Parent;
use parent::{TRACEPARENT, TRACESTATE};

use crate::metrics::{Counter, Outcome};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use quorate_consensus::Trace;
use settings::Sampler;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Chooses requests, and hands their spans over. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tracer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sampler: Sampler,
    queue: mpsc::Sender<Box<Span>>,
    counts: Arc<Counts>,
    queued_max: usize,
}

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// In the queue now.
    queued: AtomicUsize,
    /// Those that the collector took.
    pub(crate) exported: Counter,
    /// Those for which there was no room.
    pub(crate) dropped: Counter,
    /// Those that were sent, or were to be, and were not taken.
    pub(crate) failed: Counter,
}

/// A request that is traced, until it is answered.
#[derive(Debug)]
pub(crate) struct Span {
    trace_id: u128,
    id: u64,
    parent: Option<Parent>,
    /// When it arrived, by both clocks.
    began: SystemTime,
    passed: Arc<Trace>,
    /// Whose it is, if that is known.
    caller: Option<String>,
    /// Set when it is answered.
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Ended {
    at: Instant,
    method: Arc<str>,
    outcome: &'static str,
    /// How many spans it counts for in the queue. Something that goes on beside it may still pass.
    count: usize,
}

impl Span {
    /// What its commands are proposed with.
    pub(crate) fn passed(&self) -> Arc<Trace> {
        Arc::clone(&self.passed)
    }

    /// It is known whose it is.
    pub(crate) fn of_caller(&mut self, name: String) {
        self.caller = Some(name);
    }
}

impl Tracer {
    /// The span of a request that arrived at this moment, if it is to be traced.
    pub(crate) fn begin(&self, at: Instant, parent: Option<Parent>) -> Option<Box<Span>> {
        let sampler = self.0.sampler;
        let trace_id = match &parent {
            Some(parent) => parent.trace,
            None if sampler.never_begins() => return None,
            None => u128::from_be_bytes(RandomIdGenerator::default().new_trace_id().to_bytes()),
        };
        if !sampler.samples(trace_id, parent.as_ref().map(|parent| parent.sampled)) {
            return None;
        }
        let id = u64::from_be_bytes(RandomIdGenerator::default().new_span_id().to_bytes());
        let (began, passed) = (SystemTime::now(), Arc::new(Trace::new(at)));
        Some(Box::new(Span { trace_id, id, parent, began, passed, caller: None, ended: None }))
    }

    /// It is answered now. Never waits.
    pub(crate) fn end(&self, mut span: Box<Span>, method: &Arc<str>, outcome: Outcome) {
        let word = Outcome::ALL.iter().find(|(one, _)| *one == outcome).map_or("", |(_, w)| w);
        let count = 1 + span.passed.passages().len() * export::PASSAGE_SPANS;
        let method = Arc::clone(method);
        span.ended = Some(Ended { at: Instant::now(), method, outcome: word, count });
        let counts = &self.0.counts;
        if counts.queued.fetch_add(count, Ordering::Relaxed) + count > self.0.queued_max
            || self.0.queue.try_send(span).is_err()
        {
            counts.queued.fetch_sub(count, Ordering::Relaxed);
            counts.dropped.add(count as u64);
        }
    }

    /// What became of spans.
    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(sampler: Sampler, queued_max: usize) -> (Tracer, mpsc::Receiver<Box<Span>>) {
        let (queue, queued) = mpsc::channel(queued_max);
        let counts = Arc::default();
        (Tracer(Arc::new(Shared { sampler, queue, counts, queued_max })), queued)
    }

    #[test]
    fn a_span_has_its_callers_trace_or_one_of_its_own() {
        let (tracer, _queued) = tracer(Sampler::of(true, 1.0), 10);
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent::read(text, "");
        let span = tracer.begin(Instant::now(), parent.clone()).unwrap();
        assert_eq!(span.trace_id, parent.as_ref().unwrap().trace);
        assert_ne!(span.id, parent.unwrap().span);
        let own = tracer.begin(Instant::now(), None).unwrap();
        assert!(own.trace_id != 0 && own.trace_id != span.trace_id && own.id != span.id);
        let unsampled = Parent::read(&text.replace("-01", "-00"), "");
        assert!(tracer.begin(Instant::now(), unsampled).is_none());
    }

    #[test]
    fn what_does_not_fit_the_queue_is_dropped_and_counted() {
        let (tracer, mut queued) = tracer(Sampler::of(true, 1.0), 3);
        let method: Arc<str> = "KvService/Set".into();
        for _ in 0..5 {
            let span = tracer.begin(Instant::now(), None).unwrap();
            tracer.end(span, &method, Outcome::Ok);
        }
        assert_eq!(tracer.counts().dropped.get(), 2);
        let span = queued.try_recv().unwrap();
        assert_eq!(span.ended.unwrap().outcome, "ok");
    }
}
