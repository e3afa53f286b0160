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
#[cfg(feature = "planted-faults")]
use crate::planted::{Fault, is_planted};
use crate::rows::{self, Holder, LockRow, TicketRow, TicketState};
use crate::scope::{Scope, within};
use crate::session::each_row;
use crate::undo::UndoMap;
use crate::{
    Event, Fatal, FencingToken, GroupId, HeldLock, LockGuard, Read, Rejection, Sequence, SessionId,
    Share, TicketId, Txn, codec, expiry,
};
use std::sync::Arc;

pub(crate) mod acquire;
pub(crate) mod attach;
pub(crate) mod cancel;
pub(crate) mod detach;
pub(crate) mod detach_node;
pub(crate) mod expire;
pub(crate) mod force_release;
pub(crate) mod release;
pub(crate) mod time_out;

/// The key of a lock's row.
type LockKey = Arc<[u8]>;

/// All locks and tickets; derived from LOCK and TICKET.
///
/// What a refused transaction changed is put back key by key, so nothing here is gathered into a
/// value that is larger than the rows an operation writes: no queue as a whole, nor all that a
/// session owns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Locks {
    rows: UndoMap<LockKey, LockRow>,
    tickets: UndoMap<TicketId, TicketRow>,
    /// Tickets that wait and are attached, of each lock in the order in which they are granted.
    queues: UndoMap<(LockKey, TicketId), ()>,
    /// What each session holds.
    held: UndoMap<(SessionId, FencingToken), LockKey>,
    /// The tickets of each session.
    asked: UndoMap<(SessionId, Sequence), TicketId>,
    /// How many of both it has; none without any.
    owned: UndoMap<SessionId, u64>,
}

