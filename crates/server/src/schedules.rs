//! Times of schedules that are written as cron texts. The state machine can't work them out, because
//! every node has its own edition of the tables of time zones; so the leader's node says them, one at
//! a time, and the log decides.

use crate::grpc::blocking;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::{CronComponent, YEAR_LOWER_LIMIT, YEAR_UPPER_LIMIT};
use futures::TryStreamExt as _;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use quorate_consensus::{Applied, Replica};
use quorate_state::query::{self, AskingSchedule};
use quorate_state::{
    Caller, Command, Envelope, Event, Fatal, GroupId, Read, Repeats, ScheduleNext,
};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Years in which a text has to name a time: the 29th of February falls on a given day of the week
/// every 40 years at the least.
const SEARCHED_YEARS: i32 = 50;
/// How often a node looks whether there may be schedules that ask and that it did not hear of: it
/// began to lead, missed something, or an answer failed.
const LOOK: Duration = Duration::from_secs(5);
/// How long one answer may take. It is given again at the next look.
const PROPOSAL: Duration = Duration::from_secs(5);
/// Schedules that are answered at once. All there are may ask when a leader begins.
const ANSWERS_AT_ONCE: usize = 64;

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
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    let mut cron = parser.parse(text).map_err(|error| {
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
    let after = after.to_zoned(zone);
    cron.pattern.years = searched_years(&after).map_err(|error| error.to_string())?;
    match cron.find_next_occurrence(&after, false) {
        Ok(next) => Ok(u64::try_from(next.timestamp().as_millisecond()).ok()),
        // None in those years.
        Err(CronError::TimeSearchLimitExceeded) => Ok(None),
        Err(error) => Err(format!("{text:?} names no time: {error}")),
    }
}

/// The years in which a time is looked for, from that of `after`: day by day to the last one there is
/// takes long, and a text that names the 30th of February would have everybody wait for it.
fn searched_years(after: &Zoned) -> Result<CronComponent, CronError> {
    let (min, max) = (YEAR_LOWER_LIMIT, YEAR_UPPER_LIMIT);
    let years = [min, max].map(|year| u16::try_from(year).unwrap_or(u16::MAX));
    let first = i32::from(after.year()).clamp(min, max);
    let last = first.saturating_add(SEARCHED_YEARS).min(max);
    let mut component = CronComponent::new(years[0], years[1], 0, 0);
    component.parse(&format!("{first}-{last}"))?;
    Ok(component)
}

/// Says the next times of schedules that ask for them, while this node leads, until the server or the
/// replica stops.
pub(crate) async fn follow(
    replica: Replica,
    applied: broadcast::Receiver<Applied>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = (Answers { replica, looked_in: None }).follow(applied) => {}
        () = stop.cancelled() => {}
    }
}

struct Answers {
    replica: Replica,
    /// The term of this node's in which it looked at all schedules; none: one may ask that it does
    /// not know of.
    looked_in: Option<u64>,
}

impl Answers {
    async fn follow(mut self, mut applied: broadcast::Receiver<Applied>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = applied.recv() => match told {
                    Ok(Applied::Events(events)) => self.told(&events).await,
                    Ok(Applied::Resync) | Err(RecvError::Lagged(_)) => self.looked_in = None,
                    Err(RecvError::Closed) => return,
                },
                _ = looks.tick() => self.look().await,
            }
        }
    }

    /// Answers those that ask just now. A leader that does not know of it yet looks at all of them
    /// when it does.
    async fn told(&mut self, events: &[Event]) {
        let due = events.iter().filter_map(|event| match event {
            Event::ScheduleDue { namespace, name } => Some((namespace, name)),
            _ => None,
        });
        let due: Vec<_> = due.collect();
        if due.is_empty() || self.replica.leads_in().is_none() {
            return;
        }
        self.answer(|tables, group| {
            let of = |(namespace, name): &(&String, &String)| {
                query::asking_schedule(tables, group, namespace, name).transpose()
            };
            due.iter().filter_map(of).collect()
        })
        .await;
    }

    /// Answers all that ask, once in a term and when something was missed.
    async fn look(&mut self) {
        let term = self.replica.leads_in();
        if term.is_some() && term != self.looked_in {
            self.looked_in = term;
            self.answer(|tables, group| blocking(|| query::asking_schedules(tables, group))).await;
        }
    }

    async fn answer(
        &mut self,
        asking: impl FnOnce(&dyn Read, GroupId) -> Result<Vec<AskingSchedule>, Fatal>,
    ) {
        let found = {
            let view = self.replica.stale();
            let (tables, group) = (&*view.tables, self.replica.group());
            asking(tables, group).and_then(|asking| Ok((asking, query::clocks(tables, group)?)))
        };
        let (asking, now) = match found {
            Ok(found) => found,
            Err(fatal) => {
                tracing::error!(%fatal, "schedules can't be read");
                self.looked_in = None;
                return;
            }
        };
        let replica = &self.replica;
        let answers = asking.into_iter().filter_map(|schedule| next(schedule, now.wall_ms)).map(Ok);
        let said = futures::stream::iter(answers)
            .try_for_each_concurrent(ANSWERS_AT_ONCE, |answer| async {
                replica.propose(answer, PROPOSAL).await.map(drop)
            });
        if let Err(failure) = said.await {
            tracing::debug!(%failure, "the next time of a schedule could not be said yet");
            self.looked_in = None;
        }
    }
}

