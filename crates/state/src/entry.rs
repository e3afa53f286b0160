//! A log entry's payload, encoded once where it is proposed and decoded at most once per node.

use crate::Batch;
use crate::codec::{self, CodecError};
use bytes::Bytes;
use std::sync::OnceLock;

/// An encoded [`Batch`], decoded when it is first needed.
#[derive(Debug)]
pub struct EntryBody {
    encoded: Bytes,
    decoded: OnceLock<Batch>,
}

impl EntryBody {
    /// Encodes a batch.
    #[must_use]
    pub fn new(batch: Batch) -> Self {
        let encoded = codec::encode_batch(&batch);
        Self { encoded, decoded: OnceLock::from(batch) }
    }

    /// Takes bytes from the wire or the disk; they are checked when [`EntryBody::batch`] is called.
    #[must_use]
    pub fn from_encoded(encoded: Bytes) -> Self {
        Self { encoded, decoded: OnceLock::new() }
    }

    /// The encoded form.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The decoded form.
    ///
    /// # Errors
    /// When the bytes are not a batch of a known format.
    pub fn batch(&self) -> Result<&Batch, CodecError> {
        if let Some(batch) = self.decoded.get() {
            return Ok(batch);
        }
        let batch = codec::decode_batch(&self.encoded)?;
        Ok(self.decoded.get_or_init(|| batch))
    }
}
