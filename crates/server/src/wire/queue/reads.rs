//! Queues and jobs as they are looked at.

use super::{job_id, options, queue_name};
use crate::wire::kv::{Freshness, freshness, selector, unselectable};
use crate::wire::{Invalid, invalid, namespace};
use bytes::Bytes;
use quorate_proto::v1;
use quorate_state::limits::{PEEK_MAX, QUEUE_NAME_BYTES_MAX};
use quorate_state::query::{
    JobFilter, JobItem, JobList, JobPage, JobStanding, QueueItem, QueuePage,
};
use quorate_state::{DeathCause, GroupId, JobId, KeySelection, KeySelector, Revision};

/// Bytes of what is in the jobs of a page, after which it ends.
const PAGE_BODIES_BYTES: usize = 256 << 10;
/// Bytes of what was noted of the jobs of a page, likewise.
const PAGE_NOTES_BYTES: usize = 512 << 10;
/// Items of a page when the request says nothing, and at most.
const PAGE_ITEMS: (u32, u32) = (100, 1_000);

fn page_items(limit: u32) -> usize {
    let (default, max) = PAGE_ITEMS;
    match limit {
        0 => default as usize,
        some => some.min(max) as usize,
    }
}

/// A checked read of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) namespace: String,
    pub(crate) queue: String,
    pub(crate) fresh: Freshness,
}

fn of_queue(
    name: String,
    queue: String,
    consistency: i32,
    min_revision: u64,
) -> Result<Queue, Invalid> {
    Ok(Queue {
        namespace: namespace(name)?,
        queue: queue_name(queue)?,
        fresh: freshness(consistency, min_revision)?,
    })
}

pub(crate) fn stats(request: v1::StatsRequest) -> Result<Queue, Invalid> {
    of_queue(request.namespace, request.queue, request.consistency, request.min_revision)
}

pub(crate) fn get_job(request: v1::GetJobRequest) -> Result<(Queue, JobId), Invalid> {
    let id = job_id(request.job_id)?;
    let of = of_queue(request.namespace, request.queue, request.consistency, request.min_revision)?;
    Ok((of, id))
}

pub(crate) fn peek(request: v1::PeekRequest) -> Result<(Queue, usize), Invalid> {
    let count = (request.limit as usize).clamp(1, PEEK_MAX);
    let of = of_queue(request.namespace, request.queue, request.consistency, request.min_revision)?;
    Ok((of, count))
}

pub(crate) fn list_jobs(request: v1::ListJobsRequest) -> Result<(Queue, JobList), Invalid> {
    let filter = match v1::JobState::try_from(request.state) {
        Ok(v1::JobState::Unspecified) => JobFilter::All,
        Ok(v1::JobState::Ready) => JobFilter::Ready,
        Ok(v1::JobState::Delayed) => JobFilter::Delayed,
        Ok(v1::JobState::Leased) => JobFilter::Leased,
        Ok(v1::JobState::Done) => JobFilter::Done,
        Ok(v1::JobState::Dead) => {
            return Err(invalid(
                "INVALID_STATE",
                "dead letters are READY in the queue where they are; list that one, which is \
                 <queue>.dead if nothing else was said",
            ));
        }
        Err(_) => {
            return Err(invalid(
                "UNKNOWN_STATE",
                format!("state {} is unknown to this version; 1 is ready", request.state),
            ));
        }
    };
    let list = JobList {
        filter,
        after: (request.cursor > 0).then_some(JobId(request.cursor)),
        items_max: page_items(request.limit),
        bodies: request.payloads,
        bytes_max: if request.payloads { PAGE_BODIES_BYTES } else { PAGE_NOTES_BYTES },
    };
    let of = of_queue(request.namespace, request.queue, request.consistency, request.min_revision)?;
    Ok((of, list))
}

pub(crate) fn listed_jobs(
    page: JobPage,
    revision: Revision,
    group: GroupId,
) -> v1::ListJobsResponse {
    v1::ListJobsResponse {
        jobs: page.jobs.into_iter().map(job).collect(),
        cursor: page.cursor.map_or(0, |id| id.0),
        revision: revision.0,
        group_id: group.0,
    }
}

/// A checked `ListQueues`.
#[derive(Clone, Debug)]
pub(crate) struct ListQueues {
    pub(crate) namespace: String,
    pub(crate) selection: KeySelection,
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
    pub(crate) fresh: Freshness,
}

