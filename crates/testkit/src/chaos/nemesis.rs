//! Carries out a plan: begins each fault when it is due, ends it when it is over, starts nodes again
//! that had to stop, and notes everything.
//!
//! A node, the network and the membership are in the hands of one fault at a time; one that is due
//! while they are taken waits. So the end of a fault never ends another one.

mod begin;
mod end;
mod who;

use super::members::Change;
use super::net::Net;
use super::plan::{Event, Plan};
use super::shim::Shim;
use crate::process::{NodeId, ProcessCluster};
use crate::work::workload::Journal;
use anyhow::{Context as _, Result};
use quorate_client::Client;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks.
const TICK: Duration = Duration::from_millis(20);
/// How long the leader is asked for.
const ASK: Duration = Duration::from_millis(800);
/// How long a node whose disk failed may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// How often nodes that are down for no reason are started when all is to be well.
const HEALS_MAX: u32 = 5;
/// How long a fault may wait for another one to end, before the plan counts as not carried out.
const WAITS_MAX: Duration = Duration::from_secs(120);

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
    /// When something was repaired last.
    repaired: Duration,
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
            repaired: Duration::ZERO,
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
                self.repaired = self.elapsed();
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

    async fn end_what_is_over(&mut self, cluster: &mut ProcessCluster) -> Result<()> {
        for mut active in std::mem::take(&mut self.active) {
            let over = active.until <= Instant::now();
            if self.turn(cluster, &mut active, over).await? {
                active.happened.until = self.elapsed();
                self.repaired = self.elapsed();
                self.note("is over", &active.happened.kind, &active.happened.nodes);
                self.happened.push(active.happened);
            } else {
                self.active.push(active);
            }
        }
        Ok(())
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
        let healed = self.repaired;
        self.note("all is repaired", "", &[]);
        for attempt in 1.. {
            match crate::load::wait_healthy(cluster).await {
                Ok(()) => {
                    self.calms.push((healed, self.elapsed() - healed));
                    break;
                }
                Err(error) => {
                    let problem = format!("not well after everything was repaired: {error:#}");
                    self.problems.push(problem);
                }
            }
            // So that one that ended by itself, which is told above, is not the cause of all that follows.
            if attempt == HEALS_MAX || !self.start_down(cluster)? {
                break;
            }
        }
        self.note("all nodes are well", "", &[]);
        Ok(())
    }

    /// Starts what is down; whether anything was.
    fn start_down(&self, cluster: &mut ProcessCluster) -> Result<bool> {
        let mut any = false;
        for node in cluster.ids() {
            if !cluster.is_running(node)? {
                self.note("starts again", "", &[node]);
                cluster.spawn(node)?;
                any = true;
            }
        }
        Ok(any)
    }

    fn shim(&self) -> Result<&Shim> {
        self.means.net.as_ref().map(|(_, shim)| shim).context("it needs hosts of their own")
    }
}
