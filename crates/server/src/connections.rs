//! Bounds on what comes in: how many connections at once, and how long one may take to say who it is
//! and for its first bytes.

use crate::access::{Grant, Shown};
use crate::limits::{Callers, Limited, Present};
use crate::metrics::Port;
use crate::seldom::Seldom;
use crate::tls;
use futures::{StreamExt, stream};
use quorate_consensus::io::{Connection, Incoming};
use quorate_consensus::{Origin, Replica};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::Connected;

/// A connection that has not sent its first bytes this long after it was accepted is closed: it
/// would hold a place for ever, because the protocol's own pings begin after its preface. A handshake
/// may take as long before that.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);
/// What counts as its first bytes: HTTP/2's preface, and less than the head of any HTTP/1 request.
const FIRST_BYTES: usize = 24;

/// One of the ports, as connections are accepted there.
pub(crate) struct Door {
    /// Its name.
    pub(crate) name: &'static str,
    /// Connections at once.
    pub(crate) max: usize,
    /// Where they are counted.
    pub(crate) counted: Arc<Port>,
    /// What it shows, if it speaks TLS.
    pub(crate) tls: Option<tls::Shown>,
    /// Who is known by the address he comes from.
    pub(crate) callers: Option<Callers>,
}

impl Door {
    /// The connections of `incoming`, so many at once; those beyond are closed at once, so that a client
    /// goes to another node instead of waiting. Those of whom nothing can be believed are closed, too.
    pub(crate) fn open(self, incoming: Incoming) -> stream::BoxStream<'static, io::Result<Served>> {
        let Self { name, max, counted, tls, callers } = self;
        let max = max.min(Semaphore::MAX_PERMITS);
        counted.opens(max, tls.clone());
        let places = Arc::new(Semaphore::new(max));
        let port = Arc::clone(&counted);
        let placed = incoming.filter_map(move |accepted| {
            let taken = match accepted {
                Err(error) => {
                    // Accepting goes on: out of file descriptors passes when others close theirs.
                    tracing::warn!(port = name, %error, "can't accept a connection");
                    None
                }
                Ok(connection) => match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let address = callers.as_ref().zip(connection.address());
                        let present = address.map(|(callers, from)| callers.arrived(from));
                        match present.transpose() {
                            Ok(present) => {
                                let port = Arc::clone(&counted);
                                Some(Placed::new(connection, place, port, present))
                            }
                            // It is told in the log, and counted.
                            Err(_) => None,
                        }
                    }
                    Err(_) => {
                        counted.refused.count();
                        tracing::debug!(port = name, max, "connection closed: too many at once");
                        None
                    }
                },
            };
            std::future::ready(taken)
        });
        let Some(tls) = tls else {
            return placed.map(|placed| Ok(Served::new(Wire::Plain(placed), None))).boxed();
        };
        // Each on its own, so that one who takes his time holds nobody up; all of them have places.
        let shaking = move |placed| {
            let hands = tls.shake(placed);
            AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::time::timeout(FIRST_BYTES_TIMEOUT, hands).await
            }))
        };
        let shaken = placed.map(shaking).buffer_unordered(max.max(1));
        let seldom = Seldom::default();
        let believed = shaken.filter_map(move |shaken| {
            let why: String = match shaken {
                Ok(Ok(Ok((stream, subject)))) => {
                    let served = Served::new(Wire::Tls(Box::new(stream)), subject);
                    return std::future::ready(Some(Ok(served)));
                }
                Ok(Ok(Err(error))) => error.to_string(),
                Ok(Err(_)) => format!("no handshake within {FIRST_BYTES_TIMEOUT:?}"),
                Err(panic) => panic.to_string(),
            };
            port.handshakes_failed.count();
            if let Some(untold) = seldom.turn() {
                tracing::info!(port = name, why, untold, "connection closed: no TLS handshake");
            }
            std::future::ready(None)
        });
        believed.boxed()
    }

    /// The same for the port of the other nodes.
    pub(crate) fn open_to_peers(self, incoming: Incoming) -> Incoming {
        self.open(incoming).map(|accepted| accepted.map(Connection::new)).boxed()
    }
}

/// Connections of other nodes: four per node and purpose, and as many again while they are renewed.
pub(crate) const PEER_CONNECTIONS_MAX: usize = 512;

