//! Locks: who holds each, who waits for it, in which order it passes on.
//!
//! All of it is in the tables; what is in memory is derived from them and saves the scans. A lock
//! has a row while it is held or waited for. Whoever has to wait gets a ticket, which stays until
//! the floor of its session passes the request: so a repetition of the request, on any node, finds
//! what became of it.
//!
//! Relations: a ticket that waits counts in its lock's row and has a deadline; it is in the queue
//! if its caller is attached somewhere, else it is passed over and keeps its place. Whenever the
//! first in the queue could be granted, it is granted by the entry that made it so.

use crate::keys::{self, Clock, DeadlineKind, Key};
use crate::limits::{LOCK_HOLDERS_MAX, LOCK_NAME_BYTES_MAX, NAMESPACE_BYTES_MAX};
use crate::rows::{self, Holder, LockRow, TicketRow, TicketState};
use crate::scope::{Scope, within};
use crate::session::each_row;
use crate::{
    Event, Fatal, FencingToken, GroupId, HeldLock, LockGuard, Read, Rejection, Sequence, SessionId,
    Share, TicketId, Txn, codec, expiry,
};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) mod acquire;
pub(crate) mod attach;
pub(crate) mod cancel;
pub(crate) mod detach;
pub(crate) mod detach_node;
pub(crate) mod expire;
pub(crate) mod force_release;
pub(crate) mod release;
pub(crate) mod time_out;

/// All locks and tickets; derived from LOCK and TICKET.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Locks {
    /// By the key of its row.
    locks: BTreeMap<Vec<u8>, Lock>,
    tickets: BTreeMap<TicketId, TicketRow>,
    /// By owner; none without anything.
    owned: BTreeMap<SessionId, Owned>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Lock {
    row: LockRow,
    /// Tickets that wait and are attached, in the order in which they are granted.
    queue: BTreeSet<TicketId>,
}

/// What a session has of locks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Owned {
    /// The key of each lock's row.
    held: BTreeMap<FencingToken, Vec<u8>>,
    tickets: BTreeMap<Sequence, TicketId>,
}

impl Locks {
    pub(crate) fn derive(tables: &dyn Read, group: GroupId) -> Result<Self, Fatal> {
        let mut all = Self::default();
        each_row(tables, group, keys::table::LOCK, |key, value| {
            let row: LockRow = rows::decode("lock row", value)?;
            for holder in &row.holders {
                all.owned(holder.session).held.insert(holder.token, key.to_vec());
            }
            all.locks.insert(key.to_vec(), Lock { row, queue: BTreeSet::new() });
            Ok(())
        })?;
        each_row(tables, group, keys::table::TICKET, |key, value| {
            let Some(Key::Ticket(id)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("TICKET holds the key {key:02x?}")));
            };
            let row: TicketRow = rows::decode("ticket row", value)?;
            all.owned(row.session).tickets.insert(row.sequence, id);
            if row.state == TicketState::Waiting && row.attachment.is_some() {
                let key = keys::lock(group, &row.namespace, &row.name);
                let Some(lock) = all.locks.get_mut(&key) else {
                    return Err(Fatal::Invariant(format!("ticket {id} waits for no lock")));
                };
                lock.queue.insert(id);
            }
            all.tickets.insert(id, row);
            Ok(())
        })?;
        Ok(all)
    }

    /// What a session has: locks it holds, and tickets.
    pub(crate) fn owned_by(&self, session: SessionId) -> u64 {
        let owned = self.owned.get(&session);
        owned.map_or(0, |owned| (owned.held.len() + owned.tickets.len()) as u64)
    }

    fn owned(&mut self, session: SessionId) -> &mut Owned {
        self.owned.entry(session).or_default()
    }

    fn disown(&mut self, session: SessionId, remove: impl FnOnce(&mut Owned)) {
        if let Some(owned) = self.owned.get_mut(&session) {
            remove(owned);
            if owned.held.is_empty() && owned.tickets.is_empty() {
                self.owned.remove(&session);
            }
        }
    }

    /// The key of the lock that a session holds under a token.
    fn held_by(&self, session: SessionId, token: FencingToken) -> Option<Vec<u8>> {
        self.owned.get(&session)?.held.get(&token).cloned()
    }
}

impl Lock {
    /// Whether one more may hold it beside those who do.
    fn takes(&self, share: Share) -> bool {
        let holders = &self.row.holders;
        let places = match share {
            Share::Exclusive => return holders.is_empty(),
            Share::Shared => LOCK_HOLDERS_MAX,
            Share::Permit { of } => LOCK_HOLDERS_MAX.min(of as usize),
        };
        holders.len() < places && holders.iter().all(|holder| holder.share == share)
    }
}

