//! The cache's requests and answers.

use super::kv::{Freshness, cursor, delete_keys, selected, ttl};
use super::{Invalid, caller, guard, invalid, key, namespace, unexpected, value};
use crate::grpc::Refused;
use bytes::Bytes;
use quorate_proto::v1;
use quorate_state::limits::{
    CACHE_BUILD_ERROR_BYTES_MAX, CACHE_BUILD_LEASE_MS_MAX, CACHE_BUILD_LEASE_MS_MIN,
    CACHE_BYTES_MAX, CACHE_BYTES_MIN, CACHE_ENTRY_TAGS_MAX, CACHE_INVALIDATE_TAGS_MAX,
    CACHE_TAG_BYTES_MAX, Limits, TTL_MS_MAX,
};
use quorate_state::query::{CacheFreshness, CacheItem};
use quorate_state::{
    BuildLease, CacheBuild, CacheBuildEnd, CacheDelete, CacheDeletePattern, CacheFill,
    CacheInvalidateTags, CacheResize, CacheSet, CacheTouch, Caller, Command, Envelope, GroupId,
    Outcome, Revision,
};

/// How long a builder may take when the request says nothing.
const BUILD_LEASE_MS_DEFAULT: u64 = 30_000;

/// A checked `Get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Get {
    pub(crate) namespace: String,
    pub(crate) key: Bytes,
    pub(crate) fresh: Freshness,
    /// An entry whose ttl is over will do as well.
    pub(crate) allow_stale: bool,
}

pub(crate) fn get(request: v1::CacheGetRequest, limits: &Limits) -> Result<Get, Invalid> {
    let stale = match request.consistency() {
        v1::Consistency::Unspecified | v1::Consistency::Stale => {
            // Of a kind that this version does not know is not what it stands for.
            super::kv::freshness(request.consistency, 0)?;
            true
        }
        v1::Consistency::Linearizable => false,
    };
    Ok(Get {
        namespace: namespace(request.namespace)?,
        key: key(request.key, limits)?,
        fresh: Freshness { stale, min_revision: Revision(request.min_revision) },
        allow_stale: request.allow_stale,
    })
}

pub(crate) fn got(
    item: Option<CacheItem>,
    revision: Revision,
    group: GroupId,
) -> v1::CacheGetResponse {
    v1::CacheGetResponse { entry: item.map(entry), revision: revision.0, group_id: group.0 }
}

pub(crate) fn entry(item: CacheItem) -> v1::CacheEntry {
    let CacheItem { value, tags, mod_revision, freshness, .. } = item;
    let (stale, remaining_ttl_ms) = match freshness {
        CacheFreshness::Fresh { remaining_ms } => (false, remaining_ms),
        CacheFreshness::Stale { .. } => (true, Some(0)),
    };
    v1::CacheEntry { value, mod_revision: mod_revision.0, remaining_ttl_ms, stale, tags }
}

/// A checked `CachePolicy`.
struct Policy {
    ttl_ms: Option<u64>,
    stale_for_ms: u64,
    tags: Vec<String>,
}

fn policy(policy: Option<v1::CachePolicy>) -> Result<Policy, Invalid> {
    let v1::CachePolicy { ttl_ms, stale_for_ms, tags } = policy.unwrap_or_default();
    if stale_for_ms > TTL_MS_MAX {
        return Err(invalid(
            "INVALID_TTL",
            format!("stale_for_ms is {stale_for_ms}, the limit is {TTL_MS_MAX} (ten years)"),
        ));
    }
    let count = tags.len();
    if count > CACHE_ENTRY_TAGS_MAX {
        return Err(invalid(
            "INVALID_TAGS",
            format!("the entry has {count} tags, the limit is {CACHE_ENTRY_TAGS_MAX}"),
        ));
    }
    Ok(Policy { ttl_ms: ttl(ttl_ms)?, stale_for_ms, tags: checked_tags(tags)? })
}

fn checked_tags(tags: Vec<String>) -> Result<Vec<String>, Invalid> {
    match tags.iter().find(|tag| !(1..=CACHE_TAG_BYTES_MAX).contains(&(tag.len() as u64))) {
        None => Ok(tags),
        Some(tag) => Err(invalid(
            "INVALID_TAGS",
            format!(
                "a tag is {} bytes long; one has at least 1 byte and at most {CACHE_TAG_BYTES_MAX}",
                tag.len()
            ),
        )),
    }
}

