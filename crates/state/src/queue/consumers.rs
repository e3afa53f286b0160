//! Who takes jobs: streams that consume, and pulls that wait.

use super::{At, Consumer, Queues, lease};
use crate::keys::{self, Clock, DeadlineKind};
use crate::limits::{PULL_BODY_BYTES_MAX, PULL_KEEP_MS};
use crate::rows::{self, ConsumerRow, JobRow, PullState, Wants};
use crate::scope::Scope;
use crate::{AssignedJob, ConsumerId, Event, Fatal, JobId, QueueId, Txn as _, codec, expiry};
use std::ops::Bound;

impl Queues {
    /// Puts a consumer where it belongs among those with room.
    pub(super) fn refit(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get(&id) else { return };
        let (queue, before) = (consumer.row.queue, consumer.place);
        let now = consumer.row.has_room(consumer.held).then_some(consumer.held);
        if before == now {
            return;
        }
        if let Some(place) = before {
            self.free.remove(&(queue, place, id));
        }
        if let Some(place) = now {
            self.free.insert((queue, place, id), ());
        }
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.place = now;
        }
    }
}

impl ConsumerRow {
    fn has_room(&self, held: u32) -> bool {
        self.attachment.is_some()
            && match self.wants {
                Wants::Window(window) => held < window,
                Wants::Pull { ref state, .. } => *state == PullState::Waiting,
            }
    }
}

pub(super) fn refit(scope: &mut Scope<'_>, id: ConsumerId) {
    scope.queues.refit(id);
}

/// Whose turn it is: of those who have the fewest jobs the one behind the one that had the last
/// turn. A pull whose time is up is passed over, whether or not it was swept yet.
pub(super) fn next_consumer(
    scope: &Scope<'_>,
    queue: QueueId,
) -> Result<Option<ConsumerId>, Fatal> {
    let cursor = super::queue(scope, queue)?.counts.cursor;
    let now_ms = scope.lease_ms();
    let free = &scope.queues.free;
    let all = |from, to| free.range((from, to)).map(|((_, held, id), ())| (*held, *id));
    let in_time = |&(_, id): &(u32, ConsumerId)| {
        scope.queues.consumers.get(&id).is_some_and(|consumer| match consumer.row.wants {
            Wants::Window(_) => true,
            Wants::Pull { until_ms, .. } => rows::is_live(Some(until_ms), now_ms),
        })
    };
    let ends = |held, id| (queue, held, ConsumerId(id));
    let first =
        all(Bound::Included(ends(0, 0)), Bound::Included(ends(u32::MAX, u64::MAX))).find(in_time);
    let Some((held, first)) = first else { return Ok(None) };
    let behind = (queue, held, cursor);
    let next = all(Bound::Excluded(behind), Bound::Included(ends(held, u64::MAX))).find(in_time);
    Ok(Some(next.map_or(first, |(_, id)| id)))
}

/// Gives a job that is ready to a consumer, and tells it.
pub(super) fn give(
    scope: &mut Scope<'_>,
    at: At,
    id: JobId,
    row: &JobRow,
    to: ConsumerId,
) -> Result<(), Fatal> {
    super::touched(scope, at.id)?.counts.cursor = to;
    let Some(consumer) = scope.queues.consumers.get(&to) else {
        return Err(Fatal::Invariant(format!("consumer {to} has room and does not exist")));
    };
    let attachment = consumer.row.attachment;
    match consumer.row.wants {
        Wants::Window(_) => {
            let job = lease(scope, at, id, row, Some(to))?;
            if let Some(attachment) = attachment {
                scope.events.push(Event::JobAssigned { consumer: to, attachment, job });
            }
            Ok(())
        }
        Wants::Pull { count, .. } => {
            let first = lease(scope, at, id, row, None)?;
            let jobs = take_more(scope, at, count, (vec![first], row.body_bytes))?;
            answer(scope, to, PullState::Answered(jobs))
        }
    }
}

/// Takes what else is ready, up to so many jobs in all, and until they have
/// [`PULL_BODY_BYTES_MAX`] together.
pub(super) fn take_more(
    scope: &mut Scope<'_>,
    at: At,
    count: u32,
    (mut jobs, mut bytes): (Vec<AssignedJob>, u64),
) -> Result<Vec<AssignedJob>, Fatal> {
    while jobs.len() < count as usize && bytes < PULL_BODY_BYTES_MAX {
        let Some((id, row)) = super::take_next(scope, at)? else { break };
        bytes += row.body_bytes;
        jobs.push(lease(scope, at, id, &row, None)?);
    }
    Ok(jobs)
}

/// A pull that waited is over; what became of it is kept for a while.
pub(super) fn answer(
    scope: &mut Scope<'_>,
    id: ConsumerId,
    became: PullState,
) -> Result<(), Fatal> {
    let until_ms = scope.lease_ms().saturating_add(PULL_KEEP_MS);
    reschedule(scope, id, |row| {
        if let Wants::Pull { until_ms: until, state, .. } = &mut row.wants {
            (*until, *state) = (until_ms, became);
        }
    })?;
    scope.events.push(Event::PullChanged { consumer: id });
    Ok(())
}

