//! Removes a key whose ttl ran out; the sweep calls it with the key's deadline gone already.

use super::remove;
use crate::rows::KvRow;
use crate::scope::Scope;
use crate::{DeleteCause, Fatal, Read};

/// Readers see no difference: the key was invisible from its deadline on. Watchers are told now.
pub(crate) fn apply(scope: &mut Scope<'_>, key: &[u8]) -> Result<(), Fatal> {
    let Some(stored) = scope.txn.get(key)? else {
        return Err(Fatal::Invariant(format!("a deadline names the absent key {key:02x?}")));
    };
    let owner = KvRow::decode(&stored)?.owner;
    remove(scope, key, None, owner, DeleteCause::Expired);
    Ok(())
}
