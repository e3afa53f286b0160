//! Puts a node's consensus together: stores, network, openraft, and the tasks around it.

use crate::admission::{Admission, Origin, OriginId, Where};
use crate::announce::announce;
use crate::aside::Asides;
use crate::barrier::Barrier;
use crate::bootstrap::{StartError, bootstrap, cluster_id};
use crate::catch_up::CatchUp;
use crate::clock::WallClock;
use crate::forward::Forwarder;
use crate::health::Health;
use crate::io::{Dialer, Incoming};
use crate::leader::LeaderTask;
use crate::leases::Leases;
use crate::levels::Levels;
use crate::log_adapter::LogAdapter;
use crate::machine_adapter::{MachineAdapter, MachineParts};
use crate::maintenance;
use crate::members;
use crate::net::hello::Me;
use crate::net::peers::{FRAME_BYTES_MAX, Peers};
use crate::net::raft_network::{NetworkFactory, SNAPSHOT_TRANSFERS};
use crate::net::service::Service;
use crate::pace::{SnapshotRule, Timing};
use crate::proposer::Proposer;
use crate::removal;
use crate::replica::{Ended, Replica, Shared};
use crate::trace::Milestones;
use crate::types::{Raft, membership};
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Config, SnapshotPolicy};
use quorate_proto::peer::peer_service_server::PeerServiceServer;
use quorate_state::limits::Limits;
use quorate_state::{FeatureLevel, GroupId, Member, Membership, NodeId};
use quorate_storage::{Failures, Histogram, Stores};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;

/// Events kept for a follower of the apply stream that is busy; past it, it derives anew.
const EVENTS_KEPT: usize = 4_096;
/// Streams one peer connection may open at once.
const PEER_STREAMS: u32 = 256;

/// Called once, when the node first belongs to a cluster, to write its id down.
pub type Joined = Box<dyn FnOnce(&str) -> Result<(), quorate_storage::Error> + Send>;

/// Called once, when the node was removed from its cluster, to write that down.
pub type Left = Box<dyn FnOnce() -> Result<(), quorate_storage::Error> + Send>;

/// Everything a node is made of.
pub struct NodeOptions {
    /// Its id.
    pub node: NodeId,
    /// The random id of its data directory.
    pub uuid: u128,
    /// The cluster its directory belongs to; none for a new directory.
    pub cluster_id: Option<String>,
    /// The cluster that has given this node its id, when the directory does not belong to it yet:
    /// the node waits until the leader admits it.
    pub joins: Option<String>,
    /// Peer addresses of the nodes that form the cluster, this one included. Ignored once the
    /// directory belongs to a cluster, and when the node joins one.
    pub initial_cluster: BTreeMap<NodeId, String>,
    /// Where peers reach this node.
    pub peer_addr: String,
    /// Where clients reach this node.
    pub client_addr: String,
    /// Where its HTTP endpoint is; empty when it has none.
    pub http_addr: String,
    /// Whether other machines reach a port of it without TLS, or without being asked who they are: told in
    /// its status.
    pub insecure: bool,
    /// Its stores.
    pub stores: Stores,
    /// How it reaches peers.
    pub dialer: Arc<dyn Dialer>,
    /// Connections of its peers.
    pub incoming: Incoming,
    /// Raft's times.
    pub timing: Timing,
    /// When snapshots are taken.
    pub snapshots: SnapshotRule,
    /// Wall time.
    pub wall: Arc<dyn WallClock>,
    /// Bounds.
    pub limits: Limits,
    /// The newest feature level that the node takes itself to know: that of its build. Tests have
    /// nodes of older and newer ones.
    pub feature_level_max: FeatureLevel,
    /// See [`Joined`].
    pub joined: Joined,
    /// See [`Left`].
    pub left: Left,
}

