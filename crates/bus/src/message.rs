//! What is published.

use crate::limits::{
    HEADER_BYTES_MAX, HEADERS_MAX, MESSAGE_OVERHEAD_BYTES, NAMESPACE_BYTES_MAX, PAYLOAD_BYTES_MAX,
};
use crate::name::Name;
use crate::refusal::within;
use crate::{Epoch, Place, Position, Refusal, Sequence, check_channel};
use bytes::Bytes;
use std::sync::Arc;

/// What a publisher says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The bytes themselves.
    pub payload: Bytes,
    /// How to read them; empty when the publisher did not say.
    pub content_type: String,
    /// Names and values, in the publisher's order.
    pub headers: Vec<(String, String)>,
    /// The channel on which the publisher waits for replies.
    pub reply_to: Option<String>,
}

impl Content {
    /// Refuses what is too large to be published.
    ///
    /// # Errors
    /// When the payload, the headers or the channel to reply to are beyond their bounds.
    pub fn check(&self) -> Result<(), Refusal> {
        within("bytes of the payload", self.payload.len(), PAYLOAD_BYTES_MAX)?;
        within("headers", self.headers.len(), HEADERS_MAX)?;
        let bytes = self.bytes() - self.payload.len();
        within("bytes of headers and the like", bytes, HEADER_BYTES_MAX)?;
        self.reply_to.as_deref().map_or(Ok(()), check_channel)
    }

    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let reply_to = self.reply_to.as_ref().map_or(0, String::len);
        self.payload.len() + self.content_type.len() + headers.sum::<usize>() + reply_to
    }
}

/// A message with its numbers. A clone shares all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(Arc<Sent>);

#[derive(Debug, PartialEq, Eq)]
struct Sent {
    name: Name,
    place: Place,
    sequence: Sequence,
    content: Content,
}

impl Message {
    /// A message as a node received it from the leader.
    ///
    /// # Errors
    /// When the namespace or the channel is none.
    pub fn new(
        namespace: &str,
        channel: &str,
        place: Place,
        sequence: Sequence,
        content: Content,
    ) -> Result<Self, Refusal> {
        within("bytes of the namespace", namespace.len(), NAMESPACE_BYTES_MAX)?;
        check_channel(channel)?;
        Ok(Self::of(Name::new(namespace, channel), place, sequence, content))
    }

    pub(crate) fn of(name: Name, place: Place, sequence: Sequence, content: Content) -> Self {
        Self(Arc::new(Sent { name, place, sequence, content }))
    }

    /// In which namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.name.namespace()
    }

    /// On which channel.
    #[must_use]
    pub fn channel(&self) -> &str {
        self.0.name.name()
    }

    /// Which of all messages.
    #[must_use]
    pub fn place(&self) -> Place {
        self.0.place
    }

    /// Who sequenced it.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.place.epoch
    }

    /// Which of the epoch's messages.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.place.position
    }

    /// Which of the channel's messages in the epoch.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.0.sequence
    }

    /// What its publisher said.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.0.content
    }

    /// The bytes it counts for wherever it is kept.
    #[must_use]
    pub fn counted_bytes(&self) -> usize {
        let names = self.namespace().len() + self.channel().len();
        MESSAGE_OVERHEAD_BYTES + names + self.0.content.bytes()
    }

    pub(crate) fn name(&self) -> &Name {
        &self.0.name
    }
}
