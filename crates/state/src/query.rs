//! Reads: pure functions over a consistent view of the tables, judged by the replicated clocks.

use crate::machine::Fatal;
use crate::{GroupId, Read, Revision, SessionId, Stamp};
use bytes::Bytes;

/// A key as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvItem {
    /// Its value.
    pub value: Bytes,
    /// From 1, plus one with every change.
    pub version: u64,
    /// Revision that created it.
    pub create_revision: Revision,
    /// Revision that changed it last.
    pub mod_revision: Revision,
    /// Milliseconds left, by the view's lease clock; none without a ttl.
    pub remaining_ttl_ms: Option<u64>,
}

/// The key, unless it is absent or expired by the view's own clock.
///
/// # Errors
/// When the tables fail.
pub fn kv_get(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    key: &[u8],
) -> Result<Option<KvItem>, Fatal> {
    let _ = (tables, group, namespace, key);
    Ok(None)
}

/// The clocks as the last applied entry left them.
///
/// # Errors
/// When the tables fail.
pub fn clocks(tables: &dyn Read, group: GroupId) -> Result<Stamp, Fatal> {
    let _ = (tables, group);
    Ok(Stamp::default())
}

/// The revision of the newest applied command: the revision a read of this view is served at.
///
/// # Errors
/// When the tables fail.
pub fn revision(tables: &dyn Read, group: GroupId) -> Result<Revision, Fatal> {
    let _ = (tables, group);
    Ok(Revision(0))
}

/// The earliest lease time at which anything in the tables expires (keys, idempotency keys; not
/// sessions, whose leases the leader keeps).
///
/// # Errors
/// When the tables fail.
pub fn next_deadline_ms(tables: &dyn Read, group: GroupId) -> Result<Option<u64>, Fatal> {
    let _ = (tables, group);
    Ok(None)
}

/// All open sessions with their ttls in milliseconds, by id.
///
/// # Errors
/// When the tables fail.
pub fn sessions(tables: &dyn Read, group: GroupId) -> Result<Vec<(SessionId, u64)>, Fatal> {
    let _ = (tables, group);
    Ok(Vec::new())
}

/// The client and HTTP address a node published last.
///
/// # Errors
/// When the tables fail.
pub fn member_addresses(
    tables: &dyn Read,
    group: GroupId,
    node: crate::NodeId,
) -> Result<Option<(String, String)>, Fatal> {
    let _ = (tables, group, node);
    Ok(None)
}

/// The rolling digest: a hash over all table changes of all entries so far. Equal on replicas
/// that applied the same entries.
///
/// # Errors
/// When the tables fail.
pub fn digest(tables: &dyn Read, group: GroupId) -> Result<u64, Fatal> {
    let _ = (tables, group);
    Ok(0)
}

/// A checksum over every key and value of the group's tables; reads all of them.
///
/// # Errors
/// When the tables fail.
pub fn checksum(tables: &dyn Read, group: GroupId) -> Result<u64, Fatal> {
    let _ = (tables, group);
    Ok(0)
}
