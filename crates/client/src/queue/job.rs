//! A job that was taken: what is in it, and what may be said of it.

use super::held::{Holder, Lease, Waiting};
use super::{Nack, Nacked, Queue, ack, extend, info, nack, progress};
use crate::Error;
use crate::client::CallOptions;
use crate::trace::TraceContext;
use bytes::Bytes;
use quorate_proto::v1::DeliveredJob;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How often [`Job::keep`] tries again at most, and how long it tries at least.
const KEEP_PAUSE_MIN: Duration = Duration::from_millis(50);
const KEEP_TRY_MIN: Duration = Duration::from_secs(1);

/// A job that was taken, under a lease. While that lasts nobody else gets it; settle it in time, or
/// [extend](Job::extend) the lease.
///
/// A job is done at least once: when its lease ends, because this process was stopped or could not
/// reach the cluster, another one works on it as well. Whoever comes too late is told
/// ([`Error::JobLost`]); what it has done elsewhere by then is done. So make what jobs do repeatable.
///
/// # Dropping it
/// without a word counts as a failed attempt: that is told in the background, as well as that can be
/// done, and the job is tried again as its queue says. One that was never handed out is handed back.
pub struct Job {
    queue: Queue,
    name: Arc<str>,
    job: DeliveredJob,
    lease: Arc<Lease>,
    /// Who has it, unless it was pulled.
    holder: Option<Arc<Holder>>,
    settled: AtomicBool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("queue", &self.name)
            .field("id", &self.job.job_id)
            .field("lease", &self.job.lease)
            .field("attempt", &self.job.attempt)
            .field("is_withdrawn", &self.is_withdrawn())
            .finish_non_exhaustive()
    }
}

impl Job {
    pub(super) fn pulled(queue: &Queue, name: &Arc<str>, job: DeliveredJob) -> Self {
        let lease = Arc::new(Lease::of(&job));
        Self::new(queue, name, Waiting { job, lease }, None)
    }

    pub(super) fn consumed(
        queue: &Queue,
        name: &Arc<str>,
        waiting: Waiting,
        holder: &Arc<Holder>,
    ) -> Self {
        Self::new(queue, name, waiting, Some(Arc::clone(holder)))
    }

    fn new(queue: &Queue, name: &Arc<str>, waiting: Waiting, holder: Option<Arc<Holder>>) -> Self {
        let Waiting { job, lease } = waiting;
        let (queue, name) = (queue.clone(), Arc::clone(name));
        Self { queue, name, job, lease, holder, settled: AtomicBool::new(false) }
    }