pub(crate) fn list_queues(request: v1::ListQueuesRequest) -> Result<ListQueues, Invalid> {
    let selector = selector(request.selector).unwrap_or(KeySelector::Prefix(Bytes::new()));
    // A queue of dead letters has a longer name than the one they come from.
    if request.cursor.len() as u64 > 2 * QUEUE_NAME_BYTES_MAX {
        return Err(invalid("INVALID_CURSOR", "the cursor is none that was answered before"));
    }
    Ok(ListQueues {
        namespace: namespace(request.namespace)?,
        selection: selector.select().map_err(|rejection| unselectable(&rejection))?,
        after: (!request.cursor.is_empty()).then_some(request.cursor),
        limit: page_items(request.limit),
        fresh: freshness(request.consistency, request.min_revision)?,
    })
}

pub(crate) fn listed_queues(
    page: QueuePage,
    revision: Revision,
    group: GroupId,
) -> v1::ListQueuesResponse {
    v1::ListQueuesResponse {
        queues: page.queues.into_iter().map(|(name, item)| info(name, item)).collect(),
        cursor: page.cursor.unwrap_or_default(),
        revision: revision.0,
        group_id: group.0,
    }
}

/// A queue with all that is counted of it.
pub(crate) fn info(name: String, item: QueueItem) -> v1::QueueInfo {
    let QueueItem { paused, options: of, jobs, dead, totals, oldest_ready_age_ms } = item;
    v1::QueueInfo {
        queue: name,
        paused,
        ready: jobs.ready,
        delayed: jobs.delayed,
        leased: jobs.leased,
        done: jobs.done,
        dead,
        body_bytes: jobs.body_bytes,
        oldest_ready_ms: oldest_ready_age_ms,
        totals: Some(v1::QueueTotals {
            pushed: totals.pushed,
            duplicates: totals.duplicates,
            delivered: totals.delivered,
            acked: totals.acked,
            nacked: totals.nacked,
            lapsed: totals.lapsed,
            died: totals.died,
            dropped: totals.dropped,
            cancelled: totals.cancelled,
        }),
        options: Some(options(of)),
    }
}

/// A job, with what is in it as far as that was read.
pub(crate) fn job(item: JobItem) -> v1::Job {
    let (state, state_ms) = match item.standing {
        JobStanding::Ready => (v1::JobState::Ready, 0),
        JobStanding::Delayed { for_ms } => (v1::JobState::Delayed, for_ms),
        JobStanding::DelayedUntil { .. } => (v1::JobState::Delayed, 0),
        JobStanding::Leased { for_ms, .. } => (v1::JobState::Leased, for_ms),
        JobStanding::Done { for_ms } => (v1::JobState::Done, for_ms),
    };
    let not_before_ms = match item.standing {
        JobStanding::DelayedUntil { wall_ms } => wall_ms,
        _ => 0,
    };
    let lease = match item.standing {
        JobStanding::Leased { lease, .. } => lease.0,
        _ => 0,
    };
    let death_cause = match item.death {
        None => v1::DeathCause::Unspecified,
        Some(DeathCause::Attempts) => v1::DeathCause::Attempts,
        Some(DeathCause::Rejected) => v1::DeathCause::Rejected,
        Some(DeathCause::Expired) => v1::DeathCause::Expired,
    };
    let failures = item.failures.into_iter().map(|failure| v1::JobFailure {
        attempt: failure.attempt,
        unix_ms: failure.wall_ms,
        error: failure.error,
    });
    let body = item.body.unwrap_or_default();
    v1::Job {
        job_id: item.id.0,
        state: state.into(),
        state_ms,
        not_before_ms,
        lease,
        attempts: item.attempts,
        priority: item.priority.into(),
        pushed_unix_ms: item.pushed_wall_ms,
        remaining_ttl_ms: item.remaining_ttl_ms,
        group: item.group.unwrap_or_default(),
        from_queue: item.from.unwrap_or_default(),
        death_cause: death_cause.into(),
        failures: failures.collect(),
        progress: item.progress.map(|progress| v1::JobProgress {
            permille: progress.permille,
            note: progress.note,
            unix_ms: progress.wall_ms,
        }),
        payload: body.payload,
        content_type: body.content_type,
        headers: headers(body.headers),
    }
}

