//! Deletes an entry.

use super::{changed, check_key, is_invalidated, remove, revoke_build};
use crate::rows::CacheRow;
use crate::scope::{Failure, Scope};
use crate::{CacheDelete, Outcome, Read as _, keys};

/// Deleting what is absent is no error, and told all the same: clients may keep what was evicted
/// here. An entry that is gone is absent; its row is left to the sweep.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    delete: &CacheDelete,
) -> Result<Outcome, Failure> {
    let key = &delete.key;
    check_key(key)?;
    let stored = scope.txn.get(&keys::cache(scope.group, namespace, key))?;
    let mut there = stored.as_deref().map(CacheRow::decode).transpose()?;
    if let Some(row) = &there
        && (row.is_gone(scope.lease_ms())
            || is_invalidated(&scope.txn, scope.group, namespace, row)?)
    {
        there = None;
    }
    if let Some(row) = &there {
        remove(scope, namespace, key, row)?;
    }
    changed(scope, namespace, key);
    revoke_build(scope, namespace, key)?;
    Ok(Outcome::CacheDelete { deleted: there.is_some(), revision: scope.revision })
}
