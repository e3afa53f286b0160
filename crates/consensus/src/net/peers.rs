//! The channels to the other nodes: six per peer, so that a snapshot or a burst of appends never
//! holds up a heartbeat behind HTTP/2 flow control.

use super::hello::{Me, put};
use crate::io::{Connection, Dialer};
use hyper_util::rt::TokioIo;
use quorate_proto::peer::peer_service_client::PeerServiceClient;
use quorate_state::{Member, NodeId};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tower::service_fn;

/// Bytes of one message between peers: one append of 2 MiB with its framing, or the largest
/// single command.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;
/// How long a connection may be silent before it is probed, and how long the probe may take.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Bytes a stream may have on its way without an answer: a few appends.
const STREAM_WINDOW: u32 = 8 << 20;

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Votes, heartbeats, leadership, status: small and urgent.
    Control,
    /// Log entries.
    Append,
    /// Snapshots.
    Snapshot,
    /// Forwarded requests that have turns.
    Forward,
    /// Forwarded requests that must not wait for a turn: small, as renewals are.
    Urgent,
    /// What goes beside the log.
    Aside,
}

/// A channel to a peer for one purpose, and the handshake for calls on it.
#[derive(Clone)]
pub(crate) struct PeerClient {
    pub(crate) client: PeerServiceClient<Channel>,
    me: Arc<Me>,
    to: NodeId,
    to_uuid: u128,
}

impl PeerClient {
    /// A call with the handshake on it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        put(&mut request, self.me.hello(self.to, self.to_uuid));
        request
    }
}

/// All channels of this node; one per peer address and purpose, opened when first used.
pub(crate) struct Peers {
    me: Arc<Me>,
    dialer: Arc<dyn Dialer>,
    /// Where the connections live, whoever opens one: a burst of clients' requests, whose threads
    /// are others, must not hold up a heartbeat.
    runtime: Handle,
    /// Bounded by the members there ever were at once, times six.
    channels: Mutex<BTreeMap<(String, Purpose), Channel>>,
}

impl Peers {
    /// For connections on the current runtime.
    pub(crate) fn new(me: Arc<Me>, dialer: Arc<dyn Dialer>) -> Self {
        Self { me, dialer, runtime: Handle::current(), channels: Mutex::default() }
    }

    /// The runtime of consensus.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// A client for calls to a member.
    pub(crate) fn client(&self, to: NodeId, member: &Member, purpose: Purpose) -> PeerClient {
        PeerClient {
            client: client(self.channel(&member.peer_addr, purpose)),
            me: Arc::clone(&self.me),
            to,
            to_uuid: member.uuid,
        }
    }

    /// A client for probing an address, before anybody knows anybody.
    pub(crate) fn probe_client(&self, addr: &str) -> PeerServiceClient<Channel> {
        client(self.channel(addr, Purpose::Control))
    }

    fn channel(&self, addr: &str, purpose: Purpose) -> Channel {
        let mut channels = self.channels.lock().expect("no holder of this lock can panic");
        let _there = self.runtime.enter();
        channels
            .entry((addr.to_owned(), purpose))
            .or_insert_with(|| connect(Arc::clone(&self.dialer), addr.to_owned()))
            .clone()
    }

    /// Forgets the channels to addresses that no member has any more.
    pub(crate) fn retain(&self, in_use: impl Fn(&str) -> bool) {
        let mut channels = self.channels.lock().expect("no holder of this lock can panic");
        channels.retain(|(addr, _), _| in_use(addr));
    }
}

fn client(channel: Channel) -> PeerServiceClient<Channel> {
    PeerServiceClient::new(channel)
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX)
}

/// A channel that dials when it is used and dials again when its connection is gone.
fn connect(dialer: Arc<dyn Dialer>, addr: String) -> Channel {
    // The address goes to the dialer as it is; the URI only has to be one.
    let endpoint = Endpoint::from_static("http://peer")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW);
    endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
        let dialing = dialer.dial(addr.clone());
        async move { Ok::<TokioIo<Connection>, io::Error>(TokioIo::new(dialing.await?)) }
    }))
}

/// Whether a failed call certainly never reached the other side.
pub(crate) fn was_not_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
