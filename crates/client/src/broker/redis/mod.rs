//! An adapter for a Redis server (tried with version 7): one, or a primary with replicas behind one
//! address.
//!
//! ```no_run
//! use quorate_client::broker::{Broker, Lock, RedisBroker};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), quorate_client::Error> {
//! let broker: Arc<dyn Broker> = Arc::new(RedisBroker::connect("redis://127.0.0.1:6379", "shop")?);
//! let lock = Lock::new(broker).acquire("report", Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What Redis can't promise
//!
//! Redis acknowledges a write before any other server has it, and by default before it is on disk. So
//! what was acknowledged can be lost when the server is, and with it every number that must only grow.
//! Where a method depends on that, it answers [`Error::Unsupported`]:
//!
//! | Asked for | Answer | Why |
//! |---|---|---|
//! | [`Promise::DurableWrites`](super::Promise::DurableWrites) | unsupported | acknowledged writes can be lost in a failover |
//! | [`Promise::FairLocks`](super::Promise::FairLocks) | unsupported | who waits for a lock asks again and again; whoever asks first after it is free has it |
//! | [`Promise::FencedWrites`](super::Promise::FencedWrites), [`HeldLock::fencing_token`], [`SetOptions::guard`] | unsupported | a failover can lose the newest token, and give it out again |
//! | [`Condition::Version`] | unsupported | a failover can give a version to another value than the one it was read with |
//! | [`Broker::kv_watch`] | unsupported | notifications carry no values, and are lost without a word |
//! | [`Broker::cache_get_or_build`] | unsupported | not offered: nothing keeps a late builder from storing over a deletion after a failover |
//! | a server of a Redis Cluster | unsupported | keys of one namespace are on one server here |
//!
//! # What it does, and what that is worth
//!
//! | Service | How | While the server lives | When it is lost |
//! |---|---|---|---|
//! | bus | `PUBLISH`, `PSUBSCRIBE`, one connection for each subscription | in order, at most once; what is dropped is told as a gap | a gap when the connection is made again |
//! | cache, key-value | plain strings, so other programs can read them | atomic one by one; deleting by a pattern, and listing, are not: `SCAN` and `UNLINK`, whose work grows with all keys of the database | acknowledged writes can be lost |
//! | `if_absent` | `SET NX` | one is first | two can be first, one before and one after a failover |
//! | queue | sorted sets and hashes under scripts | priority, delay, leases, attempts, dead letters | jobs can be lost, or done again |
//! | lock | `SET NX PX` with a token of its owner, renewed and released by scripts | one holder; lost by the holder's own clock before anybody else can have it | two can hold it, one before and one after a failover |
//!
//! Turn on `appendonly yes` with `appendfsync always`, and have `maxmemory-policy noeviction`: eviction
//! takes locks and jobs as readily as cached values.
//!
//! # Layout
//!
//! Every key begins with `quorate:{<namespace>}:`, then `kv:`, `cache:`, `lock:` or `queue:`; channels
//! with `quorate:{<namespace>}:bus:`.
//!
//! # Bounds
//!
//! Keys, names and channels: 1 KiB. Values, messages and payloads: 1 MiB. A subscription keeps up to
//! 1024 messages, or 4 MiB, that nobody has read; beyond that the oldest becomes part of a gap. A queue
//! has up to 1 000 000 jobs, and up to 100 000 dead letters, of which the oldest goes then.

mod bus;
mod connection;
mod glob;
mod inbox;
mod lock;
mod names;
mod queue;
mod scan;
mod strings;

use super::{
    Answer, Broker, BusEvent, Condition, Delivery, HeldLock, Items, KvEntry, KvPage, LockState,
    NewJob, PushedJob, QueueCounts, QueueSettings, SetOptions,
};
use crate::Error;
use crate::random::Random;
use bytes::Bytes;
use connection::Connection;
use names::Names;
use std::sync::Arc;
use std::time::Duration;

