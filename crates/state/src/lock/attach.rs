//! Says where a waiter waits now.

use super::{pass_on, ticket, write_ticket};
use crate::rows::{TicketRow, TicketState};
use crate::scope::{Failure, Scope};
use crate::{LockAttach, Outcome, keys};

/// It takes its old place. One that was granted meanwhile stays granted, from now on to the call
/// that says this: the end of the call before, which may be told of later, frees nothing then.
pub(crate) fn apply(scope: &mut Scope<'_>, attach: &LockAttach) -> Result<Outcome, Failure> {
    let id = attach.ticket;
    if !scope.locks.tickets.contains_key(&id) {
        return Ok(Outcome::Done);
    }
    let row = ticket(scope, id)?.clone();
    if row.state == TicketState::TimedOut {
        return Ok(Outcome::Done);
    }
    let key = keys::lock(scope.group, &row.namespace, &row.name);
    let waits = row.state == TicketState::Waiting;
    write_ticket(scope, id, TicketRow { attachment: Some(attach.attachment), ..row });
    if waits {
        scope.locks.enqueue(&key, id);
        pass_on(scope, &key)?;
    }
    Ok(Outcome::Done)
}
