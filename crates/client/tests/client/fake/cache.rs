//! The cache of scripted nodes: one state that all of them answer from at once, with leases, those who
//! wait for a value, and what streams are told of changes.

use super::node::{Node, head};
use super::state::State;
use super::{NOT_APPLIED, status};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use quorate_proto::v1::cache_invalidation::What;
use quorate_proto::v1::cache_service_server::CacheService;
use quorate_proto::v1::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

/// Messages on their way to a stream: more than any test sends.
const MESSAGES_MAX: usize = 10_000;
/// The revision of the first change, well above those of the other services.
const FIRST: u64 = 1_000;

type Telling = mpsc::Sender<Result<CacheInvalidationsResponse, Status>>;

pub(super) struct Caches {
    revision: u64,
    entries: BTreeMap<Vec<u8>, Kept>,
    builds: BTreeMap<Vec<u8>, Build>,
    /// What a repetition gets, by the request's key.
    leases: BTreeMap<Vec<u8>, u64>,
    failures: BTreeMap<u64, String>,
    last_lease: u64,
    changed: Arc<Notify>,
    calls: Vec<String>,
    get_scripts: VecDeque<CacheGetResponse>,
    streams: Vec<Telling>,
    streams_begun: usize,
    /// What is kept back from them; none when nothing is.
    held: Option<Vec<CacheInvalidation>>,
}

#[derive(Clone)]
struct Kept {
    value: Bytes,
    tags: Vec<String>,
    revision: u64,
    fresh_until: Option<Instant>,
    shown_until: Option<Instant>,
}

struct Build {
    lease: u64,
    until: Instant,
}

/// What becomes of one who wants a value.
enum Next {
    Answer(CacheGetOrBuildResponse),
    /// Until something changes, or that lease ends.
    Wait(u64, Instant),
    Fail(Status),
}

impl Default for Caches {
    fn default() -> Self {
        Self {
            revision: FIRST,
            entries: BTreeMap::new(),
            builds: BTreeMap::new(),
            leases: BTreeMap::new(),
            failures: BTreeMap::new(),
            last_lease: 0,
            changed: Arc::default(),
            calls: Vec::new(),
            get_scripts: VecDeque::new(),
            streams: Vec::new(),
            streams_begun: 0,
            held: None,
        }
    }
}

/// Tests say what happens behind the client's back.
impl State {
    /// What was asked of the cache, in the order it came.
    pub(crate) fn cache_calls(&self) -> Vec<String> {
        self.caches(|caches| caches.calls.clone())
    }

    /// The next read is answered with this, whatever there is: as by a node that is behind.
    pub(crate) fn script_cache_get(&self, value: &str, tags: &[&str], revision: u64) {
        let entry = CacheEntry {
            value: value.to_owned().into(),
            mod_revision: revision,
            remaining_ttl_ms: Some(60_000),
            stale: false,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        let answer = CacheGetResponse { entry: Some(entry), revision, group_id: 0 };
        self.caches(|caches| caches.get_scripts.push_back(answer));
    }

    /// Somebody else sets a key. Answers the revision.
    pub(crate) fn set_cache(&self, key: &str, value: &str, policy: CachePolicy) -> u64 {
        self.caches(|caches| caches.set(key.as_bytes(), value.to_owned().into(), Some(policy)))
    }

    /// Somebody else invalidates a tag. Answers the revision.
    pub(crate) fn invalidate_tag(&self, tag: &str) -> u64 {
        self.caches(|caches| caches.invalidate(&[tag.to_owned()]))
    }

    /// Streams are told of nothing from now on.
    pub(crate) fn hold_invalidations(&self) {
        self.caches(|caches| caches.held = Some(Vec::new()));
    }

    /// They are told of it all.
    pub(crate) fn release_invalidations(&self) {
        self.caches(|caches| {
            let held = caches.held.take().unwrap_or_default();
            caches.tell(held);
        });
    }

    /// All streams end so.
    pub(crate) fn end_invalidations(&self, why: Option<Status>) {
        self.caches(|caches| {
            for stream in caches.streams.drain(..) {
                if let Some(why) = why.clone() {
                    stream.try_send(Err(why)).expect("there is room");
                }
            }
        });
    }

    /// Streams that were begun so far.
    pub(crate) fn invalidation_streams(&self) -> usize {
        self.caches(|caches| caches.streams_begun)
    }

    fn cache_called(&self, call: String) {
        self.caches(|caches| caches.calls.push(call));
    }
}

impl Caches {
    fn change(&mut self, invalidations: Vec<What>) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        let invalidations: Vec<_> = invalidations
            .into_iter()
            .map(|what| CacheInvalidation { revision, what: Some(what) })
            .collect();
        match &mut self.held {
            Some(held) => held.extend(invalidations),
            None => self.tell(invalidations),
        }
        self.changed.notify_waiters();
        revision
    }

