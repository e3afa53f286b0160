//! Why commands are refused.

use super::{access, cache, numbered, queue};
use crate::{FencingToken, Rejection, Sequence, SessionId};

pub(in crate::tests) fn rejections() -> Vec<(String, Rejection)> {
    let (sequence, floor) = (Sequence(2_000), Sequence(3));
    let all = [
        Rejection::LimitExceeded { what: "key bytes".to_owned(), actual: 1_025, limit: 1_024 },
        Rejection::Invalid("the key is empty".to_owned()),
        Rejection::ConditionFailed { version: None },
        Rejection::ConditionFailed { version: Some(9) },
        Rejection::NotANumber,
        Rejection::Overflow,
        Rejection::SessionExpired(SessionId(4096)),
        Rejection::SequenceTooOld { sequence: Sequence(1), floor },
        Rejection::SequenceTooFar { sequence, floor, window: 1_024 },
        Rejection::RequestMismatch("sequence".to_owned()),
        Rejection::LockLost { name: "lock".to_owned(), token: FencingToken(33) },
        Rejection::LockHeld { name: "lock".to_owned(), token: Some(FencingToken(33)) },
        Rejection::LockHeld { name: "lock".to_owned(), token: None },
        Rejection::Cancelled,
    ];
    let all = all.into_iter().chain(queue::rejections()).chain(cache::rejections());
    let all = all.chain([Rejection::TokenUnknown, Rejection::MemberConflict("why".to_owned())]);
    let all = all.chain(access::rejections());
    numbered(all, |rejection| match rejection {
        Rejection::LimitExceeded { .. } => "limit_exceeded",
        Rejection::Invalid(_) => "invalid",
        Rejection::ConditionFailed { .. } => "condition_failed",
        Rejection::NotANumber => "not_a_number",
        Rejection::Overflow => "overflow",
        Rejection::SessionExpired(_) => "session_expired",
        Rejection::SequenceTooOld { .. } => "sequence_too_old",
        Rejection::SequenceTooFar { .. } => "sequence_too_far",
        Rejection::RequestMismatch(_) => "request_mismatch",
        Rejection::LockLost { .. } => "lock_lost",
        Rejection::LockHeld { .. } => "lock_held",
        Rejection::Cancelled => "cancelled",
        Rejection::QueueFull { .. } => "queue_full",
        Rejection::QueueUnknown { .. } => "queue_unknown",
        Rejection::JobUnknown { .. } => "job_unknown",
        Rejection::JobLeaseLost { .. } => "job_lease_lost",
        Rejection::ConsumerGone(_) => "consumer_gone",
        Rejection::BuildLeaseLost { .. } => "build_lease_lost",
        Rejection::CacheFull { .. } => "cache_full",
        Rejection::TokenUnknown => "token_unknown",
        Rejection::MemberConflict(_) => "member_conflict",
        Rejection::AccessRoleUnknown { .. } => "access_role_unknown",
        Rejection::AccessConflict(_) => "access_conflict",
    })
}
