//! Values of the tables of the cache, and how they are found.

use super::{as_bytes, find, undecodable};
use crate::limits::{CACHE_BYTES_DEFAULT, CACHE_ENTRY_OVERHEAD_BYTES};
use crate::{BuildLease, Fatal, GroupId, Read, Revision, codec, keys};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The counters of the cache of a group; one row, written at most once per entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheMetaRow {
    /// Rows of CACHE.
    pub(crate) entries: u64,
    /// What they count for.
    pub(crate) bytes: u64,
    /// How much that may be.
    pub(crate) bytes_max: u64,
    /// Rows of CACHE_BUILD.
    pub(crate) builds: u64,
    /// Rows of CACHE_TAG.
    pub(crate) tags: u64,
    /// Given last to a write, an invalidation or a build: says which of them came first, also within
    /// a transaction. A restore raises it.
    pub(crate) order: u64,
}

impl Default for CacheMetaRow {
    fn default() -> Self {
        let bytes_max = CACHE_BYTES_DEFAULT;
        Self { entries: 0, bytes: 0, bytes_max, builds: 0, tags: 0, order: 0 }
    }
}

impl CacheMetaRow {
    /// The order of what happens now.
    pub(crate) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }
}

/// An entry. Borrows what is in it: most who read it look only at the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheRow<'a> {
    /// The order of the write. It is gone if one of its tags was invalidated after that.
    pub(crate) written: u64,
    pub(crate) mod_revision: Revision,
    /// Lease time from which it is stale.
    pub(crate) deadline_ms: Option<u64>,
    /// It is gone so much later.
    pub(crate) stale_for_ms: u64,
    /// In order, each once.
    #[serde(borrow)]
    pub(crate) tags: Vec<&'a str>,
    #[serde(serialize_with = "as_bytes")]
    pub(crate) value: &'a [u8],
}

impl<'a> CacheRow<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Fatal> {
        codec::decode_borrowed(bytes).map_err(|error| undecodable("cache row", error))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        /// Six numbers or lengths of at most 9 bytes each, and the tag of an option.
        const HEAD_BYTES_MAX: usize = 6 * 9 + 1;
        // The length of a tag takes one byte.
        let tags = self.tags.iter().map(|tag| 1 + tag.len()).sum::<usize>();
        codec::encode_with_capacity(self, HEAD_BYTES_MAX + tags + self.value.len())
    }

    pub(crate) fn is_fresh(&self, lease_ms: u64) -> bool {
        super::is_live(self.deadline_ms, lease_ms)
    }

    /// Whether it is not even stale any more.
    pub(crate) fn is_gone(&self, lease_ms: u64) -> bool {
        !super::is_live(self.gone_ms(), lease_ms)
    }

    /// Its deadline: when it is swept.
    pub(crate) fn gone_ms(&self) -> Option<u64> {
        self.deadline_ms.map(|deadline_ms| deadline_ms.saturating_add(self.stale_for_ms))
    }

    /// What an entry of this key counts for.
    pub(crate) fn counted_bytes(&self, key: &[u8]) -> u64 {
        let tags = self.tags.iter().map(|tag| tag.len()).sum::<usize>();
        // A usize is at most 64 bits wide on every target of Rust.
        CACHE_ENTRY_OVERHEAD_BYTES + (key.len() + self.value.len() + tags) as u64
    }
}

/// A tag that entries have, or that was invalidated not long ago.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheTagRow {
    /// Rows of CACHE_TAGGED.
    pub(crate) entries: u64,
    /// The order of its newest invalidation; 0 before the first one.
    pub(crate) invalidated: u64,
    /// Lease time from which no build can be under way that began before that.
    pub(crate) kept_until_ms: u64,
    /// Some of its entries may be older than its newest invalidation.
    pub(crate) sweep: Option<TagSweep>,
}

/// How far the entries of a tag were looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagSweep {
    /// Lease time at which that goes on.
    pub(crate) at_ms: u64,
    /// All keys up to this one were.
    pub(crate) after: Bytes,
}

impl CacheTagRow {
    /// When something is to become of it.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        match &self.sweep {
            Some(sweep) => Some(sweep.at_ms),
            None => (self.entries == 0).then_some(self.kept_until_ms),
        }
    }
}

/// Somebody builds an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheBuildRow {
    /// The order of its beginning.
    pub(crate) lease: BuildLease,
    /// When.
    pub(crate) granted: Revision,
    /// Lease time at which it is over.
    pub(crate) deadline_ms: u64,
}

/// The counters of the group's cache; a group without the row has never used it.
pub(crate) fn cache_meta(tables: &dyn Read, group: GroupId) -> Result<CacheMetaRow, Fatal> {
    Ok(find(tables, "cache meta row", &keys::cache_meta(group))?.unwrap_or_default())
}
