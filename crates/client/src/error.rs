//! How calls fail, sorted by what the caller can do about it.

use crate::failure::{Cause, Failure};
use tonic::Code;

/// A failed call.
///
/// Every variant carries a `reason`, a stable upper-case word for programs (`NO_LEADER`,
/// `KEY_TOO_LONG`; the client's own words are listed at [`Error::reason`]), and a `message` for
/// people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The condition of a mutation did not hold; nothing was changed. Read again and decide.
    #[error("{message}")]
    ConditionFailed {
        /// The version the key has; `None` when it is absent.
        version: Option<u64>,
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// The request can't succeed as it is; nothing was changed. Correct it.
    #[error("{message}")]
    InvalidArgument {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// The cluster does not know who asks, or he may not do this; nothing was changed. The reason is
    /// `UNAUTHENTICATED`: show another token or certificate; or `FORBIDDEN`: ask for a role.
    #[error("{message}")]
    Denied {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// What the request names does not exist; nothing was changed. (A missing key is not an error.)
    #[error("{message}")]
    NotFound {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// A limit was reached; nothing was changed. Free something, or come back later.
    #[error("{message}")]
    ResourceExhausted {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// No node could serve the request before the deadline, and a mutation certainly has no effect,
    /// now or later. It may be called again.
    #[error("{message}")]
    Unavailable {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// It is not known whether the mutation had, or will still have, its effect. Read the state
    /// before deciding; a new call is a new mutation.
    #[error("outcome unknown: {message}")]
    Indeterminate {
        /// The stable word of the last failure.
        reason: String,
        /// The text.
        message: String,
    },
    /// A lock was not granted: it is held and there was no time to wait, or the wait ran out
    /// (the reason is `LOCK_WAIT_TIMEOUT` then). Nothing is held.
    #[error("{message}")]
    NotAcquired {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// A lock is not held under the token that was named: it was lost or given back. A mutation
    /// that was guarded by it has no effect.
    #[error("{message}")]
    LockLost {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// A job is not leased under the lease that was named: its time ran out, it was cancelled or
    /// purged, or it was settled before. The call did nothing to it; somebody else may be working on
    /// it.
    #[error("{message}")]
    JobLost {
        /// The stable word: `JOB_LEASE_LOST` when the job is in its queue and not done, else
        /// `JOB_UNKNOWN`: it is done, cancelled, purged, or a dead letter.
        reason: String,
        /// The text.
        message: String,
    },
    /// Nobody subscribes to the channel that a request was sent to; it was not published.
    #[error("{message}")]
    NoSubscribers {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// A value for the cache was built too late: its lease ran out, or the key or one of its tags was
    /// set, deleted or invalidated since it was given. The value is not stored, and may be older than
    /// what has happened.
    #[error("{message}")]
    BuildLeaseLost {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// A request was published, and nobody answered it in time. Whoever received it may have acted on
    /// it, or may yet.
    #[error("{message}")]
    NoReply {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// Somebody else was building the value that was asked for, and failed; this is what it said.
    /// Nothing is stored.
    #[error("{message}")]
    BuildFailed {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// The client's session was lost again and again before the request could be sent under it;
    /// nothing was changed. It may be called again.
    #[error("{message}")]
    SessionExpired {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// A watch can't have all the changes it asks for: they are no longer kept. List the keys, and
    /// watch from the list's revision plus one.
    #[error("{message}")]
    Compacted {
        /// The oldest revision that a watch can begin from.
        oldest: u64,
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
    /// The adapter that was asked can't do this, and does not do something weaker instead; nothing was
    /// changed. The cluster never answers this. See [`crate::broker`].
    #[error("{message}")]
    Unsupported {
        /// The stable word.
        reason: String,
        /// The text, with the adapter's name.
        message: String,
    },
    /// The cluster answered something this client can't make sense of; nothing was changed. Likely
    /// a defect, or versions that do not belong together.
    #[error("{message}")]
    Internal {
        /// The stable word.
        reason: String,
        /// The text.
        message: String,
    },
}

impl Error {
    /// A stable upper-case word for programs. Words made by the client itself: `CONNECT_FAILED`,
    /// `CONNECTION_LOST`, `NO_ANSWER` (the node was silent for a whole attempt), `DEADLINE` (it
    /// passed before the request was sent), `SESSION_WINDOW_FULL` (1 024 calls were unanswered
    /// until the deadline), `BAD_OPTION`, `BAD_ANSWER`. `UNSPECIFIED`: the node gave no word.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.parts().0
    }

    /// The text for people: lower case, without a full stop.
    #[must_use]
    pub fn message(&self) -> &str {
        self.parts().1
    }

    /// Whether what failed like this may have, or may yet have, an effect. True only for
    /// [`Error::Indeterminate`] and [`Error::NoReply`].
    #[must_use]
    pub fn may_have_been_applied(&self) -> bool {
        matches!(self, Self::Indeterminate { .. } | Self::NoReply { .. })
    }

    /// What an adapter answers that can't do something, with the reason `UNSUPPORTED`: its name, and
    /// what it can't do, as a noun.
    #[must_use]
    pub fn unsupported(adapter: &str, what: &str) -> Self {
        Self::Unsupported {
            reason: "UNSUPPORTED".to_owned(),
            message: format!("the adapter {adapter} can't do this: {what}"),
        }
    }

    fn parts(&self) -> (&str, &str) {
        match self {
            Self::ConditionFailed { reason, message, .. }
            | Self::Compacted { reason, message, .. }
            | Self::InvalidArgument { reason, message }
            | Self::Denied { reason, message }
            | Self::NotFound { reason, message }
            | Self::ResourceExhausted { reason, message }
            | Self::Unavailable { reason, message }
            | Self::Indeterminate { reason, message }
            | Self::SessionExpired { reason, message }
            | Self::NotAcquired { reason, message }
            | Self::LockLost { reason, message }
            | Self::JobLost { reason, message }
            | Self::NoSubscribers { reason, message }
            | Self::NoReply { reason, message }
            | Self::BuildLeaseLost { reason, message }
            | Self::BuildFailed { reason, message }
            | Self::Unsupported { reason, message }
            | Self::Internal { reason, message } => (reason, message),
        }
    }

    /// A stream of answers broke off.
    pub(crate) fn stream_ended(status: &tonic::Status) -> Self {
        Failure::from_status("the node", status, false).into()
    }

    pub(crate) fn bad_option(message: String) -> Self {
        Self::InvalidArgument { reason: "BAD_OPTION".to_owned(), message }
    }

    pub(crate) fn bad_answer(message: String) -> Self {
        Self::Internal { reason: "BAD_ANSWER".to_owned(), message }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure { cause, code, reason, message, version, oldest_revision, maybe_applied } =
            failure;
        // The node knows that it was published, and has waited: nothing about it is unknown to it.
        if cause == Cause::Answered && code == Code::DeadlineExceeded && reason == "NO_REPLY" {
            return Self::NoReply { reason, message };
        }
        if maybe_applied {
            return Self::Indeterminate { reason, message };
        }
        if cause != Cause::Answered {
            return Self::Unavailable { reason, message };
        }
        match code {
            Code::FailedPrecondition if reason == "CONDITION_FAILED" => {
                Self::ConditionFailed { version, reason, message }
            }
            Code::OutOfRange if reason == "COMPACTED" => {
                Self::Compacted { oldest: oldest_revision.unwrap_or(0), reason, message }
            }
            Code::FailedPrecondition | Code::NotFound if reason == "LOCK_LOST" => {
                Self::LockLost { reason, message }
            }
            Code::FailedPrecondition | Code::NotFound
                if matches!(reason.as_str(), "JOB_LEASE_LOST" | "JOB_UNKNOWN") =>
            {
                Self::JobLost { reason, message }
            }
            Code::FailedPrecondition | Code::DeadlineExceeded | Code::Aborted
                if matches!(
                    reason.as_str(),
                    "LOCK_HELD" | "LOCK_WAIT_TIMEOUT" | "LOCK_WAIT_CANCELLED"
                ) =>
            {
                Self::NotAcquired { reason, message }
            }
            Code::FailedPrecondition | Code::NotFound if reason == "BUILD_LEASE_LOST" => {
                Self::BuildLeaseLost { reason, message }
            }
            Code::Aborted if reason == "BUILD_FAILED" => Self::BuildFailed { reason, message },
            Code::NotFound if reason == "SESSION_EXPIRED" => {
                Self::SessionExpired { reason, message }
            }
            Code::NotFound => Self::NotFound { reason, message },
            Code::ResourceExhausted => Self::ResourceExhausted { reason, message },
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::AlreadyExists => Self::InvalidArgument { reason, message },
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied { reason, message },
            Code::Unavailable if reason == "NO_SUBSCRIBERS" => {
                Self::NoSubscribers { reason, message }
            }
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::Unknown => Self::Unavailable { reason, message },
            Code::Ok | Code::Unimplemented | Code::Internal | Code::DataLoss => {
                Self::Internal { reason, message }
            }
        }
    }
}
