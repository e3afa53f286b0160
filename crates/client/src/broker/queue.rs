//! Task queues over any adapter.

use super::{Answer, Broker, Items, json};
use crate::Error;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A job to be pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewJob {
    /// What is in it.
    pub payload: Bytes,
    /// It is ready after this long.
    pub delay: Duration,
    /// Jobs of a higher one come first.
    pub priority: u8,
    /// 1 to 255 bytes: a job pushed into the queue under the same key is not pushed again for five
    /// minutes, whatever has become of it.
    pub dedupe_key: Option<Bytes>,
}

impl NewJob {
    /// A job with these bytes, ready at once, of priority 0.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// A job with a value written as JSON.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_SERIALIZABLE` when the value can't be JSON.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Ok(Self::new(json::encode(value)?))
    }

    /// It is ready after this long.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Jobs of a higher one come first.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// A job pushed under the same key is not pushed again for five minutes.
    #[must_use]
    pub fn dedupe_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.dedupe_key = Some(Bytes::copy_from_slice(key.as_ref()));
        self
    }
}

/// A job is in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedJob {
    /// Its id, unique in its queue. Of a duplicate: that of the first one.
    pub id: String,
    /// Whether it had been pushed before, under the same dedupe key.
    pub duplicate: bool,
}

/// How a queue works; what is not named stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// A job that was delivered is delivered again when it is neither settled nor extended for this
    /// long, at least 1 s; 30 s when nothing is ever said.
    pub visibility: Option<Duration>,
    /// A job that was delivered so often is given up when it fails again; 0: never. 5 when nothing is
    /// ever said.
    pub attempts_max: Option<u32>,
    /// How long a job waits that failed without saying how long. When nothing is ever said it is as
    /// the adapter thinks fit.
    pub retry_delay: Option<Duration>,
}

/// How many jobs a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Jobs that can be delivered.
    pub ready: u64,
    /// Jobs that wait for their time.
    pub delayed: u64,
    /// Jobs that are worked on.
    pub leased: u64,
    /// Jobs that were given up, and are in `<name>.dead`.
    pub dead: u64,
}

/// A job that was delivered, under a lease. While that lasts nobody else gets it.
///
/// Dropping it without a word counts as a failed attempt, which becomes known when its lease ends, or
/// sooner.
pub trait Delivery: fmt::Debug + Send + Sync {
    /// Its id.
    fn id(&self) -> String;

    /// As it was pushed.
    fn payload(&self) -> &Bytes;

    /// How often it was delivered, this time included.
    fn attempt(&self) -> u32;

    /// It is done, and will not be delivered again. [`Error::JobLost`] when its lease has ended:
    /// somebody else does it as well, or has.
    fn ack(self: Box<Self>) -> Answer<'static, ()>;

    /// It failed: it is delivered again after this long, or after what its queue says; or it is given
    /// up if that was its last attempt. Errors as those of [`Delivery::ack`].
    fn nack(self: Box<Self>, delay: Option<Duration>) -> Answer<'static, ()>;

    /// Makes its lease last this long from now on. Errors as those of [`Delivery::ack`].
    fn extend(&self, for_: Duration) -> Answer<'_, ()>;
}

impl dyn Delivery {
    /// The payload, read as JSON.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_THE_TYPE` when it is not JSON of this type. The
    /// job can be settled all the same.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json::decode(&format!("job {}", self.id()), self.payload())
    }
}

/// Pushes and takes jobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    broker: Arc<dyn Broker>,
}

impl Queue {
    /// Over this adapter.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker }
    }

    /// Adds a job with a value written as JSON.
    ///
    /// # Errors
    /// `NOT_SERIALIZABLE` when it can't be JSON; otherwise those of [`Broker::queue_push`].
    pub async fn add(
        &self,
        queue: &str,
        value: &(impl Serialize + Sync + ?Sized),
    ) -> Result<PushedJob, Error> {
        self.push(queue, NewJob::json(value)?).await
    }

    /// Adds a job with all that can be said of one.
    ///
    /// # Errors
    /// Those of [`Broker::queue_push`].
    pub async fn push(&self, queue: &str, job: NewJob) -> Result<PushedJob, Error> {
        self.broker.queue_push(queue, job).await
    }

    /// Takes jobs as they become ready, up to so many at a time that are not settled. Dropping the
    /// answer ends it.
    ///
    /// # Errors
    /// Those of [`Broker::queue_consume`].
    pub async fn subscribe(
        &self,
        queue: &str,
        max_parallel: u32,
    ) -> Result<Items<Box<dyn Delivery>>, Error> {
        self.broker.queue_consume(queue, max_parallel).await
    }

    /// Makes a queue, or changes how it works.
    ///
    /// # Errors
    /// Those of [`Broker::queue_update`].
    pub async fn update(&self, queue: &str, settings: QueueSettings) -> Result<(), Error> {
        self.broker.queue_update(queue, settings).await
    }

    /// How many jobs there are.
    ///
    /// # Errors
    /// Those of [`Broker::queue_counts`].
    pub async fn counts(&self, queue: &str) -> Result<QueueCounts, Error> {
        self.broker.queue_counts(queue).await
    }
}
