//! What holds of the cache.

use super::broken;
use crate::keys::{self, Clock, DeadlineKind, Key};
use crate::limits::{CACHE_ENTRY_TAGS_MAX, CACHE_TAG_BYTES_MAX};
use crate::rows::{self, CacheBuildRow, CacheMetaRow, CacheRow, CacheTagRow, MetaRow};
use crate::{BuildLease, Fatal, GroupId};
use std::collections::{BTreeMap, BTreeSet};

/// Counters, added up.
#[derive(Default, Debug, PartialEq, Eq)]
struct Counts {
    entries: u64,
    bytes: u64,
    builds: u64,
    tags: u64,
}

#[derive(Default)]
pub(super) struct Cache {
    meta: CacheMetaRow,
    found: Counts,
    /// Rows that CACHE_TAGGED should have, and has.
    tagged_due: BTreeSet<Vec<u8>>,
    tagged: BTreeSet<Vec<u8>>,
    /// By the key of its row, of each tag that entries have: how many, and when each of them was
    /// written.
    members: BTreeMap<Vec<u8>, Vec<(Vec<u8>, u64)>>,
    /// By the key of its row.
    tags: BTreeMap<Vec<u8>, CacheTagRow>,
    leases: BTreeSet<BuildLease>,
}

impl Cache {
    /// The tables come in the order of their numbers, so the counters come first.
    pub(super) fn row(
        &mut self,
        group: GroupId,
        meta: &MetaRow,
        key: &[u8],
        parsed: Key<'_>,
        value: &[u8],
        due: &mut BTreeSet<Vec<u8>>,
    ) -> Result<(), Fatal> {
        let mut deadline = |at_ms: Option<u64>, kind| {
            let at = at_ms.map(|at_ms| keys::deadline(group, Clock::Lease, at_ms, kind, key));
            due.extend(at);
        };
        match parsed {
            Key::CacheMeta => self.meta = rows::decode("cache meta row", value)?,
            Key::Cache { namespace, key: name } => {
                let row = CacheRow::decode(value)?;
                let sorted = row.tags.is_sorted_by(|one, other| one < other);
                let sized = |tag: &&str| (1..=CACHE_TAG_BYTES_MAX).contains(&(tag.len() as u64));
                let tags =
                    sorted && row.tags.len() <= CACHE_ENTRY_TAGS_MAX && row.tags.iter().all(sized);
                let written = (1..=self.meta.order).contains(&row.written)
                    && row.mod_revision <= meta.revision;
                if !tags || !written || name.is_empty() {
                    return broken(format!("the entry {name:02x?} has the row {row:?}"));
                }
                self.found.entries += 1;
                self.found.bytes += row.counted_bytes(name);
                deadline(row.gone_ms(), DeadlineKind::Cache);
                for tag in &row.tags {
                    self.tagged_due.insert(keys::cache_tagged(group, namespace, tag, name));
                    let tag = keys::cache_tag(group, namespace, tag);
                    self.members.entry(tag).or_default().push((name.to_vec(), row.written));
                }
            }
            Key::CacheTag { tag, .. } => {
                let row: CacheTagRow = rows::decode("cache tag row", value)?;
                if row.invalidated > self.meta.order || tag.is_empty() {
                    return broken(format!("the tag {tag:?} has the row {row:?}"));
                }
                self.found.tags += 1;
                deadline(row.deadline_ms(), DeadlineKind::CacheTag);
                self.tags.insert(key.to_vec(), row);
            }
            Key::CacheTagged { .. } => {
                self.tagged.insert(key.to_vec());
                if !value.is_empty() {
                    return broken(format!("the row {key:02x?} of a tag has a value"));
                }
            }
            Key::CacheBuild { key: name, .. } => {
                let row: CacheBuildRow = rows::decode("cache build row", value)?;
                let begun = (1..=self.meta.order).contains(&row.lease.0)
                    && row.granted <= meta.revision
                    && self.leases.insert(row.lease);
                if !begun || name.is_empty() {
                    return broken(format!("the build of {name:02x?} has the row {row:?}"));
                }
                self.found.builds += 1;
                deadline(Some(row.deadline_ms), DeadlineKind::CacheBuild);
            }
            other => return broken(format!("{other:?} is no row of the cache")),
        }
        Ok(())
    }

    pub(super) fn whole(&self) -> Result<(), Fatal> {
        let CacheMetaRow { entries, bytes, builds, tags, .. } = self.meta;
        let counted = Counts { entries, bytes, builds, tags };
        if counted != self.found {
            return broken(format!("{counted:?} of the cache, there are {:?}", self.found));
        }
        if self.tagged != self.tagged_due {
            return broken(format!(
                "entries have tags by CACHE_TAGGED {:02x?}, and by CACHE {:02x?}",
                self.tagged, self.tagged_due
            ));
        }
        if let Some(tag) = self.members.keys().find(|tag| !self.tags.contains_key(*tag)) {
            return broken(format!("entries have the tag {tag:02x?}, which has no row"));
        }
        for (tag, row) in &self.tags {
            let members = self.members.get(tag).map_or(&[][..], |members| &members[..]);
            // One that no entry has is there because of an invalidation, and is not swept.
            let needed = row.entries > 0 || row.invalidated > 0 && row.sweep.is_none();
            if members.len() as u64 != row.entries || !needed {
                return broken(format!("the tag {tag:02x?} of {members:02x?} has the row {row:?}"));
            }
            let passed = |name: &[u8]| match &row.sweep {
                Some(sweep) => name <= &sweep.after[..],
                None => true,
            };
            let outlived = members.iter().find(|(name, at)| *at < row.invalidated && passed(name));
            if let Some((name, _)) = outlived {
                return broken(format!("the sweep of {tag:02x?} has left {name:02x?}"));
            }
        }
        Ok(())
    }
}
