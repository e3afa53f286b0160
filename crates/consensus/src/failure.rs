//! Why a request failed, and whether it may still have an effect.

/// A failed request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whether a mutation may have, or may yet have, an effect.
    pub unknown: bool,
    /// What kind.
    pub reason: Reason,
    /// What happened, on what, and what to do next.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No leader is known, or it can't be reached.
    NoLeader,
    /// The node that was asked does not lead.
    NotLeader,
    /// The deadline came first.
    Deadline,
    /// Too much on its way.
    Overloaded,
    /// The session is gone.
    SessionExpired,
    /// This node is stopping.
    ShuttingDown,
    /// This node has stopped because a promise could not be kept.
    Fatal,
    /// Leadership changed while the command was on its way.
    LeaderChanged,
    /// The leader's disk is almost full: only what frees room is taken.
    DiskFull,
    /// The lock is not held under that token (any more).
    LockLost,
    /// Not all members know what was asked for: the cluster is at a lower feature level.
    FeatureLevel,
}

impl Reason {
    const ALL: [Self; 11] = [
        Self::NoLeader,
        Self::NotLeader,
        Self::Deadline,
        Self::Overloaded,
        Self::SessionExpired,
        Self::ShuttingDown,
        Self::Fatal,
        Self::LeaderChanged,
        Self::DiskFull,
        Self::LockLost,
        Self::FeatureLevel,
    ];

    /// The stable word of the reason.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoLeader => "NO_LEADER",
            Self::NotLeader => "NOT_LEADER",
            Self::Deadline => "DEADLINE",
            Self::Overloaded => "OVERLOADED",
            Self::SessionExpired => "SESSION_EXPIRED",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Fatal => "FATAL",
            Self::LeaderChanged => "LEADER_CHANGED",
            Self::DiskFull => "DISK_FULL",
            Self::LockLost => "LOCK_LOST",
            Self::FeatureLevel => "FEATURE_LEVEL",
        }
    }

    /// The reason of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl Failure {
    /// It certainly had no effect and never will.
    pub(crate) fn not_applied(reason: Reason, message: impl Into<String>) -> Self {
        Self { unknown: false, reason, message: message.into() }
    }

    /// Nobody here can tell whether it had, or will have, an effect.
    pub(crate) fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { unknown: true, reason, message: message.into() }
    }

    /// Whether asking (another) leader again may help, without risk.
    pub(crate) fn is_worth_another_leader(&self) -> bool {
        !self.unknown
            && matches!(self.reason, Reason::NoLeader | Reason::NotLeader | Reason::LeaderChanged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_word() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::parse("SOMETHING"), None);
    }
}
