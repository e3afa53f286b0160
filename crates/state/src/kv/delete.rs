//! Deletes a key.

use super::{check_expect, check_key, remove};
use crate::rows::KvRow;
use crate::scope::{Failure, Scope};
use crate::{DeleteCause, Expect, KvDelete, Outcome, Read, Rejection, keys};

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
        remove(scope, &key, row.deadline_ms, row.owner, DeleteCause::Deleted);
    }
    Ok(Outcome::KvDelete { deleted: live.is_some(), revision: scope.revision })
}
