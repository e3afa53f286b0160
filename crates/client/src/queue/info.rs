//! What is told about queues and jobs, and how a queue works.

use crate::kv::millis;
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::queue_dead_letters::To;
use std::time::{Duration, SystemTime};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobState {
    /// It can be delivered, or waits for others of its group.
    Ready,
    /// It waits for its time.
    Delayed,
    /// It is being worked on.
    Leased,
    /// It is done, and kept to be looked at.
    Done,
    /// It was given up. A dead letter is ready in the queue where it is now; only answers to a nack
    /// say this.
    Dead,
    /// In a way that this version of the client does not know.
    Other,
}

impl JobState {
    pub(super) fn read(state: i32) -> Self {
        match v1::JobState::try_from(state) {
            Ok(v1::JobState::Ready) => Self::Ready,
            Ok(v1::JobState::Delayed) => Self::Delayed,
            Ok(v1::JobState::Leased) => Self::Leased,
            Ok(v1::JobState::Done) => Self::Done,
            Ok(v1::JobState::Dead) => Self::Dead,
            Ok(v1::JobState::Unspecified) | Err(_) => Self::Other,
        }
    }

    pub(super) fn to_wire(self) -> i32 {
        let state = match self {
            Self::Ready => v1::JobState::Ready,
            Self::Delayed => v1::JobState::Delayed,
            Self::Leased => v1::JobState::Leased,
            Self::Done => v1::JobState::Done,
            Self::Dead => v1::JobState::Dead,
            Self::Other => v1::JobState::Unspecified,
        };
        state.into()
    }
}

/// Why a job was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeathCause {
    /// It failed as often as it may.
    Attempts,
    /// Its worker said so.
    Rejected,
    /// Its ttl ran out.
    Expired,
    /// For a reason that this version of the client does not know.
    Other,
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobFailure {
    /// Which, from 1.
    pub attempt: u32,
    /// When, by the cluster's wall clock.
    pub at: SystemTime,
    /// What the worker said; empty when its lease ran out.
    pub error: String,
}

/// How far the work on a job is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobProgress {
    /// 0 to 1, in thousandths.
    pub fraction: f64,
    /// What the worker said.
    pub note: String,
    /// When, by the cluster's wall clock.
    pub at: SystemTime,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobInfo {
    /// Its id.
    pub id: u64,
    /// The queue where it is.
    pub queue: String,
    /// Where it stands.
    pub state: JobState,
    /// How long until it is ready, its lease ends, or it is no longer kept, as its state is. Of one
    /// that waits for a wall time: see `not_before`.
    pub state_for: Duration,
    /// The wall time that it waits for.
    pub not_before: Option<SystemTime>,
    /// Of one that is worked on: under what.
    pub lease: Option<u64>,
    /// How often it was delivered since it was pushed or put back.
    pub attempts: u32,
    /// As it was pushed.
    pub priority: u32,
    /// When it was pushed, by the cluster's wall clock.
    pub pushed_at: SystemTime,
    /// For how long it is still delivered; none when it has no ttl.
    pub remaining_ttl: Option<Duration>,
    /// As it was pushed; empty when it has none.
    pub group: Bytes,
    /// Of a dead letter: the queue it came from.
    pub from_queue: Option<String>,
    /// Of a dead letter: why.
    pub death_cause: Option<DeathCause>,
    /// Its newest failures, up to ten, in their order.
    pub failures: Vec<JobFailure>,
    /// How far the work on it is, if that was said.
    pub progress: Option<JobProgress>,
    /// As it was pushed; empty when it was not asked for.
    pub payload: Bytes,
    /// As it was pushed.
    pub content_type: String,
    /// As they were pushed.
    pub headers: Vec<(String, Bytes)>,
}

