//! `kv set`: sets one key, perhaps on a condition.

use super::{KeyValue, call_settings, guard_setting, millis, mutation_settings};
use crate::Error;
use crate::client::CallOptions;
use bytes::Bytes;
use futures::future::BoxFuture;
use quorate_proto::v1::SetRequest;
use quorate_proto::v1::set_request::Expect;
use std::future::IntoFuture;
use std::time::Duration;

/// A key was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The key's version now.
    pub version: u64,
    /// When it happened.
    pub revision: u64,
}

/// A write; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Set {
    kv: KeyValue,
    key: Bytes,
    value: Bytes,
    ttl: Option<Duration>,
    expect: Option<Expect>,
    ephemeral: bool,
    options: CallOptions,
}

impl Set {
    pub(super) fn new(kv: KeyValue, key: Bytes, value: Bytes) -> Self {
        let options = CallOptions::default();
        Self { kv, key, value, ttl: None, expect: None, ephemeral: false, options }
    }

    mutation_settings!();

    /// The key lives this long, 1 ms to ten years; parts of a millisecond count as a whole one.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Only if the key has exactly this version; else [`Error::ConditionFailed`]. Replaces
    /// [`Set::if_absent`].
    pub fn if_version(mut self, version: u64) -> Self {
        self.expect = Some(Expect::IfVersion(version));
        self
    }

    /// Only if the key does not exist; else [`Error::ConditionFailed`]. Replaces
    /// [`Set::if_version`].
    pub fn if_absent(mut self) -> Self {
        self.expect = Some(Expect::IfAbsent(true));
        self
    }

    /// The key is deleted when the client's session ends: when the client is closed, or has not
    /// been heard of for the session's ttl. A later write without this keeps it.
    pub fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    async fn send(self) -> Result<Written, Error> {
        let Self { kv, key, value, ttl, expect, ephemeral, options } = self;
        let ttl_ms = ttl.map(millis);
        let request = |origin| SetRequest {
            namespace: kv.namespace.to_string(),
            origin: Some(origin),
            key: key.clone(),
            value: value.clone(),
            ttl_ms,
            expect,
            ephemeral,
        };
        let answer = kv.inner.mutate("kv set", &kv.namespace, &options, request).await?;
        Ok(Written { version: answer.version, revision: answer.revision })
    }
}

impl IntoFuture for Set {
    type Output = Result<Written, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
