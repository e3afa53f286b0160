//! Deletes a key.

use super::{check_expect, check_key};
use crate::keys::DeadlineKind;
use crate::rows::KvRow;
use crate::scope::{Failure, Scope};
use crate::{DeleteCause, Expect, KvDelete, Outcome, Read, Rejection, Txn, expiry, history, keys};

/// Deleting what is absent is no error. An expired key is absent; its row is left to the sweep.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    delete: &KvDelete,
) -> Result<Outcome, Failure> {
    check_key(&delete.key)?;
    if delete.expect == Expect::Absent {
        return Err(Failure::Rejected(Rejection::Invalid(
            "a delete can't expect the key to be absent; expect a version, or nothing".to_owned(),
        )));
    }

    let key = keys::kv(scope.group, namespace, &delete.key);
    let stored = scope.txn.get(&key)?;
    let stored = stored.as_deref().map(KvRow::decode).transpose()?;
    let live = stored.filter(|row| row.is_live(scope.lease_ms()));
    check_expect(delete.expect, live.as_ref())?;

    if let Some(row) = live {
        if let Some(deadline_ms) = row.deadline_ms {
            expiry::unschedule(scope, deadline_ms, DeadlineKind::Kv, &key);
        }
        scope.txn.delete(&key);
        history::deleted(scope, &key, DeleteCause::Deleted);
    }
    Ok(Outcome::KvDelete { deleted: live.is_some(), revision: scope.revision })
}
