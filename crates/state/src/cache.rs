//! The cache: entries that may be gone at any time, who builds the missing ones, and their tags.
//!
//! An entry is fresh until its deadline, then stale for a while for those who ask for such, then
//! gone. One of its tags that is invalidated ends it at once: entries, invalidations and builds are
//! numbered in one order, so that each entry can be held against its tags without being touched
//! ([`is_invalidated`]). Its row goes with the sweep of the tag ([`tags`]).
//!
//! A build is a lease on a key that is missing. Whatever writes or deletes the key meanwhile ends
//! it; an invalidation of a tag does, too, which shows when the value comes that has the tag.
//!
//! # Relations
//! - The rows of CACHE_TAGGED are exactly the tags of the rows of CACHE, and each tag's row counts
//!   them.
//! - An entry that is older than an invalidation of one of its tags lies ahead of the tag's sweep.
//! - What the rows of CACHE count for is within the bound when a row is added, and may be above it
//!   only after the bound was lowered.
//!
//! Nothing of it is in memory but the counters.

use crate::keys::{self, Clock, DeadlineKind};
use crate::kv;
use crate::limits::{
    CACHE_ENTRY_SHARE, CACHE_ENTRY_TAGS_MAX, CACHE_TAG_BYTES_MAX, CACHE_TAGS_MAX, TTL_MS_MAX,
    VALUE_BYTES_MAX,
};
use crate::rows::{self, CacheBuildRow, CacheRow, CacheTagRow};
use crate::scope::{Failure, Scope, at_most, within};
use crate::{BuildEnd, Event, Fatal, GroupId, Read, Rejection, Txn as _, codec, expiry};
use bytes::Bytes;

pub(crate) mod build;
pub(crate) mod build_end;
pub(crate) mod delete;
pub(crate) mod delete_pattern;
pub(crate) mod evict;
pub(crate) mod expire;
pub(crate) mod fill;
pub(crate) mod invalidate_tags;
pub(crate) mod lapse;
pub(crate) mod resize;
pub(crate) mod set;
pub(crate) mod tags;
pub(crate) mod touch;

pub(crate) use kv::check_key;

/// What is stored, as it was asked for.
struct Contents<'a> {
    value: &'a Bytes,
    ttl_ms: Option<u64>,
    stale_for_ms: u64,
    tags: &'a [String],
}

/// Its tags, when all of it may be stored.
fn check_contents<'a>(contents: &Contents<'a>) -> Result<Vec<&'a str>, Rejection> {
    within("value bytes", contents.value.len(), VALUE_BYTES_MAX)?;
    check_ttl(contents.ttl_ms)?;
    at_most("time to be stale in milliseconds", contents.stale_for_ms, TTL_MS_MAX)?;
    check_tags("tags of a cache entry", contents.tags, CACHE_ENTRY_TAGS_MAX)
}

fn check_ttl(ttl_ms: Option<u64>) -> Result<(), Rejection> {
    if ttl_ms == Some(0) {
        return Err(Rejection::Invalid(
            "the ttl is 0 ms; give 1 ms or more, or none to keep the entry fresh".to_owned(),
        ));
    }
    at_most("ttl in milliseconds", ttl_ms.unwrap_or(0), TTL_MS_MAX)
}

/// In order, each once.
fn check_tags<'a>(
    what: &str,
    tags: &'a [String],
    tags_max: usize,
) -> Result<Vec<&'a str>, Rejection> {
    within(what, tags.len(), tags_max as u64)?;
    for tag in tags {
        if tag.is_empty() {
            return Err(Rejection::Invalid(
                "a tag is empty; name one of 1 byte or more, or none".to_owned(),
            ));
        }
        within("tag bytes", tag.len(), CACHE_TAG_BYTES_MAX)?;
    }
    let mut tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

