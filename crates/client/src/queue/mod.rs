//! The task queue: jobs that are done at least once, under leases.

mod ack;
mod cancel;
mod consume;
mod delete;
mod extend;
mod get_job;
mod held;
mod info;
mod job;
mod list_jobs;
mod list_queues;
mod nack;
mod pause;
mod peek;
mod progress;
mod pull;
mod pump;
mod purge;
mod push;
mod redrive;
mod schedule;
mod stats;
mod stream;
mod update;
mod worker;

pub use cancel::{Cancel, Cancelled};
pub use consume::{Consume, Consumer};
pub use delete::{DeleteQueue, DeletedQueue};
pub use get_job::GetJob;
pub use info::{
    Backoff, DeadLetters, DeathCause, JobFailure, JobInfo, JobProgress, JobState, QueueInfo,
    QueueOptions, QueueTotals, Rate, WhenFull,
};
pub use job::Job;
pub use list_jobs::ListJobs;
pub use list_queues::ListQueues;
pub use nack::{Nack, Nacked};
pub use pause::{Pause, Resume};
pub use peek::Peek;
pub use pull::Pull;
pub use purge::{Purge, Purged};
pub use push::{NewJob, Push, PushMany, PushedJob};
pub use redrive::{Redrive, Redriven};
pub use schedule::{ListSchedules, PutSchedule, Repeats, Schedule, ScheduleInfo, Unschedule};
pub use stats::Stats;
pub use update::{UpdateQueue, UpdatedQueue};
pub use worker::{JobError, Worker, WorkerCounts, WorkerHandle};

