//! Makes a lease of a job last longer.

use super::{leased, queue, turn};
use crate::limits::JOB_VISIBILITY_MS_MAX;
use crate::rows::JobState;
use crate::scope::{Failure, Scope, at_most};
use crate::{Outcome, QueueExtend, Rejection};

/// It is counted from now on, so it may also be made shorter.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    extend: &QueueExtend,
) -> Result<Outcome, Failure> {
    at_most("extension in milliseconds", extend.for_ms.unwrap_or(0), JOB_VISIBILITY_MS_MAX)?;
    if extend.for_ms == Some(0) {
        return Err(Failure::Rejected(Rejection::Invalid(
            "the extension is 0 ms; give 1 ms or more, or nack the job to give it back".to_owned(),
        )));
    }
    let (at, before) = leased(scope, namespace, &extend.job)?;
    let lease_ms = match extend.for_ms {
        Some(for_ms) => for_ms,
        None => queue(scope, at.id)?.row.options.visibility_ms,
    };
    let mut row = before.clone();
    if let JobState::Leased { until_ms, .. } = &mut row.state {
        *until_ms = scope.lease_ms().saturating_add(lease_ms);
    }
    turn(scope, at, extend.job.id, &before, &row)?;
    Ok(Outcome::QueueExtend { lease_ms, revision: scope.revision })
}
