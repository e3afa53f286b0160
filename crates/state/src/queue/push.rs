//! Adds jobs to a queue.

use super::{At, check_name, dispatch, make, make_room, may_make, put_in};
use crate::keys::{self, Clock, DeadlineKind};
use crate::limits::{
    DEDUPE_KEYS_MAX, DEDUPE_WINDOW_MS_MAX, JOB_CONTENT_TYPE_BYTES_MAX, JOB_DELAY_MS_MAX,
    JOB_HEADER_BYTES_MAX, JOB_HEADERS_MAX, JOB_KEY_BYTES_MAX, JOB_PAYLOAD_BYTES_MAX, JOBS_MAX,
    JOBS_PER_CALL_MAX,
};
use crate::rows::{self, DedupeRow, JobBodyRow, JobGroup, JobRow, JobState};
use crate::scope::{Failure, Scope, at_most, within};
use crate::{
    Dedupe, Delay, Fatal, JobId, NewJob, Outcome, PushedJob, QueueId, QueuePush, Rejection,
    Txn as _, WhenFull, codec, expiry,
};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Checks all jobs before it writes the first.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    push: &QueuePush,
) -> Result<Outcome, Failure> {
    check_name(&push.queue)?;
    check_jobs(&push.jobs)?;
    let jobs = push_all(scope, namespace, push)?;
    Ok(Outcome::QueuePush { jobs, revision: scope.revision })
}

/// Pushes jobs that were checked.
pub(crate) fn push_all(
    scope: &mut Scope<'_>,
    namespace: &str,
    push: &QueuePush,
) -> Result<Vec<PushedJob>, Failure> {
    may_make(scope, namespace, &push.queue)?;
    push.jobs.iter().try_for_each(|job| check_until(scope, job))?;
    let known = scope.queues.names.get(&keys::queue(scope.group, namespace, &push.queue)).copied();
    let duplicates = duplicates(scope, known, &push.jobs)?;
    let fresh = duplicates.iter().filter(|of| matches!(of, Known::No)).count() as u64;
    check_room(scope, known, &push.queue, fresh)?;
    let fresh_keys = push.jobs.iter().zip(&duplicates);
    let fresh_keys =
        fresh_keys.filter(|(job, of)| job.dedupe.is_some() && matches!(of, Known::No)).count();
    let keys = scope.queues.counted.dedupe_keys + fresh_keys as u64;
    at_most("dedupe keys in all queues", keys, DEDUPE_KEYS_MAX)?;

    let (at, _) = make(scope, namespace, &push.queue);
    make_room(scope, at, fresh)?;
    let mut pushed: Vec<PushedJob> = Vec::with_capacity(push.jobs.len());
    for (job, known) in push.jobs.iter().zip(duplicates) {
        let id = match known {
            Known::No => {
                pushed.push(PushedJob { id: add(scope, at, job)?, duplicate: false });
                continue;
            }
            Known::As(id) => id,
            Known::Sibling(position) => pushed[position].id,
        };
        super::touched(scope, at.id)?.counts.totals.duplicates += 1;
        pushed.push(PushedJob { id, duplicate: true });
    }
    dispatch(scope, at.id)?;
    Ok(pushed)
}

fn check_jobs(jobs: &[NewJob]) -> Result<(), Rejection> {
    if jobs.is_empty() {
        return Err(Rejection::Invalid("the push has no jobs; give it one or more".to_owned()));
    }
    within("jobs of one push", jobs.len(), JOBS_PER_CALL_MAX as u64)?;
    jobs.iter().try_for_each(check)
}

pub(crate) fn check(job: &NewJob) -> Result<(), Rejection> {
    within("payload bytes of a job", job.payload.len(), JOB_PAYLOAD_BYTES_MAX)?;
    within("content type bytes", job.content_type.len(), JOB_CONTENT_TYPE_BYTES_MAX)?;
    within("headers of a job", job.headers.len(), JOB_HEADERS_MAX as u64)?;
    within("header bytes of a job", header_bytes(job), JOB_HEADER_BYTES_MAX)?;
    if let Delay::For { ms } = job.delay {
        at_most("delay in milliseconds", ms, JOB_DELAY_MS_MAX)?;
    }
    if job.ttl_ms == Some(0) {
        return Err(Rejection::Invalid(
            "the job's ttl is 0 ms; give 1 ms or more, or none to keep it until it is done"
                .to_owned(),
        ));
    }
    at_most("job ttl in milliseconds", job.ttl_ms.unwrap_or(0), JOB_DELAY_MS_MAX)?;
    check_key("group key", job.group.as_ref())?;
    check_key("dedupe key", job.dedupe.as_ref().map(|dedupe| &dedupe.key))?;
    let window_ms = job.dedupe.as_ref().and_then(|dedupe| dedupe.window_ms);
    if window_ms == Some(0) {
        return Err(Rejection::Invalid(
            "the dedupe window is 0 ms; give 1 ms or more, or no dedupe key".to_owned(),
        ));
    }
    at_most("dedupe window in milliseconds", window_ms.unwrap_or(0), DEDUPE_WINDOW_MS_MAX)
}

/// By the clock of the entry, which the door has not.
pub(crate) fn check_until(scope: &Scope<'_>, job: &NewJob) -> Result<(), Rejection> {
    let Delay::Until { wall_ms } = job.delay else { return Ok(()) };
    let ahead_ms = wall_ms.saturating_sub(scope.meta.stamp.wall_ms);
    at_most("time until a job may be delivered in milliseconds", ahead_ms, JOB_DELAY_MS_MAX)
}

fn header_bytes(job: &NewJob) -> usize {
    job.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}

