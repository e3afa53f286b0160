//! How each fault goes on, and ends.

use super::begin::FLAP;
use super::{Active, Nemesis, Undo};
use crate::chaos::net::Link;
use crate::process::{NodeId, ProcessCluster};
use anyhow::{Context as _, Result};
use std::fs;
use std::time::Instant;

impl Nemesis {
    /// Goes on with a fault; whether it has ended.
    pub(super) async fn turn(
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
}

/// Those that were not removed meanwhile.
fn still_there(cluster: &ProcessCluster, nodes: &[NodeId]) -> Vec<NodeId> {
    let ids = cluster.ids();
    nodes.iter().copied().filter(|node| ids.contains(node)).collect()
}
