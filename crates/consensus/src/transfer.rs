//! Handing leadership over: to whom, and waiting until it is taken (Raft thesis §3.10).

use crate::failure::{Failure, Reason};
use crate::replica::Replica;
use crate::types::TypeConfig;
use openraft::async_runtime::WatchReceiver as _;
use quorate_state::NodeId;
use std::time::Duration;
use tokio::time::Instant;

impl Replica {
    /// Hands leadership to `to`, or to the voter whose log is longest; answers the new leader.
    ///
    /// # Errors
    /// When this node does not lead, `to` is no other voter, or nobody took over by `timeout`.
    pub async fn transfer_leader(
        &self,
        to: Option<NodeId>,
        timeout: Duration,
    ) -> Result<NodeId, Failure> {
        let deadline = Instant::now() + timeout;
        let me = self.0.me.node;
        if self.leader() != Some(me) {
            return Err(Failure::not_applied(
                Reason::NotLeader,
                format!(
                    "node {me} does not lead, so it has no leadership to hand over; ask the leader"
                ),
            ));
        }
        let to = match to {
            Some(to) if to == me => return Ok(me),
            Some(to) if self.membership().is_voter(to) && !self.hears(to, None) => {
                return Err(Failure::not_applied(
                    Reason::NoLeader,
                    format!(
                        "node {to} does not answer, so it can't lead; see quorate cluster status"
                    ),
                ));
            }
            Some(to) if self.membership().is_voter(to) => to,
            Some(to) => {
                return Err(Failure::not_applied(
                    Reason::NoLeader,
                    format!("node {to} is no voter of this cluster; see quorate cluster members"),
                ));
            }
            None => self.longest_other_log().ok_or_else(|| {
                Failure::not_applied(Reason::NoLeader, "no other voter answers, to hand over to")
            })?,
        };
        let mut metrics = self.0.raft.server_metrics();
        while Instant::now() < deadline {
            if self.0.raft.trigger().transfer_leader(to.0).await.is_err() {
                return Err(Failure::not_applied(
                    Reason::Fatal,
                    "consensus has stopped on this node",
                ));
            }
            // Again after a while: the first message may have met a log that was not flushed yet.
            let again = deadline.min(Instant::now() + Duration::from_millis(500));
            loop {
                let leader = metrics.borrow_and_update().current_leader.map(NodeId);
                if let Some(leader) = leader.filter(|leader| *leader != me) {
                    return Ok(leader);
                }
                match tokio::time::timeout_at(again, metrics.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => {
                        return Err(Failure::not_applied(Reason::Fatal, "consensus has stopped"));
                    }
                    Err(_) => break,
                }
            }
        }
        Err(Failure::unknown(
            Reason::Deadline,
            format!(
                "node {to} had not taken over leadership by the deadline; see quorate cluster status"
            ),
        ))
    }

    fn longest_other_log(&self) -> Option<NodeId> {
        let metrics = self.0.raft.metrics();
        let seen = metrics.borrow_watched();
        let replication = seen.replication.as_ref()?;
        replication
            .iter()
            .filter(|(node, _)| {
                NodeId(**node) != self.0.me.node
                    && heard(&seen, **node, self.0.quorum_ttl)
                    && seen.membership_config.voter_ids().any(|voter| voter == **node)
            })
            .max_by_key(|(_, matched)| matched.as_ref().map(|id| id.index))
            .map(|(node, _)| NodeId(*node))
    }

    /// Whether a follower has acknowledged this leader within an election timeout, and since then.
    pub(crate) fn hears(&self, node: NodeId, since: Option<Instant>) -> bool {
        let metrics = self.0.raft.metrics();
        let within = since.map_or(self.0.quorum_ttl, |since| since.elapsed());
        heard(&metrics.borrow_watched(), node.0, self.0.quorum_ttl.min(within))
    }
}

fn heard(seen: &openraft::RaftMetrics<TypeConfig>, node: u64, within: Duration) -> bool {
    use openraft::Instant as _;
    let acked = seen.heartbeat.as_ref().and_then(|heartbeats| heartbeats.get(&node).copied());
    acked.flatten().is_some_and(|acked| acked.elapsed() < within)
}
