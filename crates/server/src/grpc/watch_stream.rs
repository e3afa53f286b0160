//! Watches as streams: a part of the changes whenever the connection asks for the next message.
//!
//! A client that does not read is not asked for, so it costs one message. A watchman takes even that,
//! and its place, after a while.

use super::status::not_applied;
use super::{Context, Deadline, Refused};
use crate::connections::ConnectionState;
use crate::metrics::Counters;
use crate::watch::{Ended, NO_QUORUM_MAX, Subscription, WATCHES_MAX, Watches};
use crate::wire;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use http::Extensions;
use quorate_consensus::{Failure, Reason};
use quorate_proto::v1::WatchResponse;
use quorate_state::{GroupId, HistoryPosition, query};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
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
pub(super) struct Watch {
    shared: Arc<Mutex<Watched>>,
    slow_reader_max: Duration,
}

struct Watched {
    /// None once it is over.
    messages: Option<BoxStream<'static, Result<WatchResponse, Status>>>,
    /// When a message was handed over; none once the next one was asked for.
    handed_over: Option<Instant>,
}

impl Watch {
    /// Begins a watch, behind a read barrier.
    pub(super) async fn begin(
        context: &Context,
        watch: wire::watch::Watch,
        places: Places,
        deadline: Deadline,
    ) -> Result<Self, Refused> {
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
        let messages = messages(subscription, group, Arc::clone(&context.counters), of_connection);
        Ok(Self::guard(messages, context.slow_reader_max, Arc::clone(&context.counters)))
    }

    fn guard(
        messages: BoxStream<'static, Result<WatchResponse, Status>>,
        slow_reader_max: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        let watched = Watched { messages: Some(messages), handed_over: None };
        let shared = Arc::new(Mutex::new(watched));
        let watched = Arc::downgrade(&shared);
        // Ends a round after the stream is gone.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(slow_reader_max / 2).await;
                let Some(watched) = watched.upgrade() else { return };
                let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                let since = watched.handed_over.map_or(Duration::ZERO, |at| at.elapsed());
                if since >= slow_reader_max && watched.messages.take().is_some() {
                    counters.watches.slow_readers_cut.count();
                    return;
                }
            }
        });
        Self { shared, slow_reader_max }
    }
}

impl Stream for Watch {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let mut watched = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        watched.handed_over = None;
        let Some(messages) = &mut watched.messages else {
            return Poll::Ready(Some(Err(slow_reader(self.slow_reader_max))));
        };
        let next = messages.poll_next_unpin(cx);
        match &next {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => watched.handed_over = Some(Instant::now()),
            Poll::Ready(Some(Err(_)) | None) => watched.messages = None,
        }
        next
    }
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
