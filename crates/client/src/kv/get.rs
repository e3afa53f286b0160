//! `kv get`: reads one key.

use super::{KeyValue, call_settings};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use bytes::Bytes;
use futures::future::BoxFuture;
use quorate_proto::v1::{Consistency, GetRequest, KvEntry};
use std::future::IntoFuture;
use std::time::Duration;

/// A key with its history marks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// 1 when it was created, plus one with every change since. For `if_version`.
    pub version: u64,
    /// Revision that created it.
    pub create_revision: u64,
    /// Revision that changed it last.
    pub mod_revision: u64,
    /// How long it has to live, by the cluster's clock; `None` when it has no ttl.
    pub remaining_ttl: Option<Duration>,
}

impl From<KvEntry> for Entry {
    fn from(entry: KvEntry) -> Self {
        Self {
            key: entry.key,
            value: entry.value,
            version: entry.version,
            create_revision: entry.create_revision,
            mod_revision: entry.mod_revision,
            remaining_ttl: entry.remaining_ttl_ms.map(Duration::from_millis),
        }
    }
}

/// A read; sent when awaited. Answers the entry, or `None` when the key does not exist.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Get {
    kv: KeyValue,
    key: Bytes,
    consistency: Consistency,
    min_revision: u64,
    options: CallOptions,
}

impl Get {
    pub(super) fn new(kv: KeyValue, key: Bytes) -> Self {
        let consistency = Consistency::Linearizable;
        Self { kv, key, consistency, min_revision: 0, options: CallOptions::default() }
    }

    call_settings!();

    /// Reads from whatever the node that answers has applied; see [`KeyValue::get_stale`].
    pub fn stale(mut self) -> Self {
        self.consistency = Consistency::Stale;
        self
    }

    /// Sees this revision or a later one. Makes a stale read see one's own writes.
    pub fn min_revision(mut self, revision: u64) -> Self {
        self.min_revision = revision;
        self
    }

    async fn send(self) -> Result<Option<Entry>, Error> {
        let Self { kv, key, consistency, min_revision, options } = self;
        let request = GetRequest {
            namespace: kv.namespace.to_string(),
            key,
            consistency: consistency.into(),
            min_revision,
        };
        let plan = kv.inner.plan("kv get", Effect::Read, &options);
        let answer = kv.inner.read(&plan, || request.clone()).await?;
        Ok(answer.entry.map(Entry::from))
    }
}

impl IntoFuture for Get {
    type Output = Result<Option<Entry>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
