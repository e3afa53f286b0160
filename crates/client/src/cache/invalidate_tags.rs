//! `cache invalidate-tags`: makes all entries vanish that have one of the tags.

use super::{Cache, Written, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, mutation_settings};
use quorate_proto::v1::CacheInvalidateTagsRequest;

/// An invalidation; sent when awaited. All entries are gone at one moment. What is being built with
/// one of the tags is too late then.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct InvalidateTags {
    cache: Cache,
    tags: Vec<String>,
    options: CallOptions,
}

impl InvalidateTags {
    pub(super) fn new(cache: Cache, tags: Vec<String>) -> Self {
        Self { cache, tags, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<Written, Error> {
        let Self { cache, tags, options } = self;
        let request = |origin| CacheInvalidateTagsRequest {
            namespace: cache.namespace.to_string(),
            origin: Some(origin),
            tags: tags.clone(),
        };
        let what = "cache invalidate-tags";
        let answer = cache.inner.mutate(what, &cache.namespace, &options, request).await;
        // Whatever became of it.
        if let Some(near) = &cache.near {
            near.forget_tags(&tags);
        }
        Ok(Written { revision: answer?.revision })
    }
}

sent_when_awaited!(InvalidateTags => Written);
