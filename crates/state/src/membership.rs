//! Who belongs to a group: voters, learners, and how to reach and recognise them.

use crate::{LogPosition, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A node as membership knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Random id of the node's data directory: tells a wiped or swapped directory from the one
    /// that was admitted.
    pub uuid: u128,
    /// Where other nodes reach it, `host:port`.
    pub peer_addr: String,
    /// Where clients reached it when it was admitted, `host:port`; the current address is in
    /// replicated state ([`crate::query::member_addresses`]).
    pub client_addr: String,
}

/// A node, and the data directory it is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberIdentity {
    /// Its id.
    pub node: NodeId,
    /// See [`Member::uuid`].
    pub uuid: u128,
}

/// The membership of a group. More than one voter set means a joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The voter sets; a decision needs a majority of each.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// All nodes; one that is in no voter set is a learner.
    pub nodes: BTreeMap<NodeId, Member>,
}

/// A membership and the entry that set it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMembership {
    /// The entry, or none for the empty membership before the first one.
    pub position: Option<LogPosition>,
    /// What it set.
    pub membership: Membership,
}

impl Membership {
    /// Whether `node` votes in any of the configurations.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.iter().any(|set| set.contains(&node))
    }
}
