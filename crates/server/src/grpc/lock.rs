//! Locks: grants and releases go through the log, renewals through a barrier, and who has to wait
//! hears of the grant from what this node applies.

use super::{Context, Deadline, Refused, lock_watch};
use crate::wire;
use quorate_proto::v1;
use quorate_proto::v1::lock_service_server::LockService;
use quorate_state::query;
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl LockService for Service {
    async fn acquire(
        &self,
        request: Request<v1::LockAcquireRequest>,
    ) -> Result<Response<v1::LockAcquireResponse>, Status> {
        let deadline = Deadline::of_wait(request.metadata(), request.get_ref().wait_ms);
        Ok(Response::new(super::lock_wait::acquire(&self.0, request.into_inner(), deadline).await?))
    }

    async fn cancel(
        &self,
        request: Request<v1::LockCancelRequest>,
    ) -> Result<Response<v1::LockCancelResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope = wire::lock::cancel(request.into_inner()).map_err(Refused::from)?;
        Ok(Response::new(wire::lock::cancelled(self.0.propose(envelope, deadline).await?)?))
    }

    async fn renew(
        &self,
        request: Request<v1::LockRenewRequest>,
    ) -> Result<Response<v1::LockRenewResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.renewed(request.into_inner(), deadline).await?))
    }

    async fn release(
        &self,
        request: Request<v1::LockReleaseRequest>,
    ) -> Result<Response<v1::LockReleaseResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope = wire::lock::release(request.into_inner()).map_err(Refused::from)?;
        let outcome = self.0.propose(envelope, deadline).await?;
        Ok(Response::new(wire::lock::released(outcome, self.0.replica.group())?))
    }

    async fn force_release(
        &self,
        request: Request<v1::LockForceReleaseRequest>,
    ) -> Result<Response<v1::LockForceReleaseResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope = wire::lock::force_release(request.into_inner()).map_err(Refused::from)?;
        let outcome = self.0.propose(envelope, deadline).await?;
        Ok(Response::new(wire::lock::force_released(outcome, self.0.replica.group())?))
    }

    async fn inspect(
        &self,
        request: Request<v1::LockInspectRequest>,
    ) -> Result<Response<v1::LockInspectResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.inspected(request.into_inner(), deadline).await?))
    }

    async fn list(
        &self,
        request: Request<v1::LockListRequest>,
    ) -> Result<Response<v1::LockListResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.listed(request.into_inner(), deadline).await?))
    }

    type WatchStream = lock_watch::Changes;

    async fn watch(
        &self,
        request: Request<v1::LockWatchRequest>,
    ) -> Result<Response<lock_watch::Changes>, Status> {
        let deadline = Deadline::of(request.metadata());
        let (namespace, name) = wire::lock::watch(request.into_inner()).map_err(Refused::from)?;
        Ok(Response::new(lock_watch::start(&self.0, namespace, name, deadline).await?))
    }
}

impl Service {
    pub(super) async fn renewed(
        &self,
        request: v1::LockRenewRequest,
        deadline: Deadline,
    ) -> Result<v1::LockRenewResponse, Refused> {
        let held = wire::lock::renew(request)?;
        let ttl_ms = self.0.replica.renew_lock(held, deadline.remaining()).await?;
        Ok(v1::LockRenewResponse { ttl_ms })
    }

    pub(super) async fn inspected(
        &self,
        request: v1::LockInspectRequest,
        deadline: Deadline,
    ) -> Result<v1::LockInspectResponse, Refused> {
        let asked = wire::lock::inspect(request)?;
        let view = self.0.view(asked.fresh, deadline).await?;
        let (tables, group) = (&*view.tables, self.0.replica.group());
        let item = query::lock(tables, group, &asked.namespace, &asked.name)?;
        let revision = query::revision(tables, group)?.0;
        let lock = Some(wire::lock::entry(asked.name, item));
        Ok(v1::LockInspectResponse { lock, revision, group_id: group.0 })
    }

    pub(super) async fn listed(
        &self,
        request: v1::LockListRequest,
        deadline: Deadline,
    ) -> Result<v1::LockListResponse, Refused> {
        let list = wire::lock::list(request)?;
        let view = self.0.view(list.fresh, deadline).await?;
        let (tables, group) = (&*view.tables, self.0.replica.group());
        let (selection, after) = (&list.selection, list.after.as_deref());
        let page = super::blocking(|| {
            query::locks(tables, group, &list.namespace, selection, after, list.limit)
        })?;
        Ok(wire::lock::listed(page, query::revision(tables, group)?, group))
    }
}