impl Locks {
    pub(crate) fn derive(tables: &dyn Read, group: GroupId) -> Result<Self, Fatal> {
        let mut all = Self::default();
        each_row(tables, group, keys::table::LOCK, |key, value| {
            let row: LockRow = rows::decode("lock row", value)?;
            let key = LockKey::from(key);
            for holder in &row.holders {
                all.own_lock(holder.session, holder.token, &key);
            }
            all.rows.insert(key, row);
            Ok(())
        })?;
        each_row(tables, group, keys::table::TICKET, |key, value| {
            let Some(Key::Ticket(id)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("TICKET holds the key {key:02x?}")));
            };
            let row: TicketRow = rows::decode("ticket row", value)?;
            if row.state == TicketState::Waiting && row.attachment.is_some() {
                let key = keys::lock(group, &row.namespace, &row.name);
                if !all.rows.contains_key(&key[..]) {
                    return Err(Fatal::Invariant(format!("ticket {id} waits for no lock")));
                }
                all.enqueue(&key, id);
            }
            all.keep_ticket(id, row);
            Ok(())
        })?;
        Ok(all)
    }

    /// From now on what is changed may be put back.
    pub(crate) fn begin(&mut self) {
        let Self { rows, tickets, queues, held, asked, owned } = self;
        rows.begin();
        tickets.begin();
        queues.begin();
        held.begin();
        asked.begin();
        owned.begin();
    }

    /// What was changed since stays, or is put back.
    pub(crate) fn end(&mut self, keep: bool) {
        let Self { rows, tickets, queues, held, asked, owned } = self;
        rows.end(keep);
        tickets.end(keep);
        queues.end(keep);
        held.end(keep);
        asked.end(keep);
        owned.end(keep);
    }

    /// What a session has: locks it holds, and tickets.
    pub(crate) fn owned_by(&self, session: SessionId) -> u64 {
        self.owned.get(&session).copied().unwrap_or(0)
    }

    /// Who holds the lock.
    fn holders(&self, key: &[u8]) -> &[Holder] {
        self.rows.get(key).map_or(&[], |row| &row.holders)
    }

    /// The tickets in a lock's queue, from one on.
    fn queue(&self, key: &[u8], from: TicketId) -> impl Iterator<Item = TicketId> {
        let known = self.rows.get_key_value(key).map(|(key, _)| key);
        let range = known.map(|key| {
            let end = (LockKey::clone(key), TicketId(u64::MAX));
            self.queues.range((LockKey::clone(key), from)..=end)
        });
        range.into_iter().flatten().map(|((_, id), ())| *id)
    }

    /// Puts a ticket into the queue of a lock, which has a row.
    fn enqueue(&mut self, key: &[u8], id: TicketId) {
        if let Some((key, _)) = self.rows.get_key_value(key) {
            self.queues.insert((LockKey::clone(key), id), ());
        }
    }

    /// Takes a ticket out of the queue of a lock, which has a row.
    fn dequeue(&mut self, key: &[u8], id: TicketId) {
        if let Some((key, _)) = self.rows.get_key_value(key) {
            self.queues.remove(&(LockKey::clone(key), id));
        }
    }

    fn own_lock(&mut self, session: SessionId, token: FencingToken, key: &LockKey) {
        self.held.insert((session, token), LockKey::clone(key));
        *self.owned.get_or_default(session) += 1;
    }

    fn disown_lock(&mut self, session: SessionId, token: FencingToken) {
        if self.held.remove(&(session, token)).is_some() {
            self.own_one_less(session);
        }
    }

    /// Takes in a ticket, new or changed.
    fn keep_ticket(&mut self, id: TicketId, ticket: TicketRow) {
        if !self.tickets.contains_key(&id) {
            self.asked.insert((ticket.session, ticket.sequence), id);
            *self.owned.get_or_default(ticket.session) += 1;
        }
        self.tickets.insert(id, ticket);
    }

    fn forget_ticket(&mut self, id: TicketId) -> Option<TicketRow> {
        let ticket = self.tickets.remove(&id)?;
        self.asked.remove(&(ticket.session, ticket.sequence));
        self.own_one_less(ticket.session);
        Some(ticket)
    }

    fn own_one_less(&mut self, session: SessionId) {
        if let Some(count) = self.owned.get_mut(&session) {
            *count -= 1;
            if *count == 0 {
                self.owned.remove(&session);
            }
        }
    }

    /// The key of the lock that a session holds under a token.
    fn held_by(&self, session: SessionId, token: FencingToken) -> Option<LockKey> {
        self.held.get(&(session, token)).cloned()
    }
}

/// Whether one more may hold the lock beside those who do.
fn takes(holders: &[Holder], share: Share) -> bool {
    let places = match share {
        Share::Exclusive => return holders.is_empty(),
        Share::Shared => LOCK_HOLDERS_MAX,
        Share::Permit { of } => LOCK_HOLDERS_MAX.min(of as usize),
    };
    holders.len() < places && holders.iter().all(|holder| holder.share == share)
}

/// Refuses a command whose lock is not held under its token.
pub(crate) fn check_guard(
    scope: &Scope<'_>,
    namespace: &str,
    guard: &LockGuard,
) -> Result<(), Rejection> {
    check_name(&guard.name)?;
    let key = keys::lock(scope.group, namespace, &guard.name);
    if scope.locks.holders(&key).iter().any(|holder| holder.token == guard.token) {
        return Ok(());
    }
    Err(Rejection::LockLost { name: guard.name.clone(), token: guard.token })
}

/// Whether a lock is held in these tables: under this token, or under any.
pub(crate) fn is_held(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    name: &str,
    under: Option<FencingToken>,
) -> Result<bool, Fatal> {
    let Some(bytes) = tables.get(&keys::lock(group, namespace, name))? else { return Ok(false) };
    let row: LockRow = rows::decode("lock row", &bytes)?;
    Ok(row.holders.iter().any(|holder| under.is_none_or(|token| holder.token == token)))
}

