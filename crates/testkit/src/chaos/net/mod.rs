//! A network of hosts on this machine that can be broken in every way: each node has a network
//! namespace of its own, and every packet between them goes through a [`Switch`] of the test, which
//! loses, delays, doubles and reorders what it is told to. Real kernels on both sides: TCP retransmits,
//! backs off and times out as it does in the field.
//!
//! The addresses are those that are set aside for tests of networks (RFC 2544), and leave no namespace.

mod link;
mod namespace;
mod switch;

pub(crate) use link::Link;
pub(crate) use switch::Switch;

use super::shim::Shim;
use crate::process::{Addrs, Host, Hosts, NodeId};
use anyhow::{Context as _, Result};
use namespace::Namespace;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What makes interfaces.
const TUN: &str = "/dev/net/tun";
/// Where the test and its clients are.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The ports of every node: each has all of them to itself.
const PORTS: [u16; 3] = [7_400, 7_401, 7_402];
/// Hosts that there can be at once, of nodes that are members, join, or have just left.
const HOSTS_MAX: u8 = 64;

/// The hosts, and what is between them.
#[derive(Clone)]
pub(crate) struct Net {
    inner: Arc<Inner>,
}

struct Inner {
    switch: Switch,
    shim: Shim,
    /// Bytes of the disk that each node has for itself.
    disk_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    made: u8,
    /// The one that is free for the longest time first, so that an address is not soon another's.
    free: VecDeque<(Ipv4Addr, Arc<Namespace>)>,
    nodes: BTreeMap<NodeId, Ipv4Addr>,
}

impl Net {
    /// Puts this process into a network of its own, and what it mounts out of everybody's sight. Only
    /// a process with one thread can, because the others would stay outside.
    ///
    /// # Errors
    /// When the machine does not allow it, with what is missing.
    pub(crate) fn enter(seed: u64, shim: Shim, disk_bytes: u64) -> Result<Self> {
        // Before anything else: in a user namespace nothing else could be done any more.
        let tun = File::options().read(true).write(true).open(TUN);
        drop(tun.with_context(|| format!("{TUN} can't be opened"))?);
        namespace::become_root()?;
        // Tried out of the way first: where it fails, this process is still on the machine's network.
        drop(namespace::create(CLIENTS)?);
        let device = namespace::become_one(CLIENTS)?;
        // What it mounts from now on nobody else sees, and ends with it.
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .context("mounts can't be kept private")?;
        let switch = Switch::start(seed)?;
        switch.plug(CLIENTS, device)?;
        let state = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { switch, shim, disk_bytes, state }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what goes from one node to another.
    pub(crate) fn set(&self, from: NodeId, to: NodeId, link: Link) {
        let state = self.state();
        if let (Some(from), Some(to)) = (state.nodes.get(&from), state.nodes.get(&to)) {
            self.inner.switch.set(*from, *to, link);
        }
    }

    /// Changes what goes between the clients and a node, in both directions.
    pub(crate) fn set_clients(&self, node: NodeId, link: Link) {
        if let Some(node) = self.state().nodes.get(&node) {
            self.inner.switch.set(CLIENTS, *node, link);
            self.inner.switch.set(*node, CLIENTS, link);
        }
    }

    /// Everything arrives again.
    pub(crate) fn heal(&self) {
        self.inner.switch.heal();
    }

    fn host(&self) -> Result<(Ipv4Addr, Arc<Namespace>)> {
        let mut state = self.state();
        if state.made < HOSTS_MAX {
            state.made += 1;
            let addr = Ipv4Addr::new(198, 18, 0, 10 + state.made);
            let (namespace, device) = namespace::create(addr)?;
            self.inner.switch.plug(addr, device)?;
            return Ok((addr, Arc::new(namespace)));
        }
        state.free.pop_front().context("all hosts are taken")
    }
}

impl Hosts for Net {
    fn take(&self, node: NodeId) -> Result<Box<dyn Host>> {
        let (addr, namespace) = self.host()?;
        self.state().nodes.insert(node, addr);
        Ok(Box::new(OnNet { net: self.clone(), node, addr, namespace, disk: None }))
    }
}

/// A node's host.
struct OnNet {
    net: Net,
    node: NodeId,
    addr: Ipv4Addr,
    namespace: Arc<Namespace>,
    /// Where its disk is, once it has one.
    disk: Option<PathBuf>,
}

impl Host for OnNet {
    fn addrs(&self) -> Addrs {
        let [client, peer, http] = PORTS.map(|port| (self.addr, port).into());
        Addrs { client, peer, http }
    }

    fn spawn(&mut self, mut command: Command, data_dir: &Path) -> Result<Child> {
        if self.disk.is_none() {
            fs::create_dir_all(data_dir).context("no data directory can be made")?;
            let options = format!("size={}", self.net.inner.disk_bytes);
            mount(Some("none"), data_dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
                .context("no disk of its own can be made for a node")?;
            self.disk = Some(data_dir.to_owned());
        }
        self.net.inner.shim.put_into(&mut command, self.node)?;
        self.namespace.spawn(command)
    }
}

impl Drop for OnNet {
    fn drop(&mut self) {
        if let Some(disk) = &self.disk {
            // Whatever is still open there goes with it.
            let _ = umount2(disk, MntFlags::MNT_DETACH);
        }
        let mut state = self.net.state();
        state.nodes.remove(&self.node);
        state.free.push_back((self.addr, Arc::clone(&self.namespace)));
    }
}
