//! The cluster: which nodes there are, what is done to them, what they have come to.

use super::host::Host;
use super::logs::LogScan;
use super::node::{Node, Origin};
use super::options::{KEEP_ENV, Options};
use super::status;
use anyhow::{Context as _, Result, bail};
use futures::future::join_all;
use nix::sys::signal::Signal;
use quorate_proto::v1::{HashStateResponse, StatusResponse};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

mod leaders;
mod members;
mod partition;

/// Number of a node, from 1.
pub type NodeId = u64;

/// How often nodes are asked while something is waited for.
const POLL: Duration = Duration::from_millis(20);
/// How often a start is tried when a program that is not ours takes a port at the wrong moment.
const STARTS_MAX: usize = 3;

/// A cluster of `quorate serve` processes. See the [module](super) for what it guarantees.
pub struct ProcessCluster {
    nodes: BTreeMap<NodeId, Node>,
    options: Options,
    /// The id that was given out last.
    newest: NodeId,
    /// Logs of nodes that were let go.
    old_logs: Vec<PathBuf>,
    /// `None` only while it is dropped.
    directory: Option<TempDir>,
    deadline: Duration,
    panics_allowed: bool,
    failed: AtomicBool,
}

impl ProcessCluster {
    /// Starts this many nodes of the binary that [`find_binary`](super::find_binary) finds.
    ///
    /// # Errors
    /// As [`Options::start`].
    pub async fn start(nodes: u64) -> Result<Self> {
        Self::options(nodes).start().await
    }

    /// How to start this many nodes.
    pub fn options(nodes: u64) -> Options {
        Options::new(nodes)
    }

    pub(super) async fn start_with(options: Options) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let mut cluster = Self::prepare(&options)?;
            let Err(error) = cluster.start_down_nodes().await else { return Ok(cluster) };
            let port_taken = cluster.logs().lines_with("in use").is_ok_and(|l| !l.is_empty());
            if !port_taken || attempt == STARTS_MAX {
                cluster.mark_failed();
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// A cluster whose nodes are all down.
    fn prepare(options: &Options) -> Result<Self> {
        let binary = options.binary.as_ref().context("the options name no binary")?;
        if !binary.is_file() {
            bail!("there is no program at {}", binary.display());
        }
        let directory =
            TempDir::with_prefix("quorate-test-").context("could not make a directory")?;
        let hosts: Vec<(NodeId, Box<dyn Host>)> = (1..=options.nodes)
            .map(|id| Ok((id, options.hosts.take(id)?)))
            .collect::<Result<_>>()?;
        let peers = hosts.iter().map(|(id, host)| format!("{id}={}", host.addrs().peer));
        let initial_cluster = peers.collect::<Vec<_>>().join(",");
        let nodes = hosts.into_iter().map(|(id, host)| {
            let origin = Origin::Founds { initial_cluster: &initial_cluster };
            (id, Node::new(id, binary, options, directory.path(), host, origin))
        });
        Ok(Self {
            nodes: nodes.collect(),
            options: options.clone(),
            newest: options.nodes,
            old_logs: Vec::new(),
            deadline: options.deadline,
            panics_allowed: options.panics_allowed,
            failed: AtomicBool::new(false),
            directory: Some(directory),
        })
    }

    // What it consists of.

    /// Ids of all nodes, running or not.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Ids of the nodes that run and are not paused.
    pub fn live_ids(&self) -> Vec<NodeId> {
        self.live().map(|(id, _)| id).collect()
    }

    /// Client addresses of all nodes, by id, as the client takes them.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.values().map(|node| node.client_addr().to_string()).collect()
    }

    /// Where clients reach a node.
    pub fn client_addr(&self, id: NodeId) -> SocketAddr {
        self.node(id).client_addr()
    }

    /// Where other nodes reach a node.
    pub fn peer_addr(&self, id: NodeId) -> SocketAddr {
        self.node(id).peer_addr()
    }

    /// Where a node serves HTTP.
    pub fn http_addr(&self, id: NodeId) -> SocketAddr {
        self.node(id).http_addr()
    }

