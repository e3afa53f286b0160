//! What the handles of a client found, in this process and in the cluster.

use super::CacheEntry;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the client was made; see [`crate::Cache::counters`]. They are of all its cache
/// handles, in whichever namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCounters {
    /// Reads that a near cache answered.
    pub near_hits: u64,
    /// Reads that a near cache had nothing for, or might have had something too old.
    pub near_misses: u64,
    /// Reads that the cluster answered with a fresh value.
    pub server_hits: u64,
    /// Reads that the cluster answered with a stale value.
    pub stale_hits: u64,
    /// Reads that the cluster had nothing for.
    pub misses: u64,
    /// Values that this client set about building.
    pub builds: u64,
    /// Calls of [`crate::Cache::get_or_build`] that waited for another call of this process.
    pub waits: u64,
}

/// They only count; no other memory depends on them, so no order is asked for.
#[derive(Debug, Default)]
pub(super) struct Counters {
    near_hits: AtomicU64,
    near_misses: AtomicU64,
    server_hits: AtomicU64,
    stale_hits: AtomicU64,
    misses: AtomicU64,
    builds: AtomicU64,
    waits: AtomicU64,
}

impl Counters {
    pub(super) fn near_hit(&self) {
        self.near_hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn near_miss(&self) {
        self.near_misses.fetch_add(1, Ordering::Relaxed);
    }

    /// The cluster has answered a read.
    pub(super) fn read(&self, found: Option<&CacheEntry>) {
        let counter = match found {
            Some(entry) if entry.stale => &self.stale_hits,
            Some(_) => &self.server_hits,
            None => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn build(&self) {
        self.builds.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> CacheCounters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheCounters {
            near_hits: count(&self.near_hits),
            near_misses: count(&self.near_misses),
            server_hits: count(&self.server_hits),
            stale_hits: count(&self.stale_hits),
            misses: count(&self.misses),
            builds: count(&self.builds),
            waits: count(&self.waits),
        }
    }
}
