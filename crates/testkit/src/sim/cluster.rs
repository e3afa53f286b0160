//! Machines, each with a whole broker on a disk that outlives it; and some that stand by until a node is
//! to join.

use super::net::{
    CLIENT_PORT, HOSTS, Host, LastRites, Obstacle, PEER_PORT, Reach, SimNet, Sockets, listen,
};
use super::plan::Plan;
use quorate_consensus::{Node, NodeOptions, Replica, SnapshotRule, Timing, WallClock};
use quorate_server::{Server, ServerOptions};
use quorate_state::limits::Limits;
use quorate_state::{FeatureLevel, GroupId, NodeId};
use quorate_storage::Stores;
use quorate_storage::memory::{DiskModel, MemoryDisk};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The only group there is.
pub(super) const GROUP: GroupId = GroupId(0);
/// What a machine gets to stop in, when it is asked.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Wall time when the simulation begins: some day in 2023.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// A machine's wall clock: simulated time, and how far it is off.
#[derive(Default)]
pub(super) struct SimWall {
    elapsed_ms: Arc<AtomicU64>,
    skew_ms: AtomicI64,
}

impl SimWall {
    /// Sets the clock off by this much more.
    pub(super) fn jump(&self, by_ms: i64) {
        self.skew_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl WallClock for SimWall {
    fn now_ms(&self) -> u64 {
        let elapsed_ms = self.elapsed_ms.load(Ordering::SeqCst);
        (EPOCH_MS + elapsed_ms).saturating_add_signed(self.skew_ms.load(Ordering::SeqCst))
    }
}

/// What runs on a machine now.
#[derive(Default)]
struct Process {
    /// Counts the starts.
    incarnation: u64,
    replica: Option<Replica>,
    stop: Option<oneshot::Sender<()>>,
    /// It has stopped in order.
    exited: bool,
    /// Why it did not start.
    refusal: Option<String>,
}

/// Which node a machine is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) id: NodeId,
    /// What its data directory is known by.
    pub(super) uuid: u128,
    /// The cluster that has let it join.
    pub(super) joins: Option<String>,
}

/// One machine: what survives its process, and a hold on the process.
pub(super) struct Machine {
    pub(super) host: Host,
    /// None while it stands by.
    identity: Mutex<Option<Identity>>,
    disk: Mutex<MemoryDisk>,
    /// How its disks behave; each has a seed of its own.
    model: Mutex<DiskModel>,
    pub(super) wall: Arc<SimWall>,
    /// The identity file of a data directory; small, and taken for synced when it is written.
    cluster_id: Arc<Mutex<Option<String>>>,
    process: Mutex<Process>,
    reach: Reach,
    sockets: Sockets,
    snapshots: SnapshotRule,
    /// The newest feature level that the build knows that is started here next.
    knows: AtomicU8,
    /// Whether it is a matter of the story, and no problem, that it does not start.
    may_refuse: AtomicBool,
    /// Whether its disk fails: its process has to end for that.
    failing: AtomicBool,
    /// Its node has written down that it is no member any more.
    left: Arc<AtomicBool>,
    founders: BTreeMap<NodeId, String>,
}

impl Machine {
    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The replica that serves here, and how often the machine has started.
    pub(super) fn replica(&self) -> Option<(u64, Replica)> {
        let process = self.process();
        process.replica.clone().map(|replica| (process.incarnation, replica))
    }

    /// Its disk.
    pub(super) fn disk(&self) -> MemoryDisk {
        lock(&self.disk).clone()
    }

    /// Puts another disk into the machine, of a node of this cluster, while it is down.
    pub(super) fn replace_disk(&self, disk: MemoryDisk, cluster_id: String) {
        *lock(&self.disk) = disk;
        *lock(&self.cluster_id) = Some(cluster_id);
    }

    /// Which node it is, or was last.
    ///
    /// # Panics
    /// When it stands by.
    pub(super) fn identity(&self) -> Identity {
        lock(&self.identity).clone().expect("no node is at work here")
    }

    /// Whether a node is at work here, or down for a while.
    pub(super) fn is_at_work(&self) -> bool {
        lock(&self.identity).is_some()
    }

    /// Makes a node of a machine that stood by; it runs from the next start on.
    pub(super) fn becomes(&self, identity: Identity) {
        *lock(&self.identity) = Some(identity);
    }

    /// Makes the disk fail; the process has to end.
    pub(super) fn fail_disk(&self) {
        self.failing.store(true, Ordering::SeqCst);
        self.disk().fail("input/output error");
    }

    /// Whether its disk fails, and its process has not been ended for that yet.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::SeqCst)
    }

    /// How long syncs take from now on; as planned at first when there is none.
    pub(super) fn set_sync_delay(&self, delay: Option<RangeInclusive<Duration>>) {
        let planned = lock(&self.model).sync_delay.clone();
        self.disk().set_sync_delay(delay.or(planned));
    }

