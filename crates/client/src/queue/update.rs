//! `queue update`: makes a queue, or changes how it works.

use super::{Backoff, DeadLetters, Queue, Rate, WhenFull, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, millis, mutation_settings};
use quorate_proto::v1::{QueueOptions, UpdateQueueRequest};
use std::time::Duration;

/// A queue works as it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdatedQueue {
    /// Whether it was made.
    pub created: bool,
    /// When it happened.
    pub revision: u64,
}

/// A change of a queue, which is made when it is not there yet; sent when awaited. What is not named
/// stays as it is. Jobs that are being worked on keep the time they were given.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct UpdateQueue {
    queue: Queue,
    name: String,
    change: QueueOptions,
    options: CallOptions,
}

impl UpdateQueue {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        let change = QueueOptions::default();
        Self { queue, name, change, options: CallOptions::default() }
    }

    mutation_settings!();

    /// A job that was delivered is delivered again when it is neither settled nor extended for this
    /// long, 1 s to 12 h; 30 s when nothing is ever said.
    pub fn visibility(mut self, visibility: Duration) -> Self {
        self.change.visibility_ms = Some(millis(visibility));
        self
    }

    /// A job that was delivered so often is given up when it fails again; 0: never. 5 when nothing
    /// is ever said.
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.change.attempts_max = Some(attempts);
        self
    }

    /// How long a job that failed waits; doubling from 1 s to 5 min when nothing is ever said.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.change.backoff = Some(backoff.to_wire());
        self
    }

    /// Where jobs go that are given up; [`DeadLetters::Own`] when nothing is ever said.
    pub fn dead_letters(mut self, dead_letters: &DeadLetters) -> Self {
        self.change.dead_letters = Some(dead_letters.to_wire());
        self
    }

    /// How long jobs are kept after they were done, up to 30 days; zero: not at all, which is so
    /// when nothing is ever said.
    pub fn keep_done(mut self, keep: Duration) -> Self {
        self.change.keep_done_ms = Some(millis(keep));
        self
    }

    /// How many jobs it holds, 1 to 5000000; 1000000 when nothing is ever said, 100000 dead letters.
    pub fn jobs_max(mut self, jobs: u64) -> Self {
        self.change.jobs_max = Some(jobs);
        self
    }

    /// What happens to a push beyond that; [`WhenFull::Reject`] when nothing is ever said.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.change.when_full = when_full.to_wire();
        self
    }

    /// How many of its jobs may be worked on at once, in the whole cluster; 0: any number.
    pub fn parallel_max(mut self, jobs: u32) -> Self {
        self.change.parallel_max = Some(jobs);
        self
    }

    /// How many jobs it delivers in a time.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.change.rate = Some(rate.to_wire());
        self
    }

    /// How long dedupe keys are remembered, up to a day; 5 min when nothing is ever said.
    pub fn dedupe_window(mut self, window: Duration) -> Self {
        self.change.dedupe_window_ms = Some(millis(window));
        self
    }

    async fn send(self) -> Result<UpdatedQueue, Error> {
        let Self { queue, name, change, options } = self;
        let request = |origin| UpdateQueueRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            queue: name.clone(),
            options: Some(change.clone()),
        };
        let what = "queue update";
        let answer = queue.inner.mutate(what, &queue.namespace, &options, request).await?;
        Ok(UpdatedQueue { created: answer.created, revision: answer.revision })
    }
}

sent_when_awaited!(UpdateQueue => UpdatedQueue);
