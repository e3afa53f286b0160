//! Why a command was refused: a [`Rejection`] that every replica computes alike.

use crate::{BuildLease, ConsumerId, FencingToken, JobId, JobLease, Sequence, SessionId};
use serde::{Deserialize, Serialize};

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// A structural limit was passed.
    #[error("{what} is {actual}, the limit is {limit}")]
    LimitExceeded {
        /// What, with its unit: `"key bytes"`.
        what: String,
        /// How much it was.
        actual: u64,
        /// How much it may be.
        limit: u64,
    },
    /// The request is malformed in a way that was found in apply.
    #[error("{0}")]
    Invalid(String),
    /// `if_version` or `if_absent` did not hold.
    #[error("condition failed: {}", match version { Some(v) => format!("the key has version {v}"), None => "the key is absent".to_owned() })]
    ConditionFailed {
        /// The version the key has; none when it is absent.
        version: Option<u64>,
    },
    /// `Increment` of a value that is not a decimal i64, or `IncrementFloat` of one that is not a
    /// finite decimal.
    #[error(
        "the value is not a decimal 64-bit integer (for a float: not a finite decimal), so it can't be incremented; set it to one first"
    )]
    NotANumber,
    /// `Increment` would leave the range of i64, or `IncrementFloat` that of finite numbers.
    #[error(
        "the sum would overflow a 64-bit integer (for a float: the finite numbers); the value was left as it is"
    )]
    Overflow,
    /// The session is closed, expired or was never opened.
    #[error("session {0} has expired or was closed; open a new one")]
    SessionExpired(SessionId),
    /// The sequence is below the session's floor: its answer is no longer known.
    #[error(
        "sequence {sequence} is below the session's floor {floor}: it was answered or given up before"
    )]
    SequenceTooOld {
        /// The one asked for.
        sequence: Sequence,
        /// The lowest still accepted.
        floor: Sequence,
    },
    /// The sequence is beyond the window of unanswered requests.
    #[error(
        "sequence {sequence} is beyond the window [{floor}, {floor}+{window}): too many unanswered requests in one session"
    )]
    SequenceTooFar {
        /// The one asked for.
        sequence: Sequence,
        /// Start of the window.
        floor: Sequence,
        /// Length of the window.
        window: u64,
    },
    /// A sequence or idempotency key was used before, for a different request.
    #[error("this {0} was used before for a different request")]
    RequestMismatch(String),
    /// The command was guarded by a lock that is not held under that token (any more).
    #[error(
        "lock {name:?} is not held under token {token}: it was lost or given back, so nothing was done; acquire it again before you go on"
    )]
    LockLost {
        /// The lock.
        name: String,
        /// The token it was said to be held under.
        token: FencingToken,
    },
    /// `LockAcquire` with no time to wait, of a lock that is held or waited for.
    #[error("lock {name:?} is held{}; wait for it, or try again later", match token { Some(token) => format!(" under token {token}"), None => " by one who waited for it, or by the same transaction".to_owned() })]
    LockHeld {
        /// The lock.
        name: String,
        /// Of its first holder; none while it passes to one who waited for it, and when it was
        /// granted by the transaction itself: that token is taken back with it.
        token: Option<FencingToken>,
    },
    /// The request was cancelled by its session before it came.
    #[error("the request was cancelled before it came")]
    Cancelled,
    /// The queue holds as many jobs as it may.
    #[error(
        "queue {queue:?} is full: it may hold {limit} jobs; wait until some are done, or raise its limit"
    )]
    QueueFull {
        /// The queue.
        queue: String,
        /// How many jobs it may hold.
        limit: u64,
    },
    /// There is no such queue.
    #[error("there is no queue {queue:?}; it is made by the first push, or by an update")]
    QueueUnknown {
        /// The queue.
        queue: String,
    },
    /// There is no such job (any more).
    #[error(
        "queue {queue:?} has no job {id}: it was done, cancelled, purged, or is a dead letter by now"
    )]
    JobUnknown {
        /// The queue.
        queue: String,
        /// The job.
        id: JobId,
    },
    /// The job is not leased under that lease (any more).
    #[error(
        "job {id} is not leased under {lease} any more: its lease ran out or was given back, so the job may be with somebody else; nothing was done"
    )]
    JobLeaseLost {
        /// The job.
        id: JobId,
        /// The lease it was said to be under.
        lease: JobLease,
    },
    /// The consumer that wants to go on has ended.
    #[error("consumer {0} has ended; begin a new one")]
    ConsumerGone(ConsumerId),
    /// `CacheFill` of a build that had ended, or of a value that has a tag which was invalidated
    /// since the build began: such a build is over, too.
    #[error(
        "the build of {key:?} under lease {lease} is over: its time ran out, or the key was set, deleted or invalidated meanwhile, so what was built may be outdated and was not stored; ask for the key again"
    )]
    BuildLeaseLost {
        /// The key, as text.
        key: String,
        /// The lease it was said to be built under.
        lease: BuildLease,
    },
    /// The cache holds as much as it may.
    #[error(
        "the cache is full: it has {bytes} of {limit} bytes; eviction is under way, so try again in a moment, or raise its limit"
    )]
    CacheFull {
        /// What it has.
        bytes: u64,
        /// What it may have.
        limit: u64,
    },
    /// `MemberJoin` with a token that is not valid: wrong, used, or too old.
    #[error(
        "the join token is not valid: it was used before, or its time is over, or it is of another cluster; make one with quorate cluster add"
    )]
    TokenUnknown,
    /// What is planned for a member already, or has become of it, does not go with what was asked.
    #[error("{0}")]
    MemberConflict(String),
    /// A token or subject is to have a role that does not exist.
    #[error("there is no role {role:?}; put it first, or name one of those that there are")]
    AccessRoleUnknown {
        /// The role.
        role: String,
    },
    /// The token was given out already, or the role is to go while somebody has it.
    #[error("{0}")]
    AccessConflict(String),
}
