//! The one table from what went wrong to what a caller sees: gRPC code, reason word, whether the
//! mutation can still have an effect, and the text.
//!
//! `not_applied` speaks of the attempt that is answered. A client that sent the same
//! (session, sequence) or idempotency key before, and never had an answer, must take
//! `SESSION_EXPIRED` as unknown: the earlier attempt may have been applied while the session lived.

use crate::access::Denied;
use crate::wire::Invalid;
use quorate_consensus::{Failure, Reason};
use quorate_proto::metadata::{OLDEST_REVISION, OUTCOME, REASON, VERSION};
use quorate_state::{Fatal, Rejection, Revision, TransactionStep};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// The mutation has no effect, now or later.
pub(crate) const NOT_APPLIED: &str = "not_applied";
/// The mutation may have, or may yet have, an effect.
pub(crate) const UNKNOWN: &str = "unknown";

/// Why a call is not answered with what it asked for.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The request is not well formed, or past a limit: never proposed.
    Invalid(Invalid),
    /// The state machine refused it.
    Rejected(Rejection),
    /// The state machine refused a transaction because of this part of it.
    Step(TransactionStep, Rejection),
    /// It did not get through the log, or the read had no quorum.
    Failed(Failure),
    /// It was applied before, and its answer was too large to be remembered.
    ResultDropped,
    /// A watch can't have all that it asks for.
    Compacted {
        /// From here on it can.
        oldest: Revision,
    },
    /// A lock was not granted in time; nothing is held.
    WaitTimeout,
    /// A lock was not granted because its request was cancelled, or its session ended.
    WaitCancelled,
    /// The call's time was over before that of the wait for a lock.
    StillWaiting,
    /// The call is over before a pull was answered that waits.
    PullWaiting,
    /// Nobody subscribes to this channel, to which a request was made.
    NoSubscribers(String),
    /// Nobody answered a request on this channel in time.
    NoReply(String),
    /// Nobody waits for this answer.
    NoRequest,
    /// Another caller's building of a value failed, for this reason.
    BuildFailed(String),
    /// The call is over before the value was built.
    StillBuilding,
    /// It is not known who asks, or he may not do this.
    Denied(Denied),
    /// This node's tables can't be read.
    Unreadable(String),
    /// The replica answered with the outcome of another command; a bug that must be seen.
    Mismatched(String),
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Fatal> for Refused {
    fn from(fatal: Fatal) -> Self {
        Self::Unreadable(fatal.to_string())
    }
}

