//! The commands of the task queue.

use super::Attachment;
use crate::bounded;
use crate::limits::{JOB_HEADERS_MAX, JOBS_PER_CALL_MAX};
use crate::{ConsumerId, JobId, JobLease, NodeId, ScheduleId, SessionId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// `Push`: all of the jobs or none. The queue is made when it is not there yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePush {
    /// The queue, 1 to 512 bytes.
    pub queue: String,
    /// From 1 to [`JOBS_PER_CALL_MAX`].
    #[serde(deserialize_with = "bounded::list::<JOBS_PER_CALL_MAX, _, _>")]
    pub jobs: Vec<NewJob>,
}

/// A job as it is pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewJob {
    /// At most 1 MiB.
    pub payload: Bytes,
    /// Of the payload; empty when it has none.
    pub content_type: String,
    /// Names and values, in their order.
    #[serde(deserialize_with = "bounded::list::<JOB_HEADERS_MAX, _, _>")]
    pub headers: Vec<(String, Bytes)>,
    /// Jobs of a higher one come first.
    pub priority: u8,
    /// When it is ready.
    pub delay: Delay,
    /// It is a dead letter when it was not delivered for the first time, or not again, after this
    /// long in lease time.
    pub ttl_ms: Option<u64>,
    /// Jobs of the same group are done one at a time, in the order they were pushed.
    pub group: Option<Bytes>,
    /// A job pushed under the same key within the window is taken for the same.
    pub dedupe: Option<Dedupe>,
}

impl NewJob {
    /// Bytes of its payload, content type, headers and keys.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let keys = [self.group.as_ref(), self.dedupe.as_ref().map(|dedupe| &dedupe.key)];
        let keys = keys.into_iter().flatten().map(Bytes::len);
        self.payload.len() + self.content_type.len() + headers.chain(keys).sum::<usize>()
    }
}

/// When a job is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delay {
    /// At once.
    #[default]
    None,
    /// After this long in lease time.
    For {
        /// In milliseconds.
        ms: u64,
    },
    /// When the replicated wall clock gets there.
    Until {
        /// Unix time in milliseconds.
        wall_ms: u64,
    },
}

/// What two jobs are recognised as the same by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedupe {
    /// 1 to 255 bytes.
    pub key: Bytes,
    /// How long, in lease time; none: as the queue's options say.
    pub window_ms: Option<u64>,
}

/// `Pull`: takes jobs that are ready, or waits until one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePull {
    /// What is asked for; a repetition repeats it.
    pub request: PullRequest,
    /// Where its caller waits for the answer; a repetition may come another way.
    pub attachment: Attachment,
}

/// What a pull asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// The queue; made when it is not there yet.
    pub queue: String,
    /// From 1 to [`JOBS_PER_CALL_MAX`]; it is answered as soon as there is one.
    pub count: u32,
    /// How long to wait for one, in lease time; 0 takes what is ready now.
    pub wait_ms: u64,
}

/// Somebody consumes a queue from now on, or goes on elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerAttach {
    /// The queue; made when it is not there yet.
    pub queue: String,
    /// Who it was before; none: a new one.
    pub consumer: Option<ConsumerId>,
    /// It ends with this session, and may come back until then; without one it ends when it is
    /// detached.
    pub session: Option<SessionId>,
    /// How many jobs it may have unacknowledged, up to
    /// [`crate::limits::CONSUMER_WINDOW_MAX`]; with 0 it gets none.
    pub window: u32,
    /// Where.
    pub attachment: Attachment,
}

/// Says that a consumer, or a pull that waits, is not there any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerDetach {
    /// Which.
    pub consumer: ConsumerId,
    /// Where it was: it may be somewhere else by now.
    pub attachment: Attachment,
    /// Of what it was assigned there, everything up to this lease was delivered. The rest goes to
    /// others, and was no attempt.
    pub delivered: JobLease,
}

