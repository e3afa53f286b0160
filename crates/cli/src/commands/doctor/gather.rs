//! Asks a cluster how it is, a few times, and makes one picture of the answers.

use super::seen::{Aim, Clock, Node, Plan, Seen, Syncs, Told};
use crate::exit::Failure;
use futures::future::join_all;
use quorate_client::{Client, Member, MemberAim, NodeStatus, Role, Status};
use std::time::Duration;

/// How often the cluster is asked: a node that is slow to answer once is not dead, the fastest answer
/// tells most of a clock, and what goes on shows in the difference.
const LOOKS: usize = 3;
/// From one time to the next.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long a node may take to answer this machine.
const REACH_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks whichever node answers about all, and each whether it is reached from here.
pub(super) async fn look(client: &Client) -> Result<Seen, Failure> {
    let cluster = client.cluster();
    let before = cluster.members().await?;
    let mut answers = vec![cluster.status().await?];
    while answers.len() < LOOKS {
        tokio::time::sleep(LOOK_EVERY).await;
        answers.push(cluster.status().await?);
    }
    let after = cluster.members().await?;
    let reached = join_all(after.members.iter().map(|member| reach(client, member))).await;

    let last = answers.last().expect("it was asked at least once").clone();
    // Each node has a term and a clock of its own, with which it compares.
    answers.retain(|answer| answer.answered_by == last.answered_by);
    let first_term = answers.first().map_or(last.term, |answer| answer.term);
    let node = |(member, reached): (Member, Result<(), String>)| Node {
        id: member.node_id,
        voter: member.voter,
        told: told(&answers, member.node_id),
        peer_addr: member.peer_addr,
        client_addr: member.client_addr,
        reached,
    };
    let plan = |plan: quorate_client::MemberPlan| Plan {
        node: plan.node_id,
        aim: match plan.aim {
            MemberAim::Voter => Aim::Voter,
            MemberAim::Gone => Aim::Gone,
            _ => Aim::Other,
        },
    };
    let plans = after.plans.into_iter().filter(|plan| before.plans.contains(plan));
    Ok(Seen {
        answered_by: last.answered_by,
        leader: last.leader_id,
        terms: (first_term, last.term),
        // Nodes don't tell of their own port; one that encrypts for clients does so for peers.
        encrypted: client.is_encrypted(),
        nodes: after.members.into_iter().zip(reached).map(node).collect(),
        plans: plans.map(plan).collect(),
    })
}

async fn reach(client: &Client, member: &Member) -> Result<(), String> {
    let asked =
        async { client.cluster().at(&member.client_addr)?.timeout(REACH_TIMEOUT).members().await };
    asked.await.map(|_| ()).map_err(|error| error.message().to_owned())
}

fn of(answer: &Status, id: u64) -> Option<&NodeStatus> {
    answer.nodes.iter().find(|node| node.node_id == id)
}

/// Of whom nothing is known, nothing was heard.
fn is_silent(node: &NodeStatus) -> bool {
    node.role == Role::Unknown && node.version.is_empty()
}

/// What a node told, from all answers of the node that was asked about it.
fn told(answers: &[Status], id: u64) -> Result<Told, String> {
    let said: Vec<(&Status, &NodeStatus)> =
        answers.iter().filter_map(|answer| Some((answer, of(answer, id)?))).collect();
    let heard: Vec<_> = said.iter().filter(|(_, node)| !is_silent(node)).collect();
    let Some((_, node)) = heard.last() else {
        let why = said.last().map(|(_, node)| node.problem.clone());
        return Err(why.unwrap_or_else(|| "it has only just become a member".to_owned()));
    };
    let lag = |(answer, node): &&(&Status, &NodeStatus)| {
        let leader = of(answer, answer.leader_id?)?.last_log?;
        // Of none it lacks entry 0 as well.
        let reached = node.last_log.map_or(0, |last| last.saturating_add(1));
        Some(leader.saturating_add(1).saturating_sub(reached))
    };
    let lags: Vec<u64> = heard.iter().filter_map(lag).collect();
    let clocks = heard.iter().filter_map(|(_, node)| node.clock);
    let clock = clocks.min_by_key(|clock| clock.uncertainty_ms);
    Ok(Told {
        problem: node.problem.clone(),
        version: node.version.clone(),
        applied: node.applied,
        last_log: node.last_log,
        snapshot: node.snapshot,
        purged: node.purged,
        digest: node.digest,
        behind: lags.first().copied().zip(lags.last().copied()),
        clock: clock
            .map(|clock| Clock { ahead_ms: clock.ahead_ms, uncertainty_ms: clock.uncertainty_ms }),
        syncs: node.fsync.map(|fsync| Syncs {
            count: fsync.count,
            p50_us: fsync.p50_us,
            p99_us: fsync.p99_us,
        }),
        disk_free_bytes: node.disk_free_bytes,
        writes_refused: node.writes_refused,
        elections_hour: node.elections_hour,
    })
}
