//! What becomes of jobs, consumers and queues by themselves, in their time; the sweep calls these
//! with the deadline gone already.

use super::{At, consumers, die, dispatch, enter, lapsed, leave, remove, withdraw};
use crate::keys::{self, Key};
use crate::rows::{self, DeathCause, JobState, PullState, Wants};
use crate::scope::Scope;
use crate::{Fatal, Txn as _};

/// A job's time has come. What an old era holds is left to its end.
pub(crate) fn job(scope: &mut Scope<'_>, key: &[u8]) -> Result<(), Fatal> {
    let Some(Key::Job(era, id)) = keys::parse(scope.group, key) else {
        return Err(Fatal::Invariant(format!("a deadline names the job {key:02x?}")));
    };
    let Some(&queue) = scope.queues.eras.get(&era) else { return Ok(()) };
    let at = At { id: queue, era };
    let Some(before) = super::job(scope, era, id)? else {
        return Err(Fatal::Invariant(format!("a deadline names job {id}, which does not exist")));
    };
    let expired = !rows::is_live(before.expires_ms, scope.lease_ms());
    match before.state {
        JobState::Done { .. } => remove(scope, at, id, &before)?,
        JobState::Leased { .. } => {
            withdraw(scope, id, &before);
            lapsed(scope, at, id, &before, "")?;
        }
        JobState::Ready | JobState::Delayed | JobState::DelayedUntil { .. } if expired => {
            leave(scope, at, id, &before)?;
            die(scope, at, id, before, DeathCause::Expired)?;
        }
        JobState::Delayed | JobState::DelayedUntil { .. } => {
            let mut row = before.clone();
            row.state = JobState::Ready;
            if let JobState::DelayedUntil { .. } = before.state {
                row.ready_ms = scope.lease_ms();
            }
            leave(scope, at, id, &before)?;
            enter(scope, at, id, &row)?;
        }
        JobState::Ready => {
            return Err(Fatal::Invariant(format!(
                "a deadline names job {id}, which is ready and has not expired"
            )));
        }
    }
    dispatch(scope, queue)
}

/// A pull's wait is over, or the time that its answer was kept.
pub(crate) fn consumer(scope: &mut Scope<'_>, key: &[u8]) -> Result<(), Fatal> {
    let Some(Key::Consumer(id)) = keys::parse(scope.group, key) else {
        return Err(Fatal::Invariant(format!("a deadline names the consumer {key:02x?}")));
    };
    let wants = scope.queues.consumers.get(&id).map(|of| of.row.wants.clone());
    match wants {
        Some(Wants::Pull { state: PullState::Waiting, .. }) => {
            consumers::answer(scope, id, PullState::TimedOut)
        }
        Some(Wants::Pull { .. }) => {
            consumers::drop_consumer(scope, id);
            Ok(())
        }
        Some(Wants::Window(_)) | None => Err(Fatal::Invariant(format!(
            "a deadline names consumer {id}, which has none or does not exist"
        ))),
    }
}

/// A queue could not deliver all it might, and is looked at again.
pub(crate) fn queue(scope: &mut Scope<'_>, key: &[u8]) -> Result<(), Fatal> {
    let Some(&id) = scope.queues.names.get(key) else {
        return Err(Fatal::Invariant(format!("a deadline names the queue {key:02x?}")));
    };
    super::touched(scope, id)?.counts.wake_ms = None;
    dispatch(scope, id)
}

/// The window of a dedupe key is over.
pub(crate) fn dedupe(scope: &mut Scope<'_>, key: &[u8]) {
    scope.queues.counted.dedupe_keys -= 1;
    scope.txn.delete(key);
}