/// What a schedule is to be told, if it can be.
fn next(schedule: AskingSchedule, now_ms: u64) -> Option<Envelope> {
    let Repeats::Cron { text, zone } = &schedule.repeats else { return None };
    // From when it was due last: what passed while nobody led counts as one time, not as none.
    let next = match next_unix_ms(text, zone, schedule.last_wall_ms.unwrap_or(now_ms)) {
        Ok(next) => next,
        Err(why) => {
            // It was checked where it was put: that node knew other texts or zones. So another leader
            // may know them, and it goes on asking.
            let AskingSchedule { namespace, name, .. } = &schedule;
            tracing::warn!(namespace, name, why, "this node can't tell a schedule's next time");
            return None;
        }
    };
    let next = ScheduleNext { name: schedule.name, id: schedule.id, next_wall_ms: next };
    Some(Envelope {
        namespace: schedule.namespace,
        caller: Caller::Anonymous,
        guard: None,
        command: Command::ScheduleNext(next),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::ScheduleId;

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
        // The rarest of days: a 29th of February that is a Monday, over a year that has none.
        assert_eq!(times("0 0 29 2 +MON", "", "2072-03-01T00:00:00Z", 1), ["2112-02-29T00:00:00Z"]);
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
        // What names more than one time of day goes by what the clock shows, again and again.
        assert_eq!(
            times("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", 2),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"]
        );
        assert_eq!(
            times("30 0,2 * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", 1),
            ["2026-03-29T22:30:00Z"]
        );
        assert_eq!(
            times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:15:00Z", 4),
            [
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z"
            ]
        );
    }

    #[test]
    fn what_passed_while_nobody_said_is_one_time_and_not_none() {
        let asks = |text: &str, last_wall_ms| AskingSchedule {
            namespace: "n".to_owned(),
            name: "s".to_owned(),
            id: ScheduleId(7),
            repeats: Repeats::Cron { text: text.to_owned(), zone: String::new() },
            last_wall_ms,
        };
        let (hour_ms, now_ms) = (3_600_000, 500 * 3_600_000 + 1);
        let said = |text: &str, last_wall_ms| {
            let envelope = next(asks(text, last_wall_ms), now_ms)?;
            let Command::ScheduleNext(next) = envelope.command else { panic!("{envelope:?}") };
            assert_eq!(
                (envelope.namespace.as_str(), next.name.as_str(), next.id),
                ("n", "s", ScheduleId(7))
            );
            Some(next.next_wall_ms)
        };
        assert_eq!(said("0 * * * *", None), Some(Some(501 * hour_ms)));
        assert_eq!(said("0 * * * *", Some(now_ms)), Some(Some(501 * hour_ms)));
        assert_eq!(said("0 * * * *", Some(400 * hour_ms + 7)), Some(Some(401 * hour_ms)));
        assert_eq!(said("0 0 30 2 *", None), Some(None), "never again");
        // Another node may be able to read it: nothing is said.
        assert_eq!(said("0 0 * * * * * *", None), None);
    }

    #[test]
    fn what_names_no_time_is_told() {
        assert_eq!(next_unix_ms("0 0 30 2 *", "", 0), Ok(None));
        assert_eq!(next_unix_ms("* * * * *", "", u64::MAX), Ok(None));
        for (text, zone, says) in [
            ("61 * * * *", "", "is no cron text"),
            ("* * *", "", "is no cron text"),
            ("", "", "is no cron text"),
            // Years are for clocks that go on for ever; a field too many is a slip.
            ("0 0 6 * * MON 2030", "", "is no cron text"),
            ("* * * * *", "Mars/Base", "no time zone \"Mars/Base\""),
        ] {
            let why = next_unix_ms(text, zone, 0).unwrap_err();
            assert!(why.contains(says), "{text:?} {zone:?}: {why}");
        }
    }
}
