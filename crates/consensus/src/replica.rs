//! The façade of one group's replica: propose, read behind a barrier, status, leadership.
//! Any node serves any call; what only the leader can do is forwarded to it, one hop.

use crate::admission::{Admission, Origin, OriginId};
use crate::aside::Asides;
use crate::barrier::{Barrier, no_quorum};
use crate::failure::{Failure, Reason};
use crate::forward::{Forwarder, SMALL_ANSWER, Way};
use crate::health::Health;
use crate::leader::unreadable;
use crate::leases::Leases;
use crate::levels::Levels;
use crate::machine_adapter::Applied;
use crate::net::hello::Me;
use crate::net::peers::Peers;
use crate::proposer::{Committed, Leadership, Proposer};

use crate::types::Raft;
use crate::weight::Weight;
use openraft::async_runtime::WatchReceiver as _;
use quorate_proto::peer::forward_request::Request as Forwarded;
#[cfg(feature = "planted-faults")]
use quorate_state::planted::{Fault, is_planted};
use quorate_state::{
    Envelope, FeatureLevel, GroupId, LogIndex, Membership, NodeId, Revision, codec, query,
};
use quorate_storage::log::{LogCounters, LogStore};
use quorate_storage::snapshot::SnapshotStore;
use quorate_storage::state::{StateReader, View};
use quorate_storage::{Durations, Failures, Histogram, Offload};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

mod route;
mod status;

pub(crate) use route::{committed, garbled, no_leader};

/// How long one attempt at finding or asking the leader may take before it is made anew.
pub(crate) const ROUND: Duration = Duration::from_secs(1);
/// How long to wait before asking again when nothing says that anything changed.
pub(crate) const PAUSE: Duration = Duration::from_millis(25);

/// A handle to this node's replica of one group; cheap to clone.
#[derive(Clone)]
pub struct Replica(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) me: Arc<Me>,
    pub(crate) raft: Raft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) log: Arc<dyn LogStore>,
    pub(crate) reader: Arc<dyn StateReader>,
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
    /// Failures of the storage that end the replica.
    pub(crate) failures: Failures,
    pub(crate) offload: Offload,
    /// Index behind the last applied entry.
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) told: broadcast::Sender<Applied>,
    pub(crate) apply_times: Arc<Histogram>,
    pub(crate) snapshot_times: Arc<Histogram>,
    pub(crate) proposer: Proposer,
    /// Commands that clients of this node wait for, wherever they are proposed.
    pub(crate) held: Admission,
    /// Whose commands this node's own are.
    pub(crate) own: Origin,
    /// The number of the last connection.
    pub(crate) connections: AtomicU64,
    pub(crate) barrier: Barrier<Arc<View>>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) leadership: watch::Receiver<Option<Leadership>>,
    /// Who leads, as this node knows it.
    pub(crate) leader_seen: watch::Receiver<Option<NodeId>>,
    pub(crate) asides: Arc<Asides>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) levels: Arc<Levels>,
    pub(crate) wall: Arc<dyn crate::WallClock>,
    pub(crate) health: Health,
    pub(crate) client_addr: String,
    pub(crate) http_addr: String,
    pub(crate) insecure: bool,
    /// How long an acknowledgement counts.
    pub(crate) quorum_ttl: Duration,
    /// Why the replica has ended for good; none while it has not.
    pub(crate) ended: watch::Receiver<Option<Ended>>,
}

/// Why a replica has ended for good, without anybody having asked for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It can't keep its promises.
    #[error("{0}")]
    Failed(String),
    /// The node was removed from its cluster.
    #[error("{0}")]
    Left(String),
}

/// News of what a node has applied, entries and installed snapshots alike.
pub struct Applies(watch::Receiver<u64>);

impl Applies {
    /// Waits until more was applied than when this was asked for last (at first: than when it was
    /// made). A view that is taken afterwards has it. False when consensus has stopped here.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Counters since the start of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Of the log on this node.
    pub log: LogCounters,
    /// Entries this node proposed.
    pub entries_proposed: u64,
    /// Commands in them.
    pub commands_proposed: u64,
    /// From the proposal of an entry on this node until it was applied here.
    pub commit_times: Durations,
    /// How long it took to apply a batch of entries that was on this node's disk.
    pub apply_times: Durations,
    /// How long it took to take a snapshot of the state.
    pub snapshot_times: Durations,
    /// How often a leader took office, but for the first one that was seen.
    pub elections: u64,
    /// What was too much, and what there is now.
    pub load: Load,
}

