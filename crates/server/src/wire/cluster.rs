//! What is shown of the cluster.

use super::{Invalid, invalid};
use crate::metrics;
use quorate_consensus::{Counters, Heard, NodeStatus, Role};
use quorate_proto::v1;
use quorate_state::limits::Limits;
use quorate_state::query::{MemberPlan, Planned};
use quorate_state::{Membership, NodeId};
use std::time::Duration;

/// One member's line in a status: what it said, or why it said nothing.
pub(crate) fn node(id: NodeId, heard: Result<Heard, String>) -> v1::NodeStatus {
    match heard {
        Ok(Heard { status, clock }) => {
            let problem = match status {
                NodeStatus { role: Role::Shutdown, .. } => {
                    "it is stopping, or has failed: see its log"
                }
                NodeStatus { leader: None, .. } => "it knows no leader",
                _ => "",
            };
            v1::NodeStatus {
                node_id: id.0,
                role: role(status.role).into(),
                applied: status.applied.map(|index| index.0),
                committed: status.committed.map(|index| index.0),
                last_log: status.last_log.map(|index| index.0),
                healthy: problem.is_empty(),
                term: status.term,
                snapshot: status.snapshot.map(|index| index.0),
                purged: status.purged.map(|index| index.0),
                digest: status.digest,
                version: status.version,
                problem: problem.to_owned(),
                clock_offset_ms: clock.map(|clock| clock.ahead_ms),
                clock_uncertainty_ms: clock.map_or(0, |clock| clock.uncertainty_ms),
                recent_fsyncs: status.syncs.map_or(0, |syncs| syncs.count),
                fsync_p50_us: status.syncs.map_or(0, |syncs| micros(syncs.p50)),
                fsync_p99_us: status.syncs.map_or(0, |syncs| micros(syncs.p99)),
                disk_free_bytes: status.disk_free_bytes,
                writes_refused: status.writes_refused,
                elections_hour: status.elections_hour,
                feature_level: status.feature_level.0.into(),
                insecure: status.insecure,
            }
        }
        Err(problem) => v1::NodeStatus { node_id: id.0, problem, ..Default::default() },
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn role(role: Role) -> v1::Role {
    match role {
        Role::Leader => v1::Role::Leader,
        Role::Follower => v1::Role::Follower,
        Role::Candidate => v1::Role::Candidate,
        Role::Learner => v1::Role::Learner,
        Role::Shutdown => v1::Role::Shutdown,
    }
}

/// What is planned for a member.
pub(crate) fn plan(plan: MemberPlan, membership: &Membership) -> v1::MemberPlan {
    let MemberPlan { member, what } = plan;
    let known = membership.nodes.get(&member.node).map(|member| member.peer_addr.clone());
    let (aim, replaces, peer_addr) = match what {
        Planned::Join { member, learner: true, .. } => {
            (v1::MemberAim::Learner, None, Some(member.peer_addr))
        }
        Planned::Join { member, replaces, .. } => {
            (v1::MemberAim::Voter, replaces, Some(member.peer_addr))
        }
        Planned::Promote { replaces } => (v1::MemberAim::Voter, replaces, known),
        Planned::Remove => (v1::MemberAim::Gone, None, known),
    };
    v1::MemberPlan {
        node_id: member.node.0,
        aim: aim.into(),
        replaces_node_id: replaces.map_or(0, |replaced| replaced.node.0),
        peer_addr: peer_addr.unwrap_or_default(),
    }
}

/// The limits in force.
pub(crate) fn limits(limits: &Limits) -> Vec<v1::Limit> {
    let listed = limits.listed().into_iter();
    listed.map(|(name, value)| v1::Limit { name: name.to_owned(), value }).collect()
}

/// What the node has counted, and what is open on it.
pub(crate) fn counters(counters: &Counters, services: &metrics::Counters) -> Vec<v1::Counter> {
    let [ok, not_applied, unknown] = services.requests.by_outcome();
    let (watches, consumers) = (&services.watches, &services.consumers);
    let (bus, cache) = (&services.bus, &services.cache);
    let listed = [
        ("log_syncs", counters.log.syncs),
        ("log_entries", counters.log.entries),
        ("log_bytes", counters.log.bytes),
        ("entries_proposed", counters.entries_proposed),
        ("commands_proposed", counters.commands_proposed),
        ("requests_ok", ok),
        ("requests_not_applied", not_applied),
        ("requests_unknown", unknown),
        ("pipelines_cut", services.slow_readers_cut.get()),
        ("watches_cut", watches.slow_readers_cut.get()),
        ("consumers_cut", consumers.slow_readers_cut.get()),
        ("subscriptions_cut", bus.slow_cut.get()),
        ("bus_published", bus.published.get()),
        ("bus_delivered", bus.delivered.get()),
        ("bus_gaps", bus.gaps.get()),
        ("cache_hits", cache.hits.get()),
        ("cache_stale_hits", cache.stale_hits.get()),
        ("cache_misses", cache.misses.get()),
        ("cache_evicted", cache.evicted.get()),
        ("connections_open", services.client.open.get()),
        ("watches_open", watches.open.get()),
        ("consumers_open", consumers.open.get()),
        ("subscriptions_open", bus.subscriptions.get()),
        ("cache_waits_open", cache.waits.get()),
    ];
    listed.map(|(name, value)| v1::Counter { name: name.to_owned(), value }).into()
}

/// The members by id; `client_addr` gives the address a node published last.
pub(crate) fn members(
    membership: &Membership,
    client_addr: impl Fn(NodeId) -> Option<String>,
) -> Vec<v1::Member> {
    let nodes = membership.nodes.iter();
    nodes
        .map(|(id, member)| v1::Member {
            node_id: id.0,
            uuid: format!("{:032x}", member.uuid),
            peer_addr: member.peer_addr.clone(),
            client_addr: client_addr(*id).unwrap_or_else(|| member.client_addr.clone()),
            voter: membership.is_voter(*id),
        })
        .collect()
}

/// Who is to lead next; none leaves the choice to the leader.
pub(crate) fn successor(node_id: u64, membership: &Membership) -> Result<Option<NodeId>, Invalid> {
    let node = NodeId(node_id);
    let voters = membership.nodes.keys().filter(|node| membership.is_voter(**node)).count();
    match node_id {
        0 if voters < 2 => Err(invalid(
            "NO_OTHER_VOTER",
            "the cluster has no second voter that leadership could go to",
        )),
        0 => Ok(None),
        _ if !membership.is_voter(node) => Err(invalid(
            "NOT_A_VOTER",
            format!(
                "node {node} is no voter of this cluster; `quorate cluster members` lists them"
            ),
        )),
        _ => Ok(Some(node)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_consensus::{ClockOffset, SyncTimes};
    use quorate_state::{FeatureLevel, LogIndex, Member};
    use std::collections::{BTreeMap, BTreeSet};

    fn heard(role: Role, leader: Option<NodeId>) -> Heard {
        let status = NodeStatus {
            node: NodeId(2),
            role,
            term: 5,
            leader,
            applied: Some(LogIndex(0)),
            committed: Some(LogIndex(1)),
            last_log: Some(LogIndex(2)),
            snapshot: None,
            purged: None,
            digest: 77,
            version: "0.1.0".into(),
            feature_level: FeatureLevel(3),
            wall_ms: Some(1),
            syncs: Some(SyncTimes {
                count: 600,
                p50: Duration::from_micros(900),
                p99: Duration::from_micros(4_000),
            }),
            disk_free_bytes: Some(1 << 30),
            writes_refused: true,
            elections_hour: 2,
            insecure: true,
        };
        Heard { status, clock: Some(ClockOffset { ahead_ms: -7, uncertainty_ms: 3 }) }
    }

    #[test]
    fn what_is_not_known_of_a_node_is_absent() {
        let shown = node(NodeId(2), Ok(heard(Role::Follower, Some(NodeId(1)))));
        assert_eq!((shown.clock_offset_ms, shown.clock_uncertainty_ms), (Some(-7), 3));
        assert_eq!(
            (shown.recent_fsyncs, shown.fsync_p50_us, shown.fsync_p99_us),
            (600, 900, 4_000)
        );
        assert_eq!((shown.disk_free_bytes, shown.writes_refused), (Some(1 << 30), true));
        assert_eq!((shown.elections_hour, shown.insecure), (2, true));
        let Heard { status, .. } = heard(Role::Follower, Some(NodeId(1)));
        let status = NodeStatus { syncs: None, disk_free_bytes: None, ..status };
        let shown = node(NodeId(2), Ok(Heard { status, clock: None }));
        assert_eq!((shown.clock_offset_ms, shown.recent_fsyncs), (None, 0));
        assert_eq!(shown.disk_free_bytes, None);
    }

    #[test]
    fn a_node_is_healthy_when_it_answers_and_knows_a_leader() {
        let shown = node(NodeId(2), Ok(heard(Role::Follower, Some(NodeId(1)))));
        assert!(shown.healthy && shown.problem.is_empty());
        // Index 0 is an entry; it must not look like none.
        assert_eq!((shown.applied, shown.snapshot), (Some(0), None));
        assert_eq!((shown.role(), shown.feature_level), (v1::Role::Follower, 3));
        for unhealthy in [
            Ok(heard(Role::Candidate, None)),
            Ok(heard(Role::Shutdown, Some(NodeId(1)))),
            Err("no answer within 500 ms".to_owned()),
        ] {
            let shown = node(NodeId(2), unhealthy);
            assert!(!shown.healthy && !shown.problem.is_empty(), "{shown:?}");
        }
    }

    #[test]
    fn members_are_shown_with_their_newest_address() {
        let member =
            |addr: &str| Member { uuid: 0xabc, peer_addr: "p:1".into(), client_addr: addr.into() };
        let membership = Membership {
            voters: vec![BTreeSet::from([NodeId(1)])],
            nodes: BTreeMap::from([(NodeId(1), member("old:1")), (NodeId(2), member("c:2"))]),
        };
        let shown = members(&membership, |id| (id == NodeId(1)).then(|| "new:1".to_owned()));
        assert_eq!(shown[0].client_addr, "new:1");
        assert!(shown[0].voter);
        assert_eq!(shown[0].uuid, "00000000000000000000000000000abc");
        assert_eq!(shown[1].client_addr, "c:2");
        assert!(!shown[1].voter);

        // Leadership goes to voters only.
        assert_eq!(successor(1, &membership), Ok(Some(NodeId(1))));
        assert_eq!(successor(2, &membership).unwrap_err().reason, "NOT_A_VOTER");
        assert_eq!(successor(9, &membership).unwrap_err().reason, "NOT_A_VOTER");
        assert_eq!(successor(0, &membership).unwrap_err().reason, "NO_OTHER_VOTER");
        let two = BTreeSet::from([NodeId(1), NodeId(2)]);
        let membership = Membership { voters: vec![two], ..membership };
        assert_eq!(successor(0, &membership), Ok(None));
    }
}
