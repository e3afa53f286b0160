//! Streams that only need to be opened, by a call of their own: lists, watches, subscriptions.

use super::{Engine, Plan};
use crate::dial::Channel;
use crate::failure::Failure;
use crate::incoming::Incoming;
use crate::method::Method;
use crate::pipe::MESSAGE_BYTES_MAX;
use quorate_proto::v1::bus_service_client::BusServiceClient;
use quorate_proto::v1::cache_service_client::CacheServiceClient;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::{
    BackupPiece, BackupRequest, BusSubscribeRequest, BusSubscribeResponse,
    CacheInvalidationsRequest, CacheInvalidationsResponse, ListRequest, ListResponse,
    LockWatchRequest, LockWatchResponse, WatchRequest, WatchResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

impl Engine {
    /// Opens a stream of list pages on whichever node answers first.
    pub(crate) async fn open_list(
        self: &Arc<Self>,
        plan: &Plan,
        request: ListRequest,
    ) -> Result<Incoming<ListResponse>, Failure> {
        self.call(plan, || OpenList(request.clone())).await
    }

    /// Opens a backup on whichever node answers first.
    pub(crate) async fn open_backup(
        self: &Arc<Self>,
        plan: &Plan,
        request: BackupRequest,
    ) -> Result<Incoming<BackupPiece>, Failure> {
        self.call(plan, || OpenBackup(request)).await
    }

    /// Opens a watch on whichever node answers first. Answers with where it begins, too.
    pub(crate) async fn open_watch(
        self: &Arc<Self>,
        plan: &Plan,
        request: WatchRequest,
    ) -> Result<(u64, Incoming<WatchResponse>), Failure> {
        self.call(plan, || OpenWatch(request.clone())).await
    }

    /// Opens a watch over a lock on whichever node answers first.
    pub(crate) async fn open_lock_watch(
        self: &Arc<Self>,
        plan: &Plan,
        request: LockWatchRequest,
    ) -> Result<Incoming<LockWatchResponse>, Failure> {
        self.call(plan, || OpenLockWatch(request.clone())).await
    }

    /// Opens a subscription on whichever node answers first. Answers with the stream's first message,
    /// too.
    pub(crate) async fn open_bus(
        self: &Arc<Self>,
        plan: &Plan,
        request: BusSubscribeRequest,
    ) -> Result<(BusSubscribeResponse, Incoming<BusSubscribeResponse>), Failure> {
        self.call(plan, || OpenBus(request.clone())).await
    }

    /// Opens the stream of what is invalidated, on whichever node answers first. Answers with its
    /// first message, too, which says where it begins.
    pub(crate) async fn open_invalidations(
        self: &Arc<Self>,
        plan: &Plan,
        request: CacheInvalidationsRequest,
    ) -> Result<(CacheInvalidationsResponse, Incoming<CacheInvalidationsResponse>), Failure> {
        self.call(plan, || OpenInvalidations(request.clone())).await
    }
}

/// A list as a stream: always a call of its own, beside the pipeline.
struct OpenList(ListRequest);

impl Method for OpenList {
    type Answer = Incoming<ListResponse>;

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        let connection = channel.clone();
        let answer = KvServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .list_stream(request.into_inner().0)
            .await?;
        Ok(answer.map(|stream| Incoming::new(stream, connection)))
    }
}

/// A backup: always a call of its own, beside the pipeline.
struct OpenBackup(BackupRequest);

impl Method for OpenBackup {
    type Answer = Incoming<BackupPiece>;

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        let connection = channel.clone();
        let answer = ClusterServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .backup(request.into_inner().0)
            .await?;
        Ok(answer.map(|stream| Incoming::new(stream, connection)))
    }
}

/// A watch: always a call of its own, beside the pipeline. It has begun with its first message.
struct OpenWatch(WatchRequest);

impl Method for OpenWatch {
    type Answer = (u64, Incoming<WatchResponse>);

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        let connection = channel.clone();
        let answer = KvServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .watch(request.into_inner().0)
            .await?;
        let (metadata, stream, extensions) = answer.into_parts();
        let mut stream = Incoming::new(stream, connection);
        let Some(first) = stream.message().await? else {
            return Err(Status::unavailable("the watch ended before it began"));
        };
        Ok(Response::from_parts(metadata, (first.revision, stream), extensions))
    }
}

/// A watch over a lock: always a call of its own, beside the pipeline.
struct OpenLockWatch(LockWatchRequest);

impl Method for OpenLockWatch {
    type Answer = Incoming<LockWatchResponse>;

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        let connection = channel.clone();
        let answer = LockServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .watch(request.into_inner().0)
            .await?;
        Ok(answer.map(|stream| Incoming::new(stream, connection)))
    }
}

/// A subscription: always a call of its own, beside the pipeline. It has begun with its first message.
struct OpenBus(BusSubscribeRequest);

impl Method for OpenBus {
    type Answer = (BusSubscribeResponse, Incoming<BusSubscribeResponse>);

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        let connection = channel.clone();
        let answer = BusServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .subscribe(request.into_inner().0)
            .await?;
        let (metadata, stream, extensions) = answer.into_parts();
        let mut stream = Incoming::new(stream, connection);
        let Some(first) = stream.message().await? else {
            return Err(Status::unavailable("the subscription ended before it began"));
        };
        Ok(Response::from_parts(metadata, (first, stream), extensions))
    }
}

/// A stream of what is invalidated: always a call of its own, beside the pipeline. It has begun with
/// its first message.
struct OpenInvalidations(CacheInvalidationsRequest);

impl Method for OpenInvalidations {
    type Answer = (CacheInvalidationsResponse, Incoming<CacheInvalidationsResponse>);

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        let connection = channel.clone();
        let answer = CacheServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .invalidations(request.into_inner().0)
            .await?;
        let (metadata, stream, extensions) = answer.into_parts();
        let mut stream = Incoming::new(stream, connection);
        let Some(first) = stream.message().await? else {
            return Err(Status::unavailable("the stream ended before it began"));
        };
        Ok(Response::from_parts(metadata, (first, stream), extensions))
    }
}