/// What this adapter is called.
const NAME: &str = "redis";
/// How long a call may take when nothing is said.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A Redis server. Clones share their connection.
#[derive(Clone, Debug)]
pub struct RedisBroker {
    inner: Arc<Inner>,
}

/// What all parts share.
#[derive(Debug)]
pub(super) struct Inner {
    connection: Connection,
    names: Names,
    random: Random,
}

impl RedisBroker {
    /// For the server at a URL such as `redis://user:password@host:6379/0`. Nothing is sent, and no
    /// connection made, until the first call.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is no such URL, or the namespace is longer than 255 bytes or
    /// has braces in it.
    pub fn connect(url: &str, namespace: &str) -> Result<Self, Error> {
        Self::connect_within(url, namespace, REQUEST_TIMEOUT)
    }

    /// As [`RedisBroker::connect`], with another time that a call may take, connecting included, than
    /// 10 s.
    ///
    /// # Errors
    /// As [`RedisBroker::connect`].
    pub fn connect_within(
        url: &str,
        namespace: &str,
        request_timeout: Duration,
    ) -> Result<Self, Error> {
        let connection = Connection::new(url, request_timeout)?;
        let names = Names::new(namespace)?;
        Ok(Self { inner: Arc::new(Inner { connection, names, random: Random::from_os() }) })
    }
}

fn unsupported<'a, T: Send + 'a>(what: &str) -> Answer<'a, T> {
    super::cannot(NAME, what)
}

