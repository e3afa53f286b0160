//! What a command came to: an [`Outcome`] that every replica computes alike.

use crate::limits::{CONSUMER_WINDOW_MAX, JOBS_PER_CALL_MAX, TRANSACTION_STEPS_MAX};
use crate::query::KvItem;
use crate::{
    BuildLease, ConsumerId, Era, FencingToken, Float, JobId, JobLease, NodeId, Rejection, Revision,
    SessionId, TicketId, bounded,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The result of one command. Rejections are remembered for repetitions like successes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Refused; no effect, now or later.
    Rejected(Rejection),
    /// A `Tick`, an address, a plan, or a token, role or subject was taken in.
    Done,
    /// `KvSet` happened.
    KvSet {
        /// The key's version after it, from 1.
        version: u64,
        /// When.
        revision: Revision,
    },
    /// `KvDelete` happened.
    KvDelete {
        /// Whether there was anything to delete.
        deleted: bool,
        /// When.
        revision: Revision,
    },
    /// `KvIncrement` happened.
    KvIncrement {
        /// The number after it.
        value: i64,
        /// The key's version after it.
        version: u64,
        /// When.
        revision: Revision,
    },
    /// `SessionOpen` happened.
    SessionOpen {
        /// The new session.
        id: SessionId,
        /// Its ttl, as granted.
        ttl_ms: u64,
    },
    /// `SessionClose` happened.
    SessionClose {
        /// Whether it was still open.
        closed: bool,
    },
    /// The command was applied before; its answer was too large to remember.
    AppliedResultDropped,
    /// `KvDeletePattern` happened.
    KvDeletePattern {
        /// How many keys it deleted.
        deleted: u64,
        /// Where the next step begins; none when nothing is left to delete. A step may delete
        /// few keys, or none, and have one all the same: its work is bounded too.
        cursor: Option<Bytes>,
        /// When; the same for all of them.
        revision: Revision,
    },
    /// `KvIncrementFloat` happened.
    KvIncrementFloat {
        /// The number after it.
        value: Float,
        /// The key's version after it.
        version: u64,
        /// When.
        revision: Revision,
    },
    /// `SessionExpire` happened, as far as one entry may go.
    SessionExpire {
        /// So many of its ids, from the first on, are not open any more. The sessions of the
        /// others are as they were: the leader spares them, or asks again.
        settled: u64,
    },
    /// One of the branches of `Transaction` happened, all of it.
    Transaction {
        /// The first condition that did not hold, counted from 0: then it was the branch
        /// `otherwise`. None when all held.
        failed_condition: Option<u32>,
        /// What each operation of the branch came to, in their order.
        #[serde(deserialize_with = "bounded::list::<TRANSACTION_STEPS_MAX, _, _>")]
        operated: Vec<Operated>,
        /// When; the same for all of them.
        revision: Revision,
    },
    /// `Transaction` was refused because of one of its parts; nothing of it happened.
    TransactionFailed {
        /// Which step.
        step: TransactionStep,
        /// Why.
        rejection: Rejection,
    },
    /// `LockAcquire` took the lock at once.
    LockAcquire {
        /// What it is held under.
        token: FencingToken,
        /// It is lost when it is not renewed for this long.
        ttl_ms: u64,
        /// When.
        revision: Revision,
    },
    /// `LockAcquire` took a place in the lock's queue; what becomes of it is asked for by the
    /// ticket ([`crate::query::ticket`]).
    LockQueued {
        /// The place.
        ticket: TicketId,
    },
    /// `LockRelease`, `LockForceRelease` or `LockCancel` happened.
    LockRelease {
        /// How many holders or waiters it freed; 0 when there was nothing to free.
        released: u64,
        /// When.
        revision: Revision,
    },
    /// `LockDetachNode` happened, as far as one entry may go.
    LockDetachNode {
        /// Whether there may be more of them.
        more: bool,
    },
    /// `QueuePush` happened.
    QueuePush {
        /// What each job came to, in their order.
        #[serde(deserialize_with = "bounded::list::<JOBS_PER_CALL_MAX, _, _>")]
        jobs: Vec<PushedJob>,
        /// When.
        revision: Revision,
    },
    /// `QueuePull` took jobs at once, or found none and was not to wait.
    QueuePull {
        /// The jobs; [`crate::query::delivery`] has what is in them.
        #[serde(deserialize_with = "bounded::list::<JOBS_PER_CALL_MAX, _, _>")]
        jobs: Vec<AssignedJob>,
        /// When.
        revision: Revision,
    },
    /// `QueuePull` waits; what becomes of it is asked for by the consumer that it is
    /// ([`crate::query::pull`]).
    QueuePullWaits {
        /// Which.
        consumer: ConsumerId,
    },
    /// `ConsumerAttach` happened.
    ConsumerAttach {
        /// Who it is.
        consumer: ConsumerId,
        /// What it was assigned before, elsewhere, and has not acknowledged. What it is assigned
        /// from now on comes as events.
        #[serde(deserialize_with = "bounded::list::<CONSUMER_JOBS_MAX, _, _>")]
        held: Vec<AssignedJob>,
    },
    /// `ConsumerDetachNode` happened, as far as one entry may go.
    ConsumerDetachNode {
        /// Whether there may be more of them.
        more: bool,
    },
    /// `QueueAck` happened.
    QueueAck {
        /// When.
        revision: Revision,
    },
    /// `QueueNack` happened.
    QueueNack {
        /// What became of the job.
        fate: JobFate,
        /// When.
        revision: Revision,
    },
    /// `QueueExtend` happened.
    QueueExtend {
        /// How long the lease lasts from now on.
        lease_ms: u64,
        /// When.
        revision: Revision,
    },
    /// `QueueCancel` happened.
    QueueCancel {
        /// Whether there was such a job.
        cancelled: bool,
        /// Whether somebody was working on it.
        was_leased: bool,
        /// When.
        revision: Revision,
    },
    /// `QueueUpdate` happened.
    QueueUpdate {
        /// Whether it made the queue.
        created: bool,
        /// When.
        revision: Revision,
    },
    /// `QueuePurge` or `QueueDelete` happened.
    QueuePurge {
        /// Whether there was such a queue.
        found: bool,
        /// How many jobs are gone.
        jobs: u64,
        /// When.
        revision: Revision,
    },
    /// `QueueRedrive` happened, as far as one entry may go.
    QueueRedrive {
        /// How many dead letters went back.
        moved: u64,
        /// Where the next step begins; none when nothing is left.
        cursor: Option<JobId>,
        /// When.
        revision: Revision,
    },
    /// `SchedulePut` happened.
    SchedulePut {
        /// Whether there was none of that name.
        created: bool,
        /// When it is due first, as Unix time in milliseconds; none: that is being worked out.
        next_wall_ms: Option<u64>,
        /// When.
        revision: Revision,
    },
    /// `ScheduleDelete` happened.
    ScheduleDelete {
        /// Whether there was one.
        deleted: bool,
        /// When.
        revision: Revision,
    },
    /// `CacheSet` happened.
    CacheSet {
        /// When.
        revision: Revision,
    },
    /// `CacheDelete` happened.
    CacheDelete {
        /// Whether there was an entry, fresh or stale.
        deleted: bool,
        /// When.
        revision: Revision,
    },
    /// `CacheDeletePattern` happened.
    CacheDeletePattern {
        /// How many entries it deleted, fresh or stale.
        deleted: u64,
        /// Where the next step begins; none when nothing is left to delete. A step may delete
        /// few entries, or none, and have one all the same: its work is bounded too.
        cursor: Option<Bytes>,
        /// When; the same for all of them.
        revision: Revision,
    },
    /// `CacheInvalidateTags` happened.
    CacheInvalidateTags {
        /// When.
        revision: Revision,
    },
    /// `CacheTouch` happened.
    CacheTouch {
        /// Whether there was a fresh entry.
        found: bool,
        /// When.
        revision: Revision,
    },
    /// `CacheBuild` happened.
    CacheBuild {
        /// Who is to build, if anybody.
        answer: CacheBuildAnswer,
    },
    /// `CacheFill` happened.
    CacheFill {
        /// When.
        revision: Revision,
    },
    /// `CacheBuildEnd` happened.
    CacheBuildEnd {
        /// Whether the build was under way until now.
        ended: bool,
    },
    /// `CacheEvict` happened, as far as one entry may go.
    CacheEvict {
        /// How many of the victims are gone because of it.
        evicted: u64,
    },
    /// `CacheResize` happened.
    CacheResize {
        /// How many bytes the cache could have before.
        bytes_max_before: u64,
    },
    /// `MemberJoin` happened, now or before.
    MemberJoin {
        /// The node's id.
        node: NodeId,
    },
    /// `AccessTokenRevoke`, `AccessRoleDelete` or `AccessSubjectDelete` happened.
    AccessDelete {
        /// Whether there was one.
        deleted: bool,
        /// When.
        revision: Revision,
    },
}

