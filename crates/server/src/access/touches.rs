//! What each request touches: of which service, how, and the names of what. One place for each message
//! of the public API; a message that has none is refused to everybody but those who may do everything.

mod bus;
mod cache;
mod cluster;
mod kv;
mod lock;
mod queue;
mod txn;

use quorate_proto::v1;
use quorate_proto::v1::key_selector::Select;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_state::{AccessAction as Action, AccessService as Service};
use std::any::Any;

/// One thing that a request touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touch<'a> {
    pub(crate) service: Service,
    pub(crate) action: Action,
    pub(crate) namespace: &'a str,
    pub(crate) what: What<'a>,
}

/// Which names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// This one.
    Name(&'a [u8]),
    /// All that match this glob.
    Glob(&'a [u8]),
    /// All that begin like this.
    Prefix(&'a [u8]),
    /// All there are.
    All,
    /// Some that the request does not name: it has a number that was given to whoever may touch them.
    Some,
}

/// Takes what is touched, one after the other.
pub(crate) type See<'s> = dyn FnMut(Touch<'_>) + 's;

/// A request that touches something.
trait Touches {
    fn touches(&self, see: &mut See<'_>);
}

/// What a selector selects; one that selects nothing is refused by its service.
fn selected(selector: Option<&v1::KeySelector>) -> What<'_> {
    match selector.and_then(|selector| selector.select.as_ref()) {
        Some(Select::Prefix(prefix)) => What::Prefix(prefix),
        Some(Select::Pattern(pattern)) => What::Glob(pattern),
        Some(Select::Key(key)) => What::Name(key),
        None => What::All,
    }
}

/// Implements [`Touches`] for messages of one service with one name each.
macro_rules! named {
    ($service:ident: $($message:ident => $action:ident $name:ident),+ $(,)?) => {
        $(impl super::Touches for quorate_proto::v1::$message {
            fn touches(&self, see: &mut super::See<'_>) {
                see(super::Touch {
                    service: super::Service::$service,
                    action: super::Action::$action,
                    namespace: &self.namespace,
                    what: super::What::Name(self.$name.as_ref()),
                });
            }
        })+
    };
}
use named;

/// Implements [`Touches`] for messages of one service that touch names which are not single ones.
macro_rules! wide {
    ($service:ident: $($message:ident => $action:ident |$asked:ident| $what:expr),+ $(,)?) => {
        $(impl super::Touches for quorate_proto::v1::$message {
            fn touches(&self, see: &mut super::See<'_>) {
                let $asked = self;
                see(super::Touch {
                    service: super::Service::$service,
                    action: super::Action::$action,
                    namespace: &self.namespace,
                    what: $what,
                });
            }
        })+
    };
}
use wide;

/// Implements [`Touches`] for messages that whoever may connect may send.
macro_rules! open {
    ($($message:ident),+ $(,)?) => {
        $(impl super::Touches for quorate_proto::v1::$message {
            fn touches(&self, _: &mut super::See<'_>) {}
        })+
    };
}
use open;

/// What is known of a message.
macro_rules! known {
    ($message:ident, $see:ident: $($kind:ident),+ $(,)?) => {
        $(if let Some(message) = $message.downcast_ref::<v1::$kind>() {
            message.touches($see);
            return true;
        })+
    };
}

/// Tells what a decoded message touches; false when it is not known what it is.
pub(crate) fn of_message(message: &dyn Any, see: &mut See<'_>) -> bool {
    known!(message, see:
        // Often sent on their own first; looking is a comparison of ids.
        GetRequest, SetRequest, DeleteRequest, IncrementRequest, IncrementFloatRequest,
        DeletePatternRequest, ListRequest, WatchRequest,
        TxnRequest,
        CacheGetRequest, CacheSetRequest, CacheDeleteRequest, CacheDeletePatternRequest,
        CacheInvalidateTagsRequest, CacheTouchRequest, CacheGetOrBuildRequest, CacheFillRequest,
        CacheEndBuildRequest, CacheStatsRequest, CacheResizeRequest, CacheInvalidationsRequest,
        PushRequest, PullRequest, AckRequest, NackRequest, ExtendRequest, ProgressRequest,
        PeekRequest, GetJobRequest, ListJobsRequest, CancelRequest, StatsRequest,
        ListQueuesRequest, PauseRequest, ResumeRequest, PurgeRequest, RedriveRequest,
        UpdateQueueRequest, DeleteQueueRequest, PutScheduleRequest, DeleteScheduleRequest,
        ListSchedulesRequest, ConsumeOpen,
        LockAcquireRequest, LockCancelRequest, LockRenewRequest, LockReleaseRequest,
        LockForceReleaseRequest, LockInspectRequest, LockListRequest, LockWatchRequest,
        BusPublishRequest, BusPublishAllRequest, BusSubscribeRequest, BusRequestRequest,
        BusReplyRequest, BusListChannelsRequest,
        OpenRequest, KeepAliveRequest, CloseRequest, ListSessionsRequest,
        StatusRequest, MembersRequest, HashStateRequest, CountersRequest, TransferLeaderRequest,
        InviteRequest, JoinRequest, ChangeMemberRequest, BackupRequest,
        CreateTokenRequest, RevokeTokenRequest, ListTokensRequest, PutRoleRequest,
        DeleteRoleRequest, ListRolesRequest, PutSubjectRequest, DeleteSubjectRequest,
        ListSubjectsRequest, WhoAmIRequest,
    );
    // What these hold is looked at when it is taken out.
    message.is::<v1::PipelineRequest>() || message.is::<v1::ConsumeRequest>()
}

/// Tells what a call of a pipeline touches.
pub(crate) fn of_call(call: &Call, see: &mut See<'_>) {
    let asked: &dyn Touches = match call {
        Call::KvGet(asked) => asked,
        Call::KvSet(asked) => asked,
        Call::KvDelete(asked) => asked,
        Call::KvIncrement(asked) => asked,
        Call::KvIncrementFloat(asked) => asked,
        Call::KvDeletePattern(asked) => asked,
        Call::KvList(asked) => asked,
        Call::TxnCommit(asked) => asked,
        Call::SessionOpen(asked) => asked,
        Call::SessionKeepAlive(asked) => asked,
        Call::SessionClose(asked) => asked,
        Call::SessionList(asked) => asked,
        Call::LockAcquire(asked) => asked,
        Call::LockCancel(asked) => asked,
        Call::LockRenew(asked) => asked,
        Call::LockRelease(asked) => asked,
        Call::LockForceRelease(asked) => asked,
        Call::LockInspect(asked) => asked,
        Call::LockList(asked) => asked,
        Call::ClusterStatus(asked) => asked,
        Call::ClusterMembers(asked) => asked,
        Call::ClusterHashState(asked) => asked,
        Call::ClusterCounters(asked) => asked,
        Call::ClusterTransferLeader(asked) => asked,
        Call::ClusterInvite(asked) => asked,
        Call::ClusterChangeMember(asked) => asked,
        Call::QueuePush(asked) => asked,
        Call::QueuePull(asked) => asked,
        Call::QueueAck(asked) => asked,
        Call::QueueNack(asked) => asked,
        Call::QueueExtend(asked) => asked,
        Call::QueueProgress(asked) => asked,
        Call::QueuePeek(asked) => asked,
        Call::QueueGetJob(asked) => asked,
        Call::QueueListJobs(asked) => asked,
        Call::QueueCancel(asked) => asked,
        Call::QueueStats(asked) => asked,
        Call::QueueList(asked) => asked,
        Call::QueuePause(asked) => asked,
        Call::QueueResume(asked) => asked,
        Call::QueuePurge(asked) => asked,
        Call::QueueRedrive(asked) => asked,
        Call::QueueUpdate(asked) => asked,
        Call::QueueDelete(asked) => asked,
        Call::QueuePutSchedule(asked) => asked,
        Call::QueueDeleteSchedule(asked) => asked,
        Call::QueueListSchedules(asked) => asked,
        Call::CacheGet(asked) => asked,
        Call::CacheSet(asked) => asked,
        Call::CacheDelete(asked) => asked,
        Call::CacheDeletePattern(asked) => asked,
        Call::CacheInvalidateTags(asked) => asked,
        Call::CacheTouch(asked) => asked,
        Call::CacheGetOrBuild(asked) => asked,
        Call::CacheFill(asked) => asked,
        Call::CacheEndBuild(asked) => asked,
        Call::CacheStats(asked) => asked,
        Call::CacheResize(asked) => asked,
        Call::BusPublish(asked) => asked,
        Call::BusPublishAll(asked) => asked,
        Call::BusRequest(asked) => asked,
        Call::BusReply(asked) => asked,
        Call::BusListChannels(asked) => asked,
    };
    asked.touches(see);
}
