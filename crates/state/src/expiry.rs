//! Deadlines in lease time: one row for each item that expires, and the sweep that follows them.
//!
//! Relation: the rows of DEADLINE are exactly the deadlines of the items in KV, IDEMPOTENCY and
//! TICKET that have one. The sweep relies on it: it deletes what a row names without reading it first.

use crate::dedupe::idempotency;
use crate::keys::{self, DeadlineKind};
use crate::limits::EXPIRE_PER_ENTRY_MAX;
use crate::scope::Scope;
use crate::{Fatal, GroupId, Read, Txn, kv, lock};
use std::ops::{ControlFlow, RangeInclusive};

/// Makes the row at `expiring_key` end at `deadline_ms`.
pub(crate) fn schedule(
    scope: &mut Scope<'_>,
    deadline_ms: u64,
    kind: DeadlineKind,
    expiring_key: &[u8],
) {
    scope.txn.put(&keys::deadline(scope.group, deadline_ms, kind, expiring_key), &[]);
    let earliest_ms = scope.earliest_deadline_ms.unwrap_or(u64::MAX);
    *scope.earliest_deadline_ms = Some(deadline_ms.min(earliest_ms));
}

/// Takes back what [`schedule`] did.
pub(crate) fn unschedule(
    scope: &mut Scope<'_>,
    deadline_ms: u64,
    kind: DeadlineKind,
    expiring_key: &[u8],
) {
    scope.txn.delete(&keys::deadline(scope.group, deadline_ms, kind, expiring_key));
}

/// Deletes what is due, earliest first, up to the bound; the rest waits for the next entry and is
/// invisible until then.
pub(crate) fn sweep(scope: &mut Scope<'_>) -> Result<(), Fatal> {
    let lease_ms = scope.lease_ms();
    let Some(earliest_ms) = scope.earliest_deadline_ms.filter(|earliest| *earliest <= lease_ms)
    else {
        return Ok(());
    };
    let group = scope.group;
    // From the bound on, not from the table's start: what was swept before lies there deleted, and
    // an LSM tree walks over deleted rows one by one.
    let from = keys::deadlines_from(group, earliest_ms);
    let (_, to) = keys::table_range(group, keys::table::DEADLINE);
    let mut due = Vec::new();
    let mut next_ms = None;
    let mut malformed = None;
    scope.txn.scan(&from, &to, &mut |key, _| {
        match keys::parse(group, key) {
            Some(keys::Key::Deadline { deadline_ms, kind, id }) => {
                if deadline_ms <= lease_ms && due.len() < EXPIRE_PER_ENTRY_MAX {
                    due.push((key.to_vec(), kind, keys::expiring(group, kind, id)));
                    return ControlFlow::Continue(());
                }
                next_ms = Some(deadline_ms);
            }
            _ => malformed = Some(key.to_vec()),
        }
        ControlFlow::Break(())
    })?;
    if let Some(key) = malformed {
        return Err(Fatal::Invariant(format!("DEADLINE holds the key {key:02x?}")));
    }
    *scope.earliest_deadline_ms = next_ms;
    if !due.is_empty() {
        // Its events need a revision; an entry without commands then has one all the same.
        scope.begin_command(0);
    }
    for (deadline, kind, expiring) in due {
        scope.txn.delete(&deadline);
        match kind {
            DeadlineKind::Kv => kv::expire::apply(scope, &expiring)?,
            DeadlineKind::Idempotency => idempotency::expire(scope, &expiring),
            DeadlineKind::Ticket => lock::time_out::apply(scope, &expiring)?,
        }
    }
    Ok(())
}

/// The earliest deadline in a span of lease time. Looks at nothing outside of it: before it may lie
/// what was swept, and behind it what was taken back, and an LSM tree walks over both.
pub(crate) fn earliest_ms(
    tables: &dyn Read,
    group: GroupId,
    within_ms: RangeInclusive<u64>,
) -> Result<Option<u64>, Fatal> {
    let from = keys::deadlines_from(group, *within_ms.start());
    let to = match within_ms.end().checked_add(1) {
        Some(after_ms) => keys::deadlines_from(group, after_ms),
        None => keys::table_range(group, keys::table::DEADLINE).1,
    };
    let mut first = None;
    tables.scan(&from, &to, &mut |key, _| {
        first = Some(match keys::parse(group, key) {
            Some(keys::Key::Deadline { deadline_ms, .. }) => Ok(deadline_ms),
            _ => Err(Fatal::Invariant(format!("DEADLINE holds the key {key:02x?}"))),
        });
        ControlFlow::Break(())
    })?;
    first.transpose()
}
