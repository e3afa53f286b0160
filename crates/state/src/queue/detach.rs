//! Says that a consumer, or a pull that waits, is not there any more.

use super::{consumers, dispatch, hand_back};
use crate::rows::{JobState, PullState, Wants};
use crate::scope::{Failure, Scope};
use crate::{AssignedJob, ConsumerDetach, ConsumerId, Event, Fatal, JobLease, Outcome, QueueId};

/// A consumer that is somewhere else by now is left there. It gets nothing from now on; with a
/// session it may come back, without one it has ended. What it was delivered stays leased: it may
/// be working on it.
pub(crate) fn apply(scope: &mut Scope<'_>, detach: &ConsumerDetach) -> Result<Outcome, Failure> {
    let &ConsumerDetach { consumer, attachment, delivered } = detach;
    let Some(of) = scope.queues.consumers.get(&consumer) else { return Ok(Outcome::Done) };
    if of.row.attachment != Some(attachment) {
        return Ok(Outcome::Done);
    }
    let queue = of.row.queue;
    if let Wants::Pull { state, .. } = &of.row.wants {
        let state = state.clone();
        pull(scope, consumer, queue, state)?;
    } else {
        let undelivered = consumers::held_by(scope, consumer);
        let undelivered = undelivered.into_iter().map(|(_, job)| job);
        leave(scope, consumer)?;
        give_back(scope, queue, undelivered.filter(|job| job.lease > delivered))?;
    }
    dispatch(scope, queue)?;
    Ok(Outcome::Done)
}

/// A consumer that is nowhere gets nothing.
pub(super) fn leave(scope: &mut Scope<'_>, consumer: ConsumerId) -> Result<(), Fatal> {
    let Some(of) = scope.queues.consumers.get(&consumer) else { return Ok(()) };
    let comes_back = of.row.session.is_some() || matches!(of.row.wants, Wants::Pull { .. });
    let attachment = of.row.attachment;
    match comes_back {
        true => {
            consumers::reschedule(scope, consumer, |row| row.attachment = None)?;
            // Should it be there after all, it comes back.
            if let Some(attachment) = attachment {
                scope.events.push(Event::ConsumerLeft { consumer, attachment });
            }
        }
        false => consumers::drop_consumer(scope, consumer),
    }
    Ok(())
}

/// What a pull was answered and nobody took in goes back; it waits again, for a repetition.
fn pull(
    scope: &mut Scope<'_>,
    consumer: ConsumerId,
    queue: QueueId,
    state: PullState,
) -> Result<(), Fatal> {
    if let PullState::Answered(jobs) = state {
        give_back(scope, queue, jobs.into_iter())?;
        let now_ms = scope.lease_ms();
        consumers::reschedule(scope, consumer, |row| {
            // Its time to wait is not known any more: the next call gets what is ready then, or
            // nothing.
            if let Wants::Pull { until_ms, state, .. } = &mut row.wants {
                (*until_ms, *state) = (now_ms + crate::limits::PULL_KEEP_MS, PullState::Waiting);
            }
        })?;
    }
    leave(scope, consumer)
}

fn give_back(
    scope: &mut Scope<'_>,
    queue: QueueId,
    jobs: impl Iterator<Item = AssignedJob>,
) -> Result<(), Fatal> {
    for AssignedJob { id, lease, .. } in jobs {
        let Some(at) = super::at(scope, queue) else { return Ok(()) };
        let Some(row) = super::job(scope, at.era, id)? else { continue };
        if is_leased_under(&row.state, lease) {
            hand_back(scope, at, id, &row)?;
        }
    }
    Ok(())
}

fn is_leased_under(state: &JobState, under: JobLease) -> bool {
    matches!(state, JobState::Leased { lease, .. } if *lease == under)
}
