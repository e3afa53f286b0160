//! `cache set`: sets one key.

use super::{Cache, CachePolicy, policy_settings, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, mutation_settings};
use bytes::Bytes;
use quorate_proto::v1::CacheSetRequest;

/// The cache was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// When it happened.
    pub revision: u64,
}

/// A write; sent when awaited. [`Error::ResourceExhausted`] with the reason `CACHE_FULL` while room
/// is being made in the cache: nothing has changed, and it may be called again a little later.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Set {
    cache: Cache,
    key: Bytes,
    value: Bytes,
    policy: CachePolicy,
    options: CallOptions,
}

impl Set {
    pub(super) fn new(cache: Cache, key: Bytes, value: Bytes) -> Self {
        let (policy, options) = (CachePolicy::default(), CallOptions::default());
        Self { cache, key, value, policy, options }
    }

    mutation_settings!();
    policy_settings!(policy);

    async fn send(self) -> Result<Written, Error> {
        let Self { cache, key, value, policy, options } = self;
        let request = |origin| CacheSetRequest {
            namespace: cache.namespace.to_string(),
            origin: Some(origin),
            key: key.clone(),
            value: value.clone(),
            policy: Some(policy.wire()),
        };
        let answer = cache.store("cache set", &options, request).await;
        // Whatever became of it.
        cache.forget(&key);
        Ok(Written { revision: answer?.revision })
    }
}

sent_when_awaited!(Set => Written);

impl Cache {
    /// Removes this process's copy.
    pub(super) fn forget(&self, key: &Bytes) {
        if let Some(near) = &self.near {
            near.forget(key);
        }
    }
}
