//! The one thread that makes log writes durable: group commit.
//!
//! It takes one waiting job, then all others that are there, syncs once, and completes them all.
//! A lone write waits for nothing but its own sync; under load one sync serves many. There is no
//! timer, and no sync or thread per append.

use super::{Completion, Synced};
use crate::rocks::tells_of_earlier;
use crate::{Durations, Error, Histogram};
use quorate_state::LogIndex;
#[cfg(feature = "planted-faults")]
use quorate_state::planted::{Fault, is_planted};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a failure that only follows from another one waits for that to be recorded.
const FAILURE_WAIT: Duration = Duration::from_secs(5);

/// A write that is in the log but perhaps not on disk.
pub(crate) struct Job {
    /// The watermark to raise when it is, if it moves one.
    pub(crate) mark: Option<Mark>,
    /// Whom to tell.
    pub(crate) done: Option<Completion>,
}

/// What a group's watermark may become once a write is on disk.
pub(crate) struct Mark {
    pub(crate) gate: Arc<SyncGate>,
    /// The generation of the log the write was made in.
    pub(crate) generation: u64,
    pub(crate) through: Option<LogIndex>,
}

/// A group's watermark. A truncation starts a new generation: what was written before it may not
/// raise the watermark any more, because the index it would raise it to means another entry now.
#[derive(Debug)]
pub(crate) struct SyncGate {
    generation: Mutex<u64>,
    synced: watch::Sender<Synced>,
}

impl SyncGate {
    pub(crate) fn new(through: Option<LogIndex>) -> Self {
        let (synced, _) = watch::channel(Synced::Through(through));
        Self { generation: Mutex::new(0), synced }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Synced> {
        self.synced.subscribe()
    }

    pub(crate) fn generation(&self) -> u64 {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lowers the watermark to `keep` at most, and starts a new generation: its number.
    pub(crate) fn lower(&self, keep: Option<LogIndex>) -> u64 {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        *generation += 1;
        self.synced.send_if_modified(|synced| match synced {
            Synced::Through(through) if *through > keep => {
                *through = keep;
                true
            }
            _ => false,
        });
        *generation
    }

    /// Raises the watermark, unless the log was truncated since.
    pub(crate) fn raise(&self, generation: u64, to: Option<LogIndex>) {
        let current = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != generation {
            return;
        }
        self.synced.send_if_modified(|synced| match synced {
            Synced::Through(through) if *through < to => {
                *through = to;
                true
            }
            _ => false,
        });
    }

    pub(crate) fn fail(&self, reason: &str) {
        self.synced.send_replace(Synced::Failed(reason.to_owned()));
    }
}

/// Syncs the device; the flusher calls it from its thread alone.
pub(crate) type SyncDevice = Box<dyn FnMut() -> Result<(), Error> + Send>;

/// What the thread and those who submit to it share.
#[derive(Default)]
struct Shared {
    /// The first failure: nothing becomes durable after it. A failed sync is never repeated,
    /// because the kernel may have dropped the pages it could not write.
    failure: OnceLock<Error>,
    /// Told, under the lock of `gates`, when there is one.
    failed: Condvar,
    gates: Mutex<Vec<Weak<SyncGate>>>,
    sync_times: Histogram,
}

impl Shared {
    /// Records a failure if it is the first. Returns the first one.
    fn fail(&self, error: Error) -> Error {
        if tells_of_earlier(&error) {
            // Whoever met what happened is about to record it.
            self.wait_for_failure(FAILURE_WAIT);
        }
        let mut first = false;
        let failure = self.failure.get_or_init(|| {
            first = true;
            error
        });
        if !first {
            return failure.clone();
        }
        let reason = failure.to_string();
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        for gate in gates.iter().filter_map(Weak::upgrade) {
            gate.fail(&reason);
        }
        self.failed.notify_all();
        failure.clone()
    }

    /// Waits until a failure is recorded, but no longer than that. It needs no turn of the thread,
    /// which may be in a completion that waits for what the caller holds.
    fn wait_for_failure(&self, at_most: Duration) {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let none = |_: &mut Vec<_>| self.failure.get().is_none();
        let waited = self.failed.wait_timeout_while(gates, at_most, none);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// The handle of the thread. Dropping it syncs what is there and ends the thread.
pub(crate) struct Flusher {
    sender: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Flusher {
    /// Starts the thread. At most `queue_len_max` jobs wait; then submitting blocks.
    pub(crate) fn start(queue_len_max: usize, sync: SyncDevice) -> Result<Self, Error> {
        let (sender, receiver) = sync_channel(queue_len_max);
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name(String::from("log-flusher"))
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&receiver, &shared, sync)
            })
            .map_err(|error| Error::Io {
                action: "start the thread of",
                path: "log-flusher".into(),
                reason: error.to_string(),
            })?;
        Ok(Self { sender: Some(sender), thread: Some(thread), shared })
    }

    /// Makes `gate` hear of a failure.
    pub(crate) fn register(&self, gate: &Arc<SyncGate>) {
        let mut gates = self.shared.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|gate| gate.strong_count() > 0);
        gates.push(Arc::downgrade(gate));
    }

    /// Refuses when a write or sync has failed before.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.shared.failure.get().cloned().map_or(Ok(()), Err)
    }

