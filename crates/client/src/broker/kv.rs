//! Key-value over any adapter.

use super::{Broker, Items, json};
use crate::{Error, LockGuard};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Keys that [`KeyValue::list`] answers at most. More are to be read by pages.
const LIST_KEYS_MAX: usize = 10_000;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// From 1, plus one with every change; `None` where there are no versions.
    pub version: Option<u64>,
}

/// Some of the keys that match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvPage {
    /// In no particular order; a key may come again on a later page.
    pub entries: Vec<KvEntry>,
    /// Where the next page begins; none on the last one. Means something only to the adapter that
    /// gave it.
    pub cursor: Option<Bytes>,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvChange {
    /// The key.
    pub key: Bytes,
    /// Its value now; `None` when it is gone.
    pub value: Option<Bytes>,
}

/// How a key is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// It lives this long, at least 1 ms; without it until it is deleted.
    pub ttl: Option<Duration>,
    /// Only if this holds; else [`Error::ConditionFailed`].
    pub condition: Option<Condition>,
    /// Only if this lock is still held under this token; else [`Error::LockLost`].
    pub guard: Option<LockGuard>,
}

impl SetOptions {
    /// Whatever there is, and without a ttl.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It lives this long.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Only if the key does not exist.
    #[must_use]
    pub fn if_absent(mut self) -> Self {
        self.condition = Some(Condition::Absent);
        self
    }

    /// Only if the key has exactly this version.
    #[must_use]
    pub fn if_version(mut self, version: u64) -> Self {
        self.condition = Some(Condition::Version(version));
        self
    }

    /// Only if this lock is still held under this token.
    #[must_use]
    pub fn guard(mut self, guard: LockGuard) -> Self {
        self.guard = Some(guard);
        self
    }
}

/// What must be so for a key to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key does not exist.
    Absent,
    /// The key has exactly this version.
    Version(u64),
}

/// Reads and writes keys. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyValue {
    broker: Arc<dyn Broker>,
}

impl KeyValue {
    /// Over this adapter.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// `NOT_THE_TYPE` when what is stored is not JSON of this type; otherwise those of
    /// [`Broker::kv_get`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, Error> {
        let key = key.as_ref();
        let entry = self.broker.kv_get(key).await?;
        entry.map(|entry| json::decode(&json::value_of(key), &entry.value)).transpose()
    }

    /// Reads a key as bytes, with its version.
    ///
    /// # Errors
    /// Those of [`Broker::kv_get`].
    pub async fn get_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<KvEntry>, Error> {
        self.broker.kv_get(key.as_ref()).await
    }

    /// Sets a key; it lives until it is deleted.
    ///
    /// # Errors
    /// `NOT_SERIALIZABLE` when the value can't be JSON; otherwise those of [`Broker::kv_set`].
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: &(impl Serialize + Sync + ?Sized),
    ) -> Result<Option<u64>, Error> {
        self.set_with(key, value, SetOptions::new()).await
    }

    /// Sets a key with all that can be said of it; answers its version, if there are versions.
    ///
    /// # Errors
    /// As [`KeyValue::set`].
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: &(impl Serialize + Sync + ?Sized),
        options: SetOptions,
    ) -> Result<Option<u64>, Error> {
        self.broker.kv_set(key.as_ref(), json::encode(value)?, options).await
    }

    /// Sets a key to bytes.
    ///
    /// # Errors
    /// Those of [`Broker::kv_set`].
    pub async fn set_bytes(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        options: SetOptions,
    ) -> Result<Option<u64>, Error> {
        self.broker.kv_set(key.as_ref(), value.into(), options).await
    }

    /// Deletes a key; answers whether there was one.
    ///
    /// # Errors
    /// Those of [`Broker::kv_delete`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.broker.kv_delete(key.as_ref()).await
    }

    /// Adds to a number, which counts as 0 when it is not there; answers the sum.
    ///
    /// # Errors
    /// Those of [`Broker::kv_increment`].
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, Error> {
        self.broker.kv_increment(key.as_ref(), by).await
    }

    /// All keys that match a pattern, with their values, by their keys.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] with the reason `TOO_MANY_KEYS` when more than 10 000 match: read
    /// them by pages, with [`Broker::kv_list`]. Otherwise those of that, and those of
    /// [`KeyValue::get`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        pattern: impl AsRef<[u8]>,
    ) -> Result<BTreeMap<Bytes, T>, Error> {
        let pattern = pattern.as_ref();
        let (mut found, mut cursor) = (BTreeMap::new(), None);
        loop {
            let page = self.broker.kv_list(pattern, cursor).await?;
            for KvEntry { key, value, .. } in page.entries {
                let value = json::decode(&json::value_of(&key), &value)?;
                found.insert(key, value);
            }
            if found.len() > LIST_KEYS_MAX {
                let pattern = String::from_utf8_lossy(pattern);
                return Err(Error::ResourceExhausted {
                    reason: "TOO_MANY_KEYS".to_owned(),
                    message: format!(
                        "more than {LIST_KEYS_MAX} keys match {pattern}; read them by pages"
                    ),
                });
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(found);
            }
        }
    }

    /// Each change of a key that matches, from now on. Dropping the answer ends it.
    ///
    /// # Errors
    /// Those of [`Broker::kv_watch`].
    pub async fn watch(&self, pattern: impl AsRef<[u8]>) -> Result<Items<KvChange>, Error> {
        self.broker.kv_watch(pattern.as_ref()).await
    }
}
