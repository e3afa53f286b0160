//! What the machine keeps in memory of queues: derived from the tables, put back with a transaction.

use crate::keys::{self, Key};
use crate::rows::{
    self, ConsumerRow, JobGroup, JobRow, JobState, QueueCountsRow, QueueRow, QueuesMetaRow,
};
use crate::session::each_row;
use crate::undo::UndoMap;
use crate::{AssignedJob, ConsumerId, Era, Fatal, GroupId, JobId, QueueId, Read, SessionId};
use bytes::Bytes;

/// All queues; derived from the tables. The maps are flat, so that a change is noted in a small
/// piece while it may yet be taken back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Queues {
    pub(crate) meta: QueuesMetaRow,
    pub(crate) counted: Counted,
    /// By the key of its row.
    pub(super) names: UndoMap<Vec<u8>, QueueId>,
    pub(super) queues: UndoMap<QueueId, Queue>,
    pub(super) eras: UndoMap<Era, QueueId>,
    /// What can be delivered, in order.
    pub(super) ready: UndoMap<(Era, Place), ()>,
    /// Jobs that are not done, by group, in their order.
    pub(super) groups: UndoMap<(Era, Bytes, u64), JobId>,
    pub(super) consumers: UndoMap<ConsumerId, Consumer>,
    /// Consumers with room, by queue and by how many jobs they have.
    pub(super) free: UndoMap<(QueueId, u32, ConsumerId), ()>,
    /// What consumers have been given and not acknowledged.
    pub(super) held: UndoMap<(ConsumerId, JobId), AssignedJob>,
    /// Consumers that end with a session.
    pub(super) owned: UndoMap<(SessionId, ConsumerId), ()>,
}

/// What is counted to be bounded, and stands in no row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Rows of JOB of old eras.
    pub(crate) old_jobs: u64,
    /// Rows of DEDUPE.
    pub(crate) dedupe_keys: u64,
}

/// Where a job that is ready stands: smaller ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// 255 less the priority.
    pub(super) rank: u8,
    pub(super) ready_ms: u64,
    pub(super) id: JobId,
}

impl Place {
    pub(super) fn of(id: JobId, row: &JobRow) -> Self {
        Self { rank: u8::MAX - row.priority, ready_ms: row.ready_ms, id }
    }

