//! `bus pub`: a message to whoever subscribes.

use super::content::content_settings;
use super::{Bus, Content, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::kv::call_settings;
use quorate_proto::v1::{BusPublishRequest, BusPublishResponse};

/// A message was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The term of the leader that numbered it.
    pub epoch: u64,
    /// Its number in its channel, from 1 in each epoch.
    pub sequence: u64,
    /// Its number over all channels, from 1 in each epoch.
    pub position: u64,
    /// Nodes it was sent to, those with subscribers.
    pub nodes: u32,
    /// Subscribers it was sent to, a queue group counted as one. That it was sent does not say that
    /// it arrived.
    pub subscribers: u64,
}

/// A message to be published; sent when awaited.
///
/// It has no name that would make its repetitions harmless: once it may have been published it is
/// not sent again, and the first broken connection then makes it [`Error::Indeterminate`]. What
/// certainly was not published is tried again until the deadline.
///
/// # Order
/// Messages that are awaited one after the other are numbered in that order. Of those that are under
/// way together that holds as long as none is tried again, they go to the same node, and none is
/// larger than what goes into the connection's pipeline (2 MiB less what is around it).
///
/// # Cancel safety
/// When the future is dropped the message is not sent any more, or it was, and is published or not.
#[derive(Clone, Debug)]
#[must_use = "a message is published when it is awaited"]
pub struct Publish {
    bus: Bus,
    channel: String,
    content: Content,
    options: CallOptions,
}

impl Publish {
    pub(super) fn new(bus: Bus, channel: String, content: Content) -> Self {
        Self { bus, channel, content, options: CallOptions::default() }
    }

    call_settings!();
    content_settings!(content);

    /// Publishes it; the same as awaiting it. It answers when the message has its number, before
    /// anybody has received it; whether anybody subscribes is in the answer, and no error.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] when it may have been published; [`Error::Unavailable`] when no
    /// leader could be found to number it in time, and it was not published.
    pub async fn send(self) -> Result<Published, Error> {
        let Self { bus, channel, content, options } = self;
        let request = BusPublishRequest {
            namespace: bus.namespace.to_string(),
            channel,
            content: Some(content.into_wire()),
        };
        let plan = bus.inner.plan("bus pub", Effect::EachTime, &options);
        Ok(Published::of(bus.inner.engine.call(&plan, || request.clone()).await?))
    }
}

impl Published {
    pub(super) fn of(answer: BusPublishResponse) -> Self {
        let BusPublishResponse { epoch, sequence, position, nodes, subscribers } = answer;
        Self { epoch, sequence, position, nodes, subscribers }
    }
}

sent_when_awaited!(Publish => Published);