/// Who is to build an entry of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheBuildAnswer {
    /// Nobody: there is a fresh one.
    Hit {
        /// The revision that wrote it.
        revision: Revision,
    },
    /// Whoever asked.
    Granted {
        /// What the value may be stored under.
        lease: BuildLease,
        /// For how long.
        remaining_ms: u64,
    },
    /// Somebody else, who is at it: [`crate::Event::CacheBuildEnded`] will tell what became of it.
    Busy {
        /// What the other one was granted.
        lease: BuildLease,
        /// For how much longer.
        remaining_ms: u64,
    },
}

/// As [`CONSUMER_WINDOW_MAX`]: what a consumer may hold. A window that was made smaller does not
/// take back what it held.
const CONSUMER_JOBS_MAX: usize = CONSUMER_WINDOW_MAX as usize;

/// What a pushed job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedJob {
    /// Its id; that of the first one if it is a duplicate.
    pub id: JobId,
    /// Whether a job with its dedupe key was pushed before, within the window.
    pub duplicate: bool,
}

/// A job that was given to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedJob {
    /// What it is stored under.
    pub era: Era,
    /// Which.
    pub id: JobId,
    /// What it may be acknowledged under.
    pub lease: JobLease,
    /// How often it was delivered, this time included.
    pub attempt: u32,
}

