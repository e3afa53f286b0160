//! The service other nodes call. Checks the handshake, translates, and hands over.

use super::forwarded::ForwardedStream;
use super::hello::Me;
use super::snapshot_service::receive_snapshot;
use crate::aside::{self, AsideDowns};
use crate::replica::Replica;
use crate::wire;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use quorate_proto::peer::{self as pb, peer_service_server::PeerService};
use quorate_state::{MemberIdentity, NodeId, query};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::{Request, Response, Status, Streaming};

pub(crate) struct Service {
    me: Arc<Me>,
    replica: Replica,
}

impl Service {
    pub(crate) fn new(me: Arc<Me>, replica: Replica) -> Self {
        Self { me, replica }
    }
}

fn unreadable(error: quorate_state::Fatal) -> Status {
    Status::internal(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("consensus has stopped on this node: {error}"))
}

#[tonic::async_trait]
impl PeerService for Service {
    async fn probe(
        &self,
        request: Request<pb::ProbeRequest>,
    ) -> Result<Response<pb::ProbeResponse>, Status> {
        let request = request.into_inner();
        let has_left = match wire::uuid_in(&request.from_uuid) {
            Ok(uuid) => {
                let member = MemberIdentity { node: NodeId(request.from_node), uuid };
                let view = self.replica.stale();
                query::has_left(&*view.tables, self.replica.group(), member).map_err(unreadable)?
            }
            // It is of an older version, or asks about nothing.
            Err(_) => false,
        };
        let membership = self.me.membership();
        Ok(Response::new(pb::ProbeResponse {
            cluster_id: self.me.cluster_id().unwrap_or_default().to_owned(),
            node_id: self.me.node.0,
            uuid: wire::uuid_out(self.me.uuid),
            client_addr: self.replica.own_client_addr().to_owned(),
            members: membership
                .nodes
                .iter()
                .map(|(id, member)| pb::KnownMember {
                    node_id: id.0,
                    uuid: wire::uuid_out(member.uuid),
                })
                .collect(),
            has_left,
        }))
    }

    type AppendStream = BoxStream<'static, Result<pb::AppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.me.check(&request)?;
        let requests = WellFormed { inner: request.into_inner() };
        let results = self.replica.raft().stream_append(requests);
        let answers = results.map(|result| match result {
            Ok(result) => Ok(wire::append_result_out(result)),
            Err(fatal) => Err(stopped(fatal)),
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::AppendResponse>, Status> {
        self.me.check(&request)?;
        let request = wire::append_in(request.into_inner())?;
        self.me.hears_leader();
        let mut results =
            Box::pin(self.replica.raft().stream_append(futures::stream::once(async { request })));
        match results.next().await {
            Some(Ok(result)) => Ok(Response::new(wire::append_result_out(result))),
            Some(Err(fatal)) => Err(stopped(fatal)),
            None => Err(stopped("no answer")),
        }
    }

    async fn vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        self.me.check(&request)?;
        let request = request.into_inner();
        let pre_vote = request.pre_vote;
        let request = wire::vote_in(request)?;
        let raft = self.replica.raft();
        let answered =
            if pre_vote { raft.pre_vote(request).await } else { raft.vote(request).await };
        Ok(Response::new(wire::vote_response_out(&answered.map_err(stopped)?)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        self.me.check(&request)?;
        let request = wire::transfer_in(request.into_inner())?;
        let answered = self.replica.raft().handle_transfer_leader(request).await;
        Ok(Response::new(match answered.map_err(stopped)? {
            Ok(()) => pb::TransferLeaderResponse { accepted: true, reason: String::new() },
            Err(error) => pb::TransferLeaderResponse { accepted: false, reason: error.to_string() },
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotRequest>>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let from = self.me.check(&request)?;
        let answers = receive_snapshot(self.replica.clone(), from, request.into_inner());
        Ok(Response::new(answers))
    }

    type ForwardStream = BoxStream<'static, Result<pb::ForwardResponses, Status>>;

    async fn forward(
        &self,
        request: Request<Streaming<pb::ForwardRequests>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let from = self.me.check(&request)?;
        let answers = ForwardedStream::new(self.replica.clone(), from, request.into_inner());
        Ok(Response::new(answers.boxed()))
    }

    type AsideStream = AsideDowns;

    async fn aside(
        &self,
        request: Request<Streaming<pb::AsideUp>>,
    ) -> Result<Response<Self::AsideStream>, Status> {
        let from = self.me.check(&request)?;
        let said = aside::ups(request.into_inner());
        Ok(Response::new(self.replica.0.asides.opened(from, said)?))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.me.check(&request)?;
        Ok(Response::new(self.replica.status().to_wire()))
    }
}

/// The well-formed prefix of an append stream: ends at the first message that is not, or with the
/// connection. The leader then opens a new stream and says again what was not acknowledged.
struct WellFormed {
    inner: Streaming<pb::AppendRequest>,
}

impl Stream for WellFormed {
    type Item = openraft::raft::AppendEntriesRequest<crate::types::TypeConfig>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(next) = self.inner.poll_next_unpin(cx) else { return Poll::Pending };
        Poll::Ready(match next {
            Some(Ok(message)) => match wire::append_in(message) {
                Ok(request) => Some(request),
                Err(status) => {
                    tracing::warn!(%status, "an append stream was cut");
                    None
                }
            },
            Some(Err(_)) | None => None,
        })
    }
}
