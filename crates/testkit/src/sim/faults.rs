//! Makes the faults of a plan happen, and ends them.
//!
//! A node or a link that is in the hands of one fault is left alone by the others, so that ending
//! a fault never ends another one.

use super::cluster::Cluster;
use super::journal::Journal;
use super::members::Desk;
use super::net::{AUDITOR, CLIENT_HOSTS, Host, OPERATOR, Obstacle};
use super::plan::{Event, Fault, Plan, Who};
use std::collections::BTreeSet;
use std::time::Duration;
use turmoil::Sim;

/// How a fault is ended.
#[derive(Clone, Copy, Debug)]
enum Undo {
    Restart(usize),
    /// As a restart; ends the process first if it has not ended by itself.
    Replace(usize),
    Repair(Host, Host),
    RepairOneWay(Host, Host),
    Release(Host, Host),
    Normal(Host, Host),
    EmptyDisk(usize),
    FastDisk(usize),
}

/// What became of the plan, for the claim that a run has tried something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Injected {
    /// Processes ended by kills and power failures.
    pub killed: u32,
    /// Processes that stopped in order.
    pub stopped: u32,
    /// Partitions of the network, in one direction or both.
    pub partitions: u32,
    /// Links held or slowed.
    pub delays: u32,
    /// Disks that failed, had no room, or were slow.
    pub disks: u32,
    /// Nodes that joined or left.
    pub changes: u32,
}

pub(super) struct Injector {
    /// Yet to come, the last one first.
    events: Vec<Event>,
    latency_max: Duration,
    /// Under way.
    active: Vec<(Duration, Undo)>,
    nodes_taken: BTreeSet<usize>,
    links_taken: BTreeSet<(Host, Host)>,
    /// Whose disk is full or slow.
    disks_taken: BTreeSet<usize>,
    pub(super) injected: Injected,
}