impl Broker for RedisBroker {
    fn name(&self) -> &str {
        NAME
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.inner.connection.close().await;
            Ok(())
        })
    }

    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> Answer<'a, Option<u64>> {
        Box::pin(bus::publish(&self.inner, channel, payload))
    }

    fn subscribe<'a>(&'a self, patterns: &'a [String]) -> Answer<'a, Items<BusEvent>> {
        Box::pin(bus::subscribe(&self.inner, patterns))
    }

    fn cache_get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Bytes>> {
        Box::pin(async move { strings::get(&self.inner, &self.inner.names.cache(key)?).await })
    }

    fn cache_set<'a>(
        &'a self,
        key: &'a [u8],
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let key = self.inner.names.cache(key)?;
            strings::set(&self.inner, &key, value, ttl, false).await
        })
    }

    fn cache_delete<'a>(&'a self, key: &'a [u8]) -> Answer<'a, bool> {
        Box::pin(async move { strings::delete(&self.inner, &self.inner.names.cache(key)?).await })
    }

    fn cache_delete_pattern<'a>(&'a self, pattern: &'a [u8]) -> Answer<'a, u64> {
        Box::pin(scan::delete(&self.inner, self.inner.names.cache_prefix(), pattern))
    }

    fn queue_update<'a>(&'a self, queue: &'a str, settings: QueueSettings) -> Answer<'a, ()> {
        Box::pin(queue::update(&self.inner, queue, settings))
    }

    fn queue_push<'a>(&'a self, queue: &'a str, job: NewJob) -> Answer<'a, PushedJob> {
        Box::pin(queue::push(&self.inner, queue, job))
    }

    fn queue_consume<'a>(
        &'a self,
        queue: &'a str,
        max_parallel: u32,
    ) -> Answer<'a, Items<Box<dyn Delivery>>> {
        Box::pin(queue::consume(&self.inner, queue, max_parallel))
    }

    fn queue_counts<'a>(&'a self, queue: &'a str) -> Answer<'a, QueueCounts> {
        Box::pin(queue::counts(&self.inner, queue))
    }

    fn kv_get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<KvEntry>> {
        Box::pin(async move {
            let value = strings::get(&self.inner, &self.inner.names.kv(key)?).await?;
            let key = Bytes::copy_from_slice(key);
            Ok(value.map(|value| KvEntry { key, value, version: None }))
        })
    }

    fn kv_set<'a>(
        &'a self,
        key: &'a [u8],
        value: Bytes,
        options: SetOptions,
    ) -> Answer<'a, Option<u64>> {
        let SetOptions { ttl, condition, guard } = options;
        if guard.is_some() {
            return unsupported("writes that are guarded by a lock");
        }
        let if_absent = match condition {
            None => false,
            Some(Condition::Absent) => true,
            Some(Condition::Version(_)) => return unsupported("versions of keys"),
        };
        Box::pin(async move {
            let key = self.inner.names.kv(key)?;
            strings::set(&self.inner, &key, value, ttl, if_absent).await?;
            Ok(None)
        })
    }

    fn kv_delete<'a>(&'a self, key: &'a [u8]) -> Answer<'a, bool> {
        Box::pin(async move { strings::delete(&self.inner, &self.inner.names.kv(key)?).await })
    }

    fn kv_increment<'a>(&'a self, key: &'a [u8], by: i64) -> Answer<'a, i64> {
        Box::pin(
            async move { strings::increment(&self.inner, &self.inner.names.kv(key)?, by).await },
        )
    }

    fn kv_list<'a>(&'a self, pattern: &'a [u8], cursor: Option<Bytes>) -> Answer<'a, KvPage> {
        Box::pin(scan::list(&self.inner, self.inner.names.kv_prefix(), pattern, cursor))
    }

    fn lock_acquire<'a>(
        &'a self,
        name: &'a str,
        ttl: Duration,
        wait: Duration,
    ) -> Answer<'a, Box<dyn HeldLock>> {
        Box::pin(lock::acquire(&self.inner, name, ttl, wait))
    }

    fn lock_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, LockState> {
        Box::pin(lock::inspect(&self.inner, name))
    }

    fn lock_force_release<'a>(&'a self, name: &'a str) -> Answer<'a, bool> {
        Box::pin(lock::force_release(&self.inner, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_work_is_refused_and_named() {
        for (url, namespace, named) in [
            ("http://127.0.0.1", "n", "http://127.0.0.1"),
            ("redis://127.0.0.1", "a}:kv:b", "a}:kv:b"),
            ("redis://127.0.0.1", &"n".repeat(256), "256 bytes"),
        ] {
            let error = RedisBroker::connect(url, namespace).expect_err("refused");
            assert_eq!(error.reason(), "BAD_OPTION");
            assert!(error.message().contains(named), "{error}");
        }
        RedisBroker::connect("redis://127.0.0.1", "shop").expect("nothing is sent yet");
    }

    #[tokio::test]
    async fn what_redis_can_not_promise_is_said_before_anything_is_sent() {
        // Nobody is there; what is unsupported needs nobody.
        let broker = RedisBroker::connect("redis://127.0.0.1:1", "n").expect("it is a URL");
        let guard = crate::LockGuard { name: "l".to_owned(), fencing_token: 1 };
        for options in [SetOptions::new().guard(guard), SetOptions::new().if_version(1)] {
            let error = broker.kv_set(b"k", Bytes::new(), options).await.expect_err("it can't");
            assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        }
        for promise in [super::super::Promise::DurableWrites, super::super::Promise::FairLocks] {
            broker.keeps(promise).expect_err("it can't");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable_and_nothing_was_changed() {
        let timeout = Duration::from_millis(300);
        let broker = RedisBroker::connect_within("redis://127.0.0.1:1", "n", timeout);
        let broker = broker.expect("it is a URL");
        for error in [
            broker.kv_get(b"k").await.map(drop),
            broker.kv_increment(b"k", 1).await.map(drop),
            broker.publish("c", Bytes::new()).await.map(drop),
            broker.subscribe(&["c".to_owned()]).await.map(drop),
            broker.lock_acquire("l", Duration::from_secs(1), Duration::ZERO).await.map(drop),
            broker.queue_push("q", NewJob::new("j")).await.map(drop),
        ] {
            let error = error.expect_err("nobody is there");
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
            assert_eq!(error.reason(), "CONNECT_FAILED");
        }
    }
}