    /// Its id, unique in the cluster.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.job.job_id
    }

    /// The queue it was taken from.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.name
    }

    /// What it is leased under; another one with each delivery.
    #[must_use]
    pub fn lease(&self) -> u64 {
        self.job.lease
    }

    /// How often it was delivered, this time included, since it was pushed or put back.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.job.attempt
    }

    /// As it was pushed.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.job.payload
    }

    /// Of the payload, as it was pushed; may be empty.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.job.content_type
    }

    /// Names and values that go with it, as they were pushed.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.job.headers.iter().map(|header| (header.name.as_str(), &header.value))
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers().find(|(of, _)| *of == name).map(|(_, value)| value)
    }

    /// The span it was pushed in, if its pusher said so; see [`crate::Options::trace_context`].
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::of(|name| self.header(name).map(|value| &value[..]))
    }

    /// As it was pushed.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.job.priority
    }

    /// As it was pushed; empty when it has none.
    #[must_use]
    pub fn group(&self) -> &Bytes {
        &self.job.group
    }

    /// When it was pushed, by the cluster's wall clock.
    #[must_use]
    pub fn pushed_at(&self) -> SystemTime {
        info::wall_time(self.job.pushed_unix_ms)
    }

    /// How long its lease lasts, as far as is known here: counted from when the job arrived, or from
    /// when an extension was asked for. The cluster's own count decides.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.lease.until().saturating_duration_since(Instant::now())
    }

    /// Whether it is known not to be this process's any more.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.lease.is_withdrawn()
    }

    /// Resolves when it is known not to be this process's any more: its lease ran out, it was
    /// cancelled or purged, or its session ended. A consumer is told; of a job that was pulled it is
    /// noticed when something is said of it.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn withdrawn(&self) {
        self.lease.withdrawn().await;
    }

    /// It is done, and will not be delivered again.
    ///
    /// # Errors
    /// [`Error::JobLost`] when its lease has ended: somebody else does it as well, or has. Otherwise
    /// as a mutation; then it may be delivered again when its lease ends.
    ///
    /// # Cancel safety
    /// When the future is dropped the job may or may not be done; if not, it is delivered again when
    /// its lease ends.
    pub async fn ack(self) -> Result<(), Error> {
        self.settle_done(&CallOptions::default()).await
    }

    /// It failed: it is tried again as the queue's backoff says, or given up if that was its last
    /// attempt. Of the error the first 1024 bytes are kept.
    ///
    /// # Errors
    /// As [`Job::ack`].
    pub async fn nack(self, error: impl Into<String>) -> Result<Nacked, Error> {
        self.settle(self.to_nack().error(error)).await
    }

    /// It failed, and is tried again after this long, up to 366 days, or given up if that was its
    /// last attempt.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the time is longer; then it has failed as one that was dropped.
    /// Otherwise as [`Job::ack`].
    pub async fn nack_after(
        self,
        delay: Duration,
        error: impl Into<String>,
    ) -> Result<Nacked, Error> {
        if delay > nack::DELAY_MAX {
            return Err(Error::bad_option(format!(
                "delay is {delay:?}; it must be at most 366 days"
            )));
        }
        self.settle(self.to_nack().after(delay).error(error)).await
    }

    /// It failed, and would again: it is given up at once.
    ///
    /// # Errors
    /// As [`Job::ack`].
    pub async fn kill(self, error: impl Into<String>) -> Result<Nacked, Error> {
        self.settle(self.to_nack().kill().error(error)).await
    }

    /// It was not tried: it is ready at once, at its old place, as if it had not been delivered.
    ///
    /// # Errors
    /// As [`Job::ack`].
    pub async fn hand_back(self) -> Result<Nacked, Error> {
        self.settle(self.to_nack().hand_back()).await
    }

    /// Stops caring for it without a word: it is leased until its time is over, or whoever knows the
    /// lease settles it. Answers the lease.
    #[must_use]
    pub fn leave(self) -> u64 {
        self.settled.store(true, Ordering::Relaxed);
        if let Some(holder) = &self.holder {
            holder.leave(self.lease.job_id, self.lease.number);
        }
        self.job.lease
    }

    /// Makes its lease last this long from now on, up to 12 h; the queue's visibility timeout when
    /// that is zero. Answers how long it lasts, counted from before the call.
    ///
    /// # Errors
    /// [`Error::JobLost`] when it has ended already. Otherwise as a read.
    pub async fn extend(&self, for_: Duration) -> Result<Duration, Error> {
        let sent_at = Instant::now();
        let options = CallOptions::default();
        let (id, lease) = (self.job.job_id, self.job.lease);
        let extended = extend::extend(&self.queue, &self.name, id, lease, for_, &options).await;
        let left = self.noticed(extended)?;
        self.lease.set_until(sent_at + left);
        Ok(left)
    }

    /// Extends its lease again and again, whenever a third of it is over, for as long as the future
    /// is polled; resolves when the job is withdrawn. A [`crate::queue::Worker`] does it by itself.
    ///
    /// ```no_run
    /// # async fn work(_: &quorate_client::Job) {}
    /// # async fn example(job: quorate_client::Job) -> Result<(), quorate_client::Error> {
    /// tokio::select! {
    ///     () = work(&job) => job.ack().await?,
    ///     () = job.keep() => println!("somebody else does it"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn keep(&self) {
        let mut every = self.remaining() / 3;
        let mut next_at = Instant::now() + every;
        loop {
            // Somebody may have extended it by more.
            let until = self.lease.until();
            let due = next_at.max(until.checked_sub(2 * every).unwrap_or(next_at));
            tokio::select! {
                biased;
                () = self.withdrawn() => return,
                () = tokio::time::sleep_until(due) => {}
            }
            if self.lease.until() != until {
                continue;
            }
            let sent_at = Instant::now();
            let plan = extend::plan(&self.queue, sent_at + every.max(KEEP_TRY_MIN));
            let job = (&self.name[..], self.job.job_id, self.job.lease);
            match extend::send(&self.queue, &plan, job, Duration::ZERO).await {
                Ok(left) => {
                    self.lease.set_until(sent_at + left);
                    every = left / 3;
                    next_at = sent_at + every.max(KEEP_PAUSE_MIN);
                }
                Err(failure) => {
                    let error = Error::from(failure);
                    tracing::debug!(job = self.job.job_id, %error, "a lease was not extended");
                    // In time without a quorum no lease ends, so there is hope until this is said.
                    if self.noticed(Err::<(), _>(error)).is_err() && self.is_withdrawn() {
                        return;
                    }
                    next_at = Instant::now() + (every / 8).max(KEEP_PAUSE_MIN);
                }
            }
        }
    }

    /// Notes how far the work is, from 0 to 1, for those who look at the job; of the note the first
    /// 1024 bytes are kept. The lease is as long as it was.
    ///
    /// # Errors
    /// [`Error::JobLost`] when its lease has ended. Otherwise as a read.
    pub async fn progress(&self, fraction: f64, note: impl Into<String>) -> Result<(), Error> {
        let said = progress::Said { fraction, note: note.into() };
        let options = CallOptions::default();
        let (id, lease) = (self.job.job_id, self.job.lease);
        let noted = progress::progress(&self.queue, &self.name, id, lease, &said, &options).await;
        self.noticed(noted)
    }

    pub(super) async fn settle_done(&self, options: &CallOptions) -> Result<(), Error> {
        self.settled.store(true, Ordering::Relaxed);
        let (id, lease) = (self.job.job_id, self.job.lease);
        let acked = ack::ack(&self.queue, &self.name, id, lease, options).await;
        self.over(acked)
    }

    pub(super) async fn settle(&self, nack: Nack) -> Result<Nacked, Error> {
        self.settled.store(true, Ordering::Relaxed);
        let nacked = nack.send().await;
        self.over(nacked)
    }

    pub(super) fn to_nack(&self) -> Nack {
        Nack::new(self.queue.clone(), self.name.to_string(), self.job.job_id, self.job.lease)
    }

    /// It was settled, or at least that was tried.
    fn over<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        let answer = self.noticed(answer);
        self.let_go();
        answer
    }

    fn noticed<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        let lost = match &answer {
            Err(Error::JobLost { .. }) => true,
            // With its queue everything in it is gone.
            Err(Error::NotFound { reason, .. }) => reason == "QUEUE_UNKNOWN",
            _ => false,
        };
        if lost {
            self.lease.withdraw();
        }
        answer
    }

    fn let_go(&self) {
        if let Some(holder) = &self.holder {
            holder.settled(self.lease.job_id, self.lease.number);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if *self.settled.get_mut() || self.is_withdrawn() {
            return self.let_go();
        }
        let (holder, lease) = (self.holder.take(), Arc::clone(&self.lease));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Nobody can be told, and it stays leased.
            if let Some(holder) = holder {
                holder.leave(lease.job_id, lease.number);
            }
            return;
        };
        let nack = self.to_nack().error("it was dropped without a word");
        // Ends by itself within its deadline.
        drop(runtime.spawn(async move {
            nack.send_quietly().await;
            // Not before: after a break meanwhile it would be handed out as if it were another job.
            if let Some(holder) = holder {
                holder.settled(lease.job_id, lease.number);
            }
        }));
    }
}
