//! The five services as one small trait, behind which other systems than a Quorate cluster can stand.
//!
//! [`Broker`] is what an adapter implements; payloads are bytes there. [`Bus`], [`Cache`], [`Queue`],
//! [`KeyValue`] and [`Lock`] are what a program uses: they speak JSON, and work over any adapter. A
//! program that uses them changes what it runs on by changing one line:
//!
//! ```no_run
//! use quorate_client::broker::{Broker, KeyValue, Queue};
//! use quorate_client::Client;
//! use std::sync::Arc;
//!
//! # async fn example() -> Result<(), quorate_client::Error> {
//! let client = Client::builder().endpoints(["127.0.0.1:8811"]).namespace("shop").connect()?;
//! let broker: Arc<dyn Broker> = Arc::new(client);
//!
//! let config = KeyValue::new(Arc::clone(&broker));
//! config.set("config:colour", &"green").await?;
//! let colour: Option<String> = config.get("config:colour").await?;
//!
//! let queue = Queue::new(broker);
//! queue.add("email.send", &serde_json::json!({"to": "ann", "colour": colour})).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Adapters: [`crate::Client`], which is the cluster and keeps every promise, and with the feature
//! `redis` that for a Redis server. What an adapter can't do it answers with
//! [`Error::Unsupported`]; it never does something weaker instead. The
//! whole of the cluster's API, of which this is a part, is at [`crate::Client`].
//!
//! How to write an adapter, and how to run the conformance suite on it, is in `docs/adapters.md`.
//!
//! ```text
//! Bus, Cache, Queue, KeyValue, Lock      JSON, small settings        bus.rs, cache.rs, queue.rs, kv.rs, lock.rs
//!   Broker, HeldLock, Delivery           bytes, one method each      this file, lock.rs, queue.rs
//!     Client                             the cluster                 cluster.rs
//!     RedisBroker                        a Redis server              redis/
//! ```

mod bus;
mod cache;
mod cluster;
mod json;
mod kv;
mod lock;
mod queue;
#[cfg(feature = "redis")]
pub mod redis;

pub use bus::{Bus, BusEvent, Message};
pub use cache::{Build, Cache};
pub use kv::{Condition, KeyValue, KvChange, KvEntry, KvPage, SetOptions};
pub use lock::{HeldLock, Lock, LockState};
pub use queue::{Delivery, NewJob, PushedJob, Queue, QueueCounts, QueueSettings};
#[cfg(feature = "redis")]
pub use redis::RedisBroker;

use crate::Error;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::fmt;
use std::time::Duration;

/// What a call comes to.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// What comes one after the other, until an error, which is the last item. Dropping it ends it.
pub type Items<T> = BoxStream<'static, Result<T, Error>>;

/// A promise that no method asks for by itself, so that a program can ask at its start whether the
/// adapter keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Promise {
    /// What was acknowledged is not lost when a server is, whichever it is.
    DurableWrites,
    /// A lock goes to those who wait for it in the order in which they asked.
    FairLocks,
    /// Fencing tokens of a lock grow from holder to holder, whatever fails, and a write that is
    /// guarded by an old one is refused.
    FencedWrites,
}

impl Promise {
    /// In words, for the text of [`Error::Unsupported`].
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::DurableWrites => "that what was acknowledged survives the loss of a server",
            Self::FairLocks => "locks that are granted in the order of the requests",
            Self::FencedWrites => "fencing tokens, and writes that are guarded by them",
        }
    }
}

