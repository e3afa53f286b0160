//! A worker: a function that does the jobs of a queue, several at a time.

use super::nack::DELAY_MAX;
use super::{Consumer, Job, Queue};
use crate::Error;
use crate::client::CallOptions;
use crate::retry;
use futures::FutureExt as _;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Jobs done at a time when nothing is said.
const PARALLEL: u32 = 1;
/// How long a worker that is stopped lets its jobs run when nothing is said.
const GRACE: Duration = Duration::from_secs(30);

/// Why a job failed, and what is to become of it. Made of any error by `?`; without more it is tried
/// again as its queue says.
///
/// ```
/// # use quorate_client::queue::JobError;
/// # use std::time::Duration;
/// fn work(payload: &str) -> Result<(), JobError> {
///     let number: u64 = payload.parse()?;
///     match number {
///         0 => Err(JobError::new("nothing to divide by").kill()),
///         1 => Err(JobError::new("busy").after(Duration::from_secs(600))),
///         _ => Ok(()),
///     }
/// }
/// # assert!(work("x").is_err() && work("0").is_err() && work("1").is_err() && work("2").is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobError {
    text: String,
    then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Retry,
    After(Duration),
    Kill,
    HandBack,
}

impl JobError {
    /// With this text, of which the first 1024 bytes are kept.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), then: Then::Retry }
    }

    /// It is tried again after this long; more than 366 days are taken as so many. See
    /// [`Job::nack_after`].
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.then = Then::After(delay);
        self
    }

    /// It is given up at once; see [`Job::kill`].
    #[must_use]
    pub fn kill(mut self) -> Self {
        self.then = Then::Kill;
        self
    }

    /// It was not tried; see [`Job::hand_back`].
    #[must_use]
    pub fn hand_back(mut self) -> Self {
        self.then = Then::HandBack;
        self
    }
}

impl<E: fmt::Display> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// A worker to be started.
///
/// It gives each job to the function. When that answers Ok the job is done; when it answers an error,
/// or panics, the job has failed, and is tried again as its queue says. The lease is extended for as
/// long as the function runs. A job that is withdrawn meanwhile is somebody else's, so the function's
/// future is dropped, at its next `await`.
///
/// What became of a job is told for as long as its lease lasts, while nodes fail: at least as long as
/// any call, at most 5 min. After that it is delivered again when its lease ends.
///
/// A job may be done more than once; see [`Job`].
#[must_use = "nothing is done before it is started"]
pub struct Worker<F> {
    queue: Queue,
    name: String,
    handler: F,
    parallel: u32,
    prefetch: u32,
    grace: Duration,
}

impl<F> fmt::Debug for Worker<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("queue", &self.name)
            .field("parallel", &self.parallel)
            .field("prefetch", &self.prefetch)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// What a worker has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounts {
    /// Jobs that are done.
    pub done: u64,
    /// Jobs that failed, or panicked.
    pub failed: u64,
    /// Jobs that were withdrawn, or of which nobody could be told in time what became of them: they
    /// are done again elsewhere.
    pub lost: u64,
    /// Jobs that were handed back.
    pub handed_back: u64,
    /// Jobs of which it was told what became of them, but not whether that was heard: they are done
    /// again elsewhere, or not.
    pub unknown: u64,
}

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    handed_back: AtomicU64,
    unknown: AtomicU64,
}

