//! Makes room.

use super::{is_spent, remove, spend};
use crate::keys::{self, DeadlineKind};
use crate::limits::CACHE_EVICT_PER_ENTRY_MAX;
use crate::rows::CacheRow;
use crate::scope::{Failure, Scope, within};
use crate::{CacheEvict, Outcome, Read as _, Rejection};

/// Victims that were written since they were chosen stay, and so do those that are too many for one
/// entry of the log: the leader sees what is there after it. Builds go on, and nobody is told,
/// because what others keep is as good as before.
pub(crate) fn apply(scope: &mut Scope<'_>, evict: &CacheEvict) -> Result<Outcome, Failure> {
    within("victims of an eviction", evict.victims.len(), CACHE_EVICT_PER_ENTRY_MAX as u64)?;
    if evict.victims.iter().any(|victim| keys::parse_id(&victim.id).is_none()) {
        return Err(Failure::Rejected(Rejection::Invalid(
            "a victim has no id of the cache; name those that are candidates".to_owned(),
        )));
    }
    let mut evicted = 0;
    for victim in &evict.victims {
        if evicted > 0 && is_spent(scope) {
            break;
        }
        let Some((namespace, key)) = keys::parse_id(&victim.id) else { continue };
        let row_key = keys::expiring(scope.group, DeadlineKind::Cache, &victim.id);
        let Some(stored) = scope.txn.get(&row_key)? else { continue };
        let row = CacheRow::decode(&stored)?;
        spend(scope, 1 + row.tags.len(), stored.len());
        if row.mod_revision == victim.mod_revision {
            remove(scope, namespace, key, &row)?;
            evicted += 1;
        }
    }
    Ok(Outcome::CacheEvict { evicted })
}
