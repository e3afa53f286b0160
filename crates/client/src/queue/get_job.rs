//! `queue get`: one job with what is in it.

use super::{JobInfo, Queue, read_settings, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use quorate_proto::v1::{Consistency, GetJobRequest};

/// Asks for a job; sent when awaited. None when it is neither in the queue nor among its dead
/// letters, and [`Error::NotFound`] when there is no such queue.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct GetJob {
    queue: Queue,
    name: String,
    job_id: u64,
    consistency: Consistency,
    min_revision: u64,
    options: CallOptions,
}

impl GetJob {
    pub(super) fn new(queue: Queue, name: String, job_id: u64) -> Self {
        Self {
            queue,
            name,
            job_id,
            consistency: Consistency::Linearizable,
            min_revision: 0,
            options: CallOptions::default(),
        }
    }

    read_settings!();

    async fn send(self) -> Result<Option<JobInfo>, Error> {
        let plan = self.queue.inner.plan("queue get", Effect::Read, &self.options);
        let request = || GetJobRequest {
            namespace: self.queue.namespace.to_string(),
            queue: self.name.clone(),
            job_id: self.job_id,
            consistency: self.consistency.into(),
            min_revision: self.min_revision,
        };
        let answer = self.queue.inner.read(&plan, request).await?;
        Ok(answer.job.map(|job| JobInfo::read(job, &answer.queue)))
    }
}

sent_when_awaited!(GetJob => Option<JobInfo>);
