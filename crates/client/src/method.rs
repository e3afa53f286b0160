//! The calls there are: how each goes into a pipeline, comes out of it, or is made on its own.

use crate::dial::Channel;
use quorate_proto::v1;
use quorate_proto::v1::auth_service_client::AuthServiceClient;
use quorate_proto::v1::bus_service_client::BusServiceClient;
use quorate_proto::v1::cache_service_client::CacheServiceClient;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_proto::v1::txn_service_client::TxnServiceClient;
use std::future::Future;
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

    /// The namespace it is made in, if its answer tells of a revision.
    fn namespace(&self) -> Option<&str> {
        None
    }

    /// The group and the revision that an answer tells of.
    fn revision(_: &Self::Answer) -> Option<(u32, u64)> {
        None
    }

    /// Made on its own.
    fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

/// Methods that are always calls of their own.
macro_rules! apart {
    ($($request:ident => $answer:ident by $client:ident::$method:ident;)*) => {$(
        impl Method for v1::$request {
            type Answer = v1::$answer;

            async fn unary(
                channel: Channel,
                request: Request<Self>,
            ) -> Result<Response<Self::Answer>, Status> {
                $client::new(channel)
                    .max_decoding_message_size(LISTS_BYTES_MAX)
                    .$method(request)
                    .await
            }
        }
    )*};
}

/// Bytes of all tokens, roles or names that there may be.
const LISTS_BYTES_MAX: usize = 128 << 20;

apart! {
    CreateTokenRequest => CreateTokenResponse by AuthServiceClient::create_token;
    RevokeTokenRequest => RevokeTokenResponse by AuthServiceClient::revoke_token;
    ListTokensRequest => ListTokensResponse by AuthServiceClient::list_tokens;
    PutRoleRequest => PutRoleResponse by AuthServiceClient::put_role;
    DeleteRoleRequest => DeleteRoleResponse by AuthServiceClient::delete_role;
    ListRolesRequest => ListRolesResponse by AuthServiceClient::list_roles;
    PutSubjectRequest => PutSubjectResponse by AuthServiceClient::put_subject;
    DeleteSubjectRequest => DeleteSubjectResponse by AuthServiceClient::delete_subject;
    ListSubjectsRequest => ListSubjectsResponse by AuthServiceClient::list_subjects;
    WhoAmIRequest => WhoAmIResponse by AuthServiceClient::who_am_i;
}

