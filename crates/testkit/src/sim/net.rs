//! The simulated network as nodes and clients reach it: turmoil's TCP behind the two dialing seams.
//!
//! turmoil refuses a connection at once when its first packet is dropped, and lets it wait for ever
//! when the host is down. Real networks do the opposite, and much depends on the difference between
//! certain news and silence, so [`Reach`] decides what a dial meets.

use futures::future::BoxFuture;
use quorate_client::{Dial, Io};
use quorate_consensus::io::{Connection, Dialer, Incoming};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use turmoil::net::{TcpListener, TcpStream};

/// A host of the simulation, by its name.
pub(super) type Host = &'static str;

/// The nodes of the cluster.
pub(super) const NODES: [Host; 3] = ["node-1", "node-2", "node-3"];
/// Where the clients run; each host can be cut off by itself.
pub(super) const CLIENT_HOSTS: [Host; 2] = ["clients-1", "clients-2"];
/// Where the client runs that looks at what is left in the end.
pub(super) const AUDITOR: Host = "auditor";
/// Port of the client service on every node.
pub(super) const CLIENT_PORT: u16 = 8811;
/// Port of the peer service on every node.
pub(super) const PEER_PORT: u16 = 8812;

/// As with real TCP between nodes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The round trip after which a host that is up says that nobody listens.
const REFUSAL: Duration = Duration::from_millis(1);

/// What a dial meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The host is up, the process is not.
    Refused,
    /// Nothing comes back.
    Silent,
}

/// Who can be reached by whom. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Reach(Arc<Mutex<Obstacles>>);

#[derive(Default)]
struct Obstacles {
    down: BTreeMap<Host, Obstacle>,
    cut: BTreeSet<(Host, Host)>,
}

impl Reach {
    fn lock(&self) -> MutexGuard<'_, Obstacles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_down(&self, host: Host, obstacle: Obstacle) {
        self.lock().down.insert(host, obstacle);
    }

    pub(super) fn set_up(&self, host: Host) {
        self.lock().down.remove(&host);
    }

    /// Packets from `from` to `to` are lost.
    pub(super) fn cut(&self, from: Host, to: Host) {
        self.lock().cut.insert((from, to));
    }

    pub(super) fn mend(&self, from: Host, to: Host) {
        self.lock().cut.remove(&(from, to));
    }

    fn obstacle(&self, from: Host, to: &str) -> Option<Obstacle> {
        let obstacles = self.lock();
        // A handshake needs both directions.
        let cut =
            obstacles.cut.iter().any(|(a, b)| (*a == from && *b == to) || (*a == to && *b == from));
        if cut {
            return Some(Obstacle::Silent);
        }
        obstacles.down.iter().find(|(host, _)| **host == to).map(|(_, obstacle)| *obstacle)
    }
}

/// Dials from one host.
#[derive(Clone)]
pub(super) struct SimNet {
    pub(super) from: Host,
    pub(super) reach: Reach,
}

impl SimNet {
    async fn connect(self, addr: String) -> io::Result<TcpStream> {
        let host = addr.split_once(':').map_or(addr.as_str(), |(host, _)| host);
        match self.reach.obstacle(self.from, host) {
            Some(Obstacle::Refused) => {
                tokio::time::sleep(REFUSAL).await;
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Some(Obstacle::Silent) => {
                tokio::time::sleep(CONNECT_TIMEOUT).await;
                Err(io::ErrorKind::TimedOut.into())
            }
            None => tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(addr))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
        }
    }
}

impl Dialer for SimNet {
    fn dial(&self, addr: String) -> BoxFuture<'static, io::Result<Connection>> {
        let connecting = self.clone().connect(addr);
        Box::pin(async move { Ok(Connection::new(connecting.await?)) })
    }
}

impl Dial for SimNet {
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let connecting = self.clone().connect(addr.to_owned());
        Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Io>) })
    }
}

/// The connections that come in on a port of the host that calls this.
pub(super) async fn listen(port: u16) -> io::Result<Incoming> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    Ok(Box::pin(futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await;
        Some((accepted.map(|(stream, _)| Connection::new(stream)), listener))
    })))
}
