//! What one failed attempt says: whether it may have had an effect, and what to do next.

use quorate_proto::metadata;
use std::error::Error as StdError;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// Bytes of a reason word that are kept; a node that sends more is not one of ours.
const REASON_BYTES_MAX: usize = 64;
/// Bytes of a message that are kept: enough for any text of ours.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// Where a failure was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A node answered it.
    Answered,
    /// No connection: the request was not sent.
    Connect,
    /// The connection broke under the request.
    Lost,
    /// The node was silent for the whole attempt.
    Silent,
    /// The deadline came before there was anything to send.
    Deadline,
}

/// A failed attempt, and at the end a failed call.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The version a key has, beside CONDITION_FAILED.
    pub(crate) version: Option<u64>,
    /// The oldest revision a watch can begin from, beside COMPACTED.
    pub(crate) oldest_revision: Option<u64>,
    /// Whether a mutation may have, or may yet have, an effect. Always false for reads.
    pub(crate) maybe_applied: bool,
}

impl Failure {
    pub(crate) fn connect(addr: &str, why: &str) -> Self {
        Self {
            cause: Cause::Connect,
            code: Code::Unavailable,
            reason: "CONNECT_FAILED".to_owned(),
            message: format!("can't connect to {addr}: {}", bounded(why, MESSAGE_BYTES_MAX)),
            version: None,
            oldest_revision: None,
            maybe_applied: false,
        }
    }

    pub(crate) fn lost(addr: &str, why: &str, mutation: bool) -> Self {
        Self {
            cause: Cause::Lost,
            code: Code::Unavailable,
            reason: "CONNECTION_LOST".to_owned(),
            message: format!("the connection to {addr} broke: {}", bounded(why, MESSAGE_BYTES_MAX)),
            version: None,
            oldest_revision: None,
            maybe_applied: mutation,
        }
    }

    pub(crate) fn silent(addr: &str, mutation: bool) -> Self {
        Self {
            cause: Cause::Silent,
            code: Code::DeadlineExceeded,
            reason: "NO_ANSWER".to_owned(),
            message: format!("{addr} did not answer in time"),
            version: None,
            oldest_revision: None,
            maybe_applied: mutation,
        }
    }

    pub(crate) fn deadline(what: &str) -> Self {
        Self {
            cause: Cause::Deadline,
            code: Code::DeadlineExceeded,
            reason: "DEADLINE".to_owned(),
            message: format!(
                "the deadline passed before {what} was sent; allow it more time, or check that \
                 the cluster is running"
            ),
            version: None,
            oldest_revision: None,
            maybe_applied: false,
        }
    }

    /// Reads a status. `mutation` says whether an effect is possible at all.
    pub(crate) fn from_status(addr: &str, status: &Status, mutation: bool) -> Self {
        if let Some(connect) = connect_error(status) {
            // tonic's own redial of a broken channel failed: the request never left.
            return Self::connect(addr, &connect);
        }
        // Only tonic's client side attaches a source; what a node sent has none.
        let lost = status.source().is_some();
        let trailers = status.metadata();
        let reason = match text(trailers, metadata::REASON, REASON_BYTES_MAX) {
            Some(reason) => reason,
            None if lost => "CONNECTION_LOST".to_owned(),
            None => "UNSPECIFIED".to_owned(),
        };
        // No trailer means unknown, with one exception: by the rules of gRPC no handler has run
        // when a method does not exist.
        let not_applied = text(trailers, metadata::OUTCOME, REASON_BYTES_MAX).as_deref()
            == Some("not_applied")
            || status.code() == Code::Unimplemented;
        let text_of_node = bounded(status.message(), MESSAGE_BYTES_MAX);
        let message = match status.code() {
            _ if lost => format!("the connection to {addr} broke: {text_of_node}"),
            Code::Unimplemented => format!(
                "{addr} does not offer this call; check that it is the client port of a node of a \
                 fitting version: {text_of_node}"
            ),
            _ if text_of_node.is_empty() => format!("{addr} answered {:?}", status.code()),
            _ => text_of_node.to_owned(),
        };
        Self {
            cause: if lost { Cause::Lost } else { Cause::Answered },
            code: status.code(),
            reason,
            message,
            version: number(trailers, metadata::VERSION),
            oldest_revision: number(trailers, metadata::OLDEST_REVISION),
            maybe_applied: mutation && !not_applied,
        }
    }

    /// Whether the session is not, or no longer, able to take the request.
    pub(crate) fn is_session_lost(&self) -> bool {
        self.cause == Cause::Answered
            && matches!(self.reason.as_str(), "SESSION_EXPIRED" | "SEQUENCE_TOO_OLD")
    }

    /// Whether the state machine itself decided this, so that a repetition of the same request is
    /// answered the same, and the answer holds for all attempts of the call.
    pub(crate) fn is_remembered_rejection(&self) -> bool {
        self.cause == Cause::Answered
            && !self.maybe_applied
            && matches!(
                self.reason.as_str(),
                "CONDITION_FAILED"
                    | "NOT_A_NUMBER"
                    | "OVERFLOW"
                    | "LOCK_HELD"
                    | "LOCK_LOST"
                    | "LOCK_WAIT_TIMEOUT"
                    | "LOCK_WAIT_CANCELLED"
                    | "QUEUE_UNKNOWN"
                    | "QUEUE_FULL"
                    | "JOB_UNKNOWN"
                    | "JOB_LEASE_LOST"
                    | "BUILD_LEASE_LOST"
                    | "BUILD_FAILED"
            )
    }

