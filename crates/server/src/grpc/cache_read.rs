//! Reads of the cache, and the task of building what they miss.
//!
//! A read that need not wait is answered from a view of what this node has applied. One that asks for
//! a revision which is not there yet waits for it a moment, and then goes through a barrier: the node
//! may be cut off, and then it never comes.

use super::{Context, Deadline, Refused};
use crate::wire;
use quorate_consensus::{Failure, Reason};
use quorate_proto::v1;
use quorate_state::query::{self, CacheFreshness, CacheItem};
use quorate_state::{BuildLease, CacheBuildAnswer, Caller, Outcome, Revision};
use quorate_storage::state::View;
use std::sync::Arc;
use std::time::Duration;

/// How long a read waits for the revision it asks for before it goes through a barrier.
const WAIT_APPLIED: Duration = Duration::from_millis(50);
/// Calls that wait for a value to be built, on a node.
pub(super) const WAITS_MAX: u64 = 65_536;

/// The answer to a read, if it need not wait for anything.
pub(super) fn get_now(
    context: &Context,
    view: &View,
    get: &wire::cache::Get,
) -> Result<Option<v1::CacheGetResponse>, Refused> {
    if !get.fresh.stale {
        return Ok(None);
    }
    let group = context.replica.group();
    let revision = query::revision(&*view.tables, group)?;
    if revision < get.fresh.min_revision {
        return Ok(None);
    }
    Ok(Some(wire::cache::got(read(context, view, get, true)?, revision, group)))
}

/// The answer to a read.
pub(super) async fn get(
    context: &Context,
    get: &wire::cache::Get,
    deadline: Deadline,
) -> Result<v1::CacheGetResponse, Refused> {
    let view = seen(context, get.fresh, deadline).await?;
    let group = context.replica.group();
    let revision = query::revision(&*view.tables, group)?;
    Ok(wire::cache::got(read(context, &view, get, true)?, revision, group))
}

/// A view that is as fresh as a read asks for.
async fn seen(
    context: &Context,
    fresh: wire::kv::Freshness,
    deadline: Deadline,
) -> Result<Arc<View>, Refused> {
    let replica = &context.replica;
    if fresh.stale {
        let wait = WAIT_APPLIED.min(deadline.remaining());
        if replica.wait_applied(fresh.min_revision, wait).await.is_ok() {
            return Ok(Arc::new(replica.stale()));
        }
    }
    // What was acknowledged before it began is in it, and so is all that anybody has seen.
    let view = replica.read(deadline.remaining()).await?;
    let revision = query::revision(&*view.tables, replica.group())?;
    if revision < fresh.min_revision {
        return Err(never(fresh.min_revision, revision));
    }
    Ok(view)
}

/// A revision that nothing has happened at.
fn never(asked: Revision, revision: Revision) -> Refused {
    Refused::Failed(Failure {
        unknown: false,
        reason: Reason::Deadline,
        message: format!(
            "min_revision is {asked}, but the newest is {revision}; it is of another cluster"
        ),
    })
}

/// The entry, if its freshness will do.
fn read(
    context: &Context,
    view: &View,
    get: &wire::cache::Get,
    count: bool,
) -> Result<Option<CacheItem>, Refused> {
    let group = context.replica.group();
    let item = query::cache_get(&*view.tables, group, &get.namespace, &get.key)?;
    let item = item.filter(|item| get.allow_stale || is_fresh(item));
    if count {
        let counted = &context.counters.cache;
        match &item {
            None => counted.misses.count(),
            Some(item) if is_fresh(item) => counted.hits.count(),
            Some(_) => counted.stale_hits.count(),
        }
        if item.is_some() {
            context.cache.reads.read(&get.namespace, &get.key);
        }
    }
    Ok(item)
}

fn is_fresh(item: &CacheItem) -> bool {
    matches!(item.freshness, CacheFreshness::Fresh { .. })
}

/// The answer to a call, if its value is there.
pub(super) fn hit_now(
    context: &Context,
    view: &View,
    asked: &wire::cache::GetOrBuild,
) -> Result<Option<v1::CacheGetOrBuildResponse>, Refused> {
    let group = context.replica.group();
    let revision = query::revision(&*view.tables, group)?;
    if revision < asked.get.fresh.min_revision {
        return Ok(None);
    }
    let found = query::cache_get(&*view.tables, group, &asked.get.namespace, &asked.get.key)?;
    let Some(item) = found.filter(is_fresh) else { return Ok(None) };
    context.counters.cache.hits.count();
    context.cache.reads.read(&asked.get.namespace, &asked.get.key);
    Ok(Some(answer(Some(item), None, revision, context)))
}

