//! Reads of a pipeline: those that came together, answered when there is room in a message.

use super::answers::Came;
use super::calls::answered;
use super::work::Work;
use crate::grpc::{Deadline, Refused, cache_read};
use crate::metrics::Begun;
use crate::wire;
use quorate_consensus::Failure;
use quorate_proto::v1;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
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
    pub(super) gets: Vec<(u64, Begun, wire::kv::Get)>,
    pub(super) view: Result<Arc<View>, Failure>,
}

pub(super) struct Readable {
    gets: std::vec::IntoIter<(u64, Begun, wire::kv::Get)>,
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
                for (id, call, _) in reads.gets {
                    self.answers.push(call, answered(id, Err(failure.clone().into())));
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
            for (id, call, get) in reads.gets.by_ref() {
                let got = match &revision {
                    Ok(revision) => query::kv_get(tables, group, &get.namespace, &get.key)
                        .map(|item| wire::kv::got(get.key, item, *revision, group))
                        .map_err(Refused::from),
                    Err(fatal) => Err(Refused::Unreadable(fatal.to_string())),
                };
                self.answers.push(call, answered(id, got.map(Answer::KvGet)));
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
            && let Some((call, id, taken)) = self.pulled.pop_front()
        {
            let pulled = taken.read(&self.context).map(Answer::QueuePull);
            self.answers.push(call, answered(id, pulled));
        }
    }

    /// A read that need not, or not only, wait for a barrier.
    pub(super) fn read_apart(
        &mut self,
        id: u64,
        call: Begun,
        get: wire::kv::Get,
        deadline: Deadline,
    ) {
        let context = self.context.clone();
        self.others.push(Box::pin(async move {
            let got = crate::grpc::kv::Service(context).read(get, deadline).await;
            (call, id, Came::from(answered(id, got.map(Answer::KvGet))))
        }));
    }

    /// A read of the cache: answered at once if it need not wait.
    pub(super) fn cached(
        &mut self,
        id: u64,
        call: Begun,
        asked: v1::CacheGetRequest,
        timeout_ms: u32,
    ) {
        let get = match wire::cache::get(asked, &self.context.limits) {
            Ok(get) => get,
            Err(invalid) => return self.answers.push(call, answered(id, Err(invalid.into()))),
        };
        let now = cache_read::get_now(&self.context, &self.context.replica.stale(), &get);
        match now.transpose() {
            Some(now) => self.answers.push(call, answered(id, now.map(Answer::CacheGet))),
            None => {
                let (context, deadline) = (self.context.clone(), Deadline::in_ms(timeout_ms));
                self.others.push(Box::pin(async move {
                    let got = cache_read::get(&context, &get, deadline).await;
                    (call, id, Came::from(answered(id, got.map(Answer::CacheGet))))
                }));
            }
        }
    }

    /// A value of the cache: answered at once if it is there.
    pub(super) fn cached_or_built(
        &mut self,
        id: u64,
        call: Begun,
        asked: v1::CacheGetOrBuildRequest,
        timeout_ms: u32,
    ) {
        let hit = wire::cache::get_or_build(asked.clone(), &self.context.limits)
            .map_err(Refused::from)
            .and_then(|asked| {
                cache_read::hit_now(&self.context, &self.context.replica.stale(), &asked)
            });
        match hit.transpose() {
            Some(hit) => {
                self.answers.push(call, answered(id, hit.map(Answer::CacheGetOrBuild)));
            }
            None => self.wait_apart(id, call, Call::CacheGetOrBuild(asked), timeout_ms),
        }
    }

    /// A transaction that only reads.
    pub(super) fn read_together(
        &mut self,
        id: u64,
        call: Begun,
        read: wire::txn::Read,
        deadline: Deadline,
    ) {
        let context = self.context.clone();
        self.others.push(Box::pin(async move {
            let read = crate::grpc::txn::Service(context).read(read, deadline).await;
            (call, id, Came::from(answered(id, read.map(Answer::TxnCommit))))
        }));
    }
}
