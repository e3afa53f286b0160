//! The calls there are: how each goes into a pipeline, comes out of it, or is made on its own.

use quorate_proto::v1;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_proto::v1::txn_service_client::TxnServiceClient;
use std::future::Future;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// A request, and the kind of its answer.
pub(crate) trait Method: Send + Sized + 'static {
    type Answer: Send + 'static;
    /// Whether it can go into a pipeline: what opens a stream is always a call of its own.
    const PIPELINED: bool = false;

    /// As a call of a pipeline, if it can go into one.
    fn into_call(self) -> Call {
        unreachable!("it is sent on its own")
    }

    /// Its answer; none when the answer is that of another call.
    fn from_answer(_: Answer) -> Option<Self::Answer> {
        None
    }

    /// Made on its own.
    fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

macro_rules! methods {
    ($($request:ident => $answer:ident as $kind:ident by $client:ident::$method:ident;)*) => {$(
        impl Method for v1::$request {
            type Answer = v1::$answer;
            const PIPELINED: bool = true;

            fn into_call(self) -> Call {
                Call::$kind(self)
            }

            fn from_answer(answer: Answer) -> Option<Self::Answer> {
                match answer {
                    Answer::$kind(answer) => Some(answer),
                    _ => None,
                }
            }

            async fn unary(
                channel: Channel,
                request: Request<Self>,
            ) -> Result<Response<Self::Answer>, Status> {
                $client::new(channel)
                    .max_decoding_message_size(crate::pipe::MESSAGE_BYTES_MAX)
                    .$method(request)
                    .await
            }
        }
    )*};
}

methods! {
    GetRequest => GetResponse as KvGet by KvServiceClient::get;
    SetRequest => SetResponse as KvSet by KvServiceClient::set;
    DeleteRequest => DeleteResponse as KvDelete by KvServiceClient::delete;
    IncrementRequest => IncrementResponse as KvIncrement by KvServiceClient::increment;
    IncrementFloatRequest => IncrementFloatResponse as KvIncrementFloat
        by KvServiceClient::increment_float;
    DeletePatternRequest => DeletePatternResponse as KvDeletePattern
        by KvServiceClient::delete_pattern;
    ListRequest => ListResponse as KvList by KvServiceClient::list;
    OpenRequest => OpenResponse as SessionOpen by SessionServiceClient::open;
    KeepAliveRequest => KeepAliveResponse as SessionKeepAlive by SessionServiceClient::keep_alive;
    CloseRequest => CloseResponse as SessionClose by SessionServiceClient::close;
    ListSessionsRequest => ListSessionsResponse as SessionList
        by SessionServiceClient::list_sessions;
    LockAcquireRequest => LockAcquireResponse as LockAcquire by LockServiceClient::acquire;
    LockCancelRequest => LockCancelResponse as LockCancel by LockServiceClient::cancel;
    LockRenewRequest => LockRenewResponse as LockRenew by LockServiceClient::renew;
    LockReleaseRequest => LockReleaseResponse as LockRelease by LockServiceClient::release;
    LockForceReleaseRequest => LockForceReleaseResponse as LockForceRelease
        by LockServiceClient::force_release;
    LockInspectRequest => LockInspectResponse as LockInspect by LockServiceClient::inspect;
    LockListRequest => LockListResponse as LockList by LockServiceClient::list;
    PushRequest => PushResponse as QueuePush by QueueServiceClient::push;
    PullRequest => PullResponse as QueuePull by QueueServiceClient::pull;
    AckRequest => AckResponse as QueueAck by QueueServiceClient::ack;
    NackRequest => NackResponse as QueueNack by QueueServiceClient::nack;
    ExtendRequest => ExtendResponse as QueueExtend by QueueServiceClient::extend;
    ProgressRequest => ProgressResponse as QueueProgress by QueueServiceClient::progress;
    PeekRequest => PeekResponse as QueuePeek by QueueServiceClient::peek;
    GetJobRequest => GetJobResponse as QueueGetJob by QueueServiceClient::get_job;
    ListJobsRequest => ListJobsResponse as QueueListJobs by QueueServiceClient::list_jobs;
    CancelRequest => CancelResponse as QueueCancel by QueueServiceClient::cancel;
    StatsRequest => StatsResponse as QueueStats by QueueServiceClient::stats;
    ListQueuesRequest => ListQueuesResponse as QueueList by QueueServiceClient::list_queues;
    PauseRequest => PauseResponse as QueuePause by QueueServiceClient::pause;
    ResumeRequest => ResumeResponse as QueueResume by QueueServiceClient::resume;
    PurgeRequest => PurgeResponse as QueuePurge by QueueServiceClient::purge;
    RedriveRequest => RedriveResponse as QueueRedrive by QueueServiceClient::redrive;
    UpdateQueueRequest => UpdateQueueResponse as QueueUpdate by QueueServiceClient::update_queue;
    DeleteQueueRequest => DeleteQueueResponse as QueueDelete by QueueServiceClient::delete_queue;
    PutScheduleRequest => PutScheduleResponse as QueuePutSchedule
        by QueueServiceClient::put_schedule;
    DeleteScheduleRequest => DeleteScheduleResponse as QueueDeleteSchedule
        by QueueServiceClient::delete_schedule;
    ListSchedulesRequest => ListSchedulesResponse as QueueListSchedules
        by QueueServiceClient::list_schedules;
    StatusRequest => StatusResponse as ClusterStatus by ClusterServiceClient::status;
    MembersRequest => MembersResponse as ClusterMembers by ClusterServiceClient::members;
    HashStateRequest => HashStateResponse as ClusterHashState by ClusterServiceClient::hash_state;
    CountersRequest => CountersResponse as ClusterCounters by ClusterServiceClient::counters;
    TransferLeaderRequest => TransferLeaderResponse as ClusterTransferLeader
        by ClusterServiceClient::transfer_leader;
    TxnRequest => TxnResponse as TxnCommit by TxnServiceClient::commit;
}
