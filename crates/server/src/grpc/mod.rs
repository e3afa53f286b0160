//! The public gRPC services: each method decodes through `wire`, asks the replica, and answers
//! before its caller's deadline. What went wrong is told through the one table in `status`.

mod auth;
mod backup;
mod bus;
mod bus_subscribe;
mod cache;
mod cache_invalidations;
mod cache_read;
mod caller;
mod cluster;
pub(crate) mod deadline;
mod descriptors;
mod ending;
mod health;
mod kv;
mod leader;
mod list_stream;
mod lock;
mod lock_wait;
mod lock_watch;
mod members;
mod pipeline;
mod queue;
mod queue_consume;
mod queue_pull;
mod refusals;
mod say;
mod session;
mod slow_reader;
mod status;
mod txn;
mod watch_stream;

pub(crate) use descriptors::public_methods;
pub(crate) use queue_consume::look_after;
pub(crate) use refusals::Judged;
pub(crate) use status::{Refused, denied_now, not_applied};

use crate::access::audit::Denials;
use crate::access::{Access, Denied, Grant, Shown};
use crate::bus::{Bus, Leading};
use crate::cache::{Accesses, Cache};
use crate::connections::ConnectionState;
use crate::http::Probes;
use crate::limits::{self, CallerLimits, Callers};
use crate::metrics::Counters;
use crate::news::{News, Stray};
use crate::watch::Watches;
use crate::wire;
use deadline::Deadline;
use ending::Ending;
use leader::LeaderAddress;
use prost_types::FileDescriptorSet;
use quorate_consensus::{Origin, Replica, runtime};
use quorate_proto::v1::auth_service_server::AuthServiceServer;
use quorate_proto::v1::bus_service_server::BusServiceServer;
use quorate_proto::v1::cache_service_server::CacheServiceServer;
use quorate_proto::v1::cluster_service_server::ClusterServiceServer;
use quorate_proto::v1::kv_service_server::KvServiceServer;
use quorate_proto::v1::lock_service_server::LockServiceServer;
use quorate_proto::v1::pipeline_service_server::PipelineServiceServer;
use quorate_proto::v1::queue_service_server::QueueServiceServer;
use quorate_proto::v1::session_service_server::SessionServiceServer;
use quorate_proto::v1::txn_service_server::TxnServiceServer;
use quorate_state::limits::{Limits, PULL_BODY_BYTES_MAX, TRANSACTION_READ_BYTES_MAX};
use quorate_state::{Attachment, Envelope, Outcome, Revision};
use quorate_storage::state::View;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;
use tower::layer::util::{Identity, Stack};

/// A ping goes out on a client connection that was silent this long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// The connection is closed when the ping is not answered for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a stream on their way without an acknowledgement.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of the headers of one request: ours are below 1 KiB.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Bytes of answers beyond the largest value: keys, numbers, names.
const ANSWER_BYTES_EXTRA: usize = 64 << 10;
/// Bytes of answers with jobs beyond what is in those: 128 of them with 64 headers and a group each.
const JOBS_BYTES_EXTRA: usize = 128 << 10;
/// Bytes of an answer with all tokens, roles or subjects.
const LISTS_BYTES_MAX: usize = 128 << 20;
/// Bytes of a request for health or reflection: a name.
const NAME_BYTES_MAX: usize = 16 << 10;
/// Streams that a client reset before we took them up; beyond it the connection is closed
/// ("rapid reset").
const RESET_STREAMS_MAX: usize = 256;

/// What every service needs.
#[derive(Clone)]
pub(crate) struct Context {
    replica: Replica,
    /// Whose calls these are, where that can't be told from the task.
    origin: Option<Origin>,
    limits: Arc<Limits>,
    leader: Arc<LeaderAddress>,
    counters: Arc<Counters>,
    slow_reader_max: Duration,
    joins_without_token: bool,
    /// None: nobody is asked who he is.
    access: Option<Access>,
    denials: Arc<Denials>,
    /// What each caller has under way.
    callers: Callers,
    /// How long a request may take to arrive.
    message_timeout: Duration,
    watches: Watches,
    bus: Bus,
    cache: Cache,
    /// Cancelled when the server takes no new calls any more.
    stop: CancellationToken,
    /// One checksum at a time: each reads the whole state.
    hashing: Arc<Semaphore>,
    /// One backup at a time, for the same reason.
    backups: Arc<Semaphore>,
    /// Who waits for what this node applies.
    news: Arc<News>,
    /// Turns to consume queues.
    consumers: Arc<Semaphore>,
    /// Calls and consumers of which something is to be said in the log when they are over.
    calls_that_wait: TaskTracker,
    /// Numbers of calls that wait: the first, and the next. The first is any number, so that those
    /// of an earlier process differ.
    first_call: u64,
    calls: Arc<AtomicU64>,
}

