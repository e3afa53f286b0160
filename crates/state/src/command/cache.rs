//! The commands of the cache.

use crate::limits::{CACHE_ENTRY_TAGS_MAX, CACHE_EVICT_PER_ENTRY_MAX, CACHE_INVALIDATE_TAGS_MAX};
use crate::{BuildLease, KeySelector, Revision, bounded};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// `Set`. Ends a build of the key that is under way: the value is newer than what it read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSet {
    /// 1 byte to 1 KiB.
    pub key: Bytes,
    /// At most 1 MiB.
    pub value: Bytes,
    /// Fresh for this long in lease time; none is fresh until it is deleted or evicted.
    pub ttl_ms: Option<u64>,
    /// Kept for so much longer, for those who are content with what was. Nothing without a ttl.
    pub stale_for_ms: u64,
    /// At most [`CACHE_ENTRY_TAGS_MAX`] of 1 to 128 bytes; their order, and one said twice, make no
    /// difference.
    #[serde(deserialize_with = "bounded::list::<CACHE_ENTRY_TAGS_MAX, _, _>")]
    pub tags: Vec<String>,
}

/// `Delete`. Ends a build of the key that is under way, so that what it read is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDelete {
    /// The key.
    pub key: Bytes,
}

/// `DeletePattern`: one step of it, which is atomic. The next one goes on from its cursor. Ends the
/// builds of these keys, too, also of those that have no entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDeletePattern {
    /// Which keys.
    pub selector: KeySelector,
    /// Only keys above this one: the cursor of the step before.
    pub after: Option<Bytes>,
    /// At most so many, from 1; more than [`crate::limits::DELETE_PATTERN_KEYS_MAX`] mean as many
    /// as that, of which each tag of an entry takes one.
    pub keys_max: u64,
}

/// `InvalidateTags`: every entry that has one of them, and was written before, is gone from now on;
/// and no build that began before may store one that has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheInvalidateTags {
    /// From 1 to [`CACHE_INVALIDATE_TAGS_MAX`] of 1 to 128 bytes.
    #[serde(deserialize_with = "bounded::list::<CACHE_INVALIDATE_TAGS_MAX, _, _>")]
    pub tags: Vec<String>,
}

/// `Touch`: a fresh entry's ttl begins anew. Value, tags, revision and how long it may be stale stay
/// as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheTouch {
    /// The key.
    pub key: Bytes,
    /// Fresh for this long from now on; none: until it is deleted or evicted.
    pub ttl_ms: Option<u64>,
}

/// `GetOrBuild`, when there was nothing to get: asks to be the one who builds the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheBuild {
    /// The key.
    pub key: Bytes,
    /// Whoever builds has this long in lease time, from
    /// [`crate::limits::CACHE_BUILD_LEASE_MS_MIN`] to
    /// [`crate::limits::CACHE_BUILD_LEASE_MS_MAX`]; then it is another's turn.
    pub lease_ms: u64,
}

/// `Fill`: stores what was built, and ends the build. Refused with
/// [`crate::Rejection::BuildLeaseLost`] when the build ended before, or one of the tags was
/// invalidated since it began; a build that is refused for another reason goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheFill {
    /// The key.
    pub key: Bytes,
    /// What the build was granted.
    pub lease: BuildLease,
    /// As of [`CacheSet`].
    pub value: Bytes,
    /// As of [`CacheSet`].
    pub ttl_ms: Option<u64>,
    /// As of [`CacheSet`].
    pub stale_for_ms: u64,
    /// As of [`CacheSet`].
    #[serde(deserialize_with = "bounded::list::<CACHE_ENTRY_TAGS_MAX, _, _>")]
    pub tags: Vec<String>,
}

/// Gives a build up. Nothing is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheBuildEnd {
    /// The key.
    pub key: Bytes,
    /// What the build was granted.
    pub lease: BuildLease,
    /// Why it failed, if it did, for those who wait; what is beyond
    /// [`crate::limits::CACHE_BUILD_ERROR_BYTES_MAX`] is cut off.
    pub error: Option<String>,
}

/// Makes room; proposed by the leader alone, who knows what was not used for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEvict {
    /// At most [`CACHE_EVICT_PER_ENTRY_MAX`].
    #[serde(deserialize_with = "bounded::list::<CACHE_EVICT_PER_ENTRY_MAX, _, _>")]
    pub victims: Vec<CacheVictim>,
}

/// An entry that is to go, unless it was written since it was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheVictim {
    /// What [`crate::query::cache_candidates`] calls it: its namespace and key.
    pub id: Bytes,
    /// The revision that wrote it.
    pub mod_revision: Revision,
}

/// Changes how many bytes the cache of the group may have; for operators. When it has more, no more
/// is stored until the leader has evicted some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheResize {
    /// From [`crate::limits::CACHE_BYTES_MIN`] to [`crate::limits::CACHE_BYTES_MAX`].
    pub bytes_max: u64,
}
