//! Sets an entry.

use super::{Contents, check_contents, check_key, revoke_build, store};
use crate::scope::{Failure, Scope};
use crate::{CacheSet, Outcome};

/// Nothing of the entry before remains, its ttl and tags neither.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    set: &CacheSet,
) -> Result<Outcome, Failure> {
    let CacheSet { key, value, ttl_ms, stale_for_ms, tags } = set;
    check_key(key)?;
    let contents = Contents { value, ttl_ms: *ttl_ms, stale_for_ms: *stale_for_ms, tags };
    let tags = check_contents(&contents)?;
    store(scope, namespace, key, &contents, tags)?;
    revoke_build(scope, namespace, key)?;
    Ok(Outcome::CacheSet { revision: scope.revision })
}
