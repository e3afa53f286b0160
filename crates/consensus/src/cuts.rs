//! Cuts between this node and others, as a network makes them: for tests of failures.

use crate::io::{CONNECT_TIMEOUT, Connection, Dialer};
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;

/// Which addresses a node does not reach just now. Clones share it.
///
/// Connections to them that exist go silent in both directions, as those of a cut cable: what was on its
/// way stays there, and arrives when the cut is mended. New ones can't be made. A cut between two nodes
/// needs both to be told, because each has dialed connections of its own.
#[derive(Clone, Debug, Default)]
pub struct Cuts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cut: watch::Sender<BTreeSet<String>>,
    /// Who reads or writes where nothing comes through.
    silent: Mutex<Vec<Waker>>,
}

impl Cuts {
    /// From now on these addresses are cut off, and no others.
    pub fn set(&self, addresses: impl IntoIterator<Item = String>) {
        self.0.cut.send_replace(addresses.into_iter().collect());
        let silent = std::mem::take(&mut *self.silent());
        silent.into_iter().for_each(Waker::wake);
    }

    /// Mends all of them.
    pub fn heal(&self) {
        self.set([]);
    }

    /// A dialer that dials as this one, except where there is a cut.
    #[must_use]
    pub fn over(&self, dialer: Arc<dyn Dialer>) -> Arc<dyn Dialer> {
        Arc::new(CutDialer { cuts: self.clone(), dialer })
    }

    fn silent(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an address can be reached now; if not, the task is woken when that may have changed.
    fn poll_open(&self, address: &str, cx: &Context<'_>) -> Poll<()> {
        // The lock first: a cut is mended before the silent are woken.
        let mut silent = self.silent();
        if !self.0.cut.borrow().contains(address) {
            return Poll::Ready(());
        }
        if !silent.iter().any(|waker| waker.will_wake(cx.waker())) {
            silent.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

struct CutDialer {
    cuts: Cuts,
    dialer: Arc<dyn Dialer>,
}

impl Dialer for CutDialer {
    fn dial(&self, addr: String) -> BoxFuture<'static, io::Result<Connection>> {
        let (cuts, dialer) = (self.cuts.clone(), Arc::clone(&self.dialer));
        Box::pin(async move {
            // As the first packet of a connection: it is sent again, and may get through a little later.
            let mut seen = cuts.0.cut.subscribe();
            let open = seen.wait_for(|cut| !cut.contains(&addr));
            let waited = timeout(CONNECT_TIMEOUT, open).await.map(drop);
            waited.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            let connection = dialer.dial(addr.clone()).await?;
            Ok(Connection::new(CutConnection { connection, addr, cuts }))
        })
    }
}

struct CutConnection {
    connection: Connection,
    addr: String,
    cuts: Cuts,
}

impl CutConnection {
    fn poll_open(&mut self, cx: &Context<'_>) -> Poll<Pin<&mut Connection>> {
        match self.cuts.poll_open(&self.addr, cx) {
            Poll::Ready(()) => Poll::Ready(Pin::new(&mut self.connection)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for CutConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_open(cx)).poll_read(cx, buf)
    }
}

impl AsyncWrite for CutConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_open(cx)).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_open(cx)).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_open(cx)).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::sync::mpsc;

    struct Dials(mpsc::Sender<DuplexStream>);

    impl Dialer for Dials {
        fn dial(&self, _: String) -> BoxFuture<'static, io::Result<Connection>> {
            let (near, far) = tokio::io::duplex(1_024);
            self.0.try_send(far).unwrap();
            Box::pin(std::future::ready(Ok(Connection::new(near))))
        }
    }

    fn cut(addr: &str) -> [String; 1] {
        [addr.to_owned()]
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_cut_is_silent_and_arrives_when_it_is_mended() {
        let (dialed, mut far) = mpsc::channel(8);
        let cuts = Cuts::default();
        let dialer = cuts.over(Arc::new(Dials(dialed)));
        let mut near = dialer.dial("b:1".to_owned()).await.unwrap();
        let mut far = far.recv().await.unwrap();
        far.write_all(b"a").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'a');

        cuts.set(cut("b:1"));
        far.write_all(b"b").await.unwrap();
        let (read, write) = (Duration::from_secs(60), Duration::from_secs(60));
        assert!(timeout(read, near.read_u8()).await.is_err(), "something came through");
        assert!(timeout(write, near.write_u8(b'c')).await.is_err(), "something went out");

        // Whoever waits meanwhile is woken.
        let reading = tokio::spawn(async move { (near.read_u8().await.unwrap(), near) });
        tokio::task::yield_now().await;
        cuts.heal();
        let (read, mut near) = reading.await.unwrap();
        assert_eq!(read, b'b');
        near.write_u8(b'd').await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'd');
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_dialed_across_a_cut_and_others_are() {
        let (dialed, mut far) = mpsc::channel(8);
        let cuts = Cuts::default();
        let dialer = cuts.over(Arc::new(Dials(dialed)));
        cuts.set(cut("b:1"));
        let refused = dialer.dial("b:1".to_owned()).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert!(far.try_recv().is_err(), "it was dialed");
        dialer.dial("c:1".to_owned()).await.unwrap();
        let late = dialer.dial("b:1".to_owned());
        let (late, ()) = tokio::join!(late, async { cuts.heal() });
        late.unwrap();
    }
}
