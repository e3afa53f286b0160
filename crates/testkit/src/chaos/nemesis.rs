//! Carries out a plan: begins each fault when it is due, ends it when it is over, starts nodes again
//! that had to stop, and notes everything.
//!
//! A node, the network and the membership are in the hands of one fault at a time; one that is due
//! while they are taken waits. So the end of a fault never ends another one.

use super::members::Change;
use super::net::{Link, Net};
use super::partition;
use super::plan::{Event, Fault, Plan, Shape, Who};
use super::shim::Shim;
use super::workload::Journal;
use crate::process::{NodeId, ProcessCluster};
use anyhow::{Context as _, Result};
use quorate_client::Client;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks.
const TICK: Duration = Duration::from_millis(20);
/// How long the leader is asked for.
const ASK: Duration = Duration::from_millis(800);
/// How long a node whose disk failed may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(15);
/// How long a fault may wait for another one to end, before the plan counts as not carried out.
const WAITS_MAX: Duration = Duration::from_secs(120);
/// What fills a disk at a time.
const BALLAST_BYTES: usize = 1 << 20;
/// Between two changes of a link that flaps.
const FLAP: Duration = Duration::from_millis(400);

/// A fault that came about.
#[derive(Clone, Debug, Serialize)]
pub struct Happened {
    /// What.
    pub kind: String,
    /// To whom.
    pub nodes: Vec<NodeId>,
    /// Since the work began.
    pub from: Duration,
    /// As well.
    pub until: Duration,
}

/// What the nodes have besides processes.
pub(super) struct Means {
    /// None on loopback.
    pub(super) net: Option<(Net, Shim)>,
}

/// How a fault is ended.
enum Undo {
    Restart(Vec<NodeId>),
    Resume(Vec<NodeId>),
    HealNet,
    Flap {
        leader: NodeId,
        cut: bool,
        next: Instant,
    },
    /// Clocks stay as they are: nothing must depend on them.
    Clock,
    SlowDisk(Vec<NodeId>),
    FullDisk {
        node: NodeId,
        ballast: PathBuf,
    },
    FailingDisk(NodeId),
    Change(Box<Change>),
    Restarts(VecDeque<NodeId>),
    Calm,
}

struct Active {
    until: Instant,
    undo: Undo,
    happened: Happened,
}

/// What does it.
pub(super) struct Nemesis {
    began: Instant,
    means: Means,
    client: Client,
    journal: Journal,
    rng: StdRng,
    due: VecDeque<Event>,
    active: Vec<Active>,
    nodes_taken: BTreeSet<NodeId>,
    net_taken: bool,
    members_taken: bool,
    clocks: BTreeMap<NodeId, i64>,
    /// Nodes whose disk failed, and until when they may stop because of that.
    may_stop: BTreeMap<NodeId, Instant>,
    /// Those that have stopped for it, and start again when the disk is well.
    stopped: BTreeSet<NodeId>,
    pub(super) happened: Vec<Happened>,
    /// What must not be.
    pub(super) problems: Vec<String>,
    /// When everything had been repaired, and how long until all nodes were well again.
    pub(super) calms: Vec<(Duration, Duration)>,
}

#[derive(Serialize)]
struct Note<'a> {
    nemesis: &'a str,
    kind: &'a str,
    nodes: &'a [NodeId],
}

impl Nemesis {
    pub(super) fn new(
        plan: &Plan,
        seed: u64,
        means: Means,
        client: Client,
        journal: Journal,
    ) -> Self {
        Self {
            began: Instant::now(),
            means,
            client,
            journal,
            rng: StdRng::seed_from_u64(seed),
            due: plan.events.iter().copied().collect(),
            active: Vec::new(),
            nodes_taken: BTreeSet::new(),
            net_taken: false,
            members_taken: false,
            clocks: BTreeMap::new(),
            may_stop: BTreeMap::new(),
            stopped: BTreeSet::new(),
            happened: Vec::new(),
            problems: Vec::new(),
            calms: Vec::new(),
        }
    }

