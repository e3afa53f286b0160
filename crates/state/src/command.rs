//! What the log holds: commands, who sent each, and the two clocks stamped on the batch.
//!
//! Enums grow only at the end, and fields are never reordered: the encoding is positional and
//! frozen by the golden bytes in `testdata/format`.

use crate::limits::ENTRY_COMMANDS_MAX;
use crate::{Float, KeySelector, Sequence, SessionId, bounded};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

mod access;
mod bus;
mod cache;
mod level;
mod lock;
mod member;
mod queue;
mod transaction;

pub use access::*;
pub use bus::*;
pub use cache::*;
pub use lock::*;
pub use member::*;
pub use queue::*;
pub use transaction::*;

/// The payload of one log entry: commands of many connections, in the order they apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's clocks when it proposed the entry.
    pub stamp: Stamp,
    /// At most [`crate::limits::ENTRY_COMMANDS_MAX`] commands; more do not decode.
    #[serde(deserialize_with = "bounded::list::<ENTRY_COMMANDS_MAX, _, _>")]
    pub commands: Vec<Envelope>,
}

/// The two replicated clocks, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Advanced only by a leader's elapsed monotonic time while it had a quorum. Starts at 0 with
    /// the cluster. Leases and ttls use it.
    pub lease_ms: u64,
    /// The leader's wall clock (Unix time), monotone and capped in its forward steps.
    pub wall_ms: u64,
}

/// A command with its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The namespace it acts in; empty is the default one.
    pub namespace: String,
    /// Who sent it, and how a repetition is recognised.
    pub caller: Caller,
    /// Rejected with [`crate::Rejection::LockLost`] unless this lock is held under this token.
    pub guard: Option<LockGuard>,
    /// What to do.
    pub command: Command,
}

/// How the machine recognises a repeated request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caller {
    /// It does not: the command has an effect each time it is applied.
    #[default]
    Anonymous,
    /// A session's numbered request.
    Session {
        /// The session.
        id: SessionId,
        /// The request's number in it.
        sequence: Sequence,
        /// The lowest sequence the client has neither had an answer for nor given up.
        floor: Sequence,
    },
    /// A key the caller made up for this one request; kept 10 minutes of lease time.
    Idempotency {
        /// 1 to 64 bytes.
        key: Bytes,
    },
}

/// All commands there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Lets time pass: sweeps what is due, up to the bound per entry.
    Tick,
    /// Sets a key.
    KvSet(KvSet),
    /// Deletes a key.
    KvDelete(KvDelete),
    /// Adds to a number.
    KvIncrement(KvIncrement),
    /// Opens a session.
    SessionOpen(SessionOpen),
    /// Closes a session at its owner's wish.
    SessionClose(SessionClose),
    /// Ends sessions whose lease the leader saw run out.
    SessionExpire(SessionExpire),
    /// Records where a node can be reached now.
    MemberPublish(MemberPublish),
    /// Deletes many keys, a step at a time.
    KvDeletePattern(KvDeletePattern),
    /// Adds to a number that need not be whole.
    KvIncrementFloat(KvIncrementFloat),
    /// Several operations at once, all or none.
    Transaction(Transaction),
    /// Takes a lock, or a place in its queue.
    LockAcquire(LockAcquire),
    /// Gives a lock back.
    LockRelease(LockRelease),
    /// Takes a lock from whoever holds it.
    LockForceRelease(LockForceRelease),
    /// Undoes a session's `LockAcquire`.
    LockCancel(LockCancel),
    /// Says where a waiter waits now.
    LockAttach(LockAttach),
    /// Says that waiters do not wait any more where they did.
    LockDetach(LockDetach),
    /// Says that nobody waits on a node any more, because it can't be reached.
    LockDetachNode(LockDetachNode),
    /// Frees locks whose lease the leader saw run out.
    LockExpire(LockExpire),
    /// Records how much of their leases is left.
    LeaseCheckpoint(LeaseCheckpoint),
    /// Adds jobs to a queue.
    QueuePush(QueuePush),
    /// Takes jobs from a queue, or a place among those who wait for one.
    QueuePull(QueuePull),
    /// Consumes a queue, or goes on with it elsewhere.
    ConsumerAttach(ConsumerAttach),
    /// Says that a consumer is gone from where it was.
    ConsumerDetach(ConsumerDetach),
    /// Says that nobody consumes on a node any more, because it can't be reached.
    ConsumerDetachNode(ConsumerDetachNode),
    /// Changes how many jobs a consumer may have.
    ConsumerResize(ConsumerResize),
    /// Says that a job is done.
    QueueAck(QueueAck),
    /// Says that a job is not done.
    QueueNack(QueueNack),
    /// Makes a lease of a job last longer.
    QueueExtend(QueueExtend),
    /// Says how far the work on a job is.
    QueueProgress(QueueProgress),
    /// Takes a job out of a queue.
    QueueCancel(QueueCancel),
    /// Makes a queue, or changes its options.
    QueueUpdate(QueueUpdate),
    /// Stops a queue's deliveries, or lets them go on.
    QueuePause(QueuePause),
    /// Empties a queue.
    QueuePurge(QueuePurge),
    /// Deletes a queue.
    QueueDelete(QueueDelete),
    /// Puts dead letters back.
    QueueRedrive(QueueRedrive),
    /// Makes or replaces a schedule.
    SchedulePut(SchedulePut),
    /// Says when a schedule is due next.
    ScheduleNext(ScheduleNext),
    /// Deletes a schedule.
    ScheduleDelete(ScheduleDelete),
    /// Sets an entry of the cache.
    CacheSet(CacheSet),
    /// Deletes an entry of the cache.
    CacheDelete(CacheDelete),
    /// Deletes many entries of the cache, a step at a time.
    CacheDeletePattern(CacheDeletePattern),
    /// Ends all entries of the cache that have a tag.
    CacheInvalidateTags(CacheInvalidateTags),
    /// Begins the ttl of an entry of the cache anew.
    CacheTouch(CacheTouch),
    /// Asks to build an entry of the cache.
    CacheBuild(CacheBuild),
    /// Stores what was built.
    CacheFill(CacheFill),
    /// Gives a build up.
    CacheBuildEnd(CacheBuildEnd),
    /// Makes room in the cache.
    CacheEvict(CacheEvict),
    /// Changes how large the cache may be.
    CacheResize(CacheResize),
    /// Lets a node join.
    MemberInvite(MemberInvite),
    /// Gives a new node its id.
    MemberJoin(MemberJoin),
    /// Plans what is to become of a member.
    MemberChange(MemberChange),
    /// Says that what was planned for a member is done.
    MemberSettle(MemberSettle),
    /// Raises the feature level of the cluster.
    FeatureLevelRaise(FeatureLevelRaise),
    /// Makes an access token.
    AccessTokenCreate(AccessTokenCreate),
    /// Ends an access token.
    AccessTokenRevoke(AccessTokenRevoke),
    /// Makes or replaces a role.
    AccessRolePut(AccessRolePut),
    /// Deletes a role that nobody has.
    AccessRoleDelete(AccessRoleDelete),
    /// Gives roles to a client that is known by its certificate.
    AccessSubjectPut(AccessSubjectPut),
    /// Takes them from it.
    AccessSubjectDelete(AccessSubjectDelete),
}

