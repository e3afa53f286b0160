//! Keys about the cluster and its members.

use super::{META_FEATURE_LEVEL, start, table};
use crate::{GroupId, NodeId};

pub(crate) fn member_addr(group: GroupId, node: NodeId) -> Vec<u8> {
    let mut key = start(group, table::MEMBER_ADDR, 8);
    key.extend(node.0.to_be_bytes());
    key
}

pub(crate) fn member(group: GroupId, node: NodeId) -> Vec<u8> {
    let mut key = start(group, table::MEMBER, 8);
    key.extend(node.0.to_be_bytes());
    key
}

pub(crate) fn invitation(group: GroupId, token_hash: &[u8]) -> Vec<u8> {
    let mut key = start(group, table::INVITATION, token_hash.len());
    key.extend(token_hash);
    key
}

pub(crate) fn feature_level(group: GroupId) -> Vec<u8> {
    let mut key = start(group, table::META, 1);
    key.push(META_FEATURE_LEVEL);
    key
}