pub(super) fn headers(headers: Vec<(String, Bytes)>) -> Vec<v1::JobHeader> {
    headers.into_iter().map(|(name, value)| v1::JobHeader { name, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::query::JobBody;
    use quorate_state::{JobFailure, JobLease, JobProgress};

    #[test]
    fn a_list_of_jobs_has_a_filter_and_bounds() {
        let asked = |state| v1::ListJobsRequest { queue: "q".into(), state, ..Default::default() };
        for (state, filter) in [
            (0, JobFilter::All),
            (1, JobFilter::Ready),
            (2, JobFilter::Delayed),
            (3, JobFilter::Leased),
            (4, JobFilter::Done),
        ] {
            let (_, list) = list_jobs(asked(state)).unwrap();
            assert_eq!((list.filter, list.after, list.items_max), (filter, None, 100));
            assert!(!list.bodies);
        }
        assert_eq!(list_jobs(asked(5)).unwrap_err().reason, "INVALID_STATE");
        for unknown in [6, -1] {
            assert_eq!(list_jobs(asked(unknown)).unwrap_err().reason, "UNKNOWN_STATE");
        }
        let next = v1::ListJobsRequest { cursor: 7, limit: 5_000, payloads: true, ..asked(0) };
        let (_, list) = list_jobs(next).unwrap();
        assert_eq!((list.after, list.items_max, list.bodies), (Some(JobId(7)), 1_000, true));
    }

    #[test]
    fn reads_are_checked() {
        let peeked = |limit| {
            peek(v1::PeekRequest { queue: "q".into(), limit, ..Default::default() }).unwrap().1
        };
        assert_eq!((peeked(0), peeked(7), peeked(99)), (1, 7, 16));
        assert_eq!(stats(Default::default()).unwrap_err().reason, "QUEUE_NAME_EMPTY");
        let nothing = v1::GetJobRequest { queue: "q".into(), ..Default::default() };
        assert_eq!(get_job(nothing).unwrap_err().reason, "NO_JOB");
        let (queue, consistency) = ("q".into(), 9);
        let unknown = v1::StatsRequest { queue, consistency, ..Default::default() };
        assert_eq!(stats(unknown).unwrap_err().reason, "UNKNOWN_CONSISTENCY");
        let cursor = "q".repeat(2_000);
        let far = v1::ListQueuesRequest { cursor, ..Default::default() };
        assert_eq!(list_queues(far).unwrap_err().reason, "INVALID_CURSOR");
    }

    #[test]
    fn a_job_is_shown_with_all_there_is() {
        let item = JobItem {
            id: JobId(7),
            standing: JobStanding::Leased { lease: JobLease(9), consumer: None, for_ms: 30 },
            priority: 3,
            attempts: 2,
            pushed_wall_ms: 1_000,
            remaining_ttl_ms: Some(5),
            group: Some("g".into()),
            from: Some("q".into()),
            death: Some(DeathCause::Rejected),
            failures: vec![JobFailure { attempt: 1, wall_ms: 4, error: "broken".into() }],
            progress: Some(JobProgress { permille: 500, note: "half".into(), wall_ms: 6 }),
            body: Some(JobBody {
                content_type: "text/plain".into(),
                headers: vec![("n".into(), "v".into())],
                payload: "p".into(),
            }),
        };
        let shown = job(item.clone());
        let expected = v1::Job {
            job_id: 7,
            state: v1::JobState::Leased.into(),
            state_ms: 30,
            not_before_ms: 0,
            lease: 9,
            attempts: 2,
            priority: 3,
            pushed_unix_ms: 1_000,
            remaining_ttl_ms: Some(5),
            group: "g".into(),
            from_queue: "q".into(),
            death_cause: v1::DeathCause::Rejected.into(),
            failures: vec![v1::JobFailure { attempt: 1, unix_ms: 4, error: "broken".into() }],
            progress: Some(v1::JobProgress { permille: 500, note: "half".into(), unix_ms: 6 }),
            payload: "p".into(),
            content_type: "text/plain".into(),
            headers: vec![v1::JobHeader { name: "n".into(), value: "v".into() }],
        };
        assert_eq!(shown, expected);
        let standing = JobStanding::DelayedUntil { wall_ms: 8 };
        let later = job(JobItem { standing, body: None, ..item });
        assert_eq!((later.state(), later.not_before_ms), (v1::JobState::Delayed, 8));
        assert!(later.payload.is_empty() && later.lease == 0);
    }
}
