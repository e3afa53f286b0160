//! Cuts between nodes that were started with [`Options::test_control`].
//!
//! [`Options::test_control`]: crate::process::Options::test_control

use super::{NodeId, ProcessCluster};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;

impl ProcessCluster {
    /// Kills the node that leads, and says which it was; waits for one that leads, if need be.
    ///
    /// # Errors
    /// When none does in time, or it had ended by itself.
    pub async fn kill_leader(&mut self) -> Result<NodeId> {
        let leader = self.leader().await?;
        self.kill(leader).await?;
        Ok(leader)
    }

    /// Cuts these nodes off from all others, in place of any cut there was: nothing gets through in
    /// either direction, and nobody is told. Among themselves they go on, and so do the others; clients
    /// reach all of them. A node that is started meanwhile begins on its side.
    ///
    /// # Errors
    /// When the nodes take no commands, or one does not obey in time.
    pub async fn partition(&mut self, side: &[NodeId]) -> Result<()> {
        let cut = self.cut(side.iter().copied().collect()).await;
        self.noted(cut)
    }

    /// Mends what was cut. What was on its way arrives.
    ///
    /// # Errors
    /// As [`ProcessCluster::partition`].
    pub async fn heal(&mut self) -> Result<()> {
        let healed = self.cut(BTreeSet::new()).await;
        self.noted(healed)
    }

    async fn cut(&mut self, side: BTreeSet<NodeId>) -> Result<()> {
        if !self.options.test_control {
            bail!("its nodes take no commands: start it with Options::test_control");
        }
        let ids = self.ids();
        if let Some(id) = side.iter().find(|id| !ids.contains(id)) {
            bail!("the cluster has no node {id}");
        }
        let deadline = self.deadline;
        for (id, node) in &mut self.nodes {
            let here = side.contains(id);
            let others = ids.iter().copied().filter(|other| side.contains(other) != here);
            let cut = node.cut_off(others.collect(), deadline).await;
            cut.with_context(|| format!("node {id} is not cut off as asked"))?;
        }
        Ok(())
    }
}
