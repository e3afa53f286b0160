//! Who leads, as the nodes say.

use super::{NodeId, POLL, ProcessCluster};
use crate::process::status;
use anyhow::Result;
use quorate_proto::v1::StatusResponse;
use std::collections::BTreeMap;
use std::time::Instant;

impl ProcessCluster {
    /// Waits until all live nodes name the same live leader, and answers it.
    ///
    /// # Errors
    /// When they do not in time, with what each said last; when a node ended by itself.
    pub async fn wait_ready(&mut self) -> Result<NodeId> {
        self.wait_for_leader("no leader that all live nodes know", status::agreed_leader).await
    }

    /// The node that leads: the one that says so of itself in the highest term. Waits for it, since
    /// there may be none for a while. The others need not know it yet.
    ///
    /// # Errors
    /// When there is none in time, with what each said last; when a node ended by itself.
    pub async fn leader(&mut self) -> Result<NodeId> {
        self.wait_for_leader("no live node says that it leads", status::self_named_leader).await
    }

    /// The node that says so of itself in the highest term, if any of those that answer does.
    pub async fn leader_now(&self) -> Option<NodeId> {
        status::self_named_leader(&self.statuses().await)
    }

    async fn wait_for_leader(
        &mut self,
        problem: &str,
        leader: fn(&BTreeMap<NodeId, Result<StatusResponse>>) -> Option<NodeId>,
    ) -> Result<NodeId> {
        let end = Instant::now() + self.deadline;
        loop {
            self.check_none_ended()?;
            let statuses = self.statuses().await;
            if let Some(leader) = leader(&statuses) {
                return Ok(leader);
            }
            if Instant::now() > end {
                let said: Vec<_> =
                    statuses.iter().map(|(id, status)| status::told(*id, status)).collect();
                let deadline = self.deadline;
                return self.noted(Err(anyhow::anyhow!(
                    "{problem} within {deadline:?}; they say: {}",
                    said.join("; ")
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