impl Injector {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut events = plan.events.clone();
        events.reverse();
        Self {
            events,
            latency_max: plan.latency_max,
            active: Vec::new(),
            nodes_taken: BTreeSet::new(),
            links_taken: BTreeSet::new(),
            disks_taken: BTreeSet::new(),
            injected: Injected::default(),
        }
    }

    /// Whether nothing is broken and nothing will be.
    pub(super) fn is_over(&self) -> bool {
        self.events.is_empty() && self.active.is_empty()
    }

    /// Ends what is due, then begins what is due.
    pub(super) fn turn(
        &mut self,
        sim: &mut Sim<'_>,
        cluster: &Cluster,
        desk: &Desk,
        journal: &Journal,
    ) {
        let now = sim.elapsed();
        cluster.bury(sim);
        for (node, identity) in desk.take(|node| {
            !self.nodes_taken.contains(&node) && !sim.is_host_running(cluster.machines[node].host)
        }) {
            let machine = &cluster.machines[node];
            journal.write(now, format_args!("{} becomes {identity:?}", machine.host));
            machine.becomes(identity);
            let mut nodes = cluster.reach.nodes();
            nodes.push(machine.host);
            cluster.reach.set_nodes(nodes);
            cluster.restart(sim, node);
        }
        for (until, undo) in std::mem::take(&mut self.active) {
            if until > now || !self.undo(sim, cluster, journal, undo) {
                self.active.push((until, undo));
            }
        }
        while self.events.last().is_some_and(|event| event.at <= now) {
            let Some(event) = self.events.pop() else { return };
            journal.write(now, format_args!("fault: {:?}", event.fault));
            self.begin(sim, cluster, event.fault, now + event.lasts);
        }
    }

    /// Ends everything now, except that a node that is stopping is started when it has stopped.
    pub(super) fn heal(&mut self, now: Duration) {
        self.events.clear();
        for (until, _) in &mut self.active {
            *until = now;
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>, cluster: &Cluster, fault: Fault, until: Duration) {
        match fault {
            Fault::Kill(who) => {
                for node in self.take_nodes(cluster, who) {
                    cluster.kill(sim, node, Obstacle::Refused);
                    self.injected.killed += 1;
                    self.active.push((until, Undo::Restart(node)));
                }
            }
            Fault::PowerFailure(who) => {
                let nodes = self.take_nodes(cluster, who);
                // All of them at one moment: none may hear that another is gone.
                for &node in &nodes {
                    for other in others(cluster, node).chain(CLIENT_HOSTS) {
                        self.cut(sim, cluster, cluster.machines[node].host, other, until);
                    }
                }
                for node in nodes {
                    cluster.kill(sim, node, Obstacle::Silent);
                    self.injected.killed += 1;
                    self.active.push((until, Undo::Restart(node)));
                }
            }
            Fault::Stop(who) => {
                for node in self.take_nodes(cluster, who) {
                    if cluster.machines[node].ask_to_stop() {
                        self.injected.stopped += 1;
                        self.active.push((until, Undo::Restart(node)));
                    } else {
                        self.nodes_taken.remove(&node);
                    }
                }
            }
            Fault::Isolate(who, from_clients) => {
                let mut cut = false;
                for node in which(cluster, who) {
                    let clients = CLIENT_HOSTS.into_iter().filter(|_| from_clients);
                    for other in others(cluster, node).chain(clients) {
                        cut |= self.cut(sim, cluster, cluster.machines[node].host, other, until);
                    }
                }
                self.injected.partitions += u32::from(cut);
            }
            Fault::OneWay(from, to) => {
                let (from, to) = (host(cluster, from), host(cluster, to));
                if self.take_link(from, to) {
                    sim.partition_oneway(from, to);
                    cluster.reach.cut(from, to);
                    self.injected.partitions += 1;
                    self.active.push((until, Undo::RepairOneWay(from, to)));
                }
            }
            Fault::Bridge(over) => {
                let ends: Vec<_> = others(cluster, nth(cluster, over)).collect();
                let (some, rest) = ends.split_at(ends.len() / 2);
                self.part(sim, cluster, some, rest, until);
            }
            Fault::Split(a, b) => {
                let (a, b) = (host(cluster, a), host(cluster, b));
                let rest = cluster.machines.iter().map(|machine| machine.host);
                let rest: Vec<_> = rest.filter(|host| *host != a && *host != b).collect();
                self.part(sim, cluster, &[a, b], &rest, until);
            }
            Fault::Ring => {
                let hosts: Vec<_> = cluster.at_work().map(|machine| machine.host).collect();
                let mut cut = false;
                for (nth, a) in hosts.iter().enumerate() {
                    for (other, b) in hosts.iter().enumerate().skip(nth + 2) {
                        // The first and the last are beside each other.
                        if other - nth + 1 < hosts.len() {
                            cut |= self.cut(sim, cluster, a, b, until);
                        }
                    }
                }
                self.injected.partitions += u32::from(cut);
            }
            Fault::CutClients(clients, who) => {
                for node in which(cluster, who) {
                    let cut = self.cut(
                        sim,
                        cluster,
                        CLIENT_HOSTS[clients],
                        cluster.machines[node].host,
                        until,
                    );
                    self.injected.partitions += u32::from(cut);
                }
            }
            Fault::Hold(a, b) => {
                let (a, b) = (host(cluster, a), host(cluster, b));
                if self.take_link(a, b) {
                    sim.hold(a, b);
                    self.injected.delays += 1;
                    self.active.push((until, Undo::Release(a, b)));
                }
            }
            Fault::Slow(a, b, latency_ms) => {
                let (a, b) = (host(cluster, a), host(cluster, b));
                if self.take_link(a, b) {
                    sim.set_link_latency(a, b, Duration::from_millis(latency_ms));
                    self.injected.delays += 1;
                    self.active.push((until, Undo::Normal(a, b)));
                }
            }
            Fault::FailingDisk(who) => {
                for node in self.take_nodes(cluster, who) {
                    cluster.machines[node].fail_disk();
                    self.injected.disks += 1;
                    // What does not write does not notice, and is killed then.
                    self.active.push((until, Undo::Replace(node)));
                }
            }
            Fault::FullDisk(who) => {
                for machine in self.take_disks(cluster, who) {
                    cluster.machines[machine].disk().set_free_bytes(0);
                    self.active.push((until, Undo::EmptyDisk(machine)));
                }
            }
            Fault::SlowDisk(who, sync_ms) => {
                let delay = Duration::from_millis(sync_ms);
                for machine in self.take_disks(cluster, who) {
                    cluster.machines[machine].set_sync_delay(Some(delay / 10..=delay));
                    self.active.push((until, Undo::FastDisk(machine)));
                }
            }
            Fault::WallJump(who, by_ms) => {
                for node in which(cluster, who) {
                    cluster.machines[node].wall.jump(by_ms);
                }
            }
        }
    }

    /// Cuts a link, unless it is in the hands of another fault; whether it did.
    fn cut(
        &mut self,
        sim: &mut Sim<'_>,
        cluster: &Cluster,
        a: Host,
        b: Host,
        until: Duration,
    ) -> bool {
        let taken = self.take_link(a, b);
        if taken {
            sim.partition(a, b);
            cluster.reach.cut(a, b);
            self.active.push((until, Undo::Repair(a, b)));
        }
        taken
    }

    /// Cuts all links between these and those.
    fn part(
        &mut self,
        sim: &mut Sim<'_>,
        cluster: &Cluster,
        these: &[Host],
        those: &[Host],
        until: Duration,
    ) {
        let mut cut = false;
        for a in these {
            for b in those {
                cut |= self.cut(sim, cluster, a, b, until);
            }
        }
        self.injected.partitions += u32::from(cut);
    }

    /// Ends a fault; false when it can't be ended yet.
    fn undo(
        &mut self,
        sim: &mut Sim<'_>,
        cluster: &Cluster,
        journal: &Journal,
        undo: Undo,
    ) -> bool {
        let link = match undo {
            Undo::Restart(node) | Undo::Replace(node) => {
                let host = cluster.machines[node].host;
                if sim.is_host_running(host) {
                    if matches!(undo, Undo::Restart(_)) {
                        return false;
                    }
                    cluster.kill(sim, node, Obstacle::Refused);
                }
                cluster.restart(sim, node);
                self.nodes_taken.remove(&node);
                journal.write(sim.elapsed(), format_args!("restart: {host}"));
                return true;
            }
            Undo::EmptyDisk(node) | Undo::FastDisk(node) => {
                let machine = &cluster.machines[node];
                match undo {
                    Undo::EmptyDisk(_) => machine.disk().set_free_bytes(u64::MAX),
                    _ => machine.set_sync_delay(None),
                }
                self.disks_taken.remove(&node);
                journal.write(sim.elapsed(), format_args!("disk repaired: {}", machine.host));
                return true;
            }
            Undo::Repair(a, b) | Undo::RepairOneWay(a, b) => {
                if matches!(undo, Undo::Repair(..)) {
                    sim.repair(a, b);
                } else {
                    sim.repair_oneway(a, b);
                }
                cluster.reach.mend(a, b);
                (a, b)
            }
            Undo::Release(a, b) => {
                sim.release(a, b);
                (a, b)
            }
            Undo::Normal(a, b) => {
                sim.set_link_latency(a, b, Duration::ZERO);
                sim.set_link_max_message_latency(a, b, self.latency_max);
                (a, b)
            }
        };
        self.links_taken.remove(&ordered(link.0, link.1));
        journal.write(sim.elapsed(), format_args!("repaired: {} - {}", link.0, link.1));
        true
    }

    fn take_nodes(&mut self, cluster: &Cluster, who: Who) -> Vec<usize> {
        let mut nodes = which(cluster, who);
        nodes.retain(|node| self.nodes_taken.insert(*node));
        nodes
    }

    fn take_disks(&mut self, cluster: &Cluster, who: Who) -> Vec<usize> {
        let mut nodes = which(cluster, who);
        nodes.retain(|node| self.disks_taken.insert(*node));
        self.injected.disks += u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        nodes
    }

    fn take_link(&mut self, a: Host, b: Host) -> bool {
        let spared = [AUDITOR, OPERATOR];
        debug_assert!(!spared.contains(&a) && !spared.contains(&b), "nothing is in their way");
        self.links_taken.insert(ordered(a, b))
    }
}

