//! The cluster as this node sees it: answered by any live node, without a quorum.

use super::{Context, Deadline, Refused, backup, blocking, members};
use crate::wire;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use quorate_consensus::{Failure, Reason};
use quorate_proto::v1;
use quorate_proto::v1::cluster_service_server::ClusterService;
use quorate_state::query;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// How long the other nodes have to say how they are.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl ClusterService for Service {
    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let replica = &self.0.replica;
        wire::group(request.into_inner().group_id, replica.group()).map_err(Refused::from)?;
        let nodes = replica.cluster_status(STATUS_TIMEOUT.min(deadline.remaining())).await;
        let own = replica.status();
        Ok(Response::new(v1::StatusResponse {
            cluster_id: replica.cluster_id(),
            term: own.term,
            leader_id: own.leader.map(|leader| leader.0),
            nodes: nodes.into_iter().map(|(id, said)| wire::cluster::node(id, said)).collect(),
            answered_by: own.node.0,
            limits: wire::cluster::limits(&self.0.limits),
            feature_level: replica.feature_level().0.into(),
        }))
    }

    async fn members(
        &self,
        request: Request<v1::MembersRequest>,
    ) -> Result<Response<v1::MembersResponse>, Status> {
        let replica = &self.0.replica;
        wire::group(request.into_inner().group_id, replica.group()).map_err(Refused::from)?;
        let membership = replica.membership();
        let plans = query::member_plans(&*replica.stale().tables, replica.group());
        let plans = plans.map_err(Refused::from)?;
        Ok(Response::new(v1::MembersResponse {
            members: wire::cluster::members(&membership, |node| replica.client_addr(node)),
            leader_id: replica.leader().map(|leader| leader.0),
            cluster_id: replica.cluster_id(),
            plans: plans.into_iter().map(|plan| wire::cluster::plan(plan, &membership)).collect(),
        }))
    }

    async fn hash_state(
        &self,
        request: Request<v1::HashStateRequest>,
    ) -> Result<Response<v1::HashStateResponse>, Status> {
        let group = self.0.replica.group();
        wire::group(request.into_inner().group_id, group).map_err(Refused::from)?;
        let Ok(_alone) = self.0.hashing.try_acquire() else {
            return Err(Refused::from(Failure {
                unknown: false,
                reason: Reason::Overloaded,
                message: "this node computes a checksum of its state already; ask again later"
                    .to_owned(),
            })
            .into());
        };
        let view = self.0.replica.stale();
        let (checksum, digest) = blocking(|| {
            let checksum = query::checksum(&*view.tables, group)?;
            Ok::<_, Refused>((checksum, query::digest(&*view.tables, group)?))
        })?;
        let applied = view.applied.map(|position| position.index.0);
        Ok(Response::new(v1::HashStateResponse { applied, checksum, digest }))
    }

    async fn counters(
        &self,
        request: Request<v1::CountersRequest>,
    ) -> Result<Response<v1::CountersResponse>, Status> {
        let replica = &self.0.replica;
        wire::group(request.into_inner().group_id, replica.group()).map_err(Refused::from)?;
        Ok(Response::new(v1::CountersResponse {
            node_id: replica.node_id().0,
            counters: wire::cluster::counters(&replica.counters(), &self.0.counters),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let replica = &self.0.replica;
        let request = request.into_inner();
        wire::group(request.group_id, replica.group()).map_err(Refused::from)?;
        let to = wire::cluster::successor(request.node_id, &replica.membership())
            .map_err(Refused::from)?;
        let transferred = replica.transfer_leader(to, deadline.remaining()).await;
        let leader = transferred.map_err(Refused::from)?;
        Ok(Response::new(v1::TransferLeaderResponse { leader_id: leader.0 }))
    }

    async fn invite(
        &self,
        request: Request<v1::InviteRequest>,
    ) -> Result<Response<v1::InviteResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let invited = members::invite(&self.0, request.into_inner(), deadline).await;
        Ok(Response::new(invited?))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let joined = members::join(&self.0, request.into_inner(), deadline).await;
        Ok(Response::new(joined?))
    }

    async fn change_member(
        &self,
        request: Request<v1::ChangeMemberRequest>,
    ) -> Result<Response<v1::ChangeMemberResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        members::change(&self.0, request.into_inner(), deadline).await?;
        Ok(Response::new(v1::ChangeMemberResponse {}))
    }

    type BackupStream = BoxStream<'static, Result<v1::BackupPiece, Status>>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let deadline = Deadline::of(request.metadata());
        let pieces = backup::begin(&self.0, request.into_inner(), deadline).await?;
        Ok(Response::new(pieces.boxed()))
    }
}
