//! A consumer: takes a job whenever somebody wants one, and waits for news when there is none.

use super::{Effect, Parts, SETTLE, TAKE, VISIBILITY, job_lost, millis};
use super::{Inner, RETRY};
use crate::Error;
use crate::broker::redis::bus;
use crate::broker::{Answer, BusEvent, Delivery, Items};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use redis::{FromRedisValue as _, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The most jobs that a consumer may have at a time.
const PARALLEL_MAX: u32 = 1_000;
/// How often is looked without any news: they may have been lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often taking may fail, one time after the other, before the consumer ends.
const FAILURES_MAX: u32 = 6;

pub(crate) async fn consume(
    inner: &Arc<Inner>,
    queue: &str,
    max_parallel: u32,
) -> Result<Items<Box<dyn Delivery>>, Error> {
    if !(1..=PARALLEL_MAX).contains(&max_parallel) {
        return Err(Error::bad_option(format!(
            "max_parallel is {max_parallel}; it must be 1 to {PARALLEL_MAX}"
        )));
    }
    let parts = Arc::new(Parts::new(inner, queue)?);
    // Before the first look, so that nothing falls between.
    let news = bus::listen(inner, &parts.channel).await?;
    let places = Arc::new(Semaphore::new(max_parallel as usize));
    let consumer = Consumer { inner: Arc::clone(inner), parts, places, news };
    let jobs = futures::stream::unfold(Some(consumer), |consumer| async move {
        let mut consumer = consumer?;
        match consumer.next().await {
            Ok(job) => Some((Ok(Box::new(job) as Box<dyn Delivery>), Some(consumer))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(jobs.boxed())
}

struct Consumer {
    inner: Arc<Inner>,
    parts: Arc<Parts>,
    /// One for each job that may be unsettled.
    places: Arc<Semaphore>,
    news: Items<BusEvent>,
}

/// What was found: a job, or after how long there may be one.
enum Look {
    Job(Job),
    None(Duration),
}

impl Consumer {
    async fn next(&mut self) -> Result<Job, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let mut place = Some(place);
        let mut failures = 0;
        loop {
            // Old news, before looking.
            while let Some(Some(news)) = self.news.next().now_or_never() {
                news?;
            }
            let pause = match look(Arc::clone(&self.inner), Arc::clone(&self.parts)).await {
                Ok(Look::Job(mut job)) => {
                    job.place = place.take();
                    return Ok(job);
                }
                Ok(Look::None(pause)) => {
                    failures = 0;
                    pause.min(LOOK_EVERY)
                }
                // What was taken without anybody hearing of it comes again when its lease ends.
                Err(Error::Unavailable { .. } | Error::Indeterminate { .. })
                    if failures < FAILURES_MAX =>
                {
                    failures += 1;
                    LOOK_EVERY
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                news = self.news.next() => drop(news.transpose()?),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Takes the next job. Goes on when nobody waits any more, and hands back what it got then.
async fn look(inner: Arc<Inner>, parts: Arc<Parts>) -> Result<Look, Error> {
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        let look = take(inner, parts).await;
        if let Err(Ok(Look::Job(job))) = answer.send(look)
            && let Err(error) = job.settle("return", None).await
        {
            let id = &job.id;
            tracing::debug!(id, %error, "a job was not handed back; its lease ends");
        }
    });
    answered.await.unwrap_or_else(|_| {
        Err(Error::bad_answer("what takes jobs ended before its time".to_owned()))
    })
}

async fn take(inner: Arc<Inner>, parts: Arc<Parts>) -> Result<Look, Error> {
    let visibility_ms = millis(VISIBILITY).to_string();
    let how = ("queue take", Effect::EachTime);
    let answer: Vec<Value> =
        parts.run(&inner, how, &TAKE, &[], &[visibility_ms.as_bytes()]).await?;
    let strange = || Error::bad_answer(format!("queue take was answered by {answer:?}"));
    match &answer[..] {
        [due_ms] => {
            let due_ms = i64::from_redis_value_ref(due_ms).map_err(|_| strange())?;
            let due = u64::try_from(due_ms).map_or(LOOK_EVERY, Duration::from_millis);
            Ok(Look::None(due))
        }
        [_, id, payload, attempt, lease] => {
            let id = String::from_redis_value_ref(id).map_err(|_| strange())?;
            let payload = Vec::<u8>::from_redis_value_ref(payload).map_err(|_| strange())?;
            let attempt = u32::from_redis_value_ref(attempt).map_err(|_| strange())?;
            let lease = String::from_redis_value_ref(lease).map_err(|_| strange())?;
            let payload = payload.into();
            Ok(Look::Job(Job { inner, parts, id, payload, attempt, lease, place: None }))
        }
        _ => Err(strange()),
    }
}

/// A job that was taken.
struct Job {
    inner: Arc<Inner>,
    parts: Arc<Parts>,
    id: String,
    payload: Bytes,
    attempt: u32,
    lease: String,
    /// Free again when it is settled, or dropped.
    place: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("lease", &self.lease)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Job {
    async fn settle(&self, how: &str, time: Option<Duration>) -> Result<(), Error> {
        let ms = time.map_or_else(|| "-1".to_owned(), |time| millis(time).to_string());
        let retry_ms = millis(RETRY).to_string();
        // To extend it twice is to extend it once; whatever settles it leaves nothing to settle.
        let effect = if how == "extend" { Effect::Once } else { Effect::EachTime };
        let arguments = [&self.id, &self.lease, how, &ms, &retry_ms].map(str::as_bytes);
        let call = ("queue settle", effect);
        let leased = self.parts.run(&self.inner, call, &SETTLE, &[], &arguments).await?;
        match leased {
            true => Ok(()),
            false => Err(job_lost(&self.id)),
        }
    }
}

impl Delivery for Job {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn payload(&self) -> &Bytes {
        &self.payload
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move { self.settle("ack", None).await })
    }

    fn nack(self: Box<Self>, delay: Option<Duration>) -> Answer<'static, ()> {
        Box::pin(async move { self.settle("nack", delay).await })
    }

    fn extend(&self, for_: Duration) -> Answer<'_, ()> {
        Box::pin(self.settle("extend", Some(for_)))
    }
}
