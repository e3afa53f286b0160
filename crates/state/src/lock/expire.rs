//! Frees locks whose lease the leader saw run out.

use super::{free, pass_on};
use crate::limits::{EXPIRE_PER_ENTRY_MAX, NAMESPACE_BYTES_MAX};
use crate::scope::{Failure, Scope, within};
use crate::{LockExpire, Outcome, keys};

/// What is not held any more is passed over: its holder gave it back in time.
pub(crate) fn apply(scope: &mut Scope<'_>, expire: &LockExpire) -> Result<Outcome, Failure> {
    within("locks to expire at once", expire.locks.len(), EXPIRE_PER_ENTRY_MAX as u64)?;
    for lock in &expire.locks {
        within("namespace bytes", lock.namespace.len(), NAMESPACE_BYTES_MAX)?;
    }
    for lock in &expire.locks {
        let key = keys::lock(scope.group, &lock.namespace, &lock.name);
        if free(scope, &key, lock.token)? {
            pass_on(scope, &key)?;
        }
    }
    Ok(Outcome::Done)
}
