//! The commands of the locks.

use crate::{FencingToken, NodeId, Sequence, SessionId, TicketId};
use serde::{Deserialize, Serialize};

/// A lock that a command depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockGuard {
    /// Its name, in the command's namespace.
    pub name: String,
    /// What it must be held under.
    pub token: FencingToken,
}

/// With whom a lock may be shared. Grants are in the order of the requests: one that could be
/// granted waits behind one that can't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// With nobody.
    #[default]
    Exclusive,
    /// With others that ask for `Shared`.
    Shared,
    /// With others that ask for the same number of permits, while fewer than those hold it.
    Permit {
        /// From 1 to [`crate::limits::LOCK_HOLDERS_MAX`].
        of: u32,
    },
}

/// `Acquire`. Only a session can hold a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockAcquire {
    /// What is asked for; a repetition repeats it.
    pub request: LockRequest,
    /// Where its caller waits for the answer; a repetition may come another way.
    pub attachment: Attachment,
}

/// What a session asks of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRequest {
    /// 1 byte to 1 KiB.
    pub name: String,
    /// With whom.
    pub share: Share,
    /// It is lost when it is not renewed for this long, in lease time.
    pub ttl_ms: u64,
    /// How long to wait for it, in lease time; 0 takes it now or not at all.
    pub wait_ms: u64,
}

/// Where a call waits: its answer is told there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The node the caller is connected to.
    pub node: NodeId,
    /// Made up by the node for this one call, so that what is said of an earlier one is known
    /// to be late.
    pub call: u64,
}

/// `Release`: who knows the token may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRelease {
    /// The lock.
    pub name: String,
    /// What it was granted under.
    pub token: FencingToken,
}

/// `ForceRelease`: takes a lock from all its holders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockForceRelease {
    /// The lock.
    pub name: String,
}

/// Undoes an `Acquire`: afterwards it holds nothing and waits for nothing, also when it has not
/// been applied yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockCancel {
    /// The session that asked.
    pub session: SessionId,
    /// The number it asked under.
    pub sequence: Sequence,
}

/// Says where a waiter waits now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockAttach {
    /// Which.
    pub ticket: TicketId,
    /// Where.
    pub attachment: Attachment,
}

/// Says that calls ended before they were answered: their waiters keep their places, but are
/// passed over until they come back, and what they were granted meanwhile goes to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockDetach {
    /// The waiters, and where each waited: it may wait somewhere else by now.
    pub calls: Vec<(TicketId, Attachment)>,
}

/// Says that a node can't be reached. One step of
/// [`crate::limits::LOCK_DETACH_PER_ENTRY_MAX`] waiters at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockDetachNode {
    /// Which.
    pub node: NodeId,
}

/// A lock under a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The token it was granted under.
    pub token: FencingToken,
}

/// Frees locks; proposed by the leader alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockExpire {
    /// Which, at most [`crate::limits::EXPIRE_PER_ENTRY_MAX`]; what is not held any more is passed
    /// over.
    pub locks: Vec<HeldLock>,
}
