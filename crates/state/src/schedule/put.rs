//! Makes or replaces a schedule.

use super::{check_name, find, key, unschedule, write};
use crate::limits::{
    SCHEDULE_EVERY_MS_MAX, SCHEDULE_EVERY_MS_MIN, SCHEDULE_JOB_BYTES_MAX, SCHEDULE_TEXT_BYTES_MAX,
    SCHEDULES_MAX,
};
use crate::queue;
use crate::rows::ScheduleRow;
use crate::scope::{Failure, Scope, at_most, within};
use crate::{Event, Outcome, Rejection, Repeats, ScheduleId, SchedulePut};

/// Its counts begin anew. One that names no first time asks for it, if it can't work it out.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    put: &SchedulePut,
) -> Result<Outcome, Failure> {
    check_name(&put.name)?;
    queue::check_name(&put.queue)?;
    queue::check_new_name(&put.queue)?;
    queue::push::check(&put.job)?;
    queue::push::check_until(scope, &put.job)?;
    let what = "bytes of what is in the job of a schedule";
    within(what, put.job.bytes(), SCHEDULE_JOB_BYTES_MAX)?;
    let now_ms = scope.meta.stamp.wall_ms;
    let next_ms = match (&put.repeats, put.next_wall_ms) {
        (Repeats::Every { ms }, next_ms) => {
            if *ms < SCHEDULE_EVERY_MS_MIN {
                return Err(Failure::Rejected(Rejection::Invalid(format!(
                    "the schedule is every {ms} ms, the least is {SCHEDULE_EVERY_MS_MIN} ms"
                ))));
            }
            at_most("time between two jobs in milliseconds", *ms, SCHEDULE_EVERY_MS_MAX)?;
            Some(next_ms.unwrap_or_else(|| now_ms.saturating_add(*ms)))
        }
        (Repeats::Cron { text, zone }, next_ms) => {
            within("bytes of a schedule's text", text.len(), SCHEDULE_TEXT_BYTES_MAX)?;
            within("bytes of a time zone's name", zone.len(), SCHEDULE_TEXT_BYTES_MAX)?;
            next_ms
        }
    };
    // A time that passed meanwhile is due at once, which is with the next entry.
    let next_ms = next_ms.map(|at_ms| at_ms.max(now_ms.saturating_add(1)));
    let ahead_ms = next_ms.unwrap_or(now_ms).saturating_sub(now_ms);
    at_most("time until a schedule is due in milliseconds", ahead_ms, SCHEDULE_EVERY_MS_MAX)?;

    let key = key(scope, namespace, &put.name);
    let before = find(scope, &key)?;
    match &before {
        Some(before) => unschedule(scope, &key, before),
        None => {
            at_most("schedules", scope.queues.meta.schedules + 1, SCHEDULES_MAX)?;
            scope.queues.meta.schedules += 1;
        }
    }
    let row = ScheduleRow {
        id: ScheduleId(scope.queues.next_id()),
        queue: put.queue.clone(),
        job: put.job.clone(),
        repeats: put.repeats.clone(),
        next_wall_ms: next_ms,
        asks: next_ms.is_none(),
        pushed: 0,
        refused: 0,
        last_wall_ms: None,
    };
    write(scope, &key, &row);
    if row.asks {
        let (namespace, name) = (namespace.to_owned(), put.name.clone());
        scope.events.push(Event::ScheduleDue { namespace, name });
    }
    let revision = scope.revision;
    Ok(Outcome::SchedulePut { created: before.is_none(), next_wall_ms: next_ms, revision })
}
