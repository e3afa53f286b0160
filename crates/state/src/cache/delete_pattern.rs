//! Deletes the entries that are selected, a bounded number of them at a time.

use super::{build, changed, end_build, is_invalidated, remove};
use crate::keys::{self, table};
use crate::limits::{DELETE_PATTERN_KEYS_MAX, KEY_BYTES_MAX};
use crate::rows::CacheRow;
use crate::scope::{Failure, Scope, within};
use crate::walk::Walk;
use crate::{BuildEnd, CacheDeletePattern, Event, Fatal, Outcome, Read as _, Rejection};
use bytes::Bytes;
use std::ops::ControlFlow;

/// One step: atomic, and under one revision. Keys with an entry and keys with a build are walked over
/// one after the other; the step ends where the walk that came less far does.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    delete: &CacheDeletePattern,
) -> Result<Outcome, Failure> {
    let selection = delete.selector.select()?;
    within("cursor bytes", delete.after.as_ref().map_or(0, |after| after.len()), KEY_BYTES_MAX)?;
    if delete.keys_max == 0 {
        return Err(Failure::Rejected(Rejection::Invalid(
            "the most keys to delete is 0; give 1 or more".to_owned(),
        )));
    }
    let asked = usize::try_from(delete.keys_max).unwrap_or(usize::MAX);
    let allowed = DELETE_PATTERN_KEYS_MAX.min(scope.allowance.keys);
    let revision = scope.revision;
    let lease_ms = scope.lease_ms();

    let walk = |table| Walk {
        group: scope.group,
        table,
        namespace,
        selection: &selection,
        after: delete.after.as_deref(),
    };
    // Of each walk one at least, whatever the commands before it took, so that each step gets
    // somewhere.
    let (mut entries, mut rows) = (Vec::new(), 0);
    let entries_walk = walk(table::CACHE);
    let builds_walk = walk(table::CACHE_BUILD);
    let steps = &mut scope.allowance.steps;
    let entries_end = entries_walk.run(&scope.txn, steps, |_, name, value| {
        let row = CacheRow::decode(value)?;
        if row.is_gone(lease_ms) {
            return Ok(ControlFlow::Continue(()));
        }
        let of_this = 1 + row.tags.len();
        if entries.len() == asked || (rows + of_this > allowed && !entries.is_empty()) {
            return Ok(ControlFlow::Break(()));
        }
        rows += of_this;
        entries.push(Bytes::copy_from_slice(name));
        Ok(ControlFlow::Continue(()))
    })?;
    let mut builds = Vec::new();
    let builds_max = asked.min(allowed).max(1);
    let builds_end = builds_walk.run(&scope.txn, steps, |_, name, _| {
        if builds.len() == builds_max {
            return Ok(ControlFlow::Break(()));
        }
        builds.push(Bytes::copy_from_slice(name));
        Ok(ControlFlow::Continue(()))
    })?;
    let cursor = match (entries_end, builds_end) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let reached = |name: &Bytes| cursor.as_ref().is_none_or(|cursor| name <= cursor);

    let mut deleted = 0;
    for name in entries.iter().filter(|name| reached(name)) {
        deleted += u64::from(delete_one(scope, namespace, name)?);
    }
    for name in builds.iter().filter(|name| reached(name)) {
        let build_key = keys::cache_build(scope.group, namespace, name);
        let Some(row) = build(&scope.txn, &build_key)? else {
            return Err(Failure::Fatal(Fatal::Invariant(format!("no build of {name:02x?}"))));
        };
        end_build(scope, namespace, name, &row, BuildEnd::Revoked);
    }
    scope.allowance.keys = scope.allowance.keys.saturating_sub(rows + builds.len());
    scope.events.push(Event::CachePatternDeleted {
        namespace: namespace.to_owned(),
        selector: delete.selector.clone(),
        after: delete.after.clone(),
        through: cursor.clone(),
        revision,
    });
    Ok(Outcome::CacheDeletePattern { deleted, cursor, revision })
}

/// Whether it was there for readers; if not, it was invalidated.
fn delete_one(scope: &mut Scope<'_>, namespace: &str, name: &[u8]) -> Result<bool, Fatal> {
    let Some(stored) = scope.txn.get(&keys::cache(scope.group, namespace, name))? else {
        return Err(Fatal::Invariant(format!("no entry of {name:02x?}")));
    };
    let row = CacheRow::decode(&stored)?;
    let was_there = !is_invalidated(&scope.txn, scope.group, namespace, &row)?;
    remove(scope, namespace, name, &row)?;
    if was_there {
        changed(scope, namespace, name);
    }
    Ok(was_there)
}
