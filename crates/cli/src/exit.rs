//! How a command ends: its failure, the status the process exits with, the words.

use quorate_client::Error as ClientError;
use serde_json::{Value, json};
use std::io;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Used in a way it can't be, found after the command line was parsed.
    Usage(String),
    /// What was asked for does not exist.
    NotFound(String),
    /// A transaction was answered: one of its conditions did not hold.
    ConditionFailed(String),
    /// A command was run for the user, and ended with this status; it has said why itself.
    Ran(u8),
    /// A command that was to be run for the user was not, or was ended.
    Run {
        /// The status to exit with.
        status: u8,
        /// The stable word.
        reason: &'static str,
        /// The text.
        message: String,
    },
    /// A call to the cluster failed.
    Client(ClientError),
    /// A mutation happened, and then its answer could not be written: nothing to repeat.
    DoneUnwritten(io::Error),
    /// What was examined is not as it should be; how, is said on stdout.
    Findings,
    /// Whoever read our output went away; not worth a word.
    BrokenPipe,
    /// Anything else.
    Other(anyhow::Error),
}

impl Failure {
    /// The status the process exits with.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Other(_) | Self::DoneUnwritten(_) | Self::Findings => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::ConditionFailed(_) => 4,
            Self::Ran(status) | Self::Run { status, .. } => *status,
            Self::Client(error) => match error {
                ClientError::NotFound { .. } | ClientError::NoSubscribers { .. } => 3,
                // It is gone, while one whose lease is lost is still there.
                ClientError::JobLost { reason, .. } if reason == "JOB_UNKNOWN" => 3,
                ClientError::ConditionFailed { .. }
                | ClientError::NotAcquired { .. }
                | ClientError::LockLost { .. }
                | ClientError::JobLost { .. } => 4,
                ClientError::Unavailable { .. } => 5,
                // Whoever received the request may have acted on it.
                ClientError::Indeterminate { .. } | ClientError::NoReply { .. } => 6,
                _ => 1,
            },
        }
    }

    /// For people: one line.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::BrokenPipe | Self::Ran(_) | Self::Findings => String::new(),
            Self::Usage(message)
            | Self::NotFound(message)
            | Self::ConditionFailed(message)
            | Self::Run { message, .. } => message.clone(),
            Self::Client(error) => format!("{error} ({})", error.reason()),
            Self::DoneUnwritten(error) => format!(
                "it was done, but its answer can't be written ({error}); read the state instead of \
                 repeating the command"
            ),
            Self::Other(error) => format!("{error:#}"),
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let reason = match self {
            Self::Client(error) => error.reason(),
            Self::Usage(_) => "USAGE",
            Self::NotFound(_) => "NOT_FOUND",
            Self::ConditionFailed(_) => "CONDITION_FAILED",
            Self::DoneUnwritten(_) => "DONE_UNWRITTEN",
            Self::Run { reason, .. } => reason,
            Self::BrokenPipe | Self::Ran(_) | Self::Findings | Self::Other(_) => "ERROR",
        };
        let message = match self {
            Self::Client(error) => error.message().to_owned(),
            other => other.text(),
        };
        let mut object = json!({ "error": message, "reason": reason, "exit": self.status() });
        if let Self::Client(ClientError::ConditionFailed { version, .. }) = self {
            object["version"] = json!(version);
        }
        if let Self::Client(ClientError::Compacted { oldest, .. }) = self {
            object["oldest_revision"] = json!(oldest);
        }
        object
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// A failure to write to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Other(anyhow::Error::new(error).context("can't write the output")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_status() {
        let (reason, message) = (String::from("WHY"), String::from("what"));
        let client = |error: ClientError| Failure::Client(error).status();
        assert_eq!(
            client(ClientError::NotFound { reason: reason.clone(), message: message.clone() }),
            3
        );
        let condition = ClientError::ConditionFailed {
            version: Some(7),
            reason: reason.clone(),
            message: message.clone(),
        };
        assert_eq!(Failure::Client(condition.clone()).json()["version"], 7);
        assert_eq!(client(condition), 4);
        assert_eq!(
            client(ClientError::Unavailable { reason: reason.clone(), message: message.clone() }),
            5
        );
        assert_eq!(
            client(ClientError::Indeterminate { reason: reason.clone(), message: message.clone() }),
            6
        );
        assert_eq!(
            client(ClientError::InvalidArgument {
                reason: reason.clone(),
                message: message.clone()
            }),
            1
        );
        assert_eq!(
            client(ClientError::ResourceExhausted {
                reason: reason.clone(),
                message: message.clone()
            }),
            1
        );
        assert_eq!(
            client(ClientError::NotAcquired { reason: reason.clone(), message: message.clone() }),
            4
        );
        let lost = Failure::Client(ClientError::LockLost {
            reason: "LOCK_LOST".to_owned(),
            message: message.clone(),
        });
        assert_eq!((lost.status(), &lost.json()["reason"]), (4, &json!("LOCK_LOST")));
        for (reason, status) in [("JOB_LEASE_LOST", 4), ("JOB_UNKNOWN", 3)] {
            let reason = reason.to_owned();
            assert_eq!(client(ClientError::JobLost { reason, message: message.clone() }), status);
        }
        let (reason_, message_) = (reason.clone(), message.clone());
        assert_eq!(client(ClientError::NoSubscribers { reason: reason_, message: message_ }), 3);
        let (reason_, message_) = (reason.clone(), message.clone());
        assert_eq!(client(ClientError::NoReply { reason: reason_, message: message_ }), 6);
        let compacted = ClientError::Compacted {
            oldest: 4_097,
            reason: reason.clone(),
            message: message.clone(),
        };
        assert_eq!(Failure::Client(compacted.clone()).json()["oldest_revision"], 4_097);
        assert_eq!(client(compacted), 1);
        assert_eq!(client(ClientError::Internal { reason, message }), 1);
        assert_eq!(Failure::Ran(42).status(), 42);
        assert_eq!(Failure::Usage(String::new()).status(), 2);
        assert_eq!(Failure::NotFound(String::new()).status(), 3);
        assert_eq!(Failure::ConditionFailed(String::new()).status(), 4);
        assert_eq!(Failure::from(anyhow::anyhow!("x")).status(), 1);
        assert_eq!((Failure::Findings.status(), Failure::Findings.text()), (1, String::new()));
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).status(), 0);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Failure::from(full()).status(), 1);
        assert_eq!(Failure::DoneUnwritten(full()).json()["reason"], "DONE_UNWRITTEN");
    }
}
