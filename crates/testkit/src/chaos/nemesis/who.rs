//! Whom a fault is about.

use super::{ASK, Nemesis};
use crate::chaos::plan::Who;
use crate::process::{NodeId, ProcessCluster};
use rand::seq::{IndexedRandom as _, SliceRandom as _};

impl Nemesis {
    pub(super) async fn leader_said(&self, cluster: &ProcessCluster) -> Option<NodeId> {
        let said = tokio::time::timeout(ASK, cluster.leader_now()).await;
        said.ok().flatten()
    }

    /// The leader, or anyone when nobody says so.
    pub(super) async fn leader(&mut self, cluster: &ProcessCluster) -> NodeId {
        let ids = cluster.ids();
        let said = self.leader_said(cluster).await;
        let anyone = || ids.choose(&mut self.rng).copied();
        said.or_else(anyone).unwrap_or(1)
    }

    pub(super) async fn which(&mut self, cluster: &ProcessCluster, who: Who) -> Vec<NodeId> {
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
    pub(super) async fn free(&mut self, cluster: &ProcessCluster, who: Who) -> Vec<NodeId> {
        let mut nodes = self.which(cluster, who).await;
        nodes.retain(|node| !self.nodes_taken.contains(node) && !self.stopped.contains(node));
        nodes
    }
}