pub(crate) fn check_name(name: &str) -> Result<(), Rejection> {
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
    let key = match scope.locks.rows.get_key_value(key) {
        Some((key, _)) => LockKey::clone(key),
        None => LockKey::from(key),
    };
    scope.locks.own_lock(grant.session, token, &key);
    scope.locks.rows.get_or_default(LockKey::clone(&key)).holders.push(holder);
    write_lock(scope, &key);
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
    let Some(row) = scope.locks.rows.get_mut(key) else { return Ok(false) };
    let Some(at) = row.holders.iter().position(|holder| holder.token == token) else {
        return Ok(false);
    };
    let holder = row.holders.remove(at);
    scope.locks.disown_lock(holder.session, token);
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
    let mut from = TicketId(0);
    loop {
        let Some(id) = scope.locks.queue(key, from).next() else { return Ok(()) };
        from = TicketId(id.0 + 1);
        let ticket = ticket(scope, id)?.clone();
        let waits = rows::is_live(Some(ticket.deadline_ms), now_ms);
        #[cfg(feature = "planted-faults")]
        let waits = waits || is_planted(Fault::ExpiredWaiterGranted);
        if !waits {
            continue;
        }
        if !takes(scope.locks.holders(key), ticket.share) {
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
    scope.locks.rows.get_or_default(LockKey::from(key)).waiters += 1;
    if ticket.attachment.is_some() {
        scope.locks.enqueue(key, id);
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
    scope.locks.dequeue(key, id);
    let Some(row) = scope.locks.rows.get_mut(key) else { return };
    row.waiters -= 1;
    write_lock(scope, key);
}

fn write_lock(scope: &mut Scope<'_>, key: &[u8]) {
    let Some(row) = scope.locks.rows.get(key) else { return };
    if row.holders.is_empty() && row.waiters == 0 {
        scope.locks.rows.remove(key);
        scope.txn.delete(key);
    } else {
        scope.txn.put(key, &codec::encode(row));
    }
}

fn write_ticket(scope: &mut Scope<'_>, id: TicketId, ticket: TicketRow) {
    scope.txn.put(&keys::ticket(scope.group, id), &codec::encode(&ticket));
    scope.locks.keep_ticket(id, ticket);
}

/// Forgets a ticket; one that waits waits no more.
fn drop_ticket(scope: &mut Scope<'_>, id: TicketId) -> Option<TicketRow> {
    let ticket = scope.locks.forget_ticket(id)?;
    if ticket.state == TicketState::Waiting {
        let key = keys::lock(scope.group, &ticket.namespace, &ticket.name);
        leave_queue(scope, &key, id, &ticket);
        // It may have held up those behind it, if they ask for less.
        scope.unblocked.insert(key);
        scope.events.push(Event::TicketChanged { id });
    }
    scope.txn.delete(&keys::ticket(scope.group, id));
    Some(ticket)
}

/// A session's floor rose: it has the answers below, or has given them up.
pub(crate) fn floor_rose(
    scope: &mut Scope<'_>,
    session: SessionId,
    floor: Sequence,
) -> Result<(), Fatal> {
    while let Some((_, &id)) =
        scope.locks.asked.range((session, Sequence(0))..(session, floor)).next()
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
    let holders = scope.locks.rows.get_mut(&key[..]).map(|row| &mut row.holders);
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
    let tickets = scope.locks.asked.range((session, Sequence(0))..=(session, Sequence(u64::MAX)));
    let tickets: Vec<TicketId> = tickets.map(|(_, id)| *id).collect();
    let all = (session, FencingToken(0))..=(session, FencingToken(u64::MAX));
    let held = scope.locks.held.range(all);
    let held: Vec<(FencingToken, LockKey)> =
        held.map(|((_, token), key)| (*token, LockKey::clone(key))).collect();
    let count = tickets.len() + held.len();
    // Tickets first: nothing may pass to the session that ends.
    for id in tickets {
        drop_ticket(scope, id);
    }
    for (token, key) in held {
        free(scope, &key, token)?;
        scope.unblocked.insert(key.to_vec());
    }
    pass_on_unblocked(scope)?;
    Ok(count)
}
