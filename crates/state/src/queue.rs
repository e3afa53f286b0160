//! Queues: which jobs are ready, who takes them, in which order, and what becomes of them.
//!
//! A job has a small row that says where it stands ([`JobState`]), and another one with what is in
//! it, which is written once. What is in memory is derived from the tables and saves the scans:
//! the jobs that can be delivered, in their order; the groups; who consumes what. Who takes jobs
//! is replicated, too, so the entry that makes a job ready also gives it to somebody, and the one
//! that acknowledges a job also gives its consumer the next one ([`dispatch`]).
//!
//! # Relations
//! - A job that is delayed, leased, kept, or has a ttl while it is ready, has one deadline.
//! - Of a group the first job alone can be ready for delivery; the others wait behind it, whatever
//!   it does.
//! - After every command, a queue that is not paused, whose limits allow it, and that has jobs to
//!   deliver, has no consumer with room; or it has a deadline to be looked at again.
//!
//! # Order
//! Jobs: by priority, then by the time since which they are ready, then by id. Consumers: who has
//! the fewest jobs, and among equals in turns.

use crate::keys::{self, Clock, DeadlineKind, Key};
use crate::limits::{
    DEAD_LETTERS_DEFAULT, JOB_FAILURES_MAX, JOB_NOTE_BYTES_MAX, PEEK_MAX, QUEUE_JOBS_DEFAULT,
    QUEUE_NAME_BYTES_MAX, QUEUES_MAX,
};
use crate::rows::{
    self, Bucket, ConsumerRow, DeathCause, JobFailure, JobGroup, JobNoteRow, JobRow, JobState,
    QueueCountsRow, QueueRow, QueuesMetaRow,
};
use crate::scope::{Failure, Scope, at_most, within};
use crate::session::each_row;
use crate::undo::UndoMap;
use crate::{
    AssignedJob, Backoff, ConsumerId, DeadLetters, Era, Event, Fatal, GroupId, JobFate, JobId,
    JobLease, LeasedJob, QueueId, QueueOptions, Read, Rejection, SessionId, Txn, WhenFull, codec,
    expiry,
};
use bytes::Bytes;

pub(crate) mod ack;
pub(crate) mod attach;
pub(crate) mod cancel;
pub(crate) mod consumers;
pub(crate) mod delete;
pub(crate) mod detach;
pub(crate) mod detach_node;
pub(crate) mod due;
pub(crate) mod extend;
pub(crate) mod nack;
pub(crate) mod pause;
pub(crate) mod progress;
pub(crate) mod pull;
pub(crate) mod purge;
pub(crate) mod push;
pub(crate) mod redrive;
pub(crate) mod resize;
pub(crate) mod update;

use consumers::{next_consumer, refit};

/// The suffix of the queue that dead letters go to when nothing else is said.
pub(crate) const DEAD: &str = ".dead";

/// All queues; derived from the tables. The maps are flat, so that a change is noted in a small
/// piece while it may yet be taken back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Queues {
    pub(crate) meta: QueuesMetaRow,
    /// By the key of its row.
    names: UndoMap<Vec<u8>, QueueId>,
    queues: UndoMap<QueueId, Queue>,
    eras: UndoMap<Era, QueueId>,
    /// What can be delivered, in order.
    ready: UndoMap<(Era, Place), ()>,
    /// Jobs that are not done, by group, in their order.
    groups: UndoMap<(Era, Bytes, u64), JobId>,
    consumers: UndoMap<ConsumerId, Consumer>,
    /// Consumers with room, by queue and by how many jobs they have.
    free: UndoMap<(QueueId, u32, ConsumerId), ()>,
    /// What consumers have been given and not acknowledged.
    held: UndoMap<(ConsumerId, JobId), AssignedJob>,
    /// Consumers that end with a session.
    owned: UndoMap<(SessionId, ConsumerId), ()>,
}

/// Where a job that is ready stands: smaller ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// 255 less the priority.
    rank: u8,
    ready_ms: u64,
    id: JobId,
}