fn answer(
    item: Option<CacheItem>,
    task: Option<v1::CacheBuildTask>,
    revision: Revision,
    context: &Context,
) -> v1::CacheGetOrBuildResponse {
    v1::CacheGetOrBuildResponse {
        entry: item.map(wire::cache::entry),
        task,
        revision: revision.0,
        group_id: context.replica.group().0,
    }
}

/// Counts a call that waits.
struct Waits<'a>(&'a Context);

impl<'a> Waits<'a> {
    fn enter(context: &'a Context) -> Result<Self, Refused> {
        let waits = &context.counters.cache.waits;
        if waits.get() >= WAITS_MAX {
            return Err(Refused::Failed(Failure {
                unknown: false,
                reason: Reason::Overloaded,
                message: format!("{WAITS_MAX} calls of this node wait for values to be built"),
            }));
        }
        waits.enter();
        Ok(Self(context))
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.counters.cache.waits.leave();
    }
}

/// The value, or the task of building it, or the value once another has built it.
///
/// # Cancel safety
/// A task that was given just when it is dropped is given to another when its lease runs out.
pub(super) async fn get_or_build(
    context: &Context,
    asked: wire::cache::GetOrBuild,
    deadline: Deadline,
) -> Result<v1::CacheGetOrBuildResponse, Refused> {
    let (replica, group) = (&context.replica, context.replica.group());
    let (namespace, key) = (&asked.get.namespace, &asked.get.key);
    let waiter = context.cache.builds.wait(namespace, key);
    let _waits = Waits::enter(context)?;
    let mut fresh = asked.get.fresh;
    let mut caller = asked.caller.clone();
    let mut counted = false;
    // Nobody who begins to build later is waited for in vain, and nobody's failure before counts.
    let mut awaited: Option<BuildLease> = None;
    loop {
        let view = seen(context, fresh, deadline).await?;
        let revision = query::revision(&*view.tables, group)?;
        let item = read(
            context,
            &view,
            &wire::cache::Get { allow_stale: true, ..asked.get.clone() },
            !counted,
        )?;
        counted = true;
        if item.as_ref().is_some_and(is_fresh) {
            return Ok(answer(item, None, revision, context));
        }
        let stale = item.filter(|_| !asked.fresh_only);
        if let Some(building) = query::cache_build(&*view.tables, group, namespace, key)? {
            if stale.is_some() {
                return Ok(answer(stale, None, revision, context));
            }
            drop(view);
            awaited.get_or_insert(building.lease);
            wait(&waiter, deadline).await?;
            if let Some(why) = awaited.and_then(|lease| waiter.failed(lease)) {
                return Err(Refused::BuildFailed(why));
            }
            continue;
        }
        drop(view);
        let turn = tokio::time::timeout_at(deadline.at(), waiter.turn());
        let turn = turn.await.map_err(|_| Refused::StillBuilding)?;
        // It took a while: another of this node may have the task by now.
        let view = replica.stale();
        let began = query::cache_build(&*view.tables, group, namespace, key)?.is_some();
        let built = query::cache_get(&*view.tables, group, namespace, key)?;
        if began || built.as_ref().is_some_and(is_fresh) {
            continue;
        }
        drop(view);
        let envelope = asked.build(std::mem::take(&mut caller));
        let committed = context.proposed(envelope, deadline.remaining()).await?;
        // So that the next of this node finds it, and this one's answer is in what it reads.
        let applied = replica.wait_index(committed.index, deadline.remaining()).await;
        drop(turn);
        match committed.outcome {
            Outcome::CacheBuild { answer: CacheBuildAnswer::Granted { lease, remaining_ms } } => {
                let task = v1::CacheBuildTask { lease: lease.0, remaining_ms };
                let revision = query::revision(&*replica.stale().tables, group)?;
                return Ok(answer(stale, Some(task), revision, context));
            }
            Outcome::CacheBuild { answer: CacheBuildAnswer::Hit { revision } } => {
                fresh.min_revision = fresh.min_revision.max(revision);
            }
            Outcome::CacheBuild { answer: CacheBuildAnswer::Busy { lease, .. } } => {
                awaited.get_or_insert(lease);
                if let Some(why) = waiter.failed(lease) {
                    return Err(Refused::BuildFailed(why));
                }
            }
            Outcome::Rejected(rejection) => return Err(Refused::Rejected(rejection)),
            other => return Err(wire::unexpected(other)),
        }
        applied?;
        // The outcome of its own request is remembered, and would be the same for ever.
        caller = Caller::Anonymous;
    }
}

async fn wait(waiter: &crate::cache::Waiter, deadline: Deadline) -> Result<(), Refused> {
    let news = tokio::time::timeout_at(deadline.at(), waiter.news()).await;
    news.map_err(|_| Refused::StillBuilding)
}
