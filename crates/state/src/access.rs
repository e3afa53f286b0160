//! Who may do what, as far as it is data: access tokens and subjects of certificates, which have roles,
//! and roles, which have rules. What a rule allows is decided at the door, and never in here: a command
//! that came into the log was allowed.
//!
//! Relations: a role that a token or subject has exists, or is [`ACCESS_ROLE_ADMIN`]; the rows of
//! ACCESS_HOLDER say who has which, so that nobody has to be searched for when a role is to go. Of a
//! secret only its hash ever comes here.
//!
//! Tokens end by the wall clock, not in lease time as keys do: what was lent until some day must not
//! hold longer because the cluster was down.

pub(crate) mod expire;
pub(crate) mod role_delete;
pub(crate) mod role_put;
pub(crate) mod subject_delete;
pub(crate) mod subject_put;
pub(crate) mod token_create;
pub(crate) mod token_revoke;

use crate::keys::{self, AccessHolder};
use crate::limits::{ACCESS_NAME_BYTES_MAX, ACCESS_ROLES_PER_HOLDER_MAX};
use crate::rows::{self, AccessMetaRow, AccessTokenRow};
use crate::scope::{Failure, Scope, within};
use crate::{
    ACCESS_ROLE_ADMIN, AccessTokenId, Event, Fatal, Read as _, Rejection, Txn as _, codec,
};

/// Names are shown to people, in lists and messages. Which characters are control characters never
/// changes, so replicas of all builds agree about it.
fn check_name(what: &str, name: &str) -> Result<(), Rejection> {
    if name.is_empty() {
        return Err(Rejection::Invalid(format!("the {what} is empty; give one of 1 byte or more")));
    }
    within(&format!("bytes of the {what}"), name.len(), ACCESS_NAME_BYTES_MAX)?;
    match name.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, _)) => Err(Rejection::Invalid(format!(
            "the {what} has a control character at byte {}; use printable text",
            at + 1
        ))),
        None => Ok(()),
    }
}

/// Roles as somebody is to have them; whether they exist, only the tables know.
fn check_roles(whose: &str, roles: &[String]) -> Result<(), Rejection> {
    within(&format!("roles of a {whose}"), roles.len(), ACCESS_ROLES_PER_HOLDER_MAX as u64)?;
    for (at, role) in roles.iter().enumerate() {
        check_name("role's name", role)?;
        if roles[..at].contains(role) {
            return Err(Rejection::Invalid(format!("the role {role:?} is named twice")));
        }
    }
    Ok(())
}

fn check_roles_exist(scope: &Scope<'_>, roles: &[String]) -> Result<(), Failure> {
    for role in roles.iter().filter(|role| *role != ACCESS_ROLE_ADMIN) {
        if scope.txn.get(&keys::access_role(scope.group, role))?.is_none() {
            return Err(Failure::Rejected(Rejection::AccessRoleUnknown { role: role.clone() }));
        }
    }
    Ok(())
}

/// A role that may be put or deleted.
fn check_role_name(name: &str) -> Result<(), Rejection> {
    check_name("role's name", name)?;
    if name == ACCESS_ROLE_ADMIN {
        return Err(Rejection::Invalid(format!(
            "the role {name:?} is built in and can't be changed or deleted; choose another name"
        )));
    }
    Ok(())
}

fn conflict(why: String) -> Failure {
    Failure::Rejected(Rejection::AccessConflict(why))
}

fn hold(scope: &mut Scope<'_>, holder: AccessHolder<'_>, roles: &[String]) {
    for role in roles {
        scope.txn.put(&keys::access_holder(scope.group, role, holder), &[]);
    }
}

fn let_go(scope: &mut Scope<'_>, holder: AccessHolder<'_>, roles: &[String]) {
    for role in roles {
        scope.txn.delete(&keys::access_holder(scope.group, role, holder));
    }
}

fn find_token(scope: &Scope<'_>, id: AccessTokenId) -> Result<Option<AccessTokenRow>, Fatal> {
    rows::find(&scope.txn, "access token row", &keys::access_token(scope.group, id))
}

/// Takes a token away, but for its deadline.
fn end_token(scope: &mut Scope<'_>, id: AccessTokenId, row: &AccessTokenRow) -> Result<(), Fatal> {
    let_go(scope, AccessHolder::Token(id), &row.roles);
    scope.txn.delete(&keys::access_token(scope.group, id));
    count(scope, |meta| meta.tokens -= 1)?;
    changed(scope);
    Ok(())
}

fn count(scope: &mut Scope<'_>, change: impl FnOnce(&mut AccessMetaRow)) -> Result<(), Fatal> {
    let mut meta = rows::access_meta(&scope.txn, scope.group)?;
    change(&mut meta);
    scope.txn.put(&keys::access_meta(scope.group), &codec::encode(&meta));
    Ok(())
}

/// Once for a run of changes: it only says that there is something to read anew.
fn changed(scope: &mut Scope<'_>) {
    if scope.events.last() != Some(&Event::AccessChanged) {
        scope.events.push(Event::AccessChanged);
    }
}