impl Place {
    fn of(id: JobId, row: &JobRow) -> Self {
        Self { rank: u8::MAX - row.priority, ready_ms: row.ready_ms, id }
    }

    const FIRST: Self = Self { rank: 0, ready_ms: 0, id: JobId(0) };
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Of its row.
    key: Vec<u8>,
    row: QueueRow,
    counts: QueueCountsRow,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Consumer {
    row: ConsumerRow,
    /// How many jobs it has.
    held: u32,
    /// Where it is in [`Queues::free`], if it is.
    place: Option<u32>,
}

/// A queue and the era of its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    id: QueueId,
    era: Era,
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
        all.derive_jobs(tables, group)?;
        for id in all.consumers.keys().copied().collect::<Vec<_>>() {
            all.refit(id);
        }
        Ok(all)
    }

    fn derive_jobs(&mut self, tables: &dyn Read, group: GroupId) -> Result<(), Fatal> {
        let mut grouped = Vec::new();
        each_row(tables, group, keys::table::JOB, |key, value| {
            let Some(Key::Job(era, id)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("JOB holds the key {key:02x?}")));
            };
            let row: JobRow = rows::decode("job row", value)?;
            let place = Place::of(id, &row);
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

    fn each_map(&mut self, what: Journal) {
        fn one<K: Ord + Clone, V: Clone>(map: &mut UndoMap<K, V>, what: Journal) {
            match what {
                Journal::Begin => map.begin(),
                Journal::End { keep } => map.end(keep),
            }
        }
        let Self { meta: _, names, queues, eras, ready, groups, consumers, free, held, owned } =
            self;
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

    fn first_of_group(&self, era: Era, key: &Bytes) -> Option<JobId> {
        let ((of, name, _), id) = self.groups.range((era, key.clone(), 0)..).next()?;
        (*of == era && name == key).then_some(*id)
    }

    /// What comes next in an era, from a place on.
    fn ready_from(&self, era: Era, from: Place) -> impl Iterator<Item = Place> + '_ {
        self.ready
            .range((era, from)..)
            .take_while(move |((of, _), ())| *of == era)
            .map(|((_, place), ())| *place)
    }

    /// Since when the job that has been ready for longest is: the first of each rank is the oldest
    /// of that rank.
    fn oldest_ready_ms(&self, era: Era) -> Option<u64> {
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
enum Journal {
    Begin,
    End { keep: bool },
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            visibility_ms: 30_000,
            attempts_max: 5,
            backoff: Backoff::default(),
            dead_letters: DeadLetters::Own,
            keep_done_ms: 0,
            jobs_max: QUEUE_JOBS_DEFAULT,
            when_full: WhenFull::Reject,
            parallel_max: 0,
            rate: None,
            dedupe_window_ms: 300_000,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { exponential: true, base_ms: 1_000, cap_ms: 300_000, jitter_permille: 200 }
    }
}

impl QueueOptions {
    /// What a queue of this name does when nothing is said. Dead letters have no dead letters of
    /// their own: they stay until somebody looks after them, or there are too many.
    fn by_name(name: &str) -> Self {
        match name.ends_with(DEAD) {
            true => Self {
                attempts_max: 0,
                dead_letters: DeadLetters::Discard,
                jobs_max: DEAD_LETTERS_DEFAULT,
                when_full: WhenFull::DropOldest,
                ..Self::default()
            },
            false => Self::default(),
        }
    }
}

impl Backoff {
    /// How long a job waits that failed at this attempt.
    fn delay_ms(&self, id: JobId, attempt: u32) -> u64 {
        let doublings = if self.exponential { attempt.saturating_sub(1).min(63) } else { 0 };
        let whole_ms = self.base_ms.saturating_mul(1 << doublings).min(self.cap_ms);
        // As good as random, and the same on every replica.
        let hash = codec::fingerprint(&(id, attempt));
        let off_permille = hash % (u64::from(self.jitter_permille.min(1_000)) + 1);
        whole_ms - whole_ms.saturating_mul(off_permille) / 1_000
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), Rejection> {
    if name.is_empty() {
        return Err(Rejection::Invalid(
            "the queue's name is empty; name one of 1 byte or more".to_owned(),
        ));
    }
    within("queue name bytes", name.len(), QUEUE_NAME_BYTES_MAX)
}

/// The queue of this name.
fn find(scope: &Scope<'_>, namespace: &str, name: &str) -> Result<At, Rejection> {
    check_name(name)?;
    find_named(scope, namespace, name)
        .ok_or_else(|| Rejection::QueueUnknown { queue: name.to_owned() })
}

/// As [`find`], by a name that was checked when it became an option.
fn find_named(scope: &Scope<'_>, namespace: &str, name: &str) -> Option<At> {
    let key = keys::queue(scope.group, namespace, name);
    scope.queues.names.get(&key).and_then(|id| at(scope, *id))
}

fn at(scope: &Scope<'_>, id: QueueId) -> Option<At> {
    scope.queues.queues.get(&id).map(|queue| At { id, era: queue.row.era })
}

fn queue<'a>(scope: &'a Scope<'_>, id: QueueId) -> Result<&'a Queue, Fatal> {
    scope.queues.queues.get(&id).ok_or_else(|| gone(id))
}

/// For changes of its counts, which are written when the entry ends.
fn touched<'a>(scope: &'a mut Scope<'_>, id: QueueId) -> Result<&'a mut Queue, Fatal> {
    scope.queues_touched.insert(id);
    scope.queues.queues.get_mut(&id).ok_or_else(|| gone(id))
}

fn gone(id: QueueId) -> Fatal {
    Fatal::Invariant(format!("queue {id} is named by a row and does not exist"))
}

/// Refuses what could not make a queue of this name; [`make`] follows.
fn may_make(scope: &Scope<'_>, namespace: &str, name: &str) -> Result<(), Rejection> {
    check_name(name)?;
    let key = keys::queue(scope.group, namespace, name);
    if scope.queues.names.contains_key(&key) {
        return Ok(());
    }
    at_most("queues", scope.queues.queues.len() as u64 + 1, QUEUES_MAX)
}

/// The queue of this name, made if it is not there; whether it was made. Its name must have been
/// checked.
fn make(scope: &mut Scope<'_>, namespace: &str, name: &str) -> (At, bool) {
    let key = keys::queue(scope.group, namespace, name);
    if let Some(there) = scope.queues.names.get(&key).and_then(|id| at(scope, *id)) {
        return (there, false);
    }
    let id = QueueId(scope.queues.next_id());
    let era = Era(scope.queues.next_id());
    let row = QueueRow { id, era, paused: false, options: QueueOptions::by_name(name) };
    scope.txn.put(&key, &codec::encode(&row));
    scope.queues.names.insert(key.clone(), id);
    scope.queues.eras.insert(era, id);
    scope.queues.queues.insert(id, Queue { key, row, counts: QueueCountsRow::default() });
    scope.queues_touched.insert(id);
    (At { id, era }, true)
}

/// Writes a queue's row after a change.
fn write_queue(scope: &mut Scope<'_>, id: QueueId) -> Result<(), Fatal> {
    let queue = queue(scope, id)?;
    let (key, row) = (queue.key.clone(), codec::encode(&queue.row));
    scope.txn.put(&key, &row);
    Ok(())
}

/// Writes the counts of the queues that the entry touched, and says what comes next in each.
pub(crate) fn write_touched(scope: &mut Scope<'_>) {
    for id in std::mem::take(&mut scope.queues_touched) {
        let Some(queue) = scope.queues.queues.get(&id) else { continue };
        let era = queue.row.era;
        let next = scope.queues.ready_from(era, Place::FIRST).map(|place| place.id);
        let next: Vec<JobId> = next.take(PEEK_MAX).collect();
        let oldest_ready_ms = scope.queues.oldest_ready_ms(era);
        let Some(queue) = scope.queues.queues.get_mut(&id) else { continue };
        (queue.counts.next, queue.counts.oldest_ready_ms) = (next, oldest_ready_ms);
        let row = codec::encode(&queue.counts);
        scope.txn.put(&keys::queue_counts(scope.group, id), &row);
    }
}

fn job(scope: &Scope<'_>, era: Era, id: JobId) -> Result<Option<JobRow>, Fatal> {
    match scope.txn.get(&keys::job(scope.group, era, id))? {
        Some(bytes) => Ok(Some(rows::decode("job row", &bytes)?)),
        None => Ok(None),
    }
}

/// A job that must be there.
fn known_job(scope: &Scope<'_>, era: Era, id: JobId) -> Result<JobRow, Fatal> {
    job(scope, era, id)?.ok_or_else(|| {
        Fatal::Invariant(format!("job {id} of era {era} is in memory and has no row"))
    })
}

/// The job, if it is leased under this lease and in time.
fn leased(scope: &Scope<'_>, namespace: &str, asked: &LeasedJob) -> Result<(At, JobRow), Failure> {
    let &LeasedJob { ref queue, id, lease } = asked;
    let at = find(scope, namespace, queue)?;
    let Some(row) = job(scope, at.era, id)? else {
        return Err(Failure::Rejected(Rejection::JobUnknown { queue: queue.clone(), id }));
    };
    match row.state {
        JobState::Leased { lease: newest, until_ms, .. }
            if newest == lease && rows::is_live(Some(until_ms), scope.lease_ms()) =>
        {
            Ok((at, row))
        }
        JobState::Done { .. } => {
            Err(Failure::Rejected(Rejection::JobUnknown { queue: queue.clone(), id }))
        }
        _ => Err(Failure::Rejected(Rejection::JobLeaseLost { id, lease })),
    }
}

/// When something is to become of a job by itself.
pub(crate) fn deadline_of(row: &JobRow) -> Option<(Clock, u64)> {
    match row.state {
        JobState::Ready => row.expires_ms.map(|at_ms| (Clock::Lease, at_ms)),
        JobState::Delayed => {
            let at_ms = row.expires_ms.map_or(row.ready_ms, |at_ms| at_ms.min(row.ready_ms));
            Some((Clock::Lease, at_ms))
        }
        JobState::DelayedUntil { wall_ms } => Some((Clock::Wall, wall_ms)),
        JobState::Leased { until_ms, .. } | JobState::Done { until_ms } => {
            Some((Clock::Lease, until_ms))
        }
    }
}

/// Writes a job in its new state, with everything that belongs to that; [`leave`] went before, but
/// for a new one. A change of what is ready calls for [`dispatch`].
fn enter(scope: &mut Scope<'_>, at: At, id: JobId, row: &JobRow) -> Result<(), Fatal> {
    let key = keys::job(scope.group, at.era, id);
    if let Some((clock, at_ms)) = deadline_of(row) {
        expiry::schedule(scope, clock, at_ms, DeadlineKind::Job, &key);
    }
    let counts = &mut touched(scope, at.id)?.counts.jobs;
    match row.state {
        JobState::Ready => counts.ready += 1,
        JobState::Delayed | JobState::DelayedUntil { .. } => counts.delayed += 1,
        JobState::Leased { .. } => counts.leased += 1,
        JobState::Done { .. } => counts.done += 1,
    }
    counts.body_bytes += body_bytes(row);
    match row.state {
        JobState::Ready => {
            let first = |group: &JobGroup| scope.queues.first_of_group(at.era, &group.key);
            if row.group.as_ref().is_none_or(|group| first(group) == Some(id)) {
                scope.queues.ready.insert((at.era, Place::of(id, row)), ());
            }
        }
        JobState::Leased { lease, consumer: Some(consumer), .. } => {
            if let Some(of) = scope.queues.consumers.get_mut(&consumer) {
                of.held += 1;
                let job = AssignedJob { era: at.era, id, lease, attempt: row.attempts };
                scope.queues.held.insert((consumer, id), job);
                refit(scope, consumer);
            }
        }
        _ => {}
    }
    scope.txn.put(&key, &codec::encode(row));
    Ok(())
}

/// Takes back what [`enter`] did, but for the row.
fn leave(scope: &mut Scope<'_>, at: At, id: JobId, row: &JobRow) -> Result<(), Fatal> {
    if let Some((clock, at_ms)) = deadline_of(row) {
        let key = keys::job(scope.group, at.era, id);
        expiry::unschedule(scope, clock, at_ms, DeadlineKind::Job, &key);
    }
    let counts = &mut touched(scope, at.id)?.counts.jobs;
    counts.body_bytes -= body_bytes(row);
    match row.state {
        JobState::Ready => {
            counts.ready -= 1;
            scope.queues.ready.remove(&(at.era, Place::of(id, row)));
        }
        JobState::Delayed | JobState::DelayedUntil { .. } => counts.delayed -= 1,
        JobState::Leased { consumer, .. } => {
            counts.leased -= 1;
            if let Some(consumer) = consumer
                && scope.queues.held.remove(&(consumer, id)).is_some()
            {
                if let Some(of) = scope.queues.consumers.get_mut(&consumer) {
                    of.held -= 1;
                }
                refit(scope, consumer);
            }
        }
        JobState::Done { .. } => counts.done -= 1,
    }
    Ok(())
}

/// What it counts for in its queue.
fn body_bytes(row: &JobRow) -> u64 {
    match row.state {
        JobState::Done { .. } => 0,
        _ => row.body_bytes,
    }
}

/// Moves a job from one state to another.
fn turn(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    before: &JobRow,
    after: &JobRow,
) -> Result<(), Fatal> {
    leave(scope, at, id, before)?;
    enter(scope, at, id, after)
}

/// Lets a group go on without a job that is done, or gone.
fn leave_group(scope: &mut Scope<'_>, era: Era, row: &JobRow) -> Result<(), Fatal> {
    let Some(JobGroup { key, order }) = &row.group else { return Ok(()) };
    let first = scope.queues.first_of_group(era, key);
    let left = scope.queues.groups.remove(&(era, key.clone(), *order));
    if left.is_none() || left != first {
        return Ok(());
    }
    // It was the first one: the next may have been waiting for it.
    if let Some(next) = scope.queues.first_of_group(era, key) {
        let row = known_job(scope, era, next)?;
        if row.state == JobState::Ready {
            scope.queues.ready.insert((era, Place::of(next, &row)), ());
        }
    }
    Ok(())
}

/// Takes a job out of its queue, without what is in it and was noted of it.
fn take_out(scope: &mut Scope<'_>, at: At, id: JobId, row: &JobRow) -> Result<(), Fatal> {
    leave(scope, at, id, row)?;
    leave_group(scope, at.era, row)?;
    scope.txn.delete(&keys::job(scope.group, at.era, id));
    scope.queues.meta.jobs -= 1;
    Ok(())
}

/// Puts a job into a queue, behind all of its group.
fn put_in(scope: &mut Scope<'_>, at: At, id: JobId, row: &mut JobRow) -> Result<(), Fatal> {
    if let Some(group) = &mut row.group {
        group.order = scope.queues.next_id();
        scope.queues.groups.insert((at.era, group.key.clone(), group.order), id);
    }
    scope.queues.meta.jobs += 1;
    touched(scope, at.id)?.counts.totals.pushed += 1;
    enter(scope, at, id, row)
}

/// Deletes a job with all that belongs to it.
fn remove(scope: &mut Scope<'_>, at: At, id: JobId, row: &JobRow) -> Result<(), Fatal> {
    take_out(scope, at, id, row)?;
    delete_contents(scope, id, row.noted);
    Ok(())
}

fn delete_contents(scope: &mut Scope<'_>, id: JobId, noted: bool) {
    scope.txn.delete(&keys::job_body(scope.group, id));
    if noted {
        scope.txn.delete(&keys::job_note(scope.group, id));
    }
}

fn note(scope: &Scope<'_>, id: JobId) -> Result<JobNoteRow, Fatal> {
    match scope.txn.get(&keys::job_note(scope.group, id))? {
        Some(bytes) => rows::decode("job note row", &bytes),
        None => Ok(JobNoteRow::default()),
    }
}

fn write_note(scope: &mut Scope<'_>, id: JobId, note: &JobNoteRow) {
    scope.txn.put(&keys::job_note(scope.group, id), &codec::encode(note));
}

/// The beginning of a text, whole characters of it.
fn cut(text: &str) -> String {
    let mut end = text.len().min(JOB_NOTE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Notes a failed attempt.
fn note_failure(
    scope: &mut Scope<'_>,
    id: JobId,
    row: &mut JobRow,
    error: &str,
) -> Result<(), Fatal> {
    let mut note = note(scope, id)?;
    let wall_ms = scope.meta.stamp.wall_ms;
    if note.failures.len() >= JOB_FAILURES_MAX {
        note.failures.remove(0);
    }
    note.failures.push(JobFailure { attempt: row.attempts, wall_ms, error: cut(error) });
    note.progress = None;
    row.noted = true;
    write_note(scope, id, &note);
    Ok(())
}

/// What becomes of a job whose attempt failed: another one, or its end.
fn failed(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    before: &JobRow,
    error: &str,
    delay_ms: Option<u64>,
) -> Result<JobFate, Fatal> {
    let mut row = before.clone();
    note_failure(scope, id, &mut row, error)?;
    let options = &queue(scope, at.id)?.row.options;
    let (attempts_max, backoff) = (options.attempts_max, options.backoff);
    if attempts_max > 0 && row.attempts >= attempts_max {
        leave(scope, at, id, before)?;
        die(scope, at, id, row, DeathCause::Attempts)?;
        return Ok(JobFate::Dead);
    }
    let delay_ms = delay_ms.unwrap_or_else(|| backoff.delay_ms(id, row.attempts));
    row.ready_ms = scope.lease_ms().saturating_add(delay_ms);
    row.state = if delay_ms == 0 { JobState::Ready } else { JobState::Delayed };
    turn(scope, at, id, before, &row)?;
    Ok(if delay_ms == 0 { JobFate::Ready } else { JobFate::Delayed { delay_ms } })
}

/// Makes a dead letter of a job that has left its state ([`leave`]).
fn die(
    scope: &mut Scope<'_>,
    from: At,
    id: JobId,
    mut row: JobRow,
    cause: DeathCause,
) -> Result<(), Fatal> {
    leave_group(scope, from.era, &row)?;
    scope.txn.delete(&keys::job(scope.group, from.era, id));
    scope.queues.meta.jobs -= 1;
    let queue = touched(scope, from.id)?;
    queue.counts.totals.died += 1;
    let (key, dead_letters) = (queue.key.clone(), queue.row.options.dead_letters.clone());
    let Some(Key::Queue { namespace, name }) = keys::parse(scope.group, &key) else {
        return Err(Fatal::Invariant(format!("QUEUE has the key {key:02x?}")));
    };
    let to = match dead_letters {
        DeadLetters::Own => format!("{name}{DEAD}"),
        // A queue can't be its own: its letters would never end.
        DeadLetters::To(to) if to != name => to,
        DeadLetters::To(_) | DeadLetters::Discard => {
            delete_contents(scope, id, row.noted);
            return Ok(());
        }
    };
    let mut note = note(scope, id)?;
    note.death = Some(cause);
    note.progress = None;
    write_note(scope, id, &note);
    // One queue more than may be made by pushes, at most, for each of those.
    let (to, _) = make(scope, namespace, &to);
    row.state = JobState::Ready;
    row.ready_ms = scope.lease_ms();
    row.attempts = 0;
    row.expires_ms = None;
    row.noted = true;
    row.from = Some(name.to_owned());
    make_room(scope, to, 1)?;
    put_in(scope, to, id, &mut row)?;
    scope.queues_due.insert(to.id);
    Ok(())
}

/// Drops what a full queue drops for so many new jobs, as far as there is any of it. A queue whose
/// limit was lowered is brought down to it little by little.
fn make_room(scope: &mut Scope<'_>, at: At, jobs: u64) -> Result<(), Fatal> {
    let options = &queue(scope, at.id)?.row.options;
    let (when_full, limit) = (options.when_full, options.jobs_max);
    if when_full == WhenFull::Reject {
        return Ok(());
    }
    for _ in 0..jobs * 2 {
        if length(&queue(scope, at.id)?.counts) + jobs <= limit {
            return Ok(());
        }
        let Some(place) = lowest_oldest(scope, at.era) else { return Ok(()) };
        let row = known_job(scope, at.era, place.id)?;
        remove(scope, at, place.id, &row)?;
        touched(scope, at.id)?.counts.totals.dropped += 1;
    }
    Ok(())
}

/// Of the jobs of the lowest priority, the one that has been ready for longest.
fn lowest_oldest(scope: &Scope<'_>, era: Era) -> Option<Place> {
    let last = Place { rank: u8::MAX, ready_ms: u64::MAX, id: JobId(u64::MAX) };
    let ((_, lowest), ()) =
        scope.queues.ready.range((era, Place::FIRST)..=(era, last)).next_back()?;
    scope.queues.ready_from(era, Place { rank: lowest.rank, ..Place::FIRST }).next()
}

/// How many jobs a queue has that are not done.
fn length(counts: &QueueCountsRow) -> u64 {
    counts.jobs.ready + counts.jobs.delayed + counts.jobs.leased
}

/// Gives jobs that are ready to consumers that have room, as far as the queue's limits and the
/// entry's allow. Also in the queues that dead letters went to meanwhile.
pub(crate) fn dispatch(scope: &mut Scope<'_>, id: QueueId) -> Result<(), Fatal> {
    scope.queues_due.insert(id);
    while let Some(id) = scope.queues_due.pop_first() {
        while give_next(scope, id)? {}
    }
    Ok(())
}

/// Gives the next job of a queue to somebody; whether there may be another.
fn give_next(scope: &mut Scope<'_>, id: QueueId) -> Result<bool, Fatal> {
    let Some(at) = at(scope, id) else { return Ok(false) };
    let Some(consumer) = next_consumer(scope, id)? else { return Ok(false) };
    match take_next(scope, at)? {
        Some((job, row)) => {
            consumers::give(scope, at, job, &row, consumer)?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// The next job of a queue, if there is one and the limits allow to deliver it; [`lease`] is to
/// follow.
fn take_next(scope: &mut Scope<'_>, at: At) -> Result<Option<(JobId, JobRow)>, Fatal> {
    let now_ms = scope.lease_ms();
    loop {
        let Some(Place { id, .. }) = scope.queues.ready_from(at.era, Place::FIRST).next() else {
            return Ok(None);
        };
        let of = queue(scope, at.id)?;
        let parallel_max = u64::from(of.row.options.parallel_max);
        if of.row.paused || parallel_max > 0 && of.counts.jobs.leased >= parallel_max {
            return Ok(None);
        }
        if scope.allowance.deliveries == 0 {
            wake(scope, at.id, now_ms + 1)?;
            return Ok(None);
        }
        scope.allowance.deliveries -= 1;
        let row = known_job(scope, at.era, id)?;
        if !rows::is_live(row.expires_ms, now_ms) {
            leave(scope, at, id, &row)?;
            die(scope, at, id, row, DeathCause::Expired)?;
            continue;
        }
        if let Err(free_ms) = take_token(scope, at.id)? {
            wake(scope, at.id, free_ms)?;
            return Ok(None);
        }
        return Ok(Some((id, row)));
    }
}

/// A lease ended without a word: a failed attempt, with no more waiting, because there was some.
fn lapse(
    scope: &mut Scope<'_>,
    queue: QueueId,
    id: JobId,
    under: JobLease,
    error: &str,
) -> Result<(), Fatal> {
    let Some(at) = at(scope, queue) else { return Ok(()) };
    let Some(row) = job(scope, at.era, id)? else { return Ok(()) };
    if !matches!(row.state, JobState::Leased { lease, .. } if lease == under) {
        return Ok(());
    }
    touched(scope, at.id)?.counts.totals.lapsed += 1;
    failed(scope, at, id, &row, error, Some(0))?;
    Ok(())
}

/// Gives a job a new lease; who gets it is entered by the caller, who tells of it, too.
fn lease(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    before: &JobRow,
    consumer: Option<ConsumerId>,
) -> Result<AssignedJob, Fatal> {
    scope.queues.meta.lease.0 += 1;
    let lease = scope.queues.meta.lease;
    let visibility_ms = queue(scope, at.id)?.row.options.visibility_ms;
    let until_ms = scope.lease_ms().saturating_add(visibility_ms);
    let mut row = before.clone();
    row.attempts = row.attempts.saturating_add(1);
    row.state = JobState::Leased { lease, consumer, until_ms };
    turn(scope, at, id, before, &row)?;
    touched(scope, at.id)?.counts.totals.delivered += 1;
    Ok(AssignedJob { era: at.era, id, lease, attempt: row.attempts })
}

/// Takes what one delivery costs from the queue's rate limit, or says when there is as much.
fn take_token(scope: &mut Scope<'_>, id: QueueId) -> Result<Result<(), u64>, Fatal> {
    let now_ms = scope.lease_ms();
    let queue = touched(scope, id)?;
    let Some(rate) = queue.row.options.rate else { return Ok(Ok(())) };
    let (jobs, cost) = (u64::from(rate.jobs), rate.per_ms);
    let Bucket { tokens, at_ms } = queue.counts.bucket;
    let filled = tokens.saturating_add(now_ms.saturating_sub(at_ms).saturating_mul(jobs));
    let tokens = filled.min(jobs.saturating_mul(cost));
    if tokens < cost {
        queue.counts.bucket = Bucket { tokens, at_ms: now_ms };
        return Ok(Err(now_ms + (cost - tokens).div_ceil(jobs.max(1))));
    }
    queue.counts.bucket = Bucket { tokens: tokens - cost, at_ms: now_ms };
    Ok(Ok(()))
}

/// Makes the queue be looked at again.
fn wake(scope: &mut Scope<'_>, id: QueueId, at_ms: u64) -> Result<(), Fatal> {
    let queue = touched(scope, id)?;
    let before = queue.counts.wake_ms.replace(at_ms);
    let key = queue.key.clone();
    if before == Some(at_ms) {
        return Ok(());
    }
    if let Some(before_ms) = before {
        expiry::unschedule(scope, Clock::Lease, before_ms, DeadlineKind::Queue, &key);
    }
    expiry::schedule(scope, Clock::Lease, at_ms, DeadlineKind::Queue, &key);
    Ok(())
}

/// Gives a job back as if it had not been delivered.
fn hand_back(scope: &mut Scope<'_>, at: At, id: JobId, before: &JobRow) -> Result<(), Fatal> {
    let mut row = before.clone();
    row.attempts = row.attempts.saturating_sub(1);
    row.state = JobState::Ready;
    turn(scope, at, id, before, &row)
}

/// Tells a consumer that a job it was given is not its own any more.
fn withdraw(scope: &mut Scope<'_>, id: JobId, row: &JobRow) {
    let JobState::Leased { lease, consumer: Some(consumer), .. } = row.state else { return };
    let attached = scope.queues.consumers.get(&consumer).and_then(|of| of.row.attachment);
    if let Some(attachment) = attached {
        scope.events.push(Event::JobWithdrawn { consumer, attachment, id, lease });
    }
}
