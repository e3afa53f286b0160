//! The job is done.

use super::{dispatch, leased, leave, remove, touched};
use crate::rows::JobState;
use crate::scope::{Failure, Scope};
use crate::{Outcome, QueueAck};

/// Its consumer may have the next job in the same entry.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    ack: &QueueAck,
) -> Result<Outcome, Failure> {
    let (at, mut row) = leased(scope, namespace, &ack.job)?;
    let id = ack.job.id;
    let queue = touched(scope, at.id)?;
    queue.counts.totals.acked += 1;
    match queue.row.options.keep_done_ms {
        0 => remove(scope, at, id, &row)?,
        keep_ms => {
            leave(scope, at, id, &row)?;
            super::leave_group(scope, at.era, &row)?;
            let until_ms = scope.lease_ms().saturating_add(keep_ms);
            row.state = JobState::Done { until_ms };
            super::enter(scope, at, id, &row)?;
        }
    }
    dispatch(scope, at.id)?;
    Ok(Outcome::QueueAck { revision: scope.revision })
}
