//! How each fault begins.

use super::{Active, Change, Happened, Nemesis, STOPS_WITHIN, Undo};
use crate::chaos::net::Link;
use crate::chaos::partition;
use crate::chaos::plan::{Event, Fault, Shape, Who};
use crate::process::{NodeId, ProcessCluster};
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// What fills a disk at a time.
const BALLAST_BYTES: usize = 1 << 20;
/// Between two changes of a link that flaps.
pub(super) const FLAP: Duration = Duration::from_millis(400);

impl Nemesis {
    /// Begins a fault; false when what it needs is taken.
    pub(super) async fn begin(
        &mut self,
        cluster: &mut ProcessCluster,
        event: Event,
    ) -> Result<bool> {
        let fault = event.fault;
        let lasts = Duration::from_millis(event.lasts_ms);
        // Calls may meet it before all of it is made.
        let from = self.elapsed();
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
        let happened = Happened { kind: fault.kind(), nodes, from, until: self.elapsed() };
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
