//! Empties a queue: its jobs are of an old era from now on, whose rows are deleted little by little.

use super::{At, check_name, consumers, find_named, refit, touched, write_queue};
use crate::keys::{self, Clock, DeadlineKind, Key};
use crate::limits::PURGE_PER_ENTRY_MAX;
use crate::rows::{self, JobCounts, JobState, OldEraRow};
use crate::scope::{Failure, Scope};
use crate::{
    ConsumerId, Era, Event, Fatal, Outcome, QueueId, QueuePurge, Read as _, Txn as _, codec, expiry,
};
use std::ops::ControlFlow;

/// Those that are worked on go, too: their workers are told.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    purge: &QueuePurge,
) -> Result<Outcome, Failure> {
    let revision = scope.revision;
    check_name(&purge.queue)?;
    let Some(at) = find_named(scope, namespace, &purge.queue) else {
        return Ok(Outcome::QueuePurge { found: false, jobs: 0, revision });
    };
    let era = Era(scope.queues.next_id());
    let jobs = end_era(scope, at)?;
    scope.queues.eras.insert(era, at.id);
    let queue = touched(scope, at.id)?;
    queue.row.era = era;
    queue.counts.jobs = JobCounts::default();
    write_queue(scope, at.id)?;
    Ok(Outcome::QueuePurge { found: true, jobs, revision })
}

/// Makes an era an old one; answers how many jobs it had. Its queue is to get a new one, or to go.
pub(super) fn end_era(scope: &mut Scope<'_>, at: At) -> Result<u64, Fatal> {
    for consumer in consumers_of(scope, at.id) {
        let attachment = scope.queues.consumers.get(&consumer).and_then(|of| of.row.attachment);
        for (id, job) in consumers::held_by(scope, consumer) {
            scope.queues.held.remove(&(consumer, id));
            if let Some(attachment) = attachment {
                let lease = job.lease;
                scope.events.push(Event::JobWithdrawn { consumer, attachment, id, lease });
            }
        }
        if let Some(of) = scope.queues.consumers.get_mut(&consumer) {
            of.held = 0;
            if of.is_closed() {
                scope.consumers_closed.insert(consumer);
            }
        }
        refit(scope, consumer);
    }
    consumers::end_closed(scope);
    let counts = &super::queue(scope, at.id)?.counts;
    let jobs = counts.jobs.unfinished() + counts.jobs.done;
    scope.queues.meta.jobs -= jobs;
    scope.queues.counted.old_jobs += jobs;
    scope.queues.eras.remove(&at.era);
    let key = keys::old_era(scope.group, at.era);
    scope.txn.put(&key, &[]);
    let at_ms = scope.lease_ms() + 1;
    expiry::schedule(scope, Clock::Lease, at_ms, DeadlineKind::OldEra, &key);
    Ok(jobs)
}

pub(super) fn consumers_of(scope: &Scope<'_>, queue: QueueId) -> Vec<ConsumerId> {
    let all = scope.queues.consumers.iter();
    all.filter(|(_, of)| of.row.queue == queue).map(|(id, _)| *id).collect()
}

/// Deletes the next rows of an old era; the sweep calls it with its deadline gone already.
pub(crate) fn sweep(scope: &mut Scope<'_>, key: &[u8]) -> Result<(), Fatal> {
    let Some(Key::OldEra(era)) = keys::parse(scope.group, key) else {
        return Err(Fatal::Invariant(format!("a deadline names the era {key:02x?}")));
    };
    let Some(row) = scope.txn.get(key)? else {
        return Err(Fatal::Invariant(format!("a deadline names era {era}, which does not exist")));
    };
    let OldEraRow { deleted } = OldEraRow::decode(&row)?;
    let mut old = Vec::new();
    let rows_max = scope.allowance.purged_rows;
    let mut more = false;
    // Not from its beginning: what was deleted there is passed slowly for a while.
    rows::each_job(&scope.txn, scope.group, era, Some(deleted), |id, row, _| {
        if old.len() == rows_max {
            more = true;
            return ControlFlow::Break(());
        }
        old.push((id, row));
        ControlFlow::Continue(())
    })?;
    scope.allowance.purged_rows -= old.len();
    scope.queues.counted.old_jobs -= old.len() as u64;
    let deleted = old.last().map_or(deleted, |(id, _)| *id);
    for (id, row) in old {
        let job_key = keys::job(scope.group, era, id);
        if let Some((clock, at_ms)) = super::deadline_of(&row) {
            expiry::unschedule(scope, clock, at_ms, DeadlineKind::Job, &job_key);
        }
        if row.state == JobState::Ready {
            scope.queues.ready.remove(&(era, super::Place::of(id, &row)));
        }
        super::leave_group(scope, era, &row)?;
        scope.txn.delete(&job_key);
        super::delete_contents(scope, id, row.noted);
    }
    if more {
        scope.txn.put(key, &codec::encode(&OldEraRow { deleted }));
        let at_ms = scope.lease_ms() + 1;
        expiry::schedule(scope, Clock::Lease, at_ms, DeadlineKind::OldEra, key);
    } else {
        scope.txn.delete(key);
    }
    Ok(())
}

const _: () = assert!(PURGE_PER_ENTRY_MAX > 0, "an old era would never end");
