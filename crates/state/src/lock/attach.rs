//! Says where a waiter waits now.

use super::{pass_on, ticket, write_ticket};
use crate::rows::{TicketRow, TicketState};
use crate::scope::{Failure, Scope};
use crate::{LockAttach, Outcome, keys};

/// It takes its old place. What does not wait any more is left as it is.
pub(crate) fn apply(scope: &mut Scope<'_>, attach: &LockAttach) -> Result<Outcome, Failure> {
    let id = attach.ticket;
    if !scope.locks.tickets.contains_key(&id) {
        return Ok(Outcome::Done);
    }
    let row = ticket(scope, id)?.clone();
    if row.state == TicketState::Waiting {
        let key = keys::lock(scope.group, &row.namespace, &row.name);
        write_ticket(scope, id, TicketRow { attachment: Some(attach.attachment), ..row });
        scope.locks.locks.entry(key.clone()).or_default().queue.insert(id);
        pass_on(scope, &key)?;
    }
    Ok(Outcome::Done)
}
