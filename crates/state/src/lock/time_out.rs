//! Ends a wait whose time is up; the sweep calls it with the ticket's deadline gone already.

use super::{pass_on, stop_waiting, write_ticket};
use crate::keys::{self, Key};
#[cfg(feature = "planted-faults")]
use crate::planted::{Fault, is_planted};
use crate::rows::{TicketRow, TicketState};
use crate::scope::Scope;
use crate::{Event, Fatal};

/// It was passed over from its deadline on; what waited behind it may get the lock now.
pub(crate) fn apply(scope: &mut Scope<'_>, ticket_key: &[u8]) -> Result<(), Fatal> {
    #[cfg(feature = "planted-faults")]
    if is_planted(Fault::ExpiredWaiterGranted) {
        return Ok(());
    }
    let Some(Key::Ticket(id)) = keys::parse(scope.group, ticket_key) else {
        return Err(Fatal::Invariant(format!("a deadline names the ticket {ticket_key:02x?}")));
    };
    let Some(row) = scope.locks.tickets.get(&id).cloned() else {
        return Err(Fatal::Invariant(format!(
            "a deadline names ticket {id}, which does not exist"
        )));
    };
    let key = keys::lock(scope.group, &row.namespace, &row.name);
    stop_waiting(scope, &key, id);
    write_ticket(scope, id, TicketRow { state: TicketState::TimedOut, ..row });
    scope.events.push(Event::TicketChanged { id });
    pass_on(scope, &key)
}
