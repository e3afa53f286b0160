//! The calls of a pipeline and their answers: which unary method each stands for, and how an
//! outcome, or what went wrong, becomes an answer.

use super::work::{CALLS_MAX, WAITS_MAX};
use crate::grpc::{
    Context, Deadline, Refused, bus, cache, cache_read, cluster, kv, lock, lock_wait, queue,
    session, status,
};
use crate::wire;
use quorate_proto::metadata::{OUTCOME, REASON, VERSION};
use quorate_proto::v1::cluster_service_server::ClusterService;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::{self, PipelineAnswer, PipelineError};
use quorate_state::{GroupId, Outcome};
use std::time::Duration;
use tonic::{Request, Status};

/// Makes a call as the unary service does.
pub(super) async fn call_unary(
    context: Context,
    call: Call,
    deadline: Deadline,
    timeout_ms: u32,
) -> Result<Answer, Status> {
    fn timed<T>(message: T, timeout_ms: u32) -> Request<T> {
        let mut request = Request::new(message);
        if timeout_ms > 0 {
            request.set_timeout(Duration::from_millis(timeout_ms.into()));
        }
        request
    }
    macro_rules! cluster {
        ($asked:expr, $kind:ident, $method:ident) => {{
            let service = cluster::Service(context);
            let answer = service.$method(timed($asked, timeout_ms)).await?;
            Ok(Answer::$kind(answer.into_inner()))
        }};
    }
    match call {
        Call::SessionKeepAlive(keep) => {
            let kept = session::Service(context).keep(keep, deadline).await?;
            Ok(Answer::SessionKeepAlive(kept))
        }
        Call::KvList(list) => Ok(Answer::KvList(kv::Service(context).page(list, deadline).await?)),
        Call::SessionList(asked) => {
            Ok(Answer::SessionList(session::Service(context).listed(&asked, deadline).await?))
        }
        Call::LockAcquire(asked) => {
            let deadline = Deadline::in_ms_of_wait(timeout_ms, asked.wait_ms);
            Ok(Answer::LockAcquire(lock_wait::acquire(&context, asked, deadline).await?))
        }
        Call::LockRenew(asked) => {
            Ok(Answer::LockRenew(lock::Service(context).renewed(asked, deadline).await?))
        }
        Call::LockInspect(asked) => {
            Ok(Answer::LockInspect(lock::Service(context).inspected(asked, deadline).await?))
        }
        Call::LockList(asked) => {
            Ok(Answer::LockList(lock::Service(context).listed(asked, deadline).await?))
        }
        // Its outcome is that of a release: what answers it is known here only.
        Call::LockCancel(asked) => {
            let envelope = wire::lock::cancel(asked).map_err(Refused::from)?;
            let outcome = context.propose(envelope, deadline).await?;
            Ok(Answer::LockCancel(wire::lock::cancelled(outcome)?))
        }
        Call::LockForceRelease(asked) => {
            let envelope = wire::lock::force_release(asked).map_err(Refused::from)?;
            let outcome = context.propose(envelope, deadline).await?;
            let group = context.replica.group();
            Ok(Answer::LockForceRelease(wire::lock::force_released(outcome, group)?))
        }
        Call::QueuePeek(asked) => {
            Ok(Answer::QueuePeek(queue::Service(context).peeked(asked, deadline).await?))
        }
        Call::QueueGetJob(asked) => {
            Ok(Answer::QueueGetJob(queue::Service(context).job(asked, deadline).await?))
        }
        Call::QueueListJobs(asked) => {
            Ok(Answer::QueueListJobs(queue::Service(context).jobs(asked, deadline).await?))
        }
        Call::QueueStats(asked) => {
            Ok(Answer::QueueStats(queue::Service(context).counted(asked, deadline).await?))
        }
        Call::QueueList(asked) => {
            Ok(Answer::QueueList(queue::Service(context).queues(asked, deadline).await?))
        }
        Call::QueueListSchedules(asked) => {
            let answer = queue::Service(context).schedules(asked, deadline).await?;
            Ok(Answer::QueueListSchedules(answer))
        }
        Call::CacheGet(asked) => {
            let get = wire::cache::get(asked, &context.limits).map_err(Refused::from)?;
            Ok(Answer::CacheGet(cache_read::get(&context, &get, deadline).await?))
        }
        Call::CacheGetOrBuild(asked) => {
            let asked = wire::cache::get_or_build(asked, &context.limits).map_err(Refused::from)?;
            let answer = cache_read::get_or_build(&context, asked, deadline).await?;
            Ok(Answer::CacheGetOrBuild(answer))
        }
        Call::CacheStats(asked) => Ok(Answer::CacheStats(cache::Service(context).counted(asked)?)),
        Call::BusRequest(asked) => {
            Ok(Answer::BusRequest(bus::Service(context).requested(asked, deadline).await?))
        }
        Call::BusReply(asked) => {
            Ok(Answer::BusReply(bus::Service(context).replied(asked, deadline).await?))
        }
        Call::BusListChannels(asked) => {
            Ok(Answer::BusListChannels(bus::Service(context).listed(asked, deadline).await?))
        }
        Call::ClusterStatus(asked) => cluster!(asked, ClusterStatus, status),
        Call::ClusterMembers(asked) => cluster!(asked, ClusterMembers, members),
        Call::ClusterHashState(asked) => cluster!(asked, ClusterHashState, hash_state),
        Call::ClusterCounters(asked) => cluster!(asked, ClusterCounters, counters),
        Call::ClusterTransferLeader(asked) => {
            cluster!(asked, ClusterTransferLeader, transfer_leader)
        }
        Call::ClusterInvite(asked) => cluster!(asked, ClusterInvite, invite),
        Call::ClusterChangeMember(asked) => cluster!(asked, ClusterChangeMember, change_member),
        // Those go through the lane, or share a barrier, or wait, or are on their way already.
        Call::KvGet(_)
        | Call::KvSet(_)
        | Call::KvDelete(_)
        | Call::KvIncrement(_)
        | Call::KvIncrementFloat(_)
        | Call::KvDeletePattern(_)
        | Call::TxnCommit(_)
        | Call::LockRelease(_)
        | Call::SessionOpen(_)
        | Call::SessionClose(_)
        | Call::QueuePush(_)
        | Call::QueuePull(_)
        | Call::QueueAck(_)
        | Call::QueueNack(_)
        | Call::QueueExtend(_)
        | Call::QueueProgress(_)
        | Call::QueueCancel(_)
        | Call::QueuePause(_)
        | Call::QueueResume(_)
        | Call::QueuePurge(_)
        | Call::QueueRedrive(_)
        | Call::QueueUpdate(_)
        | Call::QueueDelete(_)
        | Call::QueuePutSchedule(_)
        | Call::QueueDeleteSchedule(_)
        | Call::CacheSet(_)
        | Call::CacheDelete(_)
        | Call::CacheDeletePattern(_)
        | Call::CacheInvalidateTags(_)
        | Call::CacheTouch(_)
        | Call::CacheFill(_)
        | Call::CacheEndBuild(_)
        | Call::CacheResize(_)
        | Call::BusPublish(_)
        | Call::BusPublishAll(_) => {
            Err(Status::internal("a call went the wrong way; this is a bug"))
        }
    }
}