/// What became of a job that was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobFate {
    /// It is ready again.
    Ready,
    /// It is tried again later.
    Delayed {
        /// In so many milliseconds of lease time.
        delay_ms: u64,
    },
    /// It is a dead letter, or discarded, as its queue says.
    Dead,
}

/// What an operation of a transaction came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operated {
    /// The key was read; none when there is no such key.
    KvGet(Option<KvItem>),
    /// The key was set.
    KvSet {
        /// Its version after it.
        version: u64,
    },
    /// The key was deleted.
    KvDelete {
        /// Whether there was anything to delete.
        deleted: bool,
    },
    /// It was added to the number.
    KvIncrement {
        /// The number after it.
        value: i64,
        /// The key's version after it.
        version: u64,
    },
    /// It was added to the number.
    KvIncrementFloat {
        /// The number after it.
        value: Float,
        /// The key's version after it.
        version: u64,
    },
    /// The lock was taken.
    LockAcquire {
        /// What it is held under.
        token: FencingToken,
        /// It is lost when it is not renewed for this long.
        ttl_ms: u64,
    },
    /// The lock is not held under that token.
    LockRelease {
        /// Whether it was.
        released: bool,
    },
    /// The jobs are in the queue.
    QueuePush {
        /// What each came to, in their order.
        #[serde(deserialize_with = "bounded::list::<JOBS_PER_CALL_MAX, _, _>")]
        jobs: Vec<PushedJob>,
    },
    /// The job is done.
    QueueAck,
    /// The entry was set.
    CacheSet,
    /// The entry was deleted.
    CacheDelete {
        /// Whether there was one, fresh or stale.
        deleted: bool,
    },
    /// The entries that have one of the tags are gone.
    CacheInvalidateTags,
    /// The message is published with the transaction.
    BusPublish,
}

/// A part of a transaction, counted from 0 in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TransactionStep {
    /// A condition.
    #[error("conditions[{0}]")]
    Condition(u32),
    /// An operation for when all conditions hold.
    #[error("then[{0}]")]
    Then(u32),
    /// An operation for when one does not.
    #[error("otherwise[{0}]")]
    Otherwise(u32),
}
