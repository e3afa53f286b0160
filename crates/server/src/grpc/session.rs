//! Sessions: opening and closing are log entries, keeping alive is not.

use super::{Context, Deadline, Refused, blocking};
use crate::wire;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use quorate_proto::v1;
use quorate_proto::v1::session_service_server::SessionService;
use quorate_state::query;
use tonic::{Request, Response, Status, Streaming};

/// Requests of one stream that are worked on at once; more wait to be read.
const KEEP_ALIVES_AT_ONCE: usize = 64;

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

    type KeepAliveStreamStream = BoxStream<'static, Result<v1::KeepAliveResponse, Status>>;

    async fn keep_alive_stream(
        &self,
        request: Request<Streaming<v1::KeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStreamStream>, Status> {
        let service = Self(self.0.clone());
        let requests = request.into_inner().take_until(self.0.stop.clone().cancelled_owned());
        let answers = requests
            .map(move |request| {
                let service = Self(service.0.clone());
                async move { Ok(service.keep(request?, Deadline::in_ms(0)).await?) }
            })
            .buffer_unordered(KEEP_ALIVES_AT_ONCE);
        // Nothing comes after an error.
        let answers = answers.scan(false, |over, answer: Result<_, Status>| {
            let first = !std::mem::replace(over, answer.is_err());
            futures::future::ready(first.then_some(answer))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.listed(&request.into_inner(), deadline).await?))
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
        Ok(v1::KeepAliveResponse { ttl_ms, session_id: session.0 })
    }

    pub(super) async fn listed(
        &self,
        request: &v1::ListSessionsRequest,
        deadline: Deadline,
    ) -> Result<v1::ListSessionsResponse, Refused> {
        let (limit, after) = wire::session::list(request)?;
        let fresh = wire::kv::freshness(request.consistency, 0)?;
        let view = self.0.view(fresh, deadline).await?;
        let (tables, group) = (&*view.tables, self.0.replica.group());
        let (page, more) = blocking(|| query::session_page(tables, group, after, limit))?;
        Ok(v1::ListSessionsResponse {
            sessions: page.into_iter().map(wire::session::entry).collect(),
            more,
            revision: query::revision(tables, group)?.0,
            group_id: group.0,
        })
    }
}