    fn tell(&mut self, invalidations: Vec<CacheInvalidation>) {
        let message =
            CacheInvalidationsResponse { invalidations, revision: self.revision, group_id: 0 };
        self.streams.retain(|stream| stream.try_send(Ok(message.clone())).is_ok());
    }

    fn set(&mut self, key: &[u8], value: Bytes, policy: Option<CachePolicy>) -> u64 {
        let CachePolicy { ttl_ms, stale_for_ms, tags } = policy.unwrap_or_default();
        self.builds.remove(key);
        let revision = self.change(vec![What::Key(key.to_vec().into())]);
        let fresh_until = ttl_ms.map(|ttl| Instant::now() + Duration::from_millis(ttl));
        let shown_until = fresh_until.map(|until| until + Duration::from_millis(stale_for_ms));
        let kept = Kept { value, tags, revision, fresh_until, shown_until };
        self.entries.insert(key.to_vec(), kept);
        revision
    }

    fn delete(&mut self, key: &[u8]) -> (bool, u64) {
        self.builds.remove(key);
        let deleted = self.entries.remove(key).is_some();
        (deleted, self.change(vec![What::Key(key.to_vec().into())]))
    }

    /// Whatever is being built may have the tag.
    fn invalidate(&mut self, tags: &[String]) -> u64 {
        self.builds.clear();
        self.entries.retain(|_, kept| !kept.tags.iter().any(|tag| tags.contains(tag)));
        self.change(tags.iter().cloned().map(What::Tag).collect())
    }

    fn find(&self, key: &[u8], allow_stale: bool) -> Option<CacheEntry> {
        let kept = self.entries.get(key)?;
        let now = Instant::now();
        let left = kept.fresh_until.map(|until| until.saturating_duration_since(now));
        let stale = left.is_some_and(|left| left.is_zero());
        let shown = kept.shown_until.is_none_or(|until| now < until);
        if stale && !(allow_stale && shown) {
            return None;
        }
        Some(CacheEntry {
            value: kept.value.clone(),
            mod_revision: kept.revision,
            remaining_ttl_ms: left.map(|left| left.as_millis().try_into().expect("it is short")),
            stale,
            tags: kept.tags.clone(),
        })
    }

    fn get_or_build(&mut self, request: &CacheGetOrBuildRequest, waits_for: Option<u64>) -> Next {
        let CacheGetOrBuildRequest { origin, key, build_lease_ms, fresh_only, .. } = request;
        let (now, revision) = (Instant::now(), self.revision);
        self.builds.retain(|_, build| build.until > now);
        let name = origin.clone().unwrap_or_default().idempotency_key.to_vec();
        let answer = |entry, task| {
            Next::Answer(CacheGetOrBuildResponse { entry, task, revision, group_id: 0 })
        };
        let entry = self.find(key, !fresh_only);
        if entry.as_ref().is_some_and(|entry| !entry.stale) {
            return answer(entry, None);
        }
        let task = |build: &Build| CacheBuildTask {
            lease: build.lease,
            remaining_ms: (build.until - now).as_millis().try_into().expect("it is short"),
        };
        match self.builds.get(&key[..]) {
            Some(build) if self.leases.get(&name) == Some(&build.lease) => {
                return answer(entry, Some(task(build)));
            }
            Some(_) if entry.is_some() => return answer(entry, None),
            Some(build) => return Next::Wait(build.lease, build.until),
            None => {}
        }
        if let Some(why) = waits_for.and_then(|lease| self.failures.get(&lease)) {
            let words = status(Code::Aborted, NOT_APPLIED, "BUILD_FAILED");
            return Next::Fail(Status::with_metadata(
                Code::Aborted,
                why.clone(),
                words.metadata().clone(),
            ));
        }
        self.last_lease += 1;
        let until = now + Duration::from_millis((*build_lease_ms).max(1));
        let build = Build { lease: self.last_lease, until };
        let task = task(&build);
        self.leases.insert(name, build.lease);
        self.builds.insert(key.to_vec(), build);
        answer(entry, Some(task))
    }

