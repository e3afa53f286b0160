//! The job is not done.

use super::{die, dispatch, failed, hand_back, leased, leave, note_failure, touched};
use crate::limits::JOB_DELAY_MS_MAX;
use crate::rows::DeathCause;
use crate::scope::{Failure, Scope, at_most};
use crate::{JobFate, Outcome, QueueNack, Verdict};

pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    nack: &QueueNack,
) -> Result<Outcome, Failure> {
    if let Verdict::Retry { delay_ms: Some(delay_ms) } = nack.verdict {
        at_most("delay in milliseconds", delay_ms, JOB_DELAY_MS_MAX)?;
    }
    let (at, row) = leased(scope, namespace, &nack.job)?;
    let id = nack.job.id;
    let fate = match nack.verdict {
        Verdict::Return => hand_back(scope, at, id, &row)?,
        Verdict::Retry { delay_ms } => {
            touched(scope, at.id)?.counts.totals.nacked += 1;
            failed(scope, at, id, &row, &nack.error, delay_ms)?
        }
        Verdict::Dead => {
            touched(scope, at.id)?.counts.totals.nacked += 1;
            let mut dead = row.clone();
            note_failure(scope, id, &mut dead, &nack.error)?;
            leave(scope, at, id, &row)?;
            die(scope, at, id, dead, DeathCause::Rejected)?;
            JobFate::Dead
        }
    };
    dispatch(scope, at.id)?;
    Ok(Outcome::QueueNack { fate, revision: scope.revision })
}
