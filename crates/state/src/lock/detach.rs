//! Says that calls ended before they were answered.

use super::{free, pass_on, wait, write_ticket};
use crate::limits::LOCK_DETACH_PER_ENTRY_MAX;
use crate::rows::{self, TicketRow, TicketState};
use crate::scope::{Failure, Scope, within};
use crate::{Attachment, Event, Fatal, LockDetach, Outcome, TicketId, keys};

/// A waiter that waits somewhere else by now is left there.
pub(crate) fn apply(scope: &mut Scope<'_>, detach: &LockDetach) -> Result<Outcome, Failure> {
    within("calls to detach at once", detach.calls.len(), LOCK_DETACH_PER_ENTRY_MAX as u64)?;
    for &(id, attachment) in &detach.calls {
        one(scope, id, attachment)?;
    }
    Ok(Outcome::Done)
}

fn one(scope: &mut Scope<'_>, id: TicketId, attachment: Attachment) -> Result<(), Fatal> {
    let Some(row) = scope.locks.tickets.get(&id) else { return Ok(()) };
    if row.attachment != Some(attachment) {
        return Ok(());
    }
    let row = row.clone();
    let key = keys::lock(scope.group, &row.namespace, &row.name);
    match row.state {
        TicketState::TimedOut => {}
        TicketState::Waiting => from_queue(scope, id),
        // The call it was granted to never heard of it: it waits again, at its old place, unless
        // its time is up.
        TicketState::Granted { token, .. } => {
            if free(scope, &key, token)? {
                let in_time = rows::is_live(Some(row.deadline_ms), scope.lease_ms());
                let row = TicketRow { attachment: None, ..row };
                if in_time {
                    wait(scope, &key, id, TicketRow { state: TicketState::Waiting, ..row });
                } else {
                    write_ticket(scope, id, TicketRow { state: TicketState::TimedOut, ..row });
                }
                scope.events.push(Event::TicketChanged { id });
            }
        }
    }
    pass_on(scope, &key)
}

/// Takes a waiter out of the queue; it keeps its place for when it comes back.
pub(super) fn from_queue(scope: &mut Scope<'_>, id: TicketId) {
    let Some(row) = scope.locks.tickets.get(&id).cloned() else { return };
    let key = keys::lock(scope.group, &row.namespace, &row.name);
    scope.locks.dequeue(&key, id);
    write_ticket(scope, id, TicketRow { attachment: None, ..row });
    scope.events.push(Event::TicketChanged { id });
}
