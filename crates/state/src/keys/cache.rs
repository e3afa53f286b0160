//! Keys of the cache.

use super::{META_CACHE, above, named, start, successor, table};
use crate::GroupId;

pub(crate) fn cache_meta(group: GroupId) -> Vec<u8> {
    let mut key = start(group, table::META, 1);
    key.push(META_CACHE);
    key
}

/// `namespace` must be within its limit.
pub(crate) fn cache(group: GroupId, namespace: &str, key: &[u8]) -> Vec<u8> {
    named(group, table::CACHE, namespace, key)
}

/// `namespace` must be within its limit.
pub(crate) fn cache_tag(group: GroupId, namespace: &str, tag: &str) -> Vec<u8> {
    named(group, table::CACHE_TAG, namespace, tag.as_bytes())
}

/// `namespace` and `tag` must be within their limits.
pub(crate) fn cache_tagged(group: GroupId, namespace: &str, tag: &str, key: &[u8]) -> Vec<u8> {
    let length = u8::try_from(tag.len())
        .expect("tags are checked against CACHE_TAG_BYTES_MAX before keys are made of them");
    let mut row = named(group, table::CACHE_TAGGED, namespace, &[]);
    row.reserve_exact(1 + tag.len() + key.len());
    row.push(length);
    row.extend(tag.as_bytes());
    row.extend(key);
    row
}

/// `[from, to)` around the entries of a tag whose keys come behind one; no key is empty.
pub(crate) fn cache_tagged_range(
    group: GroupId,
    namespace: &str,
    tag: &str,
    behind: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    let (_, to) = above(cache_tagged(group, namespace, tag, &[]));
    (successor(cache_tagged(group, namespace, tag, behind)), to)
}

/// `namespace` must be within its limit.
pub(crate) fn cache_build(group: GroupId, namespace: &str, key: &[u8]) -> Vec<u8> {
    named(group, table::CACHE_BUILD, namespace, key)
}
