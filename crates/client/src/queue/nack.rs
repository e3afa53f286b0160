//! `queue nack`: a job is not done.

use super::{JobState, Queue, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::failure::bounded;
use crate::kv::{call_settings, guard_setting, millis, mutation_settings};
use quorate_proto::v1::{NackRequest, NackResponse, NackVerdict, Origin};
use std::time::Duration;

/// The longest wait for another attempt.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(366 * 86_400);
/// What is kept of an error, or of a note. More of it could make the whole call too large.
pub(super) const TEXT_BYTES_MAX: usize = 1_024;

/// What became of a job that is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Nacked {
    /// Ready, delayed, or dead when it was given up.
    pub state: JobState,
    /// When it is delayed: for how long.
    pub delay: Duration,
    /// When it happened.
    pub revision: u64,
}

/// Says that a job is not done; sent when awaited. It is tried again, as the queue's backoff says, or
/// given up when that was its last attempt, unless something else is said.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Nack {
    queue: Queue,
    name: String,
    job_id: u64,
    lease: u64,
    verdict: NackVerdict,
    delay_ms: Option<u64>,
    error: String,
    pub(super) options: CallOptions,
}

impl Nack {
    pub(super) fn new(queue: Queue, name: String, job_id: u64, lease: u64) -> Self {
        Self {
            queue,
            name,
            job_id,
            lease,
            verdict: NackVerdict::Retry,
            delay_ms: None,
            error: String::new(),
            options: CallOptions::default(),
        }
    }

    mutation_settings!();

    /// What went wrong; the first 1024 bytes are kept, of the last ten attempts.
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.error = error.into();
        self.error.truncate(bounded(&self.error, TEXT_BYTES_MAX).len());
        self
    }

    /// How long it waits for its next attempt, up to 366 days, instead of what the queue says.
    pub fn after(mut self, delay: Duration) -> Self {
        (self.verdict, self.delay_ms) = (NackVerdict::Retry, Some(millis(delay)));
        self
    }

    /// It is given up: it goes to the dead letters.
    pub fn kill(mut self) -> Self {
        (self.verdict, self.delay_ms) = (NackVerdict::Dead, None);
        self
    }

    /// It is ready at once, at its old place, as if it had not been delivered.
    pub fn hand_back(mut self) -> Self {
        (self.verdict, self.delay_ms) = (NackVerdict::Return, None);
        self
    }

    fn request(&self, origin: Origin) -> NackRequest {
        NackRequest {
            namespace: self.queue.namespace.to_string(),
            origin: Some(origin),
            queue: self.name.clone(),
            job_id: self.job_id,
            lease: self.lease,
            verdict: self.verdict.into(),
            delay_ms: self.delay_ms,
            error: self.error.clone(),
        }
    }

    pub(super) async fn send(self) -> Result<Nacked, Error> {
        let Queue { inner, namespace } = &self.queue;
        let request = |origin| self.request(origin);
        let answer = inner.mutate("queue nack", namespace, &self.options, request).await?;
        Ok(read(&answer))
    }

    /// As [`Nack::send`], for what nobody waits for. It needs no session: one would have to be opened
    /// for it where the client was closed meanwhile. The lease keeps a repetition from doing
    /// anything, so it is as safe as a read.
    pub(super) async fn send_quietly(self) {
        let plan = self.queue.inner.plan("queue nack", Effect::Read, &self.options);
        let request = || self.request(Origin::default());
        if let Err(error) = self.queue.inner.read(&plan, request).await {
            let (queue, job) = (&self.name, self.job_id);
            tracing::debug!(queue, job, %error, "a job was not given back; its lease ends");
        }
    }
}

fn read(answer: &NackResponse) -> Nacked {
    Nacked {
        state: JobState::read(answer.state),
        delay: Duration::from_millis(answer.delay_ms),
        revision: answer.revision,
    }
}

sent_when_awaited!(Nack => Nacked);
