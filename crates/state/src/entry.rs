//! A log entry's payload as it travels and is stored: encoded once where it is proposed, decoded once on
//! each node, when it is applied.

use crate::Batch;
use crate::codec::{self, CodecError};
use bytes::Bytes;

/// An encoded [`Batch`]. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct EntryBody(Bytes);

impl EntryBody {
    /// Encodes a batch.
    #[must_use]
    pub fn new(batch: &Batch) -> Self {
        Self(codec::encode_batch(batch))
    }

    /// Takes bytes from the wire or the disk; they are checked when [`EntryBody::batch`] is called.
    #[must_use]
    pub fn from_encoded(encoded: Bytes) -> Self {
        Self(encoded)
    }

    /// The encoded form.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// Decodes it. A command of 30 bytes takes 400 decoded, in many small pieces of memory, so what this
    /// returns is not to be kept.
    ///
    /// # Errors
    /// When the bytes are not a batch of a known format.
    pub fn batch(&self) -> Result<Batch, CodecError> {
        codec::decode_batch(&self.0)
    }
}
