//! Removes an entry that is not even stale any more; the sweep calls it with the entry's deadline
//! gone already.

use super::{delete_row, spend};
use crate::keys::{self, Key};
use crate::rows::CacheRow;
use crate::scope::Scope;
use crate::{Fatal, Read as _};

/// Readers see no difference, and nobody is told: who keeps a copy knows its time, too.
pub(crate) fn apply(scope: &mut Scope<'_>, row_key: &[u8]) -> Result<(), Fatal> {
    let (Some(Key::Cache { namespace, key }), Some(stored)) =
        (keys::parse(scope.group, row_key), scope.txn.get(row_key)?)
    else {
        return Err(Fatal::Invariant(format!("a deadline names the entry {row_key:02x?}")));
    };
    let row = CacheRow::decode(&stored)?;
    spend(scope, 1 + row.tags.len(), stored.len());
    delete_row(scope, namespace, key, &row)
}
