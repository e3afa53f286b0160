//! The cache over any adapter.

use super::{Broker, json};
use crate::Error;
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// What builds a value. It may be called again when what it made came too late to be stored.
pub type Build = Box<dyn FnMut() -> BoxFuture<'static, Result<Bytes, Error>> + Send>;

/// Reads and writes the cache. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {
    broker: Arc<dyn Broker>,
}

impl Cache {
    /// Over this adapter.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker }
    }

    /// Reads a key; a miss is no error.
    ///
    /// # Errors
    /// `NOT_THE_TYPE` when what is stored is not JSON of this type; otherwise those of
    /// [`Broker::cache_get`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, Error> {
        let key = key.as_ref();
        let value = self.broker.cache_get(key).await?;
        value.map(|value| json::decode(&json::value_of(key), &value)).transpose()
    }

    /// Reads a key as bytes.
    ///
    /// # Errors
    /// Those of [`Broker::cache_get`].
    pub async fn get_bytes(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        self.broker.cache_get(key.as_ref()).await
    }

    /// Sets a key; it is kept for this long at most.
    ///
    /// # Errors
    /// `NOT_SERIALIZABLE` when the value can't be JSON; otherwise those of [`Broker::cache_set`].
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: &(impl Serialize + Sync + ?Sized),
        ttl: Duration,
    ) -> Result<(), Error> {
        self.broker.cache_set(key.as_ref(), json::encode(value)?, Some(ttl)).await
    }

    /// Sets a key to bytes, with a ttl or none.
    ///
    /// # Errors
    /// Those of [`Broker::cache_set`].
    pub async fn set_bytes(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<(), Error> {
        self.broker.cache_set(key.as_ref(), value.into(), ttl).await
    }

    /// Deletes a key; answers whether there was one.
    ///
    /// # Errors
    /// Those of [`Broker::cache_delete`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.broker.cache_delete(key.as_ref()).await
    }

    /// Deletes the keys that match a pattern; answers how many.
    ///
    /// # Errors
    /// Those of [`Broker::cache_delete_pattern`].
    pub async fn delete_pattern(&self, pattern: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.broker.cache_delete_pattern(pattern.as_ref()).await
    }

    /// The value of a key; if there is none, what `build` makes. Of all that miss it at once one
    /// builds it, and the others wait for that.
    ///
    /// # Errors
    /// What `build` says; [`Error::BuildFailed`] when it was another's; otherwise those of
    /// [`Broker::cache_get_or_build`], and those of [`Cache::get`].
    pub async fn get_or_build<T, F, B>(
        &self,
        key: impl AsRef<[u8]>,
        ttl: Duration,
        mut build: B,
    ) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, Error>> + Send + 'static,
        B: FnMut() -> F + Send + 'static,
    {
        let build: Build = Box::new(move || {
            let building = build();
            Box::pin(async move { json::encode(&building.await?) })
        });
        let key = key.as_ref();
        let value = self.broker.cache_get_or_build(key, Some(ttl), build).await?;
        json::decode(&json::value_of(key), &value)
    }
}
