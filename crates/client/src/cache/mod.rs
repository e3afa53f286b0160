//! The cache handle.
//!
//! ```no_run
//! use quorate_client::cache::{BuildError, BuildOptions};
//! use quorate_client::Client;
//! use std::time::Duration;
//!
//! # async fn load_from_database(id: u64) -> Result<String, std::io::Error> { Ok(id.to_string()) }
//! # async fn example(client: Client) -> Result<(), BuildError<std::io::Error>> {
//! let cache = client.cache();
//! // Whatever this process, or any other, asks for at once: the database is asked one time.
//! let options = BuildOptions::new().ttl(Duration::from_secs(3_600)).tag("users");
//! let user = cache.get_or_build("user:7", options, || load_from_database(7)).await?;
//! println!("{:?}", user.value);
//!
//! // Somebody was renamed. From here on no read of this client answers what was before.
//! cache.invalidate_tags(["users"]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a read sees
//!
//! Reads are answered by the node that is asked, from what it has applied, so they are cheap and may
//! lag behind what others do. They never lag behind what this client knows: it remembers the newest
//! revision that any answer of its group told of, whichever service it came from, and sends it along
//! with every read of the cache. So a read after a write or an invalidation of one's own, or after
//! one whose effect was seen, never answers something older; that holds for [`Cache::near`] too.
//! [`Get::linearizable`] sees all that was acknowledged to anybody.

mod build;
mod counters;
mod delete;
mod delete_pattern;
mod flights;
mod get;
mod get_or_build;
mod invalidate_tags;
mod near;
mod resize;
mod set;
mod stats;
mod task;
mod touch;
mod typed;

pub use build::{BuildError, BuildOptions, CacheValue, Source};
pub use counters::CacheCounters;
pub use delete::Delete;
pub use delete_pattern::DeletePattern;
pub use get::{CacheEntry, Get};
pub use invalidate_tags::InvalidateTags;
pub use near::NearOptions;
pub use resize::{Resize, Resized};
pub use set::{Set, Written};
pub use stats::{CacheStats, Stats};
pub use touch::{Touch, Touched};
pub use typed::TypedCache;

pub use crate::kv::{Deleted, DeletedPattern};

use crate::Error;
use crate::client::{CallOptions, Inner};
use crate::kv::{Keys, millis, owned};
use crate::method::Method;
use bytes::Bytes;
use counters::Counters;
use flights::Flights;
use near::Near;
use quorate_proto::v1::{self, Consistency, Origin};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long a write waits for room at first, and at most: eviction makes some in a few of them.
const FULL_PAUSE: Duration = Duration::from_millis(5);
const FULL_PAUSE_MAX: Duration = Duration::from_millis(100);
/// Values that are built behind a stale one at the same time, by one client.
const REBUILDS_MAX: usize = 64;
/// Requests for a task that nobody waits for any more, and that may yet be given it.
const ABANDONED_MAX: usize = 64;

/// The settings that say how an entry is kept.
macro_rules! policy_settings {
    ($($policy:ident)?) => {
        /// It is fresh for this long, 1 ms to ten years; parts of a millisecond count as a whole
        /// one. Without it, until it is deleted or evicted.
        pub fn ttl(mut self, ttl: std::time::Duration) -> Self {
            self$(.$policy)?.ttl = Some(ttl);
            self
        }

        /// How long after its ttl it may still be shown, as a stale one, while a new value is
        /// built; default: not at all.
        pub fn stale_for(mut self, stale_for: std::time::Duration) -> Self {
            self$(.$policy)?.stale_for = stale_for;
            self
        }

        /// Gives it a tag, by which it can be made to vanish together with others
        /// ([`crate::Cache::invalidate_tags`]). At most 16, of 1 to 128 bytes each.
        pub fn tag(mut self, tag: impl Into<String>) -> Self {
            self$(.$policy)?.tags.push(tag.into());
            self
        }

        /// Gives it several tags.
        pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
            self$(.$policy)?.tags.extend(tags.into_iter().map(Into::into));
            self
        }
    };
}
use policy_settings;

/// What all cache handles of a client share.
pub(crate) struct Shared {
    flights: Flights,
    counters: Counters,
    rebuilds: Arc<Semaphore>,
    abandoned: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            flights: Flights::default(),
            counters: Counters::default(),
            rebuilds: Arc::new(Semaphore::new(REBUILDS_MAX)),
            abandoned: Arc::new(Semaphore::new(ABANDONED_MAX)),
        }
    }
}

/// The cache of one namespace. Cheap to clone.
///
/// Each method makes a request that is sent when it is awaited:
/// `cache.set("k", "v").ttl(ttl).await?`. Keys of the cache and of [`crate::KeyValue`] have nothing
/// to do with each other.
///
/// # Cancel safety
/// As of [`crate::KeyValue`]; see [`Cache::get_or_build`] for its own.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
    namespace: Arc<str>,
    near: Option<Arc<Near>>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("namespace", &self.namespace)
            .field("near", &self.near.is_some())
            .finish_non_exhaustive()
    }
}

impl Cache {
    pub(crate) fn new(inner: Arc<Inner>, namespace: Arc<str>) -> Self {
        Self { inner, namespace, near: None }
    }

