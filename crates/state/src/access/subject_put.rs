//! Says which roles a client has that is known by its certificate.

use super::{changed, check_name, check_roles, check_roles_exist, count, hold, let_go};
use crate::keys::{self, AccessHolder};
use crate::limits::ACCESS_SUBJECTS_MAX;
use crate::rows::{self, AccessSubjectRow};
use crate::scope::{Failure, Scope, at_most};
use crate::{AccessSubjectPut, Outcome, Rejection, Txn as _, codec};

impl AccessSubjectPut {
    /// What can be said of it without the state. Whoever proposes it asks first: an entry with more
    /// roles than there may be does not decode.
    ///
    /// # Errors
    /// When the subject or the roles are not what they have to be.
    pub fn check(&self) -> Result<(), Rejection> {
        check_name("subject", &self.subject)?;
        check_roles("subject", &self.roles)
    }
}

pub(crate) fn apply(scope: &mut Scope<'_>, put: &AccessSubjectPut) -> Result<Outcome, Failure> {
    put.check()?;
    let AccessSubjectPut { subject, roles } = put;
    check_roles_exist(scope, roles)?;
    let key = keys::access_subject(scope.group, subject);
    let before: Option<AccessSubjectRow> = rows::find(&scope.txn, "access subject row", &key)?;
    let holder = AccessHolder::Subject(subject);
    match before {
        Some(before) => let_go(scope, holder, &before.roles),
        None => {
            let subjects = rows::access_meta(&scope.txn, scope.group)?.subjects;
            at_most("subjects of certificates", subjects + 1, ACCESS_SUBJECTS_MAX)?;
            count(scope, |meta| meta.subjects += 1)?;
        }
    }
    hold(scope, holder, roles);
    scope.txn.put(&key, &codec::encode(&AccessSubjectRow { roles: roles.clone() }));
    changed(scope);
    Ok(Outcome::Done)
}
