//! `queue queues`: the queues there are.

use super::{Queue, QueueInfo, read_settings};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::paged::paged;
use bytes::Bytes;
use futures::Stream;
use quorate_proto::v1::{Consistency, KeySelector, ListQueuesRequest, key_selector::Select};

/// A list of queues to be asked for.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when its stream is polled"]
pub struct ListQueues {
    queue: Queue,
    pattern: Bytes,
    consistency: Consistency,
    min_revision: u64,
    options: CallOptions,
}

impl ListQueues {
    pub(super) fn new(queue: Queue, pattern: &[u8]) -> Self {
        Self {
            queue,
            pattern: Bytes::copy_from_slice(pattern),
            consistency: Consistency::Linearizable,
            min_revision: 0,
            options: CallOptions::default(),
        }
    }

    read_settings!();

    /// The queues, in the order of their names; page after page, each as it is then. The time of a
    /// call counts for each page.
    pub fn stream(self) -> impl Stream<Item = Result<QueueInfo, Error>> + Send + use<> {
        paged(move |cursor| {
            let list = self.clone();
            async move { list.page(cursor).await }
        })
    }

    async fn page(&self, cursor: String) -> Result<(Vec<QueueInfo>, String), Error> {
        let plan = self.queue.inner.plan("queue list queues", Effect::Read, &self.options);
        let request = || ListQueuesRequest {
            namespace: self.queue.namespace.to_string(),
            selector: Some(KeySelector { select: Some(Select::Pattern(self.pattern.clone())) }),
            cursor: cursor.clone(),
            limit: 0,
            consistency: self.consistency.into(),
            min_revision: self.min_revision,
        };
        let answer = self.queue.inner.read(&plan, request).await?;
        Ok((answer.queues.into_iter().map(QueueInfo::from).collect(), answer.cursor))
    }
}
