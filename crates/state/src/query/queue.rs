//! Queues as a reader sees them.

use super::named::Named;
use super::{clocks, exceeds};
use crate::keys;
use crate::limits::{NAMESPACE_BYTES_MAX, QUEUE_NAME_BYTES_MAX};
use crate::machine::Fatal;
use crate::rows::{self, QueueCountsRow, QueueRow};
use crate::{GroupId, JobCounts, KeySelection, QueueOptions, QueueTotals, Read};

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueItem {
    /// Whether it delivers nothing.
    pub paused: bool,
    /// How it works.
    pub options: QueueOptions,
    /// How many jobs are in it.
    pub jobs: JobCounts,
    /// How many jobs are in the queue of its dead letters, whichever queue they came from.
    pub dead: u64,
    /// What has happened in it.
    pub totals: QueueTotals,
    /// Milliseconds of lease time since the job that has been ready for longest is.
    pub oldest_ready_age_ms: Option<u64>,
}

/// The queue; none when it was never made, or deleted.
///
/// # Errors
/// When the tables fail.
pub fn queue(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    name: &str,
) -> Result<Option<QueueItem>, Fatal> {
    let Some(row) = queue_row(tables, group, namespace, name)? else { return Ok(None) };
    let lease_ms = clocks(tables, group)?.lease_ms;
    Ok(Some(queue_item(tables, group, (namespace, name), row, lease_ms)?))
}

/// How many jobs a queue has that are not done.
pub(crate) fn queue_jobs(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    name: &str,
) -> Result<u64, Fatal> {
    let Some(row) = queue_row(tables, group, namespace, name)? else { return Ok(0) };
    Ok(queue_counts(tables, group, &row)?.jobs.unfinished())
}

pub(super) fn queue_row(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    name: &str,
) -> Result<Option<QueueRow>, Fatal> {
    if exceeds(namespace.len(), NAMESPACE_BYTES_MAX) || exceeds(name.len(), QUEUE_NAME_BYTES_MAX) {
        return Ok(None);
    }
    rows::find(tables, "queue row", &keys::queue(group, namespace, name))
}

pub(super) fn queue_counts(
    tables: &dyn Read,
    group: GroupId,
    row: &QueueRow,
) -> Result<QueueCountsRow, Fatal> {
    let counts = rows::find(tables, "queue counts row", &keys::queue_counts(group, row.id))?;
    Ok(counts.unwrap_or_default())
}

pub(super) fn queue_item(
    tables: &dyn Read,
    group: GroupId,
    (namespace, name): (&str, &str),
    row: QueueRow,
    lease_ms: u64,
) -> Result<QueueItem, Fatal> {
    let counts = queue_counts(tables, group, &row)?;
    let dead = match row.options.dead_letters_of(name) {
        Some(dead) => queue_jobs(tables, group, namespace, &dead)?,
        None => 0,
    };
    Ok(QueueItem {
        paused: row.paused,
        options: row.options,
        jobs: counts.jobs,
        dead,
        totals: counts.totals,
        oldest_ready_age_ms: counts.oldest_ready_ms.map(|at_ms| lease_ms.saturating_sub(at_ms)),
    })
}

/// A part of the queues there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuePage {
    /// Their names, in order.
    pub queues: Vec<(String, QueueItem)>,
    /// Where the next page begins; none on the last one. A page may be short, or empty, and have
    /// one all the same.
    pub cursor: Option<String>,
}

/// A page of the selected queues, after that of the name `after`.
///
/// # Errors
/// When the tables fail.
pub fn queues(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    selection: &KeySelection,
    after: Option<&str>,
    items_max: usize,
) -> Result<QueuePage, Fatal> {
    let (table, bytes_max) = (keys::table::QUEUE, usize::MAX);
    let named = Named { table, namespace, selection, after, items_max, bytes_max };
    let (rows, cursor) = named.page(tables, group)?;
    let lease_ms = clocks(tables, group)?.lease_ms;
    let mut queues = Vec::with_capacity(rows.len());
    for (name, row) in rows {
        let item = queue_item(tables, group, (namespace, &name), row, lease_ms)?;
        queues.push((name, item));
    }
    Ok(QueuePage { queues, cursor })
}
