//! How a cluster of processes is started.

use super::binary::find_binary;
use super::cluster::{NodeId, ProcessCluster};
use super::host::{Hosts, Loopback};
use anyhow::Result;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Environment variable that keeps the directory of every cluster, also after success.
pub const KEEP_ENV: &str = "QUORATE_TEST_KEEP";

/// What a cluster consists of. Begin with [`ProcessCluster::options`].
#[derive(Clone)]
pub struct Options {
    pub(super) nodes: u64,
    pub(super) hosts: Arc<dyn Hosts>,
    pub(super) binary: Option<PathBuf>,
    pub(super) arguments: Vec<OsString>,
    pub(super) node_arguments: BTreeMap<NodeId, Vec<OsString>>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) node_environment: BTreeMap<NodeId, Vec<(OsString, OsString)>>,
    pub(super) deadline: Duration,
    pub(super) panics_allowed: bool,
    pub(super) test_control: bool,
}

impl Options {
    pub(super) fn new(nodes: u64) -> Self {
        Self {
            nodes,
            hosts: Arc::new(Loopback),
            binary: None,
            arguments: Vec::new(),
            node_arguments: BTreeMap::new(),
            environment: Vec::new(),
            node_environment: BTreeMap::new(),
            deadline: Duration::from_secs(30),
            panics_allowed: false,
            test_control: false,
        }
    }

    /// Runs this binary instead of the one that [`find_binary`] finds.
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Runs the nodes there instead of on loopback.
    pub fn hosts(mut self, hosts: Arc<dyn Hosts>) -> Self {
        self.hosts = hosts;
        self
    }

    /// Another argument for every node, after the usual ones.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Another argument for one node.
    pub fn node_arg(mut self, id: NodeId, argument: impl Into<OsString>) -> Self {
        self.node_arguments.entry(id).or_default().push(argument.into());
        self
    }

    /// An environment variable of every node.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// An environment variable of one node.
    pub fn node_env(
        mut self,
        id: NodeId,
        name: impl Into<OsString>,
        value: impl Into<OsString>,
    ) -> Self {
        self.node_environment.entry(id).or_default().push((name.into(), value.into()));
        self
    }

    /// How long each wait may take before it is an error. 30 seconds unless set: far more than any
    /// should take, because a loaded machine is no reason to fail.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Does not fail the test when a node panics: for tests that plant a fault.
    pub fn allow_panics(mut self) -> Self {
        self.panics_allowed = true;
        self
    }

    /// Has the nodes take commands of the test, so that [`ProcessCluster::partition`] works.
    pub fn test_control(mut self) -> Self {
        self.test_control = true;
        self
    }

    /// Starts the nodes and waits until each listens for clients, not yet for a leader.
    ///
    /// # Errors
    /// When there is no binary, or a node does not come up.
    pub async fn start(mut self) -> Result<ProcessCluster> {
        if self.binary.is_none() {
            self.binary = Some(find_binary()?);
        }
        ProcessCluster::start_with(self).await
    }
}