/// Says that nobody consumes on a node any more, because it can't be reached. One step of
/// [`crate::limits::CONSUMER_DETACH_PER_ENTRY_MAX`] at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerDetachNode {
    /// Which.
    pub node: NodeId,
}

/// Changes how many jobs a consumer may have unacknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerResize {
    /// Which.
    pub consumer: ConsumerId,
    /// Where it is.
    pub attachment: Attachment,
    /// As in [`ConsumerAttach`].
    pub window: u32,
}

/// A job under the lease of one delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedJob {
    /// The queue it was taken from.
    pub queue: String,
    /// Which.
    pub id: JobId,
    /// What it was delivered under.
    pub lease: JobLease,
}

/// `Ack`: the job is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueAck {
    /// Which.
    pub job: LeasedJob,
}

/// `Nack`: the job is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueNack {
    /// Which.
    pub job: LeasedJob,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What went wrong; cut to [`crate::limits::JOB_NOTE_BYTES_MAX`].
    pub error: String,
}

/// What becomes of a job that is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is tried again after this long in lease time, or as the queue's backoff says; it is a
    /// dead letter when that was the last attempt.
    Retry {
        /// In milliseconds.
        delay_ms: Option<u64>,
    },
    /// It is a dead letter.
    Dead,
    /// It is ready again, at its old place, as if it had not been delivered.
    #[default]
    Return,
}

/// `Extend`: the lease lasts so long from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueExtend {
    /// Which.
    pub job: LeasedJob,
    /// In lease time; none: the queue's visibility timeout.
    pub for_ms: Option<u64>,
}

/// `Progress`: how far the work on a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueProgress {
    /// Which.
    pub job: LeasedJob,
    /// Thousandths, up to 1000.
    pub permille: u32,
    /// Cut to [`crate::limits::JOB_NOTE_BYTES_MAX`].
    pub note: String,
}

/// `Cancel`: the job is gone, whether it is ready, delayed or being worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueCancel {
    /// The queue.
    pub queue: String,
    /// Which.
    pub id: JobId,
}

/// `Update`: makes a queue, or changes its options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueUpdate {
    /// The queue.
    pub queue: String,
    /// What changes; the rest stays, or is what it is by default.
    pub change: QueueChange,
}

/// Options that change; none stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueChange {
    /// See [`QueueOptions::visibility_ms`].
    pub visibility_ms: Option<u64>,
    /// See [`QueueOptions::attempts_max`].
    pub attempts_max: Option<u32>,
    /// See [`QueueOptions::backoff`].
    pub backoff: Option<Backoff>,
    /// See [`QueueOptions::dead_letters`].
    pub dead_letters: Option<DeadLetters>,
    /// See [`QueueOptions::keep_done_ms`].
    pub keep_done_ms: Option<u64>,
    /// See [`QueueOptions::jobs_max`].
    pub jobs_max: Option<u64>,
    /// See [`QueueOptions::when_full`].
    pub when_full: Option<WhenFull>,
    /// See [`QueueOptions::parallel_max`].
    pub parallel_max: Option<u32>,
    /// See [`QueueOptions::rate`]; a rate of 0 jobs takes the limit away.
    pub rate: Option<Rate>,
    /// See [`QueueOptions::dedupe_window_ms`].
    pub dedupe_window_ms: Option<u64>,
}

/// How a queue works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueOptions {
    /// A job that was delivered is delivered again when it is neither acknowledged nor extended for
    /// this long, in lease time.
    pub visibility_ms: u64,
    /// A job that was delivered so often is a dead letter when it fails again; 0: never.
    pub attempts_max: u32,
    /// How long a job that failed waits.
    pub backoff: Backoff,
    /// Where jobs go that are given up.
    pub dead_letters: DeadLetters,
    /// How long a job is kept after it was done, to be looked at; 0: not at all.
    pub keep_done_ms: u64,
    /// How many jobs it holds that are not done.
    pub jobs_max: u64,
    /// What happens to a push beyond that.
    pub when_full: WhenFull,
    /// How many of its jobs may be worked on at once, in the whole cluster; 0: any number.
    pub parallel_max: u32,
    /// How many jobs it delivers in a time; none: as many as are asked for.
    pub rate: Option<Rate>,
    /// How long dedupe keys are remembered, unless the job says otherwise.
    pub dedupe_window_ms: u64,
}