impl JobInfo {
    pub(crate) fn read(job: v1::Job, queue: &str) -> Self {
        let death_cause = match v1::DeathCause::try_from(job.death_cause) {
            Ok(v1::DeathCause::Unspecified) => None,
            Ok(v1::DeathCause::Attempts) => Some(DeathCause::Attempts),
            Ok(v1::DeathCause::Rejected) => Some(DeathCause::Rejected),
            Ok(v1::DeathCause::Expired) => Some(DeathCause::Expired),
            Err(_) => Some(DeathCause::Other),
        };
        let failures = job.failures.into_iter().map(|failure| JobFailure {
            attempt: failure.attempt,
            at: wall_time(failure.unix_ms),
            error: failure.error,
        });
        let progress = job.progress.map(|progress| JobProgress {
            fraction: f64::from(progress.permille) / 1_000.0,
            note: progress.note,
            at: wall_time(progress.unix_ms),
        });
        Self {
            id: job.job_id,
            queue: queue.to_owned(),
            state: JobState::read(job.state),
            state_for: Duration::from_millis(job.state_ms),
            not_before: (job.not_before_ms > 0).then(|| wall_time(job.not_before_ms)),
            lease: (job.lease > 0).then_some(job.lease),
            attempts: job.attempts,
            priority: job.priority,
            pushed_at: wall_time(job.pushed_unix_ms),
            remaining_ttl: job.remaining_ttl_ms.map(Duration::from_millis),
            group: job.group,
            from_queue: (!job.from_queue.is_empty()).then_some(job.from_queue),
            death_cause,
            failures: failures.collect(),
            progress,
            payload: job.payload,
            content_type: job.content_type,
            headers: headers(job.headers),
        }
    }
}

pub(super) fn headers(headers: Vec<v1::JobHeader>) -> Vec<(String, Bytes)> {
    headers.into_iter().map(|header| (header.name, header.value)).collect()
}

pub(super) fn wall_time(unix_ms: u64) -> SystemTime {
    let since = Duration::from_millis(unix_ms);
    // What no clock can show comes from nobody of ours.
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A queue as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its name.
    pub name: String,
    /// Whether it delivers nothing.
    pub paused: bool,
    /// Jobs that can be delivered, or wait for others of their group.
    pub ready: u64,
    /// Jobs that wait for their time.
    pub delayed: u64,
    /// Jobs that are worked on.
    pub leased: u64,
    /// Jobs that are done, and kept.
    pub done: u64,
    /// Jobs where its dead letters go, whichever queue they came from.
    pub dead: u64,
    /// Bytes of payloads, headers and content types of the jobs that are not done.
    pub body_bytes: u64,
    /// Since when the job that has been ready for longest is; none when none is.
    pub oldest_ready: Option<Duration>,
    /// What has happened in it since it was made.
    pub totals: QueueTotals,
    /// How it works.
    pub options: QueueOptions,
}

/// What has happened in a queue since it was made. Rates are the differences of two answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueTotals {
    /// Jobs that came in, from dead letters too.
    pub pushed: u64,
    /// Jobs that did not come in, because they had before.
    pub duplicates: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Jobs that were done.
    pub acked: u64,
    /// Failures that were told.
    pub nacked: u64,
    /// Leases that ran out.
    pub lapsed: u64,
    /// Jobs that were given up.
    pub died: u64,
    /// Jobs dropped because the queue was full.
    pub dropped: u64,
    /// Jobs cancelled.
    pub cancelled: u64,
}

/// How a queue works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueOptions {
    /// A job that was delivered is delivered again when it is neither settled nor extended for this
    /// long.
    pub visibility: Duration,
    /// A job that was delivered so often is given up when it fails again; 0: never.
    pub attempts_max: u32,
    /// How long a job that failed waits.
    pub backoff: Backoff,
    /// Where jobs go that are given up.
    pub dead_letters: DeadLetters,
    /// How long jobs are kept after they were done; zero: not at all.
    pub keep_done: Duration,
    /// How many jobs it holds.
    pub jobs_max: u64,
    /// What happens to a push beyond that.
    pub when_full: WhenFull,
    /// How many of its jobs may be worked on at once, in the whole cluster; 0: any number.
    pub parallel_max: u32,
    /// How many jobs it delivers in a time; none: any number.
    pub rate: Option<Rate>,
    /// How long dedupe keys are remembered.
    pub dedupe_window: Duration,
}

/// How long a job that failed waits for its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Whether each wait is twice the one before.
    pub exponential: bool,
    /// The first wait, up to a day.
    pub base: Duration,
    /// The longest one, likewise.
    pub cap: Duration,
    /// Up to so many thousandths of a wait are taken off at random, 0 to 1000, so that jobs that
    /// failed together don't come back together.
    pub jitter_permille: u32,
}

impl Backoff {
    /// The same wait each time.
    #[must_use]
    pub fn fixed(wait: Duration) -> Self {
        Self { exponential: false, base: wait, cap: wait, jitter_permille: 0 }
    }

