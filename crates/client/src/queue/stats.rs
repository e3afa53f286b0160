//! `queue stats`: how a queue does.

use super::{Queue, QueueInfo, read_settings, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use quorate_proto::v1::{Consistency, StatsRequest};

/// Asks how a queue does; sent when awaited. [`Error::NotFound`] when it was never made.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Stats {
    queue: Queue,
    name: String,
    consistency: Consistency,
    min_revision: u64,
    options: CallOptions,
}

impl Stats {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        Self {
            queue,
            name,
            consistency: Consistency::Linearizable,
            min_revision: 0,
            options: CallOptions::default(),
        }
    }

    read_settings!();

    async fn send(self) -> Result<QueueInfo, Error> {
        let plan = self.queue.inner.plan("queue stats", Effect::Read, &self.options);
        let request = || StatsRequest {
            namespace: self.queue.namespace.to_string(),
            queue: self.name.clone(),
            consistency: self.consistency.into(),
            min_revision: self.min_revision,
        };
        let answer = self.queue.inner.read(&plan, request).await?;
        answer
            .info
            .map(QueueInfo::from)
            .ok_or_else(|| Error::bad_answer("queue stats was answered without a queue".to_owned()))
    }
}

sent_when_awaited!(Stats => QueueInfo);
