//! What a page of metrics shows of the state: of the queues with most jobs what happens in them, of
//! locks and sessions how many there are. What it costs follows from how many queues, locks and sessions
//! there are, never from how many jobs.

use super::queue::queue_item;
use super::{QueueItem, clocks};
use crate::keys::{self, Key};
use crate::machine::Fatal;
use crate::rows::{self, LockRow, QueueCountsRow, QueueRow};
use crate::session::each_row;
use crate::{GroupId, QueueId, Read};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A queue among those of all namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedQueue {
    /// Where it is.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// How it is.
    pub item: QueueItem,
}

/// The queues with most jobs that are not done, most first, up to `items_max`, of all namespaces; and how
/// many others there are. Those with as many as each other are in the order of namespaces and names.
///
/// # Errors
/// When the tables fail.
pub fn fullest_queues(
    tables: &dyn Read,
    group: GroupId,
    items_max: usize,
) -> Result<(Vec<NamedQueue>, u64), Fatal> {
    let mut jobs: BTreeMap<QueueId, u64> = BTreeMap::new();
    if items_max > 0 {
        each_row(tables, group, keys::table::QUEUE_COUNTS, |key, value| {
            let Some(Key::QueueCounts(id)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("QUEUE_COUNTS holds the key {key:02x?}")));
            };
            let counts: QueueCountsRow = rows::decode("queue counts row", value)?;
            jobs.insert(id, counts.jobs.unfinished());
            Ok(())
        })?;
    }
    let mut all = Vec::new();
    each_row(tables, group, keys::table::QUEUE, |key, value| {
        let Some(Key::Queue { namespace, name }) = keys::parse(group, key) else {
            return Err(Fatal::Invariant(format!("QUEUE holds the key {key:02x?}")));
        };
        let row: QueueRow = rows::decode("queue row", value)?;
        // Who has none has never had any.
        let jobs = jobs.get(&row.id).copied().unwrap_or(0);
        all.push((Reverse(jobs), namespace.to_owned(), name.to_owned(), row));
        Ok(())
    })?;
    all.sort_by(|a, b| (a.0, &a.1, &a.2).cmp(&(b.0, &b.1, &b.2)));
    let others = all.len().saturating_sub(items_max) as u64;
    all.truncate(items_max);
    let lease_ms = clocks(tables, group)?.lease_ms;
    let named = all.into_iter().map(|(_, namespace, name, row)| {
        let item = queue_item(tables, group, (&namespace, &name), row, lease_ms)?;
        Ok(NamedQueue { namespace, name, item })
    });
    Ok((named.collect::<Result<_, Fatal>>()?, others))
}

/// How many there are, as far as they were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Locks that are held.
    pub locks_held: u64,
    /// Calls that wait for a lock.
    pub lock_waiters: u64,
    /// There are more locks than were counted.
    pub more_locks: bool,
    /// Sessions that are open.
    pub sessions: u64,
    /// There are more sessions than were counted.
    pub more_sessions: bool,
}

/// How many locks and sessions there are; of each up to `rows_max` rows are read.
///
/// # Errors
/// When the tables fail.
pub fn holdings(tables: &dyn Read, group: GroupId, rows_max: u64) -> Result<Holdings, Fatal> {
    let mut found = Holdings::default();
    found.more_locks = first_rows(tables, group, keys::table::LOCK, rows_max, |value| {
        let row: LockRow = rows::decode("lock row", value)?;
        found.locks_held += u64::from(!row.holders.is_empty());
        found.lock_waiters += row.waiters;
        Ok(())
    })?;
    found.more_sessions = first_rows(tables, group, keys::table::SESSION, rows_max, |_| {
        found.sessions += 1;
        Ok(())
    })?;
    Ok(found)
}

/// Visits the first rows of a table; answers whether there are more.
fn first_rows(
    tables: &dyn Read,
    group: GroupId,
    table: u8,
    rows_max: u64,
    mut visit: impl FnMut(&[u8]) -> Result<(), Fatal>,
) -> Result<bool, Fatal> {
    let (from, to) = keys::table_range(group, table);
    let (mut visited, mut more, mut result) = (0, false, Ok(()));
    tables.scan(&from, &to, &mut |_, value| {
        if visited == rows_max {
            more = true;
            return ControlFlow::Break(());
        }
        visited += 1;
        result = visit(value);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result.map(|()| more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode;
    use crate::rows::MetaRow;
    use crate::testing::GROUP;
    use crate::{Era, JobCounts, MemoryTables, QueueOptions, SessionId, Txn as _};

    fn queue(tables: &mut MemoryTables, id: u64, namespace: &str, name: &str, ready: u64) {
        let id = QueueId(id);
        let row = QueueRow { id, era: Era(1), paused: false, options: QueueOptions::default() };
        tables.put(&keys::queue(GROUP, namespace, name), &encode(&row));
        if ready > 0 {
            let jobs = JobCounts { ready, ..JobCounts::default() };
            let oldest_ready_ms = Some(60);
            let counts = QueueCountsRow { jobs, oldest_ready_ms, ..QueueCountsRow::default() };
            tables.put(&keys::queue_counts(GROUP, id), &encode(&counts));
        }
    }

    fn tables() -> MemoryTables {
        let mut tables = MemoryTables::default();
        let mut meta = MetaRow::default();
        meta.stamp.lease_ms = 100;
        tables.put(&keys::meta(GROUP), &encode(&meta));
        tables
    }

    #[test]
    fn the_fullest_queues_of_all_namespaces_come_first() {
        let mut tables = tables();
        queue(&mut tables, 1, "", "few", 2);
        queue(&mut tables, 2, "", "few.dead", 1);
        queue(&mut tables, 3, "shop", "many", 70);
        queue(&mut tables, 4, "", "never used", 0);
        let named = |items_max| {
            let (queues, others) = fullest_queues(&tables, GROUP, items_max).unwrap();
            let names = queues.iter().map(|queue| (queue.namespace.clone(), queue.name.clone()));
            let names: Vec<_> =
                names.map(|(namespace, name)| format!("{namespace}/{name}")).collect();
            (names, others)
        };
        let all = ["shop/many", "/few", "/few.dead", "/never used"].map(str::to_owned);
        assert_eq!(named(10), (all.to_vec(), 0));
        assert_eq!(named(2), (all[..2].to_vec(), 2));
        assert_eq!(named(0), (Vec::new(), 4));
        let (queues, _) = fullest_queues(&tables, GROUP, 2).unwrap();
        let few = &queues[1].item;
        assert_eq!((few.jobs.ready, few.dead, few.oldest_ready_age_ms), (2, 1, Some(40)));
    }

    #[test]
    fn holdings_are_counted_up_to_a_bound() {
        let mut tables = tables();
        for (name, waiters) in [("a", 0), ("b", 3), ("c", 2)] {
            let row = LockRow { waiters, ..LockRow::default() };
            tables.put(&keys::lock(GROUP, "", name), &encode(&row));
        }
        for id in 1..=4 {
            tables.put(&keys::session(GROUP, SessionId(id)), b"");
        }
        let all = holdings(&tables, GROUP, 10).unwrap();
        let expected = Holdings { lock_waiters: 5, sessions: 4, ..Holdings::default() };
        assert_eq!(all, expected);
        let some = holdings(&tables, GROUP, 3).unwrap();
        let more = Holdings { sessions: 3, more_sessions: true, ..expected };
        assert_eq!(some, more);
        assert!(holdings(&tables, GROUP, 2).unwrap().more_locks);
    }
}
