//! Several messages with one call.

use super::{Bus, Content, Published, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::kv::call_settings;
use quorate_proto::v1::{BusOutgoing, BusPublishAllRequest};

/// Messages to be published, all of them or none; sent when awaited.
///
/// They are numbered one right behind the other, with no other message between, and cost much less
/// than as many calls. Once they may have been published they are not sent again, as with a
/// [`Publish`](super::Publish).
///
/// # Cancel safety
/// When the future is dropped the messages are not sent any more, or they were, and all of them are
/// published or none.
#[derive(Clone, Debug)]
#[must_use = "messages are published when it is awaited"]
pub struct PublishAll {
    bus: Bus,
    messages: Vec<BusOutgoing>,
    options: CallOptions,
}

impl PublishAll {
    pub(super) fn new(bus: Bus, messages: impl Iterator<Item = (String, Content)>) -> Self {
        let messages = messages
            .map(|(channel, content)| BusOutgoing { channel, content: Some(content.into_wire()) });
        Self { bus, messages: messages.collect(), options: CallOptions::default() }
    }

    call_settings!();

    /// Publishes them; the same as awaiting it. It answers when they have their numbers, in the order
    /// of the messages.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is none, or they are more than 1024, or have more than
    /// 1 MiB together, or one of them can't be published: then none is. [`Error::Indeterminate`] when
    /// all may have been published, or none; [`Error::Unavailable`] when no leader could be found to
    /// number them in time, and none was published.
    pub async fn send(self) -> Result<Vec<Published>, Error> {
        let Self { bus, messages, options } = self;
        let request = BusPublishAllRequest { namespace: bus.namespace.to_string(), messages };
        let plan = bus.inner.plan("bus pub", Effect::EachTime, &options);
        let answer = bus.inner.engine.call(&plan, || request.clone()).await?;
        if answer.published.len() != request.messages.len() {
            let (said, asked) = (answer.published.len(), request.messages.len());
            return Err(Error::bad_answer(format!(
                "{asked} messages were published together, and the answer has {said} numbers"
            )));
        }
        Ok(answer.published.into_iter().map(Published::of).collect())
    }
}

sent_when_awaited!(PublishAll => Vec<Published>);
