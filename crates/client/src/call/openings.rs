//! Streams that only need to be opened, by a call of their own: lists and watches.

use super::{Engine, Plan};
use crate::failure::Failure;
use crate::method::Method;
use crate::pipe::MESSAGE_BYTES_MAX;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::{
    ListRequest, ListResponse, LockWatchRequest, LockWatchResponse, WatchRequest, WatchResponse,
};
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

impl Engine {
    /// Opens a stream of list pages on whichever node answers first.
    pub(crate) async fn open_list(
        self: &Arc<Self>,
        plan: &Plan,
        request: ListRequest,
    ) -> Result<Streaming<ListResponse>, Failure> {
        self.call(plan, || OpenList(request.clone())).await
    }

    /// Opens a watch on whichever node answers first. Answers with where it begins, too.
    pub(crate) async fn open_watch(
        self: &Arc<Self>,
        plan: &Plan,
        request: WatchRequest,
    ) -> Result<(u64, Streaming<WatchResponse>), Failure> {
        self.call(plan, || OpenWatch(request.clone())).await
    }

    /// Opens a watch over a lock on whichever node answers first.
    pub(crate) async fn open_lock_watch(
        self: &Arc<Self>,
        plan: &Plan,
        request: LockWatchRequest,
    ) -> Result<Streaming<LockWatchResponse>, Failure> {
        self.call(plan, || OpenLockWatch(request.clone())).await
    }
}

/// A list as a stream: always a call of its own, beside the pipeline.
struct OpenList(ListRequest);

impl Method for OpenList {
    type Answer = Streaming<ListResponse>;

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        KvServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .list_stream(request.into_inner().0)
            .await
    }
}

/// A watch: always a call of its own, beside the pipeline. It has begun with its first message.
struct OpenWatch(WatchRequest);

impl Method for OpenWatch {
    type Answer = (u64, Streaming<WatchResponse>);

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        let answer = KvServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .watch(request.into_inner().0)
            .await?;
        let (metadata, mut stream, extensions) = answer.into_parts();
        let Some(first) = stream.message().await? else {
            return Err(Status::unavailable("the watch ended before it began"));
        };
        Ok(Response::from_parts(metadata, (first.revision, stream), extensions))
    }
}

/// A watch over a lock: always a call of its own, beside the pipeline.
struct OpenLockWatch(LockWatchRequest);

impl Method for OpenLockWatch {
    type Answer = Streaming<LockWatchResponse>;

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        LockServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .watch(request.into_inner().0)
            .await
    }
}
