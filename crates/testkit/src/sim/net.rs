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
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// A host of the simulation, by its name.
pub(super) type Host = &'static str;

/// Machines of nodes, at most.
pub(super) const HOSTS: [Host; 7] =
    ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6", "node-7"];
/// Those of a cluster of the usual size.
pub(super) const NODES: [Host; 3] = [HOSTS[0], HOSTS[1], HOSTS[2]];
/// Where the clients run; each host can be cut off by itself.
pub(super) const CLIENT_HOSTS: [Host; 2] = ["clients-1", "clients-2"];
/// Where the client runs that looks at what is left in the end.
pub(super) const AUDITOR: Host = "auditor";
/// Where members are changed from.
pub(super) const OPERATOR: Host = "operator";
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
    /// Where nodes are at work, or down for a while.
    nodes: Vec<Host>,
    down: BTreeMap<Host, Obstacle>,
    cut: BTreeSet<(Host, Host)>,
}

impl Reach {
    fn lock(&self) -> MutexGuard<'_, Obstacles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where clients look for nodes from now on.
    pub(super) fn set_nodes(&self, nodes: Vec<Host>) {
        self.lock().nodes = nodes;
    }

    /// Where clients look for nodes.
    pub(super) fn nodes(&self) -> Vec<Host> {
        self.lock().nodes.clone()
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

    /// Whether no round trip can come about between a node and any other.
    pub(super) fn is_isolated(&self, node: Host) -> bool {
        let nodes = self.nodes();
        let mut others = nodes.iter().filter(|other| **other != node);
        others.all(|other| self.obstacle(node, other).is_some())
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

/// The open sockets of one host's process. Clones share them.
///
/// When a process dies, tokio drops its tasks in an order that depends on how many tasks the whole
/// program has spawned before, other simulations included; and each closing packet draws from the
/// network's random numbers. So a dying process hands its sockets in here, and they are closed in
/// the order in which they were opened.
#[derive(Clone, Default)]
pub(super) struct Sockets(Arc<Mutex<Handed>>);

#[derive(Default)]
struct Handed {
    opened: u64,
    dying: bool,
    left: Vec<(u64, TcpStream)>,
}

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, Handed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the process is dying.
    pub(super) fn set_dying(&self, dying: bool) {
        self.lock().dying = dying;
    }

    fn open(&self, stream: TcpStream) -> SimStream {
        let mut handed = self.lock();
        handed.opened += 1;
        SimStream { stream: Some(stream), number: handed.opened, sockets: self.clone() }
    }
}

/// Closes what a process left when it is dropped: the first thing a process has, so that it is the
/// last to go.
pub(super) struct LastRites(pub(super) Sockets);

impl Drop for LastRites {
    fn drop(&mut self) {
        let mut left = std::mem::take(&mut self.0.lock().left);
        left.sort_by_key(|(number, _)| *number);
        left.into_iter().for_each(drop);
    }
}

/// A connection of turmoil that is closed in order.
struct SimStream {
    /// There until it is dropped.
    stream: Option<TcpStream>,
    number: u64,
    sockets: Sockets,
}

impl SimStream {
    fn pinned(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("only dropping takes the stream"))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut handed = self.sockets.lock();
        if handed.dying {
            let number = self.number;
            handed.left.extend(self.stream.take().map(|stream| (number, stream)));
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pinned().poll_read(cx, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(cx)
    }
}

/// Dials from one host.
#[derive(Clone)]
pub(super) struct SimNet {
    pub(super) from: Host,
    pub(super) reach: Reach,
    pub(super) sockets: Sockets,
}

impl SimNet {
    async fn connect(self, addr: String) -> io::Result<SimStream> {
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
            None => {
                let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(addr));
                let stream =
                    connected.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                Ok(self.sockets.open(stream))
            }
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
pub(super) async fn listen(port: u16, sockets: Sockets) -> io::Result<Incoming> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    Ok(Box::pin(futures::stream::unfold((listener, sockets), |(listener, sockets)| async move {
        let accepted = listener.accept().await;
        let accepted = accepted.map(|(stream, _)| Connection::new(sockets.open(stream)));
        Some((accepted, (listener, sockets)))
    })))
}
