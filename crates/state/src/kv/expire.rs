//! Removes a key whose ttl ran out; the sweep calls it with the key's deadline gone already.

use crate::scope::Scope;
use crate::{DeleteCause, Txn, history};

/// Readers see no difference: the key was invisible from its deadline on. Watchers are told now.
pub(crate) fn apply(scope: &mut Scope<'_>, key: &[u8]) {
    scope.txn.delete(key);
    history::deleted(scope, key, DeleteCause::Expired);
}
