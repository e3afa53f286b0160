//! Opens a session.

use crate::limits::{SESSION_TTL_MS_MAX, SESSION_TTL_MS_MIN, SESSIONS_MAX};
use crate::rows::SessionRow;
use crate::scope::{Failure, Scope, at_most};
use crate::{Event, Outcome, Rejection, Sequence, SessionId, SessionOpen, Txn, codec, keys};

/// The id is the revision of this command, so no two sessions ever share one.
pub(crate) fn apply(scope: &mut Scope<'_>, open: &SessionOpen) -> Result<Outcome, Failure> {
    let ttl_ms = open.ttl_ms;
    if ttl_ms < SESSION_TTL_MS_MIN {
        return Err(Failure::Rejected(Rejection::Invalid(format!(
            "the session's ttl is {ttl_ms} ms, the least is {SESSION_TTL_MS_MIN} ms"
        ))));
    }
    at_most("session ttl in milliseconds", ttl_ms, SESSION_TTL_MS_MAX)?;
    at_most("open sessions", scope.meta.sessions + 1, SESSIONS_MAX)?;

    let id = SessionId(scope.revision.0);
    let row = SessionRow { ttl_ms, remaining_ms: None, floor: Sequence(1), recent: Vec::new() };
    scope.txn.put(&keys::session(scope.group, id), &codec::encode(&row));
    scope.sessions.insert(id, row);
    scope.meta.sessions += 1;
    scope.events.push(Event::SessionOpened { id, ttl_ms });
    Ok(Outcome::SessionOpen { id, ttl_ms })
}