    /// Records that a write failed; nothing is accepted after it. Returns the first failure, which
    /// may be another one.
    pub(crate) fn fail(&self, error: Error) -> Error {
        self.shared.fail(error)
    }

    /// Queues a job for the next sync; blocks while the queue is full. What it waits for must
    /// have been written before.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Error> {
        self.check()?;
        #[cfg(feature = "planted-faults")]
        let job = match is_planted(Fault::AcknowledgeBeforeFsync) {
            true => {
                complete(vec![job], &self.shared);
                Job { mark: None, done: None }
            }
            false => job,
        };
        let sent = self.sender.as_ref().and_then(|sender| sender.send(job).ok());
        sent.ok_or_else(|| Error::Invariant(String::from("the log's flusher thread has ended")))
    }

    /// How long the syncs took that succeeded.
    pub(crate) fn sync_times(&self) -> Durations {
        self.shared.sync_times.read()
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        drop(self.sender.take());
        let Some(thread) = self.thread.take() else { return };
        // The last handle may be dropped by a completion, on the thread itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the log's flusher thread panicked");
        }
    }
}

fn run(receiver: &Receiver<Job>, shared: &Shared, mut sync: SyncDevice) {
    while let Ok(first) = receiver.recv() {
        // `try_iter` ends when the queue is empty, and the queue is bounded; but jobs arrive
        // while it runs, so the number taken has a bound of its own.
        let jobs: Vec<Job> =
            std::iter::once(first).chain(receiver.try_iter().take(DRAIN_MAX)).collect();
        if shared.failure.get().is_none() {
            let begun = Instant::now();
            match sync() {
                Ok(()) => shared.sync_times.record(begun.elapsed()),
                Err(error) => drop(shared.fail(error)),
            }
        }
        complete(jobs, shared);
    }
    // What was written without a job (a commit mark, a purge) is worth keeping on a clean stop.
    if shared.failure.get().is_none()
        && let Err(error) = sync()
    {
        tracing::error!(%error, "the log could not be synced when it was closed");
        shared.fail(error);
    }
}

/// Jobs taken at once: keeps one drain's memory and latency bounded.
const DRAIN_MAX: usize = 16_384;

