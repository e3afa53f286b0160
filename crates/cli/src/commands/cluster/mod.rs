//! `quorate cluster`: how it is, who belongs to it, who is to.

mod add;
mod change;
mod repair;

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, table};
use clap::{Args, Subcommand};
use quorate_client::{Member, MemberAim, MemberPlan, Members, NodeStatus, Role, Status};
use serde_json::{Map, Value, json};

/// `quorate cluster …`
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How each node is; any live node answers, also without a quorum.
    Status,
    /// Who belongs to the cluster, and where each is reached.
    Members,
    /// Hand leadership over, to a node or to the one that is most up to date.
    TransferLeader {
        /// The id of the node that is to lead
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        node: Option<u64>,
    },
    /// Make a token with which one more node may join
    Add(add::Add),
    /// Give a member without a vote one
    Promote(change::Promote),
    /// Take a member out, for good: it stops, and its id and data directory are not used again
    Remove(change::Remove),
    /// Have another node take a member's place, in one step
    Replace(change::Replace),
    /// Give a stopped node whose state is damaged the state of its cluster
    Repair(repair::Repair),
}

impl Cluster {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, command } = self;
        match command {
            Command::Status => {
                let status = connect.run(async |client| Ok(client.cluster().status().await?))?;
                output.result(|| status_json(&status), || status_text(&status))
            }
            Command::Members => {
                let members = connect.run(async |client| Ok(client.cluster().members().await?))?;
                output.result(|| members_json(&members), || members_text(&members))
            }
            Command::TransferLeader { node } => {
                let leader = connect
                    .run(async |client| Ok(client.cluster().transfer_leader(node).await?))?;
                output.result(|| json!({ "leader_id": leader }), || format!("node {leader} leads"))
            }
            Command::Add(add) => add.run(&connect, output),
            Command::Promote(promote) => promote.run(&connect, output),
            Command::Remove(remove) => remove.run(&connect, output),
            Command::Replace(replace) => replace.run(&connect, output),
            Command::Repair(repair) => repair.run(&connect, output),
        }
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Shutdown => "shutdown",
        _ => "unknown",
    }
}

fn status_json(status: &Status) -> Value {
    let node = |node: &NodeStatus| {
        json!({
            "node_id": node.node_id,
            "role": role(node.role),
            "applied": node.applied,
            "committed": node.committed,
            "last_log": node.last_log,
            "healthy": node.healthy,
            "term": node.term,
            "snapshot": node.snapshot,
            "purged": node.purged,
            // 64 random bits, which JSON numbers can't hold.
            "digest": format!("{:016x}", node.digest),
            "version": node.version,
            "feature_level": node.feature_level,
            "problem": node.problem,
            "clock_offset_ms": node.clock.map(|clock| clock.ahead_ms),
            "clock_uncertainty_ms": node.clock.map(|clock| clock.uncertainty_ms),
            "recent_fsyncs": node.fsync.map_or(0, |fsync| fsync.count),
            "fsync_p50_us": node.fsync.map(|fsync| fsync.p50_us),
            "fsync_p99_us": node.fsync.map(|fsync| fsync.p99_us),
            "disk_free_bytes": node.disk_free_bytes,
            "writes_refused": node.writes_refused,
            "elections_hour": node.elections_hour,
            "insecure": node.insecure,
        })
    };
    let limits: Map<String, Value> =
        status.limits.iter().map(|(name, value)| (name.clone(), Value::from(*value))).collect();
    json!({
        "cluster_id": status.cluster_id,
        "term": status.term,
        "leader_id": status.leader_id,
        "nodes": status.nodes.iter().map(node).collect::<Vec<_>>(),
        "answered_by": status.answered_by,
        "feature_level": status.feature_level,
        "limits": limits,
    })
}

