//! How this node is, and what it hears of the others.

use super::Replica;
use crate::maintenance::FREE_BYTES_MIN;
use crate::net::peers::Purpose;
use crate::status::{ClockOffset, Heard, NodeStatus, Role};
use crate::types;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use quorate_proto::peer as pb;
use quorate_state::{LogIndex, NodeId, query};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

impl Replica {
    /// This node's status; never waits.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let metrics = self.0.raft.metrics();
        let seen = metrics.borrow_watched().clone();
        let view = self.stale();
        let free_bytes = self.0.proposer.free_bytes.load(Ordering::Relaxed);
        let index = |id: &Option<types::LogId>| id.as_ref().map(|id| LogIndex(id.index));
        NodeStatus {
            node: self.0.me.node,
            role: match (&seen.running_state, seen.state) {
                (Err(_), _) | (_, ServerState::Shutdown) => Role::Shutdown,
                (_, ServerState::Leader) => Role::Leader,
                (_, ServerState::Candidate) => Role::Candidate,
                (_, ServerState::Follower) => Role::Follower,
                (_, ServerState::Learner) => Role::Learner,
            },
            term: seen.current_term,
            leader: seen.current_leader.map(NodeId),
            applied: view.applied.map(|position| position.index),
            committed: index(&seen.local_committed).max(index(&seen.cluster_committed)),
            last_log: self.0.log.bounds().last.map(|position| position.index),
            snapshot: index(&seen.snapshot),
            purged: self.0.log.bounds().purged.map(|position| position.index),
            // Only a table failure makes this unreadable, and that stops the node at its next
            // apply; a status is worth having until then.
            digest: query::digest(view.tables.as_ref(), self.group()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            wall_ms: Some(self.0.wall.now_ms()),
            syncs: self.0.health.sync_times(&self.0.log.counters().sync_times),
            disk_free_bytes: Some(free_bytes).filter(|free| *free != u64::MAX),
            writes_refused: free_bytes < FREE_BYTES_MIN,
            elections_hour: self.0.health.elections_hour(),
            feature_level: self.0.levels.newest(),
            insecure: self.0.insecure,
        }
    }

    /// The status of every member, by id: this node's own, and what the others answer within
    /// `timeout`, or why they did not.
    pub async fn cluster_status(&self, timeout: Duration) -> Vec<(NodeId, Result<Heard, String>)> {
        let membership = self.membership();
        let asked = membership.nodes.iter().map(|(node, member)| async move {
            if *node == self.0.me.node {
                let clock = Some(ClockOffset::default());
                return (*node, Ok(Heard { status: self.status(), clock }));
            }
            let mut peer = self.0.peers.client(*node, member, Purpose::Control);
            let call = peer.request(pb::StatusRequest { group_id: self.group().0 });
            let (asked_ms, asked) = (self.0.wall.now_ms(), Instant::now());
            let answer = match tokio::time::timeout(timeout, peer.client.status(call)).await {
                Ok(Ok(status)) => {
                    let took = asked.elapsed();
                    let status = NodeStatus::from_wire(status.into_inner());
                    let clock =
                        status.wall_ms.map(|theirs| ClockOffset::found(asked_ms, took, theirs));
                    Ok(Heard { status, clock })
                }
                Ok(Err(status)) => Err(status.message().to_owned()),
                Err(_) => Err(format!("no answer within {} ms", timeout.as_millis())),
            };
            (*node, answer)
        });
        futures::future::join_all(asked).await
    }
}
