//! The network seam: how a node dials its peers and where their connections come from. Two
//! implementations: TCP ([`TcpDialer`], [`tcp_incoming`]) and the simulated network of testkit.

pub use crate::cuts::Cuts;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::Connected;

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection of whichever kind.
pub struct Connection {
    io: Box<dyn Io>,
    from: Option<IpAddr>,
}

impl Connection {
    /// Wraps any byte stream.
    pub fn new(io: impl Io) -> Self {
        Self { io: Box::new(io), from: None }
    }

    /// The same, known to come from this address.
    #[must_use]
    pub fn coming_from(self, address: IpAddr) -> Self {
        Self { from: Some(address), ..self }
    }

    /// The address it comes from, if that is known.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.from
    }
}

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Connections as they come in. Ends when the node should stop accepting.
pub type Incoming = BoxStream<'static, io::Result<Connection>>;

/// Opens connections.
pub trait Dialer: Send + Sync + 'static {
    /// Connects to `addr`, a `host:port`.
    fn dial(&self, addr: String) -> BoxFuture<'static, io::Result<Connection>>;
}

/// How long a TCP connect may take: longer than any round trip on one continent, and short enough
/// to try again within an election timeout or two.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Dials over TCP, without Nagle's delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial(&self, addr: String) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(async move {
            let stream =
                tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&addr))
                    .await
                    .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "connect timed out"))??;
            stream.set_nodelay(true)?;
            Ok(Connection::new(stream))
        })
    }
}

/// The connections a TCP listener accepts.
pub fn tcp_incoming(listener: TcpListener) -> Incoming {
    Box::pin(futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.and_then(|(stream, from)| {
            stream.set_nodelay(true)?;
            Ok(Connection::new(stream).coming_from(from.ip()))
        });
        if accepted.is_err() {
            // Out of file descriptors, most likely: don't spin while others close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some((accepted, listener))
    }))
}
