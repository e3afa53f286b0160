//! Deadlines, in lease time and in wall time: one row for each item that something is to become of
//! by itself, and the sweep that follows them.
//!
//! Relation: the rows of DEADLINE and WALL_DEADLINE are exactly the deadlines of the items that have
//! one, but for those of jobs of old eras, which may be missing. The sweep relies on it: it deletes
//! what a row names without reading it first.

use crate::dedupe::idempotency;
use crate::keys::{self, Clock, DeadlineKind};
use crate::limits::EXPIRE_PER_ENTRY_MAX;
use crate::scope::Scope;
use crate::{Fatal, GroupId, Read, Txn, access, cache, kv, lock, member, queue, schedule};
use std::ops::{ControlFlow, RangeInclusive};

/// Makes something become of the row at `expiring_key` at `deadline_ms`.
pub(crate) fn schedule(
    scope: &mut Scope<'_>,
    clock: Clock,
    deadline_ms: u64,
    kind: DeadlineKind,
    expiring_key: &[u8],
) {
    // The leader looks for what is due above the clocks of what it has seen applied.
    debug_assert!(deadline_ms > clock_ms(scope, clock), "a deadline of the past is not seen");
    scope.txn.put(&keys::deadline(scope.group, clock, deadline_ms, kind, expiring_key), &[]);
    let earliest = earliest_of(scope, clock);
    *earliest = Some(deadline_ms.min(earliest.unwrap_or(u64::MAX)));
}

/// Takes back what [`schedule`] did.
pub(crate) fn unschedule(
    scope: &mut Scope<'_>,
    clock: Clock,
    deadline_ms: u64,
    kind: DeadlineKind,
    expiring_key: &[u8],
) {
    scope.txn.delete(&keys::deadline(scope.group, clock, deadline_ms, kind, expiring_key));
}

fn earliest_of<'a>(scope: &'a mut Scope<'_>, clock: Clock) -> &'a mut Option<u64> {
    match clock {
        Clock::Lease => &mut scope.earliest.lease_ms,
        Clock::Wall => &mut scope.earliest.wall_ms,
    }
}

fn clock_ms(scope: &Scope<'_>, clock: Clock) -> u64 {
    match clock {
        Clock::Lease => scope.meta.stamp.lease_ms,
        Clock::Wall => scope.meta.stamp.wall_ms,
    }
}

/// Deals with what is due, earliest first, up to the bound; the rest waits for the next entry and
/// is invisible until then.
pub(crate) fn sweep(scope: &mut Scope<'_>) -> Result<(), Fatal> {
    let left = sweep_clock(scope, Clock::Lease, EXPIRE_PER_ENTRY_MAX)?;
    sweep_clock(scope, Clock::Wall, left)?;
    Ok(())
}

/// Answers how much is left of the bound.
fn sweep_clock(scope: &mut Scope<'_>, clock: Clock, items_max: usize) -> Result<usize, Fatal> {
    let now_ms = clock_ms(scope, clock);
    let Some(earliest_ms) = earliest_of(scope, clock).filter(|earliest| *earliest <= now_ms) else {
        return Ok(items_max);
    };
    let group = scope.group;
    // From the bound on, not from the table's start: what was swept before lies there deleted, and
    // an LSM tree walks over deleted rows one by one.
    let from = keys::deadlines_from(group, clock, earliest_ms);
    let (_, to) = keys::table_range(group, clock.table());
    let mut due = Vec::new();
    let mut next_ms = None;
    let mut malformed = None;
    scope.txn.scan(&from, &to, &mut |key, _| {
        match keys::parse(group, key) {
            Some(keys::Key::Deadline { deadline_ms, kind, id, .. }) => {
                if deadline_ms <= now_ms && due.len() < items_max {
                    due.push((key.to_vec(), deadline_ms, kind, keys::expiring(group, kind, id)));
                    return ControlFlow::Continue(());
                }
                next_ms = Some(deadline_ms);
            }
            _ => malformed = Some(key.to_vec()),
        }
        ControlFlow::Break(())
    })?;
    if let Some(key) = malformed {
        return Err(Fatal::Invariant(format!("a table of deadlines holds the key {key:02x?}")));
    }
    *earliest_of(scope, clock) = next_ms;
    if !due.is_empty() {
        // Its events need a revision; an entry without commands then has one all the same.
        scope.begin_command(0);
    }
    let left = items_max - due.len();
    for (deadline, deadline_ms, kind, expiring) in due {
        if may_be_taken_back(kind) && scope.txn.get(&deadline)?.is_none() {
            continue;
        }
        if kind == DeadlineKind::Cache && cache::is_spent(scope) {
            // Left for the next entry, like those beyond the bound.
            let earliest = earliest_of(scope, clock);
            *earliest = Some(deadline_ms.min(earliest.unwrap_or(u64::MAX)));
            continue;
        }
        scope.txn.delete(&deadline);
        match kind {
            DeadlineKind::Kv => kv::expire::apply(scope, &expiring)?,
            DeadlineKind::Idempotency => idempotency::expire(scope, &expiring),
            DeadlineKind::Ticket => lock::time_out::apply(scope, &expiring)?,
            DeadlineKind::Job => queue::due::job(scope, &expiring)?,
            DeadlineKind::Consumer => queue::due::consumer(scope, &expiring)?,
            DeadlineKind::Dedupe => queue::due::dedupe(scope, &expiring),
            DeadlineKind::Queue => queue::due::queue(scope, &expiring)?,
            DeadlineKind::OldEra => queue::purge::sweep(scope, &expiring)?,
            DeadlineKind::Schedule => schedule::due::apply(scope, &expiring)?,
            DeadlineKind::Cache => cache::expire::apply(scope, &expiring)?,
            DeadlineKind::CacheBuild => cache::lapse::apply(scope, &expiring)?,
            DeadlineKind::CacheTag => cache::tags::due(scope, &expiring)?,
            DeadlineKind::Invitation => member::expire::apply(scope, &expiring),
            DeadlineKind::AccessToken => access::expire::apply(scope, &expiring)?,
        }
    }
    Ok(left)
}

/// Whether what comes before it in a sweep may take it back: a queue makes room, for example, and a
/// tag goes with its last entry.
fn may_be_taken_back(kind: DeadlineKind) -> bool {
    matches!(
        kind,
        DeadlineKind::Job
            | DeadlineKind::Consumer
            | DeadlineKind::Queue
            | DeadlineKind::Cache
            | DeadlineKind::CacheTag
    )
}

/// The earliest deadline in a span of a clock. Looks at nothing outside of it: before it may lie
/// what was swept, and behind it what was taken back, and an LSM tree walks over both.
pub(crate) fn earliest_ms(
    tables: &dyn Read,
    group: GroupId,
    clock: Clock,
    within_ms: RangeInclusive<u64>,
) -> Result<Option<u64>, Fatal> {
    let from = keys::deadlines_from(group, clock, *within_ms.start());
    let to = match within_ms.end().checked_add(1) {
        Some(after_ms) => keys::deadlines_from(group, clock, after_ms),
        None => keys::table_range(group, clock.table()).1,
    };
    let mut first = None;
    tables.scan(&from, &to, &mut |key, _| {
        first = Some(match keys::parse(group, key) {
            Some(keys::Key::Deadline { deadline_ms, .. }) => Ok(deadline_ms),
            _ => Err(Fatal::Invariant(format!("a table of deadlines holds the key {key:02x?}"))),
        });
        ControlFlow::Break(())
    })?;
    first.transpose()
}