/// The nth machine at which a node is at work.
fn nth(cluster: &Cluster, nth: usize) -> usize {
    let at_work = at_work(cluster);
    at_work[nth % at_work.len()]
}

fn host(cluster: &Cluster, nth_at_work: usize) -> Host {
    cluster.machines[nth(cluster, nth_at_work)].host
}

fn at_work(cluster: &Cluster) -> Vec<usize> {
    let machines = cluster.machines.iter().enumerate();
    machines.filter(|(_, machine)| machine.is_at_work()).map(|(node, _)| node).collect()
}

fn which(cluster: &Cluster, who: Who) -> Vec<usize> {
    match who {
        Who::Leader => vec![cluster.leader().unwrap_or_else(|| nth(cluster, 0))],
        Who::Node(node) => vec![nth(cluster, node)],
        Who::AllBut(spared) => {
            let spared = nth(cluster, spared);
            at_work(cluster).into_iter().filter(|node| *node != spared).collect()
        }
        Who::All => at_work(cluster),
    }
}

fn others(cluster: &Cluster, node: usize) -> impl Iterator<Item = Host> {
    let machines = cluster.machines.iter().enumerate();
    machines.filter(move |(other, _)| *other != node).map(|(_, machine)| machine.host)
}

fn ordered(a: Host, b: Host) -> (Host, Host) {
    if a < b { (a, b) } else { (b, a) }
}
