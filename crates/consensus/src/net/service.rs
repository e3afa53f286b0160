//! The service other nodes call. Checks the handshake, translates, and hands over.

use super::hello::Me;
use super::snapshot_service::receive_snapshot;
use crate::failure::Failure;
use crate::replica::Replica;
use crate::wire;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use quorate_proto::peer::{
    self as pb, forward_request::Request as Forwarded, forward_response,
    peer_service_server::PeerService,
};
use quorate_state::{Envelope, SessionId, codec};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

/// Requests of one forward stream that are worked on at once.
const FORWARDED_AT_ONCE: usize = 4_096;
/// The longest a forwarded request is worked on, whatever its sender says.
const FORWARDED_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Service {
    me: Arc<Me>,
    replica: Replica,
}

impl Service {
    pub(crate) fn new(me: Arc<Me>, replica: Replica) -> Self {
        Self { me, replica }
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("consensus has stopped on this node: {error}"))
}

#[tonic::async_trait]
impl PeerService for Service {
    async fn probe(
        &self,
        _request: Request<pb::ProbeRequest>,
    ) -> Result<Response<pb::ProbeResponse>, Status> {
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

    type ForwardStream = BoxStream<'static, Result<pb::ForwardResponse, Status>>;

    async fn forward(
        &self,
        request: Request<Streaming<pb::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        self.me.check(&request)?;
        let replica = self.replica.clone();
        let answers = request
            .into_inner()
            .map(move |request| {
                let replica = replica.clone();
                async move {
                    let request = request?;
                    let id = request.id;
                    let result = serve_forwarded(&replica, request).await.unwrap_or_else(failure);
                    Ok(pb::ForwardResponse { id, result: Some(result) })
                }
            })
            .buffer_unordered(FORWARDED_AT_ONCE);
        Ok(Response::new(answers.boxed()))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.me.check(&request)?;
        Ok(Response::new(self.replica.status().to_wire()))
    }
}

fn failure(failure: Failure) -> forward_response::Result {
    forward_response::Result::Failure(pb::Failure {
        unknown: failure.unknown,
        reason: failure.reason.as_str().to_owned(),
        message: failure.message,
    })
}

async fn serve_forwarded(
    replica: &Replica,
    request: pb::ForwardRequest,
) -> Result<forward_response::Result, Failure> {
    let timeout = Duration::from_millis(request.deadline_ms).min(FORWARDED_MAX);
    let deadline = Instant::now() + timeout;
    match request.request {
        Some(Forwarded::Command(bytes)) => {
            let envelope: Envelope = codec::decode(&bytes).map_err(|error| {
                Failure::not_applied(
                    crate::Reason::Fatal,
                    format!("the forwarded command is malformed: {error}"),
                )
            })?;
            let committed = replica.propose_here(envelope, deadline).await?;
            Ok(forward_response::Result::Committed(pb::Committed {
                index: committed.index.0,
                outcome: codec::encode(&committed.outcome).into(),
            }))
        }
        Some(Forwarded::ReadIndex(_)) => {
            let index = replica.read_index_here().await?;
            Ok(forward_response::Result::ReadIndex(pb::ReadIndex { index }))
        }
        Some(Forwarded::KeepAlive(keep)) => {
            let ttl_ms = replica.keep_alive_here(SessionId(keep.session_id), deadline).await?;
            Ok(forward_response::Result::KeptAlive(pb::KeptAlive { ttl_ms }))
        }
        None => Err(Failure::not_applied(
            crate::Reason::NotLeader,
            "the forwarded request is of a kind this version does not know",
        )),
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
