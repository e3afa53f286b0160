//! A stream before it is open: what its first message asks for, and its way into the log.

use super::consumer::Consumer;
use super::places::{Counted, Places};
use super::presence::{Presence, Who};
use super::{ATTACH_WITHIN, attach_by, stopping, unknown_request};
use crate::access::guard::Guard;
use crate::grpc::status::not_applied;
use crate::grpc::{Context, Deadline, Refused, refusals};
use crate::news::Mailbox;
use crate::wire;
use futures::StreamExt as _;
use quorate_proto::v1;
use quorate_proto::v1::consume_request::Request as Asked;
use quorate_state::{Caller, Command, ConsumerAttach, Envelope, JobLease, Outcome};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tonic::{Code, Status, Streaming};

/// A stream whose client has not opened it for so long is ended.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// A stream that is not open yet.
pub(super) struct New {
    pub(super) context: Context,
    pub(super) requests: Streaming<v1::ConsumeRequest>,
    pub(super) places: Places,
    pub(super) counted: Counted,
    /// Whose stream it is; none where nobody is asked.
    pub(super) guard: Option<Arc<Guard>>,
}

impl New {
    pub(super) async fn open(mut self: Box<Self>) -> Result<Box<Consumer>, Status> {
        let asked = self.asked().await?;
        let deadline = Deadline::within(ATTACH_WITHIN);
        let Self { context, requests, places, counted, .. } = *self;
        let mailbox = Mailbox::open(&context.news, context.attachment());
        let attachment = mailbox.attachment();
        let wire::queue::Open { namespace, queue, session, consumer, window } = asked;
        let attach = ConsumerAttach { queue: queue.clone(), consumer, session, window, attachment };
        let envelope = Envelope {
            namespace: namespace.clone(),
            // Attached twice, one that is known is where it is; a new one would be two.
            caller: match consumer {
                Some(_) => Caller::Anonymous,
                None => Caller::Idempotency { key: key_of(&mailbox) },
            },
            guard: None,
            command: Command::ConsumerAttach(attach),
        };
        let mut presence = Presence {
            context: context.clone(),
            runtime: Handle::current(),
            mailboxes: vec![mailbox],
            who: match consumer {
                Some(consumer) => Who::Known(consumer),
                None => Who::Asked(Box::new(envelope.clone())),
            },
            // Until it is known what it has, it may be working on all of it.
            delivered: if consumer.is_some() { JobLease(u64::MAX) } else { JobLease(0) },
            places: Some(places),
        };
        let committed = match attach_by(&context, &envelope, deadline).await {
            Ok(committed) => committed,
            Err(failure) => {
                if !failure.unknown {
                    presence.who = Who::Nobody;
                }
                return Err(Refused::from(failure).into());
            }
        };
        let Outcome::ConsumerAttach { consumer: id, mut held } = committed.outcome else {
            presence.who = Who::Nobody;
            return Err(wire::unexpected(committed.outcome).into());
        };
        held.sort_unstable_by_key(|job| job.lease);
        // Whatever it had was delivered elsewhere, as far as is known.
        let seen = held.last().map_or(JobLease(0), |job| job.lease);
        (presence.who, presence.delivered) = (Who::Known(id), seen);
        let remaining = deadline.remaining();
        context.replica.wait_index(committed.index, remaining).await.map_err(Refused::from)?;
        Ok(Box::new(Consumer {
            context,
            requests: Some(requests),
            namespace,
            attach: ConsumerAttach { queue, consumer: Some(id), session, window, attachment },
            id,
            presence,
            held: held.into(),
            withdrawn: VecDeque::new(),
            seen,
            window,
            resizing: None,
            lost: false,
            over: false,
            _counted: counted,
        }))
    }

    /// What the first message asks for.
    async fn asked(&mut self) -> Result<wire::queue::Open, Status> {
        let refused = |reason, message: &str| {
            Err(not_applied(Code::InvalidArgument, reason, message.to_owned()))
        };
        let first = tokio::select! {
            first = tokio::time::timeout(OPEN_WITHIN, self.requests.next()) => first,
            () = self.context.stop.cancelled() => return Err(stopping()),
        };
        match first {
            Ok(Some(Ok(v1::ConsumeRequest { request: Some(Asked::Open(open)) }))) => {
                if let Some(guard) = &self.guard {
                    guard.message(&open).map_err(Refused::from)?;
                }
                Ok(wire::queue::open(open).map_err(Refused::from)?)
            }
            Ok(Some(Ok(v1::ConsumeRequest { request: Some(Asked::Window(_)) }))) => {
                refused("NOT_OPEN", "the first message changes a window; it must open the stream")
            }
            Ok(Some(Ok(v1::ConsumeRequest { request: None }))) => Err(unknown_request()),
            Ok(Some(Err(status))) => Err(refusals::put_into_words(&status, &self.context.limits)),
            Ok(None) => refused("NOT_OPEN", "the stream ended before it was opened"),
            Err(_) => Err(not_applied(
                Code::DeadlineExceeded,
                "NOT_OPEN",
                format!("the stream was not opened within {OPEN_WITHIN:?}; send what to consume"),
            )),
        }
    }
}

/// What a new consumer is recognised by when the entry that makes it is asked for again: no other
/// place has this number.
fn key_of(mailbox: &Mailbox) -> bytes::Bytes {
    let at = mailbox.attachment();
    [at.node.0.to_be_bytes(), at.call.to_be_bytes()].concat().into()
}
