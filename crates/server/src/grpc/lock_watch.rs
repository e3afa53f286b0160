//! Who holds a lock, told again whenever that changes: the state as it is, not each change.

use super::{Context, Deadline, Refused};
use crate::news::{Listener, Topic};
use crate::wire;
use futures::Stream;
use futures::stream::BoxStream;
use quorate_proto::v1;
use quorate_state::query;
use std::pin::Pin;
use std::task::{self, Poll};
use tonic::{Code, Status};

/// The messages of one watch.
pub(super) struct Changes(BoxStream<'static, Result<v1::LockWatchResponse, Status>>);

impl Stream for Changes {
    type Item = Result<v1::LockWatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// Begins behind a barrier, so that what the caller knows of the lock is not older.
pub(super) async fn start(
    context: &Context,
    namespace: String,
    name: String,
    deadline: Deadline,
) -> Result<Changes, Refused> {
    let listener = context.news.listen(Topic::Lock(namespace.clone(), name.clone()));
    context.replica.read(deadline.remaining()).await?;
    let watch = Watch { context: context.clone(), listener, namespace, name, told: None };
    Ok(Changes(Box::pin(futures::stream::unfold(Some(watch), next))))
}

struct Watch {
    context: Context,
    listener: Listener,
    namespace: String,
    name: String,
    /// What was told last.
    told: Option<v1::LockEntry>,
}

type Item = Result<v1::LockWatchResponse, Status>;

/// The next message; the stream is over after an error.
async fn next(watch: Option<Watch>) -> Option<(Item, Option<Watch>)> {
    let mut watch = watch?;
    loop {
        match watch.look() {
            Ok(Some(message)) => return Some((Ok(message), Some(watch))),
            Ok(None) => {}
            Err(refused) => return Some((Err(refused.into()), None)),
        }
        let stop = watch.context.stop.clone();
        tokio::select! {
            () = watch.listener.news() => {}
            () = stop.cancelled() => {
                let status = super::status::ended(
                    Code::Unavailable,
                    "SHUTTING_DOWN",
                    "this node is stopping; watch on another one",
                );
                return Some((Err(status), None));
            }
        }
    }
}

impl Watch {
    /// The lock as it is, if that is news.
    fn look(&mut self) -> Result<Option<v1::LockWatchResponse>, Refused> {
        let view = self.context.replica.stale();
        let (tables, group) = (&*view.tables, self.context.replica.group());
        let item = query::lock(tables, group, &self.namespace, &self.name)?;
        let lock = wire::lock::entry(self.name.clone(), item);
        let holders = |lock: &v1::LockEntry| -> Vec<u64> {
            lock.holders.iter().map(|holder| holder.fencing_token).collect()
        };
        if self.told.as_ref().is_some_and(|told| holders(told) == holders(&lock)) {
            return Ok(None);
        }
        self.told = Some(lock.clone());
        let revision = query::revision(tables, group)?.0;
        Ok(Some(v1::LockWatchResponse { lock: Some(lock), revision }))
    }
}
