//! The only place that knows how values and log entries are laid out in bytes.
//!
//! Every encoding begins with a header of two bytes, `{format, feature_level}`; the body is
//! bincode 2 (standard configuration: little endian, variable-length integers, positional).

use crate::Batch;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// The layout of everything this crate writes.
pub const FORMAT: u8 = 1;
/// The newest feature level this build understands.
pub const FEATURE_LEVEL: u8 = 1;
/// Decoding refuses to allocate more than this, in bytes, whatever the input says.
const DECODE_MAX: usize = 16 << 20;

/// Bytes that are no encoding of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Shorter than a header.
    #[error("the encoding is {0} bytes long, shorter than its header")]
    Truncated(usize),
    /// From a build with another layout.
    #[error("the encoding has format {0}; this build reads format {FORMAT}: run the version that wrote it")]
    Format(u8),
    /// From a build with newer commands.
    #[error("the encoding has feature level {0}; this build knows up to {FEATURE_LEVEL}: upgrade this node")]
    FeatureLevel(u8),
    /// The body does not decode.
    #[error("the encoding's body is malformed: {0}")]
    Body(String),
}

/// Encodes any value of this crate's formats.
///
/// # Panics
/// Never: the types of this crate always encode.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![FORMAT, FEATURE_LEVEL];
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("the crate's own types always encode, and a Vec takes any number of bytes");
    bytes
}

/// Decodes what [`encode`] wrote. Trailing bytes are refused.
///
/// # Errors
/// When the bytes are not an encoding of a `T` that this build knows. Never panics and never
/// allocates more than 16 MiB, whatever the bytes are.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let [format, level, body @ ..] = bytes else {
        return Err(CodecError::Truncated(bytes.len()));
    };
    if *format != FORMAT {
        return Err(CodecError::Format(*format));
    }
    if *level > FEATURE_LEVEL {
        return Err(CodecError::FeatureLevel(*level));
    }
    let config = bincode::config::standard().with_limit::<DECODE_MAX>();
    let (value, read) = bincode::serde::decode_from_slice(body, config)
        .map_err(|error| CodecError::Body(error.to_string()))?;
    if read != body.len() {
        return Err(CodecError::Body(format!("{} bytes follow it", body.len() - read)));
    }
    Ok(value)
}

/// Encodes the payload of a log entry.
#[must_use]
pub fn encode_batch(batch: &Batch) -> Bytes {
    Bytes::from(encode(batch))
}

/// Decodes the payload of a log entry.
///
/// # Errors
/// As [`decode`].
pub fn decode_batch(bytes: &[u8]) -> Result<Batch, CodecError> {
    decode(bytes)
}