fn check_key(what: &str, key: Option<&Bytes>) -> Result<(), Rejection> {
    let Some(key) = key else { return Ok(()) };
    if key.is_empty() {
        return Err(Rejection::Invalid(format!(
            "the {what} is empty; give one of 1 byte or more, or none"
        )));
    }
    within(&format!("{what} bytes"), key.len(), JOB_KEY_BYTES_MAX)
}

/// Whether a job was pushed before.
#[derive(Clone, Copy)]
enum Known {
    No,
    As(JobId),
    /// As the one at this position of the same push.
    Sibling(usize),
}

fn duplicates(
    scope: &Scope<'_>,
    queue: Option<QueueId>,
    jobs: &[NewJob],
) -> Result<Vec<Known>, Fatal> {
    let mut siblings: BTreeMap<&Bytes, usize> = BTreeMap::new();
    let mut all = Vec::with_capacity(jobs.len());
    for (position, job) in jobs.iter().enumerate() {
        let Some(Dedupe { key, .. }) = &job.dedupe else {
            all.push(Known::No);
            continue;
        };
        let row = match queue {
            Some(queue) => dedupe_row(scope, queue, key)?,
            None => None,
        };
        all.push(match row {
            Some(row) if rows::is_live(Some(row.deadline_ms), scope.lease_ms()) => {
                Known::As(row.job)
            }
            _ => match siblings.get(key) {
                Some(position) => Known::Sibling(*position),
                None => {
                    siblings.insert(key, position);
                    Known::No
                }
            },
        });
    }
    Ok(all)
}

fn dedupe_row(scope: &Scope<'_>, queue: QueueId, key: &[u8]) -> Result<Option<DedupeRow>, Fatal> {
    rows::find(&scope.txn, "dedupe row", &keys::dedupe(scope.group, queue, key))
}

fn check_room(
    scope: &Scope<'_>,
    queue: Option<QueueId>,
    name: &str,
    fresh: u64,
) -> Result<(), Failure> {
    let jobs = scope.queues.meta.jobs + scope.queues.counted.old_jobs;
    at_most("jobs in all queues", jobs + fresh, JOBS_MAX)?;
    let (options, length, droppable) = match queue {
        Some(id) => {
            let of = super::queue(scope, id)?;
            // Those that wait in their groups are not dropped.
            let droppable = scope.queues.ready_from(of.row.era, super::Place::FIRST);
            let droppable =
                droppable.take(usize::try_from(fresh).unwrap_or(usize::MAX)).count() as u64;
            (of.row.options.clone(), of.counts.jobs.unfinished(), droppable)
        }
        None => (crate::QueueOptions::by_name(name), 0, 0),
    };
    let limit = options.jobs_max;
    let too_many = match options.when_full {
        WhenFull::Reject => length + fresh > limit,
        // What is over already is not this push's to pay for.
        WhenFull::DropOldest => {
            let over = (length + fresh).saturating_sub(limit.max(length));
            fresh > limit || over > droppable
        }
    };
    if fresh > 0 && too_many {
        let queue = name.to_owned();
        return Err(Failure::Rejected(Rejection::QueueFull { queue, limit }));
    }
    Ok(())
}

fn add(scope: &mut Scope<'_>, at: At, job: &NewJob) -> Result<JobId, Fatal> {
    let id = JobId(scope.queues.next_id());
    let now_ms = scope.lease_ms();
    let wall_ms = scope.meta.stamp.wall_ms;
    let (state, ready_ms) = match job.delay {
        Delay::For { ms } if ms > 0 => (JobState::Delayed, now_ms.saturating_add(ms)),
        Delay::Until { wall_ms: at_ms } if at_ms > wall_ms => {
            (JobState::DelayedUntil { wall_ms: at_ms }, now_ms)
        }
        _ => (JobState::Ready, now_ms),
    };
    let mut row = JobRow {
        priority: job.priority,
        state,
        ready_ms,
        attempts: 0,
        pushed_wall_ms: wall_ms,
        expires_ms: job.ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms)),
        group: job.group.as_ref().map(|key| JobGroup { key: key.clone(), order: 0 }),
        from: None,
        noted: false,
        body_bytes: (job.payload.len() + job.content_type.len() + header_bytes(job)) as u64,
    };
    let body = JobBodyRow {
        content_type: &job.content_type,
        headers: job.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect(),
        payload: &job.payload,
    };
    scope.txn.put(&keys::job_body(scope.group, id), &body.encode());
    if let Some(dedupe) = &job.dedupe {
        remember(scope, at, id, dedupe)?;
    }
    put_in(scope, at, id, &mut row)?;
    Ok(id)
}

fn remember(scope: &mut Scope<'_>, at: At, id: JobId, dedupe: &Dedupe) -> Result<(), Fatal> {
    let key = keys::dedupe(scope.group, at.id, &dedupe.key);
    // One whose window is over may not be swept yet.
    if let Some(old) = dedupe_row(scope, at.id, &dedupe.key)? {
        expiry::unschedule(scope, Clock::Lease, old.deadline_ms, DeadlineKind::Dedupe, &key);
    } else {
        scope.queues.counted.dedupe_keys += 1;
    }
    let window_ms = match dedupe.window_ms {
        Some(window_ms) => window_ms,
        None => super::queue(scope, at.id)?.row.options.dedupe_window_ms,
    };
    let deadline_ms = scope.lease_ms().saturating_add(window_ms);
    expiry::schedule(scope, Clock::Lease, deadline_ms, DeadlineKind::Dedupe, &key);
    scope.txn.put(&key, &codec::encode(&DedupeRow { job: id, deadline_ms }));
    Ok(())
}
