//! Locks and tickets as a reader sees them.

use super::named::Named;
use super::{SessionOwner, exceeds};
use crate::keys::{self, Key};
use crate::limits::{LOCK_NAME_BYTES_MAX, NAMESPACE_BYTES_MAX};
use crate::machine::Fatal;
use crate::rows::{self, LockRow, TicketRow, TicketState};
use crate::session::each_row;
use crate::{
    Attachment, FencingToken, GroupId, HeldLock, KeySelection, NodeId, Read, Revision, SessionId,
    Share, TicketId,
};

/// A lock that is held or waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockItem {
    /// Who holds it, in the order of the grants.
    pub holders: Vec<LockHolder>,
    /// How many wait for it.
    pub waiters: u64,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// What it is held under.
    pub token: FencingToken,
    /// The session that it is lost with.
    pub session: SessionId,
    /// With whom it is shared.
    pub share: Share,
    /// It is lost when it is not renewed for this long.
    pub ttl_ms: u64,
    /// Milliseconds of lease time since the grant.
    pub held_ms: u64,
    /// Revision of the grant.
    pub revision: Revision,
}

/// What became of a ticket so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketStanding {
    /// It waits, here; nowhere: it is passed over until it is attached again.
    Waiting(Option<Attachment>),
    /// It was granted.
    Granted {
        /// What the lock is held under.
        token: FencingToken,
        /// To which call: only that one may take it in, and give it back when its caller is gone.
        attachment: Option<Attachment>,
        /// It is lost when it is not renewed for this long.
        ttl_ms: u64,
        /// When.
        revision: Revision,
    },
    /// Its wait ran out.
    TimedOut,
}

/// What became of a ticket; none when it was cancelled, its session ended, or its session's floor
/// has passed it.
///
/// # Errors
/// When the tables fail.
pub fn ticket(
    tables: &dyn Read,
    group: GroupId,
    id: TicketId,
) -> Result<Option<TicketStanding>, Fatal> {
    let Some(bytes) = tables.get(&keys::ticket(group, id))? else { return Ok(None) };
    let row: TicketRow = rows::decode("ticket row", &bytes)?;
    Ok(Some(match row.state {
        TicketState::Waiting => TicketStanding::Waiting(row.attachment),
        TicketState::Granted { token, revision } => {
            let (attachment, ttl_ms) = (row.attachment, row.ttl_ms);
            TicketStanding::Granted { token, attachment, ttl_ms, revision }
        }
        TicketState::TimedOut => TicketStanding::TimedOut,
    }))
}

/// Whether anybody waits for a lock on a node.
///
/// # Errors
/// When the tables fail.
pub fn waits_on(tables: &dyn Read, group: GroupId, node: NodeId) -> Result<bool, Fatal> {
    let mut waits = false;
    each_row(tables, group, keys::table::TICKET, |_, value| {
        let row: TicketRow = rows::decode("ticket row", value)?;
        waits |= row.state == TicketState::Waiting
            && row.attachment.is_some_and(|attachment| attachment.node == node);
        Ok(())
    })?;
    Ok(waits)
}

/// The lock; none when it is neither held nor waited for.
///
/// # Errors
/// When the tables fail.
pub fn lock(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    name: &str,
) -> Result<Option<LockItem>, Fatal> {
    if exceeds(namespace.len(), NAMESPACE_BYTES_MAX) || exceeds(name.len(), LOCK_NAME_BYTES_MAX) {
        return Ok(None);
    }
    let Some(bytes) = tables.get(&keys::lock(group, namespace, name))? else { return Ok(None) };
    let lease_ms = super::clocks(tables, group)?.lease_ms;
    Ok(Some(lock_item(rows::decode("lock row", &bytes)?, lease_ms)))
}

pub(super) fn lock_item(row: LockRow, lease_ms: u64) -> LockItem {
    let holders = row.holders.into_iter().map(|holder| LockHolder {
        token: holder.token,
        session: holder.session,
        share: holder.share,
        ttl_ms: holder.ttl_ms,
        held_ms: lease_ms.saturating_sub(holder.granted_ms),
        revision: holder.revision,
    });
    LockItem { holders: holders.collect(), waiters: row.waiters }
}

/// A part of the locks there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockPage {
    /// Their names, in order.
    pub locks: Vec<(String, LockItem)>,
    /// Where the next page begins; none on the last one. A page may be short, or empty, and have
    /// one all the same.
    pub cursor: Option<String>,
}

/// A page of the selected locks, after that of the name `after`.
///
/// # Errors
/// When the tables fail.
pub fn locks(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    selection: &KeySelection,
    after: Option<&str>,
    items_max: usize,
) -> Result<LockPage, Fatal> {
    let bytes_max = usize::MAX;
    let named =
        Named { table: keys::table::LOCK, namespace, selection, after, items_max, bytes_max };
    let (rows, cursor) = named.page::<LockRow>(tables, group)?;
    let lease_ms = super::clocks(tables, group)?.lease_ms;
    let locks = rows.into_iter().map(|(name, row)| (name, lock_item(row, lease_ms)));
    Ok(LockPage { locks: locks.collect(), cursor })
}

/// A lease of a lock, as a new leader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockLease {
    /// The lock and its token.
    pub held: HeldLock,
    /// The session that holds it.
    pub session: SessionId,
    /// Its ttl in milliseconds.
    pub ttl_ms: u64,
    /// What is left of it, when that was recorded since it was renewed.
    pub remaining_ms: Option<u64>,
}

/// The leases of all locks that are held.
///
/// # Errors
/// When the tables fail.
pub fn lock_leases(tables: &dyn Read, group: GroupId) -> Result<Vec<LockLease>, Fatal> {
    let mut leases = Vec::new();
    each_row(tables, group, keys::table::LOCK, |key, value| {
        let Some(Key::Lock { namespace, name }) = keys::parse(group, key) else {
            return Err(Fatal::Invariant(format!("LOCK holds the key {key:02x?}")));
        };
        let row: LockRow = rows::decode("lock row", value)?;
        leases.extend(row.holders.into_iter().map(|holder| LockLease {
            held: HeldLock {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                token: holder.token,
            },
            session: holder.session,
            ttl_ms: holder.ttl_ms,
            remaining_ms: holder.remaining_ms,
        }));
        Ok(())
    })?;
    Ok(leases)
}

/// Counts the locks that the sessions of a page, which are sorted, hold or wait for.
pub(super) fn count_locks(
    tables: &dyn Read,
    group: GroupId,
    page: &mut [SessionOwner],
) -> Result<(), Fatal> {
    let mut count = |id: SessionId| {
        if let Ok(at) = page.binary_search_by_key(&id, |owner| owner.session.id) {
            page[at].locks += 1;
        }
    };
    each_row(tables, group, keys::table::LOCK, |_, value| {
        let row: LockRow = rows::decode("lock row", value)?;
        row.holders.iter().for_each(|holder| count(holder.session));
        Ok(())
    })?;
    each_row(tables, group, keys::table::TICKET, |_, value| {
        let row: TicketRow = rows::decode("ticket row", value)?;
        if row.state == TicketState::Waiting {
            count(row.session);
        }
        Ok(())
    })
}