    fn holds(&mut self, key: &[u8], lease: u64) -> bool {
        let now = Instant::now();
        self.builds.retain(|_, build| build.until > now);
        self.builds.get(key).is_some_and(|build| build.lease == lease)
    }
}

fn lease_lost() -> Status {
    status(Code::FailedPrecondition, NOT_APPLIED, "BUILD_LEASE_LOST")
}

#[tonic::async_trait]
impl CacheService for Node {
    async fn get(
        &self,
        request: Request<CacheGetRequest>,
    ) -> Result<Response<CacheGetResponse>, Status> {
        let consistency = request.get_ref().consistency();
        let head = head(&request, None, Some(consistency));
        let CacheGetRequest { namespace, key, min_revision, allow_stale, .. } =
            request.into_inner();
        self.state.cache_called(format!(
            "get {namespace}/{} {consistency:?} min {min_revision} stale {allow_stale}",
            String::from_utf8_lossy(&key)
        ));
        // Before it may have to wait: what is on its way is as old as that.
        let scripted = self.state.caches(|caches| caches.get_scripts.pop_front());
        let work = move |state: &State| {
            Ok(scripted.unwrap_or_else(|| {
                state.caches(|caches| CacheGetResponse {
                    entry: caches.find(&key, allow_stale),
                    revision: caches.revision,
                    group_id: 0,
                })
            }))
        };
        self.serve("cache_get", head, work).await
    }

