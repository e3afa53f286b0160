//! What a transaction is made of.

use super::{
    CacheDelete, CacheInvalidateTags, CacheSet, KvDelete, KvIncrement, KvIncrementFloat, KvSet,
    LockRelease, NewJob, Publication, QueueAck, QueuePush, Share,
};
use crate::limits::TRANSACTION_STEPS_MAX;
use crate::{FencingToken, bounded};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// `Transaction`: all operations of one of its branches, or none.
///
/// Operations happen in their order, and each sees what those before it did. One that is refused
/// undoes the others. Each list has at most [`crate::limits::TRANSACTION_STEPS_MAX`]; any may be
/// empty, not all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// What decides which branch happens; without any it is [`Transaction::then`].
    #[serde(deserialize_with = "bounded::list::<TRANSACTION_STEPS_MAX, _, _>")]
    pub conditions: Vec<Condition>,
    /// What happens when all conditions hold.
    #[serde(deserialize_with = "bounded::list::<TRANSACTION_STEPS_MAX, _, _>")]
    pub then: Vec<Operation>,
    /// What happens when one does not.
    #[serde(deserialize_with = "bounded::list::<TRANSACTION_STEPS_MAX, _, _>")]
    pub otherwise: Vec<Operation>,
}

/// What a transaction asks of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// The key has exactly this version.
    KvVersion {
        /// The key.
        key: Bytes,
        /// From 1.
        version: u64,
    },
    /// There is no such key.
    KvAbsent {
        /// The key.
        key: Bytes,
    },
    /// There is such a key.
    KvExists {
        /// The key.
        key: Bytes,
    },
    /// The key has exactly this value.
    KvValue {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// The lock is held under exactly this token.
    LockHeld {
        /// The lock.
        name: String,
        /// What it must be held under.
        token: FencingToken,
    },
    /// Nobody holds the lock.
    LockFree {
        /// The lock.
        name: String,
    },
    /// The queue has so many jobs at most that are not done; one that was never made has none.
    QueueJobs {
        /// The queue.
        queue: String,
        /// How many.
        at_most: u64,
    },
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Reads a key.
    KvGet {
        /// The key.
        key: Bytes,
    },
    /// Sets a key.
    KvSet(KvSet),
    /// Deletes a key.
    KvDelete(KvDelete),
    /// Adds to a number.
    KvIncrement(KvIncrement),
    /// Adds to a number that need not be whole.
    KvIncrementFloat(KvIncrementFloat),
    /// Takes a lock for the session that sends the transaction, now or not at all.
    LockAcquire {
        /// 1 byte to 1 KiB.
        name: String,
        /// With whom.
        share: Share,
        /// It is lost when it is not renewed for this long, in lease time.
        ttl_ms: u64,
    },
    /// Gives a lock back.
    LockRelease(LockRelease),
    /// Adds jobs to a queue.
    QueuePush(QueuePush),
    /// Says that a job is done.
    QueueAck(QueueAck),
    /// Sets an entry of the cache.
    CacheSet(CacheSet),
    /// Deletes an entry of the cache.
    CacheDelete(CacheDelete),
    /// Ends all entries of the cache that have a tag, those that the transaction wrote before
    /// included.
    CacheInvalidateTags(CacheInvalidateTags),
    /// Publishes a message, once the transaction has happened.
    BusPublish(Publication),
}

impl Transaction {
    /// Jobs that the larger of its branches pushes.
    #[must_use]
    pub fn jobs(&self) -> usize {
        let of = |operations: &[Operation]| -> usize {
            operations
                .iter()
                .map(|operation| match operation {
                    Operation::QueuePush(push) => push.jobs.len(),
                    _ => 0,
                })
                .sum()
        };
        of(&self.then).max(of(&self.otherwise))
    }

    /// Bytes of all its keys, values, tags, jobs, messages, and names of locks and queues.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let conditions = self.conditions.iter().map(Condition::bytes);
        let operations = self.then.iter().chain(&self.otherwise).map(Operation::bytes);
        conditions.sum::<usize>() + operations.sum::<usize>()
    }

    /// Whether the log can hold it. One with longer lists can be encoded and not decoded again, so it must
    /// never get there: no node could go on behind it.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        [self.conditions.len(), self.then.len(), self.otherwise.len()]
            .into_iter()
            .all(|steps| steps <= TRANSACTION_STEPS_MAX)
    }

    /// Whether it changes nothing whichever branch happens, so that any view of the state can
    /// answer it.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        let reads = |operation: &Operation| matches!(operation, Operation::KvGet { .. });
        self.then.iter().chain(&self.otherwise).all(reads)
    }
}

impl Condition {
    fn bytes(&self) -> usize {
        match self {
            Self::KvVersion { key, .. } | Self::KvAbsent { key } | Self::KvExists { key } => {
                key.len()
            }
            Self::KvValue { key, value } => key.len() + value.len(),
            Self::LockHeld { name, .. } | Self::LockFree { name } => name.len(),
            Self::QueueJobs { queue, .. } => queue.len(),
        }
    }
}

impl Operation {
    fn bytes(&self) -> usize {
        match self {
            Self::KvGet { key } => key.len(),
            Self::KvSet(set) => set.key.len() + set.value.len(),
            Self::KvDelete(delete) => delete.key.len(),
            Self::KvIncrement(increment) => increment.key.len(),
            Self::KvIncrementFloat(increment) => increment.key.len(),
            Self::LockAcquire { name, .. } => name.len(),
            Self::LockRelease(release) => release.name.len(),
            Self::QueuePush(push) => {
                push.queue.len() + push.jobs.iter().map(NewJob::bytes).sum::<usize>()
            }
            Self::QueueAck(ack) => ack.job.queue.len(),
            Self::CacheSet(set) => set.key.len() + set.value.len() + bytes_of(&set.tags),
            Self::CacheDelete(delete) => delete.key.len(),
            Self::CacheInvalidateTags(invalidate) => bytes_of(&invalidate.tags),
            Self::BusPublish(publication) => publication.bytes(),
        }
    }
}

fn bytes_of(tags: &[String]) -> usize {
    tags.iter().map(String::len).sum()
}