    /// The same cache with copies of what is read in this process; see [`NearOptions`]. Its clones
    /// share them; a handle that is made anew has none.
    ///
    /// ```no_run
    /// # use quorate_client::cache::NearOptions;
    /// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
    /// let cache = client.cache().near(NearOptions::new().bytes_max(16 << 20));
    /// let asked = cache.get("products:popular").await?;
    /// let copied = cache.get("products:popular").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn near(&self, options: NearOptions) -> Self {
        let near = Near::new(Arc::clone(&self.inner.engine), Arc::clone(&self.namespace), options);
        Self { near: Some(Arc::new(near)), ..self.clone() }
    }

    /// Reads a key. A miss is no error.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Get {
        Get::new(self.clone(), owned(key))
    }

    /// Sets a key. Without a ttl it is kept until it is deleted, or evicted because the cache is
    /// full. Whoever is building it is too late then.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Set {
        Set::new(self.clone(), owned(key), value.into())
    }

    /// Deletes a key. A missing key is no error. Whoever is building it is too late then.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Delete {
        Delete::new(self.clone(), owned(key))
    }

    /// Deletes the keys that match a pattern; see [`crate::KeyValue::list`].
    pub fn delete_pattern(&self, pattern: impl AsRef<[u8]>) -> DeletePattern {
        DeletePattern::new(self.clone(), Keys::Pattern(owned(pattern)))
    }

    /// Deletes the keys that begin with these bytes; all keys when empty.
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> DeletePattern {
        DeletePattern::new(self.clone(), Keys::Prefix(owned(prefix)))
    }

    /// Makes every entry that has one of these tags vanish, at once and however many there are. 1 to
    /// 64 tags.
    pub fn invalidate_tags<T: Into<String>>(
        &self,
        tags: impl IntoIterator<Item = T>,
    ) -> InvalidateTags {
        InvalidateTags::new(self.clone(), tags.into_iter().map(Into::into).collect())
    }

    /// Begins the ttl of an entry anew; without [`Touch::ttl`] it has none from then on.
    pub fn touch(&self, key: impl AsRef<[u8]>) -> Touch {
        Touch::new(self.clone(), owned(key))
    }

    /// How full the cache is, as one node sees it.
    pub fn stats(&self) -> Stats {
        Stats::new(self.clone())
    }

    /// Changes the bound of the cache on all nodes, in bytes of keys, values and tags and 128
    /// for each entry: 1 MiB to 64 GiB. For operators; it is that of the namespace's whole group.
    pub fn resize(&self, bytes_max: u64) -> Resize {
        Resize::new(self.clone(), bytes_max)
    }

    /// What this client's handles found, in this process and in the cluster, since it was made.
    #[must_use]
    pub fn counters(&self) -> CacheCounters {
        self.inner.cache.counters.now()
    }

    /// The newest revision this client knows of in the group of this namespace; 0 when it knows of
    /// none. A read in another process that is to see as much gets it as its
    /// [`Get::min_revision`].
    #[must_use]
    pub fn seen_revision(&self) -> u64 {
        self.inner.engine.seen.newest(&self.namespace).unwrap_or(0)
    }

    /// The same cache, with values of a Rust type that are stored as JSON.
    #[must_use]
    pub fn typed<T: serde::Serialize + serde::de::DeserializeOwned>(&self) -> TypedCache<T> {
        TypedCache::new(self.clone())
    }

    /// Sends what needs room, again and again while room is being made, until its time is over. Each
    /// time as another request, because that the first was refused is remembered.
    async fn store<M: Method>(
        &self,
        what: &'static str,
        options: &CallOptions,
        request: impl Fn(Origin) -> M,
    ) -> Result<M::Answer, Error> {
        let until = Instant::now() + options.timeout.unwrap_or(self.inner.request_timeout);
        let mut pause = FULL_PAUSE;
        loop {
            let answer = self.inner.mutate(what, &self.namespace, options, &request).await;
            match &answer {
                // Under an identity that was given it can only be repeated as it is.
                Err(Error::ResourceExhausted { reason, .. })
                    if reason == "CACHE_FULL"
                        && options.identity.is_none()
                        && Instant::now() + pause < until => {}
                _ => return answer,
            }
            tokio::time::sleep(pause).await;
            pause = FULL_PAUSE_MAX.min(pause * 2);
        }
    }

    /// How a read must be made to see this revision and all this client knows of.
    fn freshness(&self, min_revision: u64) -> Freshness {
        match self.inner.engine.seen.newest(&self.namespace) {
            Some(seen) => Freshness::At(seen.max(min_revision)),
            None => Freshness::Newest,
        }
    }

    /// The near cache, running.
    fn running_near(&self) -> Option<&Arc<Near>> {
        let near = self.near.as_ref()?;
        near.start();
        Some(near)
    }
}

/// What a read has to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    /// This revision.
    At(u64),
    /// Everything: this client does not know what it has seen.
    Newest,
}

impl Freshness {
    fn wire(self) -> (Consistency, u64) {
        match self {
            Self::At(revision) => (Consistency::Stale, revision),
            Self::Newest => (Consistency::Linearizable, 0),
        }
    }
}

/// How an entry is to be kept, where that is said apart from a request: in
/// [`crate::Transaction::cache_set`]. By default until it is deleted or evicted, without tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a policy does nothing until it is used"]
pub struct CachePolicy {
    ttl: Option<Duration>,
    stale_for: Duration,
    tags: Vec<String>,
}

impl CachePolicy {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    policy_settings!();

    pub(crate) fn wire(&self) -> v1::CachePolicy {
        v1::CachePolicy {
            ttl_ms: self.ttl.map(millis),
            stale_for_ms: millis(self.stale_for),
            tags: self.tags.clone(),
        }
    }
}

/// A request is sent when it is awaited.
macro_rules! sent_when_awaited {
    ($request:ident => $answer:ty) => {
        impl std::future::IntoFuture for $request {
            type Output = Result<$answer, crate::Error>;
            type IntoFuture = futures::future::BoxFuture<'static, Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.send())
            }
        }
    };
}
use sent_when_awaited;
