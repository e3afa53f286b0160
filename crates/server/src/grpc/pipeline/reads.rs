//! Reads of a pipeline: those that came together, answered when there is room in a message.

use super::calls::answered;
use super::work::{Came, Work};
use crate::grpc::Deadline;
use crate::grpc::Refused;
use crate::metrics::Method;
use crate::wire;
use quorate_consensus::Failure;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_state::query;
use quorate_storage::state::View;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A view that answers have waited for longer is replaced by a newer one, so that a slow reader
/// does not keep old versions alive.
const VIEW_FRESH: Duration = Duration::from_secs(1);

/// Reads that came together, and what their barrier came to.
pub(super) struct Reads {
    pub(super) gets: Vec<(u64, wire::kv::Get)>,
    pub(super) view: Result<Arc<View>, Failure>,
}

pub(super) struct Readable {
    gets: std::vec::IntoIter<(u64, wire::kv::Get)>,
    view: Arc<View>,
    since: Instant,
}

impl Readable {
    /// How many are not answered yet.
    pub(super) fn len(&self) -> usize {
        self.gets.len()
    }
}

impl Work {
    /// Reads whose barrier is through are answered when there is room in a message.
    pub(super) fn admit(&mut self, reads: Reads) {
        match reads.view {
            Ok(view) => {
                let since = Instant::now();
                self.readable.push_back(Readable { gets: reads.gets.into_iter(), view, since });
            }
            Err(failure) => {
                for (id, _) in reads.gets {
                    self.answers.push(self.get, answered(id, Err(failure.clone().into())));
                }
            }
        }
    }

    /// Answers reads until the message is full.
    pub(super) fn read(&mut self) {
        let group = self.context.replica.group();
        while !self.answers.is_full()
            && let Some(reads) = self.readable.front_mut()
        {
            if reads.since.elapsed() > VIEW_FRESH {
                // A newer view contains all that the older one did.
                reads.view = Arc::new(self.context.replica.stale());
                reads.since = Instant::now();
            }
            let tables = &*reads.view.tables;
            let revision = query::revision(tables, group);
            for (id, get) in reads.gets.by_ref() {
                let got = match &revision {
                    Ok(revision) => query::kv_get(tables, group, &get.namespace, &get.key)
                        .map(|item| wire::kv::got(get.key, item, *revision, group))
                        .map_err(Refused::from),
                    Err(fatal) => Err(Refused::Unreadable(fatal.to_string())),
                };
                self.answers.push(self.get, answered(id, got.map(Answer::KvGet)));
                if self.answers.is_full() {
                    return;
                }
            }
            self.readable.pop_front();
        }
    }

    /// Reads what is in the jobs of pulls until the message is full.
    pub(super) fn read_pulled(&mut self) {
        while !self.answers.is_full()
            && let Some((method, id, taken)) = self.pulled.pop_front()
        {
            let pulled = taken.read(&self.context).map(Answer::QueuePull);
            self.answers.push(method, answered(id, pulled));
        }
    }

    /// A read that need not, or not only, wait for a barrier.
    pub(super) fn read_apart(&mut self, id: u64, get: wire::kv::Get, deadline: Deadline) {
        let (context, method) = (self.context.clone(), self.get);
        self.others.push(Box::pin(async move {
            let got = crate::grpc::kv::Service(context).read(get, deadline).await;
            (method, id, Came::from(answered(id, got.map(Answer::KvGet))))
        }));
    }

    /// A transaction that only reads.
    pub(super) fn read_together(
        &mut self,
        id: u64,
        method: Method,
        read: wire::txn::Read,
        deadline: Deadline,
    ) {
        let context = self.context.clone();
        self.others.push(Box::pin(async move {
            let read = crate::grpc::txn::Service(context).read(read, deadline).await;
            (method, id, Came::from(answered(id, read.map(Answer::TxnCommit))))
        }));
    }
}
