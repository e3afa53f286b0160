//! Says who is to build an entry.

use super::{begin_build, check_key, end_build, find_build, is_invalidated, is_over};
use crate::limits::{CACHE_BUILD_LEASE_MS_MAX, CACHE_BUILD_LEASE_MS_MIN, CACHE_BUILDS_MAX};
use crate::rows::{CacheBuildRow, CacheRow};
use crate::scope::{Failure, Scope, at_most};
use crate::{
    BuildEnd, BuildLease, CacheBuild, CacheBuildAnswer, Fatal, Outcome, Read as _, Rejection, keys,
};

/// Whoever asks first, while there is no fresh entry.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    build: &CacheBuild,
) -> Result<Outcome, Failure> {
    let CacheBuild { key, lease_ms } = build;
    check_key(key)?;
    if *lease_ms < CACHE_BUILD_LEASE_MS_MIN {
        return Err(Failure::Rejected(Rejection::Invalid(format!(
            "the build's lease is {lease_ms} ms, the least is {CACHE_BUILD_LEASE_MS_MIN} ms"
        ))));
    }
    at_most("build lease in milliseconds", *lease_ms, CACHE_BUILD_LEASE_MS_MAX)?;
    if let Some(answer) = hit(scope, namespace, key)? {
        return Ok(Outcome::CacheBuild { answer });
    }
    let now_ms = scope.lease_ms();
    let lapsed = find_build(scope, namespace, key)?;
    if let Some(row) = &lapsed
        && !is_over(scope, row)
    {
        let (lease, remaining_ms) = (row.lease, row.deadline_ms - now_ms);
        let answer = CacheBuildAnswer::Busy { lease, remaining_ms };
        return Ok(Outcome::CacheBuild { answer });
    }
    let others = scope.cache.builds - u64::from(lapsed.is_some());
    at_most("builds of cache entries", others + 1, CACHE_BUILDS_MAX)?;
    if let Some(row) = &lapsed {
        end_build(scope, namespace, key, row, BuildEnd::Lapsed);
    }
    let lease = BuildLease(scope.cache.next_order());
    let deadline_ms = now_ms.saturating_add(*lease_ms);
    let row = CacheBuildRow { lease, granted: scope.revision, deadline_ms };
    begin_build(scope, namespace, key, &row);
    let answer = CacheBuildAnswer::Granted { lease, remaining_ms: *lease_ms };
    Ok(Outcome::CacheBuild { answer })
}

fn hit(scope: &Scope<'_>, namespace: &str, key: &[u8]) -> Result<Option<CacheBuildAnswer>, Fatal> {
    let stored = scope.txn.get(&keys::cache(scope.group, namespace, key))?;
    let Some(row) = stored.as_deref().map(CacheRow::decode).transpose()? else { return Ok(None) };
    if !row.is_fresh(scope.lease_ms()) || is_invalidated(&scope.txn, scope.group, namespace, &row)?
    {
        return Ok(None);
    }
    Ok(Some(CacheBuildAnswer::Hit { revision: row.mod_revision }))
}
