//! `cache stats`: how full the cache is.

use super::{Cache, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::kv::call_settings;
use quorate_proto::v1::{CacheStatsRequest, CacheStatsResponse};

/// How the cache of a group is, as one node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Entries on every node, those that are about to be swept included.
    pub entries: u64,
    /// Bytes of keys, values and tags, and 64 for each entry.
    pub bytes: u64,
    /// What they may come to.
    pub bytes_max: u64,
    /// Values that are being built.
    pub builds: u64,
    /// Reads of the node that answers, since it started, that found a fresh value.
    pub hits: u64,
    /// Those that found a stale one.
    pub stale_hits: u64,
    /// Those that found none.
    pub misses: u64,
    /// Entries that were evicted since that node started.
    pub evicted: u64,
    /// The revision that the first four are of.
    pub revision: u64,
    /// The node that answers.
    pub node_id: u64,
}

impl From<CacheStatsResponse> for CacheStats {
    fn from(answer: CacheStatsResponse) -> Self {
        let CacheStatsResponse {
            entries,
            bytes,
            bytes_max,
            builds,
            hits,
            stale_hits,
            misses,
            evicted,
            revision,
            node_id,
        } = answer;
        Self {
            entries,
            bytes,
            bytes_max,
            builds,
            hits,
            stale_hits,
            misses,
            evicted,
            revision,
            node_id,
        }
    }
}

/// Asks how the cache is; sent when awaited. Any live node answers, from what it has applied.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Stats {
    cache: Cache,
    options: CallOptions,
}

impl Stats {
    pub(super) fn new(cache: Cache) -> Self {
        Self { cache, options: CallOptions::default() }
    }

    call_settings!();

    async fn send(self) -> Result<CacheStats, Error> {
        let Self { cache, options } = self;
        let plan = cache.inner.plan("cache stats", Effect::Read, &options);
        let request = || CacheStatsRequest { namespace: cache.namespace.to_string() };
        Ok(cache.inner.read(&plan, request).await?.into())
    }
}

sent_when_awaited!(Stats => CacheStats);
