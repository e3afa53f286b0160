//! Says that a consumer, or a pull that waits, is not there any more.

use super::{consumers, dispatch, hand_back};
use crate::limits::PULL_KEEP_MS;
use crate::rows::{PullState, Wants};
use crate::scope::{Failure, Scope};
use crate::{AssignedJob, ConsumerDetach, ConsumerId, Event, Fatal, Outcome, QueueId};

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
    let undelivered: Vec<AssignedJob> = match &of.row.wants {
        // What a pull was answered and nobody took in.
        Wants::Pull { state: PullState::Answered(jobs), .. } => jobs.clone(),
        Wants::Pull { .. } => Vec::new(),
        Wants::Window(_) => {
            let held = consumers::held_by(scope, consumer).into_iter().map(|(_, job)| job);
            held.filter(|job| job.lease > delivered).collect()
        }
    };
    // Before it leaves: one that has nothing left may have ended.
    give_back(scope, queue, undelivered)?;
    leave(scope, consumer)?;
    dispatch(scope, queue)?;
    Ok(Outcome::Done)
}

/// A consumer that is nowhere gets nothing. A pull is kept for a while, for a repetition of it.
pub(super) fn leave(scope: &mut Scope<'_>, consumer: ConsumerId) -> Result<(), Fatal> {
    let Some(of) = scope.queues.consumers.get(&consumer) else { return Ok(()) };
    let comes_back = match of.row.wants {
        // One that wants nothing was closed, and is there as long as it has something.
        Wants::Window(window) => of.row.session.is_some() && window.max(of.held) > 0,
        Wants::Pull { .. } => true,
    };
    let attachment = of.row.attachment;
    if !comes_back {
        consumers::drop_consumer(scope, consumer);
        return Ok(());
    }
    let keep_until_ms = scope.lease_ms().saturating_add(PULL_KEEP_MS);
    consumers::reschedule(scope, consumer, |row| {
        row.attachment = None;
        let Wants::Pull { until_ms, state, .. } = &mut row.wants else { return };
        let wait_until_ms = match state {
            PullState::Waiting => *until_ms,
            // How long it was to wait is not known any more.
            PullState::Answered(_) => keep_until_ms,
            PullState::TimedOut | PullState::Left { .. } => return,
        };
        (*until_ms, *state) = (keep_until_ms, PullState::Left { wait_until_ms });
    })?;
    // Should it be there after all, it comes back.
    if let Some(attachment) = attachment {
        scope.events.push(Event::ConsumerLeft { consumer, attachment });
    }
    Ok(())
}

fn give_back(scope: &mut Scope<'_>, queue: QueueId, jobs: Vec<AssignedJob>) -> Result<(), Fatal> {
    for AssignedJob { id, lease, .. } in jobs {
        let Some(at) = super::at(scope, queue) else { return Ok(()) };
        let Some(row) = super::job(scope, at.era, id)? else { continue };
        if row.state.is_leased_under(lease) {
            hand_back(scope, at, id, &row)?;
        }
    }
    Ok(())
}
