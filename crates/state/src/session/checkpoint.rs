//! Records how much of leases is left.

use crate::limits::EXPIRE_PER_ENTRY_MAX;
use crate::scope::{Failure, Scope, within};
use crate::{Event, LeaseCheckpoint, LeaseId, Outcome, lock, session};

/// Sessions and locks that are gone are passed over.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    checkpoint: &LeaseCheckpoint,
) -> Result<Outcome, Failure> {
    let count = checkpoint.sessions.len() + checkpoint.locks.len();
    within("leases to record at once", count, EXPIRE_PER_ENTRY_MAX as u64)?;
    for &(id, remaining_ms) in &checkpoint.sessions {
        if session::record_remaining(scope, id, remaining_ms) {
            let lease = LeaseId::Session(id);
            scope.events.push(Event::LeaseRecorded { lease, remaining_ms });
        }
    }
    for (held, remaining_ms) in &checkpoint.locks {
        if lock::record_remaining(scope, held, *remaining_ms)? {
            let (lease, remaining_ms) = (LeaseId::Lock(held.token), *remaining_ms);
            scope.events.push(Event::LeaseRecorded { lease, remaining_ms });
        }
    }
    Ok(Outcome::Done)
}
