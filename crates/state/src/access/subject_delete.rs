//! Takes all roles from a client that is known by its certificate.

use super::{changed, check_name, count, let_go};
use crate::keys::{self, AccessHolder};
use crate::rows::{self, AccessSubjectRow};
use crate::scope::{Failure, Scope};
use crate::{AccessSubjectDelete, Outcome, Txn as _};

pub(crate) fn apply(
    scope: &mut Scope<'_>,
    delete: &AccessSubjectDelete,
) -> Result<Outcome, Failure> {
    let AccessSubjectDelete { subject } = delete;
    check_name("subject", subject)?;
    let key = keys::access_subject(scope.group, subject);
    let before: Option<AccessSubjectRow> = rows::find(&scope.txn, "access subject row", &key)?;
    if let Some(before) = &before {
        let_go(scope, AccessHolder::Subject(subject), &before.roles);
        scope.txn.delete(&key);
        count(scope, |meta| meta.subjects -= 1)?;
        changed(scope);
    }
    Ok(Outcome::AccessDelete { deleted: before.is_some(), revision: scope.revision })
}
