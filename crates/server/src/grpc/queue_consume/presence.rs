//! That a consumer is at a place, and that it is not any more.

use super::places::Places;
use crate::grpc::{Context, say};
use crate::news::Mailbox;
use quorate_consensus::Committed;
use quorate_state::{Command, ConsumerDetach, ConsumerId, Envelope, JobLease, Outcome};
use tokio::runtime::Handle;

/// That a consumer is here. When it is dropped this is not so any more, which is said in the log
/// until it is known there.
pub(super) struct Presence {
    pub(super) context: Context,
    pub(super) runtime: Handle,
    /// Where it is; besides where it may come to be, which is the last.
    pub(super) mailboxes: Vec<Mailbox>,
    pub(super) who: Who,
    /// Everything up to here was handed to the connection, or to one before.
    pub(super) delivered: JobLease,
    /// Free only after the farewell, or streams that come and go without a quorum would leave any
    /// number of those behind.
    pub(super) places: Option<Places>,
}

pub(super) enum Who {
    Known(ConsumerId),
    /// The one that this makes: the same for as often as it is asked for.
    Asked(Box<Envelope>),
    /// It did not come to be.
    Nobody,
}

impl Presence {
    pub(super) fn mailbox(&self) -> &Mailbox {
        self.mailboxes.first().expect("there is one until it is dropped")
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mailboxes = std::mem::take(&mut self.mailboxes);
        let who = std::mem::replace(&mut self.who, Who::Nobody);
        let (context, delivered) = (self.context.clone(), self.delivered);
        let places = self.places.take();
        let farewell = async move {
            let _until_said = places;
            let consumer = match who {
                Who::Nobody => return,
                Who::Known(consumer) => consumer,
                Who::Asked(envelope) => match say::find(&context, *envelope).await {
                    Some(Committed {
                        outcome: Outcome::ConsumerAttach { consumer, .. }, ..
                    }) => consumer,
                    _ => return,
                },
            };
            let detach = |mailbox: &Mailbox| {
                let attachment = mailbox.attachment();
                let detach = ConsumerDetach { consumer, attachment, delivered };
                say::until_applied(&context, Command::ConsumerDetach(detach))
            };
            // They stay open so long: what comes meanwhile is known to be looked after.
            futures::future::join_all(mailboxes.iter().map(detach)).await;
        };
        self.context.calls_that_wait.spawn_on(farewell, &self.runtime);
    }
}
