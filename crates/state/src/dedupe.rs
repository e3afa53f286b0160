//! One effect per request: recognises a repetition before it is executed, and remembers the
//! outcome after it was.
//!
//! What is executed is remembered, rejections included. A request that is not executed because of
//! who sent it (its session is gone, its sequence outside the window, its number or key taken by
//! another request, no room for its key) is not: asked again it is judged again.

use crate::limits::REMEMBERED_ANSWER_BYTES_MAX;
use crate::rows::Answer;
use crate::scope::Scope;
use crate::{Caller, Command, Envelope, Fatal, Outcome, Sequence, SessionId, codec, session};

pub(crate) mod idempotency;
mod window;

/// Whether a request is to be executed.
pub(crate) enum Admission {
    /// It is; its outcome goes into the slot.
    Fresh(Slot),
    /// It is not; this is its answer.
    Answered(Outcome),
}

/// Where the outcome of an admitted request is kept.
pub(crate) enum Slot {
    /// Nowhere.
    Nowhere,
    /// With its session.
    Session { id: SessionId, sequence: Sequence, request_hash: u64 },
    /// Under its idempotency key.
    Idempotency {
        /// Key of the row.
        key: Vec<u8>,
        request_hash: u64,
        /// Deadline of the expired row under this key, when one is still there.
        replaces_deadline_ms: Option<u64>,
    },
}

pub(crate) fn admit(scope: &mut Scope<'_>, envelope: &Envelope) -> Result<Admission, Fatal> {
    match &envelope.caller {
        Caller::Anonymous => Ok(Admission::Fresh(Slot::Nowhere)),
        Caller::Session { id, sequence, floor } => {
            window::admit(scope, *id, *sequence, *floor, request_hash(envelope))
        }
        Caller::Idempotency { key } => idempotency::admit(scope, envelope, key),
    }
}

pub(crate) fn remember(scope: &mut Scope<'_>, slot: Slot, outcome: &Outcome) {
    match slot {
        Slot::Nowhere => {}
        Slot::Session { id, sequence, request_hash } => {
            let answer = Answer { sequence, request_hash, outcome: bounded(outcome) };
            session::remember(scope, id, answer);
        }
        Slot::Idempotency { key, request_hash, replaces_deadline_ms } => {
            idempotency::remember(scope, &key, request_hash, replaces_deadline_ms, outcome);
        }
    }
}

/// A hash of what is asked, without who asks it, and from where.
pub(crate) fn request_hash(envelope: &Envelope) -> u64 {
    let Envelope { namespace, guard, command, .. } = envelope;
    match command {
        Command::LockAcquire(acquire) => codec::fingerprint(&(namespace, guard, &acquire.request)),
        Command::QueuePull(pull) => codec::fingerprint(&(namespace, guard, &pull.request)),
        command => codec::fingerprint(&(namespace, guard, command)),
    }
}

/// The outcome as it is remembered.
fn bounded(outcome: &Outcome) -> Outcome {
    match outcome {
        // Of fixed size, or with one key at most; spares them the encoding.
        Outcome::Done
        | Outcome::KvSet { .. }
        | Outcome::KvDelete { .. }
        | Outcome::KvIncrement { .. }
        | Outcome::SessionOpen { .. }
        | Outcome::SessionClose { .. }
        | Outcome::KvDeletePattern { .. }
        | Outcome::KvIncrementFloat { .. }
        | Outcome::SessionExpire { .. }
        | Outcome::LockAcquire { .. }
        | Outcome::LockQueued { .. }
        | Outcome::LockRelease { .. }
        | Outcome::LockDetachNode { .. }
        // Up to 128 jobs of 20 bytes each.
        | Outcome::QueuePush { .. }
        | Outcome::QueuePull { .. }
        | Outcome::QueuePullWaits { .. }
        | Outcome::ConsumerDetachNode { .. }
        | Outcome::QueueAck { .. }
        | Outcome::QueueNack { .. }
        | Outcome::QueueExtend { .. }
        | Outcome::QueueCancel { .. }
        | Outcome::QueueUpdate { .. }
        | Outcome::QueuePurge { .. }
        | Outcome::QueueRedrive { .. }
        | Outcome::SchedulePut { .. }
        | Outcome::ScheduleDelete { .. }
        | Outcome::CacheSet { .. }
        | Outcome::CacheDelete { .. }
        | Outcome::CacheDeletePattern { .. }
        | Outcome::CacheInvalidateTags { .. }
        | Outcome::CacheTouch { .. }
        | Outcome::CacheBuild { .. }
        | Outcome::CacheFill { .. }
        | Outcome::CacheBuildEnd { .. }
        | Outcome::CacheEvict { .. }
        | Outcome::CacheResize { .. }
        | Outcome::MemberJoin { .. }
        | Outcome::AccessDelete { .. }
        | Outcome::AppliedResultDropped => outcome.clone(),
        Outcome::Rejected(_)
        | Outcome::Transaction { .. }
        | Outcome::TransactionFailed { .. }
        | Outcome::ConsumerAttach { .. } => bounded_by_size(outcome),
    }
}

fn bounded_by_size(outcome: &Outcome) -> Outcome {
    if codec::encode(outcome).len() <= REMEMBERED_ANSWER_BYTES_MAX {
        return outcome.clone();
    }
    Outcome::AppliedResultDropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rejection;

    fn rejected(text_bytes: usize) -> Outcome {
        Outcome::Rejected(Rejection::Invalid("x".repeat(text_bytes)))
    }

    #[test]
    fn answers_up_to_the_bound_are_kept_and_larger_ones_dropped() {
        let overhead = codec::encode(&rejected(REMEMBERED_ANSWER_BYTES_MAX)).len()
            - REMEMBERED_ANSWER_BYTES_MAX;
        let largest = rejected(REMEMBERED_ANSWER_BYTES_MAX - overhead);
        assert_eq!(bounded(&largest), largest);
        let too_large = rejected(REMEMBERED_ANSWER_BYTES_MAX - overhead + 1);
        assert_eq!(bounded(&too_large), Outcome::AppliedResultDropped);
    }
}