/// A running node. Dropping it aborts its tasks; [`Node::shutdown`] is the polite way.
pub struct Node {
    replica: Replica,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Node {
    /// Starts consensus and the peer service on the current runtime, and returns when the node
    /// belongs to a cluster: at once for a directory that does, and for a new one when all nodes
    /// of the initial cluster have answered.
    ///
    /// # Errors
    /// When the node must not start (a wiped or foreign directory), or can't.
    pub async fn start(options: NodeOptions) -> Result<Self, StartError> {
        let group = GroupId(0);
        let NodeOptions { node, uuid, stores, timing, .. } = options;
        let Stores { log, state, snapshots, failures, offload } = stores;
        let pristine = log.bounds().last.is_none() && log.vote()?.is_none();
        if options.cluster_id.is_some() && pristine {
            return Err(StartError::Refused(format!(
                "the directory belongs to a cluster, but its log is gone, and with it the node's \
                 votes and acknowledged writes. Put the log directory back; or remove node {node} \
                 from the cluster and add it under a new id with an empty directory"
            )));
        }
        let joined_before = options.cluster_id.is_some();
        let initial = options.initial_cluster.keys().copied().collect();
        let reader = state.reader();
        let levels = Arc::new(Levels::found(reader.as_ref(), group, options.feature_level_max)?);
        let me = Me::new(node, uuid, group, options.cluster_id, initial, Arc::clone(&levels));
        let me = Arc::new(me);
        let peers = Arc::new(Peers::new(Arc::clone(&me), options.dialer));

        let (applied, applied_seen) = watch::channel(0);
        let (told, listening) = broadcast::channel(EVENTS_KEPT);
        let telling = told.clone();
        let [apply_times, snapshot_times] = [(); 2].map(|()| Arc::<Histogram>::default());
        let asides = Arc::<Asides>::default();
        let milestones = Arc::<Milestones>::default();
        let machine = MachineAdapter::open(MachineParts {
            group,
            state,
            snapshots: Arc::clone(&snapshots),
            offload,
            synced: log.synced(),
            applied,
            told,
            times: Arc::clone(&apply_times),
            snapshot_times: Arc::clone(&snapshot_times),
            asides: Arc::clone(&asides),
            levels: Arc::clone(&levels),
            milestones: Arc::clone(&milestones),
        })
        .map_err(|error| StartError::Consensus(error.to_string()))?;
        let catch_up = Arc::<CatchUp>::default();
        let network = NetworkFactory {
            peers: Arc::clone(&peers),
            offload,
            me: node,
            transfers: Arc::new(Semaphore::new(SNAPSHOT_TRANSFERS)),
            bytes_per_second: options.snapshots.send_bytes_per_second,
            snapshots: Arc::clone(&snapshots),
            failures: failures.clone(),
            catch_up: Arc::clone(&catch_up),
            log: Arc::clone(&log),
        };
        let config = Arc::new(config(timing, options.snapshots)?);
        let adapter = LogAdapter::new(Arc::clone(&log), Arc::clone(&milestones));
        let raft = Raft::build(node.0, config, network, adapter, machine)
            .await
            .map_err(|error| StartError::Consensus(error.to_string()))?;
        raft.run();
        // As the log has it: whether this node is a member already decides how it starts.
        let membership_found =
            raft.with_raft_state(|state| state.membership_state.effective().membership().clone());
        let found =
            membership_found.await.map_err(|error| StartError::Consensus(error.to_string()))?;
        me.set_membership(membership(&found));

        let (leadership, leading) = watch::channel(None);
        let (ending, ended) = watch::channel(None);
        let (seeing_leader, leader_seen) = watch::channel(None);
        let proposal_bytes =
            usize::try_from(options.limits.proposal_bytes_max).unwrap_or(usize::MAX);
        let own_origin = Origin::new(OriginId { node, connection: 0 });
        let proposer = Proposer::start(
            raft.clone(),
            leading.clone(),
            Arc::clone(&options.wall),
            own_origin.clone(),
            proposal_bytes,
            Arc::clone(&levels),
            milestones,
        );
        let leases = Arc::new(Leases::default());
        let applied = applied_seen.clone();
        // The barrier's rounds need the replica that holds the barrier. A weak handle, so that
        // the replica can go.
        let later: Arc<OnceLock<std::sync::Weak<Shared>>> = Arc::default();
        let rounds = Arc::clone(&later);
        let barrier = Barrier::start(move || {
            let shared = rounds.get().and_then(std::sync::Weak::upgrade);
            async move {
                match shared {
                    Some(shared) => Replica(shared).read_round().await,
                    None => Err(crate::barrier::no_quorum()),
                }
            }
        });
        let replica = Replica(Arc::new(Shared {
            me: Arc::clone(&me),
            raft: raft.clone(),
            peers: Arc::clone(&peers),
            log: Arc::clone(&log),
            reader: Arc::clone(&reader),
            snapshots,
            failures: failures.clone(),
            offload,
            applied: applied_seen,
            told: telling,
            apply_times,
            snapshot_times,
            proposer: proposer.clone(),
            held: Admission::new(Where::AtDoor, proposal_bytes),
            own: own_origin,
            connections: AtomicU64::new(0),
            barrier,
            forwarder: Arc::new(Forwarder::new(peers.runtime().clone())),
            leadership: leading,
            leader_seen,
            asides,
            leases: Arc::clone(&leases),
            levels,
            wall: Arc::clone(&options.wall),
            health: Health::default(),
            client_addr: options.client_addr.clone(),
            http_addr: options.http_addr,
            insecure: options.insecure,
            quorum_ttl: Duration::from_millis(timing.election_timeout_max_ms),
            ended,
        }));
        let _ = later.set(Arc::downgrade(&replica.0));

        let leader_task = LeaderTask {
            raft: raft.clone(),
            group,
            reader,
            told: listening,
            applied,
            leadership,
            leases,
            proposer,
            wall: options.wall,
            quorum_ttl: Duration::from_millis(timing.election_timeout_max_ms),
        };
        let spawn = |task| AbortOnDropHandle::new(tokio::spawn(task));
        let mut tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(leader_task.run())),
            AbortOnDropHandle::new(tokio::spawn(watch_failure(raft.clone(), ending.clone()))),
            AbortOnDropHandle::new(tokio::spawn(watch_storage(failures, ending.clone()))),
            AbortOnDropHandle::new(tokio::spawn(follow_metrics(replica.clone(), seeing_leader))),
            AbortOnDropHandle::new(tokio::spawn(maintenance::run(
                replica.clone(),
                options.snapshots,
                catch_up,
            ))),
            AbortOnDropHandle::new(tokio::spawn(members::carry_out(replica.clone()))),
            AbortOnDropHandle::new(tokio::spawn(removal::watch(
                replica.clone(),
                ending,
                options.left,
            ))),
            spawn(Box::pin(serve_peers(Arc::clone(&me), replica.clone(), options.incoming))
                as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>),
        ];