/// Refuses a command whose lock is not held under its token.
pub(crate) fn check_guard(
    scope: &Scope<'_>,
    namespace: &str,
    guard: &LockGuard,
) -> Result<(), Rejection> {
    check_name(&guard.name)?;
    let key = keys::lock(scope.group, namespace, &guard.name);
    let holders = scope.locks.locks.get(&key).map(|lock| &lock.row.holders[..]);
    if holders.unwrap_or_default().iter().any(|holder| holder.token == guard.token) {
        return Ok(());
    }
    Err(Rejection::LockLost { name: guard.name.clone(), token: guard.token })
}

fn check_name(name: &str) -> Result<(), Rejection> {
    if name.is_empty() {
        return Err(Rejection::Invalid(
            "the lock's name is empty; name one of 1 byte or more".to_owned(),
        ));
    }
    within("lock name bytes", name.len(), LOCK_NAME_BYTES_MAX)
}

/// Who is granted what.
struct Grant<'a> {
    namespace: &'a str,
    name: &'a str,
    session: SessionId,
    share: Share,
    ttl_ms: u64,
}

/// Grants a lock that takes one more.
fn grant(scope: &mut Scope<'_>, key: &[u8], grant: &Grant<'_>) -> FencingToken {
    let token = FencingToken(scope.meta.fencing_token.0 + 1);
    scope.meta.fencing_token = token;
    let holder = Holder {
        token,
        session: grant.session,
        share: grant.share,
        ttl_ms: grant.ttl_ms,
        remaining_ms: None,
        granted_ms: scope.lease_ms(),
        revision: scope.revision,
    };
    scope.locks.locks.entry(key.to_vec()).or_default().row.holders.push(holder);
    scope.locks.owned(grant.session).held.insert(token, key.to_vec());
    write_lock(scope, key);
    scope.events.push(Event::LockGranted {
        namespace: grant.namespace.to_owned(),
        name: grant.name.to_owned(),
        token,
        session: grant.session,
        ttl_ms: grant.ttl_ms,
    });
    token
}

/// Takes a lock from its holder, if that holds it under this token; to whom it passes is the
/// business of [`pass_on`].
fn free(scope: &mut Scope<'_>, key: &[u8], token: FencingToken) -> Result<bool, Fatal> {
    let Some(lock) = scope.locks.locks.get_mut(key) else { return Ok(false) };
    let Some(at) = lock.row.holders.iter().position(|holder| holder.token == token) else {
        return Ok(false);
    };
    let holder = lock.row.holders.remove(at);
    scope.locks.disown(holder.session, |owned| {
        owned.held.remove(&token);
    });
    write_lock(scope, key);
    let Some(Key::Lock { namespace, name }) = keys::parse(scope.group, key) else {
        return Err(Fatal::Invariant(format!("LOCK has the key {key:02x?}")));
    };
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    scope.events.push(Event::LockFreed { namespace, name, token });
    Ok(true)
}

/// Grants a lock to those in its queue, in their order, as long as it takes one more. A wait that
/// is over is passed over, whether or not it was swept yet.
fn pass_on(scope: &mut Scope<'_>, key: &[u8]) -> Result<(), Fatal> {
    let now_ms = scope.lease_ms();
    let mut after = None;
    loop {
        let Some(lock) = scope.locks.locks.get(key) else { return Ok(()) };
        let from = after.map_or(TicketId(0), |TicketId(id)| TicketId(id + 1));
        let Some(&id) = lock.queue.range(from..).next() else { return Ok(()) };
        after = Some(id);
        let ticket = ticket(scope, id)?.clone();
        if !rows::is_live(Some(ticket.deadline_ms), now_ms) {
            continue;
        }
        if !lock.takes(ticket.share) {
            return Ok(());
        }
        leave_queue(scope, key, id, &ticket);
        let TicketRow { session, share, ttl_ms, .. } = ticket;
        let (namespace, name) = (&ticket.namespace[..], &ticket.name[..]);
        let token = grant(scope, key, &Grant { namespace, name, session, share, ttl_ms });
        let state = TicketState::Granted { token, revision: scope.revision };
        write_ticket(scope, id, TicketRow { state, ..ticket });
        scope.events.push(Event::TicketChanged { id });
    }
}

fn ticket<'a>(scope: &'a Scope<'_>, id: TicketId) -> Result<&'a TicketRow, Fatal> {
    scope
        .locks
        .tickets
        .get(&id)
        .ok_or_else(|| Fatal::Invariant(format!("ticket {id} is in a queue and does not exist")))
}

/// A ticket waits, from now on or again.
fn wait(scope: &mut Scope<'_>, key: &[u8], id: TicketId, ticket: TicketRow) {
    let lock = scope.locks.locks.entry(key.to_vec()).or_default();
    lock.row.waiters += 1;
    if ticket.attachment.is_some() {
        lock.queue.insert(id);
    }
    write_lock(scope, key);
    let ticket_key = keys::ticket(scope.group, id);
    expiry::schedule(scope, Clock::Lease, ticket.deadline_ms, DeadlineKind::Ticket, &ticket_key);
    write_ticket(scope, id, ticket);
}

