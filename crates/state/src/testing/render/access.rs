//! Tokens, roles and subjects. Of a hash only the first byte is shown, by which a script knows it.

use super::bytes;
use crate::AccessRule;
use crate::query::{AccessRole, AccessSubject, AccessToken};
use crate::rows::{AccessMetaRow, AccessRoleRow, AccessSubjectRow, AccessTokenRow};

const RULES_SHOWN_MAX: usize = 8;

pub(super) fn meta_row(row: &AccessMetaRow) -> String {
    let AccessMetaRow { tokens, roles, subjects } = row;
    format!(" tokens={tokens} roles={roles} subjects={subjects}")
}

pub(super) fn token_row(row: &AccessTokenRow) -> String {
    let AccessTokenRow { hash, name, roles, created_wall_ms, expires_wall_ms } = row;
    let expires = expires_wall_ms.map_or_else(String::new, |ms| format!(" expires={ms}ms"));
    format!(
        " {} hash={:02x} roles=[{}] created={created_wall_ms}ms{expires}",
        bytes(name.as_bytes()),
        hash.first().copied().unwrap_or_default(),
        names(roles)
    )
}

pub(super) fn role_row(row: &AccessRoleRow) -> String {
    rules(&row.rules)
}

/// Of many only the first ones, and how many they are.
fn rules(rules: &[AccessRule]) -> String {
    let shown: String = rules.iter().take(RULES_SHOWN_MAX).map(rule).collect();
    match rules.len() {
        count if count > RULES_SHOWN_MAX => format!("{shown}... ({count} rules)"),
        _ => shown,
    }
}

pub(super) fn subject_row(row: &AccessSubjectRow) -> String {
    format!(" roles=[{}]", names(&row.roles))
}

fn names(roles: &[String]) -> String {
    let names: Vec<String> = roles.iter().map(|role| bytes(role.as_bytes())).collect();
    names.join(" ")
}

fn rule(rule: &AccessRule) -> String {
    let AccessRule { service, actions, namespace, pattern } = rule;
    let namespace = bytes(namespace.as_bytes());
    format!(" [{service:?} {actions:?} {} in {namespace}]", bytes(pattern))
}

pub(crate) fn token(token: &AccessToken) -> String {
    let AccessToken { id, name, hash, roles, created_wall_ms, expires_wall_ms } = token.clone();
    let row = AccessTokenRow { hash, name, roles, created_wall_ms, expires_wall_ms };
    format!("{id}{}", token_row(&row))
}

pub(crate) fn role(role: &AccessRole) -> String {
    format!("{}{}", bytes(role.name.as_bytes()), rules(&role.rules))
}

pub(crate) fn subject(subject: &AccessSubject) -> String {
    format!("{} roles=[{}]", bytes(subject.subject.as_bytes()), names(&subject.roles))
}
