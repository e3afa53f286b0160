//! Schedules: their requests and answers.

use super::push::new_job;
use super::{at_most, queue_name, reads::headers};
use crate::grpc::Refused;
use crate::schedules;
use crate::wire::kv::{Freshness, freshness, selector, unselectable};
use crate::wire::{Invalid, caller, guard, invalid, namespace, unexpected};
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::repeats::Repeats as Asked;
use quorate_state::limits::{
    Limits, QUEUE_NAME_BYTES_MAX, SCHEDULE_EVERY_MS_MAX, SCHEDULE_EVERY_MS_MIN,
    SCHEDULE_TEXT_BYTES_MAX,
};
use quorate_state::query::{ScheduleItem, SchedulePage};
use quorate_state::{
    Command, Delay, Envelope, GroupId, KeySelection, KeySelector, NewJob, Outcome, Repeats,
    Revision, ScheduleDelete, SchedulePut,
};

/// A time to try texts at: some that name no time at all are told so by the one who writes them.
const TRIED_AT_UNIX_MS: u64 = 1_767_225_600_000;
/// Schedules in a page when nothing is said, and at most.
const PAGE_ITEMS: u32 = 100;
const PAGE_ITEMS_MAX: u32 = 1_000;

fn schedule_name(name: String) -> Result<String, Invalid> {
    if name.is_empty() {
        return Err(invalid(
            "SCHEDULE_NAME_EMPTY",
            "the schedule's name is empty; give at least one byte",
        ));
    }
    let what = "the length of the schedule's name in bytes";
    at_most("SCHEDULE_NAME_TOO_LONG", what, name.len() as u64, QUEUE_NAME_BYTES_MAX)?;
    Ok(name)
}

fn repeats(asked: Option<v1::Repeats>) -> Result<Repeats, Invalid> {
    let asked = asked.and_then(|asked| asked.repeats).ok_or_else(|| {
        invalid("NO_REPEATS", "the schedule does not say when; give it every_ms or a cron text")
    })?;
    match asked {
        Asked::EveryMs(ms) => {
            if ms < SCHEDULE_EVERY_MS_MIN {
                return Err(invalid(
                    "INVALID_EVERY",
                    format!("every_ms is {ms}, the least is {SCHEDULE_EVERY_MS_MIN}"),
                ));
            }
            at_most("INVALID_EVERY", "every_ms", ms, SCHEDULE_EVERY_MS_MAX)?;
            Ok(Repeats::Every { ms })
        }
        Asked::Cron(v1::CronRepeats { text, time_zone: zone }) => {
            let limit = SCHEDULE_TEXT_BYTES_MAX;
            at_most("INVALID_CRON", "the length of the cron text", text.len() as u64, limit)?;
            at_most("INVALID_CRON", "the length of the time zone", zone.len() as u64, limit)?;
            match schedules::next_unix_ms(&text, &zone, TRIED_AT_UNIX_MS) {
                Ok(Some(_)) => Ok(Repeats::Cron { text, zone }),
                Ok(None) => Err(invalid(
                    "INVALID_CRON",
                    format!("{text:?} names no time that ever comes; name one that does"),
                )),
                Err(why) => Err(invalid("INVALID_CRON", why)),
            }
        }
    }
}

pub(crate) fn put_schedule(
    request: v1::PutScheduleRequest,
    limits: &Limits,
) -> Result<Envelope, Invalid> {
    let v1::PutScheduleRequest { namespace: name, origin, schedule, queue, job, repeats: when } =
        request;
    let job = job.ok_or_else(|| invalid("NO_JOBS", "the schedule has no job; give it one"))?;
    let put = SchedulePut {
        name: schedule_name(schedule)?,
        queue: queue_name(queue)?,
        job: new_job(job, limits)?,
        repeats: repeats(when)?,
        next_wall_ms: None,
    };
    Ok(Envelope {
        namespace: namespace(name)?,
        caller: caller(&origin)?,
        guard: guard(origin)?,
        command: Command::SchedulePut(put),
    })
}

