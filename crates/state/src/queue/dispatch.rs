//! Who is given what is ready, and when: the queue's limits, and those of an entry.

use super::consumers::{self, next_consumer};
use super::{At, Place, at, die, known_job, leave, queue, touched, turn};
use crate::keys::{Clock, DeadlineKind};
use crate::rows::{self, Bucket, DeathCause, JobRow, JobState};
use crate::scope::Scope;
use crate::{AssignedJob, ConsumerId, Event, Fatal, JobId, QueueId, expiry};

/// Gives jobs that are ready to consumers that have room, as far as the queue's limits and the
/// entry's allow. Also in the queues that dead letters went to meanwhile.
pub(crate) fn dispatch(scope: &mut Scope<'_>, id: QueueId) -> Result<(), Fatal> {
    scope.queues_due.insert(id);
    dispatch_due(scope)
}

/// As [`dispatch`], in the queues that are due.
pub(crate) fn dispatch_due(scope: &mut Scope<'_>) -> Result<(), Fatal> {
    while let Some(id) = scope.queues_due.pop_first() {
        while give_next(scope, id)? {}
    }
    consumers::end_closed(scope);
    Ok(())
}

/// Gives the next job of a queue to somebody; whether there may be another.
pub(super) fn give_next(scope: &mut Scope<'_>, id: QueueId) -> Result<bool, Fatal> {
    let Some(at) = at(scope, id) else { return Ok(false) };
    let Some(consumer) = next_consumer(scope, id)? else { return Ok(false) };
    match take_next(scope, at)? {
        Some((job, row)) => {
            consumers::give(scope, at, job, &row, consumer)?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// The next job of a queue, if there is one and the limits allow to deliver it; [`lease`] is to
/// follow.
pub(super) fn take_next(scope: &mut Scope<'_>, at: At) -> Result<Option<(JobId, JobRow)>, Fatal> {
    let now_ms = scope.lease_ms();
    loop {
        let Some(Place { id, .. }) = scope.queues.ready_from(at.era, Place::FIRST).next() else {
            return Ok(None);
        };
        let of = queue(scope, at.id)?;
        let parallel_max = u64::from(of.row.options.parallel_max);
        if of.row.paused || parallel_max > 0 && of.counts.jobs.leased >= parallel_max {
            return Ok(None);
        }
        if scope.allowance.deliveries == 0 {
            wake(scope, at.id, now_ms + 1)?;
            return Ok(None);
        }
        scope.allowance.deliveries -= 1;
        let row = known_job(scope, at.era, id)?;
        if !rows::is_live(row.expires_ms, now_ms) {
            leave(scope, at, id, &row)?;
            die(scope, at, id, row, DeathCause::Expired)?;
            continue;
        }
        if let Err(free_ms) = take_token(scope, at.id)? {
            wake(scope, at.id, free_ms)?;
            return Ok(None);
        }
        return Ok(Some((id, row)));
    }
}

/// Gives a job a new lease; who gets it is entered by the caller, who tells of it, too.
pub(super) fn lease(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    before: &JobRow,
    consumer: Option<ConsumerId>,
) -> Result<AssignedJob, Fatal> {
    scope.queues.meta.lease.0 += 1;
    let lease = scope.queues.meta.lease;
    let visibility_ms = queue(scope, at.id)?.row.options.visibility_ms;
    let until_ms = scope.lease_ms().saturating_add(visibility_ms);
    let mut row = before.clone();
    row.attempts = row.attempts.saturating_add(1);
    row.state = JobState::Leased { lease, consumer, until_ms };
    turn(scope, at, id, before, &row)?;
    touched(scope, at.id)?.counts.totals.delivered += 1;
    Ok(AssignedJob { era: at.era, id, lease, attempt: row.attempts })
}

/// Takes what one delivery costs from the queue's rate limit, or says when there is as much.
pub(super) fn take_token(scope: &mut Scope<'_>, id: QueueId) -> Result<Result<(), u64>, Fatal> {
    let now_ms = scope.lease_ms();
    let queue = touched(scope, id)?;
    let Some(rate) = queue.row.options.rate else { return Ok(Ok(())) };
    let (jobs, cost) = (u64::from(rate.jobs), rate.per_ms);
    let Bucket { tokens, at_ms } = queue.counts.bucket;
    let filled = tokens.saturating_add(now_ms.saturating_sub(at_ms).saturating_mul(jobs));
    let tokens = filled.min(jobs.saturating_mul(cost));
    if tokens < cost {
        queue.counts.bucket = Bucket { tokens, at_ms: now_ms };
        return Ok(Err(now_ms + (cost - tokens).div_ceil(jobs.max(1))));
    }
    queue.counts.bucket = Bucket { tokens: tokens - cost, at_ms: now_ms };
    Ok(Ok(()))
}

/// Makes the queue be looked at again.
pub(super) fn wake(scope: &mut Scope<'_>, id: QueueId, at_ms: u64) -> Result<(), Fatal> {
    let queue = touched(scope, id)?;
    let before = queue.counts.wake_ms.replace(at_ms);
    let key = queue.key.clone();
    if before == Some(at_ms) {
        return Ok(());
    }
    if let Some(before_ms) = before {
        expiry::unschedule(scope, Clock::Lease, before_ms, DeadlineKind::Queue, &key);
    }
    expiry::schedule(scope, Clock::Lease, at_ms, DeadlineKind::Queue, &key);
    Ok(())
}

/// Tells a consumer that a job it was given is not its own any more.
pub(super) fn withdraw(scope: &mut Scope<'_>, id: JobId, row: &JobRow) {
    let JobState::Leased { lease, consumer: Some(consumer), .. } = row.state else { return };
    let attached = scope.queues.consumers.get(&consumer).and_then(|of| of.row.attachment);
    if let Some(attachment) = attached {
        scope.events.push(Event::JobWithdrawn { consumer, attachment, id, lease });
    }
}
