//! A whole node on a thread and a runtime of its own, with a disk that outlives it.

use super::clock::TestClock;
use super::net::Net;
use anyhow::{Context as _, Result, anyhow, bail};
use quorate_consensus::io::{Cuts, Dialer};
use quorate_consensus::{Node, NodeOptions, Replica, SnapshotRule, Timing};
use quorate_server::{Server, ServerOptions};
use quorate_state::limits::Limits;
use quorate_state::{FeatureLevel, GroupId, NodeId};
use quorate_storage::Stores;
use quorate_storage::memory::{DiskModel, MemoryDisk};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// The only group there is.
const GROUP: GroupId = GroupId(0);
/// What tasks of a node that is killed get to notice it.
const RUNTIME_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A place for a node: what survives it, and a hold on it while it runs.
pub(super) struct Host {
    id: NodeId,
    disk: MemoryDisk,
    clock: TestClock,
    net: Net,
    cuts: Cuts,
    timing: Timing,
    founders: BTreeMap<NodeId, String>,
    /// The identity file of a data directory.
    cluster_id: Arc<Mutex<Option<String>>>,
    running: Option<Running>,
}

struct Running {
    replica: Replica,
    /// Dropped when the node is to be gone.
    _alive: oneshot::Sender<()>,
    thread: JoinHandle<Option<String>>,
}

/// Where clients reach a node.
pub(super) fn client_addr(id: NodeId) -> String {
    format!("node-{id}:8811")
}

/// Where other nodes reach a node.
pub(super) fn peer_addr(id: NodeId) -> String {
    format!("node-{id}:8812")
}

/// A node that is on its way; [`Host::started`] has it.
pub(super) struct Starting {
    ready: oneshot::Receiver<Result<Replica>>,
    alive: oneshot::Sender<()>,
    thread: JoinHandle<Option<String>>,
}

impl Host {
    /// A place with an empty disk, of a cluster of so many nodes.
    pub(super) fn new(id: NodeId, nodes: u64, clock: TestClock, net: Net, timing: Timing) -> Self {
        let founders = (1..=nodes).map(NodeId).map(|id| (id, peer_addr(id)));
        Self {
            id,
            disk: MemoryDisk::new(DiskModel::immediate()),
            clock,
            net,
            cuts: Cuts::default(),
            timing,
            founders: founders.collect(),
            cluster_id: Arc::default(),
            running: None,
        }
    }

    /// Its cuts from other nodes.
    pub(super) fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// The replica of the node, while it runs.
    pub(super) fn replica(&self) -> Option<&Replica> {
        self.running.as_ref().map(|running| &running.replica)
    }

    /// Begins to start the node.
    pub(super) fn spawn(&self) -> Result<Starting> {
        if self.running.is_some() {
            bail!("node {} runs already", self.id);
        }
        let options = self.options()?;
        let client = (self.net.clone(), client_addr(self.id));
        let (tell, ready) = oneshot::channel();
        let (alive, killed) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("can't make a runtime")?;
        let thread = std::thread::Builder::new().name(format!("node-{}", self.id));
        let thread = thread.spawn(move || {
            let ended = runtime.block_on(async {
                tokio::select! {
                    _ = killed => None,
                    ended = run(options, client, tell) => ended,
                }
            });
            runtime.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
            ended
        });
        Ok(Starting { ready, alive, thread: thread.context("can't start a thread")? })
    }

    /// Waits until a node serves that was [spawned](Host::spawn).
    pub(super) async fn started(&mut self, starting: Starting) -> Result<()> {
        let Starting { ready, alive, thread } = starting;
        let replica = ready.await.map_err(|_| anyhow!("node {} has panicked", self.id))??;
        self.running = Some(Running { replica, _alive: alive, thread });
        Ok(())
    }

    fn options(&self) -> Result<NodeOptions> {
        let known = Arc::clone(&self.cluster_id);
        let cluster_id = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(NodeOptions {
            node: self.id,
            uuid: u128::from(self.id.0),
            cluster_id,
            joins: None,
            initial_cluster: self.founders.clone(),
            peer_addr: peer_addr(self.id),
            client_addr: client_addr(self.id),
            http_addr: String::new(),
            insecure: false,
            stores: Stores::memory(&self.disk, GROUP)?,
            dialer: self.cuts.over(Arc::new(self.net.clone()) as Arc<dyn Dialer>),
            incoming: self.net.listen(&peer_addr(self.id)),
            timing: self.timing,
            snapshots: SnapshotRule::default(),
            wall: Arc::new(self.clock.clone()),
            limits: Limits::default(),
            feature_level_max: FeatureLevel::NEWEST,
            joined: Box::new(move |id| {
                *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
                Ok(())
            }),
            left: Box::new(|| Ok(())),
        })
    }

    /// Ends the node as a power cut would: what it had synced is there when it starts again. Answers
    /// why it had ended by itself, if it had.
    pub(super) fn kill(&mut self) -> Option<String> {
        let Running { replica, _alive: alive, thread } = self.running.take()?;
        // The last handle must not keep anything of it.
        drop(replica);
        drop(alive);
        let ended = thread.join();
        self.disk.crash();
        ended.unwrap_or_else(|_| Some("it has panicked".to_owned()))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let failed = self.kill();
        // A second panic would abort the test before it is reported.
        if !std::thread::panicking() {
            let id = self.id;
            assert!(failed.is_none(), "node {id} had ended: {}", failed.unwrap_or_default());
        }
    }
}

/// The node, until it is dropped or has failed for good: then the reason.
async fn run(
    options: NodeOptions,
    (net, addr): (Net, String),
    tell: oneshot::Sender<Result<Replica>>,
) -> Option<String> {
    let node = match Box::pin(Node::start(options)).await {
        Ok(node) => node,
        Err(refusal) => {
            // Whoever started it may have given up.
            let _ = tell.send(Err(refusal.into()));
            return None;
        }
    };
    // Only now, as in a real process: until then clients are refused.
    let server = Server::start(ServerOptions::new(node, net.listen(&addr)));
    let _ = tell.send(Ok(server.replica().clone()));
    Some(server.ended().await.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_of_a_node_is_left_when_it_is_gone() {
        let (clock, net) = (TestClock::default(), Net::default());
        let mut host = Host::new(NodeId(1), 1, clock.clone(), net, Timing::default());
        for _ in 0..3 {
            let starting = host.spawn().unwrap();
            host.started(starting).await.unwrap();
            assert!(clock.holders() > 2, "the node has no clock");
            assert_eq!(host.kill(), None);
            // This one and the host's: whatever knows the node would know its clock.
            assert_eq!(clock.holders(), 2);
        }
    }
}
