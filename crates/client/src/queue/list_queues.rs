//! `queue queues`: the queues there are.

use super::{Queue, QueueInfo, read_settings};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
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
        let pages = futures::stream::try_unfold(Some(String::new()), move |cursor| {
            let list = self.clone();
            async move {
                let Some(cursor) = cursor else { return Ok::<_, Error>(None) };
                let (page, next) = list.page(cursor).await?;
                Ok(Some((futures::stream::iter(page.into_iter().map(Ok)), next)))
            }
        });
        futures::TryStreamExt::try_flatten(pages)
    }

    async fn page(&self, cursor: String) -> Result<(Vec<QueueInfo>, Option<String>), Error> {
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
        // A cursor that does not move would go on for ever.
        let next = (answer.cursor > cursor).then_some(answer.cursor);
        Ok((answer.queues.into_iter().map(QueueInfo::from).collect(), next))
    }
}
