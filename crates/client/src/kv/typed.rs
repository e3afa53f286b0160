//! Values that are Rust types, stored as JSON, so that every other language can read them.

use super::{KeyValue, Set};
use crate::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;

/// Keys of one namespace whose values are all of one type. Cheap to clone.
pub struct TypedKeyValue<T> {
    kv: KeyValue,
    _type: PhantomData<fn() -> T>,
}

impl<T> Clone for TypedKeyValue<T> {
    fn clone(&self) -> Self {
        Self { kv: self.kv.clone(), _type: PhantomData }
    }
}

impl<T> fmt::Debug for TypedKeyValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedKeyValue").field(&self.kv).finish()
    }
}

/// A key with its value as a Rust type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Typed<T> {
    /// The value.
    pub value: T,
    /// From 1, plus one with every change.
    pub version: u64,
    /// When it was changed last.
    pub mod_revision: u64,
}

impl<T: Serialize + DeserializeOwned> TypedKeyValue<T> {
    pub(super) fn new(kv: KeyValue) -> Self {
        Self { kv, _type: PhantomData }
    }

    /// Reads a key; linearizable.
    ///
    /// # Errors
    /// Those of a read, and [`Error::InvalidArgument`] with the reason `NOT_THE_TYPE` when what is
    /// stored is not JSON of this type.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Typed<T>>, Error> {
        let key = key.as_ref();
        let Some(entry) = self.kv.get(key).await? else { return Ok(None) };
        let value =
            serde_json::from_slice(&entry.value).map_err(|error| Error::InvalidArgument {
                reason: "NOT_THE_TYPE".to_owned(),
                message: format!(
                    "the value of {} is no {}: {error}; read it as bytes, or under another type",
                    String::from_utf8_lossy(key),
                    std::any::type_name::<T>()
                ),
            })?;
        Ok(Some(Typed { value, version: entry.version, mod_revision: entry.mod_revision }))
    }

    /// Sets a key: a [`Set`] to be awaited, with all its conditions.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_SERIALIZABLE` when the value can't be JSON.
    pub fn set(&self, key: impl AsRef<[u8]>, value: &T) -> Result<Set, Error> {
        let json = serde_json::to_vec(value).map_err(|error| Error::InvalidArgument {
            reason: "NOT_SERIALIZABLE".to_owned(),
            message: format!("the value can't be written as JSON: {error}"),
        })?;
        Ok(self.kv.set(key, json))
    }
}
