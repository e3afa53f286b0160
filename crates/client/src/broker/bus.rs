//! The bus over any adapter.

use super::{Broker, Items, json};
use crate::Error;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// What a subscription hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// A message.
    Message(Message),
    /// Messages are missing here.
    Gap {
        /// How many that the subscription would have received; `None`: some, or none, that is not
        /// known.
        missed: Option<u64>,
    },
}

/// A message that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published to.
    pub channel: String,
    /// What was sent.
    pub payload: Bytes,
}

impl Message {
    /// The payload, read as JSON.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_THE_TYPE` when it is not JSON of this type. The
    /// subscription goes on.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json::decode(&format!("a message of {}", self.channel), &self.payload)
    }
}

/// Publishes and subscribes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    broker: Arc<dyn Broker>,
}

impl Bus {
    /// Over this adapter.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker }
    }

    /// Publishes a value as JSON to whoever subscribes now; answers how many that are, if it is known.
    ///
    /// # Errors
    /// `NOT_SERIALIZABLE` when it can't be JSON; otherwise those of [`Broker::publish`].
    pub async fn publish(
        &self,
        channel: &str,
        value: &(impl Serialize + Sync + ?Sized),
    ) -> Result<Option<u64>, Error> {
        self.publish_bytes(channel, json::encode(value)?).await
    }

    /// Publishes bytes.
    ///
    /// # Errors
    /// Those of [`Broker::publish`].
    pub async fn publish_bytes(
        &self,
        channel: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Option<u64>, Error> {
        self.broker.publish(channel, payload.into()).await
    }

    /// Subscribes to channels, or patterns of them: `user.*` has `user.created` and also
    /// `user.profile.updated`. Dropping the answer ends it.
    ///
    /// # Errors
    /// Those of [`Broker::subscribe`].
    pub async fn subscribe<P: Into<String>>(
        &self,
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Items<BusEvent>, Error> {
        let patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
        self.broker.subscribe(&patterns).await
    }
}