/// What a write expects of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// That the key is absent.
    Absent,
    /// That its version is this one.
    Version(u64),
}

/// `Set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvSet {
    /// 1 byte to 1 KiB.
    pub key: Bytes,
    /// At most 1 MiB.
    pub value: Bytes,
    /// Lives this long in lease time; none lives until it is deleted.
    pub ttl_ms: Option<u64>,
    /// Rejected with [`crate::Rejection::ConditionFailed`] when it does not hold.
    pub expect: Expect,
    /// Deleted when this session ends; rejected when it is not open.
    pub owner: Option<SessionId>,
}

/// `Delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvDelete {
    /// The key.
    pub key: Bytes,
    /// Rejected when it does not hold ([`Expect::Absent`] is refused at the door).
    pub expect: Expect,
}

/// `Increment` of a decimal i64; an absent key counts as 0. The ttl stays as it is.
///
/// The value must be written as the machine writes it: no plus sign, no leading zeros, no spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvIncrement {
    /// The key.
    pub key: Bytes,
    /// May be negative; overflow is rejected.
    pub by: i64,
}

/// `DeletePattern`: one step of it, which is atomic. The next one goes on from its cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvDeletePattern {
    /// Which keys.
    pub selector: KeySelector,
    /// Only keys above this one: the cursor of the step before.
    pub after: Option<Bytes>,
    /// At most so many, from 1; more than [`crate::limits::DELETE_PATTERN_KEYS_MAX`] mean as many
    /// as that.
    pub keys_max: u64,
}

/// `IncrementFloat` of a decimal number; an absent key counts as 0. The ttl stays as it is.
///
/// The value may be any finite decimal that Rust reads, of at most
/// [`crate::limits::NUMBER_BYTES_MAX`]; it is replaced by the shortest one that reads back as the
/// sum, without an exponent. Integers beyond 2^53 are rounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvIncrementFloat {
    /// The key.
    pub key: Bytes,
    /// May be negative, not infinite; a sum that is not finite is rejected.
    pub by: Float,
}

/// Opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpen {
    /// How long it lives without a keep-alive, in lease time.
    pub ttl_ms: u64,
}

/// Closes a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClose {
    /// Which.
    pub id: SessionId,
}

/// Ends expired sessions; proposed by the leader alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionExpire {
    /// Which, at most [`crate::limits::EXPIRE_PER_ENTRY_MAX`]; ids that no longer exist are
    /// ignored. The outcome says how far it came.
    pub ids: Vec<SessionId>,
}

/// Records how much of leases is left, so that a new leader does not begin them all over; proposed
/// by the leader alone. At most [`crate::limits::EXPIRE_PER_ENTRY_MAX`] of both together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseCheckpoint {
    /// Sessions, and the milliseconds a new leader gives them; none: their whole ttl again.
    pub sessions: Vec<(SessionId, Option<u64>)>,
    /// Locks, likewise.
    pub locks: Vec<(HeldLock, Option<u64>)>,
}
