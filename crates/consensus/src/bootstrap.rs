//! How a cluster comes to be: the nodes of `--initial-cluster` ask each other who they are, and
//! only when all answer that they belong to no cluster does the one with the lowest id form it.

use crate::net::hello::Me;
use crate::net::peers::Peers;
use crate::types::Raft;
use crate::wire::{uuid_in, uuid_out};
use openraft::errors::{InitializeError, RaftError};
use quorate_proto::peer as pb;
use quorate_state::{Member, NodeId};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// How long one probe may take.
const PROBE: Duration = Duration::from_secs(1);
/// Between two rounds of probes. Nodes are started by hand or by a supervisor: seconds apart.
const BETWEEN_PROBES: Duration = Duration::from_millis(200);
/// Rounds between two log lines about who is missing.
const ROUNDS_PER_LINE: u32 = 25;

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator must decide something; the text says what.
    #[error("{0}")]
    Refused(String),
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] quorate_storage::Error),
    /// Consensus could not be started on what is stored.
    #[error("consensus can't start: {0}")]
    Consensus(String),
}

/// What the answers of one round amount to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Somebody is missing: ask again.
    Wait(Vec<NodeId>),
    /// A cluster exists and knows this very directory: Raft's leader will make contact.
    Known(String),
    /// Nobody has a cluster; form it, with these members.
    Form(BTreeMap<NodeId, Member>),
    /// Nobody has a cluster; the node with the lowest id will form it.
    Follow,
    /// This must not go on.
    Refuse(String),
}

/// What is said to a node that was removed.
pub(crate) fn left(node: NodeId, cluster_id: &str) -> String {
    format!(
        "node {node} was removed from cluster {cluster_id}, and its data directory is of no use any \
         more. To have a node here again, start it with an empty directory and --join"
    )
}

/// The directory's cluster id is the fingerprint of the directories that formed it, so that the
/// node that forms it needs to store nothing before Raft does.
pub(crate) fn cluster_id(members: &BTreeMap<NodeId, Member>) -> String {
    let identities: Vec<_> = members.iter().map(|(id, member)| (id.0, member.uuid)).collect();
    let encoded = quorate_state::codec::encode(&identities);
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&encoded))
}

fn judge(
    me: &Me,
    own: &Member,
    addresses: &BTreeMap<NodeId, String>,
    answers: &BTreeMap<NodeId, pb::ProbeResponse>,
) -> Verdict {
    let mut members = BTreeMap::from([(me.node, own.clone())]);
    for (node, answer) in answers {
        let addr = &addresses[node];
        if answer.has_left {
            return Verdict::Refuse(left(me.node, &answer.cluster_id));
        }
        if answer.node_id != node.0 {
            return Verdict::Refuse(format!(
                "{addr} is listed as node {node} in --initial-cluster but answers as node {}; \
                 correct the list",
                answer.node_id
            ));
        }
        let Ok(uuid) = uuid_in(&answer.uuid) else {
            return Verdict::Refuse(format!("{addr} answered malformed; is it a Quorate node?"));
        };
        if !answer.cluster_id.is_empty() {
            let known = answer.members.iter().find(|member| member.node_id == me.node.0);
            return match known.map(|member| uuid_in(&member.uuid)) {
                Some(Ok(uuid)) if uuid == me.uuid => Verdict::Known(answer.cluster_id.clone()),
                Some(_) => Verdict::Refuse(format!(
                    "node {} of cluster {} had another data directory: this one was emptied or \
                     swapped. Its promises (votes, acknowledged writes) are gone with it, so it \
                     must not come back under this id. Put the old directory back; or remove node \
                     {} from the cluster and add it under a new id with an empty directory",
                    me.node, answer.cluster_id, me.node
                )),
                // It may have been told its cluster a moment before its first membership.
                None if answer.members.is_empty() => Verdict::Wait(vec![*node]),
                None => Verdict::Refuse(format!(
                    "cluster {} exists already and has no node {}; --initial-cluster only forms \
                     new clusters. Add this node to the existing one instead",
                    answer.cluster_id, me.node
                )),
            };
        }
        members.insert(
            *node,
            Member { uuid, peer_addr: addr.clone(), client_addr: answer.client_addr.clone() },
        );
    }
    let missing: Vec<_> =
        addresses.keys().filter(|node| !members.contains_key(node)).copied().collect();
    if !missing.is_empty() {
        return Verdict::Wait(missing);
    }
    if addresses.keys().next() == Some(&me.node) { Verdict::Form(members) } else { Verdict::Follow }
}

/// Runs until this node belongs to a cluster, or must not.
pub(crate) async fn bootstrap(
    me: &Arc<Me>,
    peers: &Peers,
    raft: &Raft,
    own: &Member,
    addresses: &BTreeMap<NodeId, String>,
) -> Result<(), StartError> {
    let mut round = 0_u32;
    while me.cluster_id().is_none() {
        let probes =
            addresses.iter().filter(|(node, _)| **node != me.node).map(|(node, addr)| async move {
                let mut client = peers.probe_client(addr);
                let probe = client
                    .probe(pb::ProbeRequest { from_node: me.node.0, from_uuid: uuid_out(me.uuid) });
                let answer = tokio::time::timeout(PROBE, probe).await.ok()?.ok()?;
                Some((*node, answer.into_inner()))
            });
        let answers = futures::future::join_all(probes).await.into_iter().flatten().collect();
        match judge(me, own, addresses, &answers) {
            Verdict::Refuse(why) => return Err(StartError::Refused(why)),
            Verdict::Known(cluster_id) => me.join(&cluster_id),
            Verdict::Form(members) => form(me, raft, members).await?,
            Verdict::Wait(missing) if round.is_multiple_of(ROUNDS_PER_LINE) => {
                let mut names = String::new();
                for node in &missing {
                    let _ = write!(names, " {node} ({})", addresses[node]);
                }
                tracing::info!("waiting for the other nodes of --initial-cluster:{names}");
            }
            Verdict::Wait(_) | Verdict::Follow => {}
        }
        if me.cluster_id().is_none() {
            tokio::time::sleep(BETWEEN_PROBES).await;
        }
        round = round.wrapping_add(1);
    }
    Ok(())
}

