//! `cache get`: reads one key.

use super::{Cache, Freshness, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::kv::call_settings;
use bytes::Bytes;
use quorate_proto::v1::{self, CacheGetRequest};
use std::time::Duration;
use tokio::time::Instant;

/// A value that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheEntry {
    /// The value.
    pub value: Bytes,
    /// Revision that set it.
    pub mod_revision: u64,
    /// How long it is fresh for, by the cluster's clock; `None` when it has no ttl. Zero when it is
    /// stale.
    pub remaining_ttl: Option<Duration>,
    /// Its ttl is over; it may be shown for a while yet.
    pub stale: bool,
    /// Its tags, in the order of their bytes.
    pub tags: Vec<String>,
    /// The revision it was read at: everything up to it was seen.
    pub revision: u64,
}

impl CacheEntry {
    pub(crate) fn read(entry: v1::CacheEntry, revision: u64) -> Self {
        let v1::CacheEntry { value, mod_revision, remaining_ttl_ms, stale, tags } = entry;
        let remaining_ttl = remaining_ttl_ms.map(Duration::from_millis);
        Self { value, mod_revision, remaining_ttl, stale, tags, revision }
    }
}

/// A read; sent when awaited. Answers the entry, or `None` on a miss.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Get {
    cache: Cache,
    key: Bytes,
    linearizable: bool,
    min_revision: u64,
    allow_stale: bool,
    options: CallOptions,
}

impl Get {
    pub(super) fn new(cache: Cache, key: Bytes) -> Self {
        let options = CallOptions::default();
        Self { cache, key, linearizable: false, min_revision: 0, allow_stale: false, options }
    }

    call_settings!();

    /// Sees everything that was acknowledged before the call began, by whichever node and to
    /// whomever. Never answered from a near cache.
    pub fn linearizable(mut self) -> Self {
        self.linearizable = true;
        self
    }

    /// Sees this revision or a later one, besides all that this client knows of.
    pub fn min_revision(mut self, revision: u64) -> Self {
        self.min_revision = revision;
        self
    }

    /// Answers an entry whose ttl is over as well, for as long as it was to be shown
    /// ([`super::Set::stale_for`]).
    pub fn allow_stale(mut self) -> Self {
        self.allow_stale = true;
        self
    }

    async fn send(self) -> Result<Option<CacheEntry>, Error> {
        let Self { cache, key, linearizable, min_revision, allow_stale, options } = self;
        let counters = &cache.inner.cache.counters;
        let freshness = match linearizable {
            true => Freshness::Newest,
            false => cache.freshness(min_revision),
        };
        if let (Some(near), Freshness::At(revision)) = (cache.running_near(), freshness) {
            if let Some(entry) = near.get(&key, revision) {
                counters.near_hit();
                return Ok(Some(entry));
            }
            counters.near_miss();
        }
        let (consistency, min_revision) = freshness.wire();
        let request = || CacheGetRequest {
            namespace: cache.namespace.to_string(),
            key: key.clone(),
            consistency: consistency.into(),
            min_revision,
            allow_stale,
        };
        let plan = cache.inner.plan("cache get", Effect::Read, &options);
        let sent_at = Instant::now();
        let answer = cache.inner.read(&plan, request).await?;
        let entry = answer.entry.map(|entry| CacheEntry::read(entry, answer.revision));
        counters.read(entry.as_ref());
        if let (Some(near), Some(entry)) = (&cache.near, &entry) {
            near.offer(&key, entry, answer.group_id, sent_at);
        }
        Ok(entry)
    }
}

sent_when_awaited!(Get => Option<CacheEntry>);