/// Writes an entry in place of what is there, gone or not. Checks that there is room before.
fn store(
    scope: &mut Scope<'_>,
    namespace: &str,
    key: &[u8],
    contents: &Contents<'_>,
    tags: Vec<&str>,
) -> Result<(), Failure> {
    let row_key = keys::cache(scope.group, namespace, key);
    let stored = scope.txn.get(&row_key)?;
    let stored = stored.as_deref().map(CacheRow::decode).transpose()?;
    let before: &[&str] = stored.as_ref().map_or(&[], |row| &row.tags);
    let mut row = CacheRow {
        written: 0,
        mod_revision: scope.revision,
        deadline_ms: contents.ttl_ms.map(|ttl_ms| scope.lease_ms().saturating_add(ttl_ms)),
        stale_for_ms: contents.stale_for_ms,
        tags,
        value: contents.value,
    };

    let (bytes, limit) = (row.counted_bytes(key), scope.cache.bytes_max);
    at_most("bytes of a cache entry", bytes, limit / CACHE_ENTRY_SHARE)?;
    let replaced = stored.as_ref().map_or(0, |row| row.counted_bytes(key));
    if scope.cache.bytes - replaced + bytes > limit {
        return Err(Failure::Rejected(Rejection::CacheFull { bytes: scope.cache.bytes, limit }));
    }
    let mut joined: Vec<(&str, Option<CacheTagRow>)> = Vec::new();
    for tag in row.tags.iter().filter(|tag| !before.contains(tag)) {
        joined.push((tag, tags::find(scope, namespace, tag)?));
    }
    let new = joined.iter().filter(|(_, there)| there.is_none()).count() as u64;
    at_most("cache tags", scope.cache.tags + new, CACHE_TAGS_MAX)?;

    row.written = scope.cache.next_order();
    for tag in before.iter().filter(|tag| !row.tags.contains(tag)) {
        tags::leave(scope, namespace, tag, key)?;
    }
    for (tag, there) in joined {
        tags::join(scope, namespace, tag, key, there);
    }
    reschedule(scope, &row_key, stored.as_ref().and_then(CacheRow::gone_ms), row.gone_ms());
    scope.txn.put(&row_key, &row.encode());
    scope.cache.bytes = scope.cache.bytes - replaced + bytes;
    scope.cache.entries += u64::from(stored.is_none());
    changed(scope, namespace, key);
    Ok(())
}

/// Moves the deadline of the entry at `row_key`.
fn reschedule(scope: &mut Scope<'_>, row_key: &[u8], from_ms: Option<u64>, to_ms: Option<u64>) {
    if from_ms == to_ms {
        return;
    }
    if let Some(at_ms) = from_ms {
        expiry::unschedule(scope, Clock::Lease, at_ms, DeadlineKind::Cache, row_key);
    }
    if let Some(at_ms) = to_ms {
        expiry::schedule(scope, Clock::Lease, at_ms, DeadlineKind::Cache, row_key);
    }
}

/// Deletes an entry that has no deadline any more, and what belongs to it.
fn delete_row(
    scope: &mut Scope<'_>,
    namespace: &str,
    key: &[u8],
    row: &CacheRow<'_>,
) -> Result<(), Fatal> {
    let row_key = keys::cache(scope.group, namespace, key);
    scope.txn.delete(&row_key);
    scope.cache.entries -= 1;
    scope.cache.bytes -= row.counted_bytes(key);
    for tag in &row.tags {
        tags::leave(scope, namespace, tag, key)?;
    }
    Ok(())
}

/// As [`delete_row`], with its deadline.
fn remove(
    scope: &mut Scope<'_>,
    namespace: &str,
    key: &[u8],
    row: &CacheRow<'_>,
) -> Result<(), Fatal> {
    let row_key = keys::cache(scope.group, namespace, key);
    reschedule(scope, &row_key, row.gone_ms(), None);
    delete_row(scope, namespace, key, row)
}

fn changed(scope: &mut Scope<'_>, namespace: &str, key: &[u8]) {
    let (namespace, key) = (namespace.to_owned(), Bytes::copy_from_slice(key));
    let revision = scope.revision;
    scope.events.push(Event::CacheChanged { namespace, key, revision });
}

