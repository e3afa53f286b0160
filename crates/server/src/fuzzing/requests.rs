//! Requests of clients, decoded as a connection decodes them and checked as the services check them.

use crate::wire::{self, Invalid};
use bytes::Bytes;
use quorate_proto::codec::decode;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::{self, consume_request};
use quorate_state::limits::Limits;
use quorate_state::{Attachment, Envelope, NodeId, codec};
use tonic::Status;

/// What a request that passed all checks comes to.
enum Checked {
    /// It goes through the log.
    Command(Box<Envelope>),
    /// Something is read, or it is another node's matter.
    Other,
}

/// The calls of a pipeline, each with the kind of its request.
macro_rules! unary {
    ($($kind:ident($request:ident)),* $(,)?) => {
        /// The messages that [`unary_request`] knows: the first byte of its input is a place in here.
        pub const UNARY: &[&str] = &[$(stringify!($request)),*];

        fn decode_unary(kind: u8, bytes: &Bytes) -> Result<Call, Status> {
            type Decode = fn(&Bytes) -> Result<Call, Status>;
            let all: &[Decode] = &[$(|bytes| decode::<v1::$request>(bytes).map(Call::$kind)),*];
            all[usize::from(kind) % all.len()](bytes)
        }
    };
}

unary! {
    KvGet(GetRequest), KvSet(SetRequest), KvDelete(DeleteRequest), KvIncrement(IncrementRequest),
    KvIncrementFloat(IncrementFloatRequest), KvDeletePattern(DeletePatternRequest),
    KvList(ListRequest), SessionOpen(OpenRequest), SessionKeepAlive(KeepAliveRequest),
    SessionClose(CloseRequest), SessionList(ListSessionsRequest), LockAcquire(LockAcquireRequest),
    LockCancel(LockCancelRequest), LockRenew(LockRenewRequest), LockRelease(LockReleaseRequest),
    LockForceRelease(LockForceReleaseRequest), LockInspect(LockInspectRequest),
    LockList(LockListRequest), QueuePush(PushRequest), QueuePull(PullRequest),
    QueueAck(AckRequest), QueueNack(NackRequest), QueueExtend(ExtendRequest),
    QueueProgress(ProgressRequest), QueuePeek(PeekRequest), QueueGetJob(GetJobRequest),
    QueueListJobs(ListJobsRequest), QueueCancel(CancelRequest), QueueStats(StatsRequest),
    QueueList(ListQueuesRequest), QueuePause(PauseRequest), QueueResume(ResumeRequest),
    QueuePurge(PurgeRequest), QueueRedrive(RedriveRequest), QueueUpdate(UpdateQueueRequest),
    QueueDelete(DeleteQueueRequest), QueuePutSchedule(PutScheduleRequest),
    QueueDeleteSchedule(DeleteScheduleRequest), QueueListSchedules(ListSchedulesRequest),
    CacheGet(CacheGetRequest), CacheSet(CacheSetRequest), CacheDelete(CacheDeleteRequest),
    CacheDeletePattern(CacheDeletePatternRequest), CacheInvalidateTags(CacheInvalidateTagsRequest),
    CacheTouch(CacheTouchRequest), CacheGetOrBuild(CacheGetOrBuildRequest),
    CacheFill(CacheFillRequest), CacheEndBuild(CacheEndBuildRequest), CacheStats(CacheStatsRequest),
    CacheResize(CacheResizeRequest), BusPublish(BusPublishRequest),
    BusPublishAll(BusPublishAllRequest), BusRequest(BusRequestRequest), BusReply(BusReplyRequest),
    BusListChannels(BusListChannelsRequest), ClusterStatus(StatusRequest),
    ClusterMembers(MembersRequest), ClusterHashState(HashStateRequest),
    ClusterTransferLeader(TransferLeaderRequest), ClusterInvite(InviteRequest),
    ClusterChangeMember(ChangeMemberRequest), ClusterCounters(CountersRequest),
    TxnCommit(TxnRequest),
}

