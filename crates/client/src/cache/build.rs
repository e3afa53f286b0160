//! What is said about building a value, and what comes of it.

use super::{CacheEntry, CachePolicy, policy_settings};
use crate::Error;
use bytes::Bytes;
use std::time::Duration;

/// How long a builder has when nothing is said.
const BUILD_LEASE: Duration = Duration::from_secs(30);
/// The longest wait for another's value: that of the longest build lease.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How a value is built and kept; see [`crate::Cache::get_or_build`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until they are used"]
pub struct BuildOptions {
    pub(super) policy: CachePolicy,
    pub(super) build_lease: Duration,
    pub(super) wait: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) fresh_only: bool,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            policy: CachePolicy::default(),
            build_lease: BUILD_LEASE,
            wait: None,
            timeout: None,
            fresh_only: false,
        }
    }
}

impl BuildOptions {
    /// Kept until it is deleted, invalidated or evicted; without tags; built within 30 s.
    pub fn new() -> Self {
        Self::default()
    }

    policy_settings!(policy);

    /// How long the builder may take, 100 ms to 10 min; default: 30 s. What is built later is not
    /// stored, because somebody else has been asked to build it then.
    pub fn build_lease(mut self, build_lease: Duration) -> Self {
        self.build_lease = build_lease;
        self
    }

    /// How long to wait for a value that somebody else builds; default: as long as the build lease;
    /// at most 10 min.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// How long each call to the cluster may take, besides [`BuildOptions::wait`], retries included;
    /// default: the client's request timeout, at most 5 min. It is no bound on the builder.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits for the new value instead of answering a stale one.
    pub fn fresh_only(mut self) -> Self {
        self.fresh_only = true;
        self
    }

    pub(super) fn longest_wait(&self) -> Duration {
        self.wait.unwrap_or(self.build_lease).min(WAIT_MAX)
    }
}

/// What [`crate::Cache::get_or_build`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheValue {
    /// The value.
    pub value: Bytes,
    /// Its ttl is over; a new one is being built.
    pub stale: bool,
    /// Where it is from.
    pub source: Source,
    /// The revision it is of: it contains everything up to that.
    pub revision: u64,
}

/// Where a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A copy in this process.
    Near,
    /// The cluster had it, or somebody else was building it.
    Cluster,
    /// This process built it.
    Built,
}

impl CacheValue {
    pub(super) fn found(entry: CacheEntry, source: Source) -> Self {
        let CacheEntry { value, stale, revision, .. } = entry;
        Self { value, stale, source, revision }
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError<E> {
    /// The builder of this call failed. Whoever waited for it was told its text; nothing is stored.
    #[error("{0}")]
    Build(E),
    /// A call to the cluster failed.
    #[error("{0}")]
    Client(#[from] Error),
    /// Somebody else was building the value, and failed; this is what it said.
    #[error("building the value failed elsewhere: {0}")]
    BuildFailed(String),
}

impl<E> BuildError<E> {
    /// A failed call; what is only the report of another's failure is told apart.
    pub(super) fn of(error: Error) -> Self {
        match error {
            Error::BuildFailed { message, .. } => Self::BuildFailed(message),
            error => Self::Client(error),
        }
    }
}