fn status_text(status: &Status) -> String {
    let rows: Vec<Vec<String>> = status
        .nodes
        .iter()
        .map(|node| {
            vec![
                node.node_id.to_string(),
                role(node.role).to_owned(),
                index(node.applied),
                index(node.committed),
                index(node.last_log),
                if node.version.is_empty() { "-".to_owned() } else { node.version.clone() },
                known(node.feature_level),
                (if node.healthy { "yes" } else { "no" }).to_owned(),
                node.problem.clone(),
            ]
        })
        .collect();
    let header = [
        "NODE",
        "ROLE",
        "APPLIED",
        "COMMITTED",
        "LAST LOG",
        "VERSION",
        "LEVEL",
        "HEALTHY",
        "PROBLEM",
    ];
    let leader = status.leader_id.map_or_else(
        || format!("no leader that node {} knows", status.answered_by),
        |leader| format!("led by node {leader}"),
    );
    let insecure = status.nodes.iter().filter(|node| node.insecure);
    let insecure: Vec<String> = insecure.map(|node| node.node_id.to_string()).collect();
    let warning = match insecure.as_slice() {
        [] => String::new(),
        nodes => format!(
            "\n\nWARNING: node {} can be reached from other machines without TLS, or without being asked \
             who calls (insecure = true): docs/security.md",
            nodes.join(", ")
        ),
    };
    format!(
        "cluster {}, term {}, {leader}, feature level {}\n\n{}{warning}",
        status.cluster_id,
        status.term,
        known(status.feature_level),
        table(&header, &rows)
    )
}

/// A feature level; 0 is said of a node that says nothing, and by one of a version that knows none.
fn known(level: u32) -> String {
    if level == 0 { "-".to_owned() } else { level.to_string() }
}

fn index(index: Option<u64>) -> String {
    index.map_or_else(|| "-".to_owned(), |index| index.to_string())
}

fn members_json(members: &Members) -> Value {
    let member = |member: &Member| {
        json!({
            "node_id": member.node_id,
            "uuid": member.uuid,
            "peer_addr": member.peer_addr,
            "client_addr": member.client_addr,
            "voter": member.voter,
        })
    };
    json!({
        "cluster_id": members.cluster_id,
        "leader_id": members.leader_id,
        "members": members.members.iter().map(member).collect::<Vec<_>>(),
        "plans": members.plans.iter().map(plan_json).collect::<Vec<_>>(),
    })
}

fn members_text(members: &Members) -> String {
    let rows: Vec<Vec<String>> = members
        .members
        .iter()
        .map(|member| {
            vec![
                member.node_id.to_string(),
                (if member.voter { "voter" } else { "learner" }).to_owned(),
                member.client_addr.clone(),
                member.peer_addr.clone(),
                (if members.leader_id == Some(member.node_id) { "leads" } else { "" }).to_owned(),
            ]
        })
        .collect();
    let mut text = table(&["NODE", "KIND", "CLIENTS", "PEERS", ""], &rows);
    for plan in &members.plans {
        text.push_str(&format!("\nplanned: {}", plan_text(plan)));
    }
    text
}

fn aim(aim: MemberAim) -> &'static str {
    match aim {
        MemberAim::Learner => "learner",
        MemberAim::Voter => "voter",
        MemberAim::Gone => "gone",
        _ => "unknown",
    }
}

fn plan_json(plan: &MemberPlan) -> Value {
    json!({
        "node_id": plan.node_id,
        "aim": aim(plan.aim),
        "replaces": plan.replaces,
        "peer_addr": plan.peer_addr,
    })
}

pub(super) fn plan_text(plan: &MemberPlan) -> String {
    let node = plan.node_id;
    match (plan.aim, plan.replaces) {
        (MemberAim::Learner, _) => format!("node {node} joins without a vote"),
        (MemberAim::Voter, None) => format!("node {node} gets a vote once it has caught up"),
        (MemberAim::Voter, Some(replaced)) => {
            format!("node {node} takes the place of node {replaced} once it has caught up")
        }
        (MemberAim::Gone, _) => format!("node {node} leaves"),
        _ => format!("node {node}: something that a newer version knows"),
    }
}
