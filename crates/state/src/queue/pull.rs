//! Takes jobs that are ready, or a place among those who wait for one.

use super::{consumers, make, may_make};
use crate::limits::{CONSUMERS_MAX, JOBS_PER_CALL_MAX, PULL_WAIT_MS_MAX};
use crate::rows::{ConsumerRow, PullState, Wants};
use crate::scope::{Failure, Scope, at_most};
use crate::{Outcome, PullRequest, QueuePull, Rejection};

/// What is ready goes to whoever asks, also past those who wait: there is nobody with room while
/// anything is ready.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    pull: &QueuePull,
) -> Result<Outcome, Failure> {
    let PullRequest { queue, count, wait_ms } = &pull.request;
    may_make(scope, namespace, queue)?;
    if *count == 0 {
        return Err(Failure::Rejected(Rejection::Invalid(
            "the pull asks for 0 jobs; ask for 1 or more".to_owned(),
        )));
    }
    at_most("jobs of one pull", (*count).into(), JOBS_PER_CALL_MAX as u64)?;
    at_most("pull wait in milliseconds", *wait_ms, PULL_WAIT_MS_MAX)?;
    if *wait_ms > 0 {
        at_most("consumers", scope.queues.consumers.len() as u64 + 1, CONSUMERS_MAX)?;
    }
    let (at, _) = make(scope, namespace, queue);
    // The least there is, or it would be told that nothing is ready whatever there is.
    scope.allowance.deliveries = scope.allowance.deliveries.max(1);
    let jobs = consumers::take_more(scope, at, *count, (Vec::new(), 0))?;
    // Dead letters may have been made of what was too old.
    super::dispatch(scope, at.id)?;
    if !jobs.is_empty() || *wait_ms == 0 {
        return Ok(Outcome::QueuePull { jobs, revision: scope.revision });
    }
    let until_ms = scope.lease_ms().saturating_add(*wait_ms);
    let wants = Wants::Pull { count: *count, until_ms, state: PullState::Waiting };
    let attachment = Some(pull.attachment);
    let row = ConsumerRow { queue: at.id, session: None, attachment, wants };
    Ok(Outcome::QueuePullWaits { consumer: consumers::add(scope, row) })
}
