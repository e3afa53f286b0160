//! What is counted while a node serves, for `/metrics` and for tests that nothing leaks.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Counters and gauges of one node's services.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Open pipeline streams.
    pub(crate) pipelines: Gauge,
    slow_readers_cut: AtomicU64,
}

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    /// One more.
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many now.
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One less.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    pub(crate) fn called(&self, _method: &'static str) {}

    /// A pipeline was ended because its client did not read.
    pub(crate) fn slow_readers_cut(&self) {
        self.slow_readers_cut.fetch_add(1, Ordering::Relaxed);
    }
}
