//! What keeps a consumer going: takes in what its stream says, and opens another one when it breaks.

use super::held::{Holder, Waiting};
use super::stream::{OpenConsume, Opened, Wish};
use super::{Nack, Queue};
use crate::call::Effect;
use crate::client::CallOptions;
use crate::failure::Failure;
use crate::{Error, retry};
use futures::StreamExt as _;
use quorate_proto::v1::consume_response::Response as Told;
use quorate_proto::v1::{ConsumeOpen, ConsumeResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

/// How long one search for another node may take before it is said that there is none; it goes on.
const RESUME_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it waits at least when there is no room for it: that passes only when others go.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How long the end of a stream is waited for, so that what was on its way can be handed back.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Consumers and sessions that one opening may find gone. One is bad luck; more is trouble.
const GONE_MAX: u32 = 3;
/// Jobs that are handed back at once.
const HAND_BACK_PARALLEL: usize = 64;

pub(super) struct Pump {
    queue: Queue,
    name: Arc<str>,
    holder: Arc<Holder>,
    wishes: watch::Receiver<Wish>,
    /// The session and the consumer that it was before a break.
    was: Option<(u64, u64)>,
    /// Breaks since the last message.
    failures: u32,
}

/// How a stream ended.
enum Ended {
    /// As it was wished.
    Closed,
    /// Another node may do better.
    Broken(String),
    /// The consumer has ended; perhaps its queue has, too.
    Gone,
    /// For good.
    Failed(Error),
}

impl Pump {
    pub(super) fn new(
        queue: Queue,
        name: Arc<str>,
        holder: Arc<Holder>,
        wishes: watch::Receiver<Wish>,
    ) -> Self {
        Self { queue, name, holder, wishes, was: None, failures: 0 }
    }

    /// Opens a stream on whichever node, as who it was before, if that is possible.
    pub(super) async fn open(&mut self, options: &CallOptions) -> Result<Opened, Error> {
        let inner = Arc::clone(&self.queue.inner);
        let plan = inner.plan("queue consume", Effect::Read, options);
        let mut gone = 0;
        loop {
            let session = match inner.one_shot {
                true => None,
                false => {
                    let cell = inner.cell(&self.queue.namespace)?;
                    Some(cell.session(&inner.engine, plan.what, plan.deadline).await?)
                }
            };
            let session_id = session.as_ref().map_or(0, |session| session.id());
            // A consumer ends with its session, and so do its leases.
            if self.was.is_some_and(|(of, _)| of != session_id) {
                self.begin_anew();
            }
            let consumer_id = self.was.map_or(0, |(_, consumer)| consumer);
            if consumer_id == 0 {
                self.holder.begin_consumer();
            }
            self.holder.begin_stream();
            let request = || self.request(session_id, consumer_id);
            let failure = match inner.engine.call(&plan, request).await {
                Ok(opened) => {
                    if consumer_id > 0 {
                        self.holder.keep_only(&opened.held_leases);
                    }
                    self.was = session.map(|_| (session_id, opened.consumer_id));
                    return Ok(opened);
                }
                Err(failure) => failure,
            };
            gone += 1;
            match session {
                Some(session) if failure.is_session_lost() => session.lose(),
                _ if failure.reason == "CONSUMER_GONE" && consumer_id > 0 => self.begin_anew(),
                _ => return Err(failure.into()),
            }
            if gone >= GONE_MAX {
                return Err(failure.into());
            }
        }
    }

    fn request(&self, session_id: u64, consumer_id: u64) -> OpenConsume {
        let open = ConsumeOpen {
            namespace: self.queue.namespace.to_string(),
            queue: self.name.to_string(),
            session_id,
            consumer_id,
            // It may have become 0 just now, and is made that at once then.
            window: self.wishes.borrow().window.max(1),
        };
        OpenConsume { open, wishes: self.wishes.clone() }
    }

    /// What it had is not its own any more.
    fn begin_anew(&mut self) {
        self.was = None;
        self.holder.withdraw_all();
    }

    /// Runs until the consumer is closed, or can't go on.
    pub(super) async fn run(mut self, first: Opened) {
        let mut open = Some(first);
        let over = loop {
            let (opened, rest) = match open.take() {
                Some(opened) => (opened, Vec::new()),
                None => match self.reopen().await {
                    Ok(Some(opened)) => (opened, self.what_waited()),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                },
            };
            let mut heard = false;
            let following = self.follow(opened, &mut heard);
            let (ended, ()) = tokio::join!(following, self.hand_all_back(rest));
            if heard {
                self.failures = 0;
            }
            match ended {
                Ended::Closed => break Ok(()),
                Ended::Failed(error) => break Err(error),
                Ended::Broken(why) => {
                    tracing::debug!(queue = &self.name[..], why, "a consumer's stream broke");
                }
                // One that has no name to come back by would make the queue again.
                Ended::Gone if self.was.is_none() => {
                    if let Err(error @ Error::NotFound { .. }) = self.queue.stats(&*self.name).await
                    {
                        break Err(error);
                    }
                }
                Ended::Gone => {}
            }
        };
        // With its queue everything in it is gone.
        if matches!(over, Err(Error::NotFound { .. })) {
            self.holder.withdraw_all();
        }
        let rest = self.holder.drain();
        self.holder.end(over);
        self.hand_all_back(rest).await;
    }

    /// What is to be handed back after a break: who has no session comes back as somebody else, with
    /// a whole window for other jobs, and those that wait here since before would be too many.
    fn what_waited(&self) -> Vec<Waiting> {
        match self.was {
            None => self.holder.drain(),
            Some(_) => Vec::new(),
        }
    }

    /// Looks for another node for as long as it takes; none when the consumer is closed.
    async fn reopen(&mut self) -> Result<Option<Opened>, Error> {
        let options = CallOptions { timeout: Some(RESUME_TIMEOUT), ..CallOptions::default() };
        let mut wishes = self.wishes.clone();
        let mut full = false;
        loop {
            // Who wants nothing needs no stream.
            let wanted = wishes.wait_for(|wish| wish.window > 0 || wish.closing).await;
            if wanted.map_or(true, |wish| wish.closing) {
                return Ok(None);
            }
            // The first time it hardly waits: another node is likely to do better at once.
            let random = &self.queue.inner.engine.random;
            let pause = match full {
                true => FULL_PAUSE + random.up_to(FULL_PAUSE),
                false => retry::backoff(self.failures, random),
            };
            self.failures = self.failures.saturating_add(1);
            let opening = async {
                tokio::time::sleep(pause).await;
                self.open(&options).await
            };
            let opened = tokio::select! {
                () = closing(wishes.clone()) => return Ok(None),
                opened = opening => opened,
            };
            match opened {
                Ok(opened) => return Ok(Some(opened)),
                Err(
                    error @ (Error::Unavailable { .. }
                    | Error::ResourceExhausted { .. }
                    | Error::SessionExpired { .. }),
                ) => {
                    tracing::warn!(queue = &self.name[..], %error, "a consumer is still cut off");
                    full = matches!(error, Error::ResourceExhausted { .. });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes in what comes until the stream ends, and tells whether anything did.
    async fn follow(&self, mut opened: Opened, heard: &mut bool) -> Ended {
        let wishes = self.wishes.clone();
        // Once closing, until when its end is waited for.
        let mut until: Option<Instant> = None;
        loop {
            let message = tokio::select! {
                biased;
                () = closing(wishes.clone()), if until.is_none() => {
                    until = Some(Instant::now() + CLOSE_TIMEOUT);
                    continue;
                }
                () = retry::until(until) => return Ended::Closed,
                message = opened.told.message() => message,
            };
            let taken = match message {
                Ok(Some(message)) => self.take(opened.consumer_id, message),
                Ok(None) => Err(Ended::Broken("the node ended the stream".to_owned())),
                Err(status) => Err(judge(&status)),
            };
            match taken {
                Ok(()) => *heard = true,
                Err(_) if until.is_some() => return Ended::Closed,
                Err(ended) => return ended,
            }
        }
    }

    fn take(&self, consumer_id: u64, message: ConsumeResponse) -> Result<(), Ended> {
        match message.response {
            Some(Told::Jobs(delivered)) => {
                for job in delivered.jobs {
                    self.holder.take_in(job).map_err(Ended::Failed)?;
                }
                Ok(())
            }
            Some(Told::Withdrawn(gone)) => {
                self.holder.withdraw(gone.job_id, gone.lease);
                Ok(())
            }
            // It was lost to its node for a moment, and came back there by itself.
            Some(Told::Opened(again)) if again.consumer_id == consumer_id => {
                self.holder.keep_only(&again.held_leases);
                Ok(())
            }
            Some(Told::Opened(_)) => {
                let text = "a consumer was told that it is another one".to_owned();
                Err(Ended::Failed(Error::bad_answer(text)))
            }
            // Of a kind this client does not know.
            None => Ok(()),
        }
    }

    async fn hand_all_back(&self, jobs: Vec<Waiting>) {
        let back = jobs.into_iter().map(|waiting| self.hand_back(waiting));
        futures::stream::iter(back).for_each_concurrent(HAND_BACK_PARALLEL, |back| back).await;
    }

    async fn hand_back(&self, waiting: Waiting) {
        let Waiting { job, lease } = waiting;
        let nack = Nack::new(self.queue.clone(), self.name.to_string(), job.job_id, job.lease);
        nack.hand_back().send_quietly().await;
        self.holder.settled(lease.job_id, lease.number);
    }
}

/// What the end of a stream means.
fn judge(status: &Status) -> Ended {
    let failure = Failure::from_status("the node", status, false);
    // What is gone, or reads slowly, begins again; the next opening tells if it can't.
    match failure.reason.as_str() {
        "CONSUMER_GONE" => Ended::Gone,
        "SLOW_READER" => Ended::Broken(failure.message),
        _ if failure.is_worth_retrying() || failure.is_session_lost() => {
            Ended::Broken(failure.message)
        }
        _ => Ended::Failed(failure.into()),
    }
}

async fn closing(mut wishes: watch::Receiver<Wish>) {
    // Its sender is gone with the consumer.
    let _ = wishes.wait_for(|wish| wish.closing).await;
}
