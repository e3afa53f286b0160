//! Commands about the members of the cluster: who may join, who is to vote, who is to leave.

use crate::{FeatureLevel, MemberIdentity, NodeId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Records a node's current addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberPublish {
    /// Which node.
    pub node: NodeId,
    /// Where clients reach it, `host:port`.
    pub client_addr: String,
    /// Where its HTTP endpoint is, `host:port`; empty when it has none.
    pub http_addr: String,
}

/// Lets one node join that shows a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInvite {
    /// A hash of the token: whoever reads the state can't join with it.
    pub token_hash: Bytes,
    /// How long the token holds, in lease time.
    pub ttl_ms: u64,
    /// The member whose place the node takes as soon as it has caught up.
    pub replaces: Option<MemberIdentity>,
}

/// Gives a new node its id. A repetition, known by the uuid of the node's directory, is answered
/// alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberJoin {
    /// Random id of the node's data directory.
    pub uuid: u128,
    /// Where other nodes reach it, `host:port`.
    pub peer_addr: String,
    /// Where clients reach it, `host:port`.
    pub client_addr: String,
    /// The hash of the token it shows, which is used up by it; none: whoever asked may do without.
    pub token_hash: Option<Bytes>,
    /// Whether it stays without a vote.
    pub learner: bool,
    /// The highest id among the members that whoever proposes this knows of. The nodes that formed
    /// the cluster have ids that nobody gave them.
    pub known: NodeId,
}

/// What is to become of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberAim {
    /// It is to vote, and to take another one's place if one is given.
    Voter {
        /// The member that leaves in the same step.
        replaces: Option<MemberIdentity>,
    },
    /// It is to leave, for good.
    Gone,
}

/// Plans what is to become of a member; the leader carries it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// Which, with the directory it is known by.
    pub member: MemberIdentity,
    /// What is to become of it. To leave comes before all else that is planned for it.
    pub aim: MemberAim,
}

/// Says that what was planned for a member is done; proposed by the leader alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSettle {
    /// Which.
    pub member: MemberIdentity,
    /// What was done. A plan that is another one by now stays.
    pub gone: bool,
}

/// Raises the feature level of the cluster, once all members know it; proposed by the leader alone. A
/// level that is not above the cluster's changes nothing; one that a replica does not know stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureLevelRaise {
    /// The level from here on.
    pub level: FeatureLevel,
}
