//! The way to whoever leads, this node or another one.

use super::{PAUSE, ROUND, Replica};
use crate::admission::Origin;
use crate::barrier::no_quorum;
use crate::failure::{Failure, Reason};
use crate::forward::{Link, Way};
use crate::net::peers::PeerClient;
use crate::proposer::{Committed, Leadership};
use crate::trace::Passage;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver as _;
use quorate_proto::peer::{forward_request::Request as Forwarded, forward_response};
use quorate_state::{Command, Envelope, LogIndex, Member, NodeId, codec};
use quorate_storage::state::View;
use std::sync::Arc;
use tokio::time::Instant;

impl Replica {
    /// Proposes on this node or refuses; never forwards.
    pub(crate) async fn propose_here(
        &self,
        origin: &Origin,
        envelope: Envelope,
        deadline: Instant,
    ) -> Result<Committed, Failure> {
        self.leading_here(deadline).await?;
        self.0.proposer.propose(origin, envelope, deadline).await
    }

    /// As [`Replica::propose_here`], of a command of the leader's own.
    pub(crate) async fn propose_own_here(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Committed, Failure> {
        self.leading_here(deadline).await?;
        self.0.proposer.propose_own(command, deadline).await
    }

    /// One round of ReadIndex on this node, which must lead.
    pub(crate) async fn read_index_here(&self) -> Result<u64, Failure> {
        let reads = self.0.raft.get_read_linearizer(ReadPolicy::ReadIndex);
        match tokio::time::timeout(ROUND, reads).await {
            Ok(Ok(reads)) => Ok(reads.read_log_id().index() + 1),
            Ok(Err(error)) => Err(Failure::not_applied(Reason::NotLeader, error.to_string())),
            Err(_) => Err(no_quorum()),
        }
    }

    /// One round of ReadIndex through whoever leads, and a view that has come as far.
    pub(crate) async fn read_round(&self) -> Result<Arc<View>, Failure> {
        let deadline = Instant::now() + ROUND;
        let leader = self.leader_soon(deadline).await?;
        let target = if leader == self.0.me.node {
            self.read_index_here().await?
        } else {
            match self.ask_leader(leader, Forwarded::ReadIndex(true), deadline).await? {
                forward_response::Result::ReadIndex(read) => read.index,
                _ => return Err(garbled()),
            }
        };
        self.applied_through(target, deadline).await?;
        Ok(Arc::new(self.stale()))
    }

    /// This node's leadership, waiting for it to be taken up if Raft says that it leads.
    pub(crate) async fn leading_here(&self, deadline: Instant) -> Result<Leadership, Failure> {
        let mut leadership = self.0.leadership.clone();
        loop {
            if let Some(leading) = leadership.borrow_and_update().clone() {
                return Ok(leading);
            }
            if self.leader() != Some(self.0.me.node) {
                return Err(Failure::not_applied(
                    Reason::NotLeader,
                    format!("node {} does not lead; ask the leader", self.0.me.node),
                ));
            }
            if Instant::now() >= deadline {
                return Err(no_quorum());
            }
            let waited = deadline.min(Instant::now() + PAUSE);
            if let Ok(Err(_)) = tokio::time::timeout_at(waited, leadership.changed()).await {
                return Err(Failure::not_applied(
                    Reason::ShuttingDown,
                    "consensus has stopped on this node; ask another one",
                ));
            }
        }
    }

    /// The leader, waiting for one to be known.
    pub(crate) async fn leader_soon(&self, deadline: Instant) -> Result<NodeId, Failure> {
        let mut metrics = self.0.raft.server_metrics();
        loop {
            if let Some(leader) = metrics.borrow_and_update().current_leader {
                return Ok(NodeId(leader));
            }
            match tokio::time::timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(no_leader()),
            }
        }
    }

    /// Asks the leader something small, before all that clients want proposed.
    pub(crate) async fn ask_leader(
        &self,
        leader: NodeId,
        request: Forwarded,
        deadline: Instant,
    ) -> Result<forward_response::Result, Failure> {
        self.link(leader, Way::Urgent)?.ask(request, None, deadline).await
    }

    /// A stream to the leader.
    pub(crate) fn link(&self, leader: NodeId, way: Way) -> Result<Arc<Link>, Failure> {
        let membership = self.membership();
        // openraft may name a leader that membership no longer, or not yet, has.
        let member: Member = membership.nodes.get(&leader).cloned().ok_or_else(|| {
            Failure::not_applied(Reason::NoLeader, format!("no address of node {leader} is known"))
        })?;
        let client = |purpose| -> PeerClient { self.0.peers.client(leader, &member, purpose) };
        Ok(self.0.forwarder.link(leader, way, client))
    }

    pub(super) async fn applied_through(
        &self,
        target: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut applied = self.0.applied.clone();
        match tokio::time::timeout_at(deadline, applied.wait_for(|end| *end >= target)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::not_applied(
                Reason::Deadline,
                "this node lags behind the leader and did not catch up before the deadline; ask \
                 another node",
            )),
        }
    }

    /// Waits for news of a leader, or a moment; or gives up with what is known.
    pub(crate) async fn pause(&self, deadline: Instant, failure: Failure) -> Result<(), Failure> {
        let again = Instant::now() + PAUSE;
        if again >= deadline {
            return Err(failure);
        }
        let mut metrics = self.0.raft.server_metrics();
        metrics.borrow_and_update();
        match tokio::time::timeout_at(again, metrics.changed()).await {
            // Consensus has stopped here: another try would fail at once, again and again.
            Ok(Err(_)) => Err(failure),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

pub(crate) fn no_leader() -> Failure {
    Failure::not_applied(
        Reason::NoLeader,
        "no leader is known: a majority of the nodes must run and reach each other; see quorate \
         cluster status",
    )
}

pub(crate) fn garbled() -> Failure {
    Failure::unknown(
        Reason::LeaderChanged,
        "the leader's answer was of another kind than asked for",
    )
}

pub(crate) fn committed(result: forward_response::Result) -> Result<Committed, Failure> {
    let forward_response::Result::Committed(committed) = result else { return Err(garbled()) };
    Ok(Committed {
        index: LogIndex(committed.index),
        passage: committed.passage.as_ref().and_then(Passage::from_wire).map(Arc::new),
        outcome: codec::decode(&committed.outcome).map_err(|error| {
            Failure::unknown(
                Reason::LeaderChanged,
                format!("the leader's answer is malformed: {error}"),
            )
        })?,
    })
}
