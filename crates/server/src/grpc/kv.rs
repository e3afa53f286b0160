//! Key-value: writes go through the log, reads through a barrier unless they may be stale.

use super::{Context, Deadline, Refused};
use crate::wire;
use quorate_proto::v1;
use quorate_proto::v1::kv_service_server::KvService;
use quorate_state::{Revision, query};
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl KvService for Service {
    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.read(request.into_inner(), deadline).await?))
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
}

impl Service {
    async fn read(
        &self,
        request: v1::GetRequest,
        deadline: Deadline,
    ) -> Result<v1::GetResponse, Refused> {
        let replica = &self.0.replica;
        let get = wire::kv::get(request, &self.0.limits)?;
        // The view is taken afterwards, so it contains that revision and more.
        if get.min_revision > Revision(0) {
            replica.wait_applied(get.min_revision, deadline.remaining()).await?;
        }
        let view =
            if get.stale { replica.stale() } else { replica.read(deadline.remaining()).await? };
        let group = replica.group();
        let item = query::kv_get(&*view.tables, group, &get.namespace, &get.key)?;
        let revision = query::revision(&*view.tables, group)?;
        Ok(wire::kv::got(get.key, item, revision, group))
    }
}