impl Context {
    /// What the services need, and the consumers that are to be looked after ([`look_after`]).
    pub(crate) fn new(
        replica: Replica,
        limits: Limits,
        counters: Arc<Counters>,
        slow_reader_max: Duration,
        joins_without_token: bool,
        access: Option<Access>,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<Stray>) {
        let watches = Watches::new(replica.clone(), Arc::clone(&counters), stop.clone());
        let bus = Bus::new(replica.clone(), Arc::clone(&counters), stop.clone());
        let cache = Cache::new(replica.clone());
        let (news, strays) = News::of(replica.node_id());
        let first_call = runtime::random_u64();
        let callers = Callers::new(CallerLimits::default(), Arc::clone(&counters));
        let context = Self {
            limits: Arc::new(limits),
            leader: Arc::default(),
            callers,
            message_timeout: limits::MESSAGE_TIMEOUT,
            slow_reader_max,
            joins_without_token,
            access,
            denials: Arc::clone(&counters.denials),
            counters,
            watches,
            bus,
            cache,
            stop,
            hashing: Arc::new(Semaphore::new(1)),
            backups: Arc::new(Semaphore::new(1)),
            news,
            consumers: Arc::new(Semaphore::new(queue_consume::CONSUMERS_MAX)),
            calls_that_wait: TaskTracker::new(),
            replica,
            origin: None,
            first_call,
            calls: Arc::new(AtomicU64::new(first_call)),
        };
        (context, strays)
    }

    /// The same with other bounds for each caller, and for how long a request may take to arrive.
    pub(crate) fn bounded(self, callers: Callers, message_timeout: Duration) -> Self {
        Self { callers, message_timeout, ..self }
    }

    /// Who waits for what this node applies; somebody has to follow that for them.
    pub(crate) fn news(&self) -> &Arc<News> {
        &self.news
    }

    /// Starts what the bus and the cache do by themselves.
    pub(crate) fn start_bus_and_cache(&self) {
        let (replica, counters) = (self.replica.clone(), Arc::clone(&self.counters));
        let accesses = Arc::<Accesses>::default();
        let leading = Leading::new(replica.clone(), Arc::clone(&counters), Arc::clone(&accesses));
        tokio::spawn(leading.follow(self.stop.clone()));
        tokio::spawn(self.bus.clone().follow());
        tokio::spawn(self.cache.clone().follow(replica.follow()));
        tokio::spawn(self.cache.clone().tell_reads(self.bus.clone(), self.stop.clone()));
        tokio::spawn(crate::cache::evict(replica, accesses, counters, self.stop.clone()));
    }

    /// What a server that stops has to wait for: that others hear of the calls that end with it.
    pub(crate) fn calls_that_wait(&self) -> &TaskTracker {
        &self.calls_that_wait
    }

    /// The replica that the services ask.
    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// What they count.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How callers are judged; none: they are not.
    pub(crate) fn access(&self) -> Option<&Access> {
        self.access.as_ref()
    }

    /// Cancelled when the server takes no new calls any more.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// What somebody may do who shows this; none where nobody is asked.
    pub(crate) async fn admit(
        &self,
        connection: Option<&ConnectionState>,
        shown: &Shown,
    ) -> Result<Option<Arc<Grant>>, Denied> {
        let Some(access) = &self.access else { return Ok(None) };
        refusals::admit(self, access, connection, shown).await.map(Some)
    }

    /// A place to wait at, for one call.
    fn attachment(&self) -> Attachment {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        Attachment { node: self.replica.node_id(), call }
    }