/// A connection that holds one of the places.
pub(crate) struct Placed {
    connection: Connection,
    _place: OwnedSemaphorePermit,
    port: Arc<Port>,
    /// Whose it is by its address.
    present: Option<Arc<Present>>,
}

impl Placed {
    fn new(
        connection: Connection,
        place: OwnedSemaphorePermit,
        port: Arc<Port>,
        present: Option<Arc<Present>>,
    ) -> Self {
        port.open.enter();
        Self { connection, _place: place, port, present }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.port.open.leave();
    }
}

/// What is spoken on it.
enum Wire {
    Plain(Placed),
    Tls(Box<TlsStream<Placed>>),
}

/// A connection that is served.
pub(crate) struct Served {
    wire: Wire,
    /// Until the first bytes came.
    patience: Option<Pin<Box<Sleep>>>,
    /// Of the first bytes, how many came.
    came: usize,
    /// Whose certificate it showed.
    subject: Option<Arc<str>>,
}

impl Served {
    fn new(wire: Wire, subject: Option<Arc<str>>) -> Self {
        let patience = Some(Box::pin(tokio::time::sleep(FIRST_BYTES_TIMEOUT)));
        Self { wire, patience, came: 0, subject }
    }
}

/// What the calls of one connection share.
pub(crate) struct ConnectionState {
    /// Whose the commands of its calls are, from its first call on.
    origin: OnceLock<Origin>,
    /// Whose certificate it showed, if it showed one.
    pub(crate) subject: Option<Arc<str>>,
    /// Who its last caller was, and what he may do.
    admitted: Mutex<Option<(Shown, Arc<Grant>)>>,
    /// Among whose connections it is counted: those of its address, or of its last caller.
    present: Mutex<Option<Arc<Present>>>,
    /// Turns to stream a list.
    pub(crate) lists: Arc<Semaphore>,
    /// Turns to watch keys.
    pub(crate) watches: Arc<Semaphore>,
    /// Turns to consume queues.
    pub(crate) consumers: Arc<Semaphore>,
    /// Turns to subscribe to channels.
    pub(crate) subscriptions: Arc<Semaphore>,
    /// Turns to be told what changes in the cache.
    pub(crate) invalidations: Arc<Semaphore>,
}

impl ConnectionState {
    /// Whose the commands of its calls are: theirs have turns together, whatever they are of.
    pub(crate) fn origin(&self, replica: &Replica) -> Origin {
        self.origin.get_or_init(|| replica.origin()).clone()
    }

    /// What was found out of a caller who shows this, when he called last.
    pub(crate) fn admitted(&self, shown: &Shown) -> Option<Arc<Grant>> {
        let admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, grant) = admitted.as_ref()?;
        (before == shown).then(|| Arc::clone(grant))
    }

    /// Remembers it.
    pub(crate) fn admit(&self, shown: Shown, grant: Arc<Grant>) {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        *admitted = Some((shown, grant));
    }

    /// Among whose connections it is.
    pub(crate) fn present(&self) -> Option<Arc<Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts it among the connections of its caller, once.
    pub(crate) fn present_as(
        &self,
        name: &str,
        callers: &Callers,
    ) -> Result<Arc<Present>, Limited> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = present.as_ref().filter(|present| present.is_of(name)) {
            return Ok(Arc::clone(present));
        }
        let entered = callers.enter(name)?;
        *present = Some(Arc::clone(&entered));
        Ok(entered)
    }

    /// Lists streamed at once: each keeps a snapshot.
    pub(crate) const LISTS_MAX: usize = 4;
    /// Watches at once: a quarter of the streams, so that calls find room beside them.
    pub(crate) const WATCHES_MAX: usize = 256;
    /// Consumers at once: one takes as many jobs as a process works on, of one queue.
    pub(crate) const CONSUMERS_MAX: usize = 64;
    /// Subscriptions at once: half of the streams; each may have several patterns.
    pub(crate) const SUBSCRIPTIONS_MAX: usize = 512;
    /// Streams of what changes in the cache: a near cache needs one.
    pub(crate) const INVALIDATIONS_MAX: usize = 16;
}

impl Connected for Served {
    type ConnectInfo = Arc<ConnectionState>;