    /// Whether it is about how much is asked for at once. More load is the wrong answer to most limits; only
    /// these pass by themselves.
    pub(crate) fn is_overload(&self) -> bool {
        matches!(self.reason.as_str(), "OVERLOADED" | "CALLER_LIMIT")
    }

    /// Whether the same request may fare better on another node, or a little later.
    pub(crate) fn is_worth_retrying(&self) -> bool {
        match self.cause {
            Cause::Connect | Cause::Lost | Cause::Silent => true,
            Cause::Deadline => false,
            Cause::Answered => match self.code {
                // That nobody is there to receive a message is an answer.
                Code::Unavailable => self.reason != "NO_SUBSCRIBERS",
                // A wait that ran out is an answer.
                Code::DeadlineExceeded => {
                    !matches!(self.reason.as_str(), "LOCK_WAIT_TIMEOUT" | "NO_REPLY")
                }
                Code::ResourceExhausted => self.is_overload() && !self.maybe_applied,
                // About the node rather than the request; without a word they come from something
                // between us and it.
                Code::Unknown | Code::Cancelled | Code::Aborted | Code::Internal => {
                    self.maybe_applied
                        || matches!(
                            self.reason.as_str(),
                            "UNSPECIFIED" | "NO_LEADER" | "NOT_LEADER" | "SHUTTING_DOWN" | "FATAL"
                        )
                }
                _ => false,
            },
        }
    }
}

/// The client address of the leader, as the node that answered knows it.
pub(crate) fn leader_hint(answer: &MetadataMap) -> Option<String> {
    text(answer, metadata::LEADER, crate::nodes::ADDRESS_BYTES_MAX)
}

/// A metadata value, unless it is longer than anything of ours.
fn text(map: &MetadataMap, key: &str, bytes_max: usize) -> Option<String> {
    let value = map.get(key)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= bytes_max).then(|| value.to_owned())
}

/// A metadata value that is a number.
fn number(map: &MetadataMap, key: &str) -> Option<u64> {
    text(map, key, 20).and_then(|number| number.parse().ok())
}

/// As much of the beginning of a text as there is room for.
pub(crate) fn bounded(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The text of a failed dial, if that is what is behind a status.
fn connect_error(status: &Status) -> Option<String> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(connect) = error.downcast_ref::<tonic::ConnectError>() {
            return Some(connect.0.to_string());
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: Code, outcome: Option<&'static str>, reason: Option<&'static str>) -> Status {
        let mut status = Status::new(code, "why");
        if let Some(outcome) = outcome {
            status.metadata_mut().insert(metadata::OUTCOME, outcome.parse().expect("ascii"));
        }
        if let Some(reason) = reason {
            status.metadata_mut().insert(metadata::REASON, reason.parse().expect("ascii"));
        }
        status
    }

    #[test]
    fn a_missing_or_strange_outcome_means_unknown() {
        for outcome in [None, Some("unknown"), Some("NOT_APPLIED"), Some("maybe")] {
            let status = answered(Code::Unavailable, outcome, Some("NO_LEADER"));
            assert!(Failure::from_status("a:1", &status, true).maybe_applied, "{outcome:?}");
            assert!(!Failure::from_status("a:1", &status, false).maybe_applied, "{outcome:?}");
        }
        let status = answered(Code::Unavailable, Some("not_applied"), None);
        assert!(!Failure::from_status("a:1", &status, true).maybe_applied);
    }

    #[test]
    fn a_method_that_does_not_exist_has_no_effect_and_is_not_retried() {
        let failure = Failure::from_status("a:1", &answered(Code::Unimplemented, None, None), true);
        assert!(!failure.maybe_applied && !failure.is_worth_retrying());
    }

    #[test]
    fn of_all_limits_only_overload_is_retried() {
        let retried = |outcome, reason| {
            let status = answered(Code::ResourceExhausted, outcome, Some(reason));
            Failure::from_status("a:1", &status, true).is_worth_retrying()
        };
        assert!(retried(Some("not_applied"), "OVERLOADED"));
        assert!(retried(Some("not_applied"), "CALLER_LIMIT"));
        assert!(!retried(Some("unknown"), "OVERLOADED"));
        assert!(!retried(None, "OVERLOADED"));
        assert!(!retried(Some("not_applied"), "VALUE_TOO_LARGE"));
    }

    #[test]
    fn the_version_of_a_failed_condition_is_read_and_nonsense_is_not() {
        let mut status =
            answered(Code::FailedPrecondition, Some("not_applied"), Some("CONDITION_FAILED"));
        let parse = |status: &Status| Failure::from_status("a:1", status, true).version;
        assert_eq!(parse(&status), None);
        status.metadata_mut().insert(metadata::VERSION, "17".parse().expect("ascii"));
        assert_eq!(parse(&status), Some(17));
        status.metadata_mut().insert(metadata::VERSION, "-1".parse().expect("ascii"));
        assert_eq!(parse(&status), None);
    }

    #[test]
    fn texts_from_a_node_are_bounded_on_character_boundaries() {
        let status = Status::new(Code::Unavailable, "é".repeat(MESSAGE_BYTES_MAX));
        let failure = Failure::from_status("a:1", &status, false);
        assert_eq!(failure.message.len(), MESSAGE_BYTES_MAX);
        assert_eq!(bounded("aé", 2), "a");
    }

    #[test]
    fn a_failed_redial_inside_the_channel_counts_as_not_sent() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        let status = Status::from_error(Box::new(tonic::ConnectError(Box::new(refused))));
        let failure = Failure::from_status("a:1", &status, true);
        assert_eq!(failure.cause, Cause::Connect);
        assert!(!failure.maybe_applied);
    }
}
