//! Begins the ttl of an entry anew.

use super::{check_key, check_ttl, is_invalidated, reschedule};
use crate::rows::CacheRow;
use crate::scope::{Failure, Scope};
use crate::{CacheTouch, Event, Outcome, Read as _, Txn as _, keys};

/// A stale entry is not made fresh by it: what is in it is known to be outdated.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    touch: &CacheTouch,
) -> Result<Outcome, Failure> {
    check_key(&touch.key)?;
    check_ttl(touch.ttl_ms)?;
    let revision = scope.revision;
    let key = keys::cache(scope.group, namespace, &touch.key);
    let stored = scope.txn.get(&key)?;
    let there = stored.as_deref().map(CacheRow::decode).transpose()?;
    let lease_ms = scope.lease_ms();
    let Some(row) = there.filter(|row| row.is_fresh(lease_ms)) else {
        return Ok(Outcome::CacheTouch { found: false, revision });
    };
    if is_invalidated(&scope.txn, scope.group, namespace, &row)? {
        return Ok(Outcome::CacheTouch { found: false, revision });
    }
    let deadline_ms = touch.ttl_ms.map(|ttl_ms| lease_ms.saturating_add(ttl_ms));
    let touched = CacheRow { deadline_ms, ..row.clone() };
    reschedule(scope, &key, row.gone_ms(), touched.gone_ms());
    scope.txn.put(&key, &touched.encode());
    // Clients that keep the entry count its ttl by themselves.
    scope.events.push(Event::CacheChanged {
        namespace: namespace.to_owned(),
        key: touch.key.clone(),
        revision,
    });
    Ok(Outcome::CacheTouch { found: true, revision })
}
