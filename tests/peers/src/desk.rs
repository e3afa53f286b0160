//! Where those who push jobs meet those who consume them, as in `quorate bench queue`: an operation
//! is a job's whole way, pushed, delivered to any of the consumers, acknowledged by it.

use crate::closed_loop::Lane;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a payload begins with: which job it is.
pub(crate) const MARK_BYTES: usize = 8;

#[derive(Default)]
pub(crate) struct Desk(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    /// Who waits for which job.
    waiting: HashMap<u64, oneshot::Sender<()>>,
    /// Why no more jobs come.
    broken: Option<String>,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a job, and where its end is told.
    fn expect(&self) -> (u64, oneshot::Receiver<()>) {
        let (settled, told) = oneshot::channel();
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.waiting.insert(number, settled);
        (number, told)
    }

    /// A job was delivered and acknowledged.
    pub(crate) fn settle(&self, payload: &[u8]) {
        let Some((number, _)) = payload.split_first_chunk() else { return };
        if let Some(waits) = self.state().waiting.remove(&u64::from_be_bytes(*number)) {
            // Who gave up waiting is gone.
            let _ = waits.send(());
        }
    }

    /// A consumer has ended. Whoever waits for a job is told, because it may never come.
    pub(crate) fn fail(&self, error: &anyhow::Error) {
        let mut state = self.state();
        state.broken.get_or_insert(format!("{error:#}"));
        state.waiting.clear();
    }
}

/// How a system takes a job; answered when it has promised to keep it.
pub(crate) trait Push: Send + 'static {
    fn push(&self, payload: Vec<u8>) -> impl Future<Output = Result<()>> + Send;
}

/// Pushes the next job when its last one is acknowledged.
pub(crate) struct Cycle<P> {
    pub(crate) queue: P,
    pub(crate) payload: Vec<u8>,
    pub(crate) desk: Arc<Desk>,
}

impl<P: Push + Sync> Lane for Cycle<P> {
    async fn operate(&mut self) -> Result<Instant> {
        let (number, told) = self.desk.expect();
        let Some(mark) = self.payload.first_chunk_mut::<MARK_BYTES>() else {
            bail!("a payload needs {MARK_BYTES} bytes")
        };
        *mark = number.to_be_bytes();
        self.queue.push(self.payload.clone()).await.context("a push failed")?;
        if told.await.is_err() {
            let broken = self.desk.state().broken.clone();
            return Err(anyhow!("{}", broken.unwrap_or_default()).context("a consumer ended"));
        }
        Ok(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Loopback(Arc<Desk>);

    impl Push for Loopback {
        async fn push(&self, payload: Vec<u8>) -> Result<()> {
            self.0.settle(&payload);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_job_ends_when_it_is_settled_or_its_consumer_is_gone() {
        let desk = Arc::new(Desk::default());
        let queue = Loopback(Arc::clone(&desk));
        let mut cycle = Cycle { queue, payload: vec![0; 16], desk: Arc::clone(&desk) };
        cycle.operate().await.unwrap();
        cycle.operate().await.unwrap();

        let (_, told) = desk.expect();
        desk.fail(&anyhow!("cancelled"));
        assert!(told.await.is_err());
    }
}
