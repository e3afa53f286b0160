//! What can be in a transaction: a method for each condition and operation.

use super::Transaction;
use crate::bus::Content;
use crate::cache::CachePolicy;
use crate::kv::{millis, owned};
use crate::lock::LockGuard;
use crate::queue::{Job, NewJob};
use bytes::Bytes;
use quorate_proto::v1::txn_condition::Condition;
use quorate_proto::v1::txn_operation::Operation;
use quorate_proto::v1::{
    LockMode, TxnBusPublish, TxnCacheDelete, TxnCacheInvalidateTags, TxnCacheSet, TxnKvAbsent,
    TxnKvDelete, TxnKvExists, TxnKvGet, TxnKvIncrement, TxnKvIncrementFloat, TxnKvSet, TxnKvValue,
    TxnKvVersion, TxnLockAcquire, TxnLockFree, TxnLockHeld, TxnLockRelease, TxnQueueAck,
    TxnQueueJobs, TxnQueuePush,
};
use std::time::Duration;

/// Conditions.
impl Transaction {
    /// Only when the key has exactly this version.
    pub fn when_version(self, key: impl AsRef<[u8]>, version: u64) -> Self {
        self.when(Condition::KvVersion(TxnKvVersion { key: owned(key), version }))
    }

    /// Only when there is no such key.
    pub fn when_absent(self, key: impl AsRef<[u8]>) -> Self {
        self.when(Condition::KvAbsent(TxnKvAbsent { key: owned(key) }))
    }

    /// Only when there is such a key.
    pub fn when_exists(self, key: impl AsRef<[u8]>) -> Self {
        self.when(Condition::KvExists(TxnKvExists { key: owned(key) }))
    }

    /// Only when the key has exactly this value.
    pub fn when_value(self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        self.when(Condition::KvValue(TxnKvValue { key: owned(key), value: value.into() }))
    }

    /// Only when the lock is held under exactly this token. Unlike a [`Transaction::guard`], without
    /// which nothing happens at all, it chooses a branch.
    pub fn when_lock_held(self, held: &LockGuard) -> Self {
        let LockGuard { name, fencing_token } = held.clone();
        self.when(Condition::LockHeld(TxnLockHeld { name, fencing_token }))
    }

    /// Only when nobody holds the lock.
    pub fn when_lock_free(self, name: impl Into<String>) -> Self {
        self.when(Condition::LockFree(TxnLockFree { name: name.into() }))
    }

    /// Only when the queue has so many jobs at most that are not done; one that was never made has
    /// none.
    pub fn when_queue_at_most(self, queue: impl Into<String>, jobs: u64) -> Self {
        self.when(Condition::QueueJobs(TxnQueueJobs { queue: queue.into(), at_most: jobs }))
    }

    fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }
}

