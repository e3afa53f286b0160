//! How the cluster is: asked of all nodes once for everybody who looks.

use super::Dashboard;
use super::answer::{Answer, Refusal, Told, some, some_text};
use super::ask::{Ask, within_deadline};
use crate::access::now_unix_ms;
use quorate_proto::v1;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// For how long an answer is given to whoever asks.
pub(super) const SHARED_FOR: Duration = Duration::from_secs(2);

/// What was found out last.
#[derive(Default)]
pub(super) struct Shared(Mutex<Option<(Instant, Arc<Value>)>>);

impl Dashboard {
    /// How the cluster is, as it was found out at most [`SHARED_FOR`] ago. Those who ask meanwhile wait for
    /// the one who finds it out; one who does not wait any more loses nothing for the others.
    pub(super) async fn overview(&self) -> Result<Arc<Value>, Refusal> {
        let mut shared = self.overview.0.lock().await;
        if let Some((at, told)) = &*shared
            && at.elapsed() < SHARED_FOR
        {
            return Ok(Arc::clone(told));
        }
        let mut cluster = ClusterServiceClient::new(self.routes.clone());
        let status = cluster.status(within_deadline(v1::StatusRequest::default())).await?;
        let members = cluster.members(within_deadline(v1::MembersRequest::default())).await?;
        let told = told(status.into_inner(), members.into_inner(), self.started_unix_ms);
        let told = Arc::new(told);
        *shared = Some((Instant::now(), Arc::clone(&told)));
        Ok(told)
    }
}

pub(super) async fn get(ask: Ask) -> Answer {
    // Whoever is known may see it.
    ask.grant().await?;
    let overview = ask.dashboard.overview().await?;
    Ok(Told(overview.as_ref().clone()))
}

fn told(status: v1::StatusResponse, members: v1::MembersResponse, started_unix_ms: u64) -> Value {
    let by_id: HashMap<u64, &v1::Member> =
        members.members.iter().map(|member| (member.node_id, member)).collect();
    let nodes: Vec<Value> =
        status.nodes.iter().map(|told| node(told, by_id.get(&told.node_id).copied())).collect();
    let plans: Vec<Value> = members.plans.iter().map(plan).collect();
    json!({
        "now_unix_ms": now_unix_ms(),
        "cluster_id": status.cluster_id,
        "term": status.term,
        "leader_id": status.leader_id.map(|leader| leader.to_string()),
        "answered_by": status.answered_by.to_string(),
        "feature_level": status.feature_level,
        "version": env!("CARGO_PKG_VERSION"),
        "started_unix_ms": started_unix_ms,
        "nodes": nodes,
        "plans": plans,
    })
}

fn node(told: &v1::NodeStatus, member: Option<&v1::Member>) -> Value {
    let synced = |us: u64| (told.recent_fsyncs > 0).then_some(us);
    json!({
        "node_id": told.node_id.to_string(),
        "role": role(told.role),
        "voter": member.is_some_and(|member| member.voter),
        "healthy": told.healthy,
        "problem": told.problem,
        "client_addr": member.map_or("", |member| &member.client_addr),
        "peer_addr": member.map_or("", |member| &member.peer_addr),
        "term": told.term,
        "applied": told.applied,
        "committed": told.committed,
        "last_log": told.last_log,
        "snapshot": told.snapshot,
        "purged": told.purged,
        "digest": format!("{:016x}", told.digest),
        "version": told.version,
        "feature_level": told.feature_level,
        "recent_fsyncs": told.recent_fsyncs,
        "fsync_p50_us": synced(told.fsync_p50_us),
        "fsync_p99_us": synced(told.fsync_p99_us),
        "disk_free_bytes": told.disk_free_bytes,
        "writes_refused": told.writes_refused,
        "elections_hour": told.elections_hour,
        "insecure": told.insecure,
        "clock_offset_ms": told.clock_offset_ms,
        "clock_uncertainty_ms": told.clock_uncertainty_ms,
    })
}

fn role(role: i32) -> &'static str {
    match v1::Role::try_from(role) {
        Ok(v1::Role::Leader) => "leader",
        Ok(v1::Role::Follower) => "follower",
        Ok(v1::Role::Candidate) => "candidate",
        Ok(v1::Role::Learner) => "learner",
        Ok(v1::Role::Shutdown) => "shutdown",
        Ok(v1::Role::Unspecified) | Err(_) => "unknown",
    }
}

fn plan(plan: &v1::MemberPlan) -> Value {
    let aim = match v1::MemberAim::try_from(plan.aim) {
        Ok(v1::MemberAim::Learner) => "learner",
        Ok(v1::MemberAim::Voter) => "voter",
        Ok(v1::MemberAim::Gone) => "gone",
        Ok(v1::MemberAim::Unspecified) | Err(_) => "unknown",
    };
    json!({
        "node_id": plan.node_id.to_string(),
        "aim": aim,
        "replaces_node_id": some(plan.replaces_node_id).map(|node| node.to_string()),
        "peer_addr": some_text(plan.peer_addr.clone()),
    })
}
