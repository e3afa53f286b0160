//! The near cache: copies of what was read, in this process, kept right by what the cluster says was
//! set, deleted or invalidated.

mod entries;
mod ring;

use super::CacheEntry;
use crate::call::{Effect, Engine, Plan};
use crate::retry;
use bytes::Bytes;
use entries::Entries;
use quorate_proto::v1::{CacheInvalidationsRequest, CacheInvalidationsResponse};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes of copies when nothing is said.
const BYTES_MAX: u64 = 64 << 20;
/// How long a copy is used when nothing is said.
const TTL_MAX: Duration = Duration::from_secs(60);
/// The longest that may be said.
const TTL_LONGEST: Duration = Duration::from_secs(86_400);
/// A node says how far it is every few seconds, and ends the stream itself after 15 s without a
/// leader. One that says nothing for longer is frozen, or cut off.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long a node may take to begin the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it is left when no node offers the stream, or allows it.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How much a near cache may keep, and how long; see [`crate::Cache::near`].
///
/// It keeps what was read and found fresh, never a miss and never a stale value. A copy is used
/// while all that this client knows of in the group of its namespace is known to have left it alone:
/// a node tells, over one stream, what is set, deleted or invalidated, and up to which revision; reads
/// are answered here only while that revision has come to the newest one that any answer to this
/// client told of. Otherwise they go to the cluster as if there were no copies. So a read after a
/// write or an invalidation of one's own never answers what was before it. What others do is seen as
/// soon as the stream tells: usually within milliseconds, at the latest 20 s later, when a
/// stream that says nothing is given up. When it is lost, all copies are dropped.
#[derive(Clone, Copy, Debug)]
#[must_use = "options do nothing until they are used"]
pub struct NearOptions {
    bytes_max: u64,
    ttl_max: Duration,
}

impl Default for NearOptions {
    fn default() -> Self {
        Self { bytes_max: BYTES_MAX, ttl_max: TTL_MAX }
    }
}

impl NearOptions {
    /// 64 MiB, 60 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of keys, values and tags, and 128 for each entry, that are kept at most; default:
    /// 64 MiB. What was not read for long goes first. Larger values than that are not kept.
    pub fn bytes_max(mut self, bytes_max: u64) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// How long a copy is used at most, however long its ttl is; default: 60 s. A ttl is counted from
    /// when the read was sent. At most a day.
    pub fn ttl_max(mut self, ttl_max: Duration) -> Self {
        self.ttl_max = ttl_max.min(TTL_LONGEST);
        self
    }
}

/// The copies, and the task that keeps them right, which ends with this.
pub(super) struct Near {
    engine: Arc<Engine>,
    namespace: Arc<str>,
    entries: Arc<Entries>,
    following: OnceLock<JoinHandle<()>>,
}

impl Near {
    pub(super) fn new(engine: Arc<Engine>, namespace: Arc<str>, options: NearOptions) -> Self {
        let NearOptions { bytes_max, ttl_max } = options;
        let entries = Arc::new(Entries::new(bytes_max, ttl_max));
        let near = Self { engine, namespace, entries, following: OnceLock::new() };
        if Handle::try_current().is_ok() {
            near.start();
        }
        near
    }

    /// Begins to follow, within a runtime; once.
    pub(super) fn start(&self) {
        self.following.get_or_init(|| {
            let (engine, namespace) = (Arc::clone(&self.engine), Arc::clone(&self.namespace));
            tokio::spawn(follow(engine, namespace, Arc::clone(&self.entries)))
        });
    }

    /// The copy of a key, if it is known to be as new as this revision.
    pub(super) fn get(&self, key: &[u8], revision: u64) -> Option<CacheEntry> {
        self.entries.get(key, revision, Instant::now())
    }

    /// Keeps what was read, if that can be known to be right.
    pub(super) fn offer(&self, key: &Bytes, entry: &CacheEntry, group: u32, sent_at: Instant) {
        self.entries.offer(key, entry, group, sent_at, Instant::now());
    }

    pub(super) fn forget(&self, key: &[u8]) {
        self.entries.forget(key);
    }

    pub(super) fn forget_tags(&self, tags: &[String]) {
        self.entries.forget_tags(tags);
    }

    pub(super) fn forget_all(&self) {
        self.entries.forget_all();
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        if let Some(following) = self.following.get() {
            following.abort();
        }
    }
}

/// Takes in what one node after the other says; ended from outside when nobody needs it any more.
async fn follow(engine: Arc<Engine>, namespace: Arc<str>, entries: Arc<Entries>) {
    let mut failures = 0;
    loop {
        let plan = Plan {
            what: "cache invalidations",
            effect: Effect::Read,
            deadline: Instant::now() + OPEN_TIMEOUT,
            attempt_timeout: engine.attempt_timeout,
            only: None,
        };
        let request = CacheInvalidationsRequest { namespace: namespace.to_string() };
        match engine.open_invalidations(&plan, request).await {
            Ok((first, mut stream)) => {
                entries.begin(first.group_id, first.revision);
                let mut next = Some(first);
                let why = loop {
                    if let Some(message) = next.take()
                        && let Err(why) = take_in(&entries, message)
                    {
                        break why;
                    }
                    match tokio::time::timeout(SILENCE_MAX, stream.message()).await {
                        Ok(Ok(Some(message))) => {
                            failures = 0;
                            next = Some(message);
                        }
                        Ok(Ok(None)) => break "the stream ended".to_owned(),
                        Ok(Err(status)) => break status.message().to_owned(),
                        Err(_) => break "the node fell silent".to_owned(),
                    }
                };
                entries.lost();
                tracing::debug!(why, "a near cache lost its stream, and begins anew");
            }
            Err(failure) if failure.is_worth_retrying() => {}
            Err(failure) => {
                tracing::warn!(error = failure.message, "no stream for a near cache");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
        tokio::time::sleep(retry::backoff(failures, &engine.random)).await;
        failures = failures.saturating_add(1);
    }
}

fn take_in(entries: &Entries, message: CacheInvalidationsResponse) -> Result<(), String> {
    let CacheInvalidationsResponse { invalidations, revision, group_id } = message;
    entries.take_in(&invalidations, group_id, revision)
}