    /// The node was removed: its directory goes, and the machine stands by.
    fn retire(&self) {
        let model = {
            let mut model = lock(&self.model);
            model.seed = model.seed.wrapping_add(1);
            model.clone()
        };
        *lock(&self.disk) = MemoryDisk::new(model);
        *lock(&self.cluster_id) = None;
        *lock(&self.identity) = None;
        self.left.store(false, Ordering::SeqCst);
        self.reach
            .set_nodes(self.reach.nodes().into_iter().filter(|at| *at != self.host).collect());
    }

    /// Ends the program of the machine: its process is gone, with all its sockets, see
    /// [`Cluster::bury`].
    async fn gone(&self) -> turmoil::Result {
        {
            let mut process = self.process();
            process.exited = true;
            process.replica = None;
            process.stop = None;
        }
        std::future::pending().await
    }

    /// Asks the process to stop in order; false when there is none that serves.
    pub(super) fn ask_to_stop(&self) -> bool {
        self.process().stop.take().is_some_and(|stop| stop.send(()).is_ok())
    }

    /// Whether the process has stopped in order.
    pub(super) fn has_exited(&self) -> bool {
        self.process().exited
    }

    /// Installs a build that knows these feature levels; it runs from the next start on.
    pub(super) fn install(&self, knows: FeatureLevel) {
        self.knows.store(knows.0, Ordering::SeqCst);
    }

    /// From now on a start may be refused, see [`Machine::refusal`].
    pub(super) fn let_it_refuse(&self) {
        self.may_refuse.store(true, Ordering::SeqCst);
    }

    /// Why the newest start was refused.
    pub(super) fn refusal(&self) -> Option<String> {
        self.process().refusal.clone()
    }

    /// What the machine's identity file says.
    pub(super) fn cluster_id(&self) -> Option<String> {
        lock(&self.cluster_id).clone()
    }

    /// The program of the machine, from its start to its end.
    async fn run(self: Arc<Self>) -> turmoil::Result {
        let _last_to_go = LastRites(self.sockets.clone());
        {
            let mut process = self.process();
            process.incarnation += 1;
            process.exited = false;
            process.refusal = None;
        }
        if !self.is_at_work() {
            return self.gone().await;
        }
        self.reach.set_up(self.host);
        let Identity { id, uuid, joins } = self.identity();
        let stores = match Stores::memory(&self.disk(), GROUP) {
            Err(_) if self.failing.load(Ordering::SeqCst) => return self.gone().await,
            stores => stores?,
        };
        let known = Arc::clone(&self.cluster_id);
        let cluster_id = lock(&self.cluster_id).clone();
        let left = Arc::clone(&self.left);
        let node = Node::start(NodeOptions {
            node: id,
            uuid,
            cluster_id,
            joins,
            initial_cluster: self.founders.clone(),
            peer_addr: addr(self.host, PEER_PORT),
            client_addr: addr(self.host, CLIENT_PORT),
            http_addr: String::new(),
            insecure: false,
            stores,
            dialer: Arc::new(SimNet {
                from: self.host,
                reach: self.reach.clone(),
                sockets: self.sockets.clone(),
            }),
            incoming: listen(PEER_PORT, self.sockets.clone()).await?,
            timing: Timing::default(),
            snapshots: self.snapshots,
            wall: Arc::clone(&self.wall) as Arc<dyn WallClock>,
            limits: Limits::default(),
            feature_level_max: FeatureLevel(self.knows.load(Ordering::SeqCst)),
            joined: Box::new(move |id| {
                *lock(&known) = Some(id.to_owned());
                Ok(())
            }),
            left: Box::new(move || {
                left.store(true, Ordering::SeqCst);
                Ok(())
            }),
        });
        let node = match Box::pin(node).await {
            Ok(node) => node,
            Err(refusal) if self.may_refuse.load(Ordering::SeqCst) => {
                self.disk().close();
                {
                    let mut process = self.process();
                    (process.refusal, process.exited) = (Some(refusal.to_string()), true);
                }
                return std::future::pending().await;
            }
            Err(_) if self.failing.load(Ordering::SeqCst) => return self.gone().await,
            Err(refusal) => return Err(refusal.into()),
        };
        // Only now, as in a real process: until then clients are refused.
        let clients = listen(CLIENT_PORT, self.sockets.clone()).await?;
        let server = Server::start(ServerOptions::new(node, clients));
        let (stop, stopping) = oneshot::channel();
        {
            let mut process = self.process();
            process.replica = Some(server.replica().clone());
            process.stop = Some(stop);
        }
        let failed = tokio::select! {
            biased;
            why = server.ended() => Some(why),
            asked = stopping => {
                debug_assert!(asked.is_ok(), "only a crash drops the sender, and this task with it");
                None
            }
        };
        if let Some(reason) = failed {
            if self.left.load(Ordering::SeqCst) {
                self.disk().close();
                self.retire();
                return self.gone().await;
            }
            if self.failing.load(Ordering::SeqCst) {
                return self.gone().await;
            }
            return Err(format!("{} has failed for good: {reason}", self.host).into());
        }
        server.shutdown(STOP_TIMEOUT).await;
        self.disk().close();
        self.gone().await
    }
}