/// Whether one of an entry's tags was invalidated after it was written.
pub(crate) fn is_invalidated(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    row: &CacheRow<'_>,
) -> Result<bool, Fatal> {
    any_invalidated(tables, group, namespace, row.tags.iter().copied(), row.written)
}

/// Whether one of the tags was invalidated after something that has this place in the order.
pub(crate) fn any_invalidated<'t>(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    tags: impl Iterator<Item = &'t str>,
    order: u64,
) -> Result<bool, Fatal> {
    for tag in tags {
        let there = tags::find_in(tables, &keys::cache_tag(group, namespace, tag))?;
        if there.is_some_and(|row| row.invalidated > order) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The build at a key of CACHE_BUILD, its time run out or not.
pub(crate) fn build(tables: &dyn Read, build_key: &[u8]) -> Result<Option<CacheBuildRow>, Fatal> {
    rows::find(tables, "cache build row", build_key)
}

/// The build of a key that is under way.
fn find_build(
    scope: &Scope<'_>,
    namespace: &str,
    key: &[u8],
) -> Result<Option<CacheBuildRow>, Fatal> {
    // Most who ask find nothing: then the counter spares the look.
    if scope.cache.builds == 0 {
        return Ok(None);
    }
    build(&scope.txn, &keys::cache_build(scope.group, namespace, key))
}

fn is_over(scope: &Scope<'_>, build: &CacheBuildRow) -> bool {
    !rows::is_live(Some(build.deadline_ms), scope.lease_ms())
}

fn begin_build(scope: &mut Scope<'_>, namespace: &str, key: &[u8], row: &CacheBuildRow) {
    let build_key = keys::cache_build(scope.group, namespace, key);
    scope.txn.put(&build_key, &codec::encode(row));
    expiry::schedule(scope, Clock::Lease, row.deadline_ms, DeadlineKind::CacheBuild, &build_key);
    scope.cache.builds += 1;
}

/// Ends a build; one whose time ran out before, and that was not swept yet, because of that.
fn end_build(
    scope: &mut Scope<'_>,
    namespace: &str,
    key: &[u8],
    row: &CacheBuildRow,
    end: BuildEnd,
) {
    let build_key = keys::cache_build(scope.group, namespace, key);
    let at_ms = row.deadline_ms;
    expiry::unschedule(scope, Clock::Lease, at_ms, DeadlineKind::CacheBuild, &build_key);
    let end = if is_over(scope, row) { BuildEnd::Lapsed } else { end };
    build_ended(scope, namespace, key, row, end);
}

/// As [`end_build`], with the deadline gone already.
fn build_ended(
    scope: &mut Scope<'_>,
    namespace: &str,
    key: &[u8],
    row: &CacheBuildRow,
    end: BuildEnd,
) {
    scope.txn.delete(&keys::cache_build(scope.group, namespace, key));
    scope.cache.builds -= 1;
    let (namespace, key, lease) = (namespace.to_owned(), Bytes::copy_from_slice(key), row.lease);
    scope.events.push(Event::CacheBuildEnded { namespace, key, lease, end });
}

/// Ends a build of the key, if there is one: what it read is not what there is now.
fn revoke_build(scope: &mut Scope<'_>, namespace: &str, key: &[u8]) -> Result<(), Fatal> {
    if let Some(row) = find_build(scope, namespace, key)? {
        end_build(scope, namespace, key, &row, BuildEnd::Revoked);
    }
    Ok(())
}

/// Whether this entry of the log has deleted as many entries of the cache as it may, but for what
/// commands ask for by key or pattern.
pub(crate) fn is_spent(scope: &Scope<'_>) -> bool {
    scope.allowance.cache_rows == 0 || scope.allowance.cache_bytes == 0
}

/// Takes what an entry costs, of which so many bytes were read, off what is left.
fn spend(scope: &mut Scope<'_>, rows: usize, bytes: usize) {
    let allowance = &mut scope.allowance;
    allowance.cache_rows = allowance.cache_rows.saturating_sub(rows);
    allowance.cache_bytes = allowance.cache_bytes.saturating_sub(bytes);
}
