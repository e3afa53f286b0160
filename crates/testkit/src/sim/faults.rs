//! Makes the faults of a plan happen, and ends them.
//!
//! A node or a link that is in the hands of one fault is left alone by the others, so that ending
//! a fault never ends another one.

use super::cluster::Cluster;
use super::journal::Journal;
use super::net::{AUDITOR, CLIENT_HOSTS, Host, NODES, Obstacle};
use super::plan::{Event, Fault, Plan, Who};
use std::collections::BTreeSet;
use std::time::Duration;
use turmoil::Sim;

/// How a fault is ended.
#[derive(Clone, Copy, Debug)]
enum Undo {
    Restart(usize),
    Repair(Host, Host),
    RepairOneWay(Host, Host),
    Release(Host, Host),
    Normal(Host, Host),
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
}

pub(super) struct Injector {
    /// Yet to come, the last one first.
    events: Vec<Event>,
    latency_max: Duration,
    /// Under way.
    active: Vec<(Duration, Undo)>,
    nodes_taken: BTreeSet<usize>,
    links_taken: BTreeSet<(Host, Host)>,
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
            injected: Injected::default(),
        }
    }

    /// Whether nothing is broken and nothing will be.
    pub(super) fn is_over(&self) -> bool {
        self.events.is_empty() && self.active.is_empty()
    }

    /// Ends what is due, then begins what is due.
    pub(super) fn turn(&mut self, sim: &mut Sim<'_>, cluster: &Cluster, journal: &Journal) {
        let now = sim.elapsed();
        cluster.bury(sim);
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
                    for other in others(node).chain(CLIENT_HOSTS) {
                        self.cut(sim, cluster, NODES[node], other, until);
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
                    for other in others(node).chain(clients) {
                        cut |= self.cut(sim, cluster, NODES[node], other, until);
                    }
                }
                self.injected.partitions += u32::from(cut);
            }
            Fault::OneWay(from, to) => {
                let (from, to) = (NODES[from], NODES[to]);
                if self.take_link(from, to) {
                    sim.partition_oneway(from, to);
                    cluster.reach.cut(from, to);
                    self.injected.partitions += 1;
                    self.active.push((until, Undo::RepairOneWay(from, to)));
                }
            }
            Fault::Bridge(over) => {
                let mut ends = others(over);
                if let (Some(a), Some(b)) = (ends.next(), ends.next()) {
                    let cut = self.cut(sim, cluster, a, b, until);
                    self.injected.partitions += u32::from(cut);
                }
            }
            Fault::CutClients(clients, who) => {
                for node in which(cluster, who) {
                    let cut = self.cut(sim, cluster, CLIENT_HOSTS[clients], NODES[node], until);
                    self.injected.partitions += u32::from(cut);
                }
            }
            Fault::Hold(a, b) => {
                let (a, b) = (NODES[a], NODES[b]);
                if self.take_link(a, b) {
                    sim.hold(a, b);
                    self.injected.delays += 1;
                    self.active.push((until, Undo::Release(a, b)));
                }
            }
            Fault::Slow(a, b, latency_ms) => {
                let (a, b) = (NODES[a], NODES[b]);
                if self.take_link(a, b) {
                    sim.set_link_latency(a, b, Duration::from_millis(latency_ms));
                    self.injected.delays += 1;
                    self.active.push((until, Undo::Normal(a, b)));
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

    /// Ends a fault; false when it can't be ended yet.
    fn undo(
        &mut self,
        sim: &mut Sim<'_>,
        cluster: &Cluster,
        journal: &Journal,
        undo: Undo,
    ) -> bool {
        let link = match undo {
            Undo::Restart(node) => {
                if sim.is_host_running(NODES[node]) {
                    return false;
                }
                cluster.restart(sim, node);
                self.nodes_taken.remove(&node);
                journal.write(sim.elapsed(), format_args!("restart: {}", NODES[node]));
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

    fn take_link(&mut self, a: Host, b: Host) -> bool {
        debug_assert!(a != AUDITOR && b != AUDITOR, "the auditor comes when all is repaired");
        self.links_taken.insert(ordered(a, b))
    }
}

fn which(cluster: &Cluster, who: Who) -> Vec<usize> {
    match who {
        Who::Leader => vec![cluster.leader().unwrap_or_default()],
        Who::Node(node) => vec![node],
        Who::AllBut(spared) => (0..NODES.len()).filter(|node| *node != spared).collect(),
        Who::All => (0..NODES.len()).collect(),
    }
}

fn others(node: usize) -> impl Iterator<Item = Host> {
    NODES.into_iter().enumerate().filter(move |(other, _)| *other != node).map(|(_, host)| host)
}

fn ordered(a: Host, b: Host) -> (Host, Host) {
    if a < b { (a, b) } else { (b, a) }
}
