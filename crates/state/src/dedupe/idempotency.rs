//! Keys that callers without a session make up for one request each.

use super::{Admission, Slot, bounded, request_hash};
use crate::keys::{Clock, DeadlineKind};
use crate::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_TTL_MS, NAMESPACE_BYTES_MAX,
};
#[cfg(feature = "planted-faults")]
use crate::planted::{Fault, is_planted};
use crate::rows::{self, IdempotencyRow};
use crate::scope::{Scope, at_most, within};
use crate::{Envelope, Fatal, Outcome, Read, Rejection, Txn, codec, expiry, keys};

pub(super) fn admit(
    scope: &mut Scope<'_>,
    envelope: &Envelope,
    key: &[u8],
) -> Result<Admission, Fatal> {
    if let Err(rejection) = check(&envelope.namespace, key) {
        return Ok(rejected(rejection));
    }
    let request_hash = request_hash(envelope);
    let key = keys::idempotency(scope.group, &envelope.namespace, key);
    let stored: Option<IdempotencyRow> = match scope.txn.get(&key)? {
        Some(bytes) => Some(rows::decode("idempotency row", &bytes)?),
        None => None,
    };
    let replaces_deadline_ms = match stored {
        #[cfg(feature = "planted-faults")]
        Some(_) if is_planted(Fault::DedupeSkipped) => {
            return Ok(Admission::Fresh(Slot::Nowhere));
        }
        Some(row) if rows::is_live(Some(row.deadline_ms), scope.lease_ms()) => {
            return Ok(if row.request_hash == request_hash {
                Admission::Answered(row.outcome)
            } else {
                rejected(Rejection::RequestMismatch("idempotency key".to_owned()))
            });
        }
        Some(expired) => Some(expired.deadline_ms),
        None => {
            let one_more = scope.meta.idempotency_keys + 1;
            if let Err(rejection) = at_most("idempotency keys", one_more, IDEMPOTENCY_KEYS_MAX) {
                return Ok(rejected(rejection));
            }
            None
        }
    };
    Ok(Admission::Fresh(Slot::Idempotency { key, request_hash, replaces_deadline_ms }))
}

pub(super) fn remember(
    scope: &mut Scope<'_>,
    key: &[u8],
    request_hash: u64,
    replaces_deadline_ms: Option<u64>,
    outcome: &Outcome,
) {
    let deadline_ms = scope.lease_ms().saturating_add(IDEMPOTENCY_TTL_MS);
    match replaces_deadline_ms {
        Some(old_ms) => {
            expiry::unschedule(scope, Clock::Lease, old_ms, DeadlineKind::Idempotency, key)
        }
        None => scope.meta.idempotency_keys += 1,
    }
    expiry::schedule(scope, Clock::Lease, deadline_ms, DeadlineKind::Idempotency, key);
    let row = IdempotencyRow { deadline_ms, request_hash, outcome: bounded(outcome) };
    scope.txn.put(key, &codec::encode(&row));
}

/// Forgets a key whose time is up; the sweep calls it with the key's deadline gone already.
pub(crate) fn expire(scope: &mut Scope<'_>, key: &[u8]) {
    scope.txn.delete(key);
    scope.meta.idempotency_keys -= 1;
}

fn check(namespace: &str, key: &[u8]) -> Result<(), Rejection> {
    // Before the namespace becomes part of a key; a session's request has no need of this.
    within("namespace bytes", namespace.len(), NAMESPACE_BYTES_MAX)?;
    if key.is_empty() {
        return Err(Rejection::Invalid(
            "the idempotency key is empty; send 1 to 64 bytes, or none at all".to_owned(),
        ));
    }
    within("idempotency key bytes", key.len(), IDEMPOTENCY_KEY_BYTES_MAX)
}

fn rejected(rejection: Rejection) -> Admission {
    Admission::Answered(Outcome::Rejected(rejection))
}