    fn connect_info(&self) -> Arc<ConnectionState> {
        let lists = Arc::new(Semaphore::new(ConnectionState::LISTS_MAX));
        let watches = Arc::new(Semaphore::new(ConnectionState::WATCHES_MAX));
        let consumers = Arc::new(Semaphore::new(ConnectionState::CONSUMERS_MAX));
        let subscriptions = Arc::new(Semaphore::new(ConnectionState::SUBSCRIPTIONS_MAX));
        let invalidations = Arc::new(Semaphore::new(ConnectionState::INVALIDATIONS_MAX));
        let (origin, subject) = (OnceLock::new(), self.subject.clone());
        let placed = match &self.wire {
            Wire::Plain(placed) => placed,
            Wire::Tls(stream) => stream.get_ref().0,
        };
        let present = Mutex::new(placed.present.clone());
        Arc::new(ConnectionState {
            origin,
            subject,
            admitted: Mutex::default(),
            present,
            lists,
            watches,
            consumers,
            subscriptions,
            invalidations,
        })
    }
}

impl AsyncRead for Served {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.wire {
            Wire::Plain(placed) => Pin::new(placed).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if self.patience.is_none() {
            return read;
        }
        self.came += buf.filled().len() - before;
        if self.came >= FIRST_BYTES || matches!(read, Poll::Ready(Err(_))) {
            self.patience = None;
        } else if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

/// Passes a call on to whatever is below.
macro_rules! below {
    ($self:ident, $below:ident => $call:expr) => {
        match &mut $self.wire {
            Wire::Plain($below) => $call,
            Wire::Tls($below) => $call,
        }
    };
}

impl AsyncWrite for Served {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        below!(self, below => Pin::new(below).poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        below!(self, below => Pin::new(below).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        below!(self, below => Pin::new(below).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        below!(self, below => Pin::new(below).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(placed) => placed.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pairs(count: usize) -> (Incoming, Vec<tokio::io::DuplexStream>) {
        let (near, far): (Vec<_>, Vec<_>) = (0..count).map(|_| tokio::io::duplex(64)).unzip();
        let near = near.into_iter().map(|io| Ok(Connection::new(io)));
        (stream::iter(near).boxed(), far)
    }

    fn door(max: usize, port: &Arc<Port>) -> Door {
        Door { name: "client", max, counted: Arc::clone(port), tls: None, callers: None }
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_a_place_comes_free_again() {
        let port = Arc::<Port>::default();
        let (incoming, mut far) = pairs(2);
        let accepted: Vec<_> = door(1, &port).open(incoming).collect().await;
        assert_eq!(accepted.len(), 1);
        assert_eq!((port.open.get(), port.refused.get()), (1, 1));
        drop(accepted);
        assert_eq!(port.open.get(), 0);
        let mut second = far.pop().unwrap();
        assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0, "the second was not closed");

        let (one, mut one_far) = tokio::io::duplex(64);
        let (two, _two_far) = tokio::io::duplex(64);
        let (mut send, receive) = futures::channel::mpsc::channel(2);
        let mut bounded = door(1, &port).open(receive.boxed());
        send.try_send(Ok(Connection::new(one))).unwrap();
        let first = bounded.next().await.unwrap().unwrap();
        one_far.write_all(b"x").await.unwrap();
        drop(first);
        send.try_send(Ok(Connection::new(two))).unwrap();
        assert!(bounded.next().await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_given_up_and_one_that_spoke_is_not() {
        let (incoming, mut far) = pairs(2);
        let mut accepted: Vec<_> = door(2, &Arc::default()).open(incoming).collect().await;
        let mut spoke = accepted.pop().unwrap().unwrap();
        let mut silent = accepted.pop().unwrap().unwrap();
        far[0].write_all(b"PRI * HTTP").await.unwrap();
        silent.read_exact(&mut [0; 10]).await.unwrap();
        let error = silent.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "half a preface is none");

        far[1].write_all(&[b'x'; FIRST_BYTES]).await.unwrap();
        spoke.read_exact(&mut [0; FIRST_BYTES]).await.unwrap();
        let patience = tokio::time::timeout(FIRST_BYTES_TIMEOUT * 2, spoke.read_u8()).await;
        assert!(patience.is_err(), "a connection that spoke was closed");
    }
}
