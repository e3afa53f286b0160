//! `kv del-pattern`: deletes all keys that match, step by step.

use super::{KeyValue, Keys, call_settings, guard_setting};
use crate::Error;
use crate::client::CallOptions;
use bytes::Bytes;
use futures::future::BoxFuture;
use quorate_proto::v1::DeletePatternRequest;
use std::future::IntoFuture;

/// Keys were deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletedPattern {
    /// How many.
    pub deleted: u64,
    /// In how many steps.
    pub steps: u64,
    /// When the last step happened.
    pub revision: u64,
}

/// A deletion of many keys; sent when awaited, a step at a time until nothing is left.
///
/// Each step is atomic; the whole is not: others may see some keys gone and some not, and a key that
/// is set meanwhile may or may not be deleted. When a step fails, the steps before it stay done, and
/// the same deletion may be made again. Each step is guarded by itself: one that comes after the lock
/// was lost is refused.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct DeletePattern {
    kv: KeyValue,
    keys: Keys,
    step_keys: u32,
    options: CallOptions,
}

impl DeletePattern {
    pub(super) fn new(kv: KeyValue, keys: Keys) -> Self {
        Self { kv, keys, step_keys: 0, options: CallOptions::default() }
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
        let Self { kv, keys, step_keys, options } = self;
        let mut done = DeletedPattern { deleted: 0, steps: 0, revision: 0 };
        let mut cursor = Bytes::new();
        loop {
            let request = |origin| DeletePatternRequest {
                namespace: kv.namespace.to_string(),
                origin: Some(origin),
                selector: Some(keys.selector()),
                cursor: cursor.clone(),
                keys_max: step_keys,
            };
            let answer =
                kv.inner.mutate("kv del-pattern", &kv.namespace, &options, request).await?;
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

impl IntoFuture for DeletePattern {
    type Output = Result<DeletedPattern, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
