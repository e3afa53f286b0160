//! Which feature level each command needs. Whoever adds one is made to say it here: the leader puts
//! nothing into the log that the cluster is too old for.

use super::{Batch, Caller, Command, Condition, Envelope, Operation, Transaction};
use crate::FeatureLevel;

impl Batch {
    /// What a reader has to know: the highest of its commands.
    #[must_use]
    pub fn level(&self) -> FeatureLevel {
        highest(self.commands.iter().map(Envelope::level))
    }
}

impl Envelope {
    /// What a reader has to know.
    #[must_use]
    pub fn level(&self) -> FeatureLevel {
        let caller = match &self.caller {
            Caller::Anonymous | Caller::Session { .. } | Caller::Idempotency { .. } => {
                FeatureLevel::FIRST
            }
        };
        caller.max(self.command.level())
    }
}

impl Command {
    /// The level that the command came with; of a transaction, the highest of its parts.
    ///
    /// A field that is new in a command, or a new meaning of one, is a new command.
    #[must_use]
    pub fn level(&self) -> FeatureLevel {
        match self {
            Self::Transaction(transaction) => transaction.level(),
            Self::Tick
            | Self::KvSet(_)
            | Self::KvDelete(_)
            | Self::KvIncrement(_)
            | Self::SessionOpen(_)
            | Self::SessionClose(_)
            | Self::SessionExpire(_)
            | Self::MemberPublish(_)
            | Self::KvDeletePattern(_)
            | Self::KvIncrementFloat(_)
            | Self::LockAcquire(_)
            | Self::LockRelease(_)
            | Self::LockForceRelease(_)
            | Self::LockCancel(_)
            | Self::LockAttach(_)
            | Self::LockDetach(_)
            | Self::LockDetachNode(_)
            | Self::LockExpire(_)
            | Self::LeaseCheckpoint(_)
            | Self::QueuePush(_)
            | Self::QueuePull(_)
            | Self::ConsumerAttach(_)
            | Self::ConsumerDetach(_)
            | Self::ConsumerDetachNode(_)
            | Self::ConsumerResize(_)
            | Self::QueueAck(_)
            | Self::QueueNack(_)
            | Self::QueueExtend(_)
            | Self::QueueProgress(_)
            | Self::QueueCancel(_)
            | Self::QueueUpdate(_)
            | Self::QueuePause(_)
            | Self::QueuePurge(_)
            | Self::QueueDelete(_)
            | Self::QueueRedrive(_)
            | Self::SchedulePut(_)
            | Self::ScheduleNext(_)
            | Self::ScheduleDelete(_)
            | Self::CacheSet(_)
            | Self::CacheDelete(_)
            | Self::CacheDeletePattern(_)
            | Self::CacheInvalidateTags(_)
            | Self::CacheTouch(_)
            | Self::CacheBuild(_)
            | Self::CacheFill(_)
            | Self::CacheBuildEnd(_)
            | Self::CacheEvict(_)
            | Self::CacheResize(_)
            | Self::MemberInvite(_)
            | Self::MemberJoin(_)
            | Self::MemberChange(_)
            | Self::MemberSettle(_)
            | Self::FeatureLevelRaise(_)
            | Self::AccessTokenCreate(_)
            | Self::AccessTokenRevoke(_)
            | Self::AccessRolePut(_)
            | Self::AccessRoleDelete(_)
            | Self::AccessSubjectPut(_)
            | Self::AccessSubjectDelete(_) => FeatureLevel::FIRST,
        }
    }
}

impl Transaction {
    fn level(&self) -> FeatureLevel {
        let conditions = self.conditions.iter().map(Condition::level);
        let operations = self.then.iter().chain(&self.otherwise).map(Operation::level);
        highest(conditions.chain(operations))
    }
}

impl Condition {
    fn level(&self) -> FeatureLevel {
        match self {
            Self::KvVersion { .. }
            | Self::KvAbsent { .. }
            | Self::KvExists { .. }
            | Self::KvValue { .. }
            | Self::LockHeld { .. }
            | Self::LockFree { .. }
            | Self::QueueJobs { .. } => FeatureLevel::FIRST,
        }
    }
}

impl Operation {
    fn level(&self) -> FeatureLevel {
        match self {
            Self::KvGet { .. }
            | Self::KvSet(_)
            | Self::KvDelete(_)
            | Self::KvIncrement(_)
            | Self::KvIncrementFloat(_)
            | Self::LockAcquire { .. }
            | Self::LockRelease(_)
            | Self::QueuePush(_)
            | Self::QueueAck(_)
            | Self::CacheSet(_)
            | Self::CacheDelete(_)
            | Self::CacheInvalidateTags(_)
            | Self::BusPublish(_) => FeatureLevel::FIRST,
        }
    }
}

fn highest(levels: impl Iterator<Item = FeatureLevel>) -> FeatureLevel {
    levels.fold(FeatureLevel::FIRST, FeatureLevel::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_level_counts_wherever_it_stands() {
        let of = |levels: &[u8]| highest(levels.iter().copied().map(FeatureLevel)).0;
        assert_eq!(of(&[]), 1, "nothing is known by everybody");
        assert_eq!(of(&[1, 3, 2]), 3);
        assert_eq!(of(&[3, 1]), 3);
    }
}
