//! Deletes a queue with all its jobs.

use super::{check_name, consumers, find_named, purge, queue};
use crate::keys::{self, Clock, DeadlineKind};
use crate::scope::{Failure, Scope};
use crate::{Outcome, QueueDelete, Txn as _, expiry};

/// Its consumers end. Its dead letters are in a queue of their own, and stay.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    delete: &QueueDelete,
) -> Result<Outcome, Failure> {
    let revision = scope.revision;
    check_name(&delete.queue)?;
    let Some(at) = find_named(scope, namespace, &delete.queue) else {
        return Ok(Outcome::QueuePurge { found: false, jobs: 0, revision });
    };
    let jobs = purge::end_era(scope, at)?;
    for consumer in purge::consumers_of(scope, at.id) {
        consumers::drop_consumer(scope, consumer);
    }
    let of = queue(scope, at.id)?;
    let (key, wake_ms) = (of.key.clone(), of.counts.wake_ms);
    if let Some(at_ms) = wake_ms {
        expiry::unschedule(scope, Clock::Lease, at_ms, DeadlineKind::Queue, &key);
    }
    scope.txn.delete(&key);
    scope.txn.delete(&keys::queue_counts(scope.group, at.id));
    scope.queues.names.remove(&key);
    scope.queues.queues.remove(&at.id);
    Ok(Outcome::QueuePurge { found: true, jobs, revision })
}