/// A row of the table.
struct Row {
    code: Code,
    reason: &'static str,
    outcome: &'static str,
    message: String,
    version: Option<u64>,
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let row = match refused {
            Refused::Invalid(invalid) => Row {
                code: Code::InvalidArgument,
                reason: invalid.reason,
                outcome: NOT_APPLIED,
                message: invalid.message,
                version: None,
            },
            Refused::Rejected(rejection) => rejected(&rejection),
            Refused::Step(step, rejection) => {
                let row = rejected(&rejection);
                let message = format!("{step}: {}; nothing of the transaction happened", row.message);
                Row { message, ..row }
            }
            Refused::Failed(failure) => failed(failure),
            // Nothing says "applied" in the protocol, and nothing but the answer is missing; a
            // client must neither repeat the call nor take it for undone.
            Refused::ResultDropped => Row {
                code: Code::AlreadyExists,
                reason: "RESULT_DROPPED",
                outcome: UNKNOWN,
                message: "this request was applied before, but its answer was too large to be remembered; read the state instead of repeating it".to_owned(),
                version: None,
            },
            Refused::Compacted { oldest } => return compacted(oldest),
            Refused::Denied(denied) => {
                let (code, reason, message) = denied_as(denied);
                Row { code, reason, outcome: NOT_APPLIED, message, version: None }
            }
            Refused::WaitTimeout => Row {
                code: Code::DeadlineExceeded,
                reason: "LOCK_WAIT_TIMEOUT",
                outcome: NOT_APPLIED,
                message: "timeout: the lock was not free in the time it was waited for, and is not held; wait longer, or look who holds it (inspect)".to_owned(),
                version: None,
            },
            Refused::WaitCancelled => Row {
                code: Code::Aborted,
                reason: "LOCK_WAIT_CANCELLED",
                outcome: NOT_APPLIED,
                message: "the wait for the lock was cancelled, or its session ended; nothing is held".to_owned(),
                version: None,
            },
            // Asked again under the same sequence it waits on, and may have been granted.
            Refused::StillWaiting => Row {
                code: Code::Unavailable,
                reason: "LOCK_WAITING",
                outcome: UNKNOWN,
                message: "the call is over, the wait for the lock is not: ask again under the same session and sequence to go on, or cancel it".to_owned(),
                version: None,
            },
            // Asked again it waits on; what it was given goes back meanwhile.
            Refused::PullWaiting => Row {
                code: Code::Unavailable,
                reason: "PULL_WAITING",
                outcome: UNKNOWN,
                message: "the call is over, the wait for jobs is not: ask again under the same session and sequence, or idempotency key, to go on; without one nothing was taken".to_owned(),
                version: None,
            },
            // It was published, but nobody was there.
            Refused::NoSubscribers(channel) => Row {
                code: Code::Unavailable,
                reason: "NO_SUBSCRIBERS",
                outcome: NOT_APPLIED,
                message: format!("nobody subscribes to channel {channel:?}, so nobody will answer; start who answers first, and look at quorate bus channels"),
                version: None,
            },
            Refused::NoReply(channel) => Row {
                code: Code::DeadlineExceeded,
                reason: "NO_REPLY",
                outcome: UNKNOWN,
                message: format!("nobody answered the request on channel {channel:?} in time; it may have been received"),
                version: None,
            },
            Refused::NoRequest => Row {
                code: Code::NotFound,
                reason: "NO_REQUEST",
                outcome: NOT_APPLIED,
                message: "nobody waits for this answer any more: there was one before, or its time is over".to_owned(),
                version: None,
            },
            Refused::BuildFailed(why) => Row {
                code: Code::Aborted,
                reason: "BUILD_FAILED",
                outcome: NOT_APPLIED,
                message: format!("the value could not be built: {why}"),
                version: None,
            },
            // It may have been given the task just then; asked again it gets the same.
            Refused::StillBuilding => Row {
                code: Code::Unavailable,
                reason: "STILL_BUILDING",
                outcome: UNKNOWN,
                message: "the value is still being built by another caller, or the task was given just when the call's time was over; ask again under the same session and sequence, or idempotency key".to_owned(),
                version: None,
            },
            // Another node can answer, and clients go there on UNAVAILABLE.
            Refused::Unreadable(fatal) => Row {
                code: Code::Unavailable,
                reason: "STORAGE",
                outcome: NOT_APPLIED,
                message: format!("this node can't read its state: {fatal}; ask another node, and look at this one's disk and log"),
                version: None,
            },
            Refused::Mismatched(what) => Row {
                code: Code::Internal,
                reason: "INTERNAL",
                outcome: UNKNOWN,
                message: format!("the answer does not fit the request ({what}); this is a bug"),
                version: None,
            },
        };
        status(row)
    }
}

fn status(row: Row) -> Status {
    let mut metadata = MetadataMap::with_capacity(3);
    metadata.insert(OUTCOME, MetadataValue::from_static(row.outcome));
    metadata.insert(REASON, MetadataValue::from_static(row.reason));
    if let Some(version) = row.version {
        metadata.insert(VERSION, MetadataValue::from(version));
    }
    Status::with_metadata(row.code, row.message, metadata)
}

/// A call that was refused before anybody looked into it.
pub(crate) fn not_applied(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    status(Row { code, reason, outcome: NOT_APPLIED, message: message.into(), version: None })
}

/// A watch that can't go on, here or elsewhere.
fn compacted(oldest: Revision) -> Status {
    let message = format!(
        "the changes asked for are no longer in the history, which begins at revision {oldest}; \
         list the keys, and watch from the list's revision plus one"
    );
    let mut status = not_applied(Code::OutOfRange, "COMPACTED", message);
    status.metadata_mut().insert(OLDEST_REVISION, MetadataValue::from(oldest.0));
    status
}

fn denied_as(denied: Denied) -> (Code, &'static str, String) {
    match denied {
        Denied::Unknown(why) => (Code::Unauthenticated, "UNAUTHENTICATED", why),
        Denied::Forbidden(why) => (Code::PermissionDenied, "FORBIDDEN", why),
        Denied::Unable(why) => (Code::Unavailable, "ACCESS_UNKNOWN", why),
    }
}