    pub(super) const FIRST: Self = Self { rank: 0, ready_ms: 0, id: JobId(0) };
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Of its row.
    pub(super) key: Vec<u8>,
    pub(super) row: QueueRow,
    pub(super) counts: QueueCountsRow,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consumer {
    pub(super) row: ConsumerRow,
    /// How many jobs it has.
    pub(super) held: u32,
    /// Where it is in [`Queues::free`], if it is.
    pub(super) place: Option<u32>,
}

impl Queues {
    pub(crate) fn derive(tables: &dyn Read, group: GroupId) -> Result<Self, Fatal> {
        let mut all = Self { meta: rows::queues_meta(tables, group)?, ..Self::default() };
        each_row(tables, group, keys::table::QUEUE, |key, value| {
            let row: QueueRow = rows::decode("queue row", value)?;
            all.names.insert(key.to_vec(), row.id);
            all.eras.insert(row.era, row.id);
            let counts = QueueCountsRow::default();
            all.queues.insert(row.id, Queue { key: key.to_vec(), row, counts });
            Ok(())
        })?;
        each_row(tables, group, keys::table::QUEUE_COUNTS, |key, value| {
            let Some(Key::QueueCounts(id)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("QUEUE_COUNTS holds the key {key:02x?}")));
            };
            let Some(queue) = all.queues.get_mut(&id) else {
                return Err(Fatal::Invariant(format!("there are counts of no queue {id}")));
            };
            queue.counts = rows::decode("queue counts row", value)?;
            Ok(())
        })?;
        each_row(tables, group, keys::table::CONSUMER, |key, value| {
            let Some(Key::Consumer(id)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("CONSUMER holds the key {key:02x?}")));
            };
            let row: ConsumerRow = rows::decode("consumer row", value)?;
            if let Some(session) = row.session {
                all.owned.insert((session, id), ());
            }
            all.consumers.insert(id, Consumer { row, held: 0, place: None });
            Ok(())
        })?;
        each_row(tables, group, keys::table::DEDUPE, |_, _| {
            all.counted.dedupe_keys += 1;
            Ok(())
        })?;
        all.derive_jobs(tables, group)?;
        for id in all.consumers.keys().copied().collect::<Vec<_>>() {
            all.refit(id);
        }
        Ok(all)
    }

    pub(super) fn derive_jobs(&mut self, tables: &dyn Read, group: GroupId) -> Result<(), Fatal> {
        let mut grouped = Vec::new();
        each_row(tables, group, keys::table::JOB, |key, value| {
            let Some(Key::Job(era, id)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("JOB holds the key {key:02x?}")));
            };
            let row: JobRow = rows::decode("job row", value)?;
            let place = Place::of(id, &row);
            if !self.eras.contains_key(&era) {
                self.counted.old_jobs += 1;
            }
            match row.state {
                JobState::Done { .. } => return Ok(()),
                JobState::Ready if row.group.is_none() => self.ready.insert((era, place), ()),
                // What an old era holds is nobody's.
                JobState::Leased { lease, consumer: Some(consumer), .. }
                    if self.eras.contains_key(&era) =>
                {
                    if let Some(of) = self.consumers.get_mut(&consumer) {
                        of.held += 1;
                        let attempt = row.attempts;
                        let job = AssignedJob { era, id, lease, attempt };
                        self.held.insert((consumer, id), job);
                    }
                }
                _ => {}
            }
            if let Some(JobGroup { key, order }) = row.group {
                if row.state == JobState::Ready {
                    grouped.push((era, key.clone(), place));
                }
                self.groups.insert((era, key, order), id);
            }
            Ok(())
        })?;
        for (era, key, place) in grouped {
            if self.first_of_group(era, &key) == Some(place.id) {
                self.ready.insert((era, place), ());
            }
        }
        Ok(())
    }

    /// Opens the journals of everything but what a copy is kept of.
    pub(crate) fn begin(&mut self) {
        self.each_map(Journal::Begin);
    }

    /// Closes them; the changes since then stay, or are taken back.
    pub(crate) fn end(&mut self, keep: bool) {
        self.each_map(Journal::End { keep });
    }

    pub(super) fn each_map(&mut self, what: Journal) {
        fn one<K: Ord + Clone, V: Clone>(map: &mut UndoMap<K, V>, what: Journal) {
            match what {
                Journal::Begin => map.begin(),
                Journal::End { keep } => map.end(keep),
            }
        }
        let Self {
            meta: _,
            counted: _,
            names,
            queues,
            eras,
            ready,
            groups,
            consumers,
            free,
            held,
            owned,
        } = self;
        one(names, what);
        one(queues, what);
        one(eras, what);
        one(ready, what);
        one(groups, what);
        one(consumers, what);
        one(free, what);
        one(held, what);
        one(owned, what);
    }

    /// The next number for something new.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.meta.id += 1;
        self.meta.id
    }

    pub(super) fn first_of_group(&self, era: Era, key: &Bytes) -> Option<JobId> {
        let ((of, name, _), id) = self.groups.range((era, key.clone(), 0)..).next()?;
        (*of == era && name == key).then_some(*id)
    }

    /// What comes next in an era, from a place on.
    pub(super) fn ready_from(&self, era: Era, from: Place) -> impl Iterator<Item = Place> + '_ {
        self.ready
            .range((era, from)..)
            .take_while(move |((of, _), ())| *of == era)
            .map(|((_, place), ())| *place)
    }

    /// Since when the job that has been ready for longest is: the first of each rank is the oldest
    /// of that rank.
    pub(super) fn oldest_ready_ms(&self, era: Era) -> Option<u64> {
        let mut oldest_ms: Option<u64> = None;
        let mut from = Place::FIRST;
        while let Some(first) = self.ready_from(era, from).next() {
            oldest_ms = Some(oldest_ms.unwrap_or(u64::MAX).min(first.ready_ms));
            let Some(rank) = first.rank.checked_add(1) else { break };
            from = Place { rank, ..Place::FIRST };
        }
        oldest_ms
    }
}

#[derive(Clone, Copy)]
pub(super) enum Journal {
    Begin,
    End { keep: bool },
}