    /// Whether a place is one of this process.
    fn is_own(&self, at: Attachment) -> bool {
        let issued = self.calls.load(Ordering::Relaxed).wrapping_sub(self.first_call);
        at.node == self.replica.node_id() && at.call.wrapping_sub(self.first_call) < issued
    }

    /// A view that is as fresh as a read asks for.
    async fn view(
        &self,
        fresh: wire::kv::Freshness,
        deadline: Deadline,
    ) -> Result<Arc<View>, Refused> {
        // The view is taken afterwards, so it contains that revision and more.
        if fresh.min_revision > Revision(0) {
            self.replica.wait_applied(fresh.min_revision, deadline.remaining()).await?;
        }
        if fresh.stale {
            return Ok(Arc::new(self.replica.stale()));
        }
        Ok(self.replica.read(deadline.remaining()).await?)
    }

    async fn propose(&self, envelope: Envelope, deadline: Deadline) -> Result<Outcome, Refused> {
        Ok(self.proposed(envelope, deadline.remaining()).await?.outcome)
    }
}

/// A gRPC server with bounds on what a connection may cost; services are added to it.
pub(crate) fn builder(
    context: &Context,
    streams_max: u32,
) -> Server<Stack<refusals::Layer, Identity>> {
    Server::builder()
        .max_concurrent_streams(streams_max)
        // A few pipeline messages on their way without a wait for the other side.
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(2 * STREAM_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
        .layer(refusals::Layer::new(context.clone()))
}

/// All services.
pub(crate) fn routes(context: &Context, probes: &Probes) -> Routes {
    let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    let request_max = bytes(context.limits.request_bytes_max);
    // Several small values together may be more than the largest one.
    let value_max = context.limits.value_bytes_max.max(TRANSACTION_READ_BYTES_MAX);
    let answer_max = bytes(value_max) + ANSWER_BYTES_EXTRA;
    // The last job that a pull takes may be as large as the others together.
    let job_max = value_max.max(PULL_BODY_BYTES_MAX);
    let jobs_max = bytes(PULL_BODY_BYTES_MAX + job_max) + JOBS_BYTES_EXTRA;
    Routes::new(
        KvServiceServer::new(kv::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max),
    )
    .add_service(
        PipelineServiceServer::new(pipeline::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max.max(jobs_max) + ANSWER_BYTES_EXTRA),
    )
    .add_service(
        QueueServiceServer::new(queue::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(jobs_max),
    )
    .add_service(
        CacheServiceServer::new(cache::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max),
    )
    .add_service(
        BusServiceServer::new(bus::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(2 * answer_max),
    )
    .add_service(
        SessionServiceServer::new(session::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max),
    )
    .add_service(
        LockServiceServer::new(lock::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max),
    )
    .add_service(
        TxnServiceServer::new(txn::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max),
    )
    .add_service(
        ClusterServiceServer::new(cluster::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(answer_max),
    )
    .add_service(
        AuthServiceServer::new(auth::Service(context.clone()))
            .max_decoding_message_size(request_max)
            .max_encoding_message_size(LISTS_BYTES_MAX),
    )
    .add_service(
        HealthServer::new(health::Service::new(probes.clone()))
            .max_decoding_message_size(NAME_BYTES_MAX),
    )
    .add_service(Ending {
        inner: reflection()
            .build_v1()
            .expect("the build made the descriptors")
            .max_decoding_message_size(NAME_BYTES_MAX),
        stop: context.stop.clone(),
    })
    // The older name of the same protocol is what many tools still ask for.
    .add_service(Ending {
        inner: reflection()
            .build_v1alpha()
            .expect("the build made the descriptors")
            .max_decoding_message_size(NAME_BYTES_MAX),
        stop: context.stop.clone(),
    })
    .prepare()
}

/// Tells tools what can be called on this port.
fn reflection() -> Reflection<'static> {
    let public = FileDescriptorSet { file: descriptors::files() };
    Reflection::configure()
        .register_file_descriptor_set(public)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Runs what reads a lot without holding up the other tasks of this thread. A simulation has one
/// thread and nothing that blocks.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