/// How long a job that failed waits for its next attempt, in lease time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Whether each wait is twice the one before.
    pub exponential: bool,
    /// The first wait in milliseconds.
    pub base_ms: u64,
    /// The longest one.
    pub cap_ms: u64,
    /// Up to so many thousandths of a wait are taken off, by a hash of job and attempt, so that jobs
    /// that failed together don't come back together.
    pub jitter_permille: u32,
}

/// Where jobs go that are given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadLetters {
    /// To the queue `<name>.dead`, which is made for it.
    #[default]
    Own,
    /// To this queue, which is made for it.
    To(String),
    /// Nowhere: they are gone, and counted.
    Discard,
}

/// What happens to a push into a full queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenFull {
    /// It is refused.
    #[default]
    Reject,
    /// The jobs that have been ready for longest, of the lowest priority there is, are dropped for
    /// it.
    DropOldest,
}

/// So many jobs in so long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// As many may also come at once.
    pub jobs: u32,
    /// In lease time.
    pub per_ms: u64,
}

/// `Pause` and `Resume`: whether a queue delivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePause {
    /// The queue; made when it is not there yet.
    pub queue: String,
    /// Whether it stands still.
    pub paused: bool,
}

/// `Purge`: all jobs of the queue are gone, those that are worked on, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePurge {
    /// The queue.
    pub queue: String,
}

/// `Delete`: the queue is gone with all its jobs, and its consumers end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDelete {
    /// The queue.
    pub queue: String,
}

/// `Redrive`: dead letters go back to the queue they came from. One step of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRedrive {
    /// The queue they came from.
    pub queue: String,
    /// Which.
    pub which: Redriven,
}

/// Which dead letters go back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redriven {
    /// These; those that are not there are passed over.
    Jobs(#[serde(deserialize_with = "bounded::list::<JOBS_PER_CALL_MAX, _, _>")] Vec<JobId>),
    /// All above this id (the cursor of the step before), up to a number of them.
    After {
        /// None: from the first one on.
        after: Option<JobId>,
        /// At most so many, from 1; more than [`crate::limits::REDRIVE_PER_ENTRY_MAX`] mean as many
        /// as that.
        jobs_max: u64,
    },
}

/// `PutSchedule`: pushes a job again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulePut {
    /// What it is called, 1 to 512 bytes; one of that name is replaced.
    pub name: String,
    /// Where the jobs go.
    pub queue: String,
    /// The job; its delay counts from each time.
    pub job: NewJob,
    /// When.
    pub repeats: Repeats,
    /// The first time, as Unix time in milliseconds; none: one period from now, or what the text
    /// says, as soon as somebody has worked that out.
    pub next_wall_ms: Option<u64>,
}

/// When a schedule pushes a job, by the replicated wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repeats {
    /// So often.
    Every {
        /// At least [`crate::limits::SCHEDULE_EVERY_MS_MIN`].
        ms: u64,
    },
    /// At times that a text says. The state machine does not read it: what a time zone means
    /// changes with the edition of its tables, so whoever leads says when the next time is
    /// ([`ScheduleNext`]).
    Cron {
        /// What was asked for.
        text: String,
        /// The time zone, by its name; empty is UTC.
        zone: String,
    },
}

/// Says when a schedule is due next; proposed by the leader's node alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleNext {
    /// Which.
    pub name: String,
    /// As which it was put: it may have been replaced.
    pub id: ScheduleId,
    /// Unix time in milliseconds; none: never again.
    pub next_wall_ms: Option<u64>,
}

/// `DeleteSchedule`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleDelete {
    /// Which.
    pub name: String,
}
