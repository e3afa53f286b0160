//! Reads: pure functions over a consistent view of the tables, judged by the replicated clocks.
//!
//! They never touch what the machine keeps in memory, so any thread may call them on any view.

use crate::keys::{self, Clock, Key};
use crate::limits::{KEY_BYTES_MAX, NAMESPACE_BYTES_MAX};
use crate::machine::Fatal;
use crate::rows::{self, KvRow, SessionRow};
use crate::session::each_row;
use crate::{GroupId, Read, Revision, SessionId, Stamp, expiry};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::{ControlFlow, RangeInclusive};
use xxhash_rust::xxh3::Xxh3;

mod access;
mod cache;
mod consumer;
mod export;
mod job;
mod kv_history;
mod kv_list;
mod lock;
mod member;
mod named;
mod overview;
mod queue;
mod schedule;
mod transaction;

pub use access::*;
pub use cache::*;
pub use consumer::*;
pub use export::*;
pub use job::*;
pub use kv_history::*;
pub use kv_list::*;
use lock::count_locks;
pub use lock::*;
pub use member::*;
pub use overview::*;
pub use queue::*;
pub use schedule::*;
pub use transaction::transaction;

/// A key as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The key, unless it is absent or expired by the view's own clock. A namespace or key beyond its
/// limit is absent: nothing can have been written there.
///
/// # Errors
/// When the tables fail.
pub fn kv_get(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    key: &[u8],
) -> Result<Option<KvItem>, Fatal> {
    if exceeds(namespace.len(), NAMESPACE_BYTES_MAX) || exceeds(key.len(), KEY_BYTES_MAX) {
        return Ok(None);
    }
    item(tables, group, namespace, key, || Ok(clocks(tables, group)?.lease_ms))
}

/// The key, unless it is absent or expired at `lease_ms`, which is asked for only when it matters.
pub(crate) fn item(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    key: &[u8],
    lease_ms: impl FnOnce() -> Result<u64, Fatal>,
) -> Result<Option<KvItem>, Fatal> {
    let Some(bytes) = tables.get(&keys::kv(group, namespace, key))? else { return Ok(None) };
    kv_item(&Bytes::from(bytes), lease_ms)
}

/// The key whose row this is, unless it is expired. Its value is a slice of the row: a large one is
/// not copied again.
pub(crate) fn kv_item(
    bytes: &Bytes,
    lease_ms: impl FnOnce() -> Result<u64, Fatal>,
) -> Result<Option<KvItem>, Fatal> {
    let row = KvRow::decode(bytes)?;
    let remaining_ttl_ms = match row.deadline_ms {
        None => None,
        Some(deadline_ms) => {
            let lease_ms = lease_ms()?;
            if !row.is_live(lease_ms) {
                return Ok(None);
            }
            Some(deadline_ms - lease_ms)
        }
    };
    Ok(Some(KvItem {
        value: bytes.slice_ref(row.value),
        version: row.version,
        create_revision: row.create_revision,
        mod_revision: row.mod_revision,
        remaining_ttl_ms,
    }))
}

fn exceeds(bytes: usize, limit: u64) -> bool {
    u64::try_from(bytes).unwrap_or(u64::MAX) > limit
}

/// The clocks as the last applied entry left them.
///
/// # Errors
/// When the tables fail.
pub fn clocks(tables: &dyn Read, group: GroupId) -> Result<Stamp, Fatal> {
    Ok(rows::meta(tables, group)?.stamp)
}

/// The revision of the newest applied command: the revision a read of this view is served at.
///
/// # Errors
/// When the tables fail.
pub fn revision(tables: &dyn Read, group: GroupId) -> Result<Revision, Fatal> {
    Ok(rows::meta(tables, group)?.revision)
}

/// The earliest lease time in `within_ms` at which anything in the tables expires (keys,
/// idempotency keys; not sessions, whose leases the leader keeps).
///
/// Whoever asks again and again gives a lower bound, or each time walks over everything that was
/// swept before. New deadlines lie above the lease clock of the entry that sets them. So in later
/// views of the same tables nothing lies below the last answer (below the end of the span, when
/// there was none) and below [`clocks`] of the view that gave it: the smaller of the two is sound.
/// The asker's own clock is not, because it runs ahead of what is applied.
///
/// # Errors
/// When the tables fail.
pub fn next_deadline_ms(
    tables: &dyn Read,
    group: GroupId,
    within_ms: RangeInclusive<u64>,
) -> Result<Option<u64>, Fatal> {
    expiry::earliest_ms(tables, group, Clock::Lease, within_ms)
}

/// As [`next_deadline_ms`], of what waits for a wall time.
///
/// # Errors
/// When the tables fail.
pub fn next_wall_deadline_ms(
    tables: &dyn Read,
    group: GroupId,
    within_ms: RangeInclusive<u64>,
) -> Result<Option<u64>, Fatal> {
    expiry::earliest_ms(tables, group, Clock::Wall, within_ms)
}