    /// The directory of the cluster. Files that a test puts there are kept if it fails.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().expect("taken only by drop").path()
    }

    /// The data directory of a node.
    pub fn data_dir(&self, id: NodeId) -> PathBuf {
        self.node(id).data_dir()
    }

    /// The file with the standard output and error of all runs of a node.
    pub fn log_path(&self, id: NodeId) -> PathBuf {
        self.node(id).log_path()
    }

    /// The logs of all nodes.
    pub fn logs(&self) -> LogScan {
        LogScan::new(self.nodes.values().map(Node::log_path).chain(self.old_logs.iter().cloned()))
    }

    /// The process id of a node that was started and whose end was not seen.
    pub fn pid(&self, id: NodeId) -> Option<u32> {
        self.node(id).pid()
    }

    /// Whether the process of a node is there, paused or not.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn is_running(&mut self, id: NodeId) -> Result<bool> {
        let node = self.node_mut(id);
        let exit = node.take_exit();
        let running = node.pid().is_some();
        self.noted(exit).map(|_| running)
    }

    /// How a node ended, if it did since its end was seen last: for one that may end by itself.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn take_exit(&mut self, id: NodeId) -> Result<Option<ExitStatus>> {
        let exit = self.node_mut(id).take_exit();
        self.noted(exit)
    }

    /// Keeps the directory, because the test failed in a way that the cluster can't see: a failed
    /// test that returns an error instead of panicking.
    pub fn mark_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    // What is done to nodes.

    /// Kills a node with SIGKILL, running or paused, and waits for its end. Answers the moment just
    /// before the signal.
    ///
    /// # Errors
    /// When the node does not run, also when it had ended by itself and nobody had noticed.
    pub async fn kill(&mut self, id: NodeId) -> Result<Instant> {
        let deadline = self.deadline;
        let node = self.node_mut(id);
        let before = Instant::now();
        let result = match node.signal(Signal::SIGKILL) {
            Ok(()) => node.wait_killed(deadline).await,
            Err(error) => Err(error),
        };
        self.noted(result).map(|()| before)
    }

    /// Kills all nodes that run, at once. Unlike a power cut it leaves to the kernel what they had
    /// written and not synced.
    ///
    /// # Errors
    /// When one does not end, or had ended by itself and nobody had noticed.
    pub async fn kill_all(&mut self) -> Result<()> {
        let deadline = self.deadline;
        for node in self.nodes.values_mut() {
            node.kill_quietly();
        }
        let running = self.nodes.values_mut().filter(|node| node.pid().is_some());
        let ends = join_all(running.map(|node| node.wait_killed(deadline))).await;
        self.noted(ends.into_iter().collect())
    }

    /// Stops a node where it is (SIGSTOP). Its connections stay; nobody answers them.
    ///
    /// # Errors
    /// When the node does not run.
    pub async fn pause(&mut self, id: NodeId) -> Result<()> {
        let deadline = self.deadline;
        let result = self.node_mut(id).pause(deadline).await;
        self.noted(result)
    }

    /// Lets a paused node go on (SIGCONT).
    ///
    /// # Errors
    /// When the node does not run.
    pub fn resume(&mut self, id: NodeId) -> Result<()> {
        let result = self.node_mut(id).resume();
        self.noted(result)
    }

    /// Asks a node to end (SIGTERM) and waits until it did. A paused one has to be resumed first.
    ///
    /// # Errors
    /// When the node does not run or does not end.
    pub async fn terminate(&mut self, id: NodeId) -> Result<ExitStatus> {
        let result = match self.node(id).signal(Signal::SIGTERM) {
            Ok(()) => return self.wait_exit(id).await,
            Err(error) => Err(error),
        };
        self.noted(result)
    }

    /// Asks all nodes that run to end (SIGTERM), at once, and waits until they did: how each ended.
    ///
    /// # Errors
    /// When one does not end.
    pub async fn terminate_all(&mut self) -> Result<Vec<(NodeId, ExitStatus)>> {
        let deadline = self.deadline;
        let mut running = self.nodes.values().filter(|node| node.pid().is_some());
        let asked = running.try_for_each(|node| node.signal(Signal::SIGTERM));
        self.noted(asked)?;
        let running = self.nodes.iter_mut().filter(|(_, node)| node.pid().is_some());
        let ends = running.map(|(id, node)| async move {
            node.wait_exit(deadline).await.map(|status| (*id, status))
        });
        let ends = join_all(ends).await;
        self.noted(ends.into_iter().collect())
    }

    /// From its next start on this node runs that binary.
    pub fn set_binary(&mut self, id: NodeId, binary: &Path) {
        self.node_mut(id).set_binary(binary);
    }

    /// Starts a node that is down, with its directory and ports, and does not wait for anything:
    /// for a node that is expected to refuse.
    ///
    /// # Errors
    /// When the node runs, or the system can't start it.
    pub fn spawn(&mut self, id: NodeId) -> Result<()> {
        let result = self.node_mut(id).spawn();
        self.noted(result)
    }

    /// Waits until a node ends by itself.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub async fn wait_exit(&mut self, id: NodeId) -> Result<ExitStatus> {
        let deadline = self.deadline;
        let result = self.node_mut(id).wait_exit(deadline).await;
        self.noted(result)
    }

    /// Starts a node again, with its directory and ports; kills it first if it runs. Waits until it
    /// listens for clients.
    ///
    /// # Errors
    /// When it does not come up; when it had ended by itself and nobody had noticed.
    pub async fn restart(&mut self, id: NodeId) -> Result<()> {
        if self.pid(id).is_some() {
            self.kill(id).await?;
        }
        self.spawn(id)?;
        let deadline = self.deadline;
        let result = self.node_mut(id).wait_listening(deadline).await;
        self.noted(result)
    }

    /// Kills all nodes at once and starts them again.
    ///
    /// # Errors
    /// When one does not come up.
    pub async fn restart_all(&mut self) -> Result<()> {
        self.kill_all().await?;
        let result = self.start_down_nodes().await;
        self.noted(result)
    }

    async fn start_down_nodes(&mut self) -> Result<()> {
        let deadline = self.deadline;
        let mut started: Vec<_> =
            self.nodes.values_mut().filter(|node| node.pid().is_none()).collect();
        for node in &mut started {
            node.spawn()?;
        }
        let listening = started.into_iter().map(|node| node.wait_listening(deadline));
        join_all(listening).await.into_iter().collect()
    }

    // What nodes say.

    /// The status of the cluster as one node tells it.
    ///
    /// # Errors
    /// When it does not answer. That alone does not make the test a failed one.
    pub async fn status(&self, id: NodeId) -> Result<StatusResponse> {
        status::status(self.node(id).client_addr()).await
    }

    /// What each live node says, at the same time.
    pub async fn statuses(&self) -> BTreeMap<NodeId, Result<StatusResponse>> {
        let asked = self.live().map(|(id, node)| {
            let addr = node.client_addr();
            async move { (id, status::status(addr).await) }
        });
        join_all(asked).await.into_iter().collect()
    }

    /// The checksum of a node's state, with the index that it is of.
    ///
    /// # Errors
    /// When it does not answer. That alone does not make the test a failed one.
    pub async fn hash_state(&self, id: NodeId) -> Result<HashStateResponse> {
        status::hash_state(self.node(id).client_addr()).await
    }

    /// The checksum of each live node, asked at the same time.
    pub async fn hash_states(&self) -> BTreeMap<NodeId, Result<HashStateResponse>> {
        let asked = self.live().map(|(id, node)| {
            let addr = node.client_addr();
            async move { (id, status::hash_state(addr).await) }
        });
        join_all(asked).await.into_iter().collect()
    }

    /// Waits until all nodes have applied the same entries, and answers their checksum. Writes
    /// should have ended.
    ///
    /// # Errors
    /// At once when two nodes differ at the same index, and when a node is down or paused: what it
    /// holds can't be told. When they do not come to the same index in time, with where each is.
    pub async fn wait_same_state(&mut self) -> Result<HashStateResponse> {
        let end = Instant::now() + self.deadline;
        loop {
            self.check_none_ended()?;
            let live = self.live_ids();
            if let Some(id) = self.ids().into_iter().find(|id| !live.contains(id)) {
                return self.noted(Err(anyhow::anyhow!(
                    "node {id} is down or paused, so its state can't be compared"
                )));
            }
            let states = self.hash_states().await;
            let same = status::same_state(&states);
            match self.noted(same)? {
                Some(state) => return Ok(state),
                None if Instant::now() > end => {
                    let deadline = self.deadline;
                    return self.noted(Err(anyhow::anyhow!(
                        "the nodes did not come to the same index within {deadline:?}: {states:?}"
                    )));
                }
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    fn check_none_ended(&mut self) -> Result<()> {
        for (id, node) in &mut self.nodes {
            if let Some(status) = node.take_exit()? {
                self.failed.store(true, Ordering::Relaxed);
                bail!("node {id} ended by itself, with {status}");
            }
        }
        Ok(())
    }

    fn live(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        let live = self.nodes.iter().filter(|(_, node)| node.pid().is_some() && !node.is_paused());
        live.map(|(id, node)| (*id, node))
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(&id).unwrap_or_else(|| panic!("the cluster has no node {id}"))
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("the cluster has no node {id}"))
    }

    /// Remembers that something failed.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.mark_failed();
        }
        result
    }
}

impl Drop for ProcessCluster {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            node.kill_quietly();
        }
        for node in self.nodes.values_mut() {
            node.reap();
        }
        let logs = self.logs();
        let panics = match logs.panics() {
            _ if self.panics_allowed => Vec::new(),
            Ok(panics) => panics,
            Err(error) => vec![format!("the logs can't be read: {error}")],
        };
        let panicking = std::thread::panicking();
        let failed = panicking || *self.failed.get_mut() || !panics.is_empty();
        let keep = failed || std::env::var_os(KEEP_ENV).is_some_and(|keep| !keep.is_empty());
        let Some(directory) = self.directory.take() else { return };
        if keep {
            let path = directory.keep();
            let tails = if failed { logs.tails() } else { String::new() };
            report(&format!("{tails}data and logs of the nodes are kept in {}", path.display()));
        }
        // A second panic would abort the test before it is reported.
        if !panicking {
            assert!(panics.is_empty(), "a node panicked:\n{}", panics.join("\n"));
        }
    }
}

#[allow(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
fn report(text: &str) {
    eprintln!("{text}");
}
