//! What becomes of a job whose attempt failed, whose time ran out, or for which there is no room.

use super::{
    At, Place, at, cut, delete_contents, job, known_job, leave, leave_group, make_for_dead_letters,
    note, put_in, queue, remove, touched, turn, write_note,
};
use crate::keys::{self, Key};
use crate::limits::JOB_FAILURES_MAX;
use crate::rows::{self, DeathCause, JobFailure, JobRow, JobState};
use crate::scope::Scope;
use crate::{Era, Fatal, JobFate, JobId, JobLease, QueueId, Txn as _, WhenFull};

/// Notes a failed attempt.
pub(super) fn note_failure(
    scope: &mut Scope<'_>,
    id: JobId,
    row: &mut JobRow,
    error: &str,
) -> Result<(), Fatal> {
    let mut note = note(scope, id)?;
    let wall_ms = scope.meta.stamp.wall_ms;
    if note.failures.len() >= JOB_FAILURES_MAX {
        note.failures.remove(0);
    }
    note.failures.push(JobFailure { attempt: row.attempts, wall_ms, error: cut(error) });
    note.progress = None;
    row.noted = true;
    write_note(scope, id, &note);
    Ok(())
}

/// What becomes of a job whose attempt failed: another one, or its end.
pub(super) fn failed(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    before: &JobRow,
    error: &str,
    delay_ms: Option<u64>,
) -> Result<JobFate, Fatal> {
    let mut row = before.clone();
    note_failure(scope, id, &mut row, error)?;
    let options = &queue(scope, at.id)?.row.options;
    let (attempts_max, backoff) = (options.attempts_max, options.backoff);
    let cause = match () {
        () if attempts_max > 0 && row.attempts >= attempts_max => Some(DeathCause::Attempts),
        () if is_over(scope, &row) => Some(DeathCause::Expired),
        () => None,
    };
    if let Some(cause) = cause {
        leave(scope, at, id, before)?;
        die(scope, at, id, row, cause)?;
        return Ok(JobFate::Dead);
    }
    let delay_ms = delay_ms.unwrap_or_else(|| backoff.delay_ms(id, row.attempts));
    row.ready_ms = scope.lease_ms().saturating_add(delay_ms);
    row.state = if delay_ms == 0 { JobState::Ready } else { JobState::Delayed };
    turn(scope, at, id, before, &row)?;
    Ok(if delay_ms == 0 { JobFate::Ready } else { JobFate::Delayed { delay_ms } })
}

/// Makes a dead letter of a job that has left its state ([`leave`]).
pub(super) fn die(
    scope: &mut Scope<'_>,
    from: At,
    id: JobId,
    mut row: JobRow,
    cause: DeathCause,
) -> Result<(), Fatal> {
    leave_group(scope, from.era, &row)?;
    scope.txn.delete(&keys::job(scope.group, from.era, id));
    scope.queues.meta.jobs -= 1;
    let queue = touched(scope, from.id)?;
    queue.counts.totals.died += 1;
    let (key, options) = (queue.key.clone(), queue.row.options.clone());
    let Some(Key::Queue { namespace, name }) = keys::parse(scope.group, &key) else {
        return Err(Fatal::Invariant(format!("QUEUE has the key {key:02x?}")));
    };
    let Some(to) = options.dead_letters_of(name) else {
        delete_contents(scope, id, row.noted);
        return Ok(());
    };
    let mut note = note(scope, id)?;
    note.death = Some(cause);
    note.progress = None;
    write_note(scope, id, &note);
    // At most one more for each queue that was made otherwise: where others go was made when that was
    // said, and is made again here when it was deleted since.
    let to = make_for_dead_letters(scope, namespace, &to);
    row.state = JobState::Ready;
    row.ready_ms = scope.lease_ms();
    row.attempts = 0;
    row.expires_ms = None;
    row.noted = true;
    row.from = Some(name.to_owned());
    make_room(scope, to, 1)?;
    put_in(scope, to, id, &mut row)?;
    scope.queues_due.insert(to.id);
    Ok(())
}

/// Drops what a full queue drops for so many new jobs, as far as there is any of it. A queue whose
/// limit was lowered is brought down to it little by little.
pub(super) fn make_room(scope: &mut Scope<'_>, at: At, jobs: u64) -> Result<(), Fatal> {
    let options = &queue(scope, at.id)?.row.options;
    let (when_full, limit) = (options.when_full, options.jobs_max);
    if when_full == WhenFull::Reject {
        return Ok(());
    }
    for _ in 0..jobs * 2 {
        if queue(scope, at.id)?.counts.jobs.unfinished() + jobs <= limit {
            return Ok(());
        }
        let Some(place) = lowest_oldest(scope, at.era) else { return Ok(()) };
        let row = known_job(scope, at.era, place.id)?;
        remove(scope, at, place.id, &row)?;
        touched(scope, at.id)?.counts.totals.dropped += 1;
    }
    Ok(())
}

/// Of the jobs of the lowest priority, the one that has been ready for longest.
fn lowest_oldest(scope: &Scope<'_>, era: Era) -> Option<Place> {
    let last = Place { rank: u8::MAX, ready_ms: u64::MAX, id: JobId(u64::MAX) };
    let ((_, lowest), ()) =
        scope.queues.ready.range((era, Place::FIRST)..=(era, last)).next_back()?;
    scope.queues.ready_from(era, Place { rank: lowest.rank, ..Place::FIRST }).next()
}

/// A lease ended without a word: a failed attempt, with no more waiting, because there was some.
pub(super) fn lapse(
    scope: &mut Scope<'_>,
    queue: QueueId,
    id: JobId,
    under: JobLease,
    error: &str,
) -> Result<(), Fatal> {
    let Some(at) = at(scope, queue) else { return Ok(()) };
    let Some(row) = job(scope, at.era, id)? else { return Ok(()) };
    match row.state.is_leased_under(under) {
        true => lapsed(scope, at, id, &row, error),
        false => Ok(()),
    }
}

/// As [`lapse`], of one that is leased.
pub(super) fn lapsed(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    row: &JobRow,
    error: &str,
) -> Result<(), Fatal> {
    touched(scope, at.id)?.counts.totals.lapsed += 1;
    failed(scope, at, id, row, error, Some(0))?;
    Ok(())
}

/// Gives a job back as if it had not been delivered; one whose time is up has none to wait for
/// another.
pub(super) fn hand_back(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    before: &JobRow,
) -> Result<JobFate, Fatal> {
    let mut row = before.clone();
    row.attempts = row.attempts.saturating_sub(1);
    if is_over(scope, &row) {
        leave(scope, at, id, before)?;
        die(scope, at, id, row, DeathCause::Expired)?;
        return Ok(JobFate::Dead);
    }
    if row.noted {
        // How far it was is over with the attempt, which did not count.
        let mut note = note(scope, id)?;
        note.progress = None;
        write_note(scope, id, &note);
    }
    row.state = JobState::Ready;
    turn(scope, at, id, before, &row)?;
    Ok(JobFate::Ready)
}

/// Whether the time is up in which it is to be delivered.
fn is_over(scope: &Scope<'_>, row: &JobRow) -> bool {
    !rows::is_live(row.expires_ms, scope.lease_ms())
}