fn complete(jobs: Vec<Job>, shared: &Shared) {
    // All watermarks first: a completion may look at them.
    if shared.failure.get().is_none() {
        for mark in jobs.iter().filter_map(|job| job.mark.as_ref()) {
            mark.gate.raise(mark.generation, mark.through);
        }
    }
    for done in jobs.into_iter().filter_map(|job| job.done) {
        let result = shared.failure.get().cloned().map_or(Ok(()), Err);
        // A panic here would end the thread and leave every later write without an answer.
        if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
            shared.fail(Error::Invariant(String::from("a completion of the log panicked")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::{Sender, channel};

    fn job(
        gate: &Arc<SyncGate>,
        generation: u64,
        through: u64,
        done: &Sender<Result<(), String>>,
    ) -> Job {
        let done = done.clone();
        Job {
            mark: Some(Mark {
                gate: Arc::clone(gate),
                generation,
                through: Some(LogIndex(through)),
            }),
            done: Some(Box::new(move |result| {
                done.send(result.map_err(|error| error.to_string())).expect("the test listens");
            })),
        }
    }

    fn through(gate: &SyncGate) -> Synced {
        gate.watch().borrow().clone()
    }

    /// The first sync is held until 100 more jobs wait; one more sync serves them all.
    #[test]
    fn one_sync_serves_all_that_wait() {
        let (entered_tx, entered) = channel();
        let (go, go_rx) = channel();
        let flusher = Flusher::start(
            1_000,
            Box::new(move || {
                let _ = entered_tx.send(());
                go_rx.recv().expect("the test says go");
                Ok(())
            }),
        )
        .expect("it starts");
        let gate = Arc::new(SyncGate::new(None));
        flusher.register(&gate);
        let (done, results) = channel();
        flusher.submit(job(&gate, 0, 1, &done)).expect("accepted");
        entered.recv().expect("the first sync began");
        for index in 2..=101 {
            flusher.submit(job(&gate, 0, index, &done)).expect("accepted");
        }
        assert_eq!(through(&gate), Synced::Through(None));
        go.send(()).expect("it waits");
        entered.recv().expect("the second sync began");
        assert_eq!(results.recv().expect("the first is done"), Ok(()));
        assert_eq!(through(&gate), Synced::Through(Some(LogIndex(1))));
        results.try_recv().expect_err("the others wait for the second");
        go.send(()).expect("it waits");
        for _ in 0..100 {
            assert_eq!(results.recv().expect("done"), Ok(()));
        }
        assert_eq!(through(&gate), Synced::Through(Some(LogIndex(101))));
        assert_eq!(flusher.sync_times().count(), 2);
        go.send(()).expect("the last sync, at the end");
    }

    /// Entries 1 to 10 are written, then 6 to 10 truncated, then the first sync comes back: the
    /// watermark stays at 5, and follows only what was written after the truncation.
    #[test]
    fn a_drain_from_before_a_truncation_does_not_raise_the_watermark_past_it() {
        let gate = SyncGate::new(Some(LogIndex(3)));
        let old = gate.generation();
        let new = gate.lower(Some(LogIndex(5)));
        gate.raise(old, Some(LogIndex(10)));
        assert_eq!(through(&gate), Synced::Through(Some(LogIndex(3))));
        gate.raise(new, Some(LogIndex(5)));
        assert_eq!(through(&gate), Synced::Through(Some(LogIndex(5))));
        let newer = gate.lower(Some(LogIndex(4)));
        assert_eq!(through(&gate), Synced::Through(Some(LogIndex(4))));
        gate.raise(new, Some(LogIndex(5)));
        assert_eq!(through(&gate), Synced::Through(Some(LogIndex(4))));
        gate.raise(newer, Some(LogIndex(7)));
        assert_eq!(through(&gate), Synced::Through(Some(LogIndex(7))));
    }

    /// The same with the thread: the truncation comes while the device syncs.
    #[test]
    fn a_truncation_during_a_sync_voids_it() {
        let (entered_tx, entered) = channel();
        let (go, go_rx) = channel();
        let sync = move || {
            let _ = entered_tx.send(());
            // The last one, at the end, needs no word.
            let _ = go_rx.recv();
            Ok(())
        };
        let flusher = Flusher::start(10, Box::new(sync)).expect("it starts");
        let gate = Arc::new(SyncGate::new(None));
        let (done, results) = channel();
        flusher.submit(job(&gate, gate.generation(), 10, &done)).expect("accepted");
        entered.recv().expect("the sync began");
        let generation = gate.lower(Some(LogIndex(5)));
        flusher.submit(job(&gate, generation, 7, &done)).expect("accepted");
        go.send(()).expect("it waits");
        assert_eq!(results.recv().expect("told"), Ok(()));
        assert_eq!(through(&gate), Synced::Through(None));
        go.send(()).expect("it waits");
        assert_eq!(results.recv().expect("told"), Ok(()));
        assert_eq!(through(&gate), Synced::Through(Some(LogIndex(7))));
        drop(go);
    }

    #[test]
    fn a_failed_sync_fails_everybody_and_is_never_repeated() {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let flusher = Flusher::start(
            10,
            Box::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                Err(Error::Invariant(String::from("device gone")))
            }),
        )
        .expect("it starts");
        let (gate, other) = (Arc::new(SyncGate::new(None)), Arc::new(SyncGate::new(None)));
        flusher.register(&gate);
        flusher.register(&other);
        let (done, results) = channel();
        flusher.submit(job(&gate, 0, 1, &done)).expect("nothing has failed yet");
        let text = results.recv().expect("told").expect_err("the sync failed");
        assert!(text.contains("device gone"), "{text}");
        for gate in [&gate, &other] {
            assert!(matches!(through(gate), Synced::Failed(reason) if reason.contains("gone")));
        }
        flusher.submit(job(&gate, 0, 2, &done)).expect_err("it has failed before");
        drop(flusher);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    /// A write that fails because a sync failed a moment before: what is told is why the sync did.
    #[test]
    fn what_failed_first_is_told_though_it_is_recorded_later() {
        let failed =
            |reason: &str| Error::Database { path: "log".into(), reason: reason.to_owned() };
        let flusher = Flusher::start(10, Box::new(|| Ok(()))).expect("it starts");
        let (tell, told) = channel();
        thread::scope(|scope| {
            scope.spawn(|| tell.send(flusher.fail(failed("Seen error. Skip writing buffer."))));
            told.recv_timeout(Duration::from_millis(50)).expect_err("it waits for the reason");
            flusher.fail(failed("No space left on device"));
        });
        let told = told.recv().expect("it was told");
        for error in [told, flusher.check().expect_err("it has failed")] {
            assert!(error.to_string().contains("No space left"), "{error}");
        }
    }

    #[test]
    fn a_panicking_completion_is_a_failure_and_others_still_get_an_answer() {
        let flusher = Flusher::start(10, Box::new(|| Ok(()))).expect("it starts");
        let gate = Arc::new(SyncGate::new(None));
        flusher.register(&gate);
        let panics: Completion = Box::new(|_| panic!("on purpose, by the test"));
        flusher.submit(Job { mark: None, done: Some(panics) }).expect("accepted");
        let mut watch = gate.watch();
        while matches!(&*watch.borrow_and_update(), Synced::Through(_)) {
            thread::yield_now();
        }
        let (done, results) = channel();
        flusher.submit(job(&gate, 0, 1, &done)).expect_err("it has failed");
        drop(done);
        results.recv().expect_err("a refused job is not completed");
    }
}