/// An open session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionItem {
    /// Which.
    pub id: SessionId,
    /// How long it lives without a keep-alive.
    pub ttl_ms: u64,
    /// What is left of it, when that was recorded since it was kept alive.
    pub remaining_ms: Option<u64>,
}

/// All open sessions, by id.
///
/// # Errors
/// When the tables fail.
pub fn sessions(tables: &dyn Read, group: GroupId) -> Result<Vec<SessionItem>, Fatal> {
    let mut sessions = Vec::new();
    each_row(tables, group, keys::table::SESSION, |key, value| {
        let Some(Key::Session(id)) = keys::parse(group, key) else {
            return Err(Fatal::Invariant(format!("SESSION holds the key {key:02x?}")));
        };
        let row: SessionRow = rows::decode("session row", value)?;
        let SessionRow { ttl_ms, remaining_ms, .. } = row;
        sessions.push(SessionItem { id, ttl_ms, remaining_ms });
        Ok(())
    })?;
    Ok(sessions)
}

/// An open session and what it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOwner {
    /// The session.
    pub session: SessionItem,
    /// Locks it holds or waits for.
    pub locks: u64,
    /// Keys that end with it.
    pub keys: u64,
}

/// Up to `items_max` open sessions above `after`, by id, and whether there are more.
///
/// # Errors
/// When the tables fail.
pub fn session_page(
    tables: &dyn Read,
    group: GroupId,
    after: SessionId,
    items_max: usize,
) -> Result<(Vec<SessionOwner>, bool), Fatal> {
    let from = keys::successor(keys::session(group, after));
    let (_, to) = keys::table_range(group, keys::table::SESSION);
    let (mut page, mut more, mut failed) = (Vec::new(), false, None);
    tables.scan(&from, &to, &mut |key, value| {
        if page.len() == items_max {
            more = true;
            return ControlFlow::Break(());
        }
        let Some(Key::Session(id)) = keys::parse(group, key) else {
            failed = Some(Fatal::Invariant(format!("SESSION holds the key {key:02x?}")));
            return ControlFlow::Break(());
        };
        match rows::decode("session row", value) {
            Ok(SessionRow { ttl_ms, remaining_ms, .. }) => {
                let session = SessionItem { id, ttl_ms, remaining_ms };
                page.push(SessionOwner { session, locks: 0, keys: 0 });
                ControlFlow::Continue(())
            }
            Err(fatal) => {
                failed = Some(fatal);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(fatal) = failed {
        return Err(fatal);
    }
    count_locks(tables, group, &mut page)?;
    for owner in &mut page {
        let (from, to) = keys::session_keys(group, owner.session.id);
        tables.scan(&from, &to, &mut |_, _| {
            owner.keys += 1;
            ControlFlow::Continue(())
        })?;
    }
    Ok((page, more))
}

/// Whether a session is open.
///
/// # Errors
/// When the tables fail.
pub fn session_exists(tables: &dyn Read, group: GroupId, id: SessionId) -> Result<bool, Fatal> {
    Ok(tables.get(&keys::session(group, id))?.is_some())
}

/// The rolling digest: a hash over all table changes of all entries so far. Equal on replicas
/// that applied the same entries, however they grouped them into transactions.
///
/// # Errors
/// When the tables fail.
pub fn digest(tables: &dyn Read, group: GroupId) -> Result<u64, Fatal> {
    rows::digest(tables, group)
}

/// `[from, to)` around all rows of a group.
#[must_use]
pub fn group_range(group: GroupId) -> (Vec<u8>, Vec<u8>) {
    keys::group_range(group)
}

/// A checksum over every key and value of the group's tables; reads all of them, in constant
/// memory.
///
/// # Errors
/// When the tables fail.
pub fn checksum(tables: &dyn Read, group: GroupId) -> Result<u64, Fatal> {
    let (from, to) = keys::group_range(group);
    let mut sum = Checksum::default();
    tables.scan(&from, &to, &mut |key, value| {
        sum.row(key, value);
        ControlFlow::Continue(())
    })?;
    Ok(sum.digest())
}

/// [`checksum`], for whoever has the rows in hand, in their order.
#[derive(Clone, Default)]
pub struct Checksum(Xxh3);

impl Checksum {
    /// Takes in the next row.
    pub fn row(&mut self, key: &[u8], value: &[u8]) {
        for field in [key, value] {
            // Lengths go in too: where a key ends and its value begins is part of the contents.
            self.0.update(&(field.len() as u64).to_be_bytes());
            self.0.update(field);
        }
    }

    /// Of all rows so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.0.digest()
    }
}
