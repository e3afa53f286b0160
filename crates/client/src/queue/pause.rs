//! `queue pause` and `queue resume`.

use super::{Queue, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, mutation_settings};
use quorate_proto::v1::{PauseRequest, ResumeRequest};

/// Stops deliveries; sent when awaited. Answers when it happened, as a revision. The queue is made
/// when it is not there yet.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Pause {
    queue: Queue,
    name: String,
    options: CallOptions,
}

impl Pause {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        Self { queue, name, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<u64, Error> {
        let Self { queue, name, options } = self;
        let request = |origin| PauseRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            queue: name.clone(),
        };
        let what = "queue pause";
        Ok(queue.inner.mutate(what, &queue.namespace, &options, request).await?.revision)
    }
}

sent_when_awaited!(Pause => u64);

/// Lets deliveries go on; sent when awaited. Answers when it happened, as a revision. The queue is
/// made when it is not there yet.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Resume {
    queue: Queue,
    name: String,
    options: CallOptions,
}

impl Resume {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        Self { queue, name, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<u64, Error> {
        let Self { queue, name, options } = self;
        let request = |origin| ResumeRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            queue: name.clone(),
        };
        let what = "queue resume";
        Ok(queue.inner.mutate(what, &queue.namespace, &options, request).await?.revision)
    }
}

sent_when_awaited!(Resume => u64);
