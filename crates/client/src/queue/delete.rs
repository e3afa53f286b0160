//! `queue delete`: deletes a queue with all its jobs.

use super::{Queue, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, mutation_settings};
use quorate_proto::v1::DeleteQueueRequest;

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletedQueue {
    /// Whether there was such a queue.
    pub deleted: bool,
    /// How many jobs went with it.
    pub jobs: u64,
    /// When it happened.
    pub revision: u64,
}

/// A deletion; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct DeleteQueue {
    queue: Queue,
    name: String,
    options: CallOptions,
}

impl DeleteQueue {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        Self { queue, name, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<DeletedQueue, Error> {
        let Self { queue, name, options } = self;
        let request = |origin| DeleteQueueRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            queue: name.clone(),
        };
        let what = "queue delete";
        let answer = queue.inner.mutate(what, &queue.namespace, &options, request).await?;
        Ok(DeletedQueue { deleted: answer.deleted, jobs: answer.jobs, revision: answer.revision })
    }
}

sent_when_awaited!(DeleteQueue => DeletedQueue);
