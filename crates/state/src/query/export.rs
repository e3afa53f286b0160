//! Everything that users have stored, one thing after the other: what an export writes down.
//!
//! Not in it: sessions, who waits, what was answered, the history, and who may do what; those belong to
//! the cluster.

use super::cache::cache_item;
use super::job::job_item;
use super::lock::lock_item;
use super::schedule::schedule_item;
use super::{CacheItem, JobItem, KvItem, LockItem, ScheduleItem, clocks, kv_item};
use crate::keys::{self, Key, table};
use crate::machine::Fatal;
use crate::rows::{self, QueueRow};
use crate::{GroupId, QueueOptions, Read, Stamp};
use bytes::Bytes;
use std::ops::ControlFlow;

/// One thing that was stored. Names and keys are those of its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported<'a> {
    /// A key, unless it has expired.
    Key {
        /// Its namespace.
        namespace: &'a str,
        /// The key.
        key: &'a [u8],
        /// What it has.
        item: KvItem,
    },
    /// A lock that is held or waited for.
    Lock {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
        /// Who has it.
        item: LockItem,
    },
    /// A queue; its jobs follow.
    Queue {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
        /// Whether it delivers nothing.
        paused: bool,
        /// How it works.
        options: QueueOptions,
    },
    /// A job of the queue that came last.
    Job {
        /// The namespace of the queue.
        namespace: &'a str,
        /// The queue.
        queue: &'a str,
        /// The job, with what is in it.
        item: JobItem,
    },
    /// A schedule.
    Schedule {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
        /// What it pushes, and when.
        item: ScheduleItem,
    },
    /// An entry of the cache, fresh or stale.
    CacheEntry {
        /// Its namespace.
        namespace: &'a str,
        /// Its key.
        key: &'a [u8],
        /// What it has.
        item: CacheItem,
    },
}

/// Calls `visit` with each thing until it breaks. Reads everything but the history, in constant
/// memory but for the values in hand.
///
/// # Errors
/// When the tables fail.
pub fn export(
    tables: &dyn Read,
    group: GroupId,
    visit: &mut dyn FnMut(Exported<'_>) -> ControlFlow<()>,
) -> Result<(), Fatal> {
    let now = clocks(tables, group)?;
    let order = [table::KV, table::LOCK, table::QUEUE, table::SCHEDULE, table::CACHE];
    for number in order {
        let (from, to) = keys::table_range(group, number);
        let (mut failed, mut stopped) = (None, false);
        tables.scan(&from, &to, &mut |key, value| {
            match one(tables, group, key, value, now, visit) {
                Ok(ControlFlow::Continue(())) => return ControlFlow::Continue(()),
                Ok(ControlFlow::Break(())) => stopped = true,
                Err(fatal) => failed = Some(fatal),
            }
            ControlFlow::Break(())
        })?;
        if let Some(fatal) = failed {
            return Err(fatal);
        }
        if stopped {
            return Ok(());
        }
    }
    Ok(())
}

fn one(
    tables: &dyn Read,
    group: GroupId,
    key: &[u8],
    value: &[u8],
    now: Stamp,
    visit: &mut dyn FnMut(Exported<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Fatal> {
    Ok(match keys::parse(group, key) {
        Some(Key::Kv { namespace, key }) => {
            match kv_item(&Bytes::copy_from_slice(value), || Ok(now.lease_ms))? {
                Some(item) => visit(Exported::Key { namespace, key, item }),
                None => ControlFlow::Continue(()),
            }
        }
        Some(Key::Lock { namespace, name }) => {
            let item = lock_item(rows::decode("lock row", value)?, now.lease_ms);
            visit(Exported::Lock { namespace, name, item })
        }
        Some(Key::Queue { namespace, name }) => {
            let row = rows::decode("queue row", value)?;
            queue(tables, group, (namespace, name), row, now, visit)?
        }
        Some(Key::Schedule { namespace, name }) => {
            let item = schedule_item(rows::decode("schedule row", value)?);
            visit(Exported::Schedule { namespace, name, item })
        }
        Some(Key::Cache { namespace, key }) => {
            let bytes = Bytes::copy_from_slice(value);
            match cache_item(tables, group, namespace, &bytes, || Ok(now.lease_ms))? {
                Some(item) => visit(Exported::CacheEntry { namespace, key, item }),
                None => ControlFlow::Continue(()),
            }
        }
        _ => return Err(Fatal::Invariant(format!("a table has the key {key:02x?}"))),
    })
}

fn queue(
    tables: &dyn Read,
    group: GroupId,
    (namespace, name): (&str, &str),
    row: QueueRow,
    now: Stamp,
    visit: &mut dyn FnMut(Exported<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Fatal> {
    let QueueRow { era, paused, options, .. } = row;
    if visit(Exported::Queue { namespace, name, paused, options }).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    let (mut failed, mut flow) = (None, ControlFlow::Continue(()));
    rows::each_job(tables, group, era, None, |id, row, _| {
        match job_item(tables, group, id, row, now, true) {
            Ok(item) => flow = visit(Exported::Job { namespace, queue: name, item }),
            Err(fatal) => {
                failed = Some(fatal);
                flow = ControlFlow::Break(());
            }
        }
        flow
    })?;
    failed.map_or(Ok(flow), Err)
}