/// The method that a call stands for, for counters.
pub(super) fn method(call: &Call) -> &'static str {
    match call {
        Call::KvGet(_) => "KvService/Get",
        Call::KvSet(_) => "KvService/Set",
        Call::KvDelete(_) => "KvService/Delete",
        Call::KvIncrement(_) => "KvService/Increment",
        Call::KvIncrementFloat(_) => "KvService/IncrementFloat",
        Call::KvDeletePattern(_) => "KvService/DeletePattern",
        Call::KvList(_) => "KvService/List",
        Call::SessionOpen(_) => "SessionService/Open",
        Call::SessionKeepAlive(_) => "SessionService/KeepAlive",
        Call::SessionClose(_) => "SessionService/Close",
        Call::SessionList(_) => "SessionService/ListSessions",
        Call::LockAcquire(_) => "LockService/Acquire",
        Call::LockCancel(_) => "LockService/Cancel",
        Call::LockRenew(_) => "LockService/Renew",
        Call::LockRelease(_) => "LockService/Release",
        Call::LockForceRelease(_) => "LockService/ForceRelease",
        Call::LockInspect(_) => "LockService/Inspect",
        Call::LockList(_) => "LockService/List",
        Call::ClusterStatus(_) => "ClusterService/Status",
        Call::ClusterMembers(_) => "ClusterService/Members",
        Call::ClusterHashState(_) => "ClusterService/HashState",
        Call::ClusterCounters(_) => "ClusterService/Counters",
        Call::ClusterTransferLeader(_) => "ClusterService/TransferLeader",
        Call::ClusterInvite(_) => "ClusterService/Invite",
        Call::ClusterChangeMember(_) => "ClusterService/ChangeMember",
        Call::TxnCommit(_) => "TxnService/Commit",
        Call::QueuePush(_) => "QueueService/Push",
        Call::QueuePull(_) => "QueueService/Pull",
        Call::QueueAck(_) => "QueueService/Ack",
        Call::QueueNack(_) => "QueueService/Nack",
        Call::QueueExtend(_) => "QueueService/Extend",
        Call::QueueProgress(_) => "QueueService/Progress",
        Call::QueuePeek(_) => "QueueService/Peek",
        Call::QueueGetJob(_) => "QueueService/GetJob",
        Call::QueueListJobs(_) => "QueueService/ListJobs",
        Call::QueueCancel(_) => "QueueService/Cancel",
        Call::QueueStats(_) => "QueueService/Stats",
        Call::QueueList(_) => "QueueService/ListQueues",
        Call::QueuePause(_) => "QueueService/Pause",
        Call::QueueResume(_) => "QueueService/Resume",
        Call::QueuePurge(_) => "QueueService/Purge",
        Call::QueueRedrive(_) => "QueueService/Redrive",
        Call::QueueUpdate(_) => "QueueService/UpdateQueue",
        Call::QueueDelete(_) => "QueueService/DeleteQueue",
        Call::QueuePutSchedule(_) => "QueueService/PutSchedule",
        Call::QueueDeleteSchedule(_) => "QueueService/DeleteSchedule",
        Call::QueueListSchedules(_) => "QueueService/ListSchedules",
        Call::CacheGet(_) => "CacheService/Get",
        Call::CacheSet(_) => "CacheService/Set",
        Call::CacheDelete(_) => "CacheService/Delete",
        Call::CacheDeletePattern(_) => "CacheService/DeletePattern",
        Call::CacheInvalidateTags(_) => "CacheService/InvalidateTags",
        Call::CacheTouch(_) => "CacheService/Touch",
        Call::CacheGetOrBuild(_) => "CacheService/GetOrBuild",
        Call::CacheFill(_) => "CacheService/Fill",
        Call::CacheEndBuild(_) => "CacheService/EndBuild",
        Call::CacheStats(_) => "CacheService/Stats",
        Call::CacheResize(_) => "CacheService/Resize",
        Call::BusPublish(_) => "BusService/Publish",
        Call::BusPublishAll(_) => "BusService/PublishAll",
        Call::BusRequest(_) => "BusService/Request",
        Call::BusReply(_) => "BusService/Reply",
        Call::BusListChannels(_) => "BusService/ListChannels",
    }
}