        let own_member =
            Member { uuid, peer_addr: options.peer_addr, client_addr: options.client_addr };
        if !joined_before {
            let addresses = if options.initial_cluster.is_empty() {
                BTreeMap::from([(node, own_member.peer_addr.clone())])
            } else {
                options.initial_cluster
            };
            let part_of_a_cluster = async {
                if let Some(cluster_id) = &options.joins {
                    me.join(cluster_id);
                    tracing::info!(cluster_id, "waiting for the leader to admit this node");
                } else if me.membership().nodes.is_empty() {
                    bootstrap(&me, &peers, &raft, &own_member, &addresses).await?;
                } else {
                    // Raft has a membership, but the node stopped before its id was written down.
                    me.join(&cluster_id(&me.membership().nodes));
                }
                // Written down only behind Raft's own first record, so that an id without a log
                // means that the log was lost.
                wait_for_record(&log).await
            };
            tokio::select! {
                joined = part_of_a_cluster => joined?,
                // Its first record may be what can't be written: nobody would wait for an end of that.
                ended = replica.ended() => return Err(match ended {
                    Ended::Failed(why) => StartError::Consensus(why),
                    Ended::Left(why) => StartError::Refused(why),
                }),
            }
            let id = me.cluster_id().unwrap_or_default().to_owned();
            let joined = options.joined;
            offload.run(move || joined(&id)).await?;
        }
        tasks.push(AbortOnDropHandle::new(tokio::spawn(announce(replica.clone()))));
        Ok(Self { replica, _tasks: tasks })
    }

    /// The façade.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Hands leadership over, for up to `timeout`, and stops.
    pub async fn shutdown(self, timeout: Duration) {
        self.replica.shutdown(timeout).await;
    }
}

