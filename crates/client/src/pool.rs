//! One channel per address, connected when it is first needed, and again after it broke.

use crate::credentials::Credentials;
use crate::dial::{self, Channel, Dial};
use crate::pipe::Pipe;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Endpoint;

/// Channels kept at once: twice what the list of nodes may hold, for calls to a named node.
const CHANNELS_MAX: usize = 2 * crate::nodes::NODES_MAX;
/// Bytes of answers on their way without an acknowledgement: a few large ones.
const WINDOW_BYTES: u32 = 1 << 20;
/// Silence on a connection that has calls before the peer is asked for a sign of life, and how
/// long it may take to give one. Attempts time out sooner; this frees what they leave behind.
const PING_AFTER: Duration = Duration::from_secs(5);

/// A dial that several calls wait for; whoever polls it drives it.
type Dialling = Shared<BoxFuture<'static, Result<Channel, Arc<str>>>>;

/// The channels of a client.
pub(crate) struct Pool {
    dial: Arc<dyn Dial>,
    secure: bool,
    credentials: Credentials,
    connect_timeout: Duration,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    by_addr: BTreeMap<String, Slot>,
    /// Counts dials, so that news about a connection never hits its successor.
    last_generation: u64,
}

#[derive(Clone)]
struct Slot {
    generation: u64,
    dialling: Dialling,
    pipe: Arc<OnceLock<Pipe>>,
}

/// A connection that was made, and which one it was.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) channel: Channel,
    generation: u64,
    pipe: Arc<OnceLock<Pipe>>,
}

impl Connected {
    /// The pipeline on this connection, opened when it is first needed.
    pub(crate) fn pipe(&self) -> &Pipe {
        self.pipe.get_or_init(|| Pipe::open(self.channel.clone()))
    }

    /// Whether its pipeline has heard anything since then.
    pub(crate) fn heard_since(&self, since: Instant) -> bool {
        self.pipe.get().and_then(Pipe::heard_at).is_some_and(|heard| heard >= since)
    }
}

impl Pool {
    /// For connections that are made in this way, in which case they are `secure` or not.
    pub(crate) fn new(
        dial: Arc<dyn Dial>,
        secure: bool,
        credentials: Credentials,
        connect_timeout: Duration,
    ) -> Self {
        Self { dial, secure, credentials, connect_timeout, slots: Mutex::default() }
    }

    /// Whether its connections are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.secure
    }

    /// How long a dial may take that nobody has reason to wait longer for.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// The channel to an address; the error is why there is none. Calls that want the same address
    /// share one dial, which the first of them gives so long.
    pub(crate) async fn connect(
        &self,
        addr: &str,
        timeout: Duration,
    ) -> Result<Connected, Arc<str>> {
        let slot = self.slot(addr, timeout);
        match slot.dialling.await {
            Ok(channel) => Ok(Connected { channel, generation: slot.generation, pipe: slot.pipe }),
            Err(why) => {
                self.forget(addr, slot.generation);
                Err(why)
            }
        }
    }

    /// Whether there is a connection that is not known to be broken.
    pub(crate) fn is_connected(&self, addr: &str) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.by_addr.get(addr).is_some_and(|slot| matches!(slot.dialling.peek(), Some(Ok(_))))
    }

    /// Takes a connection out of use for later calls. Those that have it go on with it.
    pub(crate) fn discard(&self, addr: &str, connected: &Connected) {
        self.forget(addr, connected.generation);
    }

    fn forget(&self, addr: &str, generation: u64) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.by_addr.get(addr).is_some_and(|slot| slot.generation == generation) {
            slots.by_addr.remove(addr);
        }
    }

    fn slot(&self, addr: &str, timeout: Duration) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.by_addr.get(addr) {
            return slot.clone();
        }
        if slots.by_addr.len() >= CHANNELS_MAX {
            // Whichever: it is dialled again if it is still needed.
            slots.by_addr.pop_first();
        }
        slots.last_generation += 1;
        let dialling = self.dialling(addr, timeout);
        let slot = Slot { generation: slots.last_generation, dialling, pipe: Arc::default() };
        slots.by_addr.insert(addr.to_owned(), slot.clone());
        slot
    }

    fn dialling(&self, addr: &str, timeout: Duration) -> Dialling {
        let (dial, credentials) = (Arc::clone(&self.dial), self.credentials.clone());
        let scheme = if self.secure { "https" } else { "http" };
        let addr = addr.to_owned();
        async move {
            let wrong = |error: String| Arc::<str>::from(error);
            let origin = format!("{scheme}://{addr}");
            let origin = origin.parse::<http::Uri>().map_err(|error| wrong(error.to_string()))?;
            // The dial encrypts, not the endpoint; the requests say what is true.
            let endpoint = Endpoint::from_shared(format!("http://{addr}"))
                .map_err(|error| wrong(error.to_string()))?
                .origin(origin)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(2 * WINDOW_BYTES)
                .http2_keep_alive_interval(PING_AFTER)
                .keep_alive_timeout(PING_AFTER);
            match tokio::time::timeout(timeout, dial::channel(dial, &addr, &endpoint, credentials))
                .await
            {
                Ok(connected) => connected.map_err(Arc::from),
                Err(_) => Err(Arc::from(format!("no connection within {timeout:?}"))),
            }
        }
        .boxed()
        .shared()
    }
}
