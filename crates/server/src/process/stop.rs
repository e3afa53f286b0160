//! What makes a process stop: signals, and the end of stdin.

use super::Error;
use super::control::Control;
use quorate_consensus::Replica;
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What stdin is to the process.
pub(super) enum Stdin {
    /// Nothing.
    Unread,
    /// Its end is the process's.
    ToItsEnd,
    /// As before, and its lines are commands of a test.
    Commands(Control),
}

/// Hears that the process shall stop.
pub(super) struct Stop {
    asked: CancellationToken,
    insisted: CancellationToken,
    /// To look at files that may have changed.
    pub(super) look: Arc<Notify>,
    /// Where the commands of a test look for the replica.
    replica: Option<Arc<OnceLock<Replica>>>,
}

impl Stop {
    pub(super) fn new(stdin: Stdin) -> Result<Self, Error> {
        let system = |error| Error::System { action: "handle signals", error };
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(system)?;
        let look = Arc::<Notify>::default();
        let told = Arc::clone(&look);
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                told.notify_one();
            }
        });
        let (asked, insisted) = (CancellationToken::new(), CancellationToken::new());
        let replica = match &stdin {
            Stdin::Commands(control) => Some(control.replica()),
            Stdin::Unread | Stdin::ToItsEnd => None,
        };
        let stop = Self { asked, insisted, look, replica };
        let (asked, insisted) = (stop.asked.clone(), stop.insisted.clone());
        tokio::spawn(async move {
            for token in [asked, insisted] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        });
        let asked = stop.asked.clone();
        // A thread of its own: reading stdin can't be interrupted, so nobody must wait for it. Its end
        // counts, and an error is one.
        let read: Box<dyn FnOnce() + Send> = match stdin {
            Stdin::Unread => return Ok(stop),
            Stdin::ToItsEnd => Box::new(move || {
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                asked.cancel();
            }),
            Stdin::Commands(mut control) => Box::new(move || {
                control.obey_all(&mut io::stdin().lock());
                asked.cancel();
            }),
        };
        let thread = std::thread::Builder::new().name("quorate-stdin".to_owned()).spawn(read);
        thread.map_err(|error| Error::System { action: "watch stdin", error })?;
        Ok(stop)
    }

    /// From now on commands of a test ask this replica who is in the cluster.
    pub(super) fn control_knows(&self, replica: &Replica) {
        if let Some(known) = &self.replica {
            // There is one in a process.
            let _ = known.set(replica.clone());
        }
    }

    pub(super) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    pub(super) async fn insisted(&self) {
        self.insisted.cancelled().await;
    }
}