/// A ticket that waited does not any more.
fn leave_queue(scope: &mut Scope<'_>, key: &[u8], id: TicketId, ticket: &TicketRow) {
    let ticket_key = keys::ticket(scope.group, id);
    expiry::unschedule(scope, Clock::Lease, ticket.deadline_ms, DeadlineKind::Ticket, &ticket_key);
    stop_waiting(scope, key, id);
}

/// As [`leave_queue`], of a ticket whose deadline is gone already.
fn stop_waiting(scope: &mut Scope<'_>, key: &[u8], id: TicketId) {
    let Some(lock) = scope.locks.locks.get_mut(key) else { return };
    lock.queue.remove(&id);
    lock.row.waiters -= 1;
    write_lock(scope, key);
}

fn write_lock(scope: &mut Scope<'_>, key: &[u8]) {
    let Some(lock) = scope.locks.locks.get(key) else { return };
    if lock.row.holders.is_empty() && lock.row.waiters == 0 {
        scope.locks.locks.remove(key);
        scope.txn.delete(key);
    } else {
        scope.txn.put(key, &codec::encode(&lock.row));
    }
}

fn write_ticket(scope: &mut Scope<'_>, id: TicketId, ticket: TicketRow) {
    scope.txn.put(&keys::ticket(scope.group, id), &codec::encode(&ticket));
    scope.locks.owned(ticket.session).tickets.insert(ticket.sequence, id);
    scope.locks.tickets.insert(id, ticket);
}

/// Forgets a ticket; one that waits waits no more.
fn drop_ticket(scope: &mut Scope<'_>, id: TicketId) -> Option<TicketRow> {
    let ticket = scope.locks.tickets.remove(&id)?;
    if ticket.state == TicketState::Waiting {
        let key = keys::lock(scope.group, &ticket.namespace, &ticket.name);
        leave_queue(scope, &key, id, &ticket);
        // It may have held up those behind it, if they ask for less.
        scope.unblocked.insert(key);
        scope.events.push(Event::TicketChanged { id });
    }
    scope.txn.delete(&keys::ticket(scope.group, id));
    scope.locks.disown(ticket.session, |owned| {
        owned.tickets.remove(&ticket.sequence);
    });
    Some(ticket)
}

/// A session's floor rose: it has the answers below, or has given them up.
pub(crate) fn floor_rose(
    scope: &mut Scope<'_>,
    session: SessionId,
    floor: Sequence,
) -> Result<(), Fatal> {
    while let Some(owned) = scope.locks.owned.get(&session)
        && let Some((_, &id)) = owned.tickets.range(..floor).next()
    {
        drop_ticket(scope, id);
    }
    pass_on_unblocked(scope)
}

/// Notes what a new leader gives a lock's holder; whether it is held under that token.
pub(crate) fn record_remaining(
    scope: &mut Scope<'_>,
    held: &HeldLock,
    remaining_ms: Option<u64>,
) -> Result<bool, Rejection> {
    within("namespace bytes", held.namespace.len(), NAMESPACE_BYTES_MAX)?;
    let key = keys::lock(scope.group, &held.namespace, &held.name);
    let holders = scope.locks.locks.get_mut(&key).map(|lock| &mut lock.row.holders);
    let holder = holders.and_then(|all| all.iter_mut().find(|one| one.token == held.token));
    let Some(holder) = holder else { return Ok(false) };
    holder.remaining_ms = remaining_ms;
    write_lock(scope, &key);
    Ok(true)
}

/// Passes on the locks that tickets were forgotten of.
fn pass_on_unblocked(scope: &mut Scope<'_>) -> Result<(), Fatal> {
    for key in std::mem::take(&mut scope.unblocked) {
        pass_on(scope, &key)?;
    }
    Ok(())
}

/// Frees all that a session holds and waits for; answers how many of both.
pub(crate) fn session_ended(scope: &mut Scope<'_>, session: SessionId) -> Result<usize, Fatal> {
    let Some(owned) = scope.locks.owned.get(&session) else { return Ok(0) };
    let tickets: Vec<TicketId> = owned.tickets.values().copied().collect();
    let held: Vec<(FencingToken, Vec<u8>)> =
        owned.held.iter().map(|(token, key)| (*token, key.clone())).collect();
    let count = tickets.len() + held.len();
    // Tickets first: nothing may pass to the session that ends.
    for id in tickets {
        drop_ticket(scope, id);
    }
    for (token, key) in held {
        free(scope, &key, token)?;
        scope.unblocked.insert(key);
    }
    pass_on_unblocked(scope)?;
    Ok(count)
}
