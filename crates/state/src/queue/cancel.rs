//! Takes a job out of a queue, whatever it is doing.

use super::{dispatch, find, job, remove, touched, withdraw};
use crate::rows::JobState;
use crate::scope::{Failure, Scope};
use crate::{Outcome, QueueCancel};

/// Who works on it is told, and its acknowledgement will be refused. What is done already stays so.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    cancel: &QueueCancel,
) -> Result<Outcome, Failure> {
    let at = find(scope, namespace, &cancel.queue)?;
    let row = job(scope, at.era, cancel.id)?;
    let revision = scope.revision;
    let Some(row) = row.filter(|row| !matches!(row.state, JobState::Done { .. })) else {
        return Ok(Outcome::QueueCancel { cancelled: false, was_leased: false, revision });
    };
    let was_leased = matches!(row.state, JobState::Leased { .. });
    withdraw(scope, cancel.id, &row);
    remove(scope, at, cancel.id, &row)?;
    touched(scope, at.id)?.counts.totals.cancelled += 1;
    dispatch(scope, at.id)?;
    Ok(Outcome::QueueCancel { cancelled: true, was_leased, revision })
}
