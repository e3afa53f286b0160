//! Values as JSON, which every language reads.

use crate::Error;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a value.
pub(super) fn encode(value: &(impl Serialize + ?Sized)) -> Result<Bytes, Error> {
    let json = serde_json::to_vec(value).map_err(|error| Error::InvalidArgument {
        reason: "NOT_SERIALIZABLE".to_owned(),
        message: format!("the value can't be written as JSON: {error}"),
    })?;
    Ok(json.into())
}

/// Reads a value; `of` says where it comes from.
pub(super) fn decode<T: DeserializeOwned>(of: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::InvalidArgument {
        reason: "NOT_THE_TYPE".to_owned(),
        message: format!(
            "{of} is no {}: {error}; read it as bytes, or under another type",
            std::any::type_name::<T>()
        ),
    })
}

/// What a key is called in a text.
pub(super) fn value_of(key: &[u8]) -> String {
    format!("the value of {}", String::from_utf8_lossy(key))
}