async fn form(me: &Me, raft: &Raft, members: BTreeMap<NodeId, Member>) -> Result<(), StartError> {
    let id = cluster_id(&members);
    tracing::info!(cluster_id = id, nodes = members.len(), "forming the cluster");
    // The handshake needs the id before the first call goes out.
    me.join(&id);
    let raft_members: BTreeMap<u64, Member> =
        members.into_iter().map(|(node, member)| (node.0, member)).collect();
    match raft.initialize(raft_members).await {
        Ok(()) => Ok(()),
        // Formed before, and stopped before anybody heard of it.
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(StartError::Consensus(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::levels::Levels;
    use quorate_state::{FeatureLevel, GroupId};

    fn me(node: u64) -> (Me, Member) {
        let levels = Arc::new(Levels::new(FeatureLevel::FIRST, FeatureLevel::FIRST));
        let me = Me::new(NodeId(node), u128::from(node) * 11, GroupId(0), None, Vec::new(), levels);
        let own = Member { uuid: me.uuid, peer_addr: format!("p{node}"), client_addr: "c".into() };
        (me, own)
    }

    fn addresses() -> BTreeMap<NodeId, String> {
        (1..=3).map(|node| (NodeId(node), format!("p{node}"))).collect()
    }

    fn answer(node: u64, cluster: &str, members: &[(u64, u128)]) -> pb::ProbeResponse {
        pb::ProbeResponse {
            cluster_id: cluster.to_owned(),
            node_id: node,
            uuid: uuid_out(u128::from(node) * 11),
            client_addr: String::new(),
            members: members
                .iter()
                .map(|(node_id, uuid)| pb::KnownMember { node_id: *node_id, uuid: uuid_out(*uuid) })
                .collect(),
            has_left: false,
        }
    }

    fn judged(node: u64, answers: &[(u64, pb::ProbeResponse)]) -> Verdict {
        let (me, own) = me(node);
        let answers = answers.iter().map(|(node, a)| (NodeId(*node), a.clone())).collect();
        judge(&me, &own, &addresses(), &answers)
    }

    fn refusal(verdict: Verdict) -> String {
        let Verdict::Refuse(why) = verdict else { panic!("not refused: {verdict:?}") };
        why
    }

    #[test]
    fn only_the_lowest_id_forms_and_only_when_all_answered() {
        let (one, two, three) = (answer(1, "", &[]), answer(2, "", &[]), answer(3, "", &[]));
        assert_eq!(judged(1, &[(2, two.clone())]), Verdict::Wait(vec![NodeId(3)]));
        assert_eq!(judged(2, &[(1, one), (3, three.clone())]), Verdict::Follow);
        let Verdict::Form(members) = judged(1, &[(2, two), (3, three)]) else { panic!() };
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), [1, 2, 3].map(NodeId));
        assert_eq!(members[&NodeId(3)].uuid, 33);
    }

    #[test]
    fn a_cluster_that_exists_takes_its_own_back_and_refuses_a_wiped_or_foreign_node() {
        let knows_me = answer(2, "c", &[(1, 11), (2, 22), (3, 33)]);
        assert_eq!(judged(1, &[(2, knows_me)]), Verdict::Known("c".to_owned()));
        let wiped = answer(2, "c", &[(1, 99), (2, 22), (3, 33)]);
        assert!(refusal(judged(1, &[(2, wiped)])).contains("emptied or swapped"));
        let foreign = answer(2, "c", &[(2, 22), (3, 33)]);
        assert!(refusal(judged(1, &[(2, foreign)])).contains("exists already"));
        let told_just_now = answer(2, "c", &[]);
        assert_eq!(judged(1, &[(2, told_just_now)]), Verdict::Wait(vec![NodeId(2)]));
    }

    #[test]
    fn a_wrong_list_is_named() {
        let why = refusal(judged(1, &[(2, answer(3, "", &[]))]));
        assert!(why.contains("p2 is listed as node 2"), "{why}");
    }

    #[test]
    fn the_cluster_id_follows_from_the_directories() {
        let (_, own) = me(1);
        let members = BTreeMap::from([(NodeId(1), own.clone())]);
        let other = BTreeMap::from([(NodeId(1), Member { uuid: 12, ..own.clone() })]);
        let moved = BTreeMap::from([(NodeId(1), Member { peer_addr: "q".into(), ..own })]);
        assert_ne!(cluster_id(&members), cluster_id(&other));
        assert_eq!(cluster_id(&members), cluster_id(&moved));
        assert_eq!(cluster_id(&members).len(), 32);
    }
}
