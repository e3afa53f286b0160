//! `queue redrive`: puts dead letters back, step by step.

use super::{Queue, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting};
use quorate_proto::v1::RedriveRequest;

/// Dead letters were put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redriven {
    /// How many.
    pub moved: u64,
    /// In how many steps.
    pub steps: u64,
    /// When the last step happened.
    pub revision: u64,
}

/// Puts dead letters back into the queue they came from, with all their attempts before them; sent
/// when awaited. Those that somebody works on stay.
///
/// All of them go in steps, each a mutation of its own with the time of a call; what comes to the
/// dead letters meanwhile may go along. When a step fails, those before it have been done: repeat it
/// to go on.
///
/// # Cancel safety
/// Steps that were made stay made.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Redrive {
    queue: Queue,
    name: String,
    job_ids: Vec<u64>,
    step_jobs: u64,
    options: CallOptions,
}

impl Redrive {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        let options = CallOptions::default();
        Self { queue, name, job_ids: Vec::new(), step_jobs: 0, options }
    }

    call_settings!();
    guard_setting!();

    /// Only these, up to 128, in one step; those that are no dead letters of the queue are passed
    /// over. None at all: all of them.
    pub fn jobs(mut self, ids: impl IntoIterator<Item = u64>) -> Self {
        self.job_ids = ids.into_iter().collect();
        self
    }

    /// How many a step moves at most, up to 1000; default: 1000.
    pub fn step_jobs(mut self, jobs: u64) -> Self {
        self.step_jobs = jobs;
        self
    }

    async fn send(self) -> Result<Redriven, Error> {
        let Self { queue, name, job_ids, step_jobs, options } = self;
        let mut done = Redriven { moved: 0, steps: 0, revision: 0 };
        let mut cursor = 0;
        loop {
            let request = |origin| RedriveRequest {
                namespace: queue.namespace.to_string(),
                origin: Some(origin),
                queue: name.clone(),
                job_ids: job_ids.clone(),
                cursor,
                limit: step_jobs,
            };
            let what = "queue redrive";
            let answer = queue.inner.mutate(what, &queue.namespace, &options, request).await?;
            done.moved += answer.moved;
            done.steps += 1;
            done.revision = answer.revision;
            // A cursor that does not move would go on for ever.
            if !job_ids.is_empty() || answer.cursor <= cursor {
                return Ok(done);
            }
            cursor = answer.cursor;
        }
    }
}

sent_when_awaited!(Redrive => Redriven);
