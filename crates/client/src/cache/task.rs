//! The task of building a value: asked for, done, given up; never left behind if that can be helped.

use super::{BuildOptions, Cache, CachePolicy};
use crate::Error;
use crate::client::{CallOptions, Identity};
use crate::failure::bounded;
use crate::kv::millis;
use bytes::Bytes;
use futures::future::BoxFuture;
use quorate_proto::v1::{
    CacheEndBuildRequest, CacheFillRequest, CacheGetOrBuildRequest, CacheGetOrBuildResponse,
};
use std::time::Duration;
use tokio::runtime::Handle;

/// Bytes of what a builder says when it fails.
const ERROR_BYTES_MAX: usize = 1_024;
/// How long a request is followed that nobody waits for any more.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks for a value, or for the task of building it.
///
/// # Cancel safety
/// When it is dropped before it is answered, the answer is waited for in the background for a while:
/// a task that comes with it is given back, instead of keeping others waiting until its lease ends.
pub(super) async fn ask(
    cache: &Cache,
    key: &Bytes,
    options: &BuildOptions,
) -> Result<CacheGetOrBuildResponse, Error> {
    let call = Box::pin(call(cache.clone(), key.clone(), options.clone()));
    let mut asked = Asked { cache: cache.clone(), key: key.clone(), call: Some(call) };
    let answer = match &mut asked.call {
        Some(call) => call.await,
        None => unreachable!("it is taken when it is answered or dropped"),
    };
    asked.call = None;
    answer
}

async fn call(
    cache: Cache,
    key: Bytes,
    options: BuildOptions,
) -> Result<CacheGetOrBuildResponse, Error> {
    let inner = &cache.inner;
    let wait = options.longest_wait();
    // By a sequence of the session one that waits would hold up all other mutations of the client once
    // 1 024 of them have come behind it.
    let identity = Identity::Key(inner.engine.random.key().to_vec().into());
    let call = CallOptions {
        timeout: options.timeout,
        identity: Some(identity),
        ..CallOptions::default()
    };
    // Once: each repetition has to be the same request.
    let min_revision = inner.engine.seen.newest(&cache.namespace).unwrap_or(0);
    let request = |origin| CacheGetOrBuildRequest {
        namespace: cache.namespace.to_string(),
        origin: Some(origin),
        key: key.clone(),
        build_lease_ms: millis(options.build_lease),
        min_revision,
        fresh_only: options.fresh_only,
    };
    inner.mutate_waiting("cache get-or-build", &cache.namespace, &call, wait, request).await
}

/// A request that is on its way.
struct Asked {
    cache: Cache,
    key: Bytes,
    call: Option<BoxFuture<'static, Result<CacheGetOrBuildResponse, Error>>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        // Too many: their leases end by themselves.
        let abandoned = std::sync::Arc::clone(&self.cache.inner.cache.abandoned);
        let Ok(permit) = abandoned.try_acquire_owned() else { return };
        let (cache, key) = (self.cache.clone(), self.key.clone());
        drop(runtime.spawn(async move {
            let _permit = permit;
            if let Ok(Ok(answer)) = tokio::time::timeout(ABANDONED_TIMEOUT, call).await
                && let Some(task) = answer.task
            {
                drop(Task::new(&cache, &key, task.lease));
            }
        }));
    }
}

/// The task of building a value. Dropped before it is done, it is given back in the background, as
/// well as that can be done: somebody else gets it then, at the latest when its lease ends.
pub(super) struct Task {
    cache: Cache,
    key: Bytes,
    lease: u64,
    open: bool,
}

impl Task {
    pub(super) fn new(cache: &Cache, key: &Bytes, lease: u64) -> Self {
        Self { cache: cache.clone(), key: key.clone(), lease, open: true }
    }

    /// Stores what was built; answers when.
    pub(super) async fn fill(
        mut self,
        value: Bytes,
        policy: &CachePolicy,
        timeout: Option<Duration>,
    ) -> Result<u64, Error> {
        let options = CallOptions { timeout, ..CallOptions::default() };
        let Self { cache, key, lease, .. } = &self;
        let request = |origin| CacheFillRequest {
            namespace: cache.namespace.to_string(),
            origin: Some(origin),
            key: key.clone(),
            lease: *lease,
            value: value.clone(),
            policy: Some(policy.wire()),
        };
        let answer = cache.store("cache fill", &options, request).await;
        cache.forget(key);
        // What is not stored for any other reason is to be built by somebody.
        self.open = !matches!(answer, Ok(_) | Err(Error::BuildLeaseLost { .. }));
        Ok(answer?.revision)
    }

    /// Building failed: whoever waits is told why.
    ///
    /// # Cancel safety
    /// They are told in any case.
    pub(super) async fn fail(mut self, why: &str) {
        self.open = false;
        if let Some(ending) = self.end(Some(bounded(why, ERROR_BYTES_MAX).to_owned())) {
            // What can't be said is not waited for: the lease ends.
            let _ = ending.await;
        }
    }

    fn end(&self, error: Option<String>) -> Option<tokio::task::JoinHandle<()>> {
        let runtime = Handle::try_current().ok()?;
        let (cache, key, lease) = (self.cache.clone(), self.key.clone(), self.lease);
        // Ends by itself within its deadline.
        Some(runtime.spawn(async move {
            let request = |origin| CacheEndBuildRequest {
                namespace: cache.namespace.to_string(),
                origin: Some(origin),
                key: key.clone(),
                lease,
                error: error.clone(),
            };
            let (inner, options) = (&cache.inner, CallOptions::default());
            let ended = inner.mutate("cache end-build", &cache.namespace, &options, request).await;
            if let Err(error) = ended {
                tracing::debug!(lease, %error, "a build was not ended; its lease ends it");
            }
        }))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.open {
            drop(self.end(None));
        }
    }
}
