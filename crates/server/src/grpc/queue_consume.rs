//! Consumers: jobs as they are given to them, as fast as their clients read.
//!
//! ```text
//!  Consume ──► open ──► ConsumerAttach ──► what it held before ──┐
//!                 │                                              ├──► messages, when asked for
//!                 └─► Mailbox ◄── News ◄── what this node applies┘
//! ```
//!
//! The mailbox is opened before the log hears of the consumer: from the entry on that attaches it,
//! jobs may be given to it. Jobs are handed over in the order of their leases, which grow; so one
//! number says which of them were ([`presence::Presence::delivered`]), and what a stream that ends says in the
//! log (`ConsumerDetach`) sends the others back as if they had not been delivered.
//!
//! A consumer that is taken for gone while its stream is there, because its node could not be reached
//! for a while, comes back if it has a session, and so does one that may have missed something: its
//! client is told once more that it is open, and what it has. One without a session has ended then: it
//! is told of what it was given, its client opens another, and what it works on stays its own.

mod consumer;
mod opening;
mod places;
mod presence;
mod strays;

pub(super) use places::{Places, places};
pub(crate) use strays::look_after;

use super::slow_reader::Watched;
use super::status::not_applied;
use super::{Context, Deadline, Refused, say};
use crate::access::guard::Guard;
use consumer::Consumer;
use futures::StreamExt as _;
use opening::New;
use places::Counted;
use quorate_consensus::{Committed, Failure, Reason};
use quorate_proto::v1;
use quorate_state::Envelope;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status, Streaming};

/// Consumers of a node, as many as watches. One takes about 2 KiB, and 64 KiB while a message is made
/// for it; what it was given takes 60 bytes each.
pub(super) const CONSUMERS_MAX: usize = 10_000;
/// How long a consumer may be on its way into the log before its client is told to go elsewhere.
const ATTACH_WITHIN: Duration = Duration::from_secs(10);

/// The messages of one stream.
pub(super) type Deliveries = Watched<v1::ConsumeResponse>;

/// Begins a stream; what is wrong with its opening is told in it.
pub(super) fn start(
    context: &Context,
    requests: Streaming<v1::ConsumeRequest>,
    places: Places,
    guard: Option<Arc<Guard>>,
) -> Deliveries {
    let counted = Counted::new(&context.counters);
    let new = New { context: context.of_caller(), requests, places, counted, guard };
    let new = Stage::New(Box::new(new));
    let counters = Arc::clone(&context.counters);
    let cut = move || counters.consumers.slow_readers_cut.count();
    let messages = futures::stream::unfold(Some(new), next).boxed();
    Watched::new(messages, context.slow_reader_max, slow_reader, cut)
}

type Item = Result<v1::ConsumeResponse, Status>;

enum Stage {
    New(Box<New>),
    Open(Box<Consumer>),
}

/// The next message; the stream is over after an error.
async fn next(stage: Option<Stage>) -> Option<(Item, Option<Stage>)> {
    let next = match stage? {
        // Nothing was taken in yet: what it has is what it had when it came.
        Stage::New(new) => new.open().await.map(|consumer| {
            let opened = consumer.opened(&consumer.held);
            (Some(opened), consumer)
        }),
        Stage::Open(mut consumer) => consumer.next().await.map(|told| (told, consumer)),
    };
    match next {
        Ok((told, consumer)) => {
            let message = v1::ConsumeResponse { response: Some(told?) };
            Some((Ok(message), Some(Stage::Open(consumer))))
        }
        Err(status) => Some((Err(status), None)),
    }
}

/// Puts a consumer into the log. When its fate is open it is put there again, which changes nothing.
async fn attach_by(
    context: &Context,
    envelope: &Envelope,
    deadline: Deadline,
) -> Result<Committed, Failure> {
    let mut unknown = false;
    loop {
        match context.proposed(envelope.clone(), deadline.remaining()).await {
            Ok(committed) => return Ok(committed),
            Err(failure) => {
                unknown |= failure.unknown;
                if !failure.unknown || deadline.remaining() <= say::SAY_AGAIN {
                    return Err(Failure { unknown, ..failure });
                }
                tokio::time::sleep(say::SAY_AGAIN).await;
            }
        }
    }
}

fn stopping() -> Status {
    let message = "this node is stopping; open the stream on another one".to_owned();
    Refused::Failed(Failure { unknown: false, reason: Reason::ShuttingDown, message }).into()
}

fn unknown_request() -> Status {
    not_applied(
        Code::InvalidArgument,
        "UNKNOWN_REQUEST",
        "the message asks for nothing that this version knows; compare the versions of client and \
         server",
    )
}

fn slow_reader(max: Duration) -> Status {
    not_applied(
        Code::ResourceExhausted,
        "SLOW_READER",
        format!(
            "jobs have waited for {max:?} without being read; those that were not sent go to \
             others. Open a new stream, with a window that its workers keep up with"
        ),
    )
}
