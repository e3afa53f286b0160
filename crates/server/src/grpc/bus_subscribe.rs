//! Subscriptions as streams: what has come, whenever the connection asks for the next message.

use super::slow_reader::Watched;
use super::status::not_applied;
use super::{Context, Deadline, Refused};
use crate::bus::{Begin, Ended, NO_LEADER_MAX, Subscription};
use crate::connections::ConnectionState;
use crate::wire;
use futures::StreamExt as _;
use http::Extensions;
use quorate_consensus::{Failure, Reason};
use quorate_proto::v1::BusSubscribeResponse;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::{Code, Status};

/// How often a subscription to which nothing comes is told how far it is.
const SAY_PLACE: Duration = Duration::from_secs(5);

/// A place for one more subscription on the connection; none in a simulation, whose connections are
/// its own.
pub(super) fn place(extensions: &Extensions) -> Result<Option<OwnedSemaphorePermit>, Status> {
    let Some(connection) = extensions.get::<Arc<ConnectionState>>() else { return Ok(None) };
    let place = Arc::clone(&connection.subscriptions).try_acquire_owned().map_err(|_| {
        let message = format!(
            "there are {} subscriptions on this connection already; end one first, give one several \
             patterns, or use another connection",
            ConnectionState::SUBSCRIPTIONS_MAX
        );
        not_applied(Code::ResourceExhausted, "TOO_MANY_SUBSCRIPTIONS", message)
    })?;
    Ok(Some(place))
}

/// The messages of one subscription.
pub(super) type Messages = Watched<BusSubscribeResponse>;

struct Open {
    subscription: Subscription,
    _place: Option<OwnedSemaphorePermit>,
    /// What was said last of how far it is.
    said: BusSubscribeResponse,
    said_at: Instant,
}

/// Begins a subscription, once the leader has recorded what it wants.
pub(super) async fn begin(
    context: &Context,
    begin: Begin,
    place: Option<OwnedSemaphorePermit>,
    deadline: Deadline,
) -> Result<Messages, Refused> {
    let subscription = context.bus.subscribe(begin, deadline.at()).await?;
    let begun = wire::bus::items(Vec::new(), subscription.place());
    let (said, said_at) = (begun.clone(), Instant::now());
    let open = Open { subscription, _place: place, said, said_at };
    let parts = futures::stream::unfold(Some(open), |open| async move {
        let mut open = open?;
        match open.next().await {
            Ok(message) => Some((Ok(message), Some(open))),
            Err(ended) => Some((Err(told(ended)), None)),
        }
    });
    let counters = Arc::clone(&context.counters);
    let cut = move || counters.bus.slow_cut.count();
    let messages = futures::stream::iter([Ok(begun)]).chain(parts).boxed();
    Ok(Watched::new(messages, context.slow_reader_max, slow_reader, cut))
}

impl Open {
    async fn next(&mut self) -> Result<BusSubscribeResponse, Ended> {
        loop {
            let items = self.subscription.next(self.said_at + SAY_PLACE).await?;
            let message = wire::bus::items(items, self.subscription.place());
            self.said_at = Instant::now();
            if message.items.is_empty() && message.place == self.said.place {
                continue;
            }
            self.said = BusSubscribeResponse { items: Vec::new(), place: message.place };
            return Ok(message);
        }
    }
}

fn told(ended: Ended) -> Status {
    let failed = |reason, message: String| {
        Status::from(Refused::Failed(Failure { unknown: false, reason, message }))
    };
    match ended {
        Ended::NoLeader => failed(
            Reason::NoLeader,
            format!(
                "this node has had no leader for {} s, so messages may be missing; subscribe on \
                 another one",
                NO_LEADER_MAX.as_secs()
            ),
        ),
        Ended::Stopping => failed(
            Reason::ShuttingDown,
            "this node is stopping; go on with the subscription on another one".to_owned(),
        ),
        Ended::Slow => not_applied(
            Code::ResourceExhausted,
            "SLOW_SUBSCRIBER",
            "messages came faster than they were read, and the buffer was full; read faster, ask for \
             a larger buffer, or let the oldest be dropped (overflow)",
        ),
    }
}

fn slow_reader(max: Duration) -> Status {
    not_applied(
        Code::ResourceExhausted,
        "SLOW_SUBSCRIBER",
        format!(
            "messages have waited for {max:?} without being read; go on with the subscription from \
             its last place"
        ),
    )
}
