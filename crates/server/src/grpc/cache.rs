//! The cache: writes go through the log, reads to what this node has applied unless they ask for more.

use super::{Context, Deadline, Refused, cache_invalidations, cache_read};
use crate::wire;
use quorate_proto::v1;
use quorate_proto::v1::cache_service_server::CacheService;
use quorate_state::query;
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Context);

/// A mutation: decoded, proposed, answered.
macro_rules! mutate {
    ($self:ident, $request:ident, $decode:expr, $answer:path) => {{
        let deadline = Deadline::of($request.metadata());
        let envelope = $decode($request.into_inner()).map_err(Refused::from)?;
        let outcome = $self.0.propose(envelope, deadline).await?;
        Ok(Response::new($answer(outcome, $self.0.replica.group())?))
    }};
}

#[tonic::async_trait]
impl CacheService for Service {
    async fn get(
        &self,
        request: Request<v1::CacheGetRequest>,
    ) -> Result<Response<v1::CacheGetResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let get = wire::cache::get(request.into_inner(), &self.0.limits).map_err(Refused::from)?;
        Ok(Response::new(cache_read::get(&self.0, &get, deadline).await?))
    }

    async fn set(
        &self,
        request: Request<v1::CacheSetRequest>,
    ) -> Result<Response<v1::CacheSetResponse>, Status> {
        mutate!(self, request, |set| wire::cache::set(set, &self.0.limits), wire::cache::was_set)
    }

    async fn delete(
        &self,
        request: Request<v1::CacheDeleteRequest>,
    ) -> Result<Response<v1::CacheDeleteResponse>, Status> {
        mutate!(self, request, |one| wire::cache::delete(one, &self.0.limits), wire::cache::deleted)
    }

    async fn delete_pattern(
        &self,
        request: Request<v1::CacheDeletePatternRequest>,
    ) -> Result<Response<v1::CacheDeletePatternResponse>, Status> {
        mutate!(self, request, wire::cache::delete_pattern, wire::cache::deleted_pattern)
    }

    async fn invalidate_tags(
        &self,
        request: Request<v1::CacheInvalidateTagsRequest>,
    ) -> Result<Response<v1::CacheInvalidateTagsResponse>, Status> {
        mutate!(self, request, wire::cache::invalidate_tags, wire::cache::invalidated)
    }

    async fn touch(
        &self,
        request: Request<v1::CacheTouchRequest>,
    ) -> Result<Response<v1::CacheTouchResponse>, Status> {
        mutate!(self, request, |one| wire::cache::touch(one, &self.0.limits), wire::cache::touched)
    }

    async fn get_or_build(
        &self,
        request: Request<v1::CacheGetOrBuildRequest>,
    ) -> Result<Response<v1::CacheGetOrBuildResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let asked = wire::cache::get_or_build(request.into_inner(), &self.0.limits)
            .map_err(Refused::from)?;
        Ok(Response::new(cache_read::get_or_build(&self.0, asked, deadline).await?))
    }

    async fn fill(
        &self,
        request: Request<v1::CacheFillRequest>,
    ) -> Result<Response<v1::CacheFillResponse>, Status> {
        mutate!(self, request, |one| wire::cache::fill(one, &self.0.limits), wire::cache::filled)
    }

    async fn end_build(
        &self,
        request: Request<v1::CacheEndBuildRequest>,
    ) -> Result<Response<v1::CacheEndBuildResponse>, Status> {
        mutate!(
            self,
            request,
            |one| wire::cache::end_build(one, &self.0.limits),
            wire::cache::ended_build
        )
    }

    async fn stats(
        &self,
        request: Request<v1::CacheStatsRequest>,
    ) -> Result<Response<v1::CacheStatsResponse>, Status> {
        Ok(Response::new(self.counted(request.into_inner())?))
    }

    async fn resize(
        &self,
        request: Request<v1::CacheResizeRequest>,
    ) -> Result<Response<v1::CacheResizeResponse>, Status> {
        mutate!(self, request, wire::cache::resize, wire::cache::resized)
    }

    type InvalidationsStream = cache_invalidations::Changes;

    async fn invalidations(
        &self,
        request: Request<v1::CacheInvalidationsRequest>,
    ) -> Result<Response<cache_invalidations::Changes>, Status> {
        let deadline = Deadline::of(request.metadata());
        let place = cache_invalidations::place(request.extensions())?;
        let namespace = request.into_inner().namespace;
        let namespace = wire::cache::namespace_of(namespace).map_err(Refused::from)?;
        Ok(Response::new(cache_invalidations::begin(&self.0, namespace, place, deadline).await?))
    }
}

impl Service {
    /// What this node has applied, and what it counted itself.
    pub(super) fn counted(
        &self,
        request: v1::CacheStatsRequest,
    ) -> Result<v1::CacheStatsResponse, Refused> {
        wire::cache::namespace_of(request.namespace)?;
        let (view, group) = (self.0.replica.stale(), self.0.replica.group());
        let usage = query::cache_usage(&*view.tables, group)?;
        let counted = &self.0.counters.cache;
        Ok(v1::CacheStatsResponse {
            entries: usage.entries,
            bytes: usage.bytes,
            bytes_max: usage.bytes_max,
            builds: usage.builds,
            hits: counted.hits.get(),
            stale_hits: counted.stale_hits.get(),
            misses: counted.misses.get(),
            evicted: counted.evicted.get(),
            revision: query::revision(&*view.tables, group)?.0,
            node_id: self.0.replica.node_id().0,
        })
    }
}
