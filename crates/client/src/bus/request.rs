//! `bus request`: a message that is answered.

use super::content::content_settings;
use super::{Bus, Content, sent_when_awaited};
use crate::Error;
use crate::call::{Effect, Plan};
use crate::client::CallOptions;
use crate::options::REQUEST_TIMEOUT_MAX;
use quorate_proto::v1::BusRequestRequest;
use std::time::Duration;

/// A message whose answer is waited for; sent when awaited.
///
/// All who subscribe to the channel receive it, those of a queue group one for all, and the first
/// answer counts. As a [`Publish`](super::Publish) it is not sent again once it may have been
/// published.
///
/// # Cancel safety
/// When the future is dropped nobody waits for the answer any more; the message may have been
/// published.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Request {
    bus: Bus,
    channel: String,
    content: Content,
    options: CallOptions,
}

impl Request {
    pub(super) fn new(bus: Bus, channel: String, content: Content) -> Self {
        Self { bus, channel, content, options: CallOptions::default() }
    }

    content_settings!(content);

    /// How long the answer is waited for, and finding a node that serves before; default: as any call
    /// of the client, at most 5 min.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Sends it and waits for the answer; the same as awaiting it.
    ///
    /// # Errors
    /// [`Error::NoSubscribers`], at once, when nobody subscribes to the channel;
    /// [`Error::NoReply`] when nobody answered in time, though somebody may have received it and
    /// acted on it. Otherwise as [`Publish::send`](super::Publish::send).
    pub async fn send(self) -> Result<Content, Error> {
        let Self { bus, channel, content, options } = self;
        let request = BusRequestRequest {
            namespace: bus.namespace.to_string(),
            channel,
            content: Some(content.into_wire()),
        };
        let inner = &bus.inner;
        let whole = options.timeout.unwrap_or(inner.request_timeout).min(REQUEST_TIMEOUT_MAX);
        // Silence is what waiting sounds like. A node that is gone is noticed by the connection.
        let plan = inner.plan("bus request", Effect::EachTime, &options);
        let plan = Plan { attempt_timeout: whole, ..plan };
        let answer = inner.engine.call(&plan, || request.clone()).await?;
        Ok(Content::of(answer.content))
    }
}

sent_when_awaited!(Request => Content);
