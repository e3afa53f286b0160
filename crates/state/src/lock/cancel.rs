//! Undoes a session's request for a lock.

use super::{drop_ticket, free, pass_on, pass_on_unblocked};
use crate::rows::{Answer, TicketState};
use crate::scope::{Failure, Scope};
use crate::session::{self, Standing};
use crate::{Caller, LockCancel, Outcome, Rejection, Sequence, keys};

/// Whatever became of the request: it waits for nothing and holds nothing afterwards. One that was
/// not applied yet never will be, because its number is taken.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    caller: &Caller,
    cancel: &LockCancel,
) -> Result<Outcome, Failure> {
    let &LockCancel { session, sequence } = cancel;
    if matches!(caller, Caller::Session { id, sequence: own, .. } if (*id, *own) == (session, sequence))
    {
        return Err(Failure::Rejected(Rejection::Invalid(
            "the request would cancel itself; name the sequence of the acquire".to_owned(),
        )));
    }
    let mut released = 0;
    match session::stand(scope, session, sequence, Sequence(0))? {
        // Then it holds nothing, or has been answered long ago and is not given up.
        Standing::Gone | Standing::TooOld { .. } => {}
        Standing::TooFar { .. } => {
            return Err(Failure::Rejected(Rejection::Invalid(format!(
                "sequence {sequence} lies beyond the session's window, so nothing was asked under it"
            ))));
        }
        Standing::Fresh => {
            let outcome = Outcome::Rejected(Rejection::Cancelled);
            session::remember(scope, session, Answer { sequence, request_hash: 0, outcome });
        }
        Standing::Answered(answer) => match answer.outcome {
            Outcome::LockAcquire { token, .. } => {
                if let Some(key) = scope.locks.held_by(session, token) {
                    released = u64::from(free(scope, &key, token)?);
                    pass_on(scope, &key)?;
                }
            }
            Outcome::LockQueued { ticket } => {
                if let Some(row) = drop_ticket(scope, ticket) {
                    let key = keys::lock(scope.group, &row.namespace, &row.name);
                    released = match row.state {
                        TicketState::Waiting => 1,
                        TicketState::Granted { token, .. } => u64::from(free(scope, &key, token)?),
                        TicketState::TimedOut => 0,
                    };
                    pass_on(scope, &key)?;
                }
                pass_on_unblocked(scope)?;
            }
            _ => {}
        },
    }
    Ok(Outcome::LockRelease { released, revision: scope.revision })
}
