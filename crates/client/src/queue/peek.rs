//! `queue peek`: the jobs that come next.

use super::{JobInfo, Queue, read_settings, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use quorate_proto::v1::{Consistency, PeekRequest};

/// Asks for the jobs that come next, without taking them; sent when awaited. What is in them is left
/// out once it has 1 MiB.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Peek {
    queue: Queue,
    name: String,
    limit: u32,
    consistency: Consistency,
    min_revision: u64,
    options: CallOptions,
}

impl Peek {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        Self {
            queue,
            name,
            limit: 1,
            consistency: Consistency::Linearizable,
            min_revision: 0,
            options: CallOptions::default(),
        }
    }

    read_settings!();

    /// How many, 1 to 16; default: 1.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    async fn send(self) -> Result<Vec<JobInfo>, Error> {
        let plan = self.queue.inner.plan("queue peek", Effect::Read, &self.options);
        let request = || PeekRequest {
            namespace: self.queue.namespace.to_string(),
            queue: self.name.clone(),
            limit: self.limit,
            consistency: self.consistency.into(),
            min_revision: self.min_revision,
        };
        let answer = self.queue.inner.read(&plan, request).await?;
        Ok(answer.jobs.into_iter().map(|job| JobInfo::read(job, &self.name)).collect())
    }
}

sent_when_awaited!(Peek => Vec<JobInfo>);
