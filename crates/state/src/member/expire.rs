//! Ends an invitation; the sweep calls it with its deadline gone already.

use crate::Txn as _;
use crate::scope::Scope;

pub(crate) fn apply(scope: &mut Scope<'_>, invitation: &[u8]) {
    scope.txn.delete(invitation);
}
