//! Answers requests by what a function says, several at a time.

use super::{Bus, BusEvent, Content, Message, Subscription};
use crate::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Messages handled at a time when nothing is said.
const PARALLEL: u32 = 16;
/// The most that can be said.
const PARALLEL_MAX: u32 = 1_000;

/// Why a message was not answered. Made of any error by `?`. The requester is not told; it waits
/// until its time is over.
///
/// ```
/// # use quorate_client::bus::RespondError;
/// fn double(payload: &str) -> Result<u64, RespondError> {
///     let number: u64 = payload.parse()?;
///     number.checked_mul(2).ok_or_else(|| RespondError::new("too large"))
/// }
/// # assert!(double("x").is_err() && double("4").is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RespondError(String);

impl RespondError {
    /// With this text, for the log.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl<E: fmt::Display> From<E> for RespondError {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// A responder to be started; see [`Bus::respond`].
///
/// It subscribes in a queue group, so that of all responders of the group one gets each message, and
/// gives each to the function. What that answers is the reply. A message that asks for none is given
/// to it all the same. When it answers an error, or panics, there is no reply, and the requester
/// waits until its time is over: what it should know is an answer.
///
/// While as many messages are handled as may be, others wait at the node, and are lost, the oldest
/// first, when there are too many of them: to a request that is lost so nobody answers.
#[must_use = "nothing is answered before it is started"]
pub struct Respond<F> {
    bus: Bus,
    pattern: String,
    group: String,
    handler: F,
    parallel: u32,
}

impl<F> fmt::Debug for Respond<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Respond")
            .field("pattern", &self.pattern)
            .field("group", &self.group)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

/// What a responder has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResponderCounts {
    /// Messages whose answer the requester has.
    pub answered: u64,
    /// Messages that were handled and whose answer nobody has: none was asked for, nobody waited for
    /// it any more, or it could not be sent.
    pub unheard: u64,
    /// Messages of which the function said an error, or panicked.
    pub failed: u64,
    /// Times that messages were missing.
    pub gaps: u64,
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    unheard: AtomicU64,
    failed: AtomicU64,
    gaps: AtomicU64,
}

impl<F, R> Respond<F>
where
    F: Fn(Message) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Content, RespondError>> + Send + 'static,
{
    pub(super) fn new(bus: Bus, pattern: String, group: String, handler: F) -> Self {
        Self { bus, pattern, group, handler, parallel: PARALLEL }
    }

    /// How many messages are handled at a time, 1 to 1000; default: 16.
    pub fn max_parallel(mut self, messages: u32) -> Self {
        self.parallel = messages;
        self
    }

    /// Starts it. Requests that are sent after this has answered find it.
    ///
    /// # Errors
    /// As [`Subscribe::start`](super::Subscribe::start); also when the group is empty, or the number
    /// of messages is out of bounds.
    pub async fn start(self) -> Result<Responder, Error> {
        let Self { bus, pattern, group, handler, parallel } = self;
        if !(1..=PARALLEL_MAX).contains(&parallel) {
            return Err(Error::bad_option(format!(
                "max_parallel is {parallel}; it must be 1 to {PARALLEL_MAX}"
            )));
        }
        if group.is_empty() {
            return Err(Error::bad_option(
                "the responder has no group; without one each of several would answer".to_owned(),
            ));
        }
        let subscription = bus.subscribe([pattern]).queue_group(group).start().await?;
        let (stop, stopped) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let running = Running {
            subscription,
            handler: Arc::new(handler),
            parallel: parallel as usize,
            stopped,
            counts: Arc::clone(&counts),
        };
        Ok(Responder { task: tokio::spawn(running.run()), stop, counts })
    }
}

/// A responder that runs.
///
/// # Dropping it
/// stops it as [`Responder::stop`] does, in the background.
#[derive(Debug)]
#[must_use = "a responder stops when its handle is dropped"]
pub struct Responder {
    task: JoinHandle<Result<(), Error>>,
    stop: watch::Sender<bool>,
    counts: Arc<Counts>,
}

impl Responder {
    /// Asks it to stop: it takes no more messages, and answers those that it has.
    /// [`Responder::join`] waits for that.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> ResponderCounts {
        self.counts.read()
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// Why it could not go on; see [`Subscription::next`].
    ///
    /// # Cancel safety
    /// When the future is dropped it is stopped, as it is when its handle is.
    pub async fn join(mut self) -> Result<ResponderCounts, Error> {
        match (&mut self.task).await {
            Ok(ended) => ended?,
            Err(error) => {
                let message = format!("the responder ended before its time: {error}");
                return Err(Error::Internal { reason: "RESPONDER_ENDED".to_owned(), message });
            }
        }
        Ok(self.counts.read())
    }
}

impl Counts {
    fn read(&self) -> ResponderCounts {
        ResponderCounts {
            answered: self.answered.load(Ordering::Relaxed),
            unheard: self.unheard.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            gaps: self.gaps.load(Ordering::Relaxed),
        }
    }

    /// A message's task panics only where the function does.
    fn ended(&self, ended: Result<(), tokio::task::JoinError>) {
        if ended.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Running<F> {
    subscription: Subscription,
    handler: Arc<F>,
    parallel: usize,
    stopped: watch::Receiver<bool>,
    counts: Arc<Counts>,
}

impl<F, R> Running<F>
where
    F: Fn(Message) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Content, RespondError>> + Send + 'static,
{
    async fn run(self) -> Result<(), Error> {
        let Self { mut subscription, handler, parallel, mut stopped, counts } = self;
        let mut handled = JoinSet::new();
        let over = loop {
            tokio::select! {
                biased;
                () = stop(&mut stopped) => break Ok(()),
                Some(ended) = handled.join_next() => counts.ended(ended),
                next = subscription.next(), if handled.len() < parallel => match next {
                    Some(Ok(BusEvent::Message(message))) => {
                        let (handler, counts) = (Arc::clone(&handler), Arc::clone(&counts));
                        handled.spawn(answer(message, handler, counts));
                    }
                    Some(Ok(BusEvent::Gap { missed })) => {
                        tracing::debug!(?missed, "a responder missed messages");
                        counts.gaps.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
            }
        };
        // Others of the group get what comes from now on.
        drop(subscription);
        while let Some(ended) = handled.join_next().await {
            counts.ended(ended);
        }
        over
    }
}

async fn answer<F, R>(message: Message, handler: Arc<F>, counts: Arc<Counts>)
where
    F: Fn(Message) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Content, RespondError>> + Send + 'static,
{
    let count = match handler(message.clone()).await {
        Ok(content) if message.wants_reply() => match message.reply(content).send().await {
            Ok(()) => &counts.answered,
            Err(error) => {
                tracing::debug!(channel = message.channel, %error, "an answer was not heard");
                &counts.unheard
            }
        },
        Ok(_) => &counts.unheard,
        Err(RespondError(error)) => {
            tracing::debug!(channel = message.channel, error, "a message was not answered");
            &counts.failed
        }
    };
    count.fetch_add(1, Ordering::Relaxed);
}

async fn stop(word: &mut watch::Receiver<bool>) {
    // It fails when its sender is gone with the handle, which says the same.
    let _ = word.wait_for(|stop| *stop).await;
}
