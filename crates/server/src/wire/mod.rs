//! Between protobuf and the domain: requests become commands, checked against the limits once;
//! outcomes become answers. Nothing behind this door sees a wire type.

pub(crate) mod auth;
pub(crate) mod bus;
pub(crate) mod cache;
pub(crate) mod cluster;
pub(crate) mod kv;
pub(crate) mod lock;
pub(crate) mod queue;
pub(crate) mod session;
pub(crate) mod txn;
pub(crate) mod watch;

use bytes::Bytes;
use quorate_proto::v1;
use quorate_state::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, LOCK_NAME_BYTES_MAX, Limits, NAMESPACE_BYTES_MAX, SESSION_WINDOW,
};
use quorate_state::{Caller, FencingToken, GroupId, LockGuard, Outcome, Sequence, SessionId};

use crate::grpc::Refused;

/// A request that is refused before anything is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// A stable upper-case word.
    pub(crate) reason: &'static str,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

fn invalid(reason: &'static str, message: impl Into<String>) -> Invalid {
    Invalid { reason, message: message.into() }
}

/// Checks a namespace's name.
fn namespace(name: String) -> Result<String, Invalid> {
    let length = name.len() as u64;
    if length > NAMESPACE_BYTES_MAX {
        return Err(invalid(
            "NAMESPACE_TOO_LONG",
            format!("the namespace is {length} bytes long, the limit is {NAMESPACE_BYTES_MAX}"),
        ));
    }
    Ok(name)
}

/// Checks a key.
fn key(key: Bytes, limits: &Limits) -> Result<Bytes, Invalid> {
    let length = key.len() as u64;
    if length == 0 {
        return Err(invalid("KEY_EMPTY", "the key is empty; a key has at least one byte"));
    }
    if length > limits.key_bytes_max {
        return Err(invalid(
            "KEY_TOO_LONG",
            format!(
                "the key is {length} bytes long, the limit is {}; put what is long into the value",
                limits.key_bytes_max
            ),
        ));
    }
    Ok(key)
}

/// Checks a value.
fn value(value: Bytes, limits: &Limits) -> Result<Bytes, Invalid> {
    let length = value.len() as u64;
    if length > limits.value_bytes_max {
        return Err(invalid(
            "VALUE_TOO_LARGE",
            format!(
                "the value is {length} bytes long, the limit is {}; split it over several keys, or store a reference to it",
                limits.value_bytes_max
            ),
        ));
    }
    Ok(value)
}

/// Checks a group's number against the one this node serves.
pub(crate) fn group(asked: u32, served: GroupId) -> Result<(), Invalid> {
    if asked == served.0 {
        return Ok(());
    }
    Err(invalid("UNKNOWN_GROUP", format!("there is no group {asked}; the only one is {served}")))
}

/// Who sends a mutation. Its parts must agree with each other.
fn caller(origin: &Option<v1::Origin>) -> Result<Caller, Invalid> {
    let Some(origin) = origin else { return Ok(Caller::Anonymous) };
    let &v1::Origin { session_id, sequence, floor, ref idempotency_key, .. } = origin;
    let wrong = |what: &str| Err(invalid("INVALID_ORIGIN", what));
    if session_id == 0 {
        if sequence != 0 || floor != 0 {
            return wrong(
                "the origin has a sequence or a floor but no session_id; open a session first",
            );
        }
        return match idempotency_key.len() as u64 {
            0 => Ok(Caller::Anonymous),
            1..=IDEMPOTENCY_KEY_BYTES_MAX => {
                Ok(Caller::Idempotency { key: idempotency_key.clone() })
            }
            length => wrong(&format!(
                "the idempotency key is {length} bytes long, the limit is {IDEMPOTENCY_KEY_BYTES_MAX}"
            )),
        };
    }
    if !idempotency_key.is_empty() {
        return wrong("the origin has both a session and an idempotency key; send one of the two");
    }
    if floor == 0 || floor > sequence {
        return wrong(&format!(
            "sequence {sequence} with floor {floor}: sequences begin at 1, and the floor is the lowest unanswered one, so at most the request's own"
        ));
    }
    if sequence - floor >= SESSION_WINDOW {
        return wrong(&format!(
            "sequence {sequence} is not in [{floor}, {floor} + {SESSION_WINDOW}): wait for answers before sending more"
        ));
    }
    Ok(Caller::Session {
        id: SessionId(session_id),
        sequence: Sequence(sequence),
        floor: Sequence(floor),
    })
}