impl<F, R> Worker<F>
where
    F: Fn(Arc<Job>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), JobError>> + Send + 'static,
{
    pub(super) fn new(queue: Queue, name: String, handler: F) -> Self {
        Self { queue, name, handler, parallel: PARALLEL, prefetch: 0, grace: GRACE }
    }

    /// How many jobs are done at a time, 1 to 1000; default: 1.
    pub fn max_parallel(mut self, jobs: u32) -> Self {
        self.parallel = jobs;
        self
    }

    /// How many more wait here for their turn; default: none. It saves the way to the cluster and
    /// back between two jobs, which counts when they are done in milliseconds. Their leases are not
    /// extended before their turn, and with those that are being done they are at most 1000.
    pub fn prefetch(mut self, jobs: u32) -> Self {
        self.prefetch = jobs;
        self
    }

    /// How long jobs may still run when the worker is stopped; then their futures are dropped, and
    /// they are handed back. Default: 30 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts it. The queue is made when it is not there yet.
    ///
    /// # Errors
    /// As [`super::Consume::start`].
    pub async fn start(self) -> Result<WorkerHandle, Error> {
        let Self { queue, name, handler, parallel, prefetch, grace } = self;
        if parallel == 0 {
            return Err(Error::bad_option("max_parallel is 0; it must be 1 to 1000".to_owned()));
        }
        let consumer = queue.consume(name, parallel.saturating_add(prefetch)).start().await?;
        let (stop, stopped) = watch::channel(Stop::No);
        let counts = Arc::new(Counts::default());
        let running = Running {
            consumer,
            handler: Arc::new(handler),
            parallel: parallel as usize,
            grace,
            stopped,
            desk: Desk {
                counts: Arc::clone(&counts),
                request_timeout: queue.inner.request_timeout,
            },
        };
        Ok(WorkerHandle { task: tokio::spawn(running.run()), stop, counts })
    }
}

/// A worker that runs.
///
/// # Dropping it
/// stops it as [`WorkerHandle::stop`] does, in the background.
#[derive(Debug)]
#[must_use = "a worker stops when its handle is dropped"]
pub struct WorkerHandle {
    task: JoinHandle<Result<(), Error>>,
    stop: watch::Sender<Stop>,
    counts: Arc<Counts>,
}

impl WorkerHandle {
    /// Asks it to stop: it takes no more jobs, hands back those that wait, and lets those that run go
    /// on for its grace time. [`WorkerHandle::join`] waits for that.
    pub fn stop(&self) {
        self.stop.send_modify(|stop| *stop = (*stop).max(Stop::InOrder));
    }

