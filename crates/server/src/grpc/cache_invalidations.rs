//! What changes in the cache, as a stream for near caches.

use super::slow_reader::Watched;
use super::status::not_applied;
use super::{Context, Deadline, Refused};
use crate::cache::{Change, Listener};
use crate::connections::ConnectionState;
use crate::watch::NO_QUORUM_MAX;
use futures::StreamExt as _;
use http::Extensions;
use quorate_consensus::{Failure, Reason};
use quorate_proto::v1::{self, CacheInvalidationsResponse, cache_invalidation::What};
use quorate_state::{Revision, query};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::{Code, Status};

/// How long it waits, after it has said how far it is, before it says so again when nothing else is
/// to be said: near caches answer nothing themselves until they are as far as what was seen elsewhere.
const SAY_AGAIN: Duration = Duration::from_millis(5);
/// How often a quorum is asked whether anything is held back here.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);

/// A place for one more stream on the connection; none in a simulation.
pub(super) fn place(extensions: &Extensions) -> Result<Option<OwnedSemaphorePermit>, Status> {
    let Some(connection) = extensions.get::<Arc<ConnectionState>>() else { return Ok(None) };
    let place = Arc::clone(&connection.invalidations).try_acquire_owned().map_err(|_| {
        let message = format!(
            "there are {} streams of invalidations on this connection already; one is enough for a \
             namespace",
            ConnectionState::INVALIDATIONS_MAX
        );
        not_applied(Code::ResourceExhausted, "TOO_MANY_INVALIDATION_STREAMS", message)
    })?;
    Ok(Some(place))
}

/// The messages of one stream.
pub(super) type Changes = Watched<CacheInvalidationsResponse>;

struct Open {
    context: Context,
    listener: Listener,
    _place: Option<OwnedSemaphorePermit>,
    said: Revision,
    said_at: Instant,
    confirmed: Instant,
}

/// Begins behind a barrier: what was acknowledged before is not told.
pub(super) async fn begin(
    context: &Context,
    namespace: String,
    place: Option<OwnedSemaphorePermit>,
    deadline: Deadline,
) -> Result<Changes, Refused> {
    let listener = context.cache.invalidations.listen(namespace).map_err(|too_many| {
        Refused::Failed(Failure {
            unknown: false,
            reason: Reason::Overloaded,
            message: format!(
                "there are {} streams of invalidations on this node already; use another node",
                too_many.0
            ),
        })
    })?;
    let view = context.replica.read(deadline.remaining()).await?;
    let said = query::revision(&*view.tables, context.replica.group())?;
    drop(view);
    context.counters.cache.invalidations.enter();
    let now = Instant::now();
    let open = Open {
        context: context.clone(),
        listener,
        _place: place,
        said,
        said_at: now,
        confirmed: now,
    };
    let begun = CacheInvalidationsResponse {
        invalidations: Vec::new(),
        revision: said.0,
        group_id: context.replica.group().0,
    };
    let changes = futures::stream::unfold(Some(open), |open| async move {
        let mut open = open?;
        match open.next().await {
            Ok(message) => Some((Ok(message), Some(open))),
            Err(refused) => Some((Err(refused.into()), None)),
        }
    });
    let messages = futures::stream::iter([Ok(begun)]).chain(changes).boxed();
    Ok(Watched::new(messages, context.slow_reader_max, slow_reader, || ()))
}

impl Open {
    async fn next(&mut self) -> Result<CacheInvalidationsResponse, Refused> {
        loop {
            let (changes, through) = self.listener.take();
            let moved = through > self.said && self.said_at.elapsed() >= SAY_AGAIN;
            if moved || !changes.is_empty() {
                return Ok(self.message(changes, through));
            }
            let again = self.said_at + SAY_AGAIN;
            let stop = self.context.stop.clone();
            tokio::select! {
                () = self.listener.news() => {}
                () = tokio::time::sleep_until(again), if through > self.said => {}
                () = tokio::time::sleep_until(self.confirmed + CONFIRM_EVERY) => {
                    // A node that is cut off would otherwise look up to date for ever.
                    let left = NO_QUORUM_MAX.saturating_sub(CONFIRM_EVERY);
                    self.context.replica.read(left).await.map_err(|_| no_leader())?;
                    self.confirmed = Instant::now();
                    // Also when nothing has happened: a client that hears nothing for long does not
                    // know that.
                    let (changes, through) = self.listener.take();
                    return Ok(self.message(changes, through));
                }
                () = stop.cancelled() => return Err(stopping()),
            }
        }
    }
}

impl Open {
    fn message(
        &mut self,
        changes: Vec<(Revision, Change)>,
        through: Revision,
    ) -> CacheInvalidationsResponse {
        self.said = self.said.max(through);
        self.said_at = Instant::now();
        CacheInvalidationsResponse {
            invalidations: changes.into_iter().map(out).collect(),
            revision: self.said.0,
            group_id: self.context.replica.group().0,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.context.counters.cache.invalidations.leave();
    }
}

fn out((revision, change): (Revision, Change)) -> v1::CacheInvalidation {
    let what = match change {
        Change::Key(key) => What::Key(key),
        Change::Prefix(prefix) => What::Prefix(prefix),
        Change::Tag(tag) => What::Tag(tag),
        Change::Everything => What::Everything(true),
    };
    v1::CacheInvalidation { revision: revision.0, what: Some(what) }
}

fn no_leader() -> Refused {
    Refused::Failed(Failure {
        unknown: false,
        reason: Reason::NoLeader,
        message: format!(
            "no leader has confirmed for {} s what this node has, so changes may be missing; go to \
             another node, and forget what was kept",
            NO_QUORUM_MAX.as_secs()
        ),
    })
}

fn stopping() -> Refused {
    Refused::Failed(Failure {
        unknown: false,
        reason: Reason::ShuttingDown,
        message: "this node is stopping; go to another one, and forget what was kept".to_owned(),
    })
}

fn slow_reader(max: Duration) -> Status {
    not_applied(
        Code::ResourceExhausted,
        "SLOW_READER",
        format!("changes have waited for {max:?} without being read; forget what was kept"),
    )
}