/// The machines.
pub(super) struct Cluster {
    pub(super) machines: Vec<Arc<Machine>>,
    pub(super) reach: Reach,
    elapsed_ms: Arc<AtomicU64>,
}

impl Cluster {
    /// Puts the machines into the simulation; they start with its first step.
    pub(super) fn start(sim: &mut turmoil::Sim<'_>, plan: &Plan) -> Self {
        let reach = Reach::default();
        let elapsed_ms = Arc::new(AtomicU64::new(0));
        let founders = HOSTS.into_iter().take(plan.founders);
        reach.set_nodes(founders.clone().collect());
        let founders: BTreeMap<NodeId, String> =
            founders.zip(1..).map(|(host, id)| (NodeId(id), addr(host, PEER_PORT))).collect();
        let machines: Vec<_> = HOSTS
            .into_iter()
            .zip(1..)
            .zip(&plan.machines)
            .map(|((host, id), drawn)| {
                let model = DiskModel {
                    sync_delay: Some(drawn.sync_delay.clone()),
                    state_flush_one_in: drawn.state_flush_one_in,
                    ..DiskModel::seeded(drawn.seed)
                };
                let uuid = u128::from(drawn.seed) << 64 | u128::from(id);
                let identity = Identity { id: NodeId(id), uuid, joins: None };
                let identity = Some(identity).filter(|_| founders.contains_key(&NodeId(id)));
                let skew_ms = AtomicI64::new(drawn.wall_skew_ms);
                Arc::new(Machine {
                    host,
                    identity: Mutex::new(identity),
                    disk: Mutex::new(MemoryDisk::new(model.clone())),
                    model: Mutex::new(model),
                    wall: Arc::new(SimWall { elapsed_ms: Arc::clone(&elapsed_ms), skew_ms }),
                    cluster_id: Arc::default(),
                    process: Mutex::default(),
                    reach: reach.clone(),
                    sockets: Sockets::default(),
                    snapshots: plan.snapshots,
                    knows: AtomicU8::new(FeatureLevel::NEWEST.0),
                    may_refuse: AtomicBool::new(false),
                    failing: AtomicBool::new(false),
                    left: Arc::default(),
                    founders: founders.clone(),
                })
            })
            .collect();
        for machine in &machines {
            let machine = Arc::clone(machine);
            sim.host(machine.host, move || Arc::clone(&machine).run());
        }
        Self { machines, reach, elapsed_ms }
    }

    /// The machines at which a node is at work, or down for a while.
    pub(super) fn at_work(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.machines.iter().filter(|machine| machine.is_at_work())
    }

    /// Tells the wall clocks how late it is.
    pub(super) fn tell_time(&self, elapsed: Duration) {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.elapsed_ms.store(elapsed_ms, Ordering::SeqCst);
    }

    /// Ends a machine's process between two of its steps, and with it what was not synced. Its
    /// kernel tells its peers, unless its links are cut.
    pub(super) fn kill(&self, sim: &mut turmoil::Sim<'_>, node: usize, meets: Obstacle) {
        let machine = &self.machines[node];
        {
            let mut process = machine.process();
            process.replica = None;
            process.stop = None;
        }
        self.reach.set_down(machine.host, meets);
        machine.sockets.set_dying(true);
        sim.crash(machine.host);
        machine.sockets.set_dying(false);
        machine.disk().crash();
        machine.failing.store(false, Ordering::SeqCst);
    }

    /// Ends what is left of processes that have stopped in order.
    pub(super) fn bury(&self, sim: &mut turmoil::Sim<'_>) {
        for (node, machine) in self.machines.iter().enumerate() {
            if machine.has_exited() && sim.is_host_running(machine.host) {
                self.kill(sim, node, Obstacle::Refused);
            }
        }
    }

    /// Starts a machine that is down.
    pub(super) fn restart(&self, sim: &mut turmoil::Sim<'_>, node: usize) {
        self.machines[node].process().exited = false;
        sim.bounce(self.machines[node].host);
    }

    /// The node that leads in the highest term, if any says that it leads.
    pub(super) fn leader(&self) -> Option<usize> {
        let leading = |(node, machine): (usize, &Arc<Machine>)| {
            let status = machine.replica()?.1.status();
            (status.role == quorate_consensus::Role::Leader).then_some((status.term, node))
        };
        self.machines.iter().enumerate().filter_map(leading).max().map(|(_, node)| node)
    }
}

/// `host:port`.
pub(super) fn addr(host: Host, port: u16) -> String {
    format!("{host}:{port}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
