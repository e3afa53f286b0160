//! A session's numbered requests.

use super::{Admission, Slot};
use crate::limits::SESSION_WINDOW;
#[cfg(feature = "planted-faults")]
use crate::planted::{Fault, is_planted};
use crate::scope::Scope;
use crate::session::{self, Standing};
use crate::{Fatal, Outcome, Rejection, Sequence, SessionId};

pub(super) fn admit(
    scope: &mut Scope<'_>,
    id: SessionId,
    sequence: Sequence,
    floor: Sequence,
    request_hash: u64,
) -> Result<Admission, Fatal> {
    let rejection = match session::stand(scope, id, sequence, floor)? {
        Standing::Fresh => {
            return Ok(Admission::Fresh(Slot::Session { id, sequence, request_hash }));
        }
        #[cfg(feature = "planted-faults")]
        Standing::Answered(_) if is_planted(Fault::DedupeSkipped) => {
            return Ok(Admission::Fresh(Slot::Nowhere));
        }
        Standing::Answered(answer) if answer.request_hash == request_hash => {
            return Ok(Admission::Answered(answer.outcome));
        }
        // It was cancelled before it came, by whoever did not know what it looks like.
        Standing::Answered(answer) if answer.outcome == Outcome::Rejected(Rejection::Cancelled) => {
            Rejection::Cancelled
        }
        Standing::Answered(_) => Rejection::RequestMismatch("sequence".to_owned()),
        Standing::Gone => Rejection::SessionExpired(id),
        Standing::TooOld { floor } => Rejection::SequenceTooOld { sequence, floor },
        Standing::TooFar { floor } => {
            Rejection::SequenceTooFar { sequence, floor, window: SESSION_WINDOW }
        }
    };
    Ok(Admission::Answered(Outcome::Rejected(rejection)))
}
