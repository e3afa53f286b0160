//! A job's rows, and the places it has in memory: every change of its state goes through [`enter`]
//! and [`leave`].

use super::consumers::refit;
use super::{At, Place, find, touched};
use crate::keys::{self, Clock, DeadlineKind};
use crate::limits::JOB_NOTE_BYTES_MAX;
use crate::rows::{self, JobGroup, JobNoteRow, JobRow, JobState};
use crate::scope::{Failure, Scope};
use crate::{AssignedJob, Era, Fatal, JobId, LeasedJob, Rejection, Txn as _, codec, expiry};

pub(super) fn job(scope: &Scope<'_>, era: Era, id: JobId) -> Result<Option<JobRow>, Fatal> {
    rows::job(&scope.txn, scope.group, era, id)
}

/// A job that must be there.
pub(super) fn known_job(scope: &Scope<'_>, era: Era, id: JobId) -> Result<JobRow, Fatal> {
    job(scope, era, id)?.ok_or_else(|| {
        Fatal::Invariant(format!("job {id} of era {era} is in memory and has no row"))
    })
}

/// The job, if it is leased under this lease and in time.
pub(super) fn leased(
    scope: &Scope<'_>,
    namespace: &str,
    asked: &LeasedJob,
) -> Result<(At, JobRow), Failure> {
    let &LeasedJob { ref queue, id, lease } = asked;
    let at = find(scope, namespace, queue)?;
    let Some(row) = job(scope, at.era, id)? else {
        return Err(Failure::Rejected(Rejection::JobUnknown { queue: queue.clone(), id }));
    };
    match row.state {
        JobState::Leased { lease: newest, until_ms, .. }
            if newest == lease && rows::is_live(Some(until_ms), scope.lease_ms()) =>
        {
            Ok((at, row))
        }
        JobState::Done { .. } => {
            Err(Failure::Rejected(Rejection::JobUnknown { queue: queue.clone(), id }))
        }
        _ => Err(Failure::Rejected(Rejection::JobLeaseLost { id, lease })),
    }
}

/// When something is to become of a job by itself.
pub(crate) fn deadline_of(row: &JobRow) -> Option<(Clock, u64)> {
    match row.state {
        JobState::Ready => row.expires_ms.map(|at_ms| (Clock::Lease, at_ms)),
        JobState::Delayed => {
            let at_ms = row.expires_ms.map_or(row.ready_ms, |at_ms| at_ms.min(row.ready_ms));
            Some((Clock::Lease, at_ms))
        }
        JobState::DelayedUntil { wall_ms } => Some((Clock::Wall, wall_ms)),
        JobState::Leased { until_ms, .. } | JobState::Done { until_ms } => {
            Some((Clock::Lease, until_ms))
        }
    }
}

/// Writes a job in its new state, with everything that belongs to that; [`leave`] went before, but
/// for a new one. A change of what is ready calls for [`dispatch`].
pub(super) fn enter(scope: &mut Scope<'_>, at: At, id: JobId, row: &JobRow) -> Result<(), Fatal> {
    let key = keys::job(scope.group, at.era, id);
    if let Some((clock, at_ms)) = deadline_of(row) {
        expiry::schedule(scope, clock, at_ms, DeadlineKind::Job, &key);
    }
    let counts = &mut touched(scope, at.id)?.counts.jobs;
    match row.state {
        JobState::Ready => counts.ready += 1,
        JobState::Delayed | JobState::DelayedUntil { .. } => counts.delayed += 1,
        JobState::Leased { .. } => counts.leased += 1,
        JobState::Done { .. } => counts.done += 1,
    }
    counts.body_bytes += body_bytes(row);
    match row.state {
        JobState::Ready => {
            let first = |group: &JobGroup| scope.queues.first_of_group(at.era, &group.key);
            if row.group.as_ref().is_none_or(|group| first(group) == Some(id)) {
                scope.queues.ready.insert((at.era, Place::of(id, row)), ());
            }
        }
        JobState::Leased { lease, consumer: Some(consumer), .. } => {
            if let Some(of) = scope.queues.consumers.get_mut(&consumer) {
                of.held += 1;
                let job = AssignedJob { era: at.era, id, lease, attempt: row.attempts };
                scope.queues.held.insert((consumer, id), job);
                refit(scope, consumer);
            }
        }
        _ => {}
    }
    scope.txn.put(&key, &codec::encode(row));
    Ok(())
}

