//! Deletes a role that nobody has.

use super::{changed, check_role_name, conflict, count, find_token};
use crate::keys::{self, AccessHolder, Key};
use crate::scope::{Failure, Scope};
use crate::{AccessRoleDelete, Fatal, Outcome, Read as _, Txn as _};
use std::ops::ControlFlow;

/// A token whose time is over has it until it is swept, which is with one of the next entries.
pub(crate) fn apply(scope: &mut Scope<'_>, delete: &AccessRoleDelete) -> Result<Outcome, Failure> {
    let AccessRoleDelete { name } = delete;
    check_role_name(name)?;
    let key = keys::access_role(scope.group, name);
    let deleted = scope.txn.get(&key)?.is_some();
    if deleted {
        if let Some(who) = first_holder(scope, name)? {
            return Err(conflict(format!(
                "the role {name:?} can't be deleted: {who} has it; take it away first"
            )));
        }
        scope.txn.delete(&key);
        count(scope, |meta| meta.roles -= 1)?;
        changed(scope);
    }
    Ok(Outcome::AccessDelete { deleted, revision: scope.revision })
}

/// As a message calls it.
fn first_holder(scope: &Scope<'_>, role: &str) -> Result<Option<String>, Fatal> {
    let (from, to) = keys::access_holders(scope.group, role);
    let mut first = None;
    scope.txn.scan(&from, &to, &mut |key, _| {
        first = Some(key.to_vec());
        ControlFlow::Break(())
    })?;
    let Some(key) = first else { return Ok(None) };
    Ok(Some(match keys::parse(scope.group, &key) {
        Some(Key::AccessHolder { holder: AccessHolder::Subject(subject), .. }) => {
            format!("the subject {subject:?}")
        }
        Some(Key::AccessHolder { holder: AccessHolder::Token(id), .. }) => {
            let name = find_token(scope, id)?.map(|row| row.name).unwrap_or_default();
            format!("the token {id} ({name:?})")
        }
        _ => return Err(Fatal::Invariant(format!("ACCESS_HOLDER has the key {key:02x?}"))),
    }))
}