/// How an outcome becomes the answer to the call that it is of.
pub(super) type Answers = fn(Outcome, GroupId) -> Result<Answer, Refused>;

/// The answers to calls whose outcomes are not of them alone.
pub(super) fn progressed(outcome: Outcome, group: GroupId) -> Result<Answer, Refused> {
    Ok(Answer::QueueProgress(wire::queue::progressed(outcome, group)?))
}

pub(super) fn paused(outcome: Outcome, group: GroupId) -> Result<Answer, Refused> {
    Ok(Answer::QueuePause(wire::queue::paused(outcome, group)?))
}

pub(super) fn resumed(outcome: Outcome, group: GroupId) -> Result<Answer, Refused> {
    Ok(Answer::QueueResume(wire::queue::resumed(outcome, group)?))
}

pub(super) fn purged(outcome: Outcome, group: GroupId) -> Result<Answer, Refused> {
    Ok(Answer::QueuePurge(wire::queue::purged(outcome, group)?))
}

pub(super) fn deleted_queue(outcome: Outcome, group: GroupId) -> Result<Answer, Refused> {
    Ok(Answer::QueueDelete(wire::queue::deleted(outcome, group)?))
}

pub(super) fn updated(outcome: Outcome, group: GroupId) -> Result<Answer, Refused> {
    Ok(Answer::QueueUpdate(wire::queue::updated(outcome, group)?))
}