/// A method for when all conditions hold, and one for when one does not.
macro_rules! operations {
    ($(
        $(#[$doc:meta])*
        $then:ident, $or:ident ($($name:ident: $type:ty),*) => $step:expr;
    )*) => {$(
        $(#[$doc])*
        pub fn $then(mut self $(, $name: $type)*) -> Self {
            self.then.push($step);
            self
        }

        #[doc = concat!("As [`Transaction::", stringify!($then), "`], for when a condition does not hold.")]
        pub fn $or(mut self $(, $name: $type)*) -> Self {
            self.otherwise.push($step);
            self
        }
    )*};
}

/// Operations.
impl Transaction {
    operations! {
        /// Reads a key.
        get, or_get(key: impl AsRef<[u8]>) => Operation::KvGet(TxnKvGet { key: owned(key) });
        /// Sets a key. Without a ttl it lives until it is deleted.
        set, or_set(key: impl AsRef<[u8]>, value: impl Into<Bytes>) => {
            set(owned(key), value.into(), None)
        };
        /// Sets a key that lives this long, 1 ms to ten years; parts of a millisecond count as a
        /// whole one.
        set_for, or_set_for(
            key: impl AsRef<[u8]>,
            value: impl Into<Bytes>,
            ttl: Duration
        ) => set(owned(key), value.into(), Some(ttl));
        /// Deletes a key. A missing key is no error.
        delete, or_delete(key: impl AsRef<[u8]>) => {
            Operation::KvDelete(TxnKvDelete { key: owned(key), if_version: None })
        };
        /// Adds `by`, which may be negative, to a decimal 64-bit integer. A missing key counts as 0.
        increment, or_increment(key: impl AsRef<[u8]>, by: i64) => {
            Operation::KvIncrement(TxnKvIncrement { key: owned(key), by })
        };
        /// Adds `by` to a decimal 64-bit floating-point number. A missing key counts as 0.
        increment_float, or_increment_float(key: impl AsRef<[u8]>, by: f64) => {
            Operation::KvIncrementFloat(TxnKvIncrementFloat { key: owned(key), by })
        };
        /// Takes a lock for the client's session, now or not at all: when it is held, or others wait
        /// for it, the transaction fails as [`Error::NotAcquired`](crate::Error::NotAcquired). It is
        /// lost when it is not renewed for `ttl`, 100 ms to 1 h: give its token
        /// ([`TxnOutcome::fencing_token`](crate::TxnOutcome::fencing_token)) to
        /// [`Locks::adopt`](crate::Locks::adopt), which does that.
        acquire_lock, or_acquire_lock(name: impl Into<String>, ttl: Duration) => {
            acquire(name.into(), ttl, LockMode::Exclusive, 0)
        };
        /// As [`Transaction::acquire_lock`], of a lock that is shared with others that ask for it
        /// shared.
        acquire_shared_lock, or_acquire_shared_lock(name: impl Into<String>, ttl: Duration) => {
            acquire(name.into(), ttl, LockMode::Shared, 0)
        };
        /// As [`Transaction::acquire_lock`], of a lock that is shared with others that ask for the
        /// same number of permits, 1 to 1000, while fewer than those hold it.
        acquire_permit, or_acquire_permit(name: impl Into<String>, ttl: Duration, permits: u32) => {
            acquire(name.into(), ttl, LockMode::Permit, permits)
        };
        /// Gives a lock back; what is not held under the guard's token is no error. A
        /// [`Lock`](crate::lock::Lock) that renews it is to be told:
        /// [`Lock::leave`](crate::lock::Lock::leave) it afterwards.
        release_lock, or_release_lock(held: &LockGuard) => {
            let LockGuard { name, fencing_token } = held.clone();
            Operation::LockRelease(TxnLockRelease { name, fencing_token })
        };
        /// Adds a job to a queue: with what else happens, or not at all. All pushes of a transaction
        /// have 128 jobs at most.
        push, or_push(queue: impl Into<String>, job: NewJob) => {
            let jobs = vec![job.into_wire()];
            Operation::QueuePush(TxnQueuePush { queue: queue.into(), jobs })
        };
        /// Says that a job is done, together with what else happens. When it is not leased under its
        /// lease (any more) the transaction fails, and nothing has happened. The job itself is to be
        /// told: [`Job::leave`](crate::queue::Job::leave) it afterwards.
        ack, or_ack(job: &Job) => ack(job.queue().to_owned(), job.id(), job.lease());
        /// As [`Transaction::ack`], of a job of which only the lease is known.
        ack_job, or_ack_job(queue: impl Into<String>, job_id: u64, lease: u64) => {
            ack(queue.into(), job_id, lease)
        };
        /// Publishes a message, once all that the transaction does is visible. The leader that applies
        /// it does so, at most once: when it dies just then nobody does, and subscribers are told of a
        /// gap. A job that is [pushed](Transaction::push) is not lost so.
        publish, or_publish(channel: impl Into<String>, content: impl Into<Content>) => {
            let content = Some(content.into().into_wire());
            Operation::BusPublish(TxnBusPublish { channel: channel.into(), content })
        };
        /// Sets a key of the cache; see [`Cache::set`](crate::Cache::set).
        cache_set, or_cache_set(
            key: impl AsRef<[u8]>,
            value: impl Into<Bytes>,
            policy: CachePolicy
        ) => {
            let (key, value, policy) = (owned(key), value.into(), Some(policy.wire()));
            Operation::CacheSet(TxnCacheSet { key, value, policy })
        };
        /// Deletes a key of the cache, so that nobody reads there what the rest of the transaction
        /// has changed. A missing key is no error.
        cache_delete, or_cache_delete(key: impl AsRef<[u8]>) => {
            Operation::CacheDelete(TxnCacheDelete { key: owned(key) })
        };
        /// Makes every entry of the cache vanish that has this tag.
        cache_invalidate_tag, or_cache_invalidate_tag(tag: impl Into<String>) => {
            invalidate(vec![tag.into()])
        };
        /// Makes every entry of the cache vanish that has one of these tags, 1 to 64; see
        /// [`Cache::invalidate_tags`](crate::Cache::invalidate_tags).
        cache_invalidate_tags, or_cache_invalidate_tags(tags: Vec<String>) => invalidate(tags);
    }
}

fn set(key: Bytes, value: Bytes, ttl: Option<Duration>) -> Operation {
    Operation::KvSet(TxnKvSet { key, value, ttl_ms: ttl.map(millis), expect: None })
}

fn acquire(name: String, ttl: Duration, mode: LockMode, permits: u32) -> Operation {
    let (ttl_ms, mode) = (millis(ttl), mode.into());
    Operation::LockAcquire(TxnLockAcquire { name, ttl_ms, mode, permits })
}

fn invalidate(tags: Vec<String>) -> Operation {
    Operation::CacheInvalidateTags(TxnCacheInvalidateTags { tags })
}

fn ack(queue: String, job_id: u64, lease: u64) -> Operation {
    Operation::QueueAck(TxnQueueAck { queue, job_id, lease })
}
