//! `cache get-or-build`: the value of a key, built by one if there is none.

use super::flights::{Landed, Lead, Place, Wanted, landed};
use super::task::{Task, ask};
use super::{BuildError, BuildOptions, Cache, CacheEntry, CacheValue, Freshness, Source};
use crate::Error;
use crate::kv::owned;
use crate::options::REQUEST_TIMEOUT_MAX;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use tokio::time::Instant;

/// How often a value is built for one call, when it was too late each time.
const BUILDS_MAX: u32 = 3;

impl Cache {
    /// The value of a key; if there is none, what `build` makes. Of all callers in the cluster that
    /// miss it at once, one builds it, and the others wait for that; of those in this process only
    /// one even asks.
    ///
    /// A value whose ttl is over is answered at once while it may be shown
    /// ([`BuildOptions::stale_for`]); one caller builds the new one behind it, in the background, up
    /// to 64 such at a time. With [`BuildOptions::fresh_only`] the new one is waited for.
    ///
    /// `build` is called again, up to three times in all, when what it made came too late: its
    /// lease had run out, or the key or one of its tags was set, deleted or invalidated while it was
    /// built, so that the value may be older than that. Let it read afresh each time, and
    /// give it a [`BuildOptions::build_lease`] that it does not exceed: what takes longer is never
    /// stored.
    ///
    /// ```no_run
    /// # use quorate_client::cache::{BuildError, BuildOptions, Cache};
    /// # use std::time::Duration;
    /// # async fn query() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn example(cache: Cache) -> Result<(), BuildError<std::io::Error>> {
    /// let minute = Duration::from_secs(60);
    /// let options = BuildOptions::new().ttl(30 * minute).stale_for(minute).tag("products");
    /// let popular = cache.get_or_build("products:popular", options, query).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BuildError::Build`] with this caller's own error; nothing is stored then, and whoever waits
    /// gets its text as [`BuildError::BuildFailed`]. [`BuildError::Client`] when a call to the
    /// cluster failed, or what was waited for did not come in time; when it is the call that stores
    /// the value, that is not answered, because it may be older than what this client has to see.
    /// Those in this process that waited get the same error.
    ///
    /// # Cancel safety
    /// When the future is dropped while it builds, the task is given back in the background, and
    /// whoever waits takes over. What is built behind a stale value goes on.
    pub async fn get_or_build<V, E, F, B>(
        &self,
        key: impl AsRef<[u8]>,
        options: BuildOptions,
        mut build: B,
    ) -> Result<CacheValue, BuildError<E>>
    where
        V: Into<Bytes>,
        E: fmt::Display + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
        B: FnMut() -> F + Send + 'static,
    {
        let build = move || {
            let building = build();
            async move { building.await.map(Into::into).map_err(BuildError::Build) }
        };
        self.obtain(owned(key), options, build).await
    }

