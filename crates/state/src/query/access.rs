//! Who may do what, as a reader sees it. A token whose time is over by the view's own wall clock is not
//! there, also when it was not swept yet.

use super::clocks;
use crate::keys::{self, Key};
use crate::limits::ACCESS_NAME_BYTES_MAX;
use crate::machine::Fatal;
use crate::rows::{self, AccessRoleRow, AccessSubjectRow, AccessTokenRow};
use crate::session::each_row;
use crate::{AccessRule, AccessTokenId, GroupId, Read};
use bytes::Bytes;

/// An access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// Which.
    pub id: AccessTokenId,
    /// For people.
    pub name: String,
    /// SHA-256 of its secret: 32 bytes.
    pub hash: Bytes,
    /// What it may do.
    pub roles: Vec<String>,
    /// When it was made, as Unix time in milliseconds.
    pub created_wall_ms: u64,
    /// When it ends, likewise; none: when it is revoked.
    pub expires_wall_ms: Option<u64>,
}

/// A role that was put. Those built in ([`crate::ACCESS_ROLE_ADMIN`]) are none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRole {
    /// Its name.
    pub name: String,
    /// All that it may do.
    pub rules: Vec<AccessRule>,
}

/// A client that is known by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSubject {
    /// The name in the certificate.
    pub subject: String,
    /// What it may do.
    pub roles: Vec<String>,
}

fn token_of(id: AccessTokenId, row: AccessTokenRow, wall_ms: u64) -> Option<AccessToken> {
    let AccessTokenRow { hash, name, roles, created_wall_ms, expires_wall_ms } = row;
    let token = AccessToken { id, name, hash, roles, created_wall_ms, expires_wall_ms };
    rows::is_live(expires_wall_ms, wall_ms).then_some(token)
}

/// A token, unless it was revoked or its time is over.
///
/// # Errors
/// When the tables fail.
pub fn access_token(
    tables: &dyn Read,
    group: GroupId,
    id: AccessTokenId,
) -> Result<Option<AccessToken>, Fatal> {
    let key = keys::access_token(group, id);
    let Some(row) = rows::find(tables, "access token row", &key)? else { return Ok(None) };
    Ok(token_of(id, row, clocks(tables, group)?.wall_ms))
}

/// All tokens that hold, by id.
///
/// # Errors
/// When the tables fail.
pub fn access_tokens(tables: &dyn Read, group: GroupId) -> Result<Vec<AccessToken>, Fatal> {
    let wall_ms = clocks(tables, group)?.wall_ms;
    let mut tokens = Vec::new();
    each_row(tables, group, keys::table::ACCESS_TOKEN, |key, value| {
        let Some(Key::AccessToken(id)) = keys::parse(group, key) else {
            return Err(stray("ACCESS_TOKEN", key));
        };
        tokens.extend(token_of(id, rows::decode("access token row", value)?, wall_ms));
        Ok(())
    })?;
    Ok(tokens)
}

/// A role that was put; none for one that is built in. A name beyond its limit is no role's.
///
/// # Errors
/// When the tables fail.
pub fn access_role(
    tables: &dyn Read,
    group: GroupId,
    name: &str,
) -> Result<Option<AccessRole>, Fatal> {
    if super::exceeds(name.len(), ACCESS_NAME_BYTES_MAX) {
        return Ok(None);
    }
    let row: Option<AccessRoleRow> =
        rows::find(tables, "access role row", &keys::access_role(group, name))?;
    Ok(row.map(|AccessRoleRow { rules }| AccessRole { name: name.to_owned(), rules }))
}

/// All roles that were put, by name.
///
/// # Errors
/// When the tables fail.
pub fn access_roles(tables: &dyn Read, group: GroupId) -> Result<Vec<AccessRole>, Fatal> {
    let mut roles = Vec::new();
    each_row(tables, group, keys::table::ACCESS_ROLE, |key, value| {
        let Some(Key::AccessRole(name)) = keys::parse(group, key) else {
            return Err(stray("ACCESS_ROLE", key));
        };
        let AccessRoleRow { rules } = rows::decode("access role row", value)?;
        roles.push(AccessRole { name: name.to_owned(), rules });
        Ok(())
    })?;
    Ok(roles)
}

/// The roles of a client that is known by its certificate; none when it was given none. A name beyond
/// its limit was not.
///
/// # Errors
/// When the tables fail.
pub fn access_subject(
    tables: &dyn Read,
    group: GroupId,
    subject: &str,
) -> Result<Option<AccessSubject>, Fatal> {
    if super::exceeds(subject.len(), ACCESS_NAME_BYTES_MAX) {
        return Ok(None);
    }
    let row: Option<AccessSubjectRow> =
        rows::find(tables, "access subject row", &keys::access_subject(group, subject))?;
    Ok(row.map(|AccessSubjectRow { roles }| AccessSubject { subject: subject.to_owned(), roles }))
}

/// All subjects that have roles, by name.
///
/// # Errors
/// When the tables fail.
pub fn access_subjects(tables: &dyn Read, group: GroupId) -> Result<Vec<AccessSubject>, Fatal> {
    let mut subjects = Vec::new();
    each_row(tables, group, keys::table::ACCESS_SUBJECT, |key, value| {
        let Some(Key::AccessSubject(subject)) = keys::parse(group, key) else {
            return Err(stray("ACCESS_SUBJECT", key));
        };
        let AccessSubjectRow { roles } = rows::decode("access subject row", value)?;
        subjects.push(AccessSubject { subject: subject.to_owned(), roles });
        Ok(())
    })?;
    Ok(subjects)
}

fn stray(table: &str, key: &[u8]) -> Fatal {
    Fatal::Invariant(format!("{table} holds the key {key:02x?}"))
}