/// Takes back what [`enter`] did, but for the row.
pub(super) fn leave(scope: &mut Scope<'_>, at: At, id: JobId, row: &JobRow) -> Result<(), Fatal> {
    if let Some((clock, at_ms)) = deadline_of(row) {
        let key = keys::job(scope.group, at.era, id);
        expiry::unschedule(scope, clock, at_ms, DeadlineKind::Job, &key);
    }
    let counts = &mut touched(scope, at.id)?.counts.jobs;
    counts.body_bytes -= body_bytes(row);
    match row.state {
        JobState::Ready => {
            counts.ready -= 1;
            scope.queues.ready.remove(&(at.era, Place::of(id, row)));
        }
        JobState::Delayed | JobState::DelayedUntil { .. } => counts.delayed -= 1,
        JobState::Leased { consumer, .. } => {
            counts.leased -= 1;
            if let Some(consumer) = consumer
                && scope.queues.held.remove(&(consumer, id)).is_some()
            {
                if let Some(of) = scope.queues.consumers.get_mut(&consumer) {
                    of.held -= 1;
                    if of.is_closed() {
                        scope.consumers_closed.insert(consumer);
                    }
                }
                refit(scope, consumer);
            }
        }
        JobState::Done { .. } => counts.done -= 1,
    }
    Ok(())
}

/// What it counts for in its queue.
pub(super) fn body_bytes(row: &JobRow) -> u64 {
    match row.state {
        JobState::Done { .. } => 0,
        _ => row.body_bytes,
    }
}

/// Moves a job from one state to another.
pub(super) fn turn(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    before: &JobRow,
    after: &JobRow,
) -> Result<(), Fatal> {
    leave(scope, at, id, before)?;
    enter(scope, at, id, after)
}

/// Lets a group go on without a job that is done, or gone.
pub(super) fn leave_group(scope: &mut Scope<'_>, era: Era, row: &JobRow) -> Result<(), Fatal> {
    let Some(JobGroup { key, order }) = &row.group else { return Ok(()) };
    let first = scope.queues.first_of_group(era, key);
    let left = scope.queues.groups.remove(&(era, key.clone(), *order));
    if left.is_none() || left != first {
        return Ok(());
    }
    // It was the first one: the next may have been waiting for it.
    if let Some(next) = scope.queues.first_of_group(era, key) {
        let row = known_job(scope, era, next)?;
        if row.state == JobState::Ready {
            scope.queues.ready.insert((era, Place::of(next, &row)), ());
        }
    }
    Ok(())
}

/// Takes a job out of its queue, without what is in it and was noted of it.
pub(super) fn take_out(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    row: &JobRow,
) -> Result<(), Fatal> {
    leave(scope, at, id, row)?;
    leave_group(scope, at.era, row)?;
    scope.txn.delete(&keys::job(scope.group, at.era, id));
    scope.queues.meta.jobs -= 1;
    Ok(())
}

/// Puts a job into a queue, behind all of its group.
pub(super) fn put_in(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    row: &mut JobRow,
) -> Result<(), Fatal> {
    if let Some(group) = &mut row.group {
        group.order = scope.queues.next_id();
        scope.queues.groups.insert((at.era, group.key.clone(), group.order), id);
    }
    scope.queues.meta.jobs += 1;
    touched(scope, at.id)?.counts.totals.pushed += 1;
    enter(scope, at, id, row)
}

/// Deletes a job with all that belongs to it.
pub(super) fn remove(scope: &mut Scope<'_>, at: At, id: JobId, row: &JobRow) -> Result<(), Fatal> {
    take_out(scope, at, id, row)?;
    delete_contents(scope, id, row.noted);
    Ok(())
}

pub(super) fn delete_contents(scope: &mut Scope<'_>, id: JobId, noted: bool) {
    scope.txn.delete(&keys::job_body(scope.group, id));
    if noted {
        scope.txn.delete(&keys::job_note(scope.group, id));
    }
}

pub(super) fn note(scope: &Scope<'_>, id: JobId) -> Result<JobNoteRow, Fatal> {
    rows::job_note(&scope.txn, scope.group, id)
}

pub(super) fn write_note(scope: &mut Scope<'_>, id: JobId, note: &JobNoteRow) {
    scope.txn.put(&keys::job_note(scope.group, id), &codec::encode(note));
}

/// The beginning of a text, whole characters of it.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(JOB_NOTE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
