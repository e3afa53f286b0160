//! From a data directory to a running node: whose it is, whether it joins a cluster, and consensus.

use super::Error;
use crate::config::Config;
use crate::join;
use quorate_consensus::io::{Dialer, Incoming};
use quorate_consensus::{
    Joined, Left, Node, NodeOptions, SnapshotRule, StartError, SystemClock, Timing,
};
use quorate_state::{FeatureLevel, GroupId, NodeId};
use quorate_storage::identity::{Directory, Opener};
use quorate_storage::memory::{DiskModel, MemoryDisk};
use quorate_storage::{Stores, Tuning};
use quorate_tls::{ClientFiles, Reloading};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How a node reaches others and is reached.
pub(super) struct Network {
    pub(super) client_addr: String,
    pub(super) http_addr: String,
    /// Connections of other nodes.
    pub(super) incoming: Incoming,
    pub(super) dialer: Arc<dyn Dialer>,
    /// Whom to believe when asking to join; none: that is done plainly.
    pub(super) join: Option<Arc<Reloading<ClientFiles>>>,
}

/// Where the data of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In its data directory.
    Directory,
    /// In memory, for as long as it runs.
    Memory,
}

/// A data directory, locked for as long as anybody has it.
pub(crate) type Kept = Arc<Mutex<Directory>>;

/// Opens the data directory and starts consensus on it; runs on the threads for consensus.
pub(super) async fn start_node(
    config: Config,
    network: Network,
    place: Place,
) -> Result<(Node, Option<Kept>), Error> {
    if place == Place::Memory {
        return Ok((in_memory(config, network).await?, None));
    }
    let Network { client_addr, http_addr, incoming, dialer, join: believed } = network;
    let tuning = Tuning {
        log_memtable_bytes: config.storage.log_memtable_bytes,
        state_memtable_bytes: config.storage.state_memtable_bytes,
        block_cache_bytes: config.storage.block_cache_bytes,
        tail_cache_bytes: config.storage.tail_cache_bytes,
        ..Tuning::default()
    };
    let data_dir = config.data_dir.clone();
    let opener = match (&config.join, config.node_id_said) {
        (Some(_), _) => Opener::Joiner,
        (None, true) => Opener::Node(config.node_id),
        (None, false) => Opener::Whoever(config.node_id),
    };
    let (mut directory, stores) = task(move || {
        let directory = Directory::open(&data_dir, opener)?;
        let stores = Stores::open(directory.path(), GroupId(0), &tuning)?;
        Ok((directory, stores))
    })
    .await?;
    if let Some(join) = &config.join
        && directory.is_new()
    {
        let identity = directory.identity();
        if !identity.joins {
            return Err(Error::Start(StartError::Refused(format!(
                "the data directory {} was begun by node {} for another cluster, or for a cluster that \
                 it was to found; a node joins with an empty directory",
                config.data_dir.display(),
                identity.node_id
            ))));
        }
        // What it was given once is not asked for again: the cluster may need this node to answer.
        if identity.joining.is_none() {
            let given = join::ask(join, believed.as_ref(), identity, &config, &client_addr).await?;
            let set = move || directory.set_node(given.node, &given.cluster_id).map(|()| directory);
            directory = task(set).await?;
        }
    }
    let identity = directory.identity().clone();
    let node_id = identity.node_id;
    let joins = identity.joining.clone().filter(|_| directory.is_new());
    if identity.joins && directory.is_new() && joins.is_none() {
        return Err(Error::Start(StartError::Refused(format!(
            "the data directory {} was made to join a cluster, and has no node id yet: start the node \
             with --join and the client address of one of its nodes",
            config.data_dir.display()
        ))));
    }
    if identity.cluster_id.is_none() && joins.is_none() && !config.may_found {
        return Err(Error::Start(StartError::Refused(format!(
            "the data directory {} belongs to no cluster yet, and there is no --initial-cluster. If \
             node {node_id} was in a cluster before, its directory was lost or is another one: \
             give its path; or remove the node there and add it under a new id. To found a \
             cluster of this node alone: --initial-cluster {node_id}={}",
            config.data_dir.display(),
            config.peer_advertise
        ))));
    }
    let directory = Arc::new(Mutex::new(directory));
    let (kept, leaving) = (Arc::clone(&directory), Arc::clone(&directory));
    let own = Own {
        id: node_id,
        uuid: identity.uuid.as_u128(),
        cluster_id: identity.cluster_id.clone(),
        joins,
        stores,
        joined: Box::new(move |cluster_id| {
            directory.lock().unwrap_or_else(PoisonError::into_inner).set_cluster(cluster_id)
        }),
        left: Box::new(move || leaving.lock().unwrap_or_else(PoisonError::into_inner).set_left()),
    };
    let reached =
        Network { client_addr: client_addr.clone(), http_addr, incoming, dialer, join: None };
    let options = options(&config, reached, own);
    let waiting = match (&config.join, identity.cluster_id.is_none()) {
        (Some(join), true) => {
            Some(join::refused(join, believed.as_ref(), &identity, &config, &client_addr))
        }
        _ => None,
    };
    let node = tokio::select! {
        node = Node::start(options) => node?,
        refusal = async {
            match waiting {
                Some(waiting) => waiting.await,
                None => std::future::pending().await,
            }
        } => return Err(refusal),
    };
    Ok((node, Some(kept)))
}

