//! Key-value: writes go through the log, reads through a barrier unless they may be stale.

use super::{Context, Deadline, Refused, list_stream, watch_stream};
use crate::wire;
use quorate_proto::v1;
use quorate_proto::v1::kv_service_server::KvService;
use quorate_state::query;
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl KvService for Service {
    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let get = wire::kv::get(request.into_inner(), &self.0.limits).map_err(Refused::from)?;
        Ok(Response::new(self.read(get, deadline).await?))
    }

    async fn set(
        &self,
        request: Request<v1::SetRequest>,
    ) -> Result<Response<v1::SetResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope =
            wire::kv::set(request.into_inner(), &self.0.limits).map_err(Refused::from)?;
        let outcome = self.0.propose(envelope, deadline).await?;
        Ok(Response::new(wire::kv::was_set(outcome, self.0.replica.group())?))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope =
            wire::kv::delete(request.into_inner(), &self.0.limits).map_err(Refused::from)?;
        let outcome = self.0.propose(envelope, deadline).await?;
        Ok(Response::new(wire::kv::deleted(outcome, self.0.replica.group())?))
    }

    async fn increment(
        &self,
        request: Request<v1::IncrementRequest>,
    ) -> Result<Response<v1::IncrementResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope =
            wire::kv::increment(request.into_inner(), &self.0.limits).map_err(Refused::from)?;
        let outcome = self.0.propose(envelope, deadline).await?;
        Ok(Response::new(wire::kv::incremented(outcome, self.0.replica.group())?))
    }

    async fn increment_float(
        &self,
        request: Request<v1::IncrementFloatRequest>,
    ) -> Result<Response<v1::IncrementFloatResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope = wire::kv::increment_float(request.into_inner(), &self.0.limits)
            .map_err(Refused::from)?;
        let outcome = self.0.propose(envelope, deadline).await?;
        Ok(Response::new(wire::kv::incremented_float(outcome, self.0.replica.group())?))
    }

    async fn delete_pattern(
        &self,
        request: Request<v1::DeletePatternRequest>,
    ) -> Result<Response<v1::DeletePatternResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope = wire::kv::delete_pattern(request.into_inner()).map_err(Refused::from)?;
        let outcome = self.0.propose(envelope, deadline).await?;
        Ok(Response::new(wire::kv::deleted_pattern(outcome, self.0.replica.group())?))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.page(request.into_inner(), deadline).await?))
    }

    type ListStreamStream = list_stream::Pages;

    async fn list_stream(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<list_stream::Pages>, Status> {
        let deadline = Deadline::of(request.metadata());
        let turn = list_stream::turn(request.extensions())?;
        let list = wire::kv::list(request.into_inner()).map_err(Refused::from)?;
        let view = self.0.view(list.fresh, deadline).await?;
        let group = self.0.replica.group();
        Ok(Response::new(list_stream::Pages::new(list, view, group, turn)))
    }

    type WatchStream = watch_stream::Watch;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<watch_stream::Watch>, Status> {
        let deadline = Deadline::of(request.metadata());
        let places = watch_stream::places(&self.0.watches, request.extensions())?;
        let watch = wire::watch::watch(request.into_inner()).map_err(Refused::from)?;
        Ok(Response::new(watch_stream::begin(&self.0, watch, places, deadline).await?))
    }
}

impl Service {
    pub(super) async fn read(
        &self,
        get: wire::kv::Get,
        deadline: Deadline,
    ) -> Result<v1::GetResponse, Refused> {
        let view = self.0.view(get.fresh, deadline).await?;
        let group = self.0.replica.group();
        let item = query::kv_get(&*view.tables, group, &get.namespace, &get.key)?;
        let revision = query::revision(&*view.tables, group)?;
        Ok(wire::kv::got(get.key, item, revision, group))
    }

    pub(super) async fn page(
        &self,
        request: v1::ListRequest,
        deadline: Deadline,
    ) -> Result<v1::ListResponse, Refused> {
        let list = wire::kv::list(request)?;
        let view = self.0.view(list.fresh, deadline).await?;
        let limit = match list.limit {
            0 => wire::kv::PAGE_ENTRIES_DEFAULT,
            some => some.min(wire::kv::PAGE_ENTRIES_MAX),
        };
        list_stream::page(&list, &view, self.0.replica.group(), list.after.as_deref(), limit)
    }
}