    /// Carries the plan out, and ends with everything repaired.
    pub(super) async fn run(&mut self, cluster: &mut ProcessCluster) -> Result<()> {
        while !self.due.is_empty() || !self.active.is_empty() {
            self.look_after(cluster).await?;
            self.end_what_is_over(cluster).await?;
            self.begin_what_is_due(cluster).await?;
            tokio::time::sleep(TICK).await;
        }
        self.heal(cluster).await
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn note(&self, what: &str, kind: &str, nodes: &[NodeId]) {
        self.journal.write(&Note { nemesis: what, kind, nodes });
    }

    /// A node that ends by itself is an error, unless its disk failed.
    async fn look_after(&mut self, cluster: &mut ProcessCluster) -> Result<()> {
        let now = Instant::now();
        for node in cluster.ids() {
            let Some(status) = cluster.take_exit(node)? else { continue };
            if self.changes(node) {
                // Who is replaced or removed ends by itself; the change looks for it.
                continue;
            }
            self.note("ended by itself", &status.to_string(), &[node]);
            if self.may_stop.get(&node).is_none_or(|until| *until < now) {
                self.problems.push(format!("node {node} ended by itself, with {status}"));
            }
            self.stopped.insert(node);
        }
        let well: Vec<_> =
            self.stopped.iter().copied().filter(|node| !self.has_bad_disk(*node)).collect();
        for node in well {
            self.stopped.remove(&node);
            if cluster.ids().contains(&node) && cluster.pid(node).is_none() {
                self.note("starts again", "", &[node]);
                cluster.spawn(node)?;
            }
        }
        Ok(())
    }

    fn changes(&self, node: NodeId) -> bool {
        self.active.iter().any(|active| match &active.undo {
            Undo::Change(change) => change.leaves() == Some(node),
            _ => false,
        })
    }

    fn has_bad_disk(&self, node: NodeId) -> bool {
        self.active.iter().any(|active| match &active.undo {
            Undo::FullDisk { node: full, .. } => *full == node,
            Undo::FailingDisk(failing) => *failing == node,
            _ => false,
        })
    }

    async fn begin_what_is_due(&mut self, cluster: &mut ProcessCluster) -> Result<()> {
        let now_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        while let Some(event) = self.due.front().copied() {
            if event.at_ms > now_ms {
                return Ok(());
            }
            if now_ms - event.at_ms > WAITS_MAX.as_secs() * 1_000 {
                self.problems.push(format!("this could not be begun: {event:?}"));
                self.due.pop_front();
                continue;
            }
            if !self.begin(cluster, event).await? {
                return Ok(());
            }
            self.due.pop_front();
            // What waited makes the rest later too, or everything would come at once.
            let late_ms = now_ms - event.at_ms;
            self.due.iter_mut().for_each(|event| event.at_ms += late_ms);
        }
        Ok(())
    }

    /// Begins a fault; false when what it needs is taken.
    async fn begin(&mut self, cluster: &mut ProcessCluster, event: Event) -> Result<bool> {
        let fault = event.fault;
        let lasts = Duration::from_millis(event.lasts_ms);
        let begun = match fault {
            Fault::Calm => {
                if !self.active.is_empty() {
                    return Ok(false);
                }
                self.heal(cluster).await?;
                Some((Vec::new(), Undo::Calm))
            }
            Fault::Kill(who) => {
                let nodes = self.free(cluster, who).await;
                for node in &nodes {
                    if cluster.is_running(*node)? {
                        cluster.kill(*node).await?;
                    }
                }
                (!nodes.is_empty()).then(|| (nodes.clone(), Undo::Restart(nodes)))
            }
            Fault::Pause(who) => {
                let nodes = self.free(cluster, who).await;
                for node in &nodes {
                    if cluster.is_running(*node)? {
                        cluster.pause(*node).await?;
                    }
                }
                (!nodes.is_empty()).then(|| (nodes.clone(), Undo::Resume(nodes)))
            }
            Fault::Partition(shape) => self.partition(cluster, shape).await,
            Fault::Slow { who, delay_ms, jitter_ms, lost_permille, doubled_permille } => {
                let link =
                    Link { cut: false, delay_ms, jitter_ms, lost_permille, doubled_permille };
                self.slow(cluster, who, link).await
            }
            Fault::Clock { who, by_ms } => {
                let nodes = self.which(cluster, who).await;
                for node in &nodes {
                    let off_ms = self.clocks.entry(*node).or_default();
                    *off_ms += by_ms;
                    let off_ms = *off_ms;
                    self.shim()?.set_clock(*node, off_ms)?;
                }
                Some((nodes, Undo::Clock))
            }
            Fault::SlowDisk { who, by_ms } => {
                let nodes = self.free(cluster, who).await;
                for node in &nodes {
                    self.shim()?.slow_syncs(*node, by_ms)?;
                }
                (!nodes.is_empty()).then(|| (nodes.clone(), Undo::SlowDisk(nodes)))
            }
            Fault::FullDisk(who) => {
                let node = self.free(cluster, who).await.first().copied();
                node.map(|node| Ok::<_, anyhow::Error>((vec![node], fill(cluster, node)?)))
                    .transpose()?
            }
            Fault::FailingDisk(who) => match self.free(cluster, who).await.first() {
                Some(node) => {
                    self.shim()?.fail_syncs(*node, true)?;
                    Some((vec![*node], Undo::FailingDisk(*node)))
                }
                None => None,
            },
            Fault::Replace(_) | Fault::Grow if self.members_taken => None,
            Fault::Replace(who) => match self.free(cluster, who).await.first() {
                Some(old) => {
                    let change = Change::replace(*old);
                    Some((vec![*old], Undo::Change(Box::new(change))))
                }
                None => None,
            },
            Fault::Grow => {
                let change = Change::grow(lasts);
                Some((Vec::new(), Undo::Change(Box::new(change))))
            }
            Fault::RollingRestart => {
                let nodes = cluster.ids();
                let free = self.nodes_taken.is_empty() && self.stopped.is_empty();
                free.then(|| (nodes.clone(), Undo::Restarts(nodes.into())))
            }
        };
        let Some((nodes, undo)) = begun else { return Ok(false) };
        match &undo {
            Undo::HealNet | Undo::Flap { .. } => self.net_taken = true,
            Undo::Change(_) => {
                self.members_taken = true;
                self.nodes_taken.extend(&nodes);
            }
            Undo::Clock | Undo::Calm => {}
            _ => self.nodes_taken.extend(&nodes),
        }
        if let Undo::FullDisk { node, .. } | Undo::FailingDisk(node) = &undo {
            self.may_stop.insert(*node, Instant::now() + lasts + STOPS_WITHIN);
        }
        self.note("begins", &fault.kind(), &nodes);
        let from = self.elapsed();
        let happened = Happened { kind: fault.kind(), nodes, from, until: from };
        self.active.push(Active { until: Instant::now() + lasts, undo, happened });
        Ok(true)
    }

    async fn partition(
        &mut self,
        cluster: &ProcessCluster,
        shape: Shape,
    ) -> Option<(Vec<NodeId>, Undo)> {
        if self.net_taken {
            return None;
        }
        let leader = self.leader(cluster).await;
        let (net, _) = self.means.net.as_ref()?;
        let cut = Link { cut: true, ..Link::default() };
        if shape == Shape::ClientsFromLeader {
            net.set_clients(leader, cut);
            return Some((vec![leader], Undo::HealNet));
        }
        for (from, to) in partition::cuts(shape, leader, &cluster.ids(), &mut self.rng) {
            net.set(from, to, cut);
        }
        let undo = match shape {
            Shape::Flapping => Undo::Flap { leader, cut: true, next: Instant::now() + FLAP },
            _ => Undo::HealNet,
        };
        Some((vec![leader], undo))
    }

    async fn slow(
        &mut self,
        cluster: &ProcessCluster,
        who: Who,
        link: Link,
    ) -> Option<(Vec<NodeId>, Undo)> {
        if self.net_taken {
            return None;
        }
        let nodes = self.which(cluster, who).await;
        let (net, _) = self.means.net.as_ref()?;
        for node in &nodes {
            for other in cluster.ids() {
                net.set(*node, other, link);
                net.set(other, *node, link);
            }
        }
        Some((nodes, Undo::HealNet))
    }

    async fn end_what_is_over(&mut self, cluster: &mut ProcessCluster) -> Result<()> {
        for mut active in std::mem::take(&mut self.active) {
            let over = active.until <= Instant::now();
            if self.turn(cluster, &mut active, over).await? {
                active.happened.until = self.elapsed();
                self.note("is over", &active.happened.kind, &active.happened.nodes);
                self.happened.push(active.happened);
            } else {
                self.active.push(active);
            }
        }
        Ok(())
    }

    /// Goes on with a fault; whether it has ended.
    async fn turn(
        &mut self,
        cluster: &mut ProcessCluster,
        active: &mut Active,
        over: bool,
    ) -> Result<bool> {
        match &mut active.undo {
            Undo::Change(change) => {
                let done = change.turn(cluster, &self.client, over).await?;
                if done {
                    self.members_taken = false;
                    active.happened.nodes = change.nodes();
                    self.release(&change.nodes());
                    if let Some(problem) = change.problem() {
                        self.problems.push(problem);
                    }
                }
                return Ok(done);
            }
            Undo::Restarts(left) => {
                let all_up = cluster.live_ids().len() == cluster.ids().len();
                if !all_up || self.leader_said(cluster).await.is_none() {
                    return Ok(false);
                }
                let Some(node) = left.pop_front() else {
                    self.nodes_taken.clear();
                    return Ok(true);
                };
                cluster.terminate(node).await?;
                cluster.restart(node).await?;
                return Ok(false);
            }
            Undo::Flap { leader, cut, next } if !over => {
                if *next <= Instant::now()
                    && let Some((net, _)) = &self.means.net
                {
                    *cut = !*cut;
                    *next = Instant::now() + FLAP;
                    let link = Link { cut: *cut, ..Link::default() };
                    for other in cluster.ids() {
                        net.set(*leader, other, link);
                        net.set(other, *leader, link);
                    }
                }
                return Ok(false);
            }
            _ if !over => return Ok(false),
            Undo::Calm => {}
            Undo::Restart(nodes) => {
                for node in still_there(cluster, nodes) {
                    if cluster.pid(node).is_none() {
                        cluster.spawn(node)?;
                    }
                }
            }
            Undo::Resume(nodes) => {
                for node in still_there(cluster, nodes) {
                    if cluster.is_running(node)? {
                        cluster.resume(node)?;
                    }
                }
            }
            Undo::HealNet | Undo::Flap { .. } => {
                self.net_taken = false;
                if let Some((net, _)) = &self.means.net {
                    net.heal();
                }
            }
            Undo::Clock => {}
            Undo::SlowDisk(nodes) => {
                for node in nodes.iter() {
                    self.shim()?.slow_syncs(*node, 0)?;
                }
            }
            Undo::FullDisk { ballast, .. } => {
                fs::remove_file(ballast).context("the ballast can't be removed")?;
            }
            Undo::FailingDisk(node) => self.shim()?.fail_syncs(*node, false)?,
        }
        if !matches!(active.undo, Undo::HealNet | Undo::Flap { .. } | Undo::Clock) {
            self.release(&active.happened.nodes);
        }
        Ok(true)
    }

    fn release(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            self.nodes_taken.remove(node);
        }
    }

