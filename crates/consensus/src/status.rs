//! What a node says about itself.

use crate::wire;
use quorate_proto::peer as pb;
use quorate_state::{FeatureLevel, LogIndex, NodeId};

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

impl Role {
    const ALL: [Self; 5] =
        [Self::Leader, Self::Follower, Self::Candidate, Self::Learner, Self::Shutdown];

    /// The role's name in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Shutdown => "shutdown",
        }
    }
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
    /// The newest feature level that it knows.
    pub feature_level: FeatureLevel,
}

impl NodeStatus {
    pub(crate) fn to_wire(&self) -> pb::StatusResponse {
        let index = |index: Option<LogIndex>| index.map(|index| index.0);
        pb::StatusResponse {
            node_id: self.node.0,
            term: self.term,
            leader_id: self.leader.map(|node| node.0),
            role: self.role.as_str().to_owned(),
            applied: index(self.applied),
            committed: index(self.committed),
            last_log: index(self.last_log),
            snapshot: index(self.snapshot),
            purged: index(self.purged),
            digest: self.digest,
            version: self.version.clone(),
            feature_level: self.feature_level.0.into(),
        }
    }

    pub(crate) fn from_wire(said: pb::StatusResponse) -> Self {
        let role = Role::ALL.into_iter().find(|role| role.as_str() == said.role);
        Self {
            node: NodeId(said.node_id),
            // A role of a newer version that this one does not know.
            role: role.unwrap_or(Role::Learner),
            term: said.term,
            leader: said.leader_id.map(NodeId),
            applied: said.applied.map(LogIndex),
            committed: said.committed.map(LogIndex),
            last_log: said.last_log.map(LogIndex),
            snapshot: said.snapshot.map(LogIndex),
            purged: said.purged.map(LogIndex),
            digest: said.digest,
            version: said.version,
            feature_level: wire::feature_level_in(said.feature_level),
        }
    }
}