fn config(timing: Timing, snapshots: SnapshotRule) -> Result<Config, StartError> {
    Config {
        cluster_name: "quorate".to_owned(),
        heartbeat_interval: timing.heartbeat_ms,
        election_timeout_min: timing.election_timeout_min_ms,
        election_timeout_max: timing.election_timeout_max_ms,
        heartbeat_min_interval: Some(0),
        max_payload_entries: 1_024,
        max_append_entries: Some(4_096),
        // Taken by bytes, in `maintain`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: snapshots.keep_entries,
        // Each purge is one range deletion: rarely, and many entries at once.
        purge_batch_size: (snapshots.keep_entries / 2).clamp(1, 10_000),
        replication_lag_threshold: u64::MAX,
        install_snapshot_timeout: 600_000,
        enable_pre_vote: Some(true),
        // A restarted leader stands for election like everybody.
        enable_leader_restore: Some(false),
        quorum_loss_probe_interval: Some(timing.election_timeout_max_ms * 4),
        allow_log_reversion: Some(false),
        ..Config::default()
    }
    .validate()
    .map_err(|error| StartError::Refused(format!("the raft times don't fit together: {error}")))
}

async fn serve_peers(me: Arc<Me>, replica: Replica, incoming: Incoming) {
    let service = PeerServiceServer::new(Service::new(me, replica))
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
    let served = Server::builder()
        .max_concurrent_streams(PEER_STREAMS)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(8 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(service)
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the peer service has stopped");
    }
}

fn learn_membership(me: &Me, raft: &Raft) -> bool {
    let metrics = raft.server_metrics();
    let known = membership(metrics.borrow_watched().membership_config.membership());
    if known == Membership::default() || known == *me.membership() {
        return false;
    }
    me.set_membership(known);
    true
}

/// Keeps what others ask of this node in step with Raft: who belongs to it, and who leads.
async fn follow_metrics(replica: Replica, seeing: watch::Sender<Option<NodeId>>) {
    let shared = Arc::clone(&replica.0);
    drop(replica);
    let mut metrics = shared.raft.server_metrics();
    loop {
        if learn_membership(&shared.me, &shared.raft) {
            let members = shared.me.membership();
            shared.peers.retain(|addr| {
                members.nodes.is_empty() || members.nodes.values().any(|m| m.peer_addr == addr)
            });
        }
        let (leader, term) = {
            let seen = metrics.borrow_and_update();
            (seen.current_leader.map(NodeId), seen.vote.leader_id.term)
        };
        seeing.send_if_modified(|seen| std::mem::replace(seen, leader) != leader);
        // No leader known is no news about the old one: an answer may still come.
        if leader.is_some() {
            shared.health.led_in(term);
            shared.forwarder.keep_only(leader);
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

async fn watch_failure(raft: Raft, ending: watch::Sender<Option<Ended>>) {
    let mut metrics = raft.metrics();
    loop {
        let state = metrics.borrow_and_update().running_state.clone();
        if let Err(fatal) = state {
            if !matches!(fatal, openraft::errors::Fatal::Stopped) {
                end(&ending, Ended::Failed(fatal.to_string()));
            }
            return;
        }
        if metrics.changed().await.is_err() {
            // The core is gone without a last word. A regular shutdown leaves one.
            let stopped = matches!(
                metrics.borrow_watched().running_state,
                Err(openraft::errors::Fatal::Stopped)
            );
            if !stopped {
                let why = "consensus has ended unexpectedly; its panic is in the log";
                end(&ending, Ended::Failed(why.to_owned()));
            }
            return;
        }
    }
}

/// Ends the replica when its storage has failed where consensus does not see it.
async fn watch_storage(failures: Failures, ending: watch::Sender<Option<Ended>>) {
    let why = failures.first().await;
    end(&ending, Ended::Failed(why));
}

/// Ends the replica. The first reason stays: those after it are most likely its consequences.
pub(crate) fn end(ending: &watch::Sender<Option<Ended>>, why: Ended) {
    ending.send_if_modified(|ended| {
        let is_first = ended.is_none();
        ended.get_or_insert(why);
        is_first
    });
}

/// Waits until the log has Raft's first record (a vote, or an entry) on disk.
async fn wait_for_record(log: &Arc<dyn quorate_storage::log::LogStore>) -> Result<(), StartError> {
    while log.vote()?.is_none() && log.bounds().last.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // There it is, and perhaps its sync has yet to come, or to fail: what completes behind it says that it
    // is on disk.
    let (done, synced) = tokio::sync::oneshot::channel();
    log.append(Vec::new(), Box::new(move |result| drop(done.send(result))))?;
    let closed =
        || StartError::Consensus("the log closed before its first record was on disk".to_owned());
    Ok(synced.await.map_err(|_| closed())??)
}
