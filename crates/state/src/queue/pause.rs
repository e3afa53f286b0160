//! Stops a queue's deliveries, or lets them go on.

use super::{dispatch, make, may_make, touched, write_queue};
use crate::scope::{Failure, Scope};
use crate::{Outcome, QueuePause};

/// What is leased goes on; pushes are taken.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    pause: &QueuePause,
) -> Result<Outcome, Failure> {
    may_make(scope, namespace, &pause.queue)?;
    let (at, created) = make(scope, namespace, &pause.queue);
    touched(scope, at.id)?.row.paused = pause.paused;
    write_queue(scope, at.id)?;
    dispatch(scope, at.id)?;
    Ok(Outcome::QueueUpdate { created, revision: scope.revision })
}