    /// As [`WorkerHandle::stop`], without any grace time: what runs is handed back at once.
    pub fn stop_now(&self) {
        self.stop.send_replace(Stop::Now);
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> WorkerCounts {
        self.counts.read()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Resolves when it has ended, or is just about to: [`WorkerHandle::join`] tells how.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn finished(&self) {
        self.stop.closed().await;
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// Why it could not go on; see [`Consumer::next`].
    ///
    /// # Cancel safety
    /// When the future is dropped the worker is stopped, as it is when its handle is.
    pub async fn join(mut self) -> Result<WorkerCounts, Error> {
        match (&mut self.task).await {
            Ok(ended) => ended?,
            Err(error) => {
                let message = format!("the worker ended before its time: {error}");
                return Err(Error::Internal { reason: "WORKER_ENDED".to_owned(), message });
            }
        }
        Ok(self.counts.read())
    }
}

/// How much a worker is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    No,
    InOrder,
    Now,
}

impl Counts {
    fn read(&self) -> WorkerCounts {
        WorkerCounts {
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            handed_back: self.handed_back.load(Ordering::Relaxed),
            unknown: self.unknown.load(Ordering::Relaxed),
        }
    }
}

struct Running<F> {
    consumer: Consumer,
    handler: Arc<F>,
    parallel: usize,
    grace: Duration,
    stopped: watch::Receiver<Stop>,
    desk: Desk,
}

impl<F, R> Running<F>
where
    F: Fn(Arc<Job>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), JobError>> + Send + 'static,
{
    async fn run(mut self) -> Result<(), Error> {
        let mut jobs = JoinSet::new();
        let (cut, cuts) = watch::channel(false);
        let (mut stopped, mut stopped_now) = (self.stopped.clone(), self.stopped.clone());
        let mut over: Option<Result<(), Error>> = None;
        let mut cut_at: Option<Instant> = None;
        loop {
            let stopping = cut_at.is_some();
            if stopping && jobs.is_empty() {
                break;
            }
            let free = stopping || jobs.len() < self.parallel;
            tokio::select! {
                biased;
                () = stop(&mut stopped), if !stopping => {
                    cut_at = Some(Instant::now() + self.grace);
                    self.consumer.set_window(0)?;
                }
                () = stop_now(&mut stopped_now), if stopping && !*cut.borrow() => {
                    cut.send_replace(true);
                }
                Some(ended) = jobs.join_next() => self.desk.ended(ended),
                () = retry::until(cut_at), if !*cut.borrow() => drop(cut.send_replace(true)),
                next = self.consumer.next(), if free && over.is_none() => match next {
                    // What waited for its turn goes back without one.
                    Some(Ok(job)) if stopping => drop(jobs.spawn(hand_back(job, self.desk.clone()))),
                    Some(Ok(job)) => {
                        let (handler, desk) = (Arc::clone(&self.handler), self.desk.clone());
                        jobs.spawn(work(job, handler, desk, cuts.clone()));
                    }
                    ended => {
                        over = Some(ended.map_or(Ok(()), |ended| ended.map(drop)));
                        cut_at.get_or_insert_with(|| Instant::now() + self.grace);
                    }
                },
            }
        }
        self.consumer.close().await;
        over.unwrap_or(Ok(()))
    }
}

/// One job, from its turn to its end.
async fn work<F, R>(job: Job, handler: Arc<F>, desk: Desk, mut cuts: watch::Receiver<bool>)
where
    F: Fn(Arc<Job>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), JobError>> + Send + 'static,
{
    let job = Arc::new(job);
    let given = Arc::clone(&job);
    let handling = AssertUnwindSafe(async move { handler(given).await }).catch_unwind();
    // Its future ends here, before anybody is told.
    let handled = tokio::select! {
        biased;
        handled = handling => Some(handled.unwrap_or_else(|panic| Err(JobError::new(words(&*panic))))),
        () = job.keep() => None,
        () = said(&mut cuts) => Some(Err(JobError::new("").hand_back())),
    };
    match handled {
        Some(handled) => desk.settle(&job, handled).await,
        None => desk.lost(),
    }
}

async fn hand_back(job: Job, desk: Desk) {
    desk.settle(&job, Err(JobError::new("").hand_back())).await;
}

/// Where it is said what became of jobs.
#[derive(Clone, Debug)]
struct Desk {
    counts: Arc<Counts>,
    request_timeout: Duration,
}

impl Desk {
    /// Tells the cluster, for as long as the lease lasts if need be, as far as a call may take.
    async fn settle(&self, job: &Job, handled: Result<(), JobError>) {
        let timeout = Some(job.remaining().max(self.request_timeout));
        let options = CallOptions { timeout, ..CallOptions::default() };
        let counts = &self.counts;
        let (settled, count) = match handled {
            Ok(()) => (job.settle_done(&options).await, &counts.done),
            Err(JobError { text, then }) => {
                let mut nack = job.to_nack().error(text);
                nack.options = options;
                let (nack, count) = match then {
                    Then::Retry => (nack, &counts.failed),
                    Then::After(delay) => (nack.after(delay.min(DELAY_MAX)), &counts.failed),
                    Then::Kill => (nack.kill(), &counts.failed),
                    Then::HandBack => (nack.hand_back(), &counts.handed_back),
                };
                (job.settle(nack).await.map(drop), count)
            }
        };
        match settled {
            Ok(()) => drop(count.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                tracing::debug!(job = job.id(), %error, "a job could not be settled");
                match error.may_have_been_applied() {
                    true => drop(counts.unknown.fetch_add(1, Ordering::Relaxed)),
                    false => self.lost(),
                }
            }
        }
    }

    fn lost(&self) {
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// A job's task panics only where its future panics as it is dropped.
    fn ended(&self, ended: Result<(), tokio::task::JoinError>) {
        if ended.is_err() {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn stop(word: &mut watch::Receiver<Stop>) {
    // It fails when its sender is gone with the handle, which says the same.
    let _ = word.wait_for(|stop| *stop > Stop::No).await;
}

async fn stop_now(word: &mut watch::Receiver<Stop>) {
    if word.wait_for(|stop| *stop == Stop::Now).await.is_err() {
        std::future::pending().await
    }
}

async fn said(word: &mut watch::Receiver<bool>) {
    // It fails when the worker has ended, and then nobody is here.
    let _ = word.wait_for(|said| *said).await;
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    match said {
        Some(said) => format!("panicked: {said}"),
        None => "panicked".to_owned(),
    }
}
