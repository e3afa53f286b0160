//! Says that nobody waits on a node any more.

use super::detach::from_queue;
use super::pass_on;
use crate::limits::LOCK_DETACH_PER_ENTRY_MAX;
use crate::rows::TicketState;
use crate::scope::{Failure, Scope};
use crate::{LockDetachNode, Outcome, TicketId, keys};
use std::collections::BTreeSet;

/// What was granted already stays granted: its caller may have heard of it.
pub(crate) fn apply(scope: &mut Scope<'_>, detach: &LockDetachNode) -> Result<Outcome, Failure> {
    let there = scope.locks.tickets.iter().filter(|(_, row)| {
        row.state == TicketState::Waiting
            && row.attachment.is_some_and(|attachment| attachment.node == detach.node)
    });
    let mut there: Vec<TicketId> =
        there.map(|(id, _)| *id).take(LOCK_DETACH_PER_ENTRY_MAX + 1).collect();
    let more = there.len() > LOCK_DETACH_PER_ENTRY_MAX;
    there.truncate(LOCK_DETACH_PER_ENTRY_MAX);
    let mut left = BTreeSet::new();
    for id in there {
        if let Some(row) = scope.locks.tickets.get(&id) {
            left.insert(keys::lock(scope.group, &row.namespace, &row.name));
        }
        from_queue(scope, id);
    }
    for key in left {
        pass_on(scope, &key)?;
    }
    Ok(Outcome::LockDetachNode { more })
}