/// A stream that was ended because its caller may not have it any more.
pub(crate) fn denied_now(denied: Denied) -> Status {
    let (code, reason, message) = denied_as(denied);
    ended(code, reason, message)
}

/// A stream that was ended, whatever its calls were at.
pub(crate) fn ended(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    status(Row { code, reason, outcome: UNKNOWN, message: message.into(), version: None })
}

fn rejected(rejection: &Rejection) -> Row {
    let mut version = None;
    let (code, reason, outcome) = match rejection {
        Rejection::LimitExceeded { what, .. } => match what.as_str() {
            "key bytes" => (Code::InvalidArgument, "KEY_TOO_LONG", NOT_APPLIED),
            "value bytes" => (Code::InvalidArgument, "VALUE_TOO_LARGE", NOT_APPLIED),
            "pattern bytes" | "key prefix bytes" | "cursor bytes" => {
                (Code::InvalidArgument, "INVALID_PATTERN", NOT_APPLIED)
            }
            _ => (Code::ResourceExhausted, "LIMIT_EXCEEDED", NOT_APPLIED),
        },
        Rejection::Invalid(_) => (Code::InvalidArgument, "INVALID", NOT_APPLIED),
        Rejection::ConditionFailed { version: actual } => {
            version = *actual;
            (Code::FailedPrecondition, "CONDITION_FAILED", NOT_APPLIED)
        }
        Rejection::NotANumber => (Code::FailedPrecondition, "NOT_A_NUMBER", NOT_APPLIED),
        Rejection::Overflow => (Code::OutOfRange, "OVERFLOW", NOT_APPLIED),
        Rejection::SessionExpired(_) => (Code::NotFound, "SESSION_EXPIRED", NOT_APPLIED),
        // Below the floor lie requests that were answered, so this one may have been applied.
        Rejection::SequenceTooOld { .. } => (Code::FailedPrecondition, "SEQUENCE_TOO_OLD", UNKNOWN),
        Rejection::SequenceTooFar { .. } => {
            (Code::ResourceExhausted, "SEQUENCE_TOO_FAR", NOT_APPLIED)
        }
        Rejection::RequestMismatch(_) => (Code::InvalidArgument, "REQUEST_MISMATCH", NOT_APPLIED),
        Rejection::LockLost { .. } => (Code::FailedPrecondition, "LOCK_LOST", NOT_APPLIED),
        Rejection::LockHeld { .. } => (Code::FailedPrecondition, "LOCK_HELD", NOT_APPLIED),
        Rejection::BuildLeaseLost { .. } => {
            (Code::FailedPrecondition, "BUILD_LEASE_LOST", NOT_APPLIED)
        }
        Rejection::CacheFull { .. } => (Code::ResourceExhausted, "CACHE_FULL", NOT_APPLIED),
        Rejection::Cancelled => (Code::Aborted, "LOCK_WAIT_CANCELLED", NOT_APPLIED),
        Rejection::QueueFull { .. } => (Code::ResourceExhausted, "QUEUE_FULL", NOT_APPLIED),
        Rejection::QueueUnknown { .. } => (Code::NotFound, "QUEUE_UNKNOWN", NOT_APPLIED),
        Rejection::JobUnknown { .. } => (Code::NotFound, "JOB_UNKNOWN", NOT_APPLIED),
        Rejection::JobLeaseLost { .. } => (Code::FailedPrecondition, "JOB_LEASE_LOST", NOT_APPLIED),
        Rejection::ConsumerGone(_) => (Code::NotFound, "CONSUMER_GONE", NOT_APPLIED),
        Rejection::TokenUnknown => (Code::PermissionDenied, "JOIN_TOKEN_UNKNOWN", NOT_APPLIED),
        Rejection::MemberConflict(_) => (Code::FailedPrecondition, "MEMBER_CONFLICT", NOT_APPLIED),
        Rejection::AccessRoleUnknown { .. } => (Code::NotFound, "ACCESS_ROLE_UNKNOWN", NOT_APPLIED),
        Rejection::AccessConflict(_) => (Code::FailedPrecondition, "ACCESS_CONFLICT", NOT_APPLIED),
    };
    Row { code, reason, outcome, message: rejection.to_string(), version }
}