    async fn set(
        &self,
        request: Request<CacheSetRequest>,
    ) -> Result<Response<CacheSetResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let CacheSetRequest { namespace, key, value, policy, .. } = request.into_inner();
        let work = move |state: &State| {
            state.cache_called(format!("set {namespace}/{key:?} {value:?} {policy:?}"));
            let revision = state.caches(|caches| caches.set(&key, value, policy));
            Ok(CacheSetResponse { revision, group_id: 0 })
        };
        self.serve("cache_set", head, work).await
    }

    async fn delete(
        &self,
        request: Request<CacheDeleteRequest>,
    ) -> Result<Response<CacheDeleteResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let CacheDeleteRequest { namespace, key, .. } = request.into_inner();
        let work = move |state: &State| {
            state.cache_called(format!("delete {namespace}/{key:?}"));
            let (deleted, revision) = state.caches(|caches| caches.delete(&key));
            Ok(CacheDeleteResponse { deleted, revision, group_id: 0 })
        };
        self.serve("cache_delete", head, work).await
    }

    /// Deletes one key of those it is asked for, until the cursor is `3`.
    async fn delete_pattern(
        &self,
        request: Request<CacheDeletePatternRequest>,
    ) -> Result<Response<CacheDeletePatternResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let CacheDeletePatternRequest { selector, cursor, keys_max, .. } = request.into_inner();
        let work = move |state: &State| {
            state.cache_called(format!("delete_pattern {selector:?} {cursor:?} {keys_max}"));
            let next = match &cursor[..] {
                b"" => "1",
                b"1" => "2",
                _ => "",
            };
            let revision = state.caches(|caches| caches.change(vec![What::Everything(true)]));
            let cursor = next.into();
            Ok(CacheDeletePatternResponse { deleted: 1, cursor, revision, group_id: 0 })
        };
        self.serve("cache_delete_pattern", head, work).await
    }

    async fn invalidate_tags(
        &self,
        request: Request<CacheInvalidateTagsRequest>,
    ) -> Result<Response<CacheInvalidateTagsResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let CacheInvalidateTagsRequest { tags, .. } = request.into_inner();
        let work = move |state: &State| {
            state.cache_called(format!("invalidate_tags {tags:?}"));
            let revision = state.caches(|caches| caches.invalidate(&tags));
            Ok(CacheInvalidateTagsResponse { revision, group_id: 0 })
        };
        self.serve("cache_invalidate_tags", head, work).await
    }

    async fn touch(
        &self,
        request: Request<CacheTouchRequest>,
    ) -> Result<Response<CacheTouchResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let CacheTouchRequest { key, ttl_ms, .. } = request.into_inner();
        let work = move |state: &State| {
            state.cache_called(format!("touch {key:?} {ttl_ms:?}"));
            let found = state.caches(|caches| caches.entries.contains_key(&key[..]));
            Ok(CacheTouchResponse { found, revision: FIRST, group_id: 0 })
        };
        self.serve("cache_touch", head, work).await
    }

    async fn get_or_build(
        &self,
        request: Request<CacheGetOrBuildRequest>,
    ) -> Result<Response<CacheGetOrBuildResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let request = request.into_inner();
        self.state.cache_called(format!(
            "get_or_build {:?} lease {} min {} fresh {}",
            request.key, request.build_lease_ms, request.min_revision, request.fresh_only
        ));
        self.serve("cache_get_or_build", head, |_| Ok(())).await?;
        let mut waits_for = None;
        loop {
            let changed = self.state.caches(|caches| Arc::clone(&caches.changed));
            let changed = changed.notified();
            match self.state.caches(|caches| caches.get_or_build(&request, waits_for)) {
                Next::Answer(answer) => return Ok(Response::new(answer)),
                Next::Fail(status) => return Err(status),
                Next::Wait(lease, until) => {
                    waits_for = Some(lease);
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                }
            }
        }
    }

    async fn fill(
        &self,
        request: Request<CacheFillRequest>,
    ) -> Result<Response<CacheFillResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let CacheFillRequest { key, lease, value, policy, .. } = request.into_inner();
        let work = move |state: &State| {
            state.cache_called(format!("fill {key:?} lease {lease} {value:?} {policy:?}"));
            state.caches(|caches| {
                if !caches.holds(&key, lease) {
                    return Err(lease_lost());
                }
                let revision = caches.set(&key, value, policy);
                Ok(CacheFillResponse { revision, group_id: 0 })
            })
        };
        self.serve("cache_fill", head, work).await
    }

    async fn end_build(
        &self,
        request: Request<CacheEndBuildRequest>,
    ) -> Result<Response<CacheEndBuildResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let CacheEndBuildRequest { key, lease, error, .. } = request.into_inner();
        let work = move |state: &State| {
            state.cache_called(format!("end_build {key:?} lease {lease} {error:?}"));
            state.caches(|caches| {
                let ended = caches.holds(&key, lease);
                if ended {
                    caches.builds.remove(&key[..]);
                    caches.failures.extend(error.map(|error| (lease, error)));
                    caches.changed.notify_waiters();
                }
                Ok(CacheEndBuildResponse { ended })
            })
        };
        self.serve("cache_end_build", head, work).await
    }

    async fn stats(
        &self,
        request: Request<CacheStatsRequest>,
    ) -> Result<Response<CacheStatsResponse>, Status> {
        let answer = CacheStatsResponse {
            entries: 1,
            bytes: 2,
            bytes_max: 3,
            builds: 4,
            hits: 5,
            stale_hits: 6,
            misses: 7,
            evicted: 8,
            revision: 9,
            node_id: 10,
        };
        self.serve("cache_stats", head(&request, None, None), move |_| Ok(answer)).await
    }

    async fn resize(
        &self,
        request: Request<CacheResizeRequest>,
    ) -> Result<Response<CacheResizeResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let bytes_max = request.into_inner().bytes_max;
        let work = move |state: &State| {
            state.cache_called(format!("resize {bytes_max}"));
            Ok(CacheResizeResponse { previous_bytes_max: 7 })
        };
        self.serve("cache_resize", head, work).await
    }

    type InvalidationsStream = BoxStream<'static, Result<CacheInvalidationsResponse, Status>>;

    async fn invalidations(
        &self,
        _: Request<CacheInvalidationsRequest>,
    ) -> Result<Response<Self::InvalidationsStream>, Status> {
        let (telling, told) = mpsc::channel(MESSAGES_MAX);
        self.state.caches(|caches| {
            let (revision, invalidations) = (caches.revision, Vec::new());
            let first = CacheInvalidationsResponse { invalidations, revision, group_id: 0 };
            telling.try_send(Ok(first)).expect("there is room");
            caches.streams.push(telling);
            caches.streams_begun += 1;
        });
        Ok(Response::new(ReceiverStream::new(told).boxed()))
    }
}
