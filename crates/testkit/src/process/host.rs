//! Where a node runs: its addresses, and how its process is started.

use super::cluster::NodeId;
use super::ports::PortLease;
use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};

/// The addresses of a node. They stay the same for as long as it has its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addrs {
    /// For clients.
    pub client: SocketAddr,
    /// For other nodes.
    pub peer: SocketAddr,
    /// For people and monitoring.
    pub http: SocketAddr,
}

/// Where one node runs.
pub trait Host: Send + Sync {
    /// Its addresses there.
    fn addrs(&self) -> Addrs;

    /// Starts its process, which listens there and has its data in that directory.
    ///
    /// # Errors
    /// When it can't be started.
    fn spawn(&mut self, command: Command, data_dir: &Path) -> Result<Child>;
}

/// Where the nodes of a cluster run.
pub trait Hosts: Send + Sync {
    /// A place for one more node; it is free again when it is dropped.
    ///
    /// # Errors
    /// When there is none.
    fn take(&self, node: NodeId) -> Result<Box<dyn Host>>;
}

/// All on loopback, with ports that nobody else takes.
pub(super) struct Loopback;

impl Hosts for Loopback {
    fn take(&self, _: NodeId) -> Result<Box<dyn Host>> {
        let (client, peer, http) = (PortLease::take()?, PortLease::take()?, PortLease::take()?);
        Ok(Box::new(Ports { client, peer, http }))
    }
}

struct Ports {
    client: PortLease,
    peer: PortLease,
    http: PortLease,
}

impl Host for Ports {
    fn addrs(&self) -> Addrs {
        Addrs { client: self.client.addr(), peer: self.peer.addr(), http: self.http.addr() }
    }

    fn spawn(&mut self, mut command: Command, _: &Path) -> Result<Child> {
        self.client.release_socket();
        self.peer.release_socket();
        self.http.release_socket();
        command.spawn().context("no process can be started")
    }
}
