//! A network inside the process: names instead of addresses, pipes instead of sockets.

use futures::StreamExt as _;
use futures::future::BoxFuture;
use quorate_client::{Dial, Io};
use quorate_consensus::io::{Connection, Dialer, Incoming};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// What one direction of a connection holds until it is read, as the buffers of a kernel do.
const PIPE_BYTES: usize = 256 << 10;
/// Connections that wait to be accepted.
const BACKLOG: usize = 128;

/// Who listens where. Clones are the same network.
#[derive(Clone, Default)]
pub(super) struct Net(Arc<Mutex<BTreeMap<String, mpsc::Sender<Connection>>>>);

impl Net {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections that come in at an address from now on, until what is returned is dropped or
    /// somebody else listens there.
    pub(super) fn listen(&self, addr: &str) -> Incoming {
        let (connect, connections) = mpsc::channel(BACKLOG);
        self.lock().insert(addr.to_owned(), connect);
        let next = |mut connections: mpsc::Receiver<Connection>| async move {
            let connection = connections.recv().await?;
            Some((Ok(connection), connections))
        };
        futures::stream::unfold(connections, next).boxed()
    }

    fn connect(&self, addr: &str) -> io::Result<DuplexStream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let listens = self.lock().get(addr).cloned().ok_or_else(refused)?;
        listens.try_send(Connection::new(far)).map_err(|_| refused())?;
        Ok(near)
    }
}

impl Dialer for Net {
    fn dial(&self, addr: String) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(std::future::ready(self.connect(&addr).map(Connection::new)))
    }
}

impl Dial for Net {
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let connected = self.connect(addr).map(|io| Box::new(io) as Box<dyn Io>);
        Box::pin(std::future::ready(connected))
    }
}
