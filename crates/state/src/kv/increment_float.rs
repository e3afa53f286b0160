//! Adds to a decimal number that need not be whole.

use super::{check_key, replace, successor};
use crate::rows::KvRow;
use crate::scope::{Failure, Scope};
use crate::{Float, KvIncrementFloat, Outcome, Read, Rejection, keys};

/// An absent key counts as 0; a live one keeps its ttl.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    increment: &KvIncrementFloat,
) -> Result<Outcome, Failure> {
    check_key(&increment.key)?;
    if !increment.by.is_finite() {
        return Err(Failure::Rejected(Rejection::Invalid(format!(
            "{} can't be added to a number; give a finite one",
            increment.by
        ))));
    }

    let key = keys::kv(scope.group, namespace, &increment.key);
    let stored = scope.txn.get(&key)?;
    let stored = stored.as_deref().map(KvRow::decode).transpose()?;
    let live = stored.filter(|row| row.is_live(scope.lease_ms()));
    let before = match &live {
        Some(row) => Float::parse(row.value).ok_or(Rejection::NotANumber)?,
        None => Float::ZERO,
    };
    let value = before.plus(increment.by).ok_or(Rejection::Overflow)?;

    let revision = scope.revision;
    let (version, create_revision) = successor(live.as_ref(), revision);
    let text = value.to_string();
    let row = KvRow {
        version,
        create_revision,
        mod_revision: revision,
        deadline_ms: live.and_then(|row| row.deadline_ms),
        owner: live.and_then(|row| row.owner),
        value: text.as_bytes(),
    };
    replace(scope, &key, stored.as_ref(), &row);
    Ok(Outcome::KvIncrementFloat { value, version, revision })
}
