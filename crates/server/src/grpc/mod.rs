//! The public gRPC services: each method decodes through `wire`, asks the replica, and answers
//! before its caller's deadline. What went wrong is told through the one table in `status`.

mod cluster;
mod deadline;
mod kv;
mod refusals;
mod session;
mod status;

pub(crate) use status::Refused;

use deadline::Deadline;
use quorate_consensus::Replica;
use quorate_proto::v1::cluster_service_server::ClusterServiceServer;
use quorate_proto::v1::kv_service_server::KvServiceServer;
use quorate_proto::v1::session_service_server::SessionServiceServer;
use quorate_state::limits::Limits;
use quorate_state::{Envelope, Outcome};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::transport::Server;
use tower::layer::util::{Identity, Stack};

/// A ping goes out on a client connection that was silent this long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// The connection is closed when the ping is not answered for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the headers of one request: ours are below 1 KiB.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Bytes of answers beyond the largest value: keys, numbers, names.
const ANSWER_BYTES_EXTRA: usize = 64 << 10;
/// Streams that a client reset before we took them up; beyond it the connection is closed
/// ("rapid reset").
const RESET_STREAMS_MAX: usize = 256;

/// What every service needs.
#[derive(Clone)]
pub(crate) struct Context {
    replica: Replica,
    limits: Arc<Limits>,
    /// One checksum at a time: each reads the whole state.
    hashing: Arc<Semaphore>,
}

impl Context {
    pub(crate) fn new(replica: Replica, limits: Limits) -> Self {
        Self { replica, limits: Arc::new(limits), hashing: Arc::new(Semaphore::new(1)) }
    }

    async fn propose(&self, envelope: Envelope, deadline: Deadline) -> Result<Outcome, Refused> {
        Ok(self.replica.propose(envelope, deadline.remaining()).await?.outcome)
    }
}

/// A gRPC server with bounds on what a connection may cost; services are added to it.
pub(crate) fn builder(
    context: &Context,
    streams_max: u32,
) -> Server<Stack<refusals::Layer, Identity>> {
    Server::builder()
        .max_concurrent_streams(streams_max)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
        .layer(refusals::Layer::new(context.clone()))
}

/// All services.
pub(crate) fn routes(context: &Context) -> Routes {
    let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    let request_max = bytes(context.limits.request_bytes_max);
    let answer_max = bytes(context.limits.value_bytes_max) + ANSWER_BYTES_EXTRA;
    Routes::new(
        KvServiceServer::new(kv::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max),
    )
    .add_service(
        SessionServiceServer::new(session::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max),
    )
    .add_service(
        ClusterServiceServer::new(cluster::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max),
    )
    .prepare()
}
