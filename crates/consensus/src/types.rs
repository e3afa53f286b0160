//! The types openraft is run with, and their translation to and from the domain's own.

use crate::runtime::Runtime;
use openraft::alias::{LogIdOf, StoredMembershipOf, VoteOf};
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId as _;
use openraft::vote::leader_id_std::CommittedLeaderId;
use quorate_state::{
    EntryBody, LogIndex, LogPosition, Member, Membership, NodeId, Outcome, StoredMembership, Term,
};
use quorate_storage::log::{LogEntry, Payload};
use std::fmt;

/// The application data of an entry: an encoded batch that is shared, never copied.
#[derive(Clone, Debug)]
pub(crate) struct Body(pub(crate) EntryBody);

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.encoded().len())
    }
}

openraft::declare_raft_types!(
    /// `leader_id_std`: at most one leader per term, so a log position is (term, index).
    pub(crate) TypeConfig:
        D = Body,
        R = Vec<Outcome>,
        NodeId = u64,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, crate::machine_adapter::MachineAdapter>;
pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type RaftEntry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type RaftPayload = openraft::EntryPayload<Body, u64, Member>;
pub(crate) type RaftMembership = openraft::Membership<u64, Member>;
pub(crate) type RaftStoredMembership = StoredMembershipOf<TypeConfig>;

pub(crate) fn log_id(position: LogPosition) -> LogId {
    LogId { leader_id: CommittedLeaderId::new(position.term.0), index: position.index.0 }
}

pub(crate) fn position(log_id: &LogId) -> LogPosition {
    LogPosition { term: Term(*log_id.leader_id), index: LogIndex(log_id.index) }
}

pub(crate) fn vote(term: u64, node: u64, committed: bool) -> Vote {
    Vote { leader_id: leader_id_std::LeaderId::new(term, node), committed }
}

/// Translates a membership; fails when a voter has no address, which only bad bytes can cause.
pub(crate) fn raft_membership(membership: &Membership) -> Result<RaftMembership, String> {
    let voters = membership
        .voters
        .iter()
        .map(|set| set.iter().map(|node| node.0).collect())
        .collect::<Vec<_>>();
    let nodes = membership
        .nodes
        .iter()
        .map(|(id, member)| (id.0, member.clone()))
        .collect::<std::collections::BTreeMap<_, _>>();
    if voters.is_empty() && nodes.is_empty() {
        return Ok(RaftMembership::default());
    }
    RaftMembership::new(voters, nodes).map_err(|error| error.to_string())
}

pub(crate) fn membership(raft: &RaftMembership) -> Membership {
    Membership {
        voters: raft
            .get_joint_config()
            .iter()
            .map(|set| set.iter().copied().map(NodeId).collect())
            .collect(),
        nodes: raft.nodes().map(|(id, member)| (NodeId(*id), member.clone())).collect(),
    }
}

pub(crate) fn raft_stored_membership(
    stored: &StoredMembership,
) -> Result<RaftStoredMembership, String> {
    Ok(RaftStoredMembership::new(stored.position.map(log_id), raft_membership(&stored.membership)?))
}

pub(crate) fn stored_membership(raft: &RaftStoredMembership) -> StoredMembership {
    StoredMembership {
        position: raft.log_id().as_ref().map(position),
        membership: membership(raft.membership()),
    }
}

pub(crate) fn log_entry(entry: RaftEntry) -> LogEntry {
    LogEntry {
        position: position(&entry.log_id),
        payload: match entry.payload {
            RaftPayload::Blank => Payload::Blank,
            RaftPayload::Normal(body) => Payload::Commands(body.0),
            RaftPayload::Membership(raft) => Payload::Membership(membership(&raft)),
        },
    }
}

pub(crate) fn raft_entry(entry: LogEntry) -> Result<RaftEntry, String> {
    Ok(RaftEntry {
        log_id: log_id(entry.position),
        payload: match entry.payload {
            Payload::Blank => RaftPayload::Blank,
            Payload::Commands(body) => RaftPayload::Normal(Body(body)),
            Payload::Membership(domain) => RaftPayload::Membership(raft_membership(&domain)?),
        },
    })
}
