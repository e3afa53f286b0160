//! Watches as streams: a part of the changes whenever the connection asks for the next message.

use super::slow_reader::Watched;
use super::status::not_applied;
use super::{Context, Deadline, Refused};
use crate::connections::ConnectionState;
use crate::metrics::Counters;
use crate::watch::{Ended, NO_QUORUM_MAX, Subscription, WATCHES_MAX, Watches};
use crate::wire;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::Extensions;
use quorate_consensus::{Failure, Reason};
use quorate_proto::v1::WatchResponse;
use quorate_state::{GroupId, HistoryPosition, query};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Code, Status};

/// What a watch holds of the bounds.
pub(super) struct Places {
    of_node: OwnedSemaphorePermit,
    /// None in a simulation, whose connections are its own.
    of_connection: Option<OwnedSemaphorePermit>,
}

/// Places for one more watch.
pub(super) fn places(watches: &Watches, extensions: &Extensions) -> Result<Places, Status> {
    let full = |count: usize, of: &str, what: &str| {
        let message = format!("there are {count} watches on this {of} already; {what}");
        not_applied(Code::ResourceExhausted, "TOO_MANY_WATCHES", message)
    };
    let of_connection = match extensions.get::<Arc<ConnectionState>>() {
        None => None,
        Some(connection) => {
            let place = Arc::clone(&connection.watches).try_acquire_owned().map_err(|_| {
                let what = "end one first, give one several selectors, or use another connection";
                full(ConnectionState::WATCHES_MAX, "connection", what)
            })?;
            Some(place)
        }
    };
    let of_node = watches.place().ok_or_else(|| full(WATCHES_MAX, "node", "use another node"))?;
    Ok(Places { of_node, of_connection })
}

/// The messages of one watch.
pub(super) type Watch = Watched<WatchResponse>;

/// Begins a watch, behind a read barrier.
pub(super) async fn begin(
    context: &Context,
    watch: wire::watch::Watch,
    places: Places,
    deadline: Deadline,
) -> Result<Watch, Refused> {
    let wire::watch::Watch { watched, from, values } = watch;
    let Places { of_node, of_connection } = places;
    let group = context.replica.group();
    // Also for what is older: a node that hears from no leader would have nothing new to say.
    let view = context.replica.read(deadline.remaining()).await?;
    let after = match from {
        None => HistoryPosition::behind(query::revision(&*view.tables, group)?),
        Some(from) => {
            let oldest = query::oldest_revision(&*view.tables, group)?;
            if from < oldest {
                context.counters.watches.compacted.count();
                return Err(Refused::Compacted { oldest });
            }
            HistoryPosition::before(from)
        }
    };
    drop(view);
    let subscription = context.watches.begin(watched, values, after, of_node);
    let counters = Arc::clone(&context.counters);
    let messages = messages(subscription, group, Arc::clone(&counters), of_connection);
    let cut = move || counters.watches.slow_readers_cut.count();
    Ok(Watched::new(messages, context.slow_reader_max, slow_reader, cut))
}

/// First that the watch has begun, then its parts, at the end why there are no more.
fn messages(
    subscription: Subscription,
    group: GroupId,
    counters: Arc<Counters>,
    place: Option<OwnedSemaphorePermit>,
) -> BoxStream<'static, Result<WatchResponse, Status>> {
    let begun = WatchResponse {
        events: Vec::new(),
        revision: subscription.revision().0,
        group_id: group.0,
    };
    let parts = futures::stream::unfold(Some((subscription, place)), move |watch| {
        let counters = Arc::clone(&counters);
        async move {
            let (mut subscription, place) = watch?;
            match subscription.next().await {
                Ok(part) => Some((Ok(wire::watch::part(part, group)), Some((subscription, place)))),
                Err(ended) => Some((Err(told(ended, &counters)), None)),
            }
        }
    });
    futures::stream::iter([Ok(begun)]).chain(parts).boxed()
}

fn told(ended: Ended, counters: &Counters) -> Status {
    let failed = |reason, message: String| {
        Status::from(Refused::Failed(Failure { unknown: false, reason, message }))
    };
    match ended {
        Ended::Compacted { oldest } => {
            counters.watches.compacted.count();
            Refused::Compacted { oldest }.into()
        }
        Ended::NoQuorum => {
            counters.watches.without_quorum.count();
            let seconds = NO_QUORUM_MAX.as_secs();
            failed(
                Reason::NoLeader,
                format!(
                    "no leader has confirmed for {seconds} s what this node has, so changes may be \
                     missing; watch on another node"
                ),
            )
        }
        Ended::Stopping => failed(
            Reason::ShuttingDown,
            "this node is stopping; go on with the watch on another one".to_owned(),
        ),
        Ended::Unreadable(why) => Refused::Unreadable(why).into(),
    }
}

fn slow_reader(max: Duration) -> Status {
    not_applied(
        Code::ResourceExhausted,
        "SLOW_READER",
        format!(
            "changes have waited for {max:?} without being read; go on with a watch from the last \
             revision plus one"
        ),
    )
}
