//! What is published on the bus.

use crate::bounded;
use crate::limits::PUBLICATION_HEADERS_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A message of the bus. The state machine keeps none: it only says, as
/// [`crate::Event::Published`], when a transaction that has one has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// 1 byte to 1 KiB.
    pub channel: String,
    /// At most 1 MiB.
    pub payload: Bytes,
    /// Of the payload, at most 256 bytes; empty when it has none.
    pub content_type: String,
    /// Names and values, in their order; at most [`PUBLICATION_HEADERS_MAX`], of 8 KiB together.
    #[serde(deserialize_with = "bounded::list::<PUBLICATION_HEADERS_MAX, _, _>")]
    pub headers: Vec<(String, String)>,
}

impl Publication {
    /// Bytes of its channel, payload, content type and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len() + self.content_type.len() + self.header_bytes()
    }

    /// Bytes of the names and values of its headers.
    pub(crate) fn header_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}
