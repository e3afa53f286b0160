//! Tags: which entries have one, and what becomes of them when it is invalidated.
//!
//! A tag's row is there while entries have it, and for as long after an invalidation as a build can
//! last that began before: what such a build stores is held against it.

use super::{remove, spend};
use crate::keys::{self, Clock, DeadlineKind, Key};
use crate::limits::CACHE_BUILD_LEASE_MS_MAX;
use crate::rows::{self, CacheRow, CacheTagRow, TagSweep};
use crate::scope::Scope;
use crate::{Fatal, Read, Txn as _, codec, expiry};
use bytes::Bytes;
use std::ops::ControlFlow;

pub(super) fn find(
    scope: &Scope<'_>,
    namespace: &str,
    tag: &str,
) -> Result<Option<CacheTagRow>, Fatal> {
    find_in(&scope.txn, &keys::cache_tag(scope.group, namespace, tag))
}

pub(super) fn find_in(tables: &dyn Read, key: &[u8]) -> Result<Option<CacheTagRow>, Fatal> {
    rows::find(tables, "cache tag row", key)
}

/// Writes the row in place of `before`, or deletes it, and keeps deadlines and counter exact.
fn write(
    scope: &mut Scope<'_>,
    key: &[u8],
    before: Option<&CacheTagRow>,
    after: Option<&CacheTagRow>,
) {
    let (from_ms, to_ms) =
        (before.and_then(CacheTagRow::deadline_ms), after.and_then(CacheTagRow::deadline_ms));
    if from_ms != to_ms {
        if let Some(at_ms) = from_ms {
            expiry::unschedule(scope, Clock::Lease, at_ms, DeadlineKind::CacheTag, key);
        }
        if let Some(at_ms) = to_ms {
            expiry::schedule(scope, Clock::Lease, at_ms, DeadlineKind::CacheTag, key);
        }
    }
    match after {
        Some(row) => scope.txn.put(key, &codec::encode(row)),
        None => scope.txn.delete(key),
    }
    scope.cache.tags += u64::from(after.is_some());
    scope.cache.tags -= u64::from(before.is_some());
}

/// Notes that an entry has a tag now, whose row is `before`.
pub(super) fn join(
    scope: &mut Scope<'_>,
    namespace: &str,
    tag: &str,
    name: &[u8],
    before: Option<CacheTagRow>,
) {
    scope.txn.put(&keys::cache_tagged(scope.group, namespace, tag, name), &[]);
    let mut after = before.clone().unwrap_or_default();
    after.entries += 1;
    let key = keys::cache_tag(scope.group, namespace, tag);
    write(scope, &key, before.as_ref(), Some(&after));
}

/// Notes that an entry does not have a tag any more.
pub(super) fn leave(
    scope: &mut Scope<'_>,
    namespace: &str,
    tag: &str,
    name: &[u8],
) -> Result<(), Fatal> {
    scope.txn.delete(&keys::cache_tagged(scope.group, namespace, tag, name));
    let Some(before) = find(scope, namespace, tag)? else {
        return Err(Fatal::Invariant(format!("an entry has the tag {tag:?}, which has no row")));
    };
    let mut after = before.clone();
    after.entries -= 1;
    let key = keys::cache_tag(scope.group, namespace, tag);
    settle(scope, &key, &before, after);
    Ok(())
}

/// Writes the row of a tag that may have no entries any more, unless it is not needed then.
fn settle(scope: &mut Scope<'_>, key: &[u8], before: &CacheTagRow, mut after: CacheTagRow) {
    if after.entries == 0 {
        after.sweep = None;
    }
    let over = after.entries == 0 && after.kept_until_ms <= scope.lease_ms();
    write(scope, key, Some(before), (!over).then_some(&after));
}

/// Notes that a tag, whose row is `before`, was invalidated.
pub(super) fn invalidate(
    scope: &mut Scope<'_>,
    namespace: &str,
    tag: &str,
    before: Option<CacheTagRow>,
    order: u64,
) {
    if before.is_none() && scope.cache.builds == 0 {
        return;
    }
    let mut after = before.clone().unwrap_or_default();
    after.invalidated = order;
    if scope.cache.builds > 0 {
        after.kept_until_ms = scope.lease_ms().saturating_add(CACHE_BUILD_LEASE_MS_MAX);
    }
    if after.entries > 0 {
        let at_ms = scope.lease_ms().saturating_add(1);
        after.sweep = Some(TagSweep { at_ms, after: Bytes::new() });
    }
    let key = keys::cache_tag(scope.group, namespace, tag);
    write(scope, &key, before.as_ref(), Some(&after));
}

/// Deletes the next entries of a tag that are older than its invalidation, or its row when it is not
/// needed any more; the sweep calls it with the tag's deadline gone already.
pub(crate) fn due(scope: &mut Scope<'_>, key: &[u8]) -> Result<(), Fatal> {
    let group = scope.group;
    let Some(Key::CacheTag { namespace, tag }) = keys::parse(group, key) else {
        return Err(Fatal::Invariant(format!("a deadline names the tag {key:02x?}")));
    };
    let Some(row) = find_in(&scope.txn, key)? else {
        return Err(Fatal::Invariant(format!("a deadline names the absent tag {tag:?}")));
    };
    let Some(sweep) = &row.sweep else {
        if row.entries > 0 {
            return Err(Fatal::Invariant(format!("the tag {tag:?} has a deadline and entries")));
        }
        write(scope, key, Some(&row), None);
        return Ok(());
    };
    let (mut names, mut more) = (Vec::new(), false);
    let names_max = scope.allowance.cache_rows;
    let mut malformed = None;
    // Not from its beginning: what was deleted there is passed slowly for a while.
    let (from, to) = keys::cache_tagged_range(group, namespace, tag, &sweep.after);
    scope.txn.scan(&from, &to, &mut |tagged, _| {
        if names.len() == names_max {
            more = true;
            return ControlFlow::Break(());
        }
        match keys::parse(group, tagged) {
            Some(Key::CacheTagged { key: name, .. }) => names.push(Bytes::copy_from_slice(name)),
            _ => malformed = Some(tagged.to_vec()),
        }
        if malformed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(tagged) = malformed {
        return Err(Fatal::Invariant(format!("CACHE_TAGGED holds the key {tagged:02x?}")));
    }
    let mut passed = sweep.after.clone();
    for name in names {
        if super::is_spent(scope) {
            more = true;
            break;
        }
        let Some(stored) = scope.txn.get(&keys::cache(group, namespace, &name))? else {
            return Err(Fatal::Invariant(format!("the absent entry {name:02x?} has a tag")));
        };
        let entry = CacheRow::decode(&stored)?;
        if entry.written < row.invalidated {
            spend(scope, 1 + entry.tags.len(), stored.len());
            remove(scope, namespace, &name, &entry)?;
        } else {
            spend(scope, 1, stored.len());
        }
        passed = name;
    }
    // It has fewer entries by now, or is gone with the last of them.
    let Some(before) = find_in(&scope.txn, key)? else { return Ok(()) };
    if before.entries == 0 {
        return Ok(());
    }
    let mut after = before.clone();
    let at_ms = scope.lease_ms().saturating_add(1);
    after.sweep = more.then_some(TagSweep { at_ms, after: passed });
    write(scope, key, Some(&before), Some(&after));
    Ok(())
}
