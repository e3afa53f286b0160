//! Times of schedules that are written as cron texts. The state machine can't work them out, because
//! every node has its own edition of the tables of time zones; so the leader's node says them, one at
//! a time, and the log decides.

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use quorate_consensus::{Applied, Replica};
use quorate_state::{Caller, Command, Envelope, Event, Repeats, ScheduleNext, query};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How often the leader's node looks for schedules that ask, beside when it hears of one: an answer may
/// have been lost with an earlier leader.
const LOOK: Duration = Duration::from_secs(5);
/// How long one answer may take. It is given again at the next look.
const PROPOSAL: Duration = Duration::from_secs(5);

/// The first time after `after_unix_ms` that a cron text names in a time zone, which is UTC when it is
/// empty; none when there is no further one.
///
/// # Errors
/// What is wrong with the text or the zone.
pub(crate) fn next_unix_ms(
    text: &str,
    zone: &str,
    after_unix_ms: u64,
) -> Result<Option<u64>, String> {
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    let cron = parser.parse(text).map_err(|error| {
        let error = error.to_string();
        let error = error.trim_end_matches('.');
        format!(
            "{text:?} is no cron text: {error}; write minute, hour, day of the month, month and day \
             of the week, as `0 6 * * MON-FRI`"
        )
    })?;
    let zone = match zone {
        "" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|_| {
            format!("there is no time zone {name:?}; name one as Europe/Berlin, or none for UTC")
        })?,
    };
    let after =
        i64::try_from(after_unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let Some(after) = after else { return Ok(None) };
    match cron.find_next_occurrence(&after.to_zoned(zone), false) {
        Ok(next) => Ok(u64::try_from(next.timestamp().as_millisecond()).ok()),
        // The 30th of February.
        Err(CronError::TimeSearchLimitExceeded) => Ok(None),
        Err(error) => Err(format!("{text:?} names no time: {error}")),
    }
}

/// Says the next times of schedules that ask for them, while this node leads, until the replica stops.
pub(crate) async fn follow(replica: Replica, mut applied: broadcast::Receiver<Applied>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            told = applied.recv() => match told {
                Ok(Applied::Events(events)) => {
                    if !events.iter().any(|event| matches!(event, Event::ScheduleDue { .. })) {
                        continue;
                    }
                }
                Ok(Applied::Resync) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = looks.tick() => {}
        }
        if replica.leader() == Some(replica.node_id()) {
            answer(&replica).await;
        }
    }
}

async fn answer(replica: &Replica) {
    let asking = {
        let view = replica.stale();
        let (tables, group) = (&*view.tables, replica.group());
        query::asking_schedules(tables, group)
            .and_then(|asking| Ok((asking, query::clocks(tables, group)?.wall_ms)))
    };
    let (asking, now_ms) = match asking {
        Ok(asking) => asking,
        Err(fatal) => {
            tracing::error!(%fatal, "schedules can't be read");
            return;
        }
    };
    for schedule in asking {
        let Repeats::Cron { text, zone } = &schedule.repeats else { continue };
        let next = next_unix_ms(text, zone, now_ms);
        if let Err(why) = &next {
            // It was checked where it was put: this node knows other time zones.
            tracing::warn!(schedule = schedule.name, why, "a schedule has no further time here");
        }
        let next = ScheduleNext {
            name: schedule.name,
            id: schedule.id,
            next_wall_ms: next.unwrap_or(None),
        };
        let envelope = Envelope {
            namespace: schedule.namespace,
            caller: Caller::Anonymous,
            guard: None,
            command: Command::ScheduleNext(next),
        };
        if let Err(failure) = replica.propose(envelope, PROPOSAL).await {
            tracing::debug!(%failure, "the next time of a schedule could not be said yet");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let from: Timestamp = from.parse().unwrap();
        let mut at_ms = u64::try_from(from.as_millisecond()).unwrap();
        let mut times = Vec::new();
        for _ in 0..count {
            at_ms = next_unix_ms(text, zone, at_ms).unwrap().unwrap();
            let at = Timestamp::from_millisecond(i64::try_from(at_ms).unwrap()).unwrap();
            times.push(at.to_string());
        }
        times
    }

    #[test]
    fn texts_name_the_times_that_they_should() {
        let from = "2026-03-27T12:00:00Z";
        assert_eq!(
            times("0 6 * * MON-FRI", "", from, 2),
            ["2026-03-30T06:00:00Z", "2026-03-31T06:00:00Z"]
        );
        assert_eq!(times("*/30 * * * * *", "", from, 1), ["2026-03-27T12:00:30Z"]);
        assert_eq!(times("@daily", "Asia/Tokyo", from, 1), ["2026-03-27T15:00:00Z"]);
    }

    #[test]
    fn a_time_that_is_skipped_comes_late_and_one_that_comes_twice_once() {
        // The clocks go forward on the 29th of March, and back on the 25th of October.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn what_names_no_time_is_told() {
        assert_eq!(next_unix_ms("0 0 30 2 *", "", 0), Ok(None));
        assert_eq!(next_unix_ms("* * * * *", "", u64::MAX), Ok(None));
        for (text, zone, says) in [
            ("61 * * * *", "", "is no cron text"),
            ("* * *", "", "is no cron text"),
            ("", "", "is no cron text"),
            ("* * * * *", "Mars/Base", "no time zone \"Mars/Base\""),
        ] {
            let why = next_unix_ms(text, zone, 0).unwrap_err();
            assert!(why.contains(says), "{text:?} {zone:?}: {why}");
        }
    }
}
