//! The façade of one group's replica: propose, read behind a barrier, status, leadership.
//!
//! Signature sketch agreed between crates; the implementation follows.

use quorate_state::{Envelope, GroupId, LogIndex, LogPosition, Membership, NodeId, Outcome, Revision, SessionId};
use quorate_storage::state::View;
use std::time::Duration;

/// Why a request failed, and whether it may still have an effect.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whether a mutation may have, or may yet have, an effect.
    pub unknown: bool,
    /// What kind.
    pub reason: Reason,
    /// What happened, on what, and what to do next.
    pub message: String,
}

/// Kinds of failure; `as_str` gives the stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No leader is known, or it can't be reached.
    NoLeader,
    /// The node that was asked does not lead.
    NotLeader,
    /// The deadline came first.
    Deadline,
    /// Too much on its way.
    Overloaded,
    /// The session is gone.
    SessionExpired,
    /// This node is stopping.
    ShuttingDown,
    /// This node has stopped because a promise could not be kept.
    Fatal,
}

impl Reason {
    /// The stable word of the reason.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoLeader => "NO_LEADER",
            Self::NotLeader => "NOT_LEADER",
            Self::Deadline => "DEADLINE",
            Self::Overloaded => "OVERLOADED",
            Self::SessionExpired => "SESSION_EXPIRED",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Fatal => "FATAL",
        }
    }
}

/// A committed and applied command.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Index of its entry.
    pub index: LogIndex,
    /// What it came to.
    pub outcome: Outcome,
}

/// What a node is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It has no vote.
    Learner,
    /// It is stopping, or has failed.
    Shutdown,
}

/// One node's status.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Which node.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// The last entry applied.
    pub applied: Option<LogIndex>,
    /// The last entry known to be committed.
    pub committed: Option<LogIndex>,
    /// The last entry in the log.
    pub last_log: Option<LogIndex>,
    /// The last entry of the newest snapshot.
    pub snapshot: Option<LogIndex>,
    /// The last entry purged.
    pub purged: Option<LogIndex>,
    /// Rolling digest at `applied`.
    pub digest: u64,
    /// Version of the build.
    pub version: String,
}

/// Signatures of `Replica` (cheap to clone; every method takes `&self`).
#[cfg(any())]
impl Replica {
    /// Proposes, on this node or through the leader; waits until it is applied or the deadline.
    pub async fn propose(&self, envelope: Envelope, timeout: Duration) -> Result<Committed, Failure>;
    /// Waits until a view taken now is linearizable, and takes it. Failures are never `unknown`.
    pub async fn read(&self, timeout: Duration) -> Result<View, Failure>;
    /// A view of whatever this node has applied.
    pub fn stale(&self) -> View;
    /// Waits until this node has applied `min_revision`.
    pub async fn wait_applied(&self, min_revision: Revision, timeout: Duration) -> Result<(), Failure>;
    /// Keeps a session alive; the ttl it now has, in milliseconds.
    pub async fn keep_alive(&self, session: SessionId, timeout: Duration) -> Result<u64, Failure>;
    /// This node's status; never waits.
    pub fn status(&self) -> NodeStatus;
    /// The status of every member: this node's own, and what the others answer within `timeout`
    /// (an error text for those that do not).
    pub async fn cluster_status(&self, timeout: Duration) -> Vec<(NodeId, Result<NodeStatus, String>)>;
    pub fn membership(&self) -> Membership;
    pub fn group(&self) -> GroupId;
    pub fn node_id(&self) -> NodeId;
    pub fn cluster_id(&self) -> String;
    /// Client address of the leader, when one is known.
    pub fn leader_client_addr(&self) -> Option<String>;
    pub fn leader(&self) -> Option<NodeId>;
    /// Client address of a node as it published it last (or as membership has it).
    pub fn client_addr(&self, node: NodeId) -> Option<String>;
    /// Hands leadership to `to`, or the most up-to-date voter; the new leader.
    pub async fn transfer_leader(&self, to: Option<NodeId>, timeout: Duration) -> Result<NodeId, Failure>;
    /// Resolves with the reason when the replica has failed for good: the process must exit.
    pub async fn failed(&self) -> String;
    /// Hands leadership over if it has it (bounded by `timeout`), then stops.
    pub async fn shutdown(&self, timeout: Duration);
}
