//! Sessions: opening and closing are log entries, keeping alive is not.

use super::{Context, Deadline, Refused};
use crate::wire;
use quorate_proto::v1;
use quorate_proto::v1::session_service_server::SessionService;
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl SessionService for Service {
    async fn open(
        &self,
        request: Request<v1::OpenRequest>,
    ) -> Result<Response<v1::OpenResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope = wire::session::open(request.into_inner()).map_err(Refused::from)?;
        let outcome = self.0.propose(envelope, deadline).await?;
        Ok(Response::new(wire::session::opened(outcome, self.0.replica.group())?))
    }

    async fn keep_alive(
        &self,
        request: Request<v1::KeepAliveRequest>,
    ) -> Result<Response<v1::KeepAliveResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.keep(request.into_inner(), deadline).await?))
    }

    async fn close(
        &self,
        request: Request<v1::CloseRequest>,
    ) -> Result<Response<v1::CloseResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let envelope = wire::session::close(request.into_inner()).map_err(Refused::from)?;
        let outcome = self.0.propose(envelope, deadline).await?;
        Ok(Response::new(wire::session::closed(outcome)?))
    }
}

impl Service {
    pub(super) async fn keep(
        &self,
        request: v1::KeepAliveRequest,
        deadline: Deadline,
    ) -> Result<v1::KeepAliveResponse, Refused> {
        let session = wire::session::keep_alive(request)?;
        let ttl_ms = self.0.replica.keep_alive(session, deadline.remaining()).await?;
        Ok(v1::KeepAliveResponse { ttl_ms })
    }
}
