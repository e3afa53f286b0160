//! What a subscription hands out.

use super::content::{self, Content};
use super::{Bus, Reply};
use crate::Error;
use crate::trace::TraceContext;
use bytes::Bytes;
use quorate_proto::v1::BusMessage;
use serde::de::DeserializeOwned;

/// What a subscription hands out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BusEvent {
    /// A message.
    Message(Message),
    /// Messages are missing here.
    #[non_exhaustive]
    Gap {
        /// How many that the subscription would have received; `None`: some, or none, that is not
        /// known.
        missed: Option<u64>,
    },
}

/// A message that was published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message {
    /// Where it was published to.
    pub channel: String,
    /// The term of the leader that numbered it.
    pub epoch: u64,
    /// Its number in its channel, from 1 in each epoch; grows by one with each message, in rare cases
    /// by more.
    pub sequence: u64,
    /// Its number over all channels, from 1 in each epoch.
    pub position: u64,
    /// What was sent.
    pub payload: Bytes,
    /// Of the payload, such as `application/json`; empty when nothing was said.
    pub content_type: String,
    /// Names and values; a name may come again.
    pub headers: Vec<(String, String)>,
    reply_to: Bytes,
    bus: Bus,
}

impl Message {
    pub(super) fn new(bus: &Bus, wire: BusMessage) -> Self {
        let BusMessage { channel, epoch, sequence, position, content, reply_to } = wire;
        let Content { payload, content_type, headers } = Content::of(content);
        let bus = bus.clone();
        Self { channel, epoch, sequence, position, payload, content_type, headers, reply_to, bus }
    }

    /// The first header of this name.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&str> {
        content::header_value(&self.headers, name)
    }

    /// The span it was published in, if its publisher said so; see [`crate::Options::trace_context`].
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::of(|name| self.header_value(name).map(str::as_bytes))
    }

    /// The payload, read as JSON, whatever its content type.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_THE_TYPE` when it is not JSON of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        content::json(&self.payload)
    }

    /// Whether the sender waits for an answer.
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        !self.reply_to.is_empty()
    }

    /// Who waits for the answer, for [`Bus::reply`], also in another process; empty when nobody does.
    #[must_use]
    pub fn reply_to(&self) -> &Bytes {
        &self.reply_to
    }

    /// Answers it, if its sender waits for that; see [`Reply::send`].
    pub fn reply(&self, content: impl Into<Content>) -> Reply {
        self.bus.reply(self.reply_to.clone(), content)
    }
}
