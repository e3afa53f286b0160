//! Read barriers (ReadIndex, Raft thesis §6.4): one round to the leader and its quorum serves every
//! read that arrived before the round began. No leases: a node with a stopped clock stays correct.

use crate::failure::{Failure, Reason};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Rounds on their way at once: a read need not wait for the end of a round that began too early.
const ROUNDS_IN_FLIGHT: usize = 4;
/// Reads that wait for a round; one that finds as many is refused at once.
const QUEUE_READS: usize = 65_536;
/// Renewals that find room beside them: as many sessions or locks wait for one round at most.
const QUEUE_RENEWALS: usize = 16_384;

/// Handle to the barrier of one group. All reads of a round get the same `T`: a view that the
/// round has shown to be new enough.
pub(crate) struct Barrier<T> {
    queue: mpsc::Sender<oneshot::Sender<Result<T, Failure>>>,
    refused: AtomicU64,
}

impl<T: Clone + Send + 'static> Barrier<T> {
    /// Starts the task. `round` asks the leader once, for up to a round's time, and then takes a
    /// view.
    pub(crate) fn start<F, Fut>(round: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let (queue, mut queued) = mpsc::channel::<oneshot::Sender<_>>(QUEUE_READS + QUEUE_RENEWALS);
        tokio::spawn(async move {
            let rounds = Arc::new(Semaphore::new(ROUNDS_IN_FLIGHT));
            while let Ok(permit) = Arc::clone(&rounds).acquire_owned().await {
                let Some(first) = queued.recv().await else { return };
                let mut waiting = vec![first];
                while let Ok(next) = queued.try_recv() {
                    waiting.push(next);
                }
                // Everything in `waiting` arrived before this line, so the round covers it.
                let round = round();
                tokio::spawn(async move {
                    let view = round.await;
                    drop(permit);
                    for reader in waiting {
                        let _ = reader.send(view.clone());
                    }
                });
            }
        });
        Self { queue, refused: AtomicU64::new(0) }
    }

    /// Reads that were refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What a round that begins after this call comes to.
    pub(crate) async fn pass(&self, deadline: Instant) -> Result<T, Failure> {
        if self.queue.capacity() <= QUEUE_RENEWALS && !self.queue.is_closed() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(full());
        }
        self.pass_urgent(deadline).await
    }

    /// As [`Barrier::pass`], for what keeps something alive: it has room of its own.
    pub(crate) async fn pass_urgent(&self, deadline: Instant) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(reply).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => full(),
            mpsc::error::TrySendError::Closed(_) => {
                Failure::not_applied(Reason::ShuttingDown, "this node is stopping; ask another one")
            }
        })?;
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(view)) => view,
            Ok(Err(_)) => Err(Failure::not_applied(
                Reason::ShuttingDown,
                "this node is stopping; ask another one",
            )),
            Err(_) => Err(no_quorum()),
        }
    }
}

fn full() -> Failure {
    Failure::not_applied(
        Reason::Overloaded,
        format!("{QUEUE_READS} reads wait for a barrier already; try again more slowly"),
    )
}

/// What a read is told when its deadline came first.
pub(crate) fn no_quorum() -> Failure {
    Failure::not_applied(
        Reason::NoLeader,
        "no leader with a quorum confirmed the read before the deadline; check that a majority of \
         the nodes runs (quorate cluster status), or ask for a stale read",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn one_round_serves_all_that_arrived_before_it_and_none_that_came_later() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let barrier = Barrier::start(move || {
            let number = counter.fetch_add(1, Ordering::SeqCst) as u64;
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(number)
            }
        });
        let deadline = Instant::now() + Duration::from_secs(1);
        let reads = (0..100).map(|_| barrier.pass(deadline));
        let targets = futures::future::join_all(reads).await;
        let rounds = begun.load(Ordering::SeqCst);
        assert!(rounds <= 2, "100 reads at once took {rounds} rounds");
        let highest = targets.into_iter().map(Result::unwrap).max().unwrap();
        // A later read is served by a later round.
        assert!(barrier.pass(deadline).await.unwrap() > highest);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_beyond_the_bound_are_refused_at_once_and_renewals_are_not() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let barrier: Arc<Barrier<u64>> = Arc::new(Barrier::start(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            std::future::pending()
        }));
        let deadline = Instant::now() + Duration::from_secs(1);
        let read = || {
            let barrier = Arc::clone(&barrier);
            tokio::spawn(async move { barrier.pass(deadline).await.unwrap_err().reason })
        };
        // No round ends, so after these nothing is taken from the queue.
        let mut waiting = Vec::new();
        for round in 1..=ROUNDS_IN_FLIGHT {
            waiting.push(read());
            while begun.load(Ordering::SeqCst) < round {
                tokio::task::yield_now().await;
            }
        }
        waiting.extend((0..QUEUE_READS).map(|_| read()));
        while barrier.queue.capacity() > QUEUE_RENEWALS {
            tokio::task::yield_now().await;
        }
        assert_eq!(barrier.pass(deadline).await.unwrap_err().reason, Reason::Overloaded);
        assert_eq!((barrier.refused(), deadline > Instant::now()), (1, true));
        let renewal = barrier.pass_urgent(deadline).await.unwrap_err();
        assert_eq!(renewal.reason, Reason::NoLeader, "it had no room to wait in");
        for read in waiting {
            assert_eq!(read.await.unwrap(), Reason::NoLeader);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_whose_round_never_ends_fails_at_its_deadline() {
        let barrier: Barrier<u64> = Barrier::start(std::future::pending);
        let began = Instant::now();
        let failure = barrier.pass(began + Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(failure.reason, Reason::NoLeader);
        assert!(!failure.unknown);
        assert_eq!(began.elapsed(), Duration::from_millis(300));
    }
}
