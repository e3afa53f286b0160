//! `queue consume`: jobs as they become ready, on whichever nodes.

use super::held::Holder;
use super::pump::Pump;
use super::stream::Wish;
use super::{Job, Queue};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::call_settings;
use futures::Stream;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The most jobs that a consumer may have at a time.
pub(super) const WINDOW_MAX: u32 = 1_000;

/// How long its end is waited for in all; what is left then is done in the background.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A consumer to be started.
#[derive(Clone, Debug)]
#[must_use = "nothing is consumed before it is started"]
pub struct Consume {
    queue: Queue,
    name: String,
    window: u32,
    options: CallOptions,
}

impl Consume {
    pub(super) fn new(queue: Queue, name: String, window: u32) -> Self {
        Self { queue, name, window, options: CallOptions::default() }
    }

    call_settings!();

    /// Starts it. The queue is made when it is not there yet.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the window is not 1 to 1000; otherwise as a mutation, but
    /// nothing of it stays: a consumer that nobody heard of gets no jobs.
    pub async fn start(self) -> Result<Consumer, Error> {
        let Self { queue, name, window, options } = self;
        if window == 0 {
            return Err(Error::bad_option("window is 0; it must be 1 to 1000".to_owned()));
        }
        check(window)?;
        let name: Arc<str> = name.into();
        let holder = Arc::new(Holder::default());
        let wishes = watch::Sender::new(Wish { window, closing: false });
        let subscribed = wishes.subscribe();
        let mut pump = Pump::new(queue.clone(), Arc::clone(&name), Arc::clone(&holder), subscribed);
        let first = pump.open(&options).await?;
        let pumping = Some(tokio::spawn(pump.run(first)));
        Ok(Consumer { queue, name, holder, wishes, pumping })
    }
}

fn check(window: u32) -> Result<(), Error> {
    match window {
        0..=WINDOW_MAX => Ok(()),
        more => {
            Err(Error::bad_option(format!("window is {more}; it must be at most {WINDOW_MAX}")))
        }
    }
}

/// Takes jobs as they become ready.
///
/// It goes on by itself when its node fails, at another one, and keeps what it had; it gives up only
/// when its queue is deleted, or it is refused. What it has not settled ends with the client's
/// session, to which it is bound, and goes to others then. With [`crate::Options::one_shot`] it is
/// bound to nothing: its jobs end with their leases, and those that wait here when its stream breaks
/// go back.
///
/// The jobs of its window wait here in memory until they are handed out, and their leases go on: a
/// window should not be larger than what is worked on at once, and a little to spare.
///
/// # Dropping it
/// ends it in the background: what was not handed out goes back. Jobs that were handed out can be
/// settled all the same, but nobody is told any more that they were withdrawn.
pub struct Consumer {
    queue: Queue,
    name: Arc<str>,
    holder: Arc<Holder>,
    wishes: watch::Sender<Wish>,
    pumping: Option<JoinHandle<()>>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("queue", &self.name)
            .field("wish", &*self.wishes.borrow())
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// The next job; waits for it. None after an error.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the queue was deleted; otherwise what no other node would answer
    /// differently.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Job, Error>> {
        let next = self.holder.next().await?;
        Some(next.map(|waiting| Job::consumed(&self.queue, &self.name, waiting, &self.holder)))
    }

    /// As a stream of what [`Consumer::next`] answers.
    pub fn into_stream(self) -> impl Stream<Item = Result<Job, Error>> + Send + use<> {
        futures::stream::unfold(self, |mut consumer| async {
            let next = consumer.next().await?;
            Some((next, consumer))
        })
    }

    /// How many jobs it may have that are not settled, from now on: up to 1000; with 0 it gets no
    /// more. A smaller window takes nothing back.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is larger.
    pub fn set_window(&self, window: u32) -> Result<(), Error> {
        check(window)?;
        self.wishes.send_modify(|wish| wish.window = window);
        Ok(())
    }

    /// Ends it: what was not handed out goes back, and can be others' when this has returned. It waits
    /// at most 5 s for that; what is left then goes back in the background, or when its lease ends.
    ///
    /// # Cancel safety
    /// It ends all the same when the future is dropped.
    pub async fn close(mut self) {
        self.wishes.send_modify(|wish| wish.closing = true);
        if let Some(pumping) = self.pumping.take() {
            // It panics only together with whatever it calls.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, pumping).await;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.wishes.send_modify(|wish| wish.closing = true);
    }
}
