//! `cache del-pattern`: deletes all keys that match, step by step.

use super::{Cache, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{DeletedPattern, Keys, call_settings, guard_setting};
use bytes::Bytes;
use quorate_proto::v1::CacheDeletePatternRequest;

/// A deletion of many keys; sent when awaited, a step at a time until nothing is left.
///
/// Each step is atomic; the whole is not: others may see some keys gone and some not, and a key that
/// is set meanwhile may or may not be deleted. When a step fails, the steps before it stay done, and
/// the same deletion may be made again. Each step is guarded by itself.
///
/// Its work grows with the keys that the pattern's first bytes, up to its first wildcard, leave; tags
/// ([`Cache::invalidate_tags`]) cost the same however many entries have them.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct DeletePattern {
    cache: Cache,
    keys: Keys,
    step_keys: u32,
    options: CallOptions,
}

impl DeletePattern {
    pub(super) fn new(cache: Cache, keys: Keys) -> Self {
        Self { cache, keys, step_keys: 0, options: CallOptions::default() }
    }

    call_settings!();
    guard_setting!();

    /// Keys a step deletes at most, up to 10 000; default: 200. The time of a call counts for
    /// each step.
    pub fn step_keys(mut self, keys: u32) -> Self {
        self.step_keys = keys;
        self
    }

    async fn send(self) -> Result<DeletedPattern, Error> {
        let done = self.steps().await;
        // Which of this process's copies match is the cluster's to say, and it does so a little later.
        if let Some(near) = &self.cache.near {
            near.forget_all();
        }
        done
    }

    async fn steps(&self) -> Result<DeletedPattern, Error> {
        let Self { cache, keys, step_keys, options } = self;
        let mut done = DeletedPattern { deleted: 0, steps: 0, revision: 0 };
        let mut cursor = Bytes::new();
        loop {
            let request = |origin| CacheDeletePatternRequest {
                namespace: cache.namespace.to_string(),
                origin: Some(origin),
                selector: Some(keys.selector()),
                cursor: cursor.clone(),
                keys_max: *step_keys,
            };
            let answer =
                cache.inner.mutate("cache del-pattern", &cache.namespace, options, request).await?;
            done.deleted += answer.deleted;
            done.steps += 1;
            done.revision = answer.revision;
            // A cursor that does not move would go on for ever.
            if answer.cursor.is_empty() || answer.cursor <= cursor {
                return Ok(done);
            }
            cursor = answer.cursor;
        }
    }
}

sent_when_awaited!(DeletePattern => DeletedPattern);
