//! `kv del`: deletes one key, perhaps on a condition.

use super::{KeyValue, call_settings, guard_setting, mutation_settings};
use crate::Error;
use crate::client::CallOptions;
use bytes::Bytes;
use futures::future::BoxFuture;
use quorate_proto::v1::DeleteRequest;
use std::future::IntoFuture;

/// A key is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// Whether there was one.
    pub deleted: bool,
    /// When it happened.
    pub revision: u64,
}

/// A deletion; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Delete {
    kv: KeyValue,
    key: Bytes,
    if_version: Option<u64>,
    options: CallOptions,
}

impl Delete {
    pub(super) fn new(kv: KeyValue, key: Bytes) -> Self {
        Self { kv, key, if_version: None, options: CallOptions::default() }
    }

    mutation_settings!();

    /// Only if the key has exactly this version; else [`Error::ConditionFailed`].
    pub fn if_version(mut self, version: u64) -> Self {
        self.if_version = Some(version);
        self
    }

    async fn send(self) -> Result<Deleted, Error> {
        let Self { kv, key, if_version, options } = self;
        let request = |origin| DeleteRequest {
            namespace: kv.namespace.to_string(),
            origin: Some(origin),
            key: key.clone(),
            if_version,
        };
        let answer = kv.inner.mutate("kv del", &kv.namespace, &options, request).await?;
        Ok(Deleted { deleted: answer.deleted, revision: answer.revision })
    }
}

impl IntoFuture for Delete {
    type Output = Result<Deleted, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
