//! Sets a key.

use super::{check_expect, check_key, replace, successor};
use crate::limits::{TTL_MS_MAX, VALUE_BYTES_MAX};
use crate::rows::KvRow;
use crate::scope::{Failure, Scope, at_most, within};
use crate::{KvSet, Outcome, Read, Rejection, keys, session};

/// A set without a ttl takes away the one the key had; one without an owner makes it nobody's.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    set: &KvSet,
) -> Result<Outcome, Failure> {
    check_key(&set.key)?;
    within("value bytes", set.value.len(), VALUE_BYTES_MAX)?;
    if set.ttl_ms == Some(0) {
        return Err(Failure::Rejected(Rejection::Invalid(
            "the ttl is 0 ms; give 1 ms or more, or none to keep the key until it is deleted"
                .to_owned(),
        )));
    }
    at_most("ttl in milliseconds", set.ttl_ms.unwrap_or(0), TTL_MS_MAX)?;

    if let Some(owner) = set.owner {
        session::may_own_one_more(scope, owner)?;
    }

    let key = keys::kv(scope.group, namespace, &set.key);
    let stored = scope.txn.get(&key)?;
    let stored = stored.as_deref().map(KvRow::decode).transpose()?;
    let live = stored.filter(|row| row.is_live(scope.lease_ms()));
    check_expect(set.expect, live.as_ref())?;

    let revision = scope.revision;
    let (version, create_revision) = successor(live.as_ref(), revision);
    let row = KvRow {
        version,
        create_revision,
        mod_revision: revision,
        deadline_ms: set.ttl_ms.map(|ttl_ms| scope.lease_ms().saturating_add(ttl_ms)),
        owner: set.owner,
        value: &set.value,
    };
    replace(scope, &key, stored.as_ref(), &row);
    Ok(Outcome::KvSet { version, revision })
}