/// A node that forgets everything when it ends, and so can be of no cluster but one that it founds.
async fn in_memory(config: Config, network: Network) -> Result<Node, Error> {
    if config.join.is_some() {
        let why = "a node in memory can't join a cluster, because it would come back without what it \
                   has promised; give it a data directory";
        return Err(Error::Start(StartError::Refused(why.to_owned())));
    }
    let own = Own {
        id: config.node_id,
        uuid: uuid::Uuid::new_v4().as_u128(),
        cluster_id: None,
        joins: None,
        stores: Stores::memory(&MemoryDisk::new(DiskModel::immediate()), GroupId(0))?,
        joined: Box::new(|_| Ok(())),
        left: Box::new(|| Ok(())),
    };
    Ok(Node::start(options(&config, network, own)).await?)
}

/// What makes it this node.
struct Own {
    id: NodeId,
    uuid: u128,
    cluster_id: Option<String>,
    joins: Option<String>,
    stores: Stores,
    joined: Joined,
    left: Left,
}

fn options(config: &Config, network: Network, own: Own) -> NodeOptions {
    let peers = config.initial_cluster.iter().map(|(id, address)| (*id, address.to_string()));
    NodeOptions {
        node: own.id,
        uuid: own.uuid,
        cluster_id: own.cluster_id,
        joins: own.joins,
        initial_cluster: peers.collect(),
        peer_addr: config.peer_advertise.to_string(),
        client_addr: network.client_addr,
        http_addr: network.http_addr,
        insecure: !config.exposed.is_empty(),
        stores: own.stores,
        dialer: network.dialer,
        incoming: network.incoming,
        timing: Timing {
            heartbeat_ms: config.raft.heartbeat_ms,
            election_timeout_min_ms: config.raft.election_timeout_min_ms,
            election_timeout_max_ms: config.raft.election_timeout_max_ms,
        },
        snapshots: SnapshotRule {
            log_bytes: config.snapshots.log_bytes,
            every: Duration::from_millis(config.snapshots.every_ms),
            keep_entries: config.snapshots.keep_entries,
            send_bytes_per_second: config.snapshots.send_bytes_per_second,
        },
        wall: Arc::new(SystemClock),
        limits: config.limits.clone(),
        feature_level_max: FeatureLevel::NEWEST,
        joined: own.joined,
        left: own.left,
    }
}

/// Work on the directory, where it may block.
async fn task<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, quorate_storage::Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panic) => Err(Error::Failed(format!("work on its data panicked: {panic}"))),
    }
}