/// One line each; `revised` are those whose answers tell of a revision and its group. Those that are
/// `pipelined` go into a pipeline if it has room for them.
macro_rules! methods {
    ($pipelined:literal: $(
        $request:ident => $answer:ident as $kind:ident by $client:ident::$method:ident
        $(, $revised:ident)?;
    )*) => {$(
        impl Method for v1::$request {
            type Answer = v1::$answer;
            const PIPELINED: bool = $pipelined;

            fn into_call(self) -> Call {
                Call::$kind(self)
            }

            fn from_answer(answer: Answer) -> Option<Self::Answer> {
                match answer {
                    Answer::$kind(answer) => Some(answer),
                    _ => None,
                }
            }

            $(
                fn namespace(&self) -> Option<&str> {
                    let $revised = &self.namespace;
                    Some($revised)
                }

                fn revision(answer: &Self::Answer) -> Option<(u32, u64)> {
                    Some((answer.group_id, answer.revision))
                }
            )?

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

// What keeps something alive must not wait behind what fills the pipeline.
methods! { false:
    KeepAliveRequest => KeepAliveResponse as SessionKeepAlive by SessionServiceClient::keep_alive;
    LockRenewRequest => LockRenewResponse as LockRenew by LockServiceClient::renew;
}

methods! { true:
    GetRequest => GetResponse as KvGet by KvServiceClient::get, revised;
    SetRequest => SetResponse as KvSet by KvServiceClient::set, revised;
    DeleteRequest => DeleteResponse as KvDelete by KvServiceClient::delete, revised;
    IncrementRequest => IncrementResponse as KvIncrement by KvServiceClient::increment, revised;
    IncrementFloatRequest => IncrementFloatResponse as KvIncrementFloat
        by KvServiceClient::increment_float, revised;
    DeletePatternRequest => DeletePatternResponse as KvDeletePattern
        by KvServiceClient::delete_pattern, revised;
    ListRequest => ListResponse as KvList by KvServiceClient::list, revised;
    OpenRequest => OpenResponse as SessionOpen by SessionServiceClient::open;
    CloseRequest => CloseResponse as SessionClose by SessionServiceClient::close;
    ListSessionsRequest => ListSessionsResponse as SessionList
        by SessionServiceClient::list_sessions, revised;
    LockAcquireRequest => LockAcquireResponse as LockAcquire by LockServiceClient::acquire, revised;
    LockCancelRequest => LockCancelResponse as LockCancel by LockServiceClient::cancel;
    LockReleaseRequest => LockReleaseResponse as LockRelease by LockServiceClient::release, revised;
    LockForceReleaseRequest => LockForceReleaseResponse as LockForceRelease
        by LockServiceClient::force_release, revised;
    LockInspectRequest => LockInspectResponse as LockInspect by LockServiceClient::inspect, revised;
    LockListRequest => LockListResponse as LockList by LockServiceClient::list, revised;
    PushRequest => PushResponse as QueuePush by QueueServiceClient::push, revised;
    PullRequest => PullResponse as QueuePull by QueueServiceClient::pull, revised;
    AckRequest => AckResponse as QueueAck by QueueServiceClient::ack, revised;
    NackRequest => NackResponse as QueueNack by QueueServiceClient::nack, revised;
    ExtendRequest => ExtendResponse as QueueExtend by QueueServiceClient::extend;
    ProgressRequest => ProgressResponse as QueueProgress by QueueServiceClient::progress;
    PeekRequest => PeekResponse as QueuePeek by QueueServiceClient::peek, revised;
    GetJobRequest => GetJobResponse as QueueGetJob by QueueServiceClient::get_job, revised;
    ListJobsRequest => ListJobsResponse as QueueListJobs by QueueServiceClient::list_jobs, revised;
    CancelRequest => CancelResponse as QueueCancel by QueueServiceClient::cancel, revised;
    StatsRequest => StatsResponse as QueueStats by QueueServiceClient::stats, revised;
    ListQueuesRequest => ListQueuesResponse as QueueList
        by QueueServiceClient::list_queues, revised;
    PauseRequest => PauseResponse as QueuePause by QueueServiceClient::pause, revised;
    ResumeRequest => ResumeResponse as QueueResume by QueueServiceClient::resume, revised;
    PurgeRequest => PurgeResponse as QueuePurge by QueueServiceClient::purge, revised;
    RedriveRequest => RedriveResponse as QueueRedrive by QueueServiceClient::redrive, revised;
    UpdateQueueRequest => UpdateQueueResponse as QueueUpdate
        by QueueServiceClient::update_queue, revised;
    DeleteQueueRequest => DeleteQueueResponse as QueueDelete
        by QueueServiceClient::delete_queue, revised;
    PutScheduleRequest => PutScheduleResponse as QueuePutSchedule
        by QueueServiceClient::put_schedule, revised;
    DeleteScheduleRequest => DeleteScheduleResponse as QueueDeleteSchedule
        by QueueServiceClient::delete_schedule, revised;
    ListSchedulesRequest => ListSchedulesResponse as QueueListSchedules
        by QueueServiceClient::list_schedules, revised;
    BusPublishRequest => BusPublishResponse as BusPublish by BusServiceClient::publish;
    BusPublishAllRequest => BusPublishAllResponse as BusPublishAll by BusServiceClient::publish_all;
    BusRequestRequest => BusRequestResponse as BusRequest by BusServiceClient::request;
    BusReplyRequest => BusReplyResponse as BusReply by BusServiceClient::reply;
    BusListChannelsRequest => BusListChannelsResponse as BusListChannels
        by BusServiceClient::list_channels;
    CacheGetRequest => CacheGetResponse as CacheGet by CacheServiceClient::get, revised;
    CacheSetRequest => CacheSetResponse as CacheSet by CacheServiceClient::set, revised;
    CacheDeleteRequest => CacheDeleteResponse as CacheDelete by CacheServiceClient::delete, revised;
    CacheDeletePatternRequest => CacheDeletePatternResponse as CacheDeletePattern
        by CacheServiceClient::delete_pattern, revised;
    CacheInvalidateTagsRequest => CacheInvalidateTagsResponse as CacheInvalidateTags
        by CacheServiceClient::invalidate_tags, revised;
    CacheTouchRequest => CacheTouchResponse as CacheTouch by CacheServiceClient::touch, revised;
    CacheGetOrBuildRequest => CacheGetOrBuildResponse as CacheGetOrBuild
        by CacheServiceClient::get_or_build, revised;
    CacheFillRequest => CacheFillResponse as CacheFill by CacheServiceClient::fill, revised;
    CacheEndBuildRequest => CacheEndBuildResponse as CacheEndBuild
        by CacheServiceClient::end_build;
    CacheStatsRequest => CacheStatsResponse as CacheStats by CacheServiceClient::stats;
    CacheResizeRequest => CacheResizeResponse as CacheResize by CacheServiceClient::resize;
    StatusRequest => StatusResponse as ClusterStatus by ClusterServiceClient::status;
    MembersRequest => MembersResponse as ClusterMembers by ClusterServiceClient::members;
    HashStateRequest => HashStateResponse as ClusterHashState by ClusterServiceClient::hash_state;
    CountersRequest => CountersResponse as ClusterCounters by ClusterServiceClient::counters;
    TransferLeaderRequest => TransferLeaderResponse as ClusterTransferLeader
        by ClusterServiceClient::transfer_leader;
    InviteRequest => InviteResponse as ClusterInvite by ClusterServiceClient::invite;
    ChangeMemberRequest => ChangeMemberResponse as ClusterChangeMember
        by ClusterServiceClient::change_member;
    TxnRequest => TxnResponse as TxnCommit by TxnServiceClient::commit, revised;
}
