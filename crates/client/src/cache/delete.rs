//! `cache del`: deletes one key.

use super::{Cache, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{Deleted, call_settings, guard_setting, mutation_settings};
use bytes::Bytes;
use quorate_proto::v1::CacheDeleteRequest;

/// A deletion; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Delete {
    cache: Cache,
    key: Bytes,
    options: CallOptions,
}

impl Delete {
    pub(super) fn new(cache: Cache, key: Bytes) -> Self {
        Self { cache, key, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<Deleted, Error> {
        let Self { cache, key, options } = self;
        let request = |origin| CacheDeleteRequest {
            namespace: cache.namespace.to_string(),
            origin: Some(origin),
            key: key.clone(),
        };
        let answer = cache.inner.mutate("cache del", &cache.namespace, &options, request).await;
        // Whatever became of it.
        cache.forget(&key);
        let answer = answer?;
        Ok(Deleted { deleted: answer.deleted, revision: answer.revision })
    }
}

sent_when_awaited!(Delete => Deleted);
