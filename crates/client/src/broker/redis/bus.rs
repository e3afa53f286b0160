//! The bus: `PUBLISH` and `PSUBSCRIBE`, with a connection for each subscription that is made again.

use super::connection::Effect;
use super::inbox::Inbox;
use super::{Inner, glob, names};
use crate::Error;
use crate::broker::{BusEvent, Items, Message};
use bytes::Bytes;
use futures::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{RedisError, cmd};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Patterns of one subscription.
const PATTERNS: RangeInclusive<usize> = 1..=64;
/// How often the server is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long going on may take when the connection broke.
const RESUME_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it is waited before a connection is tried again.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn publish(
    inner: &Inner,
    channel: &str,
    payload: Bytes,
) -> Result<Option<u64>, Error> {
    names::check_value(&payload)?;
    let publish = cmd("PUBLISH").arg(inner.names.channel(channel)?).arg(&payload[..]).to_owned();
    let count = inner
        .connection
        .call("publish", Effect::EachTime, |mut connection| {
            let publish = &publish;
            async move { publish.query_async(&mut connection).await }
        })
        .await?;
    Ok(Some(count))
}

pub(super) async fn subscribe(
    inner: &Arc<Inner>,
    patterns: &[String],
) -> Result<Items<BusEvent>, Error> {
    let count = patterns.len();
    if !PATTERNS.contains(&count) {
        let (least, most) = PATTERNS.into_inner();
        return Err(Error::bad_option(format!(
            "the subscription has {count} patterns; it must have {least} to {most}"
        )));
    }
    let prefix = inner.names.bus_prefix();
    let patterns = patterns.iter().map(|pattern| names::pattern(prefix, pattern.as_bytes()));
    let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
    let listener = Listener::new(Arc::clone(inner), patterns, prefix.len()).await?;
    Ok(listener.into_items())
}

/// Hears what is published in the channels of a queue that tell of its jobs.
pub(super) async fn listen(inner: &Arc<Inner>, channel: &[u8]) -> Result<Items<BusEvent>, Error> {
    let patterns = vec![glob::escape(channel)];
    Ok(Listener::new(Arc::clone(inner), patterns, channel.len()).await?.into_items())
}

/// A subscription: a task fills its inbox.
struct Listener {
    inbox: Arc<Inbox>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Halves = (PubSubSink, PubSubStream);

impl Listener {
    async fn new(
        inner: Arc<Inner>,
        patterns: Vec<Vec<u8>>,
        prefix_bytes: usize,
    ) -> Result<Self, Error> {
        let until = Instant::now() + inner.connection.request_timeout();
        let first = connect(&inner, &patterns, until).await?;
        let inbox = Arc::new(Inbox::default());
        let filling = fill(inner, patterns, prefix_bytes, first, Arc::clone(&inbox));
        Ok(Self { inbox, task: tokio::spawn(filling) })
    }

    fn into_items(self) -> Items<BusEvent> {
        futures::stream::unfold(Some(self), |listener| async move {
            let listener = listener?;
            match listener.inbox.next().await {
                Ok(event) => Some((Ok(event), Some(listener))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

/// A connection on which all patterns are subscribed to.
async fn connect(inner: &Inner, patterns: &[Vec<u8>], until: Instant) -> Result<Halves, Error> {
    let connecting = async {
        loop {
            match try_connect(inner, patterns).await {
                Ok(halves) => return Ok(halves),
                Err(error) if Instant::now() + PAUSE >= until => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    match tokio::time::timeout_at(until, connecting).await {
        Ok(Ok(halves)) => Ok(halves),
        Ok(Err(error)) => Err(inner.connection.not_connected(&error.to_string())),
        Err(_) => Err(inner.connection.not_connected("it does not answer")),
    }
}

async fn try_connect(inner: &Inner, patterns: &[Vec<u8>]) -> Result<Halves, RedisError> {
    let mut connection = inner.connection.client().get_async_pubsub().await?;
    for pattern in patterns {
        connection.psubscribe(pattern).await?;
    }
    Ok(connection.split())
}

/// Reads without a pause, so that nothing piles up on the way; makes the connection again.
async fn fill(
    inner: Arc<Inner>,
    patterns: Vec<Vec<u8>>,
    prefix_bytes: usize,
    mut halves: Halves,
    inbox: Arc<Inbox>,
) {
    loop {
        read(&mut halves, &patterns, prefix_bytes, &inbox).await;
        // The old one is let go before the new one is made.
        drop(halves);
        match connect(&inner, &patterns, Instant::now() + RESUME_TIMEOUT).await {
            Ok(new) => halves = new,
            Err(error) => return inbox.end(error),
        }
        // Nobody counts what was published meanwhile.
        inbox.push(BusEvent::Gap { missed: None });
    }
}

/// Reads until the connection breaks, or does not answer.
async fn read(
    (sink, messages): &mut Halves,
    patterns: &[Vec<u8>],
    prefix_bytes: usize,
    inbox: &Inbox,
) {
    let mut ping_at = Instant::now() + PING_EVERY;
    loop {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return };
                let channel = message.get_channel_name().as_bytes();
                // One that several patterns match comes by each of them.
                let first = patterns.iter().find(|pattern| glob::matches(pattern, channel));
                let by: Option<Vec<u8>> = message.get_pattern().ok();
                if first.is_some() && first != by.as_ref() {
                    continue;
                }
                let name = channel.get(prefix_bytes..).unwrap_or_default();
                inbox.push(BusEvent::Message(Message {
                    channel: String::from_utf8_lossy(name).into_owned(),
                    payload: Bytes::copy_from_slice(message.get_payload_bytes()),
                }));
            }
            () = tokio::time::sleep_until(ping_at) => {
                let pinged = tokio::time::timeout(PING_EVERY, sink.ping::<redis::Value>()).await;
                if !matches!(pinged, Ok(Ok(_))) {
                    return;
                }
                ping_at = Instant::now() + PING_EVERY;
            }
        }
    }
}
