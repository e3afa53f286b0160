//! The cache as a reader sees it.

use super::{clocks, exceeds};
use crate::cache;
use crate::keys::{self, DeadlineKind, PREFIX_BYTES};
use crate::limits::{KEY_BYTES_MAX, NAMESPACE_BYTES_MAX, SCAN_ROW_STEPS, SCAN_STEPS_MAX};
use crate::machine::Fatal;
use crate::rows::{self, CacheRow};
use crate::{BuildLease, GroupId, Read, Revision};
use bytes::Bytes;
use std::ops::ControlFlow;

/// An entry of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheItem {
    /// Its value.
    pub value: Bytes,
    /// Its tags, in order.
    pub tags: Vec<String>,
    /// Revision that wrote it.
    pub mod_revision: Revision,
    /// Whether its ttl ran out.
    pub freshness: CacheFreshness,
    /// How long it is kept after its ttl ran out.
    pub stale_for_ms: u64,
}

/// Whether an entry's ttl ran out, by the view's lease clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFreshness {
    /// Not yet.
    Fresh {
        /// Milliseconds until it does; none without a ttl.
        remaining_ms: Option<u64>,
    },
    /// It did: only for those who are content with what was.
    Stale {
        /// Milliseconds until the entry is gone.
        remaining_ms: u64,
    },
}

/// The entry, fresh or stale; none when it is absent, gone by the view's own clock, or one of its
/// tags was invalidated. A namespace or key beyond its limit is absent.
///
/// # Errors
/// When the tables fail.
pub fn cache_get(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    key: &[u8],
) -> Result<Option<CacheItem>, Fatal> {
    if exceeds(namespace.len(), NAMESPACE_BYTES_MAX) || exceeds(key.len(), KEY_BYTES_MAX) {
        return Ok(None);
    }
    let Some(bytes) = tables.get(&keys::cache(group, namespace, key))? else { return Ok(None) };
    let lease_ms = || Ok(clocks(tables, group)?.lease_ms);
    cache_item(tables, group, namespace, &Bytes::from(bytes), lease_ms)
}

/// As [`cache_get`], of the entry whose row this is. Its value is a slice of the row: a large one is not
/// copied again.
pub(super) fn cache_item(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    bytes: &Bytes,
    lease_ms: impl FnOnce() -> Result<u64, Fatal>,
) -> Result<Option<CacheItem>, Fatal> {
    let row = CacheRow::decode(bytes)?;
    let freshness = match row.deadline_ms {
        None => CacheFreshness::Fresh { remaining_ms: None },
        Some(deadline_ms) => {
            let lease_ms = lease_ms()?;
            if row.is_gone(lease_ms) {
                return Ok(None);
            }
            match deadline_ms.checked_sub(lease_ms) {
                Some(1..) => CacheFreshness::Fresh { remaining_ms: Some(deadline_ms - lease_ms) },
                _ => CacheFreshness::Stale {
                    remaining_ms: deadline_ms.saturating_add(row.stale_for_ms) - lease_ms,
                },
            }
        }
    };
    if cache::is_invalidated(tables, group, namespace, &row)? {
        return Ok(None);
    }
    Ok(Some(CacheItem {
        value: bytes.slice_ref(row.value),
        tags: row.tags.iter().map(|tag| (*tag).to_owned()).collect(),
        mod_revision: row.mod_revision,
        freshness,
        stale_for_ms: row.stale_for_ms,
    }))
}

/// A build that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheBuildItem {
    /// What it was granted.
    pub lease: BuildLease,
    /// When.
    pub granted: Revision,
    /// For how much longer.
    pub remaining_ms: u64,
}

/// The build of a key; none when nobody builds it. Whoever waits for one to end looks here after
/// beginning to listen, because the event may have come before.
///
/// # Errors
/// When the tables fail.
pub fn cache_build(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    key: &[u8],
) -> Result<Option<CacheBuildItem>, Fatal> {
    if exceeds(namespace.len(), NAMESPACE_BYTES_MAX) || exceeds(key.len(), KEY_BYTES_MAX) {
        return Ok(None);
    }
    let Some(row) = cache::build(tables, &keys::cache_build(group, namespace, key))? else {
        return Ok(None);
    };
    let lease_ms = clocks(tables, group)?.lease_ms;
    let remaining_ms = row.deadline_ms.saturating_sub(lease_ms);
    let (lease, granted) = (row.lease, row.granted);
    Ok((remaining_ms > 0).then_some(CacheBuildItem { lease, granted, remaining_ms }))
}

