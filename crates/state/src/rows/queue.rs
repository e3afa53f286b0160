//! Values of the tables of the task queue, and how they are found.

use super::{as_bytes, decode, find, undecodable};
use crate::codec;
use crate::keys::{self, Key};
use crate::{
    AssignedJob, Attachment, ConsumerId, Era, Fatal, GroupId, JobId, JobLease, NewJob, QueueId,
    QueueOptions, Read, Repeats, ScheduleId, SessionId,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// The counters of all queues of a group; one row, written at most once per entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueuesMetaRow {
    /// Given last to a queue, job, consumer or era; the next one gets the next. A restore raises it.
    pub(crate) id: u64,
    /// Given last to a delivery. A restore raises it.
    pub(crate) lease: JobLease,
    /// Rows of JOB, but for those of old eras.
    pub(crate) jobs: u64,
    /// Rows of SCHEDULE.
    pub(crate) schedules: u64,
}

/// Jobs that are to be deleted, by their era. The row is empty until the first of them are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OldEraRow {
    /// All up to this one are deleted.
    pub(crate) deleted: JobId,
}

impl OldEraRow {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Fatal> {
        if bytes.is_empty() { Ok(Self { deleted: JobId(0) }) } else { decode("old era row", bytes) }
    }
}

/// A queue; written when it is made or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueRow {
    pub(crate) id: QueueId,
    pub(crate) era: Era,
    pub(crate) paused: bool,
    pub(crate) options: QueueOptions,
}

/// What there is in a queue, and has been; written at most once per entry that touches it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueCountsRow {
    pub(crate) jobs: JobCounts,
    pub(crate) totals: QueueTotals,
    /// The consumer that was given a job last: the next one's turn is it.
    pub(crate) cursor: ConsumerId,
    /// What its rate limit has left.
    pub(crate) bucket: Bucket,
    /// Lease time at which the queue is to be looked at, when it could not deliver all it might.
    pub(crate) wake_ms: Option<u64>,
    /// The jobs that come next.
    pub(crate) next: Vec<JobId>,
    /// Lease time since which the job that has been ready for longest is.
    pub(crate) oldest_ready_ms: Option<u64>,
}

/// A token bucket, filled by the lease clock: each millisecond adds as many tokens as the rate has
/// jobs, and each delivery takes as many as it has milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) tokens: u64,
    /// Lease time at which it had them.
    pub(crate) at_ms: u64,
}

/// How many jobs of a queue are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// Could be delivered, or wait for others of their group.
    pub ready: u64,
    /// Wait for their time.
    pub delayed: u64,
    /// Are being worked on.
    pub leased: u64,
    /// Are done, and kept to be looked at.
    pub done: u64,
    /// Bytes of the payloads, headers and content types of those that are not done.
    pub body_bytes: u64,
}

impl JobCounts {
    /// How many are not done.
    pub(crate) fn unfinished(&self) -> u64 {
        self.ready + self.delayed + self.leased
    }
}

/// What has happened in a queue since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTotals {
    /// Jobs that came in, from other queues too.
    pub pushed: u64,
    /// Jobs that did not come in, because they were there before.
    pub duplicates: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Jobs that were done.
    pub acked: u64,
    /// Failures that were told.
    pub nacked: u64,
    /// Leases that ran out.
    pub lapsed: u64,
    /// Jobs that became dead letters, or were discarded in place of that.
    pub died: u64,
    /// Jobs dropped because the queue was full.
    pub dropped: u64,
    /// Jobs cancelled.
    pub cancelled: u64,
}

/// A job, without what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobRow {
    pub(crate) priority: u8,
    pub(crate) state: JobState,
    /// Lease time at which it is or was ready.
    pub(crate) ready_ms: u64,
    /// Deliveries since it was pushed, or put back from the dead letters.
    pub(crate) attempts: u32,
    /// Wall time of its push.
    pub(crate) pushed_wall_ms: u64,
    /// Lease time from which on it is not delivered any more.
    pub(crate) expires_ms: Option<u64>,
    pub(crate) group: Option<JobGroup>,
    /// The queue that a dead letter came from.
    pub(crate) from: Option<String>,
    /// Whether it has a row in JOB_NOTE.
    pub(crate) noted: bool,
    /// Of its payload, headers and content type.
    pub(crate) body_bytes: u64,
}

/// A job's place in its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobGroup {
    pub(crate) key: Bytes,
    /// Grows with each job that comes into a queue, also back from the dead letters.
    pub(crate) order: u64,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JobState {
    Ready,
    /// Until `ready_ms`.
    Delayed,
    /// Until this wall time.
    DelayedUntil {
        wall_ms: u64,
    },
    Leased {
        lease: JobLease,
        /// None when it was pulled.
        consumer: Option<ConsumerId>,
        until_ms: u64,
    },
    /// Kept until this lease time.
    Done {
        until_ms: u64,
    },
}

impl JobState {
    pub(crate) fn is_leased_under(&self, under: JobLease) -> bool {
        matches!(self, Self::Leased { lease, .. } if *lease == under)
    }
}

