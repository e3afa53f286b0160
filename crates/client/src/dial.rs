//! How connections are made: the seam where a simulation puts its own network.

use crate::credentials::Credentials;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;

/// A byte stream to a node.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens byte streams to addresses. The client bounds how long it waits for one.
pub trait Dial: Send + Sync + 'static {
    /// Connects to `addr`, which is `host:port` as the user or the cluster wrote it.
    ///
    /// # Errors
    /// When there is no connection: the client then knows that nothing was sent.
    ///
    /// # Cancel safety
    /// The future is dropped when the connection takes too long; it must leave nothing behind.
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

impl<D: Dial + ?Sized> Dial for Arc<D> {
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        D::dial(self, addr)
    }
}

/// Plain TCP without Nagle's delay: requests are small, and someone waits for each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// A connection to a node, on which each request shows who sends it.
pub(crate) type Channel = InterceptedService<tonic::transport::Channel, Credentials>;

/// A connected channel; its connection's tasks run on the caller's runtime.
pub(crate) async fn channel(
    dial: Arc<dyn Dial>,
    addr: &str,
    endpoint: &Endpoint,
    credentials: Credentials,
) -> Result<Channel, String> {
    let addr: Arc<str> = addr.into();
    let connector = tower::service_fn(move |_: http::Uri| {
        let connecting = dial.dial(&addr);
        async move { connecting.await.map(TokioIo::new) }
    });
    let connected = endpoint.connect_with_connector(connector).await;
    let connected = connected.map_err(|error| innermost(&error))?;
    Ok(InterceptedService::new(connected, credentials))
}

/// The last error of a chain: the outer ones only say "transport error".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
