//! What holds of queues, jobs and consumers.

use super::broken;
use crate::keys::{self, Clock, DeadlineKind, Key};
use crate::queue::{consumers, deadline_of};
use crate::rows::{
    self, ConsumerRow, DedupeRow, JobBodyRow, JobNoteRow, JobRow, JobState, MetaRow, OldEraRow,
    PullState, QueueCountsRow, QueueRow, QueuesMetaRow, ScheduleRow, Wants, is_live,
};
use crate::{ConsumerId, Era, Fatal, GroupId, JobCounts, JobId, QueueId, SessionId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Queues {
    meta: QueuesMetaRow,
    queues: BTreeMap<QueueId, QueueRow>,
    counts: BTreeMap<QueueId, QueueCountsRow>,
    /// Of the queues.
    eras: BTreeMap<Era, QueueId>,
    jobs: BTreeMap<(Era, JobId), JobRow>,
    bodies: BTreeSet<JobId>,
    notes: BTreeSet<JobId>,
    consumers: BTreeMap<ConsumerId, ConsumerRow>,
    old_eras: BTreeSet<Era>,
    /// Those that have a deadline.
    going_on: BTreeSet<Era>,
    /// The keys of the queues.
    keys: BTreeMap<QueueId, Vec<u8>>,
    /// Deadlines of jobs of old eras.
    may_have: BTreeSet<Vec<u8>>,
    schedules: u64,
}

impl Queues {
    /// The tables come in the order of their numbers, so queues come before their jobs.
    pub(super) fn row(
        &mut self,
        group: GroupId,
        key: &[u8],
        parsed: Key<'_>,
        value: &[u8],
        due: &mut BTreeSet<Vec<u8>>,
    ) -> Result<(), Fatal> {
        match parsed {
            Key::QueuesMeta => self.meta = rows::decode("queues meta row", value)?,
            Key::Queue { name, .. } => {
                let row: QueueRow = rows::decode("queue row", value)?;
                let known = self.eras.insert(row.era, row.id).is_some();
                if known || name.is_empty() || row.id.0.max(row.era.0) > self.meta.id {
                    return broken(format!("queue {name:?} has the row {row:?}"));
                }
                self.keys.insert(row.id, key.to_vec());
                self.queues.insert(row.id, row);
            }
            Key::QueueCounts(id) => {
                let row: QueueCountsRow = rows::decode("queue counts row", value)?;
                if let (Some(at_ms), Some(queue)) = (row.wake_ms, self.keys.get(&id)) {
                    let kind = DeadlineKind::Queue;
                    due.insert(keys::deadline(group, Clock::Lease, at_ms, kind, queue));
                }
                self.counts.insert(id, row);
            }
            Key::Job(era, id) => {
                let row: JobRow = rows::decode("job row", value)?;
                if id.0 > self.meta.id {
                    return broken(format!("job {id} was pushed in the future"));
                }
                if let Some((clock, at_ms)) = deadline_of(&row) {
                    let at = keys::deadline(group, clock, at_ms, DeadlineKind::Job, key);
                    match self.eras.contains_key(&era) {
                        true => due.insert(at),
                        false => self.may_have.insert(at),
                    };
                }
                self.jobs.insert((era, id), row);
            }
            Key::JobBody(id) => {
                JobBodyRow::decode(value)?;
                self.bodies.insert(id);
            }
            Key::JobNote(id) => {
                let _: JobNoteRow = rows::decode("job note row", value)?;
                self.notes.insert(id);
            }
            Key::Consumer(id) => {
                let row: ConsumerRow = rows::decode("consumer row", value)?;
                if let Some(at_ms) = consumers::deadline_ms(&row) {
                    let kind = DeadlineKind::Consumer;
                    due.insert(keys::deadline(group, Clock::Lease, at_ms, kind, key));
                }
                self.consumers.insert(id, row);
            }
            Key::Dedupe(..) => {
                let row: DedupeRow = rows::decode("dedupe row", value)?;
                let kind = DeadlineKind::Dedupe;
                due.insert(keys::deadline(group, Clock::Lease, row.deadline_ms, kind, key));
            }
            Key::OldEra(era) => {
                OldEraRow::decode(value)?;
                self.old_eras.insert(era);
            }
            Key::Schedule { name, .. } => {
                let row: ScheduleRow = rows::decode("schedule row", value)?;
                if name.is_empty() || row.asks && row.next_wall_ms.is_some() {
                    return broken(format!("schedule {name:?} has the row {row:?}"));
                }
                if let Some(at_ms) = row.next_wall_ms {
                    let kind = DeadlineKind::Schedule;
                    due.insert(keys::deadline(group, Clock::Wall, at_ms, kind, key));
                }
                self.schedules += 1;
            }
            other => return broken(format!("{other:?} is of no table of queues")),
        }
        Ok(())
    }

    /// Whether a deadline may be there without having to.
    pub(super) fn may_have(&self, deadline: &[u8]) -> bool {
        self.may_have.contains(deadline)
    }

    /// There is a deadline of an old era: its time is written nowhere else.
    pub(super) fn old_era_goes_on(&mut self, group: GroupId, id: &[u8]) -> Result<(), Fatal> {
        let key = keys::expiring(group, DeadlineKind::OldEra, id);
        match keys::parse(group, &key) {
            Some(Key::OldEra(era)) if self.going_on.insert(era) => Ok(()),
            _ => broken(format!("a deadline of old eras names {id:02x?}, or two do")),
        }
    }

    pub(super) fn whole<'a>(
        &self,
        meta: &MetaRow,
        sessions: impl Iterator<Item = &'a SessionId>,
    ) -> Result<(), Fatal> {
        let sessions: BTreeSet<SessionId> = sessions.copied().collect();
        if self.going_on != self.old_eras {
            return broken(format!(
                "the old eras are {:?}, those that have a deadline {:?}",
                self.old_eras, self.going_on
            ));
        }
        if !self.queues.keys().eq(self.counts.keys()) {
            return broken(format!("queues {:?} have counts {:?}", self.queues, self.counts));
        }
        for (id, consumer) in &self.consumers {
            let known = self.queues.contains_key(&consumer.queue);
            let open = consumer.session.is_none_or(|session| sessions.contains(&session));
            if !known || !open {
                return broken(format!("consumer {id} has the row {consumer:?}"));
            }
        }
        self.contents()?;
        self.counted()?;
        self.queues.values().try_for_each(|queue| self.nothing_left_lying(queue, meta))
    }

    fn contents(&self) -> Result<(), Fatal> {
        let ids: BTreeSet<JobId> = self.jobs.keys().map(|(_, id)| *id).collect();
        if ids.len() != self.jobs.len() || ids != self.bodies {
            return broken(format!("jobs {ids:?} have the bodies {:?}", self.bodies));
        }
        let noted = self.jobs.iter().filter(|(_, row)| row.noted).map(|((_, id), _)| id);
        if !noted.clone().all(|id| self.notes.contains(id)) || noted.count() != self.notes.len() {
            return broken(format!("there are notes on {:?} of jobs {ids:?}", self.notes));
        }
        Ok(())
    }

    fn counted(&self) -> Result<(), Fatal> {
        let mut there: BTreeMap<QueueId, JobCounts> =
            self.queues.keys().map(|id| (*id, JobCounts::default())).collect();
        for ((era, id), row) in &self.jobs {
            let Some(queue) = self.eras.get(era) else {
                if self.old_eras.contains(era) {
                    continue;
                }
                return broken(format!("job {id} is of era {era}, which is no queue's"));
            };
            let counts = there.entry(*queue).or_default();
            if !matches!(row.state, JobState::Done { .. }) {
                counts.body_bytes += row.body_bytes;
            }
            match row.state {
                JobState::Ready => counts.ready += 1,
                JobState::Delayed | JobState::DelayedUntil { .. } => counts.delayed += 1,
                JobState::Leased { .. } => counts.leased += 1,
                JobState::Done { .. } => counts.done += 1,
            }
        }
        let mut all = 0;
        for (id, counts) in &there {
            all += counts.ready + counts.delayed + counts.leased + counts.done;
            let said = self.counts.get(id).map(|row| row.jobs);
            if said != Some(*counts) {
                return broken(format!("queue {id} counts {said:?}, there are {counts:?}"));
            }
        }
        let QueuesMetaRow { jobs, schedules, .. } = self.meta;
        for (what, counted, there) in
            [("schedules", schedules, self.schedules), ("jobs", jobs, all)]
        {
            if counted != there {
                return broken(format!("{counted} {what} counted, {there} there"));
            }
        }
        Ok(())
    }

    fn nothing_left_lying(&self, queue: &QueueRow, meta: &MetaRow) -> Result<(), Fatal> {
        let counts = &self.counts[&queue.id];
        let full = queue.options.parallel_max > 0
            && counts.jobs.leased >= u64::from(queue.options.parallel_max);
        if queue.paused || full || counts.wake_ms.is_some() {
            return Ok(());
        }
        let of_era = (queue.era, JobId(0))..=(queue.era, JobId(u64::MAX));
        let mut heads: BTreeMap<&Bytes, (u64, JobId)> = BTreeMap::new();
        let mut held: BTreeMap<ConsumerId, u32> = BTreeMap::new();
        for ((_, id), row) in self.jobs.range(of_era.clone()) {
            if let JobState::Leased { consumer: Some(consumer), .. } = row.state {
                *held.entry(consumer).or_default() += 1;
            }
            if let Some(group) = &row.group
                && !matches!(row.state, JobState::Done { .. })
            {
                let head = heads.entry(&group.key).or_insert((group.order, *id));
                *head = (*head).min((group.order, *id));
            }
        }
        let deliverable = self.jobs.range(of_era).find(|((_, id), row)| {
            // A group of which all is done has no head.
            row.state == JobState::Ready
                && row.group.as_ref().is_none_or(|group| heads[&group.key].1 == *id)
        });
        let free = self.consumers.iter().find(|(id, row)| {
            row.queue == queue.id
                && row.attachment.is_some()
                && match &row.wants {
                    Wants::Window(window) => held.get(id).copied().unwrap_or(0) < *window,
                    Wants::Pull { state, until_ms, .. } => {
                        *state == PullState::Waiting
                            && is_live(Some(*until_ms), meta.stamp.lease_ms)
                    }
                }
        });
        match (deliverable, free) {
            (Some(job), Some(consumer)) => {
                broken(format!("{job:?} lies ready, and {consumer:?} has room"))
            }
            _ => Ok(()),
        }
    }
}
