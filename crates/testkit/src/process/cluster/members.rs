//! Nodes that join, and nodes that have left.

use super::{NodeId, ProcessCluster};
use crate::process::node::{Node, Origin};
use anyhow::{Context as _, Result};

impl ProcessCluster {
    /// Starts one more node, which joins through all the others, with these arguments beside the usual
    /// ones, and does not wait for it. It is called by the id that the cluster gives it, if that has
    /// had no other nodes than these.
    ///
    /// # Errors
    /// When the system can't start it.
    pub fn join(&mut self, arguments: &[&str]) -> Result<NodeId> {
        let endpoints = self.endpoints().join(",");
        let highest = self.nodes.keys().next_back().copied().unwrap_or(0);
        let id = self.newest.max(highest) + 1;
        self.newest = id;
        let mut options = self.options.clone();
        options.arguments.extend(arguments.iter().map(Into::into));
        let binary = options.binary.clone().context("the options name no binary")?;
        let origin = Origin::Joins { endpoints: &endpoints };
        let node =
            Node::new(id, &binary, &options, self.directory(), options.hosts.take(id)?, origin);
        self.nodes.insert(id, node);
        self.spawn(id)?;
        Ok(id)
    }

    /// Waits until a node that was started listens for clients.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn wait_listening(&mut self, id: NodeId) -> Result<()> {
        let deadline = self.deadline;
        let result = self.node_mut(id).wait_listening(deadline).await;
        self.noted(result)
    }

    /// Lets a node go that has ended: it belongs to the cluster no more.
    ///
    /// # Errors
    /// When it runs.
    pub fn let_go(&mut self, id: NodeId) -> Result<()> {
        if self.is_running(id)? {
            return self.noted(Err(anyhow::anyhow!("node {id} runs, so it can't be let go")));
        }
        if let Some(node) = self.nodes.remove(&id) {
            self.old_logs.push(node.log_path());
        }
        Ok(())
    }
}