fn envelope(
    name: String,
    origin: Option<v1::Origin>,
    command: Command,
) -> Result<Envelope, Invalid> {
    Ok(Envelope {
        namespace: namespace(name)?,
        caller: caller(&origin)?,
        guard: guard(origin)?,
        command,
    })
}

/// A `Set` as a command, for itself and in a transaction.
pub(crate) fn setting(
    name: Bytes,
    content: Bytes,
    kept: Option<v1::CachePolicy>,
    limits: &Limits,
) -> Result<CacheSet, Invalid> {
    let Policy { ttl_ms, stale_for_ms, tags } = policy(kept)?;
    let (key, value) = (key(name, limits)?, value(content, limits)?);
    Ok(CacheSet { key, value, ttl_ms, stale_for_ms, tags })
}

pub(crate) fn set(request: v1::CacheSetRequest, limits: &Limits) -> Result<Envelope, Invalid> {
    let set = setting(request.key, request.value, request.policy, limits)?;
    envelope(request.namespace, request.origin, Command::CacheSet(set))
}

pub(crate) fn was_set(outcome: Outcome, group: GroupId) -> Result<v1::CacheSetResponse, Refused> {
    match outcome {
        Outcome::CacheSet { revision } => {
            Ok(v1::CacheSetResponse { revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn delete(
    request: v1::CacheDeleteRequest,
    limits: &Limits,
) -> Result<Envelope, Invalid> {
    let delete = CacheDelete { key: key(request.key, limits)? };
    envelope(request.namespace, request.origin, Command::CacheDelete(delete))
}

pub(crate) fn deleted(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::CacheDeleteResponse, Refused> {
    match outcome {
        Outcome::CacheDelete { deleted, revision } => {
            Ok(v1::CacheDeleteResponse { deleted, revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn delete_pattern(request: v1::CacheDeletePatternRequest) -> Result<Envelope, Invalid> {
    let selector = selected(request.selector)?;
    let (after, keys_max) = (cursor(request.cursor)?, delete_keys(request.keys_max));
    let delete = CacheDeletePattern { selector, after, keys_max };
    envelope(request.namespace, request.origin, Command::CacheDeletePattern(delete))
}

pub(crate) fn deleted_pattern(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::CacheDeletePatternResponse, Refused> {
    match outcome {
        Outcome::CacheDeletePattern { deleted, cursor, revision } => {
            Ok(v1::CacheDeletePatternResponse {
                deleted,
                cursor: cursor.unwrap_or_default(),
                revision: revision.0,
                group_id: group.0,
            })
        }
        other => Err(unexpected(other)),
    }
}

/// The tags that are to be invalidated, for itself and in a transaction.
pub(crate) fn invalidating(tags: Vec<String>) -> Result<CacheInvalidateTags, Invalid> {
    let count = tags.len();
    if !(1..=CACHE_INVALIDATE_TAGS_MAX).contains(&count) {
        return Err(invalid(
            "INVALID_TAGS",
            format!(
                "the request has {count} tags; one is needed, the limit is \
                 {CACHE_INVALIDATE_TAGS_MAX}"
            ),
        ));
    }
    Ok(CacheInvalidateTags { tags: checked_tags(tags)? })
}

pub(crate) fn invalidate_tags(
    request: v1::CacheInvalidateTagsRequest,
) -> Result<Envelope, Invalid> {
    let invalidate = Command::CacheInvalidateTags(invalidating(request.tags)?);
    envelope(request.namespace, request.origin, invalidate)
}

pub(crate) fn invalidated(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::CacheInvalidateTagsResponse, Refused> {
    match outcome {
        Outcome::CacheInvalidateTags { revision } => {
            Ok(v1::CacheInvalidateTagsResponse { revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn touch(request: v1::CacheTouchRequest, limits: &Limits) -> Result<Envelope, Invalid> {
    let touch = CacheTouch { key: key(request.key, limits)?, ttl_ms: ttl(request.ttl_ms)? };
    envelope(request.namespace, request.origin, Command::CacheTouch(touch))
}

pub(crate) fn touched(outcome: Outcome, group: GroupId) -> Result<v1::CacheTouchResponse, Refused> {
    match outcome {
        Outcome::CacheTouch { found, revision } => {
            Ok(v1::CacheTouchResponse { found, revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

/// A checked `GetOrBuild`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GetOrBuild {
    pub(crate) get: Get,
    pub(crate) caller: Caller,
    pub(crate) guard: Option<quorate_state::LockGuard>,
    pub(crate) lease_ms: u64,
    pub(crate) fresh_only: bool,
}

impl GetOrBuild {
    /// The command that asks for the task, in the name of a caller.
    pub(crate) fn build(&self, caller: Caller) -> Envelope {
        let build = CacheBuild { key: self.get.key.clone(), lease_ms: self.lease_ms };
        Envelope {
            namespace: self.get.namespace.clone(),
            caller,
            guard: self.guard.clone(),
            command: Command::CacheBuild(build),
        }
    }
}

pub(crate) fn get_or_build(
    request: v1::CacheGetOrBuildRequest,
    limits: &Limits,
) -> Result<GetOrBuild, Invalid> {
    let lease_ms = match request.build_lease_ms {
        0 => BUILD_LEASE_MS_DEFAULT,
        some @ CACHE_BUILD_LEASE_MS_MIN..=CACHE_BUILD_LEASE_MS_MAX => some,
        other => {
            return Err(invalid(
                "INVALID_BUILD_LEASE",
                format!(
                    "build_lease_ms is {other}; it must be {CACHE_BUILD_LEASE_MS_MIN} to \
                     {CACHE_BUILD_LEASE_MS_MAX}"
                ),
            ));
        }
    };
    Ok(GetOrBuild {
        get: Get {
            namespace: namespace(request.namespace)?,
            key: key(request.key, limits)?,
            fresh: Freshness { stale: true, min_revision: Revision(request.min_revision) },
            allow_stale: !request.fresh_only,
        },
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        lease_ms,
        fresh_only: request.fresh_only,
    })
}

fn lease(lease: u64) -> Result<BuildLease, Invalid> {
    if lease == 0 {
        return Err(invalid("INVALID_LEASE", "the lease is 0; give that of the task"));
    }
    Ok(BuildLease(lease))
}

pub(crate) fn fill(request: v1::CacheFillRequest, limits: &Limits) -> Result<Envelope, Invalid> {
    let Policy { ttl_ms, stale_for_ms, tags } = policy(request.policy)?;
    let fill = CacheFill {
        key: key(request.key, limits)?,
        lease: lease(request.lease)?,
        value: value(request.value, limits)?,
        ttl_ms,
        stale_for_ms,
        tags,
    };
    envelope(request.namespace, request.origin, Command::CacheFill(fill))
}

pub(crate) fn filled(outcome: Outcome, group: GroupId) -> Result<v1::CacheFillResponse, Refused> {
    match outcome {
        Outcome::CacheFill { revision } => {
            Ok(v1::CacheFillResponse { revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn end_build(
    request: v1::CacheEndBuildRequest,
    limits: &Limits,
) -> Result<Envelope, Invalid> {
    let length = request.error.as_ref().map_or(0, String::len);
    if length > CACHE_BUILD_ERROR_BYTES_MAX {
        return Err(invalid(
            "INVALID_ERROR",
            format!("the error is {length} bytes long, the limit is {CACHE_BUILD_ERROR_BYTES_MAX}"),
        ));
    }
    let end = CacheBuildEnd {
        key: key(request.key, limits)?,
        lease: lease(request.lease)?,
        error: request.error,
    };
    envelope(request.namespace, request.origin, Command::CacheBuildEnd(end))
}

pub(crate) fn ended_build(
    outcome: Outcome,
    _group: GroupId,
) -> Result<v1::CacheEndBuildResponse, Refused> {
    match outcome {
        Outcome::CacheBuildEnd { ended } => Ok(v1::CacheEndBuildResponse { ended }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn resize(request: v1::CacheResizeRequest) -> Result<Envelope, Invalid> {
    let bytes_max = request.bytes_max;
    if !(CACHE_BYTES_MIN..=CACHE_BYTES_MAX).contains(&bytes_max) {
        return Err(invalid(
            "INVALID_CACHE_BYTES",
            format!("bytes_max is {bytes_max}; it must be {CACHE_BYTES_MIN} to {CACHE_BYTES_MAX}"),
        ));
    }
    envelope(request.namespace, request.origin, Command::CacheResize(CacheResize { bytes_max }))
}

pub(crate) fn resized(
    outcome: Outcome,
    _group: GroupId,
) -> Result<v1::CacheResizeResponse, Refused> {
    match outcome {
        Outcome::CacheResize { bytes_max_before } => {
            Ok(v1::CacheResizeResponse { previous_bytes_max: bytes_max_before })
        }
        other => Err(unexpected(other)),
    }
}

/// The namespace of a request that has nothing else to be checked.
pub(crate) fn namespace_of(name: String) -> Result<String, Invalid> {
    namespace(name)
}
