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

use crate::keys;
use crate::limits::{PEEK_MAX, QUEUE_NAME_BYTES_MAX, QUEUES_MAX};
use crate::rows::{QueueCountsRow, QueueRow};
use crate::scope::{Scope, at_most, within};
use crate::{Era, Fatal, JobId, QueueId, QueueOptions, Rejection, Txn as _, codec};

pub(crate) mod ack;
pub(crate) mod attach;
pub(crate) mod cancel;
pub(crate) mod consumers;
pub(crate) mod delete;
pub(crate) mod detach;
pub(crate) mod detach_node;
mod dispatch;
pub(crate) mod due;
pub(crate) mod extend;
mod fate;
mod index;
mod jobs;
pub(crate) mod nack;
mod options;
pub(crate) mod pause;
pub(crate) mod progress;
pub(crate) mod pull;
pub(crate) mod purge;
pub(crate) mod push;
pub(crate) mod redrive;
pub(crate) mod resize;
pub(crate) mod update;

use consumers::refit;
pub(crate) use dispatch::dispatch;
pub(crate) use dispatch::dispatch_due;
use dispatch::{lease, take_next, withdraw};
use fate::{die, failed, hand_back, lapse, lapsed, make_room, note_failure};
use index::{Consumer, Place};
pub(crate) use index::{Queue, Queues};
pub(crate) use jobs::deadline_of;
use jobs::{
    cut, delete_contents, enter, job, known_job, leased, leave, leave_group, note, put_in, remove,
    take_out, turn, write_note,
};

/// The suffix of the queue that dead letters go to when nothing else is said.
pub(crate) const DEAD: &str = ".dead";

/// A queue and the era of its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    id: QueueId,
    era: Era,
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
    may_make_all(scope, namespace, &[name])
}

/// As [`may_make`], of different names at once.
fn may_make_all(scope: &Scope<'_>, namespace: &str, names: &[&str]) -> Result<(), Rejection> {
    let mut new = 0;
    for name in names {
        check_name(name)?;
        if !scope.queues.names.contains_key(&keys::queue(scope.group, namespace, name)) {
            check_new_name(name)?;
            new += 1;
        }
    }
    match new {
        0 => Ok(()),
        new => at_most("queues", scope.queues.queues.len() as u64 + new, QUEUES_MAX),
    }
}

/// The name of the queue of its dead letters is to be one, too.
pub(crate) fn check_new_name(name: &str) -> Result<(), Rejection> {
    if name.ends_with(DEAD) {
        return Ok(());
    }
    let limit = QUEUE_NAME_BYTES_MAX - DEAD.len() as u64;
    within("queue name bytes, but for those that end in .dead,", name.len(), limit)
}

/// The queue of this name, made if it is not there; whether it was made. Its name must have been
/// checked.
fn make(scope: &mut Scope<'_>, namespace: &str, name: &str) -> (At, bool) {
    make_with(scope, namespace, name, QueueOptions::by_name)
}

/// As [`make`], for the dead letters of another queue.
fn make_for_dead_letters(scope: &mut Scope<'_>, namespace: &str, name: &str) -> At {
    make_with(scope, namespace, name, |_| QueueOptions::of_dead_letters()).0
}

fn make_with(
    scope: &mut Scope<'_>,
    namespace: &str,
    name: &str,
    options: impl FnOnce(&str) -> QueueOptions,
) -> (At, bool) {
    if let Some(there) = find_named(scope, namespace, name) {
        return (there, false);
    }
    let key = keys::queue(scope.group, namespace, name);
    let id = QueueId(scope.queues.next_id());
    let era = Era(scope.queues.next_id());
    let row = QueueRow { id, era, paused: false, options: options(name) };
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