/// A framework's five services. Object-safe: programs hold an `Arc<dyn Broker>`.
///
/// An adapter belongs to one namespace: two with different namespaces see nothing of each other,
/// whatever the service; two with the same one see the same, also from different processes. Keys of
/// the cache and of key-value have nothing to do with each other.
///
/// # What an adapter has to do
/// - Each method has a default that answers [`Error::Unsupported`]; an adapter may leave any out. One
///   that is there keeps what its documentation says, or fails.
/// - **Failed and unknown are told apart**: [`Error::Indeterminate`] when a change may have been made,
///   or may yet be; any other error when it has not been, and will not be.
/// - Payloads of up to 1 MB (1 000 000 bytes), whatever their bytes, arrive as they were sent. Keys,
///   names and channels of up to 256 bytes work; what is longer may be refused.
/// - Nothing grows without a bound: what is not read waits in a buffer of a bounded size.
/// - Connections that break are made again by the adapter; streams go on, and say what they missed.
/// - Patterns are globs: `*` any run of bytes (dots as well), `?` one, `[a-c]` and `[^a]` a class, `\`
///   takes the next byte as it is.
///
/// `quorate_testkit::conformance` checks all that can be checked from outside.
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// What this adapter is called in texts, such as `redis`.
    fn name(&self) -> &str;

    /// Whether a promise is kept: an error when it is not.
    ///
    /// # Errors
    /// [`Error::Unsupported`], which is what an adapter says that says nothing.
    fn keeps(&self, promise: Promise) -> Result<(), Error> {
        Err(Error::unsupported(self.name(), promise.what()))
    }

    /// Gives back what the adapter holds: sessions, connections. Doing it again does no harm.
    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    // The bus.

    /// Publishes a message to whoever subscribes now, at most once. Answers how many subscriptions it
    /// was sent to, if that is known.
    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> Answer<'a, Option<u64>> {
        let _ = (channel, payload);
        cannot(self.name(), "publishing messages")
    }

    /// Subscribes to the channels that match any of these patterns, 1 to 64. What is published after
    /// this has answered comes, in the order in which one publisher sent it, each message once; or
    /// there is a [`BusEvent::Gap`] in its place.
    fn subscribe<'a>(&'a self, patterns: &'a [String]) -> Answer<'a, Items<BusEvent>> {
        let _ = patterns;
        cannot(self.name(), "subscribing to messages")
    }

    // The cache.

    /// Reads a key. May lag a moment behind what others have changed, never behind what was changed
    /// through this adapter itself.
    fn cache_get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Bytes>> {
        let _ = key;
        cannot(self.name(), "reading the cache")
    }

    /// Sets a key, with this ttl or none, whatever it had.
    fn cache_set<'a>(
        &'a self,
        key: &'a [u8],
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<'a, ()> {
        let _ = (key, value, ttl);
        cannot(self.name(), "writing the cache")
    }

    /// Deletes a key; answers whether there was one.
    fn cache_delete<'a>(&'a self, key: &'a [u8]) -> Answer<'a, bool> {
        let _ = key;
        cannot(self.name(), "deleting from the cache")
    }

    /// Deletes the keys that match; answers how many. Not atomic: others may see some gone and some
    /// not.
    fn cache_delete_pattern<'a>(&'a self, pattern: &'a [u8]) -> Answer<'a, u64> {
        let _ = pattern;
        cannot(self.name(), "deleting from the cache by a pattern")
    }

    /// The value of a key; if there is none, what `build` makes, which is stored. Of all that miss it
    /// at once, whatever their process, one builds it, and the others wait for that.
    fn cache_get_or_build<'a>(
        &'a self,
        key: &'a [u8],
        ttl: Option<Duration>,
        build: Build,
    ) -> Answer<'a, Bytes> {
        let _ = (key, ttl, build);
        cannot(self.name(), "values of the cache that one caller builds for all")
    }

    // The queue.

    /// Makes a queue, or changes how it works; what is not named stays as it is.
    fn queue_update<'a>(&'a self, queue: &'a str, settings: QueueSettings) -> Answer<'a, ()> {
        let _ = (queue, settings);
        cannot(self.name(), "settings of queues")
    }

    /// Adds a job. The queue is made when it is not there yet.
    fn queue_push<'a>(&'a self, queue: &'a str, job: NewJob) -> Answer<'a, PushedJob> {
        let _ = (queue, job);
        cannot(self.name(), "adding jobs")
    }

    /// Takes jobs as they become ready, up to `max_parallel` (1 to 1000) at a time that are not
    /// settled. Jobs of a higher priority come first, those of the same in the order in which they
    /// became ready. Each goes to one consumer of all, under a lease; when that ends it is
    /// delivered again, until it was delivered as often as its queue allows: then it is a dead
    /// letter, a job in the queue `<name>.dead`.
    ///
    /// When the stream is dropped, jobs that were not handed out go to others.
    fn queue_consume<'a>(
        &'a self,
        queue: &'a str,
        max_parallel: u32,
    ) -> Answer<'a, Items<Box<dyn Delivery>>> {
        let _ = (queue, max_parallel);
        cannot(self.name(), "taking jobs")
    }

    /// How many jobs there are. Of a queue that nobody made: none.
    fn queue_counts<'a>(&'a self, queue: &'a str) -> Answer<'a, QueueCounts> {
        let _ = queue;
        cannot(self.name(), "counting jobs")
    }

    // Key-value.

    /// Reads a key: the newest value that was acknowledged to anybody.
    fn kv_get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<KvEntry>> {
        let _ = key;
        cannot(self.name(), "reading keys")
    }

    /// Sets a key, with the ttl that is named or none, whatever it had. Answers its version, if there
    /// are versions. [`Error::ConditionFailed`] when the condition does not hold.
    fn kv_set<'a>(
        &'a self,
        key: &'a [u8],
        value: Bytes,
        options: SetOptions,
    ) -> Answer<'a, Option<u64>> {
        let _ = (key, value, options);
        cannot(self.name(), "writing keys")
    }

    /// Deletes a key; answers whether there was one.
    fn kv_delete<'a>(&'a self, key: &'a [u8]) -> Answer<'a, bool> {
        let _ = key;
        cannot(self.name(), "deleting keys")
    }

    /// Adds to a decimal 64-bit integer, atomically; a missing key counts as 0, and a ttl stays.
    /// Answers the sum. [`Error::InvalidArgument`] when the value is no number.
    fn kv_increment<'a>(&'a self, key: &'a [u8], by: i64) -> Answer<'a, i64> {
        let _ = (key, by);
        cannot(self.name(), "adding to numbers")
    }

    /// Some of the keys that match, beginning after `cursor`, or at the beginning without one. A page
    /// may be short, or empty, and be followed by another one all the same.
    fn kv_list<'a>(&'a self, pattern: &'a [u8], cursor: Option<Bytes>) -> Answer<'a, KvPage> {
        let _ = (pattern, cursor);
        cannot(self.name(), "listing keys")
    }

    /// Each change of a key that matches, from now on, in its order, without a gap.
    fn kv_watch<'a>(&'a self, pattern: &'a [u8]) -> Answer<'a, Items<KvChange>> {
        let _ = pattern;
        cannot(self.name(), "watching keys")
    }

    // Locks.

    /// Takes a lock, waiting up to `wait` for it; with zero: now or not at all. It is lost when it is
    /// not renewed for `ttl` (at least 100 ms), which the adapter does by itself until the answer is
    /// dropped. [`Error::NotAcquired`] when it is another's and the wait is over, with the word
    /// `timeout` in the text if there was a wait.
    fn lock_acquire<'a>(
        &'a self,
        name: &'a str,
        ttl: Duration,
        wait: Duration,
    ) -> Answer<'a, Box<dyn HeldLock>> {
        let _ = (name, ttl, wait);
        cannot(self.name(), "taking locks")
    }

    /// Whether a lock is held, and how many wait for it.
    fn lock_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, LockState> {
        let _ = name;
        cannot(self.name(), "looking at locks")
    }

    /// Takes a lock from whoever holds it, who learns of it at his next renewal; answers whether
    /// anybody did.
    fn lock_force_release<'a>(&'a self, name: &'a str) -> Answer<'a, bool> {
        let _ = name;
        cannot(self.name(), "taking locks from their holders")
    }
}

/// The answer of an adapter that can't do something.
fn cannot<'a, T: Send + 'a>(adapter: &str, what: &str) -> Answer<'a, T> {
    Box::pin(std::future::ready(Err(Error::unsupported(adapter, what))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// An adapter that can do nothing at all.
    #[derive(Debug)]
    struct Nothing;

    impl Broker for Nothing {
        fn name(&self) -> &str {
            "nothing"
        }
    }

    #[tokio::test]
    async fn what_is_left_out_says_who_can_not_do_what() {
        let broker: Arc<dyn Broker> = Arc::new(Nothing);
        let error = broker.kv_increment(b"n", 1).await.expect_err("it can't");
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert_eq!(error.reason(), "UNSUPPORTED");
        assert_eq!(error.message(), "the adapter nothing can't do this: adding to numbers");
        assert!(!error.may_have_been_applied());
        let error = broker.keeps(Promise::FairLocks).expect_err("it says nothing");
        assert!(error.message().contains("nothing can't do this: locks that"), "{error}");
        // Through a handle it is the same error.
        let handle = Lock::new(Arc::clone(&broker));
        let error = handle.try_acquire("l").await.expect_err("it can't");
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert_eq!(broker.close().await, Ok(()));
    }
}
