//! Values that are Rust types, stored as JSON, so that every other language can read them.

use super::{BuildError, BuildOptions, Cache, Set};
use crate::Error;
use crate::kv::owned;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;

/// The cache of one namespace, with values that are all of one type. Cheap to clone.
pub struct TypedCache<T> {
    cache: Cache,
    _type: PhantomData<fn() -> T>,
}

impl<T> Clone for TypedCache<T> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), _type: PhantomData }
    }
}

impl<T> fmt::Debug for TypedCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedCache").field(&self.cache).finish()
    }
}

impl<T: Serialize + DeserializeOwned> TypedCache<T> {
    pub(super) fn new(cache: Cache) -> Self {
        Self { cache, _type: PhantomData }
    }

    /// Reads a key; see [`Cache::get`].
    ///
    /// # Errors
    /// Those of a read, and [`Error::InvalidArgument`] with the reason `NOT_THE_TYPE` when what is
    /// stored is not JSON of this type.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<T>, Error> {
        let key = key.as_ref();
        match self.cache.get(key).await? {
            Some(entry) => parse(key, &entry.value).map(Some),
            None => Ok(None),
        }
    }

    /// Sets a key: a [`Set`] to be awaited, with all its settings.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_SERIALIZABLE` when the value can't be JSON.
    pub fn set(&self, key: impl AsRef<[u8]>, value: &T) -> Result<Set, Error> {
        Ok(self.cache.set(key, json(value)?))
    }

    /// The value of a key; if there is none, what `build` makes; see [`Cache::get_or_build`].
    ///
    /// # Errors
    /// As there; and [`BuildError::Client`] with the reason `NOT_THE_TYPE` or `NOT_SERIALIZABLE`.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn get_or_build<E, F, B>(
        &self,
        key: impl AsRef<[u8]>,
        options: BuildOptions,
        mut build: B,
    ) -> Result<T, BuildError<E>>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        B: FnMut() -> F + Send + 'static,
    {
        let key = key.as_ref();
        let build = move || {
            let building = build();
            async move {
                let value = building.await.map_err(BuildError::Build)?;
                Ok(Bytes::from(json(&value)?))
            }
        };
        let value = self.cache.obtain(owned(key), options, build).await?;
        Ok(parse(key, &value.value)?)
    }
}

fn parse<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|error| Error::InvalidArgument {
        reason: "NOT_THE_TYPE".to_owned(),
        message: format!(
            "the value of {} is no {}: {error}; read it as bytes, or under another type",
            String::from_utf8_lossy(key),
            std::any::type_name::<T>()
        ),
    })
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::InvalidArgument {
        reason: "NOT_SERIALIZABLE".to_owned(),
        message: format!("the value can't be written as JSON: {error}"),
    })
}