/// The answer to any other mutation, of the kind that its outcome is of.
pub(super) fn mutated(outcome: Outcome, group: GroupId) -> Result<Answer, Refused> {
    Ok(match outcome {
        Outcome::KvSet { .. } => Answer::KvSet(wire::kv::was_set(outcome, group)?),
        Outcome::KvDelete { .. } => Answer::KvDelete(wire::kv::deleted(outcome, group)?),
        Outcome::KvIncrement { .. } => Answer::KvIncrement(wire::kv::incremented(outcome, group)?),
        Outcome::KvIncrementFloat { .. } => {
            Answer::KvIncrementFloat(wire::kv::incremented_float(outcome, group)?)
        }
        Outcome::KvDeletePattern { .. } => {
            Answer::KvDeletePattern(wire::kv::deleted_pattern(outcome, group)?)
        }
        Outcome::LockRelease { .. } => Answer::LockRelease(wire::lock::released(outcome, group)?),
        Outcome::SessionOpen { .. } => Answer::SessionOpen(wire::session::opened(outcome, group)?),
        Outcome::SessionClose { .. } => Answer::SessionClose(wire::session::closed(outcome)?),
        Outcome::Transaction { .. } => Answer::TxnCommit(wire::txn::committed(outcome, group)?),
        Outcome::QueuePush { .. } => Answer::QueuePush(wire::queue::pushed(outcome, group)?),
        Outcome::QueueAck { .. } => Answer::QueueAck(wire::queue::acked(outcome, group)?),
        Outcome::QueueNack { .. } => Answer::QueueNack(wire::queue::nacked(outcome, group)?),
        Outcome::QueueExtend { .. } => Answer::QueueExtend(wire::queue::extended(outcome, group)?),
        Outcome::QueueCancel { .. } => Answer::QueueCancel(wire::queue::cancelled(outcome, group)?),
        Outcome::SchedulePut { .. } => {
            Answer::QueuePutSchedule(wire::queue::schedule_put(outcome, group)?)
        }
        Outcome::ScheduleDelete { .. } => {
            Answer::QueueDeleteSchedule(wire::queue::schedule_deleted(outcome, group)?)
        }
        Outcome::QueueRedrive { .. } => {
            Answer::QueueRedrive(wire::queue::redriven(outcome, group)?)
        }
        Outcome::CacheSet { .. } => Answer::CacheSet(wire::cache::was_set(outcome, group)?),
        Outcome::CacheDelete { .. } => Answer::CacheDelete(wire::cache::deleted(outcome, group)?),
        Outcome::CacheDeletePattern { .. } => {
            Answer::CacheDeletePattern(wire::cache::deleted_pattern(outcome, group)?)
        }
        Outcome::CacheInvalidateTags { .. } => {
            Answer::CacheInvalidateTags(wire::cache::invalidated(outcome, group)?)
        }
        Outcome::CacheTouch { .. } => Answer::CacheTouch(wire::cache::touched(outcome, group)?),
        Outcome::CacheFill { .. } => Answer::CacheFill(wire::cache::filled(outcome, group)?),
        Outcome::CacheBuildEnd { .. } => {
            Answer::CacheEndBuild(wire::cache::ended_build(outcome, group)?)
        }
        Outcome::CacheResize { .. } => Answer::CacheResize(wire::cache::resized(outcome, group)?),
        other => return Err(wire::unexpected(other)),
    })
}

pub(super) fn answered(id: u64, answer: Result<Answer, Refused>) -> PipelineAnswer {
    match answer {
        Ok(answer) => PipelineAnswer { id, answer: Some(answer) },
        Err(why) => refused(id, Status::from(why)),
    }
}

/// The same words as the trailers of a unary call have.
pub(super) fn refused(id: u64, status: Status) -> PipelineAnswer {
    let word = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
    let outcome = match word(OUTCOME) {
        Some(status::NOT_APPLIED) => v1::Outcome::NotApplied,
        _ => v1::Outcome::Unknown,
    };
    let error = PipelineError {
        code: status.code() as u32,
        message: status.message().to_owned(),
        reason: word(REASON).unwrap_or_default().to_owned(),
        outcome: outcome.into(),
        version: word(VERSION).and_then(|version| version.parse().ok()),
    };
    PipelineAnswer { id, answer: Some(Answer::Error(error)) }
}

pub(super) fn over_credit() -> Status {
    status::not_applied(
        tonic::Code::ResourceExhausted,
        "OVER_CREDIT",
        format!("the stream has {CALLS_MAX} unanswered calls, its credit; wait for answers"),
    )
}

pub(super) fn too_many_waits() -> Status {
    status::not_applied(
        tonic::Code::ResourceExhausted,
        "TOO_MANY_WAITS",
        format!(
            "{WAITS_MAX} calls wait for locks, jobs, values or answers on this stream already; use \
             another connection"
        ),
    )
}

pub(super) fn unknown_call() -> Status {
    status::not_applied(
        tonic::Code::Unimplemented,
        "UNIMPLEMENTED",
        "this version has no such call; compare the versions of client and server",
    )
}

pub(super) fn duplicate_id(id: u64) -> Status {
    status::not_applied(
        tonic::Code::InvalidArgument,
        "DUPLICATE_ID",
        format!("call {id} of this stream is not answered yet; give each call an id of its own"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::descriptors;
    use crate::metrics;
    use prost::Message as _;

    #[test]
    fn every_call_is_counted_as_its_method() {
        let files = descriptors::files();
        let mut messages = files.iter().flat_map(|file| &file.message_type);
        let call = messages.find(|message| message.name() == "PipelineCall").unwrap();
        let kinds: Vec<_> = call.field.iter().filter(|f| f.oneof_index.is_some()).collect();
        assert!(kinds.len() > 10, "{kinds:?}");
        let requests = metrics::Requests::default();
        for kind in kinds {
            // An empty message in that field.
            let mut bytes = Vec::new();
            let number = u32::try_from(kind.number()).unwrap();
            prost::encoding::encode_key(
                number,
                prost::encoding::WireType::LengthDelimited,
                &mut bytes,
            );
            bytes.push(0);
            let call = v1::PipelineCall::decode(&*bytes).unwrap().request.unwrap();
            let counted = requests.method(method(&call));
            assert_ne!(counted, requests.method(""), "{} has no method", kind.name());
        }
    }
}
