//! `queue cancel`: takes a job out of its queue.

use super::{Queue, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, mutation_settings};
use quorate_proto::v1::CancelRequest;

/// What became of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancelled {
    /// Whether the job was in the queue, and is not any more.
    pub cancelled: bool,
    /// Whether somebody was working on it.
    pub was_leased: bool,
    /// When it happened.
    pub revision: u64,
}

/// A cancellation; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Cancel {
    queue: Queue,
    name: String,
    job_id: u64,
    options: CallOptions,
}

impl Cancel {
    pub(super) fn new(queue: Queue, name: String, job_id: u64) -> Self {
        Self { queue, name, job_id, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<Cancelled, Error> {
        let Self { queue, name, job_id, options } = self;
        let request = |origin| CancelRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            queue: name.clone(),
            job_id,
        };
        let what = "queue cancel";
        let answer = queue.inner.mutate(what, &queue.namespace, &options, request).await?;
        Ok(Cancelled {
            cancelled: answer.cancelled,
            was_leased: answer.was_leased,
            revision: answer.revision,
        })
    }
}

sent_when_awaited!(Cancel => Cancelled);