    /// All nodes run, and are well.
    async fn heal(&mut self, cluster: &mut ProcessCluster) -> Result<()> {
        let deadline = Instant::now() + STOPS_WITHIN;
        // One whose disk failed may be about to stop.
        while self.may_stop.values().any(|until| *until > Instant::now())
            && Instant::now() < deadline
        {
            self.look_after(cluster).await?;
            tokio::time::sleep(TICK).await;
        }
        self.look_after(cluster).await?;
        let healed = self.elapsed();
        self.note("all is repaired", "", &[]);
        match crate::load::wait_healthy(cluster).await {
            Ok(()) => self.calms.push((healed, self.elapsed() - healed)),
            Err(error) => {
                self.problems.push(format!("not well after everything was repaired: {error:#}"))
            }
        }
        self.note("all nodes are well", "", &[]);
        Ok(())
    }

    fn shim(&self) -> Result<&Shim> {
        self.means.net.as_ref().map(|(_, shim)| shim).context("it needs hosts of their own")
    }

    async fn leader_said(&self, cluster: &ProcessCluster) -> Option<NodeId> {
        let said = tokio::time::timeout(ASK, cluster.leader_now()).await;
        said.ok().flatten()
    }

    /// The leader, or anyone when nobody says so.
    async fn leader(&mut self, cluster: &ProcessCluster) -> NodeId {
        let ids = cluster.ids();
        let said = self.leader_said(cluster).await;
        let anyone = || ids.choose(&mut self.rng).copied();
        said.or_else(anyone).unwrap_or(1)
    }

