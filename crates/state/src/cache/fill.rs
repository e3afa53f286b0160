//! Stores what was built.

use super::{
    Contents, any_invalidated, check_contents, check_key, end_build, find_build, is_over, store,
};
use crate::scope::{Failure, Scope};
use crate::{BuildEnd, CacheFill, Outcome, Rejection};

/// That a tag was invalidated since the build began shows only here, because here it is said which
/// tags the value has; the build is over because of it, so another can begin.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    fill: &CacheFill,
) -> Result<Outcome, Failure> {
    let CacheFill { key, lease, value, ttl_ms, stale_for_ms, tags } = fill;
    check_key(key)?;
    let contents = Contents { value, ttl_ms: *ttl_ms, stale_for_ms: *stale_for_ms, tags };
    let tags = check_contents(&contents)?;
    let lost = || {
        let key = String::from_utf8_lossy(key).into_owned();
        Failure::Rejected(Rejection::BuildLeaseLost { key, lease: *lease })
    };
    let found = find_build(scope, namespace, key)?;
    let Some(build) = found.filter(|row| row.lease == *lease && !is_over(scope, row)) else {
        return Err(lost());
    };
    if any_invalidated(&scope.txn, scope.group, namespace, tags.iter().copied(), lease.0)? {
        end_build(scope, namespace, key, &build, BuildEnd::Revoked);
        return Err(lost());
    }
    store(scope, namespace, key, &contents, tags)?;
    end_build(scope, namespace, key, &build, BuildEnd::Filled);
    Ok(Outcome::CacheFill { revision: scope.revision })
}