fn failed(failure: Failure) -> Row {
    let code = match failure.reason {
        Reason::NoLeader
        | Reason::NotLeader
        | Reason::Deadline
        | Reason::ShuttingDown
        | Reason::LeaderChanged
        | Reason::Fatal => Code::Unavailable,
        Reason::Overloaded | Reason::DiskFull => Code::ResourceExhausted,
        Reason::SessionExpired | Reason::LockLost => Code::NotFound,
        Reason::FeatureLevel => Code::FailedPrecondition,
    };
    Row {
        code,
        reason: failure.reason.as_str(),
        outcome: if failure.unknown { UNKNOWN } else { NOT_APPLIED },
        message: failure.message,
        version: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::{ConsumerId, FencingToken, JobId, JobLease, Sequence, SessionId};

    fn seen(refused: Refused) -> (Code, String, String, Option<String>) {
        let status = Status::from(refused);
        let word = |name| status.metadata().get(name).map(|v| v.to_str().unwrap().to_owned());
        assert!(!status.message().is_empty());
        (status.code(), word(REASON).unwrap(), word(OUTCOME).unwrap(), word(VERSION))
    }

    fn row(
        code: Code,
        reason: &str,
        outcome: &str,
        version: Option<&str>,
    ) -> (Code, String, String, Option<String>) {
        (code, reason.to_owned(), outcome.to_owned(), version.map(str::to_owned))
    }

    #[test]
    fn every_rejection_has_its_row() {
        let limit = |what: &str| {
            Refused::Rejected(Rejection::LimitExceeded { what: what.into(), actual: 2, limit: 1 })
        };
        let no = NOT_APPLIED;
        for (rejected, expected) in [
            (limit("key bytes"), row(Code::InvalidArgument, "KEY_TOO_LONG", no, None)),
            (limit("value bytes"), row(Code::InvalidArgument, "VALUE_TOO_LARGE", no, None)),
            (limit("sessions"), row(Code::ResourceExhausted, "LIMIT_EXCEEDED", no, None)),
            (
                Refused::Rejected(Rejection::Invalid("the key is empty".into())),
                row(Code::InvalidArgument, "INVALID", no, None),
            ),
            (
                Refused::Rejected(Rejection::ConditionFailed { version: Some(7) }),
                row(Code::FailedPrecondition, "CONDITION_FAILED", no, Some("7")),
            ),
            (
                Refused::Rejected(Rejection::ConditionFailed { version: None }),
                row(Code::FailedPrecondition, "CONDITION_FAILED", no, None),
            ),
            (
                Refused::Rejected(Rejection::NotANumber),
                row(Code::FailedPrecondition, "NOT_A_NUMBER", no, None),
            ),
            (Refused::Rejected(Rejection::Overflow), row(Code::OutOfRange, "OVERFLOW", no, None)),
            (
                Refused::Rejected(Rejection::SessionExpired(SessionId(9))),
                row(Code::NotFound, "SESSION_EXPIRED", no, None),
            ),
            (
                Refused::Rejected(Rejection::SequenceTooOld {
                    sequence: Sequence(1),
                    floor: Sequence(2),
                }),
                row(Code::FailedPrecondition, "SEQUENCE_TOO_OLD", UNKNOWN, None),
            ),
            (
                Refused::Rejected(Rejection::SequenceTooFar {
                    sequence: Sequence(5000),
                    floor: Sequence(1),
                    window: 1024,
                }),
                row(Code::ResourceExhausted, "SEQUENCE_TOO_FAR", no, None),
            ),
            (
                Refused::Rejected(Rejection::LockLost { name: "l".into(), token: FencingToken(1) }),
                row(Code::FailedPrecondition, "LOCK_LOST", no, None),
            ),
            (
                Refused::Rejected(Rejection::LockHeld { name: "l".into(), token: None }),
                row(Code::FailedPrecondition, "LOCK_HELD", no, None),
            ),
            (
                Refused::Rejected(Rejection::Cancelled),
                row(Code::Aborted, "LOCK_WAIT_CANCELLED", no, None),
            ),
            (
                Refused::Rejected(Rejection::QueueFull { queue: "q".into(), limit: 7 }),
                row(Code::ResourceExhausted, "QUEUE_FULL", no, None),
            ),
            (
                Refused::Rejected(Rejection::QueueUnknown { queue: "q".into() }),
                row(Code::NotFound, "QUEUE_UNKNOWN", no, None),
            ),
            (
                Refused::Rejected(Rejection::JobUnknown { queue: "q".into(), id: JobId(7) }),
                row(Code::NotFound, "JOB_UNKNOWN", no, None),
            ),
            (
                Refused::Rejected(Rejection::JobLeaseLost { id: JobId(7), lease: JobLease(9) }),
                row(Code::FailedPrecondition, "JOB_LEASE_LOST", no, None),
            ),
            (
                Refused::Rejected(Rejection::ConsumerGone(ConsumerId(7))),
                row(Code::NotFound, "CONSUMER_GONE", no, None),
            ),
            (
                Refused::Rejected(Rejection::RequestMismatch("idempotency key".into())),
                row(Code::InvalidArgument, "REQUEST_MISMATCH", no, None),
            ),
        ] {
            assert_eq!(seen(rejected), expected);
        }
    }

    #[test]
    fn a_step_is_refused_with_its_own_row_and_its_place() {
        let rejection = Rejection::ConditionFailed { version: Some(7) };
        let refused = || Refused::Step(TransactionStep::Then(3), rejection.clone());
        let expected = row(Code::FailedPrecondition, "CONDITION_FAILED", NOT_APPLIED, Some("7"));
        assert_eq!(seen(refused()), expected);
        let message = Status::from(refused()).message().to_owned();
        assert!(message.starts_with("then[3]: condition failed: "), "{message}");
    }

    #[test]
    fn every_failure_has_its_row_and_tells_unknown_from_failed() {
        for (reason, code) in [
            (Reason::NoLeader, Code::Unavailable),
            (Reason::NotLeader, Code::Unavailable),
            (Reason::Deadline, Code::Unavailable),
            (Reason::ShuttingDown, Code::Unavailable),
            (Reason::LeaderChanged, Code::Unavailable),
            (Reason::Fatal, Code::Unavailable),
            (Reason::Overloaded, Code::ResourceExhausted),
            (Reason::DiskFull, Code::ResourceExhausted),
            (Reason::SessionExpired, Code::NotFound),
            (Reason::LockLost, Code::NotFound),
            (Reason::FeatureLevel, Code::FailedPrecondition),
        ] {
            for (unknown, outcome) in [(true, UNKNOWN), (false, NOT_APPLIED)] {
                let failure = Failure { unknown, reason, message: "no quorum".into() };
                let expected = row(code, reason.as_str(), outcome, None);
                assert_eq!(seen(Refused::Failed(failure)), expected);
            }
        }
    }

    #[test]
    fn waits_have_their_rows() {
        for (refused, code, reason, outcome) in [
            (Refused::WaitTimeout, Code::DeadlineExceeded, "LOCK_WAIT_TIMEOUT", NOT_APPLIED),
            (Refused::WaitCancelled, Code::Aborted, "LOCK_WAIT_CANCELLED", NOT_APPLIED),
            (Refused::StillWaiting, Code::Unavailable, "LOCK_WAITING", UNKNOWN),
            (Refused::PullWaiting, Code::Unavailable, "PULL_WAITING", UNKNOWN),
        ] {
            assert_eq!(seen(refused), row(code, reason, outcome, None));
        }
        assert!(Status::from(Refused::WaitTimeout).message().contains("timeout"));
    }

    #[test]
    fn the_rest_has_its_rows() {
        assert_eq!(
            seen(Refused::ResultDropped),
            row(Code::AlreadyExists, "RESULT_DROPPED", UNKNOWN, None)
        );
        let status = Status::from(Refused::Compacted { oldest: Revision(8_193) });
        assert_eq!(status.metadata().get(OLDEST_REVISION).unwrap(), "8193");
        assert!(status.message().contains("8193"));
        assert_eq!(
            seen(Refused::Compacted { oldest: Revision(8_193) }),
            row(Code::OutOfRange, "COMPACTED", NOT_APPLIED, None)
        );
        let invalid = Invalid { reason: "KEY_EMPTY", message: "the key is empty".into() };
        assert_eq!(
            seen(Refused::Invalid(invalid)),
            row(Code::InvalidArgument, "KEY_EMPTY", NOT_APPLIED, None)
        );
        assert_eq!(
            seen(Refused::Mismatched("Done".into())),
            row(Code::Internal, "INTERNAL", UNKNOWN, None)
        );
    }
}
