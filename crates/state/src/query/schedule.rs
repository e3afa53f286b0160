//! Schedules as a reader sees them.

use super::named::Named;
use crate::keys::{self, Key};
use crate::machine::Fatal;
use crate::rows::{self, ScheduleRow};
use crate::session::each_row;
use crate::{GroupId, KeySelection, NewJob, Read, Repeats, ScheduleId};

/// A page ends once its schedules have so many bytes.
const PAGE_BYTES: usize = 256 << 10;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleItem {
    /// As which it was put.
    pub id: ScheduleId,
    /// Where the jobs go.
    pub queue: String,
    /// The job.
    pub job: NewJob,
    /// When.
    pub repeats: Repeats,
    /// Wall time at which it is due; none: that is being worked out, or never again.
    pub next_wall_ms: Option<u64>,
    /// Jobs that it pushed.
    pub pushed: u64,
    /// Times at which it could not: the push was refused, as by a queue that is full.
    pub refused: u64,
    /// Wall time of the newest one.
    pub last_wall_ms: Option<u64>,
}

pub(super) fn schedule_item(row: ScheduleRow) -> ScheduleItem {
    let ScheduleRow {
        id,
        queue,
        job,
        repeats,
        next_wall_ms,
        asks: _,
        pushed,
        refused,
        last_wall_ms,
    } = row;
    ScheduleItem { id, queue, job, repeats, next_wall_ms, pushed, refused, last_wall_ms }
}

/// A part of the schedules there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulePage {
    /// Their names, in order.
    pub schedules: Vec<(String, ScheduleItem)>,
    /// Where the next page begins; none on the last one. A page may be short, or empty, and have
    /// one all the same.
    pub cursor: Option<String>,
}

/// A page of the selected schedules, after that of the name `after`.
///
/// # Errors
/// When the tables fail.
pub fn schedules(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    selection: &KeySelection,
    after: Option<&str>,
    items_max: usize,
) -> Result<SchedulePage, Fatal> {
    let (table, bytes_max) = (keys::table::SCHEDULE, PAGE_BYTES);
    let named = Named { table, namespace, selection, after, items_max, bytes_max };
    let (rows, cursor) = named.page(tables, group)?;
    let schedules = rows.into_iter().map(|(name, row)| (name, schedule_item(row)));
    Ok(SchedulePage { schedules: schedules.collect(), cursor })
}

/// A schedule that asks when it is due next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskingSchedule {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// As which it was put.
    pub id: ScheduleId,
    /// What it was asked to be.
    pub repeats: Repeats,
    /// Wall time at which it was due last.
    pub last_wall_ms: Option<u64>,
}

/// The schedules that somebody has to say the next time of.
///
/// # Errors
/// When the tables fail.
pub fn asking_schedules(tables: &dyn Read, group: GroupId) -> Result<Vec<AskingSchedule>, Fatal> {
    let mut asking = Vec::new();
    each_row(tables, group, keys::table::SCHEDULE, |key, value| {
        let Some(Key::Schedule { namespace, name }) = keys::parse(group, key) else {
            return Err(Fatal::Invariant(format!("SCHEDULE holds the key {key:02x?}")));
        };
        let row: ScheduleRow = rows::decode("schedule row", value)?;
        asking.extend(if_asking(namespace, name, row));
        Ok(())
    })?;
    Ok(asking)
}

/// The schedule of this name, if it is one of those.
///
/// # Errors
/// When the tables fail.
pub fn asking_schedule(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    name: &str,
) -> Result<Option<AskingSchedule>, Fatal> {
    let row = rows::find(tables, "schedule row", &keys::schedule(group, namespace, name))?;
    Ok(row.and_then(|row| if_asking(namespace, name, row)))
}

fn if_asking(namespace: &str, name: &str, row: ScheduleRow) -> Option<AskingSchedule> {
    let ScheduleRow { id, repeats, last_wall_ms, .. } = row;
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    row.asks.then_some(AskingSchedule { namespace, name, id, repeats, last_wall_ms })
}