    /// As [`Cache::get_or_build`], with a builder that may fail for a reason of the client's own.
    pub(super) async fn obtain<E, F, B>(
        &self,
        key: Bytes,
        options: BuildOptions,
        build: B,
    ) -> Result<CacheValue, BuildError<E>>
    where
        E: fmt::Display + Send + 'static,
        F: Future<Output = Result<Bytes, BuildError<E>>> + Send + 'static,
        B: FnMut() -> F + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let Freshness::At(seen) = self.freshness(0) else {
            return Err(BuildError::Client(Error::ResourceExhausted {
                reason: "TOO_MANY_NAMESPACES".to_owned(),
                message: "this client works in too many namespaces to know what it has seen in \
                          each; use another client"
                    .to_owned(),
            }));
        };
        if let Some(near) = self.running_near() {
            if let Some(entry) = near.get(&key, seen) {
                inner.cache.counters.near_hit();
                return Ok(CacheValue::found(entry, Source::Near));
            }
            inner.cache.counters.near_miss();
        }
        let timeout = options.timeout.unwrap_or(inner.request_timeout).min(REQUEST_TIMEOUT_MAX);
        let until = Instant::now() + timeout + options.longest_wait();
        let wanted = Wanted {
            namespace: Arc::clone(&self.namespace),
            key: key.clone(),
            fresh_only: options.fresh_only,
        };
        let mut waited = false;
        loop {
            let landing = match inner.cache.flights.join(&wanted) {
                Place::Leads(lead) => return self.lead(lead, key, options, build).await,
                Place::Alone => return Box::pin(self.fetch(key, options, build)).await,
                Place::Waits(landing) => landing,
            };
            if !waited {
                inner.cache.counters.wait();
                waited = true;
            }
            let Ok(landed) = tokio::time::timeout_at(until, landed(landing)).await else {
                return Err(BuildError::Client(Error::Unavailable {
                    reason: "BUILD_WAIT_TIMEOUT".to_owned(),
                    message: "another call of this client was still building the value when there \
                              was no time left to wait"
                        .to_owned(),
                }));
            };
            match landed {
                // It may have begun before something that this call has to see.
                Some(Landed::Value(value)) if value.revision < seen => {}
                Some(Landed::Value(value)) => return Ok(value),
                Some(Landed::BuildFailed(text)) => return Err(BuildError::BuildFailed(text)),
                Some(Landed::Client(error)) => return Err(BuildError::Client(error)),
                // It was dropped: somebody else has to make the call.
                None => {}
            }
        }
    }

    async fn lead<E, F, B>(
        &self,
        lead: Lead<'_>,
        key: Bytes,
        options: BuildOptions,
        build: B,
    ) -> Result<CacheValue, BuildError<E>>
    where
        E: fmt::Display + Send + 'static,
        F: Future<Output = Result<Bytes, BuildError<E>>> + Send + 'static,
        B: FnMut() -> F + Send + 'static,
    {
        let came = Box::pin(self.fetch(key, options, build)).await;
        lead.land(&came);
        came
    }

    /// Asks the cluster, and does what it says.
    async fn fetch<E, F, B>(
        &self,
        key: Bytes,
        options: BuildOptions,
        mut build: B,
    ) -> Result<CacheValue, BuildError<E>>
    where
        E: fmt::Display + Send + 'static,
        F: Future<Output = Result<Bytes, BuildError<E>>> + Send + 'static,
        B: FnMut() -> F + Send + 'static,
    {
        let counters = &self.inner.cache.counters;
        let mut builds = 0;
        loop {
            let sent_at = Instant::now();
            let answer = ask(self, &key, &options).await.map_err(BuildError::of)?;
            let task = answer.task.map(|task| Task::new(self, &key, task.lease));
            let entry = answer
                .entry
                .map(|entry| CacheEntry::read(entry, answer.revision))
                .filter(|entry| !(entry.stale && options.fresh_only));
            counters.read(entry.as_ref());
            let task = match (entry, task) {
                (Some(entry), task) => {
                    if let Some(near) = &self.near {
                        near.offer(&key, &entry, answer.group_id, sent_at);
                    }
                    if let Some(task) = task {
                        self.rebuild(task, options, build);
                    }
                    return Ok(CacheValue::found(entry, Source::Cluster));
                }
                (None, Some(task)) => task,
                (None, None) => {
                    return Err(BuildError::Client(Error::bad_answer(
                        "cache get-or-build was answered without a value and without a task"
                            .to_owned(),
                    )));
                }
            };
            counters.build();
            builds += 1;
            let value = match build().await {
                Ok(value) => value,
                Err(error) => {
                    task.fail(&error.to_string()).await;
                    return Err(error);
                }
            };
            match task.fill(value.clone(), &options.policy, options.timeout).await {
                Ok(revision) => {
                    return Ok(CacheValue { value, stale: false, source: Source::Built, revision });
                }
                Err(Error::BuildLeaseLost { message, .. }) if builds < BUILDS_MAX => {
                    tracing::debug!(message, builds, "a value came too late, and is built again");
                }
                Err(error) => return Err(BuildError::Client(error)),
            }
        }
    }

    /// Builds a value behind the stale one; gives the task back when there are too many such.
    fn rebuild<E, F, B>(&self, task: Task, options: BuildOptions, mut build: B)
    where
        E: fmt::Display + Send + 'static,
        F: Future<Output = Result<Bytes, BuildError<E>>> + Send + 'static,
        B: FnMut() -> F + Send + 'static,
    {
        let shared = &self.inner.cache;
        let Ok(permit) = Arc::clone(&shared.rebuilds).try_acquire_owned() else { return };
        shared.counters.build();
        drop(tokio::spawn(async move {
            let _permit = permit;
            // Made in here, so that a builder that panics gives the task back.
            match build().await {
                Ok(value) => {
                    if let Err(error) = task.fill(value, &options.policy, options.timeout).await {
                        tracing::debug!(%error, "what was built behind a stale value is not stored");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "building behind a stale value failed");
                    task.fail(&error.to_string()).await;
                }
            }
        }));
    }
}
