//! `queue schedule`: jobs that are pushed again and again.

use super::info::wall_time;
use super::{NewJob, Queue, read_settings, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::kv::{call_settings, guard_setting, millis, mutation_settings};
use crate::paged::paged;
use bytes::Bytes;
use futures::Stream;
use quorate_proto::v1::repeats::Repeats as Wire;
use quorate_proto::v1::{
    self, Consistency, CronRepeats, DeleteScheduleRequest, KeySelector, ListSchedulesRequest,
    PutScheduleRequest, key_selector::Select,
};
use std::time::{Duration, SystemTime};

/// When a schedule pushes its job, by the cluster's wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repeats {
    /// So often, 1 s to ten years; the first time after one period.
    Every(Duration),
    /// At the times that a cron text says.
    Cron {
        /// Minute, hour, day of the month, month, day of the week, as `0 6 * * MON-FRI`; a sixth field
        /// in front has seconds.
        text: String,
        /// The name of a time zone, as `Europe/Berlin`; empty: UTC. A time that its clock skips comes at
        /// the end of what is skipped, one that it shows twice comes once.
        time_zone: String,
    },
}

impl Repeats {
    /// At the times that a cron text says, in UTC.
    pub fn cron(text: impl Into<String>) -> Self {
        Self::Cron { text: text.into(), time_zone: String::new() }
    }

    /// At the times that a cron text says in a time zone.
    pub fn cron_in(text: impl Into<String>, time_zone: impl Into<String>) -> Self {
        Self::Cron { text: text.into(), time_zone: time_zone.into() }
    }

    fn to_wire(&self) -> v1::Repeats {
        let repeats = match self.clone() {
            Self::Every(period) => Wire::EveryMs(millis(period)),
            Self::Cron { text, time_zone } => Wire::Cron(CronRepeats { text, time_zone }),
        };
        v1::Repeats { repeats: Some(repeats) }
    }
}

/// A schedule is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutSchedule {
    /// Whether there was none of that name.
    pub created: bool,
    /// When it is due first; `None` for a cron text, whose time is worked out a moment later.
    pub next: Option<SystemTime>,
    /// When it happened.
    pub revision: u64,
}

/// A schedule to be made, or to replace the one of that name; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Schedule {
    queue: Queue,
    name: String,
    into: String,
    job: v1::NewJob,
    repeats: Repeats,
    options: CallOptions,
}

impl Schedule {
    pub(super) fn new(
        queue: Queue,
        name: String,
        into: String,
        job: NewJob,
        repeats: Repeats,
    ) -> Self {
        let (job, options) = (job.into_wire(), CallOptions::default());
        Self { queue, name, into, job, repeats, options }
    }

    mutation_settings!();

    async fn send(self) -> Result<PutSchedule, Error> {
        let Self { queue, name, into, job, repeats, options } = self;
        let request = |origin| PutScheduleRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            schedule: name.clone(),
            queue: into.clone(),
            job: Some(job.clone()),
            repeats: Some(repeats.to_wire()),
        };
        let what = "queue schedule";
        let answer = queue.inner.mutate(what, &queue.namespace, &options, request).await?;
        let v1::PutScheduleResponse { created, next_unix_ms, revision, .. } = answer;
        Ok(PutSchedule { created, next: next_unix_ms.map(wall_time), revision })
    }
}

sent_when_awaited!(Schedule => PutSchedule);

/// A schedule to be deleted; sent when awaited. Answers whether there was one.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Unschedule {
    queue: Queue,
    name: String,
    options: CallOptions,
}

impl Unschedule {
    pub(super) fn new(queue: Queue, name: String) -> Self {
        Self { queue, name, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<bool, Error> {
        let Self { queue, name, options } = self;
        let request = |origin| DeleteScheduleRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            schedule: name.clone(),
        };
        let what = "queue unschedule";
        Ok(queue.inner.mutate(what, &queue.namespace, &options, request).await?.deleted)
    }
}

sent_when_awaited!(Unschedule => bool);

/// A schedule as it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScheduleInfo {
    /// What it is called.
    pub name: String,
    /// Where its jobs go.
    pub queue: String,
    /// What is in them.
    pub payload: Bytes,
    /// When.
    pub repeats: Repeats,
    /// When it is due next; `None`: that is being worked out, or never again.
    pub next: Option<SystemTime>,
    /// When it was due last.
    pub last: Option<SystemTime>,
    /// How many jobs it pushed.
    pub pushed: u64,
    /// How often it could not, because its queue was full.
    pub refused: u64,
}

impl ScheduleInfo {
    pub(crate) fn of(schedule: v1::Schedule) -> Result<Self, Error> {
        let repeats = match schedule.repeats.and_then(|repeats| repeats.repeats) {
            Some(Wire::EveryMs(ms)) => Repeats::Every(Duration::from_millis(ms)),
            Some(Wire::Cron(CronRepeats { text, time_zone })) => Repeats::Cron { text, time_zone },
            None => {
                return Err(Error::bad_answer(format!(
                    "schedule {:?} repeats in a way that this client does not know",
                    schedule.schedule
                )));
            }
        };
        Ok(Self {
            name: schedule.schedule,
            queue: schedule.queue,
            payload: schedule.job.map(|job| job.payload).unwrap_or_default(),
            repeats,
            next: schedule.next_unix_ms.map(wall_time),
            last: schedule.last_unix_ms.map(wall_time),
            pushed: schedule.pushed,
            refused: schedule.refused,
        })
    }
}

/// A list of schedules to be asked for.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when its stream is polled"]
pub struct ListSchedules {
    queue: Queue,
    pattern: Bytes,
    consistency: Consistency,
    min_revision: u64,
    options: CallOptions,
}

impl ListSchedules {
    pub(super) fn new(queue: Queue, pattern: &[u8]) -> Self {
        Self {
            queue,
            pattern: Bytes::copy_from_slice(pattern),
            consistency: Consistency::Linearizable,
            min_revision: 0,
            options: CallOptions::default(),
        }
    }

    read_settings!();

    /// The schedules, in the order of their names; page after page, each as it is then. The time of
    /// a call counts for each page.
    pub fn stream(self) -> impl Stream<Item = Result<ScheduleInfo, Error>> + Send + use<> {
        paged(move |cursor| {
            let list = self.clone();
            async move { list.page(cursor).await }
        })
    }

    async fn page(&self, cursor: String) -> Result<(Vec<ScheduleInfo>, String), Error> {
        let plan = self.queue.inner.plan("queue schedules", Effect::Read, &self.options);
        let request = || ListSchedulesRequest {
            namespace: self.queue.namespace.to_string(),
            selector: Some(KeySelector { select: Some(Select::Pattern(self.pattern.clone())) }),
            cursor: cursor.clone(),
            limit: 0,
            consistency: self.consistency.into(),
            min_revision: self.min_revision,
        };
        let answer = self.queue.inner.read(&plan, request).await?;
        let schedules = answer.schedules.into_iter().map(ScheduleInfo::of);
        Ok((schedules.collect::<Result<_, _>>()?, answer.cursor))
    }
}