    /// A wait that doubles from `base` to `cap`, up to a fifth of it taken off at random.
    #[must_use]
    pub fn exponential(base: Duration, cap: Duration) -> Self {
        Self { exponential: true, base, cap, jitter_permille: 200 }
    }

    pub(super) fn to_wire(self) -> v1::QueueBackoff {
        v1::QueueBackoff {
            exponential: self.exponential,
            base_ms: millis(self.base),
            cap_ms: millis(self.cap),
            jitter_permille: self.jitter_permille,
        }
    }
}

/// Where jobs go that are given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadLetters {
    /// To the queue `<name>.dead`.
    Own,
    /// To the queue of this name.
    To(String),
    /// Nowhere: they are gone, and counted.
    Discard,
}

impl DeadLetters {
    pub(super) fn to_wire(&self) -> v1::QueueDeadLetters {
        let to = match self {
            Self::Own => To::Own(true),
            Self::To(queue) => To::Queue(queue.clone()),
            Self::Discard => To::Discard(true),
        };
        v1::QueueDeadLetters { to: Some(to) }
    }
}

/// What happens to a push into a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It is refused.
    Reject,
    /// The jobs that have been ready for longest, of the lowest priority there is, are dropped for
    /// it.
    DropOldest,
}

impl WhenFull {
    pub(super) fn to_wire(self) -> i32 {
        let when_full = match self {
            Self::Reject => v1::QueueWhenFull::Reject,
            Self::DropOldest => v1::QueueWhenFull::DropOldest,
        };
        when_full.into()
    }
}

/// So many jobs in so long; as many may also come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At most 1000000; 0: any number.
    pub jobs: u32,
    /// Up to a day.
    pub per: Duration,
}

impl Rate {
    pub(super) fn to_wire(self) -> v1::QueueRate {
        v1::QueueRate { jobs: self.jobs, per_ms: millis(self.per) }
    }
}

impl From<v1::QueueInfo> for QueueInfo {
    fn from(info: v1::QueueInfo) -> Self {
        let totals = info.totals.unwrap_or_default();
        Self {
            name: info.queue,
            paused: info.paused,
            ready: info.ready,
            delayed: info.delayed,
            leased: info.leased,
            done: info.done,
            dead: info.dead,
            body_bytes: info.body_bytes,
            oldest_ready: info.oldest_ready_ms.map(Duration::from_millis),
            totals: QueueTotals {
                pushed: totals.pushed,
                duplicates: totals.duplicates,
                delivered: totals.delivered,
                acked: totals.acked,
                nacked: totals.nacked,
                lapsed: totals.lapsed,
                died: totals.died,
                dropped: totals.dropped,
                cancelled: totals.cancelled,
            },
            options: info.options.unwrap_or_default().into(),
        }
    }
}

impl From<v1::QueueOptions> for QueueOptions {
    fn from(options: v1::QueueOptions) -> Self {
        let ms = |ms: Option<u64>| Duration::from_millis(ms.unwrap_or(0));
        let when_full = match options.when_full() {
            v1::QueueWhenFull::DropOldest => WhenFull::DropOldest,
            v1::QueueWhenFull::Reject | v1::QueueWhenFull::Unspecified => WhenFull::Reject,
        };
        let backoff = options.backoff.unwrap_or_default();
        let dead_letters = match options.dead_letters.and_then(|letters| letters.to) {
            Some(To::Queue(queue)) => DeadLetters::To(queue),
            Some(To::Discard(_)) => DeadLetters::Discard,
            Some(To::Own(_)) | None => DeadLetters::Own,
        };
        let rate = options.rate.filter(|rate| rate.jobs > 0);
        Self {
            visibility: ms(options.visibility_ms),
            attempts_max: options.attempts_max.unwrap_or(0),
            backoff: Backoff {
                exponential: backoff.exponential,
                base: Duration::from_millis(backoff.base_ms),
                cap: Duration::from_millis(backoff.cap_ms),
                jitter_permille: backoff.jitter_permille,
            },
            dead_letters,
            keep_done: ms(options.keep_done_ms),
            jobs_max: options.jobs_max.unwrap_or(0),
            when_full,
            parallel_max: options.parallel_max.unwrap_or(0),
            rate: rate
                .map(|rate| Rate { jobs: rate.jobs, per: Duration::from_millis(rate.per_ms) }),
            dedupe_window: ms(options.dedupe_window_ms),
        }
    }
}