/// How loaded a node is: refusals since the start of the process, and bytes that are held now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Commands that clients of this node wait for, and their bytes.
    pub held: u64,
    /// See [`Load::held`].
    pub held_bytes: u64,
    /// Commands with the proposer of this node, wherever they came from, and their bytes.
    pub proposed: u64,
    /// See [`Load::proposed`].
    pub proposed_bytes: u64,
    /// Commands of this node's clients that were refused because too much was held here.
    pub refused_held: u64,
    /// Commands that this node refused as the leader, because too much was with its proposer.
    pub refused_proposed: u64,
    /// Reads that were refused because too many waited.
    pub refused_reads: u64,
    /// Commands that were not proposed here because their deadline had come.
    pub late: u64,
    /// Commands that this node refused as the leader, because its disk was almost full.
    pub refused_full: u64,
}

impl Replica {
    /// A new connection: its commands have turns beside those of others.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let connection = self.0.connections.fetch_add(1, Ordering::Relaxed) + 1;
        Origin::new(OriginId { node: self.0.me.node, connection })
    }

    /// Proposes a command of this node's own: as [`Replica::propose_of`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn propose(
        &self,
        envelope: Envelope,
        timeout: Duration,
    ) -> Result<Committed, Failure> {
        self.propose_of(&self.0.own, envelope, timeout).await
    }

    /// Proposes a command, on this node or through the leader, and waits until the node that
    /// proposed it has applied it. It has turns with what else comes from its origin.
    ///
    /// # Errors
    /// A [`Failure`] says whether the command may still have an effect. Refusals that certainly
    /// had none are retried here until `timeout`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the fate of the command unknown.
    pub async fn propose_of(
        &self,
        origin: &Origin,
        envelope: Envelope,
        timeout: Duration,
    ) -> Result<Committed, Failure> {
        let deadline = Instant::now() + timeout;
        // From here on, because a command may wait long for a leader, or for the way to it.
        let held = Arc::new(self.0.held.take(origin, Weight::of(&envelope).bytes)?);
        loop {
            let attempt = match self.leader_soon(deadline).await? {
                leader if leader == self.0.me.node => {
                    self.propose_here(origin, envelope.clone(), deadline).await
                }
                leader => {
                    let command = Forwarded::Command(codec::encode_envelope(&envelope));
                    let of = Some((origin, Arc::clone(&held)));
                    match self.link(leader, Way::ByTurns) {
                        Ok(link) => link.ask(command, of, deadline).await.and_then(committed),
                        Err(failure) => Err(failure),
                    }
                }
            };
            match attempt {
                Err(failure) if failure.is_worth_another_leader() => {
                    self.pause(deadline, failure).await?;
                }
                settled => return settled.map(|committed| committed.told(origin)),
            }
        }
    }

    /// Waits until a view is linearizable, and takes it: it contains every write that was
    /// acknowledged anywhere before this call. Reads that wait at the same time share one.
    ///
    /// # Errors
    /// When no leader with a quorum confirms before `timeout`. Never `unknown`.
    pub async fn read(&self, timeout: Duration) -> Result<Arc<View>, Failure> {
        #[cfg(feature = "planted-faults")]
        if is_planted(Fault::ReadWithoutBarrier) {
            return Ok(Arc::new(self.stale()));
        }
        let deadline = Instant::now() + timeout;
        loop {
            match self.0.barrier.pass(deadline).await {
                Ok(view) => return Ok(view),
                Err(failure) if failure.reason == Reason::Overloaded => return Err(failure),
                Err(failure) => self.pause(deadline, failure).await.map_err(|_| no_quorum())?,
            }
        }
    }

    /// A view of whatever this node has applied; needs nobody else.
    #[must_use]
    pub fn stale(&self) -> View {
        self.0.reader.view()
    }

    /// Waits until this node has applied `min_revision`; 0 is always applied.
    ///
    /// # Errors
    /// When it has not by `timeout`.
    pub async fn wait_applied(
        &self,
        min_revision: Revision,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        let mut applied = self.0.applied.clone();
        loop {
            applied.borrow_and_update();
            let view = self.stale();
            let revision = query::revision(view.tables.as_ref(), self.group())
                .map_err(|error| unreadable(&error))?;
            if revision >= min_revision {
                return Ok(());
            }
            drop(view);
            let changed = tokio::time::timeout_at(deadline, applied.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(Failure::not_applied(
                    Reason::Deadline,
                    format!(
                        "this node has applied revision {revision}, not yet {min_revision}; ask \
                         another node, or wait longer"
                    ),
                ));
            }
        }
    }

    /// Tells from now on when this node has applied more.
    #[must_use]
    pub fn applies(&self) -> Applies {
        Applies(self.0.applied.clone())
    }

    /// Waits until this node has applied an entry that was committed somewhere.
    ///
    /// # Errors
    /// When it has not by `timeout`.
    pub async fn wait_index(&self, index: LogIndex, timeout: Duration) -> Result<(), Failure> {
        self.applied_through(index.0 + 1, Instant::now() + timeout).await
    }

    /// What this node applies from now on, as it becomes visible in [`Replica::stale`]. Whoever
    /// falls behind by more than some thousand entries misses events, is told so
    /// ([`broadcast::error::RecvError::Lagged`]), and has to look at the state itself, as after
    /// [`Applied::Resync`].
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Applied> {
        self.0.told.subscribe()
    }

    /// Who belongs to the group, as this node knows it.
    #[must_use]
    pub fn membership(&self) -> Arc<Membership> {
        self.0.me.membership()
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.0.me.group
    }

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.0.me.node
    }

    /// The cluster; empty before it is formed.
    #[must_use]
    pub fn cluster_id(&self) -> String {
        self.0.me.cluster_id().unwrap_or_default().to_owned()
    }

    /// The feature level that the cluster is at, as this node has applied it.
    #[must_use]
    pub fn feature_level(&self) -> FeatureLevel {
        self.0.levels.cluster()
    }

    /// The leader, when one is known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.0.raft.server_metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// The term in which this node leads, once it has taken that up; none: it does not.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        self.0.leadership.borrow().as_ref().map(|leadership| leadership.term)
    }

    /// Where clients reach the leader, when one is known.
    #[must_use]
    pub fn leader_client_addr(&self) -> Option<String> {
        self.client_addr(self.leader()?)
    }

    /// Where clients reach a node: as it published last, or as it was admitted.
    #[must_use]
    pub fn client_addr(&self, node: NodeId) -> Option<String> {
        let view = self.stale();
        let published = query::member_addresses(view.tables.as_ref(), self.group(), node);
        match published {
            Ok(Some((client_addr, _))) => Some(client_addr),
            _ => self.membership().nodes.get(&node).map(|member| member.client_addr.clone()),
        }
    }

    /// Counters of this node.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            log: self.0.log.counters(),
            entries_proposed: self.0.proposer.counters.entries.load(Ordering::Relaxed),
            commands_proposed: self.0.proposer.counters.commands.load(Ordering::Relaxed),
            commit_times: self.0.proposer.counters.commits.read(),
            apply_times: self.0.apply_times.read(),
            snapshot_times: self.0.snapshot_times.read(),
            elections: self.0.health.elected(),
            load: self.load(),
        }
    }

    fn load(&self) -> Load {
        let Shared { held, proposer, barrier, .. } = &*self.0;
        let proposed = proposer.admission.taken_bytes() + proposer.urgent.taken_bytes();
        Load {
            held: held.held(),
            held_bytes: held.taken_bytes() as u64,
            proposed: proposer.admission.held() + proposer.urgent.held(),
            proposed_bytes: proposed as u64,
            refused_held: held.refused(),
            refused_proposed: proposer.admission.refused() + proposer.urgent.refused(),
            refused_reads: barrier.refused(),
            late: proposer.counters.late.load(Ordering::Relaxed),
            refused_full: proposer.counters.full.load(Ordering::Relaxed),
        }
    }

    /// How many entries of this leader's log each of the others is not known to have on disk; empty
    /// unless it leads.
    #[must_use]
    pub fn replication_lag(&self) -> Vec<(NodeId, u64)> {
        let end = |last: Option<u64>| last.map_or(0, |last| last + 1);
        let last_log = end(self.0.log.bounds().last.map(|position| position.index.0));
        let metrics = self.0.raft.metrics();
        let seen = metrics.borrow_watched();
        let others = seen.replication.iter().flatten();
        others
            .filter(|(node, _)| NodeId(**node) != self.0.me.node)
            .map(|(node, matched)| {
                let matched = end(matched.as_ref().map(|id| id.index));
                (NodeId(*node), last_log.saturating_sub(matched))
            })
            .collect()
    }

    /// Resolves when the replica has ended for good, with the reason: the process must exit.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.0.ended.clone();
        if let Ok(ended) = ended.wait_for(Option::is_some).await
            && let Some(why) = ended.clone()
        {
            return why;
        }
        // Whoever could tell ends only after a regular shutdown.
        std::future::pending().await
    }

    /// Hands leadership over if this node has it, for up to `timeout`, then stops consensus.
    pub async fn shutdown(&self, timeout: Duration) {
        if self.leader() == Some(self.0.me.node) && self.membership().nodes.len() > 1 {
            match self.transfer_leader(None, timeout).await {
                Ok(to) => tracing::info!(%to, "leadership handed over"),
                Err(failure) => tracing::warn!(%failure, "leadership was not handed over"),
            }
        }
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
    }

    // ---- what the parts of this crate need of each other ----

    pub(crate) fn raft(&self) -> &Raft {
        &self.0.raft
    }

    pub(crate) fn own_client_addr(&self) -> &str {
        &self.0.client_addr
    }

    pub(crate) fn snapshots(&self) -> (Arc<dyn SnapshotStore>, Offload) {
        (Arc::clone(&self.0.snapshots), self.0.offload)
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.0.failures
    }

    /// What a status request waits for at most.
    pub const STATUS_TIMEOUT: Duration = SMALL_ANSWER;
}
