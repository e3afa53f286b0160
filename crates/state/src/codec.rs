//! The only place that knows how values and log entries are laid out in bytes.
//!
//! Every encoding begins with a header of two bytes, `{format, feature_level}`; the body is
//! bincode 2 (standard configuration: little endian, variable-length integers, positional). The
//! level is the one that a reader has to know for this very value, so replicas write the same bytes,
//! and an older build can say of a value that it is too new.

use crate::{Batch, Envelope, FeatureLevel};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use xxhash_rust::xxh3::Xxh3;

/// The layout of everything this crate writes.
pub const FORMAT: u8 = 1;
/// The newest feature level this build understands. What each level brought, and how one is added,
/// stands in docs/versions.md. Unit tests play a newer build, so that whatever writes this level by
/// mistake differs from the frozen bytes.
pub const FEATURE_LEVEL: u8 = if cfg!(test) { 2 } else { 1 };
/// The longest byte string, in bytes, a decode takes on the word of a length prefix.
const DECODE_MAX: usize = 16 << 20;

/// Bytes that are no encoding of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Shorter than a header.
    #[error("the encoding is {0} bytes long, shorter than its header")]
    Truncated(usize),
    /// From a build with another layout.
    #[error(
        "the encoding has format {0}; this build reads format {FORMAT}: run the version that wrote it"
    )]
    Format(u8),
    /// From a build with newer commands.
    #[error(
        "the encoding has feature level {0}; this build knows up to {FEATURE_LEVEL}: upgrade this node"
    )]
    FeatureLevel(u8),
    /// The body does not decode.
    #[error("the encoding's body is malformed: {0}")]
    Body(String),
}

/// Encodes any value of this crate's formats that every build can read.
///
/// # Panics
/// Never: the types of this crate always encode.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_with_capacity(value, 62)
}

/// As [`encode`], with room for a body of about `body_bytes`, so that a large value is copied
/// once and not once per doubling.
pub(crate) fn encode_with_capacity<T: Serialize>(value: &T, body_bytes: usize) -> Vec<u8> {
    encode_for(FeatureLevel::FIRST, value, body_bytes)
}

/// Encodes what only readers understand that know a level.
pub(crate) fn encode_for<T: Serialize>(
    level: FeatureLevel,
    value: &T,
    body_bytes: usize,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + body_bytes);
    bytes.extend([FORMAT, level.0]);
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("the crate's own types always encode, and a Vec takes any number of bytes");
    bytes
}

/// A hash of a value's encoded body. The header is left out, so that a request that is repeated
/// after an upgrade is still recognised.
pub(crate) fn fingerprint<T: Serialize>(value: &T) -> u64 {
    struct Sink(Xxh3);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Sink(Xxh3::new());
    bincode::serde::encode_into_std_write(value, &mut sink, bincode::config::standard())
        .expect("the crate's own types always encode, and a hash takes any number of bytes");
    sink.0.digest()
}

/// Decodes what [`encode`] wrote. Trailing bytes are refused.
///
/// # Errors
/// When the bytes are not an encoding of a `T` that this build knows. Never panics, whatever the
/// bytes are. What it allocates is proportional to the bytes given, or at most 16 MiB where a
/// length prefix lies; see `tests/decode_allocation.rs`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let body = body_of(bytes)?;
    let config = bincode::config::standard().with_limit::<DECODE_MAX>();
    let (value, read) = bincode::serde::decode_from_slice(body, config)
        .map_err(|error| CodecError::Body(error.to_string()))?;
    fully_read(body, read)?;
    Ok(value)
}

/// As [`decode`], for a type that borrows its byte strings from the encoding.
pub(crate) fn decode_borrowed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let body = body_of(bytes)?;
    let config = bincode::config::standard().with_limit::<DECODE_MAX>();
    let (value, read) = bincode::serde::borrow_decode_from_slice(body, config)
        .map_err(|error| CodecError::Body(error.to_string()))?;
    fully_read(body, read)?;
    Ok(value)
}

fn body_of(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let [format, level, body @ ..] = bytes else {
        return Err(CodecError::Truncated(bytes.len()));
    };
    if *format != FORMAT {
        return Err(CodecError::Format(*format));
    }
    if *level > FEATURE_LEVEL {
        return Err(CodecError::FeatureLevel(*level));
    }
    Ok(body)
}

fn fully_read(body: &[u8], read: usize) -> Result<(), CodecError> {
    if read == body.len() {
        return Ok(());
    }
    Err(CodecError::Body(format!("{} bytes follow it", body.len() - read)))
}

/// Encodes the payload of a log entry, for readers that know all of its commands.
#[must_use]
pub fn encode_batch(batch: &Batch) -> Bytes {
    Bytes::from(encode_for(batch.level(), batch, 62))
}

/// Encodes a command for another node, which has to know it.
#[must_use]
pub fn encode_envelope(envelope: &Envelope) -> Bytes {
    Bytes::from(encode_for(envelope.level(), envelope, 62))
}

/// Decodes the payload of a log entry.
///
/// # Errors
/// As [`decode`].
pub fn decode_batch(bytes: &[u8]) -> Result<Batch, CodecError> {
    decode(bytes)
}