    async fn which(&mut self, cluster: &ProcessCluster, who: Who) -> Vec<NodeId> {
        let mut all = cluster.ids();
        if who == Who::All {
            return all;
        }
        let leader = self.leader(cluster).await;
        all.shuffle(&mut self.rng);
        let minority = (all.len() - 1) / 2;
        match who {
            Who::Leader => vec![leader],
            Who::Follower => all.into_iter().find(|node| *node != leader).into_iter().collect(),
            Who::Minority => all.into_iter().take(minority).collect(),
            Who::Majority => all.into_iter().take(minority + 1).collect(),
            Who::All => all,
        }
    }

    /// Those of them that no other fault has.
    async fn free(&mut self, cluster: &ProcessCluster, who: Who) -> Vec<NodeId> {
        let mut nodes = self.which(cluster, who).await;
        nodes.retain(|node| !self.nodes_taken.contains(node) && !self.stopped.contains(node));
        nodes
    }
}

/// Those that were not removed meanwhile.
fn still_there(cluster: &ProcessCluster, nodes: &[NodeId]) -> Vec<NodeId> {
    let ids = cluster.ids();
    nodes.iter().copied().filter(|node| ids.contains(node)).collect()
}

/// Leaves no room on a node's disk.
fn fill(cluster: &ProcessCluster, node: NodeId) -> Result<Undo> {
    let ballast = cluster.data_dir(node).join("ballast");
    let mut file = File::create(&ballast).context("a disk can't be filled")?;
    let zeros = vec![0; BALLAST_BYTES];
    // Until there is no room, to the last byte that can be had.
    let mut bytes = BALLAST_BYTES;
    while bytes > 0 {
        match file.write(&zeros[..bytes]) {
            Ok(written) if written > 0 => {}
            _ => bytes /= 2,
        }
    }
    Ok(Undo::FullDisk { node, ballast })
}