use crate::Error;
use crate::client::{CallOptions, Inner};
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Task queues of one namespace. Cheap to clone.
///
/// ```no_run
/// # use quorate_client::{Client, Error};
/// # use std::time::Duration;
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let queue = client.queue();
/// queue.push("emails", "to: ann").priority(5).delay(Duration::from_secs(60)).await?;
///
/// let worker = queue
///     .worker("emails", |job| async move {
///         println!("attempt {}: {:?}", job.attempt(), job.payload());
///         // An error puts the job back, to be tried again a little later.
///         Ok(())
///     })
///     .max_parallel(8)
///     .start()
///     .await?;
/// tokio::signal::ctrl_c().await?;
/// // What runs is finished, what does not is handed back.
/// worker.stop();
/// println!("{} done", worker.join().await?.done);
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
/// As that of [`crate::KeyValue`]. What takes jobs says at its own place what becomes of them.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
    namespace: Arc<str>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Queue {
    pub(crate) fn new(inner: Arc<Inner>, namespace: Arc<str>) -> Self {
        Self { inner, namespace }
    }

    /// Adds a job. The queue is made when it is not there yet.
    #[doc(alias = "add")]
    #[doc(alias = "produce")]
    pub fn push(&self, queue: impl Into<String>, payload: impl Into<Bytes>) -> Push {
        Push::new(self.clone(), queue.into(), payload.into())
    }

    /// The same as [`Queue::push`], by the name that it has elsewhere.
    pub fn add(&self, queue: impl Into<String>, payload: impl Into<Bytes>) -> Push {
        self.push(queue, payload)
    }

    /// Adds up to 128 jobs at once, all of them or none.
    pub fn push_many(
        &self,
        queue: impl Into<String>,
        jobs: impl IntoIterator<Item = NewJob>,
    ) -> PushMany {
        PushMany::new(self.clone(), queue.into(), jobs.into_iter().collect())
    }

    /// Takes jobs that are ready, or waits until there is one; see [`Pull`].
    pub fn pull(&self, queue: impl Into<String>) -> Pull {
        Pull::new(self.clone(), queue.into())
    }

    /// Takes jobs as they become ready, up to `window` (1 to 1000) at a time that are not settled;
    /// see [`Consumer`].
    #[doc(alias = "subscribe")]
    pub fn consume(&self, queue: impl Into<String>, window: u32) -> Consume {
        Consume::new(self.clone(), queue.into(), window)
    }

    /// The same as [`Queue::consume`], by the name that it has elsewhere.
    pub fn subscribe(&self, queue: impl Into<String>, window: u32) -> Consume {
        self.consume(queue, window)
    }

    /// Has a function do jobs as they become ready; see [`Worker`].
    pub fn worker<F, R>(&self, queue: impl Into<String>, handler: F) -> Worker<F>
    where
        F: Fn(Arc<Job>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        Worker::new(self.clone(), queue.into(), handler)
    }

    /// Says that a job is done of which only the lease is known. A [`Job`] has its own
    /// [`Job::ack`].
    ///
    /// # Errors
    /// As [`Job::ack`].
    pub async fn ack(&self, queue: &str, job_id: u64, lease: u64) -> Result<(), Error> {
        ack::ack(self, queue, job_id, lease, &CallOptions::default()).await
    }

    /// Says that a job is not done of which only the lease is known; see [`Nack`]. A [`Job`] has its
    /// own [`Job::nack`].
    pub fn nack(&self, queue: impl Into<String>, job_id: u64, lease: u64) -> Nack {
        Nack::new(self.clone(), queue.into(), job_id, lease)
    }

    /// Makes a lease last `for_` from now on, up to 12 h; the queue's visibility timeout when that is
    /// zero. Answers how long it lasts, counted from before the call. A [`Job`] has its own
    /// [`Job::extend`].
    ///
    /// # Errors
    /// As [`Job::extend`].
    pub async fn extend(
        &self,
        queue: &str,
        job_id: u64,
        lease: u64,
        for_: Duration,
    ) -> Result<Duration, Error> {
        extend::extend(self, queue, job_id, lease, for_, &CallOptions::default()).await
    }

    /// Notes how far the work on a job is of which only the lease is known; see [`Job::progress`].
    ///
    /// # Errors
    /// As [`Job::progress`].
    pub async fn progress(
        &self,
        queue: &str,
        job_id: u64,
        lease: u64,
        fraction: f64,
        note: impl Into<String>,
    ) -> Result<(), Error> {
        let said = progress::Said { fraction, note: note.into() };
        progress::progress(self, queue, job_id, lease, &said, &CallOptions::default()).await
    }

    /// The jobs that come next, without taking them.
    pub fn peek(&self, queue: impl Into<String>) -> Peek {
        Peek::new(self.clone(), queue.into())
    }

    /// One job with what is in it. A dead letter is found by the queue that it came from, too.
    pub fn get_job(&self, queue: impl Into<String>, job_id: u64) -> GetJob {
        GetJob::new(self.clone(), queue.into(), job_id)
    }

    /// The jobs of a queue, in the order in which they were pushed.
    pub fn list_jobs(&self, queue: impl Into<String>) -> ListJobs {
        ListJobs::new(self.clone(), queue.into())
    }

    /// Takes a job out of its queue, whatever it is doing. Who works on it is told, and can't say
    /// that it is done.
    pub fn cancel(&self, queue: impl Into<String>, job_id: u64) -> Cancel {
        Cancel::new(self.clone(), queue.into(), job_id)
    }

    /// How many jobs a queue has, what has happened in it, and how it works.
    pub fn stats(&self, queue: impl Into<String>) -> Stats {
        Stats::new(self.clone(), queue.into())
    }

    /// The queues whose names match a pattern; see [`crate::KeyValue::list`].
    pub fn list_queues(&self, pattern: impl AsRef<[u8]>) -> ListQueues {
        ListQueues::new(self.clone(), pattern.as_ref())
    }

    /// Stops deliveries; pushes are taken, and what is being worked on goes on.
    pub fn pause(&self, queue: impl Into<String>) -> Pause {
        Pause::new(self.clone(), queue.into())
    }

    /// Lets deliveries go on.
    pub fn resume(&self, queue: impl Into<String>) -> Resume {
        Resume::new(self.clone(), queue.into())
    }

    /// Takes all jobs out of a queue, those that are worked on, too.
    pub fn purge(&self, queue: impl Into<String>) -> Purge {
        Purge::new(self.clone(), queue.into())
    }

    /// Puts dead letters back into the queue they came from; see [`Redrive`].
    pub fn redrive(&self, queue: impl Into<String>) -> Redrive {
        Redrive::new(self.clone(), queue.into())
    }

    /// Makes a queue, or changes how it works; see [`UpdateQueue`].
    pub fn update(&self, queue: impl Into<String>) -> UpdateQueue {
        UpdateQueue::new(self.clone(), queue.into())
    }

    /// Pushes a job into a queue again and again, one for each time, whoever leads then. Times that
    /// passed while nobody led count as one. A schedule of that name is replaced.
    ///
    /// ```no_run
    /// # use quorate_client::queue::{NewJob, Repeats};
    /// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
    /// let report = NewJob::new("daily");
    /// let workdays = Repeats::cron_in("0 6 * * MON-FRI", "Europe/Berlin");
    /// client.queue().schedule("daily-report", "reports", report, workdays).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn schedule(
        &self,
        name: impl Into<String>,
        queue: impl Into<String>,
        job: NewJob,
        repeats: Repeats,
    ) -> Schedule {
        Schedule::new(self.clone(), name.into(), queue.into(), job, repeats)
    }

    /// Deletes a schedule; jobs that it pushed stay.
    pub fn unschedule(&self, name: impl Into<String>) -> Unschedule {
        Unschedule::new(self.clone(), name.into())
    }

    /// The schedules whose names match a pattern.
    pub fn schedules(&self, pattern: impl AsRef<[u8]>) -> ListSchedules {
        ListSchedules::new(self.clone(), pattern.as_ref())
    }

    /// Deletes a queue with all its jobs; its consumers end. Its dead letters stay.
    pub fn delete(&self, queue: impl Into<String>) -> DeleteQueue {
        DeleteQueue::new(self.clone(), queue.into())
    }
}

/// The settings that every read of queues has.
macro_rules! read_settings {
    () => {
        crate::kv::call_settings!();

        /// Reads from whatever the node that answers has applied; see
        /// [`crate::KeyValue::get_stale`].
        pub fn stale(mut self) -> Self {
            self.consistency = quorate_proto::v1::Consistency::Stale;
            self
        }

        /// Sees this revision or a later one.
        pub fn min_revision(mut self, revision: u64) -> Self {
            self.min_revision = revision;
            self
        }
    };
}

/// Sends a request when it is awaited.
macro_rules! sent_when_awaited {
    ($request:ident => $answer:ty) => {
        impl std::future::IntoFuture for $request {
            type Output = Result<$answer, crate::Error>;
            type IntoFuture = futures::future::BoxFuture<'static, Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.send())
            }
        }
    };
}
use read_settings;
pub(crate) use sent_when_awaited;
