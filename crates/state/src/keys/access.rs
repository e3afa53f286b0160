//! Keys about who may do what.

use super::{META_ACCESS, above, numbered, start, table};
use crate::{AccessTokenId, GroupId};

/// Who has a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessHolder<'a> {
    Token(AccessTokenId),
    Subject(&'a str),
}

pub(super) const HOLDER_TOKEN: u8 = 1;
pub(super) const HOLDER_SUBJECT: u8 = 2;

pub(crate) fn access_meta(group: GroupId) -> Vec<u8> {
    let mut key = start(group, table::META, 1);
    key.push(META_ACCESS);
    key
}

pub(crate) fn access_token(group: GroupId, id: AccessTokenId) -> Vec<u8> {
    numbered(group, table::ACCESS_TOKEN, id.0)
}

pub(crate) fn access_role(group: GroupId, name: &str) -> Vec<u8> {
    let mut key = start(group, table::ACCESS_ROLE, name.len());
    key.extend(name.as_bytes());
    key
}

pub(crate) fn access_subject(group: GroupId, subject: &str) -> Vec<u8> {
    let mut key = start(group, table::ACCESS_SUBJECT, subject.len());
    key.extend(subject.as_bytes());
    key
}

/// `role` must be within its limit.
pub(crate) fn access_holder(group: GroupId, role: &str, holder: AccessHolder<'_>) -> Vec<u8> {
    let mut key = holders_of(group, role);
    match holder {
        AccessHolder::Token(id) => {
            key.push(HOLDER_TOKEN);
            key.extend(id.0.to_be_bytes());
        }
        AccessHolder::Subject(subject) => {
            key.push(HOLDER_SUBJECT);
            key.extend(subject.as_bytes());
        }
    }
    key
}

/// `[from, to)` around those who have a role, tokens first.
pub(crate) fn access_holders(group: GroupId, role: &str) -> (Vec<u8>, Vec<u8>) {
    above(holders_of(group, role))
}

fn holders_of(group: GroupId, role: &str) -> Vec<u8> {
    let length = u8::try_from(role.len())
        .expect("roles are checked against ACCESS_NAME_BYTES_MAX before keys are made of them");
    let mut key = start(group, table::ACCESS_HOLDER, 1 + role.len() + 9);
    key.push(length);
    key.extend(role.as_bytes());
    key
}
