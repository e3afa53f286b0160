//! `cache touch`: begins the ttl of an entry anew.

use super::{Cache, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, millis, mutation_settings};
use bytes::Bytes;
use quorate_proto::v1::CacheTouchRequest;
use std::time::Duration;

/// The ttl was begun anew, if there was an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Touched {
    /// Whether there was one, fresh or stale.
    pub found: bool,
    /// When it happened.
    pub revision: u64,
}

/// A new beginning of a ttl; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Touch {
    cache: Cache,
    key: Bytes,
    ttl: Option<Duration>,
    options: CallOptions,
}

impl Touch {
    pub(super) fn new(cache: Cache, key: Bytes) -> Self {
        Self { cache, key, ttl: None, options: CallOptions::default() }
    }

    mutation_settings!();

    /// It is fresh for this long from now on, 1 ms to ten years; parts of a millisecond count as a
    /// whole one.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    async fn send(self) -> Result<Touched, Error> {
        let Self { cache, key, ttl, options } = self;
        let request = |origin| CacheTouchRequest {
            namespace: cache.namespace.to_string(),
            origin: Some(origin),
            key: key.clone(),
            ttl_ms: ttl.map(millis),
        };
        let answer = cache.inner.mutate("cache touch", &cache.namespace, &options, request).await;
        // The copy would live as long as before.
        cache.forget(&key);
        let answer = answer?;
        Ok(Touched { found: answer.found, revision: answer.revision })
    }
}

sent_when_awaited!(Touch => Touched);
