//! Takes a lock, or a place in its queue.

use super::{Grant, check_name, grant, takes, wait};
use crate::limits::{
    LOCK_HOLDERS_MAX, LOCK_TTL_MS_MAX, LOCK_TTL_MS_MIN, LOCK_WAIT_MS_MAX, LOCKS_MAX, TICKETS_MAX,
};
use crate::rows::{self, TicketRow, TicketState};
use crate::scope::{Failure, Scope, at_most};
use crate::{Caller, LockAcquire, LockRequest, Outcome, Rejection, Share, TicketId, keys, session};

/// Not reentrant: a session that asks for what it holds waits for itself.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    caller: &Caller,
    acquire: &LockAcquire,
) -> Result<Outcome, Failure> {
    let &Caller::Session { id: session, sequence, .. } = caller else {
        return Err(Failure::Rejected(Rejection::Invalid(
            "a lock is held by a session: open one, and ask in its name".to_owned(),
        )));
    };
    let LockRequest { name, share, ttl_ms, wait_ms } = &acquire.request;
    let (share, ttl_ms) = (*share, *ttl_ms);
    check_name(name)?;
    if ttl_ms < LOCK_TTL_MS_MIN {
        return Err(Failure::Rejected(Rejection::Invalid(format!(
            "the lock's ttl is {ttl_ms} ms, the least is {LOCK_TTL_MS_MIN} ms"
        ))));
    }
    at_most("lock ttl in milliseconds", ttl_ms, LOCK_TTL_MS_MAX)?;
    at_most("lock wait in milliseconds", *wait_ms, LOCK_WAIT_MS_MAX)?;
    if let Share::Permit { of } = share {
        if of == 0 {
            return Err(Failure::Rejected(Rejection::Invalid(
                "the lock has 0 permits; give 1 or more".to_owned(),
            )));
        }
        at_most("permits of a lock", of.into(), LOCK_HOLDERS_MAX as u64)?;
    }
    session::may_own_one_more(scope, session)?;

    let key = keys::lock(scope.group, namespace, name);
    let now_ms = scope.lease_ms();
    let queued = scope.locks.queue(&key, TicketId(0)).any(|id| {
        let ticket = scope.locks.tickets.get(&id);
        ticket.is_some_and(|ticket| rows::is_live(Some(ticket.deadline_ms), now_ms))
    });
    if !scope.locks.rows.contains_key(&key[..]) {
        at_most("locks", scope.locks.rows.len() as u64 + 1, LOCKS_MAX)?;
    }
    let holders = scope.locks.holders(&key);
    if !queued && takes(holders, share) {
        let token = grant(scope, &key, &Grant { namespace, name, session, share, ttl_ms });
        return Ok(Outcome::LockAcquire { token, ttl_ms, revision: scope.revision });
    }
    if *wait_ms == 0 {
        let token = holders.first().map(|holder| holder.token);
        return Err(Failure::Rejected(Rejection::LockHeld { name: name.clone(), token }));
    }
    at_most("tickets of locks", scope.locks.tickets.len() as u64 + 1, TICKETS_MAX)?;
    let ticket = TicketId(scope.revision.0);
    let row = TicketRow {
        session,
        sequence,
        namespace: namespace.to_owned(),
        name: name.clone(),
        share,
        ttl_ms,
        deadline_ms: now_ms.saturating_add(*wait_ms),
        attachment: Some(acquire.attachment),
        state: TicketState::Waiting,
    };
    wait(scope, &key, ticket, row);
    Ok(Outcome::LockQueued { ticket })
}