/// Changes a consumer's row, and its deadline with it.
pub(super) fn reschedule(
    scope: &mut Scope<'_>,
    id: ConsumerId,
    change: impl FnOnce(&mut ConsumerRow),
) -> Result<(), Fatal> {
    let Some(consumer) = scope.queues.consumers.get_mut(&id) else {
        return Err(Fatal::Invariant(format!("consumer {id} does not exist")));
    };
    let before_ms = deadline_ms(&consumer.row);
    change(&mut consumer.row);
    let row = consumer.row.clone();
    let key = keys::consumer(scope.group, id);
    let after_ms = deadline_ms(&row);
    if before_ms != after_ms {
        if let Some(at_ms) = before_ms {
            expiry::unschedule(scope, Clock::Lease, at_ms, DeadlineKind::Consumer, &key);
        }
        if let Some(at_ms) = after_ms {
            expiry::schedule(scope, Clock::Lease, at_ms, DeadlineKind::Consumer, &key);
        }
    }
    scope.txn.put(&key, &codec::encode(&row));
    refit(scope, id);
    Ok(())
}

/// When something is to become of a consumer by itself.
pub(crate) fn deadline_ms(row: &ConsumerRow) -> Option<u64> {
    match row.wants {
        Wants::Window(_) => None,
        Wants::Pull { until_ms, .. } => Some(until_ms),
    }
}

/// A new consumer.
pub(super) fn add(scope: &mut Scope<'_>, row: ConsumerRow) -> ConsumerId {
    let id = ConsumerId(scope.queues.next_id());
    let key = keys::consumer(scope.group, id);
    scope.txn.put(&key, &codec::encode(&row));
    if let Some(at_ms) = deadline_ms(&row) {
        expiry::schedule(scope, Clock::Lease, at_ms, DeadlineKind::Consumer, &key);
    }
    if let Some(session) = row.session {
        scope.queues.owned.insert((session, id), ());
    }
    scope.queues.consumers.insert(id, Consumer { row, held: 0, place: None });
    refit(scope, id);
    id
}

/// Forgets a consumer. What it was given stays leased.
pub(super) fn drop_consumer(scope: &mut Scope<'_>, id: ConsumerId) {
    let Some(consumer) = scope.queues.consumers.remove(&id) else { return };
    if let Some(place) = consumer.place {
        scope.queues.free.remove(&(consumer.row.queue, place, id));
    }
    if let Some(session) = consumer.row.session {
        scope.queues.owned.remove(&(session, id));
    }
    for (job, _) in held_by(scope, id) {
        scope.queues.held.remove(&(id, job));
    }
    let key = keys::consumer(scope.group, id);
    if let Some(at_ms) = deadline_ms(&consumer.row) {
        expiry::unschedule(scope, Clock::Lease, at_ms, DeadlineKind::Consumer, &key);
    }
    scope.txn.delete(&key);
    match (consumer.row.wants, consumer.row.attachment) {
        (Wants::Window(_), Some(attachment)) => {
            scope.events.push(Event::ConsumerLeft { consumer: id, attachment });
        }
        (Wants::Window(_), None) => {}
        (Wants::Pull { .. }, _) => scope.events.push(Event::PullChanged { consumer: id }),
    }
}

impl Consumer {
    /// Whether it wants nothing, has nothing, and is nowhere: its worker has closed it.
    pub(super) fn is_closed(&self) -> bool {
        let wants_nothing = matches!(self.row.wants, Wants::Window(0));
        wants_nothing && self.held == 0 && self.row.attachment.is_none()
    }
}

/// Forgets those that were closed while they had jobs, and have none any more.
pub(super) fn end_closed(scope: &mut Scope<'_>) {
    for id in std::mem::take(&mut scope.consumers_closed) {
        if scope.queues.consumers.get(&id).is_some_and(Consumer::is_closed) {
            drop_consumer(scope, id);
        }
    }
}

/// What a consumer has been given and not acknowledged, by id.
pub(super) fn held_by(scope: &Scope<'_>, id: ConsumerId) -> Vec<(JobId, AssignedJob)> {
    let span = (id, JobId(0))..=(id, JobId(u64::MAX));
    scope.queues.held.range(span).map(|((_, job), held)| (*job, *held)).collect()
}

/// Ends the consumers of a session that ended: what they have is free for others, as a failed
/// attempt. Answers how many rows that were. [`super::dispatch_due`] is to follow, once for all
/// sessions that end together: nothing may pass from one to another.
pub(crate) fn session_ended(
    scope: &mut Scope<'_>,
    session: crate::SessionId,
) -> Result<usize, Fatal> {
    let span = (session, ConsumerId(0))..=(session, ConsumerId(u64::MAX));
    let all: Vec<ConsumerId> = scope.queues.owned.range(span).map(|((_, id), ())| *id).collect();
    let mut rows = all.len();
    let mut freed = Vec::new();
    // All of them first: nothing may pass from one to another that ends as well.
    for id in all {
        let Some(queue) = scope.queues.consumers.get(&id).map(|of| of.row.queue) else { continue };
        let held = held_by(scope, id).into_iter();
        freed.extend(held.map(|(job, assigned)| (queue, job, assigned.lease)));
        drop_consumer(scope, id);
    }
    rows += freed.len();
    for (queue, job, lease) in freed {
        super::lapse(scope, queue, job, lease, "the worker's session ended")?;
        scope.queues_due.insert(queue);
    }
    Ok(rows)
}

/// Counts what a session's consumers may have, or have: a window that was made smaller takes nothing
/// back.
pub(crate) fn owned_by(scope: &Scope<'_>, session: crate::SessionId) -> u64 {
    let span = (session, ConsumerId(0))..=(session, ConsumerId(u64::MAX));
    let windows = scope.queues.owned.range(span).filter_map(|((_, id), ())| {
        let of = scope.queues.consumers.get(id)?;
        match of.row.wants {
            Wants::Window(window) => Some(1 + u64::from(window.max(of.held))),
            Wants::Pull { .. } => None,
        }
    });
    windows.sum()
}
