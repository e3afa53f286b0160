//! What a transaction came to.

use crate::Entry;
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::txn_result::Result as Came;
use quorate_proto::v1::{TxnResponse, TxnResult as Wire};
use std::time::Duration;

/// One of the branches of a transaction happened, all of it at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TxnOutcome {
    /// The first condition that did not hold, counted from 0; `None` when all held.
    pub failed_condition: Option<u32>,
    /// What each operation of the branch came to, in their order.
    pub results: Vec<TxnResult>,
    /// When it happened; of one that only reads, what it was read at.
    pub revision: u64,
    /// The session it was sent in, with which the locks are lost that it took; `None` of one that
    /// was sent without, or only reads.
    pub session_id: Option<u64>,
}

/// What an operation of a transaction came to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TxnResult {
    /// A key was read; `None` when it does not exist.
    Got(Option<Entry>),
    /// A key was set.
    Set {
        /// Its version after it.
        version: u64,
    },
    /// A key was deleted.
    Deleted {
        /// Whether there was one.
        existed: bool,
    },
    /// It was added to a number.
    Incremented {
        /// The number after it.
        value: i64,
        /// The key's version after it.
        version: u64,
    },
    /// It was added to a floating-point number.
    IncrementedFloat {
        /// The number after it.
        value: f64,
        /// The key's version after it.
        version: u64,
    },
    /// A lock was taken.
    LockAcquired {
        /// What it is held under.
        fencing_token: u64,
        /// It is lost when it is not renewed for this long, counted from before the transaction was
        /// sent; or with its session.
        ttl: Duration,
    },
    /// A lock was given back.
    LockReleased {
        /// Whether it was held under that token.
        released: bool,
    },
    /// A job was pushed.
    Pushed {
        /// Its id; that of the first one if it is a duplicate.
        job_id: u64,
        /// Whether it had been pushed before, under the same dedupe key.
        duplicate: bool,
    },
    /// A job is done.
    Acked,
    /// A message is published, once all of the transaction is visible; at most once, see
    /// [`Transaction::publish`](crate::Transaction::publish).
    Published,
    /// A key of the cache was set.
    CacheSet,
    /// A key of the cache was deleted.
    CacheDeleted {
        /// Whether there was one.
        existed: bool,
    },
    /// Entries of the cache vanished.
    CacheTagsInvalidated,
}

impl TxnOutcome {
    /// From the answer, and the keys of the reads by their places in the branch that happened; else
    /// why the answer makes no sense.
    pub(crate) fn of(
        answer: TxnResponse,
        keys: Vec<Option<Bytes>>,
        session_id: Option<u64>,
    ) -> Result<Self, String> {
        let TxnResponse { succeeded, failed_condition, results, revision, .. } = answer;
        if results.len() != keys.len() || succeeded != failed_condition.is_none() {
            return Err(format!(
                "{} results for {} operations, succeeded {succeeded}, failed condition \
                 {failed_condition:?}",
                results.len(),
                keys.len()
            ));
        }
        let results = results.into_iter().zip(keys).map(|(result, key)| result_of(result, key));
        let results = results.collect::<Result<_, _>>()?;
        Ok(Self { failed_condition, results, revision, session_id })
    }

    /// Whether all conditions held.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.failed_condition.is_none()
    }

    /// The entry that the operation at `position` read; `None` when the key does not exist, and
    /// when the operation there is no read.
    #[must_use]
    pub fn entry(&self, position: usize) -> Option<&Entry> {
        match self.results.get(position)? {
            TxnResult::Got(entry) => entry.as_ref(),
            _ => None,
        }
    }

    /// The number after the addition at `position`; `None` when the operation there is none, or
    /// one to a floating-point number.
    #[must_use]
    pub fn number(&self, position: usize) -> Option<i64> {
        match self.results.get(position)? {
            TxnResult::Incremented { value, .. } => Some(*value),
            _ => None,
        }
    }

    /// The version that the operation at `position` found or left; `None` when there is none.
    #[must_use]
    pub fn version(&self, position: usize) -> Option<u64> {
        match self.results.get(position)? {
            TxnResult::Got(entry) => entry.as_ref().map(|entry| entry.version),
            TxnResult::Set { version }
            | TxnResult::Incremented { version, .. }
            | TxnResult::IncrementedFloat { version, .. } => Some(*version),
            TxnResult::Deleted { .. }
            | TxnResult::LockAcquired { .. }
            | TxnResult::LockReleased { .. }
            | TxnResult::Pushed { .. }
            | TxnResult::Acked
            | TxnResult::Published
            | TxnResult::CacheSet
            | TxnResult::CacheDeleted { .. }
            | TxnResult::CacheTagsInvalidated => None,
        }
    }

    /// The id of the job that the operation at `position` pushed; `None` when the operation there is
    /// another one.
    #[must_use]
    pub fn job_id(&self, position: usize) -> Option<u64> {
        match self.results.get(position)? {
            TxnResult::Pushed { job_id, .. } => Some(*job_id),
            _ => None,
        }
    }

    /// What the lock is held under that the operation at `position` took; `None` when the operation
    /// there is another one.
    #[must_use]
    pub fn fencing_token(&self, position: usize) -> Option<u64> {
        match self.results.get(position)? {
            TxnResult::LockAcquired { fencing_token, .. } => Some(*fencing_token),
            _ => None,
        }
    }
}

fn result_of(result: Wire, key: Option<Bytes>) -> Result<TxnResult, String> {
    let Some(result) = result.result else {
        return Err("a result is of a kind that this client does not know".to_owned());
    };
    Ok(match (result, key) {
        (Came::KvGet(got), Some(key)) => {
            TxnResult::Got(got.entry.map(|entry| Entry { key, ..Entry::from(entry) }))
        }
        (Came::KvSet(set), None) => TxnResult::Set { version: set.version },
        (Came::KvDelete(delete), None) => TxnResult::Deleted { existed: delete.deleted },
        (Came::KvIncrement(sum), None) => {
            TxnResult::Incremented { value: sum.value, version: sum.version }
        }
        (Came::KvIncrementFloat(sum), None) => {
            TxnResult::IncrementedFloat { value: sum.value, version: sum.version }
        }
        (Came::LockAcquire(granted), None) => TxnResult::LockAcquired {
            fencing_token: granted.fencing_token,
            ttl: Duration::from_millis(granted.ttl_ms),
        },
        (Came::LockRelease(release), None) => {
            TxnResult::LockReleased { released: release.released }
        }
        (Came::QueuePush(pushed), None) => match pushed.jobs[..] {
            [v1::PushedJob { job_id, duplicate }] => TxnResult::Pushed { job_id, duplicate },
            ref jobs => return Err(format!("{} jobs were pushed in place of one", jobs.len())),
        },
        (Came::QueueAck(_), None) => TxnResult::Acked,
        (Came::BusPublish(_), None) => TxnResult::Published,
        (Came::CacheSet(_), None) => TxnResult::CacheSet,
        (Came::CacheDelete(delete), None) => TxnResult::CacheDeleted { existed: delete.deleted },
        (Came::CacheInvalidateTags(_), None) => TxnResult::CacheTagsInvalidated,
        (other, _) => return Err(format!("{other:?} is the result of another operation")),
    })
}
