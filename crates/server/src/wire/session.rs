//! Session requests and answers.

use super::{Invalid, caller, guard, invalid, namespace, unexpected};
use crate::grpc::Refused;
use quorate_proto::v1;
use quorate_state::limits::{SESSION_TTL_MS_DEFAULT, SESSION_TTL_MS_MAX, SESSION_TTL_MS_MIN};
use quorate_state::query::SessionOwner;
use quorate_state::{
    Caller, Command, Envelope, GroupId, Outcome, SessionClose, SessionId, SessionOpen,
};

pub(crate) fn open(request: v1::OpenRequest) -> Result<Envelope, Invalid> {
    let ttl_ms = match request.ttl_ms {
        0 => SESSION_TTL_MS_DEFAULT,
        ttl_ms if (SESSION_TTL_MS_MIN..=SESSION_TTL_MS_MAX).contains(&ttl_ms) => ttl_ms,
        ttl_ms => {
            return Err(invalid(
                "INVALID_TTL",
                format!(
                    "a session ttl of {ttl_ms} ms is out of range; it must be from {SESSION_TTL_MS_MIN} to {SESSION_TTL_MS_MAX} ms"
                ),
            ));
        }
    };
    let caller = caller(&request.origin)?;
    let guard = guard(request.origin)?;
    if matches!(caller, Caller::Session { .. }) {
        return Err(invalid(
            "INVALID_ORIGIN",
            "a session is opened outside any other; of the origin only idempotency_key may be set",
        ));
    }
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller,
        guard,
        command: Command::SessionOpen(SessionOpen { ttl_ms }),
    })
}

pub(crate) fn opened(outcome: Outcome, group: GroupId) -> Result<v1::OpenResponse, Refused> {
    match outcome {
        Outcome::SessionOpen { id, ttl_ms } => {
            Ok(v1::OpenResponse { session_id: id.0, ttl_ms, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn keep_alive(request: v1::KeepAliveRequest) -> Result<SessionId, Invalid> {
    namespace(request.namespace)?;
    session(request.session_id)
}

/// Sessions of a page, and those above which.
pub(crate) fn list(request: &v1::ListSessionsRequest) -> Result<(usize, SessionId), Invalid> {
    namespace(request.namespace.clone())?;
    let limit = match request.limit {
        0 => 100,
        some => some.min(1_000) as usize,
    };
    Ok((limit, SessionId(request.after_session_id)))
}

pub(crate) fn entry(owner: SessionOwner) -> v1::SessionEntry {
    let SessionOwner { session, locks, keys } = owner;
    v1::SessionEntry { session_id: session.id.0, ttl_ms: session.ttl_ms, locks, keys }
}

pub(crate) fn close(request: v1::CloseRequest) -> Result<Envelope, Invalid> {
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: Caller::Anonymous,
        guard: None,
        command: Command::SessionClose(SessionClose { id: session(request.session_id)? }),
    })
}

pub(crate) fn closed(outcome: Outcome) -> Result<v1::CloseResponse, Refused> {
    match outcome {
        Outcome::SessionClose { closed } => Ok(v1::CloseResponse { closed }),
        other => Err(unexpected(other)),
    }
}

fn session(id: u64) -> Result<SessionId, Invalid> {
    match id {
        0 => {
            Err(invalid("INVALID_SESSION", "session_id is 0; name the session that Open answered"))
        }
        id => Ok(SessionId(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_has_bounds_and_a_default() {
        let ttl = |ttl_ms| {
            open(v1::OpenRequest { ttl_ms, ..Default::default() }).map(|envelope| {
                let Command::SessionOpen(command) = envelope.command else { panic!("not an open") };
                command.ttl_ms
            })
        };
        assert_eq!(ttl(0), Ok(30_000));
        assert_eq!(ttl(1_000), Ok(1_000));
        assert_eq!(ttl(3_600_000), Ok(3_600_000));
        for wrong in [1, 999, 3_600_001, u64::MAX] {
            assert_eq!(ttl(wrong).unwrap_err().reason, "INVALID_TTL");
        }
    }

    #[test]
    fn a_session_is_not_opened_within_a_session() {
        let origin = v1::Origin { session_id: 4, sequence: 1, floor: 1, ..Default::default() };
        let request = v1::OpenRequest { origin: Some(origin), ..Default::default() };
        assert_eq!(open(request).unwrap_err().reason, "INVALID_ORIGIN");
    }

    #[test]
    fn the_session_must_be_named() {
        assert_eq!(keep_alive(Default::default()).unwrap_err().reason, "INVALID_SESSION");
        assert_eq!(close(Default::default()).unwrap_err().reason, "INVALID_SESSION");
        let request = v1::KeepAliveRequest { session_id: 9, ..Default::default() };
        assert_eq!(keep_alive(request), Ok(SessionId(9)));
        assert!(closed(Outcome::SessionClose { closed: true }).unwrap().closed);
        assert!(matches!(opened(Outcome::Done, GroupId(0)), Err(Refused::Mismatched(_))));
    }
}