/// What the cache of a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheUsage {
    /// Entries, with those that are gone and not swept yet.
    pub entries: u64,
    /// Their bytes, as [`crate::limits::CACHE_ENTRY_OVERHEAD_BYTES`] counts them.
    pub bytes: u64,
    /// How many it may have.
    pub bytes_max: u64,
    /// Builds that are under way.
    pub builds: u64,
    /// Tags that are remembered.
    pub tags: u64,
}

/// What the cache of the group has.
///
/// # Errors
/// When the tables fail.
pub fn cache_usage(tables: &dyn Read, group: GroupId) -> Result<CacheUsage, Fatal> {
    let row = rows::cache_meta(tables, group)?;
    let (entries, bytes, bytes_max) = (row.entries, row.bytes, row.bytes_max);
    Ok(CacheUsage { entries, bytes, bytes_max, builds: row.builds, tags: row.tags })
}

/// An entry that could be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheCandidate {
    /// Its namespace and key; see [`cache_id`].
    pub id: Bytes,
    /// The revision that wrote it.
    pub mod_revision: Revision,
    /// What it counts for.
    pub bytes: u64,
    /// Whether nobody can read it any more.
    pub dead: bool,
}

/// A part of what could be evicted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheCandidates {
    /// In the order of their ids.
    pub candidates: Vec<CacheCandidate>,
    /// Where the next part begins; none when nothing is left.
    pub cursor: Option<Bytes>,
}

/// What candidates and victims of an eviction are called; none for a namespace beyond its limit.
#[must_use]
pub fn cache_id(namespace: &str, key: &[u8]) -> Option<Bytes> {
    if exceeds(namespace.len(), NAMESPACE_BYTES_MAX) {
        return None;
    }
    Some(Bytes::from(keys::cache(GroupId(0), namespace, key).split_off(PREFIX_BYTES)))
}

/// Namespace and key of an id; none when [`cache_id`] makes no such one.
#[must_use]
pub fn cache_id_parts(id: &[u8]) -> Option<(&str, &[u8])> {
    keys::parse_id(id)
}

/// Up to `max` entries of all namespaces, in the order of their ids, from the one after `after`. Ends
/// before it has read more than [`SCAN_STEPS_MAX`] bytes, but not before the first one.
///
/// # Errors
/// When the tables fail.
pub fn cache_candidates(
    tables: &dyn Read,
    group: GroupId,
    after: Option<&[u8]>,
    max: usize,
) -> Result<CacheCandidates, Fatal> {
    /// What is asked of the tags, once the scan is over.
    struct Found {
        candidate: CacheCandidate,
        written: u64,
        tags: Vec<String>,
    }
    let (mut from, to) = keys::table_range(group, keys::table::CACHE);
    if let Some(after) = after {
        from = keys::successor(keys::expiring(group, DeadlineKind::Cache, after));
    }
    let lease_ms = clocks(tables, group)?.lease_ms;
    let mut found: Vec<Found> = Vec::new();
    let (mut steps, mut more, mut failed) = (SCAN_STEPS_MAX, false, None);
    tables.scan(&from, &to, &mut |key, value| {
        if found.len() >= max || steps == 0 {
            more = true;
            return ControlFlow::Break(());
        }
        steps = steps.saturating_sub(SCAN_ROW_STEPS + key.len() + value.len());
        match CacheRow::decode(value) {
            Ok(row) => {
                let id = Bytes::copy_from_slice(keys::id(key));
                let bytes = match keys::parse_id(&id) {
                    Some((_, name)) => row.counted_bytes(name),
                    None => {
                        failed = Some(Fatal::Invariant(format!("CACHE holds the key {key:02x?}")));
                        return ControlFlow::Break(());
                    }
                };
                let (mod_revision, dead) = (row.mod_revision, row.is_gone(lease_ms));
                let candidate = CacheCandidate { id, mod_revision, bytes, dead };
                let tags = row.tags.iter().map(|tag| (*tag).to_owned()).collect();
                found.push(Found { candidate, written: row.written, tags });
                ControlFlow::Continue(())
            }
            Err(fatal) => {
                failed = Some(fatal);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(fatal) = failed {
        return Err(fatal);
    }
    let mut candidates = Vec::with_capacity(found.len());
    for Found { mut candidate, written, tags } in found {
        if !candidate.dead
            && let Some((namespace, _)) = keys::parse_id(&candidate.id)
        {
            let tags = tags.iter().map(String::as_str);
            candidate.dead = cache::any_invalidated(tables, group, namespace, tags, written)?;
        }
        candidates.push(candidate);
    }
    let cursor = candidates.last().filter(|_| more).map(|last| last.id.clone());
    Ok(CacheCandidates { candidates, cursor })
}