/// A request of a unary call: its kind, by its place in [`UNARY`], and the message.
pub fn unary_request(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    decode_unary(*kind, &Bytes::copy_from_slice(bytes)).is_ok_and(checked)
}

/// The encoded command that a unary request comes to, if it comes to one.
#[must_use]
pub fn envelope_of(bytes: &[u8]) -> Option<Envelope> {
    let (kind, bytes) = bytes.split_first()?;
    let call = decode_unary(*kind, &Bytes::copy_from_slice(bytes)).ok()?;
    match check(call, &Limits::default()).ok()? {
        Checked::Command(envelope) => Some(*envelope),
        Checked::Other => None,
    }
}

/// A message of a pipeline. Accepted if any of its calls is.
pub fn pipeline_frame(bytes: &[u8]) -> bool {
    let Ok(frame) = decode::<v1::PipelineRequest>(&Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let accepted = frame.calls.into_iter().filter_map(|call| call.request).filter(|call| {
        // What is checked is taken, so that it can be counted which are.
        checked(call.clone())
    });
    accepted.count() > 0
}

/// The messages that [`stream_request`] knows: the first byte of its input is a place in here.
pub const STREAMS: &[&str] =
    &["WatchRequest", "BusSubscribeRequest", "ConsumeRequest", "LockWatchRequest"];

/// What opens a stream: its kind, by its place in [`STREAMS`], and the message.
pub fn stream_request(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let bytes = Bytes::copy_from_slice(bytes);
    match usize::from(*kind) % STREAMS.len() {
        0 => {
            decode::<v1::WatchRequest>(&bytes).is_ok_and(|watch| wire::watch::watch(watch).is_ok())
        }
        1 => decode::<v1::BusSubscribeRequest>(&bytes)
            .is_ok_and(|subscribe| wire::bus::subscribe(subscribe).is_ok()),
        2 => decode::<v1::ConsumeRequest>(&bytes).is_ok_and(|message| match message.request {
            Some(consume_request::Request::Open(open)) => wire::queue::open(open).is_ok(),
            Some(_) => true,
            None => false,
        }),
        _ => decode::<v1::LockWatchRequest>(&bytes)
            .is_ok_and(|watch| wire::lock::watch(watch).is_ok()),
    }
}

/// Whether a call passes. A command that does is one that another node, and the log, can hold.
fn checked(call: Call) -> bool {
    match check(call, &Limits::default()) {
        Ok(Checked::Command(envelope)) => {
            let encoded = codec::encode_envelope(&envelope);
            assert_eq!(
                codec::decode::<Envelope>(&encoded).as_ref(),
                Ok(&*envelope),
                "a command that was let in can't be forwarded"
            );
            true
        }
        Ok(Checked::Other) => true,
        Err(Invalid { reason, message }) => {
            assert!(!reason.is_empty() && !message.is_empty(), "it is refused without a word");
            false
        }
    }
}

/// The checks of the service that a call is for.
fn check(call: Call, limits: &Limits) -> Result<Checked, Invalid> {
    let attachment = Attachment { node: NodeId(1), call: 1 };
    let command = match call {
        Call::KvSet(asked) => wire::kv::set(asked, limits),
        Call::KvDelete(asked) => wire::kv::delete(asked, limits),
        Call::KvIncrement(asked) => wire::kv::increment(asked, limits),
        Call::KvIncrementFloat(asked) => wire::kv::increment_float(asked, limits),
        Call::KvDeletePattern(asked) => wire::kv::delete_pattern(asked),
        Call::SessionOpen(asked) => wire::session::open(asked),
        Call::SessionClose(asked) => wire::session::close(asked),
        Call::LockAcquire(asked) => wire::lock::acquire(asked, attachment),
        Call::LockCancel(asked) => wire::lock::cancel(asked),
        Call::LockRelease(asked) => wire::lock::release(asked),
        Call::LockForceRelease(asked) => wire::lock::force_release(asked),
        Call::QueuePush(asked) => wire::queue::push(asked, limits),
        Call::QueuePull(asked) => wire::queue::pull(asked, attachment),
        Call::QueueAck(asked) => wire::queue::ack(asked),
        Call::QueueNack(asked) => wire::queue::nack(asked),
        Call::QueueExtend(asked) => wire::queue::extend(asked),
        Call::QueueProgress(asked) => wire::queue::progress(asked),
        Call::QueueCancel(asked) => wire::queue::cancel(asked),
        Call::QueuePause(asked) => wire::queue::pause(asked),
        Call::QueueResume(asked) => wire::queue::resume(asked),
        Call::QueuePurge(asked) => wire::queue::purge(asked),
        Call::QueueRedrive(asked) => wire::queue::redrive(asked),
        Call::QueueUpdate(asked) => wire::queue::update(asked),
        Call::QueueDelete(asked) => wire::queue::delete(asked),
        Call::QueuePutSchedule(asked) => wire::queue::put_schedule(asked, limits),
        Call::QueueDeleteSchedule(asked) => wire::queue::delete_schedule(asked),
        Call::CacheSet(asked) => wire::cache::set(asked, limits),
        Call::CacheDelete(asked) => wire::cache::delete(asked, limits),
        Call::CacheDeletePattern(asked) => wire::cache::delete_pattern(asked),
        Call::CacheInvalidateTags(asked) => wire::cache::invalidate_tags(asked),
        Call::CacheTouch(asked) => wire::cache::touch(asked, limits),
        Call::CacheFill(asked) => wire::cache::fill(asked, limits),
        Call::CacheEndBuild(asked) => wire::cache::end_build(asked, limits),
        Call::CacheResize(asked) => wire::cache::resize(asked),
        Call::TxnCommit(asked) => match wire::txn::commit(asked, limits)? {
            wire::txn::Commit::Write(envelope) => Ok(*envelope),
            wire::txn::Commit::Read(_) => return Ok(Checked::Other),
        },
        other => return read(other, limits).map(|()| Checked::Other),
    };
    command.map(|envelope| Checked::Command(Box::new(envelope)))
}

/// The same for calls that are no command.
fn read(call: Call, limits: &Limits) -> Result<(), Invalid> {
    match call {
        Call::KvGet(asked) => wire::kv::get(asked, limits).map(drop),
        Call::KvList(asked) => wire::kv::list(asked).map(drop),
        Call::SessionKeepAlive(asked) => wire::session::keep_alive(asked).map(drop),
        Call::SessionList(asked) => wire::session::list(&asked).map(drop),
        Call::LockRenew(asked) => wire::lock::renew(asked).map(drop),
        Call::LockInspect(asked) => wire::lock::inspect(asked).map(drop),
        Call::LockList(asked) => wire::lock::list(asked).map(drop),
        Call::QueuePeek(asked) => wire::queue::peek(asked).map(drop),
        Call::QueueGetJob(asked) => wire::queue::get_job(asked).map(drop),
        Call::QueueListJobs(asked) => wire::queue::list_jobs(asked).map(drop),
        Call::QueueStats(asked) => wire::queue::stats(asked).map(drop),
        Call::QueueList(asked) => wire::queue::list_queues(asked).map(drop),
        Call::QueueListSchedules(asked) => wire::queue::list_schedules(asked).map(drop),
        Call::CacheGet(asked) => wire::cache::get(asked, limits).map(drop),
        Call::CacheGetOrBuild(asked) => wire::cache::get_or_build(asked, limits).map(drop),
        Call::CacheStats(asked) => wire::cache::namespace_of(asked.namespace).map(drop),
        Call::BusPublish(asked) => wire::bus::publish(asked).map(drop),
        Call::BusPublishAll(asked) => wire::bus::publish_all(asked).map(drop),
        Call::BusRequest(asked) => wire::bus::request(asked).map(drop),
        Call::BusReply(asked) => wire::bus::reply(asked).map(drop),
        Call::BusListChannels(asked) => wire::bus::list(asked).map(drop),
        // They are looked at where the answer is made, and have nothing but numbers and short texts.
        _ => Ok(()),
    }
}
