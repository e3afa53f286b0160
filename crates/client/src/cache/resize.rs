//! `cache resize`: changes the bound of the cache.

use super::{Cache, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, mutation_settings};
use quorate_proto::v1::CacheResizeRequest;

/// The bound was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resized {
    /// What it was before, in bytes.
    pub previous_bytes_max: u64,
}

/// A change of the bound; sent when awaited. What is above a smaller one is evicted a little later.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Resize {
    cache: Cache,
    bytes_max: u64,
    options: CallOptions,
}

impl Resize {
    pub(super) fn new(cache: Cache, bytes_max: u64) -> Self {
        Self { cache, bytes_max, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<Resized, Error> {
        let Self { cache, bytes_max, options } = self;
        let request = |origin| CacheResizeRequest {
            namespace: cache.namespace.to_string(),
            origin: Some(origin),
            bytes_max,
        };
        let answer =
            cache.inner.mutate("cache resize", &cache.namespace, &options, request).await?;
        Ok(Resized { previous_bytes_max: answer.previous_bytes_max })
    }
}

sent_when_awaited!(Resize => Resized);
