//! `queue list`: the jobs of a queue.

use super::{JobInfo, JobState, Queue, read_settings};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::paged::paged;
use futures::Stream;
use quorate_proto::v1::{Consistency, ListJobsRequest};

/// A list of jobs to be asked for.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when its stream is polled"]
pub struct ListJobs {
    queue: Queue,
    name: String,
    state: i32,
    page_jobs: u32,
    payloads: bool,
    consistency: Consistency,
    min_revision: u64,
    options: CallOptions,
}

impl ListJobs {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        Self {
            queue,
            name,
            state: 0,
            page_jobs: 0,
            payloads: false,
            consistency: Consistency::Linearizable,
            min_revision: 0,
            options: CallOptions::default(),
        }
    }

    read_settings!();

    /// Only those that stand so; default: all.
    pub fn state(mut self, state: JobState) -> Self {
        self.state = state.to_wire();
        self
    }

    /// Also what is in them.
    pub fn payloads(mut self) -> Self {
        self.payloads = true;
        self
    }

    /// How many are asked for at a time, up to 1000; default: 100.
    pub fn page_jobs(mut self, jobs: u32) -> Self {
        self.page_jobs = jobs;
        self
    }

    /// The jobs, in the order in which they were pushed; page after page, each as it is then. The
    /// time of a call counts for each page.
    ///
    /// # Errors
    /// As an item: [`Error::NotFound`] when the queue was never made, otherwise as a read.
    pub fn stream(self) -> impl Stream<Item = Result<JobInfo, Error>> + Send + use<> {
        paged(move |cursor| {
            let list = self.clone();
            async move { list.page(cursor).await }
        })
    }

    async fn page(&self, cursor: u64) -> Result<(Vec<JobInfo>, u64), Error> {
        let plan = self.queue.inner.plan("queue list", Effect::Read, &self.options);
        let request = || ListJobsRequest {
            namespace: self.queue.namespace.to_string(),
            queue: self.name.clone(),
            state: self.state,
            cursor,
            limit: self.page_jobs,
            payloads: self.payloads,
            consistency: self.consistency.into(),
            min_revision: self.min_revision,
        };
        let answer = self.queue.inner.read(&plan, request).await?;
        let jobs = answer.jobs.into_iter().map(|job| JobInfo::read(job, &self.name));
        Ok((jobs.collect(), answer.cursor))
    }
}
