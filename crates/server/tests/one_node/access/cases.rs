//! For each method a request, and what it takes to make it.

use bytes::Bytes;
use prost::Message;
use quorate_proto::v1;
use quorate_proto::v1::AuthAction::{Admin, Consume, Publish, Read, Write};
use quorate_proto::v1::AuthScope::{Bus, Cache, Cluster, Kv, Lock, Queue};
use quorate_proto::v1::key_selector::Select;
use quorate_proto::v1::{AuthAction, AuthScope};

/// Who may make it.
pub(super) enum Needs {
    /// Whoever can connect.
    Nothing,
    /// Whoever the node knows.
    Anybody,
    /// Whoever may do all of this to names that begin with `own/`.
    Own(&'static [(AuthScope, AuthAction)]),
    /// Whoever may do all of this to all names.
    All(&'static [(AuthScope, AuthAction)]),
    /// Whoever may do this to anything.
    Some(AuthScope, AuthAction),
}

pub(super) struct Case {
    pub(super) method: &'static str,
    pub(super) body: Bytes,
    pub(super) needs: Needs,
}

fn case(method: &'static str, request: impl Message, needs: Needs) -> Case {
    Case { method, body: request.encode_to_vec().into(), needs }
}

const NAME: &str = "own/a";

fn key() -> Bytes {
    Bytes::from_static(NAME.as_bytes())
}

fn name() -> String {
    NAME.to_owned()
}

fn selector() -> Option<v1::KeySelector> {
    Some(v1::KeySelector { select: Some(Select::Prefix(Bytes::from_static(b"own/"))) })
}

fn content() -> Option<v1::BusContent> {
    Some(v1::BusContent { payload: key(), ..Default::default() })
}

fn policy() -> Option<v1::CachePolicy> {
    Some(v1::CachePolicy { tags: vec![name()], ..Default::default() })
}

/// A message of this kind with these fields.
macro_rules! of {
    ($kind:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        #[allow(clippy::needless_update, reason = "some have no other fields")]
        let message = v1::$kind { $($field: $value,)* ..Default::default() };
        message
    }};
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = kv();
    all.extend(cache());
    all.extend(queue());
    all.extend(lock_and_bus());
    all.extend(rest());
    all
}

fn kv() -> Vec<Case> {
    vec![
        case("KvService/Get", of!(GetRequest { key: key() }), Needs::Own(&[(Kv, Read)])),
        case("KvService/Set", of!(SetRequest { key: key() }), Needs::Own(&[(Kv, Write)])),
        case("KvService/Delete", of!(DeleteRequest { key: key() }), Needs::Own(&[(Kv, Write)])),
        case(
            "KvService/Increment",
            of!(IncrementRequest { key: Bytes::from_static(b"own/n") }),
            Needs::Own(&[(Kv, Write)]),
        ),
        case(
            "KvService/IncrementFloat",
            of!(IncrementFloatRequest { key: Bytes::from_static(b"own/f") }),
            Needs::Own(&[(Kv, Write)]),
        ),
        case(
            "KvService/DeletePattern",
            of!(DeletePatternRequest { selector: selector() }),
            Needs::Own(&[(Kv, Write)]),
        ),
        case(
            "KvService/List",
            of!(ListRequest { selector: selector() }),
            Needs::Own(&[(Kv, Read)]),
        ),
        case(
            "KvService/ListStream",
            of!(ListRequest { selector: selector() }),
            Needs::Own(&[(Kv, Read)]),
        ),
        case(
            "KvService/Watch",
            of!(WatchRequest { selectors: selector().into_iter().collect() }),
            Needs::Own(&[(Kv, Read)]),
        ),
        case(
            "TxnService/Commit",
            txn(),
            Needs::Own(&[
                (Kv, Read),
                (Kv, Write),
                (Lock, Read),
                (Lock, Write),
                (Queue, Read),
                (Queue, Publish),
                (Queue, Consume),
                (Cache, Write),
                (Bus, Publish),
            ]),
        ),
    ]
}

/// One of everything. It is refused for its lock without a session, which is enough here.
fn txn() -> v1::TxnRequest {
    use v1::txn_condition::Condition;
    use v1::txn_operation::Operation;
    let conditions = [
        Condition::KvAbsent(v1::TxnKvAbsent { key: key() }),
        Condition::LockFree(v1::TxnLockFree { name: name() }),
        Condition::QueueJobs(v1::TxnQueueJobs { queue: name(), at_most: 9 }),
    ];
    let operations = [
        Operation::KvGet(v1::TxnKvGet { key: key() }),
        Operation::KvSet(v1::TxnKvSet { key: key(), ..Default::default() }),
        Operation::LockAcquire(v1::TxnLockAcquire { name: name(), ..Default::default() }),
        Operation::QueuePush(v1::TxnQueuePush { queue: name(), jobs: vec![v1::NewJob::default()] }),
        Operation::QueueAck(v1::TxnQueueAck { queue: name(), job_id: 1, lease: 1 }),
        Operation::CacheSet(v1::TxnCacheSet { key: key(), policy: policy(), ..Default::default() }),
        Operation::BusPublish(v1::TxnBusPublish { channel: name(), content: content() }),
    ];
    let condition = |condition| v1::TxnCondition { condition: Some(condition) };
    let operation = |operation| v1::TxnOperation { operation: Some(operation) };
    v1::TxnRequest {
        conditions: conditions.map(condition).to_vec(),
        then: operations.map(operation).to_vec(),
        ..Default::default()
    }
}

fn cache() -> Vec<Case> {
    let write = || Needs::Own(&[(Cache, Write)]);
    vec![
        case("CacheService/Get", of!(CacheGetRequest { key: key() }), Needs::Own(&[(Cache, Read)])),
        case("CacheService/Set", of!(CacheSetRequest { key: key(), policy: policy() }), write()),
        case("CacheService/Delete", of!(CacheDeleteRequest { key: key() }), write()),
        case(
            "CacheService/DeletePattern",
            of!(CacheDeletePatternRequest { selector: selector() }),
            write(),
        ),
        case(
            "CacheService/InvalidateTags",
            of!(CacheInvalidateTagsRequest { tags: vec![name()] }),
            write(),
        ),
        case("CacheService/Touch", of!(CacheTouchRequest { key: key() }), write()),
        case(
            "CacheService/GetOrBuild",
            of!(CacheGetOrBuildRequest { key: key(), build_lease_ms: 1_000 }),
            Needs::Own(&[(Cache, Read), (Cache, Write)]),
        ),
        case("CacheService/Fill", of!(CacheFillRequest { key: key(), policy: policy() }), write()),
        case("CacheService/EndBuild", of!(CacheEndBuildRequest { key: key() }), write()),
        case("CacheService/Stats", of!(CacheStatsRequest {}), Needs::Some(Cache, Read)),
        case(
            "CacheService/Resize",
            of!(CacheResizeRequest { bytes_max: 64 << 20 }),
            Needs::All(&[(Cache, Admin)]),
        ),
        case(
            "CacheService/Invalidations",
            of!(CacheInvalidationsRequest {}),
            Needs::All(&[(Cache, Read)]),
        ),
    ]
}

fn queue() -> Vec<Case> {
    let consume = || Needs::Own(&[(Queue, Consume)]);
    let read = || Needs::Own(&[(Queue, Read)]);
    let admin = || Needs::Own(&[(Queue, Admin)]);
    let open = v1::ConsumeOpen { queue: name(), session_id: 1, window: 1, ..Default::default() };
    let open = v1::consume_request::Request::Open(open);
    vec![
        case(
            "QueueService/Push",
            of!(PushRequest { queue: name(), jobs: vec![v1::NewJob::default()] }),
            Needs::Own(&[(Queue, Publish)]),
        ),
        case("QueueService/Consume", v1::ConsumeRequest { request: Some(open) }, consume()),
        case("QueueService/Pull", of!(PullRequest { queue: name(), count: 1 }), consume()),
        case("QueueService/Ack", of!(AckRequest { queue: name() }), consume()),
        case("QueueService/Nack", of!(NackRequest { queue: name() }), consume()),
        case("QueueService/Extend", of!(ExtendRequest { queue: name() }), consume()),
        case("QueueService/Progress", of!(ProgressRequest { queue: name() }), consume()),
        case("QueueService/Peek", of!(PeekRequest { queue: name() }), read()),
        case("QueueService/GetJob", of!(GetJobRequest { queue: name() }), read()),
        case("QueueService/ListJobs", of!(ListJobsRequest { queue: name() }), read()),
        case("QueueService/Stats", of!(StatsRequest { queue: name() }), read()),
        case("QueueService/ListQueues", of!(ListQueuesRequest { selector: selector() }), read()),
        case(
            "QueueService/ListSchedules",
            of!(ListSchedulesRequest { selector: selector() }),
            read(),
        ),
        case(
            "QueueService/Cancel",
            of!(CancelRequest { queue: name() }),
            Needs::Own(&[(Queue, Write)]),
        ),
        case("QueueService/Pause", of!(PauseRequest { queue: name() }), admin()),
        case("QueueService/Resume", of!(ResumeRequest { queue: name() }), admin()),
        case("QueueService/Purge", of!(PurgeRequest { queue: name() }), admin()),
        case("QueueService/Redrive", of!(RedriveRequest { queue: name() }), admin()),
        case("QueueService/UpdateQueue", of!(UpdateQueueRequest { queue: name() }), admin()),
        case("QueueService/DeleteQueue", of!(DeleteQueueRequest { queue: name() }), admin()),
        case(
            "QueueService/PutSchedule",
            of!(PutScheduleRequest { schedule: name(), queue: name() }),
            Needs::Own(&[(Queue, Admin), (Queue, Publish)]),
        ),
        case(
            "QueueService/DeleteSchedule",
            of!(DeleteScheduleRequest { schedule: name() }),
            admin(),
        ),
    ]
}

fn lock_and_bus() -> Vec<Case> {
    let write = || Needs::Own(&[(Lock, Write)]);
    let read = || Needs::Own(&[(Lock, Read)]);
    let publish = || Needs::Own(&[(Bus, Publish)]);
    vec![
        case("LockService/Acquire", of!(LockAcquireRequest { name: name() }), write()),
        case(
            "LockService/Cancel",
            of!(LockCancelRequest { session_id: 1, sequence: 1 }),
            Needs::Some(Lock, Write),
        ),
        case("LockService/Renew", of!(LockRenewRequest { name: name() }), write()),
        case("LockService/Release", of!(LockReleaseRequest { name: name() }), write()),
        case(
            "LockService/ForceRelease",
            of!(LockForceReleaseRequest { name: name() }),
            Needs::Own(&[(Lock, Admin)]),
        ),
        case("LockService/Inspect", of!(LockInspectRequest { name: name() }), read()),
        case("LockService/List", of!(LockListRequest { selector: selector() }), read()),
        case("LockService/Watch", of!(LockWatchRequest { name: name() }), read()),
        case(
            "BusService/Publish",
            of!(BusPublishRequest { channel: name(), content: content() }),
            publish(),
        ),
        case(
            "BusService/PublishAll",
            of!(BusPublishAllRequest {
                messages: vec![v1::BusOutgoing { channel: name(), content: content() }]
            }),
            publish(),
        ),
        case(
            "BusService/Request",
            of!(BusRequestRequest { channel: name(), content: content() }),
            publish(),
        ),
        case(
            "BusService/Subscribe",
            of!(BusSubscribeRequest { patterns: vec!["own/*".to_owned()] }),
            Needs::Own(&[(Bus, Consume)]),
        ),
        case(
            "BusService/ListChannels",
            of!(BusListChannelsRequest { pattern: "own/*".to_owned() }),
            Needs::Own(&[(Bus, Read)]),
        ),
        case(
            "BusService/Reply",
            of!(BusReplyRequest { reply_to: key() }),
            Needs::Some(Bus, Consume),
        ),
    ]
}

fn rest() -> Vec<Case> {
    let look = || Needs::All(&[(Cluster, Read)]);
    let admin = || Needs::All(&[(Cluster, Admin)]);
    let role = Some(v1::AuthRole { name: "made".to_owned(), rules: Vec::new() });
    let subject =
        Some(v1::AuthSubject { subject: "made".to_owned(), roles: vec!["admin".to_owned()] });
    vec![
        case("PipelineService/Open", v1::PipelineRequest::default(), Needs::Anybody),
        case("SessionService/Open", of!(OpenRequest { ttl_ms: 5_000 }), Needs::Anybody),
        case("SessionService/KeepAlive", of!(KeepAliveRequest { session_id: 1 }), Needs::Anybody),
        case(
            "SessionService/KeepAliveStream",
            of!(KeepAliveRequest { session_id: 1 }),
            Needs::Anybody,
        ),
        case("SessionService/Close", of!(CloseRequest { session_id: 1 }), Needs::Anybody),
        case("SessionService/ListSessions", of!(ListSessionsRequest {}), look()),
        case("ClusterService/Status", of!(StatusRequest {}), Needs::Anybody),
        case("ClusterService/Members", of!(MembersRequest {}), Needs::Anybody),
        case("ClusterService/HashState", of!(HashStateRequest {}), look()),
        case("ClusterService/Counters", of!(CountersRequest {}), look()),
        case("ClusterService/TransferLeader", of!(TransferLeaderRequest { node_id: 99 }), admin()),
        case("ClusterService/Invite", of!(InviteRequest {}), admin()),
        case("ClusterService/Join", of!(JoinRequest {}), Needs::Nothing),
        case("ClusterService/ChangeMember", of!(ChangeMemberRequest { node_id: 99 }), admin()),
        case("ClusterService/Backup", of!(BackupRequest {}), admin()),
        case(
            "AuthService/CreateToken",
            of!(CreateTokenRequest { name: "made".to_owned(), roles: vec!["admin".to_owned()] }),
            admin(),
        ),
        case(
            "AuthService/RevokeToken",
            of!(RevokeTokenRequest { token_id: "0".repeat(16) }),
            admin(),
        ),
        case("AuthService/ListTokens", of!(ListTokensRequest {}), admin()),
        case("AuthService/PutRole", v1::PutRoleRequest { role }, admin()),
        case("AuthService/DeleteRole", of!(DeleteRoleRequest { name: "none".to_owned() }), admin()),
        case("AuthService/ListRoles", of!(ListRolesRequest {}), admin()),
        case("AuthService/PutSubject", v1::PutSubjectRequest { subject }, admin()),
        case(
            "AuthService/DeleteSubject",
            of!(DeleteSubjectRequest { subject: "none".to_owned() }),
            admin(),
        ),
        case("AuthService/ListSubjects", of!(ListSubjectsRequest {}), admin()),
        case("AuthService/WhoAmI", of!(WhoAmIRequest {}), Needs::Anybody),
    ]
}