pub(crate) fn schedule_put(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::PutScheduleResponse, Refused> {
    match outcome {
        Outcome::SchedulePut { created, next_wall_ms, revision } => Ok(v1::PutScheduleResponse {
            created,
            next_unix_ms: next_wall_ms,
            revision: revision.0,
            group_id: group.0,
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn delete_schedule(request: v1::DeleteScheduleRequest) -> Result<Envelope, Invalid> {
    let v1::DeleteScheduleRequest { namespace: name, origin, schedule } = request;
    Ok(Envelope {
        namespace: namespace(name)?,
        caller: caller(&origin)?,
        guard: guard(origin)?,
        command: Command::ScheduleDelete(ScheduleDelete { name: schedule_name(schedule)? }),
    })
}

pub(crate) fn schedule_deleted(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::DeleteScheduleResponse, Refused> {
    match outcome {
        Outcome::ScheduleDelete { deleted, revision } => {
            Ok(v1::DeleteScheduleResponse { deleted, revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

/// A checked `ListSchedules`.
#[derive(Clone, Debug)]
pub(crate) struct ListSchedules {
    pub(crate) namespace: String,
    pub(crate) selection: KeySelection,
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
    pub(crate) fresh: Freshness,
}

pub(crate) fn list_schedules(request: v1::ListSchedulesRequest) -> Result<ListSchedules, Invalid> {
    let selector = selector(request.selector).unwrap_or(KeySelector::Prefix(Bytes::new()));
    if request.cursor.len() as u64 > QUEUE_NAME_BYTES_MAX {
        return Err(invalid("INVALID_CURSOR", "the cursor is none that was answered before"));
    }
    let limit = if request.limit == 0 { PAGE_ITEMS } else { request.limit.min(PAGE_ITEMS_MAX) };
    Ok(ListSchedules {
        namespace: namespace(request.namespace)?,
        selection: selector.select().map_err(|rejection| unselectable(&rejection))?,
        after: (!request.cursor.is_empty()).then_some(request.cursor),
        limit: limit as usize,
        fresh: freshness(request.consistency, request.min_revision)?,
    })
}

pub(crate) fn listed_schedules(
    page: SchedulePage,
    revision: Revision,
    group: GroupId,
) -> v1::ListSchedulesResponse {
    let schedules = page.schedules.into_iter().map(|(name, item)| schedule(name, item));
    v1::ListSchedulesResponse {
        schedules: schedules.collect(),
        cursor: page.cursor.unwrap_or_default(),
        revision: revision.0,
        group_id: group.0,
    }
}

fn schedule(name: String, item: ScheduleItem) -> v1::Schedule {
    let repeats = match item.repeats {
        Repeats::Every { ms } => Asked::EveryMs(ms),
        Repeats::Cron { text, zone } => Asked::Cron(v1::CronRepeats { text, time_zone: zone }),
    };
    v1::Schedule {
        schedule: name,
        queue: item.queue,
        job: Some(job(item.job)),
        repeats: Some(v1::Repeats { repeats: Some(repeats) }),
        next_unix_ms: item.next_wall_ms,
        last_unix_ms: item.last_wall_ms,
        pushed: item.pushed,
        refused: item.refused,
    }
}

fn job(job: NewJob) -> v1::NewJob {
    let (delay_ms, not_before_ms) = match job.delay {
        Delay::None => (0, 0),
        Delay::For { ms } => (ms, 0),
        Delay::Until { wall_ms } => (0, wall_ms),
    };
    let (dedupe_key, dedupe_window_ms) = match job.dedupe {
        Some(dedupe) => (dedupe.key, dedupe.window_ms.unwrap_or(0)),
        None => (Bytes::new(), 0),
    };
    v1::NewJob {
        payload: job.payload,
        content_type: job.content_type,
        headers: headers(job.headers),
        priority: job.priority.into(),
        delay_ms,
        not_before_ms,
        ttl_ms: job.ttl_ms,
        group: job.group.unwrap_or_default(),
        dedupe_key,
        dedupe_window_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(when: Option<Asked>) -> v1::PutScheduleRequest {
        v1::PutScheduleRequest {
            schedule: "s".to_owned(),
            queue: "q".to_owned(),
            job: Some(v1::NewJob { payload: "x".into(), ..Default::default() }),
            repeats: when.map(|repeats| v1::Repeats { repeats: Some(repeats) }),
            ..Default::default()
        }
    }

    fn cron(text: &str, zone: &str) -> Option<Asked> {
        Some(Asked::Cron(v1::CronRepeats { text: text.to_owned(), time_zone: zone.to_owned() }))
    }

    #[test]
    fn what_never_comes_is_refused_where_it_is_written() {
        let limits = Limits::default();
        let reason = |request| put_schedule(request, &limits).unwrap_err().reason;
        assert_eq!(reason(asked(None)), "NO_REPEATS");
        assert_eq!(reason(asked(Some(Asked::EveryMs(999)))), "INVALID_EVERY");
        assert_eq!(reason(asked(Some(Asked::EveryMs(u64::MAX)))), "INVALID_EVERY");
        for (text, zone) in [("61 * * * *", ""), ("* * * * *", "Mars/Base"), ("0 0 30 2 *", "")] {
            assert_eq!(reason(asked(cron(text, zone))), "INVALID_CRON", "{text:?} {zone:?}");
        }
        let long = "* ".repeat(200);
        assert_eq!(reason(asked(cron(&long, ""))), "INVALID_CRON");
        let nameless = v1::PutScheduleRequest { schedule: String::new(), ..asked(None) };
        assert_eq!(reason(nameless), "SCHEDULE_NAME_EMPTY");
        let jobless = v1::PutScheduleRequest { job: None, ..asked(cron("@daily", "")) };
        assert_eq!(reason(jobless), "NO_JOBS");
        put_schedule(asked(cron("0 6 * * MON-FRI", "Europe/Berlin")), &limits).unwrap();
    }

    #[test]
    fn a_schedule_is_shown_as_it_was_put() {
        let request = asked(cron("@daily", "Asia/Tokyo"));
        let envelope = put_schedule(request.clone(), &Limits::default()).unwrap();
        let Command::SchedulePut(put) = envelope.command else { panic!("a schedule is put") };
        let item = ScheduleItem {
            id: quorate_state::ScheduleId(1),
            queue: put.queue,
            job: put.job,
            repeats: put.repeats,
            next_wall_ms: Some(7),
            pushed: 3,
            refused: 0,
            last_wall_ms: None,
        };
        let shown = schedule(put.name, item);
        assert_eq!((shown.job, shown.repeats), (request.job, request.repeats));
        assert_eq!((shown.next_unix_ms, shown.last_unix_ms), (Some(7), None));
    }
}
