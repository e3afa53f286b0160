//! `bus reply`: the answer to a message that was sent by a request.

use super::content::content_settings;
use super::{Bus, Content, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::kv::call_settings;
use bytes::Bytes;
use quorate_proto::v1::BusReplyRequest;

/// An answer; sent when awaited.
///
/// The first answer to a message counts, so it is tried again whatever happens, until the deadline.
///
/// # Cancel safety
/// When the future is dropped the requester may have the answer, or not.
#[derive(Clone, Debug)]
#[must_use = "an answer is sent when it is awaited"]
pub struct Reply {
    bus: Bus,
    reply_to: Bytes,
    content: Content,
    options: CallOptions,
}

impl Reply {
    pub(super) fn new(bus: Bus, reply_to: Bytes, content: Content) -> Self {
        Self { bus, reply_to, content, options: CallOptions::default() }
    }

    call_settings!();
    content_settings!(content);

    /// Sends it; the same as awaiting it. Ok says that the requester has it.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the reason `NO_REQUEST` when the requester waits no longer, or has an
    /// answer; [`Error::InvalidArgument`] with the reason `NOT_A_REQUEST`, and nothing is sent, when
    /// the message asked for none; otherwise as a mutation.
    pub async fn send(self) -> Result<(), Error> {
        let Self { bus, reply_to, content, options } = self;
        if reply_to.is_empty() {
            return Err(Error::InvalidArgument {
                reason: "NOT_A_REQUEST".to_owned(),
                message: "the message asks for no answer; see Message::wants_reply".to_owned(),
            });
        }
        let request = BusReplyRequest {
            namespace: bus.namespace.to_string(),
            reply_to,
            content: Some(content.into_wire()),
        };
        let plan = bus.inner.plan("bus reply", Effect::Once, &options);
        bus.inner.engine.call(&plan, || request.clone()).await?;
        Ok(())
    }
}

sent_when_awaited!(Reply => ());
