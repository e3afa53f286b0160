//! Values of the tables about who may do what.

use crate::limits::{ACCESS_ROLES_PER_HOLDER_MAX, ACCESS_RULES_PER_ROLE_MAX};
use crate::{AccessRule, Fatal, GroupId, Read, bounded, keys};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How many rows there are; one row, without which there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessMetaRow {
    pub(crate) tokens: u64,
    pub(crate) roles: u64,
    pub(crate) subjects: u64,
}

/// A token, until it is revoked or its time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessTokenRow {
    /// Of the secret, which nobody here knows.
    pub(crate) hash: Bytes,
    pub(crate) name: String,
    #[serde(deserialize_with = "bounded::list::<ACCESS_ROLES_PER_HOLDER_MAX, _, _>")]
    pub(crate) roles: Vec<String>,
    pub(crate) created_wall_ms: u64,
    /// Wall time at which it is no longer there.
    pub(crate) expires_wall_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessRoleRow {
    #[serde(deserialize_with = "bounded::list::<ACCESS_RULES_PER_ROLE_MAX, _, _>")]
    pub(crate) rules: Vec<AccessRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessSubjectRow {
    #[serde(deserialize_with = "bounded::list::<ACCESS_ROLES_PER_HOLDER_MAX, _, _>")]
    pub(crate) roles: Vec<String>,
}

/// How many tokens, roles and subjects a group has.
pub(crate) fn access_meta(tables: &dyn Read, group: GroupId) -> Result<AccessMetaRow, Fatal> {
    let found = super::find(tables, "access meta row", &keys::access_meta(group))?;
    Ok(found.unwrap_or_default())
}
