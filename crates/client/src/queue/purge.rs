//! `queue purge`: takes all jobs out of a queue.

use super::{Queue, sent_when_awaited};
use crate::Error;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, mutation_settings};
use quorate_proto::v1::PurgeRequest;

/// A queue is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// How many jobs are gone.
    pub purged: u64,
    /// When it happened.
    pub revision: u64,
}

/// A purge; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Purge {
    queue: Queue,
    name: String,
    options: CallOptions,
}

impl Purge {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        Self { queue, name, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<Purged, Error> {
        let Self { queue, name, options } = self;
        let request = |origin| PurgeRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            queue: name.clone(),
        };
        let what = "queue purge";
        let answer = queue.inner.mutate(what, &queue.namespace, &options, request).await?;
        Ok(Purged { purged: answer.purged, revision: answer.revision })
    }
}

sent_when_awaited!(Purge => Purged);