/// What is in a job. Borrows it, as [`KvRow`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobBodyRow<'a> {
    pub(crate) content_type: &'a str,
    #[serde(borrow)]
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
    #[serde(serialize_with = "as_bytes")]
    pub(crate) payload: &'a [u8],
}

impl<'a> JobBodyRow<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Fatal> {
        codec::decode_borrowed(bytes).map_err(|error| undecodable("job body row", error))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len() + 18).sum();
        let bytes = 27 + self.content_type.len() + headers + self.payload.len();
        codec::encode_with_capacity(self, bytes)
    }
}

/// What has happened to a job that did not go smoothly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobNoteRow {
    /// The newest ones, in their order.
    pub(crate) failures: Vec<JobFailure>,
    /// Why it is a dead letter.
    pub(crate) death: Option<DeathCause>,
    pub(crate) progress: Option<JobProgress>,
}

/// One failed attempt at a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// Which delivery it was.
    pub attempt: u32,
    /// Wall time of the failure.
    pub wall_ms: u64,
    /// What went wrong, as the worker said; empty when its lease ran out.
    pub error: String,
}

/// Why a job is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeathCause {
    /// It failed as often as it may.
    Attempts,
    /// Its worker said so.
    Rejected,
    /// Its ttl ran out before it was done.
    Expired,
}

/// How far the work on a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// Thousandths.
    pub permille: u32,
    /// What the worker said.
    pub note: String,
    /// Wall time of that.
    pub wall_ms: u64,
}

/// Somebody who takes jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConsumerRow {
    pub(crate) queue: QueueId,
    pub(crate) session: Option<SessionId>,
    /// Where it is; none: it is passed over.
    pub(crate) attachment: Option<Attachment>,
    pub(crate) wants: Wants,
}

/// What a consumer wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wants {
    /// To have up to so many jobs.
    Window(u32),
    /// Up to so many jobs, once.
    Pull {
        count: u32,
        /// Lease time at which the wait is over; once it is, is answered or left, at which it is
        /// forgotten.
        until_ms: u64,
        state: PullState,
    },
}

impl Wants {
    /// Whether nobody waits for more: it is kept for a repetition.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Pull { state: PullState::Answered(_) | PullState::TimedOut, .. })
    }
}

/// What became of a pull so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PullState {
    Waiting,
    Answered(Vec<AssignedJob>),
    TimedOut,
    /// Its caller has left. Should it come back before this is forgotten, it waits on.
    Left {
        /// Lease time at which the wait is over.
        wait_until_ms: u64,
    },
}

/// A dedupe key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DedupeRow {
    pub(crate) job: JobId,
    pub(crate) deadline_ms: u64,
}

/// What pushes jobs again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScheduleRow {
    pub(crate) id: ScheduleId,
    pub(crate) queue: String,
    pub(crate) job: NewJob,
    pub(crate) repeats: Repeats,
    /// Wall time at which it is due; none: nobody has said yet, or never again.
    pub(crate) next_wall_ms: Option<u64>,
    /// Whether somebody is to say when it is due next.
    pub(crate) asks: bool,
    /// Jobs that it pushed.
    pub(crate) pushed: u64,
    /// Times at which it could not, because the push was refused, as by a queue that is full.
    pub(crate) refused: u64,
    /// Wall time of the newest one.
    pub(crate) last_wall_ms: Option<u64>,
}

pub(crate) fn job(
    tables: &dyn Read,
    group: GroupId,
    era: Era,
    id: JobId,
) -> Result<Option<JobRow>, Fatal> {
    find(tables, "job row", &keys::job(group, era, id))
}

/// What is noted of a job; nothing, if it has no such row.
pub(crate) fn job_note(tables: &dyn Read, group: GroupId, id: JobId) -> Result<JobNoteRow, Fatal> {
    Ok(find(tables, "job note row", &keys::job_note(group, id))?.unwrap_or_default())
}

/// Goes through the jobs of an era that come behind one, until it is told to stop. Each comes with
/// the bytes that were read of it.
pub(crate) fn each_job(
    tables: &dyn Read,
    group: GroupId,
    era: Era,
    behind: Option<JobId>,
    mut visit: impl FnMut(JobId, JobRow, usize) -> ControlFlow<()>,
) -> Result<(), Fatal> {
    let (mut from, to) = keys::jobs_range(group, era);
    if let Some(behind) = behind {
        from = keys::successor(keys::job(group, era, behind));
    }
    let mut failed = None;
    tables.scan(&from, &to, &mut |key, value| {
        match (keys::parse(group, key), decode("job row", value)) {
            (Some(Key::Job(_, id)), Ok(row)) => return visit(id, row, key.len() + value.len()),
            (_, Err(fatal)) => failed = Some(fatal),
            _ => failed = Some(Fatal::Invariant(format!("JOB holds the key {key:02x?}"))),
        }
        ControlFlow::Break(())
    })?;
    failed.map_or(Ok(()), Err)
}

/// The counters of the group's queues; a group without the row has none.
pub(crate) fn queues_meta(tables: &dyn Read, group: GroupId) -> Result<QueuesMetaRow, Fatal> {
    Ok(find(tables, "queues meta row", &keys::queues_meta(group))?.unwrap_or_default())
}
