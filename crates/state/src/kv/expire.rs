//! Removes a key whose ttl ran out; the sweep calls it with the key's deadline gone already.

use crate::Txn;
use crate::scope::Scope;

/// Nobody sees a difference: the key was invisible from its deadline on.
pub(crate) fn apply(scope: &mut Scope<'_>, key: &[u8]) {
    scope.txn.delete(key);
}
