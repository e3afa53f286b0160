//! `queue pull`: takes jobs that are ready, or waits until there is one.

use super::{Job, Queue, sent_when_awaited};
use crate::Error;
use crate::client::{CallOptions, Identity};
use crate::kv::{call_settings, guard_setting, millis, mutation_settings};
use quorate_proto::v1::PullRequest;
use std::sync::Arc;
use std::time::Duration;

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// A request for jobs; sent when awaited. It is answered as soon as one is ready, with as many as
/// there are then; with none when there was none in time.
///
/// What it answers is bound to the leases alone: no session is needed, and the jobs stay leased when
/// the program ends. Settle each of them, or let it be: it is delivered again when its lease ends.
///
/// # Cancel safety
/// When the future is dropped the request is withdrawn, and what it was given is handed back; jobs
/// that were on their way to this process at that moment are delivered again when their leases end.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Pull {
    queue: Queue,
    name: String,
    count: u32,
    wait: Duration,
    options: CallOptions,
}

impl Pull {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        Self { queue, name, count: 1, wait: Duration::ZERO, options: CallOptions::default() }
    }

    mutation_settings!();

    /// How many at most, 1 to 128; default: 1.
    pub fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// How long to wait for one, up to an hour; default: not at all.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    async fn send(self) -> Result<Vec<Job>, Error> {
        let Self { queue, name, count, wait, mut options } = self;
        let request = |origin| PullRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            queue: name.clone(),
            count,
            wait_ms: millis(wait),
        };
        let inner = &queue.inner;
        let wait = wait.min(WAIT_MAX);
        // By a sequence of the session it would hold up all other mutations of the client once 1 024
        // of them have come behind it.
        if !wait.is_zero() && options.identity.is_none() {
            options.identity = Some(Identity::Key(inner.engine.random.key().to_vec().into()));
        }
        let answer =
            inner.mutate_waiting("queue pull", &queue.namespace, &options, wait, request).await?;
        let name: Arc<str> = name.into();
        let jobs = answer.jobs.into_iter().map(|job| Job::pulled(&queue, &name, job));
        Ok(jobs.collect())
    }
}

sent_when_awaited!(Pull => Vec<Job>);
