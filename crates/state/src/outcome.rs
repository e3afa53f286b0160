//! What a command came to: an [`Outcome`] that every replica computes alike.

use crate::limits::TRANSACTION_STEPS_MAX;
use crate::query::KvItem;
use crate::{FencingToken, Float, Revision, Sequence, SessionId, TicketId, bounded};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The result of one command. Rejections are remembered for repetitions like successes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Refused; no effect, now or later.
    Rejected(Rejection),
    /// A `Tick` or an address was taken in.
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
}
