//! What a check works with: adapters, and waiting with a deadline.

use super::Factory;
use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use quorate_client::Error;
use quorate_client::broker::{Broker, BusEvent, Delivery, Items, Message};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long what has to happen is waited for.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(20);
/// By how much clocks of different processes, and their rounding, may differ.
const EARLY_MAX: Duration = Duration::from_millis(30);
/// As large as a payload has to be able to be.
const LARGE_BYTES: usize = 1_000_000;

/// Adapters for one check.
pub(crate) struct Stage {
    /// An adapter.
    pub(super) one: Arc<dyn Broker>,
    /// Another one of the same namespace, as another process would have.
    pub(super) other: Arc<dyn Broker>,
    factory: Factory,
    namespace: String,
}

impl Stage {
    pub(super) async fn new(factory: Factory, namespace: String) -> Result<Self> {
        let make = || factory(namespace.clone());
        let one = make().await.context("the factory made no adapter")?;
        let other = make().await.context("the factory made no second adapter")?;
        Ok(Self { one, other, factory, namespace })
    }

    /// An adapter of another namespace.
    pub(super) async fn elsewhere(&self) -> Result<Arc<dyn Broker>> {
        let made = (self.factory)(format!("{}-elsewhere", self.namespace)).await;
        made.context("the factory made no adapter for another namespace")
    }
}

/// Waits for something that has to come.
pub(super) async fn within<T>(what: &str, coming: impl Future<Output = T>) -> Result<T> {
    match tokio::time::timeout(WAIT_MAX, coming).await {
        Ok(come) => Ok(come),
        Err(_) => bail!("{what} did not come within {WAIT_MAX:?}"),
    }
}

/// Waits until something is so.
pub(super) async fn eventually<R>(what: &str, mut is_so: impl FnMut() -> R) -> Result<()>
where
    R: Future<Output = Result<bool>>,
{
    let end = Instant::now() + WAIT_MAX;
    while !is_so().await? {
        ensure!(Instant::now() < end, "{what} was not so within {WAIT_MAX:?}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// That something took this long at least.
pub(super) fn not_before(what: &str, begun: Instant, time: Duration) -> Result<()> {
    let took = begun.elapsed();
    ensure!(took + EARLY_MAX >= time, "{what} after {took:?}, which is before {time:?}");
    Ok(())
}

/// The next message, which there has to be.
pub(super) async fn message(events: &mut Items<BusEvent>) -> Result<Message> {
    match within("a message", events.next()).await? {
        Some(Ok(BusEvent::Message(message))) => Ok(message),
        Some(Ok(BusEvent::Gap { missed })) => {
            bail!("a gap of {missed:?} messages, though nothing failed")
        }
        Some(Err(error)) => Err(error).context("a subscription ended"),
        None => bail!("a subscription ended without an error"),
    }
}

/// The next job, which there has to be.
pub(super) async fn job(jobs: &mut Items<Box<dyn Delivery>>) -> Result<Box<dyn Delivery>> {
    come(within("a job", jobs.next()).await?)
}

/// The next job of either.
pub(super) async fn job_of_either(
    one: &mut Items<Box<dyn Delivery>>,
    other: &mut Items<Box<dyn Delivery>>,
) -> Result<Box<dyn Delivery>> {
    let next = async {
        tokio::select! {
            job = one.next() => job,
            job = other.next() => job,
        }
    };
    come(within("a job", next).await?)
}

fn come(job: Option<Result<Box<dyn Delivery>, Error>>) -> Result<Box<dyn Delivery>> {
    match job {
        Some(job) => job.context("a consumer ended"),
        None => bail!("a consumer ended without an error"),
    }
}

/// The next job, which has to have this in it.
pub(super) async fn job_with(
    jobs: &mut Items<Box<dyn Delivery>>,
    payload: &str,
) -> Result<Box<dyn Delivery>> {
    let job = job(jobs).await?;
    let found = String::from_utf8_lossy(job.payload()).into_owned();
    ensure!(found == payload, "job {found:?} came where {payload:?} was to come");
    Ok(job)
}

/// That a call failed as it should.
pub(super) fn failed<T>(
    what: &str,
    answer: Result<T, Error>,
    fitting: impl Fn(&Error) -> bool,
) -> Result<Error> {
    match answer {
        Ok(_) => bail!("{what} did not fail"),
        Err(error) if fitting(&error) => Ok(error),
        Err(error @ Error::Unsupported { .. }) => Err(error.into()),
        Err(error) => bail!("{what} failed as {error:?}"),
    }
}

/// Whether something is not of the type that was asked for.
pub(super) fn is_not_the_type(error: &Error) -> bool {
    matches!(error, Error::InvalidArgument { reason, .. } if reason == "NOT_THE_TYPE")
}

/// Payloads that a careless adapter does not bring through.
pub(super) fn payloads() -> Vec<Vec<u8>> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = every_byte.iter().copied().cycle().take(LARGE_BYTES).collect();
    vec![Vec::new(), every_byte, b"\xff\xfe\r\n\0$-1\r\n".to_vec(), large]
}

/// How a payload is shown.
pub(super) fn shown(bytes: &[u8]) -> String {
    format!("{} bytes beginning {:?}", bytes.len(), &bytes[..bytes.len().min(16)])
}

pub(super) fn elapsed(time: Duration) -> impl fmt::Display {
    format!("{} s", time.as_secs())
}