/// The lock a mutation depends on.
fn guard(origin: Option<v1::Origin>) -> Result<Option<LockGuard>, Invalid> {
    let Some(guard) = origin.and_then(|origin| origin.guard) else { return Ok(None) };
    Ok(Some(LockGuard { name: lock_name(guard.name)?, token: FencingToken(guard.fencing_token) }))
}

/// Checks the name of a lock.
fn lock_name(name: String) -> Result<String, Invalid> {
    let length = name.len() as u64;
    if length == 0 {
        return Err(invalid("LOCK_NAME_EMPTY", "the lock's name is empty; give at least one byte"));
    }
    if length > LOCK_NAME_BYTES_MAX {
        return Err(invalid(
            "LOCK_NAME_TOO_LONG",
            format!("the lock's name is {length} bytes long, the limit is {LOCK_NAME_BYTES_MAX}"),
        ));
    }
    Ok(name)
}

/// What an outcome other than the expected one comes to.
pub(crate) fn unexpected(outcome: Outcome) -> Refused {
    match outcome {
        Outcome::Rejected(rejection) => Refused::Rejected(rejection),
        Outcome::TransactionFailed { step, rejection } => Refused::Step(step, rejection),
        Outcome::AppliedResultDropped => Refused::ResultDropped,
        other => Refused::Mismatched(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(session_id: u64, sequence: u64, floor: u64, key: &[u8]) -> Option<v1::Origin> {
        let idempotency_key = Bytes::copy_from_slice(key);
        Some(v1::Origin { session_id, sequence, floor, idempotency_key, guard: None })
    }

    #[test]
    fn an_origin_is_one_of_three() {
        assert_eq!(caller(&None), Ok(Caller::Anonymous));
        assert_eq!(caller(&origin(0, 0, 0, b"")), Ok(Caller::Anonymous));
        assert_eq!(
            caller(&origin(0, 0, 0, b"k")),
            Ok(Caller::Idempotency { key: Bytes::from_static(b"k") })
        );
        assert_eq!(
            caller(&origin(5, 3, 2, b"")),
            Ok(Caller::Session { id: SessionId(5), sequence: Sequence(3), floor: Sequence(2) })
        );
        // The last number in the window.
        assert!(caller(&origin(5, u64::MAX, u64::MAX - 1023, b"")).is_ok());
    }

    #[test]
    fn an_origin_that_contradicts_itself_is_refused() {
        for bad in [
            origin(0, 1, 0, b""),
            origin(0, 0, 1, b""),
            origin(5, 1, 1, b"k"),
            origin(5, 0, 0, b""),
            origin(5, 1, 0, b""),
            origin(5, 1, 2, b""),
            origin(5, 1025, 1, b""),
            origin(5, u64::MAX, 1, b""),
            origin(0, 0, 0, &[7; 65]),
        ] {
            assert_eq!(caller(&bad).unwrap_err().reason, "INVALID_ORIGIN", "{bad:?}");
        }
    }

    #[test]
    fn limits_are_checked_at_their_edge() {
        let limits = Limits::default();
        let bytes = |length: usize| Bytes::from(vec![b'x'; length]);
        assert_eq!(key(bytes(0), &limits).unwrap_err().reason, "KEY_EMPTY");
        assert!(key(bytes(1), &limits).is_ok());
        assert!(key(bytes(1024), &limits).is_ok());
        assert_eq!(key(bytes(1025), &limits).unwrap_err().reason, "KEY_TOO_LONG");
        assert!(value(bytes(0), &limits).is_ok());
        assert!(value(bytes(1 << 20), &limits).is_ok());
        assert_eq!(value(bytes((1 << 20) + 1), &limits).unwrap_err().reason, "VALUE_TOO_LARGE");
        assert!(namespace("n".repeat(255)).is_ok());
        assert_eq!(namespace("n".repeat(256)).unwrap_err().reason, "NAMESPACE_TOO_LONG");
        assert!(group(0, GroupId(0)).is_ok());
        assert_eq!(group(1, GroupId(0)).unwrap_err().reason, "UNKNOWN_GROUP");
    }
}
