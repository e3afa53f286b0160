//! The pipeline of a scripted node: each call does what the unary one does.

use super::node::Node;
use futures::StreamExt;
use futures::stream::BoxStream;
use quorate_proto::metadata::{LEADER, OUTCOME, REASON, VERSION};
use quorate_proto::v1::bus_service_server::BusService;
use quorate_proto::v1::cache_service_server::CacheService;
use quorate_proto::v1::cluster_service_server::ClusterService;
use quorate_proto::v1::kv_service_server::KvService;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::pipeline_service_server::PipelineService;
use quorate_proto::v1::queue_service_server::QueueService;
use quorate_proto::v1::session_service_server::SessionService;
use quorate_proto::v1::txn_service_server::TxnService;
use quorate_proto::v1::{
    Outcome, PipelineAnswer, PipelineCall, PipelineError, PipelineRequest, PipelineResponse,
    PipelineWelcome,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Calls that may be unanswered at once.
const CALLS_MAX: u32 = 1_024;

pub(super) struct Pipeline(pub(super) Arc<Node>);

#[tonic::async_trait]
impl PipelineService for Pipeline {
    type OpenStream = BoxStream<'static, Result<PipelineResponse, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let node = Arc::clone(&self.0);
        let (answers, answered) = mpsc::channel(CALLS_MAX as usize + 1);
        let welcome = PipelineWelcome { calls_max: CALLS_MAX, message_bytes_max: 2 << 20 };
        let hello = PipelineResponse { welcome: Some(welcome), ..PipelineResponse::default() };
        drop(answers.send(Ok(hello)).await);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let mut under_way = BTreeMap::new();
            while let Some(Ok(message)) = requests.next().await {
                for id in message.cancelled {
                    under_way.remove(&id);
                }
                for call in message.calls {
                    let (node, answers) = (Arc::clone(&node), answers.clone());
                    let id = call.id;
                    let work = tokio::spawn(async move {
                        drop(answers.send(Ok(answer(&node, call).await)).await);
                    });
                    under_way.insert(id, AbortOnDrop(work));
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answered).boxed()))
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer(node: &Arc<Node>, call: PipelineCall) -> PipelineResponse {
    let PipelineCall { id, timeout_ms, request, .. } = call;
    macro_rules! make {
        ($message:expr, $kind:ident by $service:ident::$method:ident) => {{
            let mut request = Request::new($message);
            request.set_timeout(Duration::from_millis(timeout_ms.into()));
            let answer = $service::$method(&**node, request).await;
            answer.map(|answer| {
                let (metadata, message, _) = answer.into_parts();
                (Answer::$kind(message), metadata)
            })
        }};
    }
    let made = match request.expect("each call has a request") {
        Call::KvGet(get) => make!(get, KvGet by KvService::get),
        Call::KvSet(set) => make!(set, KvSet by KvService::set),
        Call::KvDelete(delete) => make!(delete, KvDelete by KvService::delete),
        Call::KvIncrement(increment) => make!(increment, KvIncrement by KvService::increment),
        Call::KvIncrementFloat(_)
        | Call::KvDeletePattern(_)
        | Call::KvList(_)
        | Call::SessionList(_)
        | Call::LockAcquire(_)
        | Call::LockCancel(_)
        | Call::LockRenew(_)
        | Call::LockRelease(_)
        | Call::LockForceRelease(_)
        | Call::LockInspect(_)
        | Call::LockList(_)
        | Call::QueuePeek(_)
        | Call::QueueGetJob(_)
        | Call::QueueListJobs(_)
        | Call::QueueCancel(_)
        | Call::QueueList(_)
        | Call::QueuePause(_)
        | Call::QueueResume(_)
        | Call::QueuePurge(_)
        | Call::QueueUpdate(_)
        | Call::QueueDelete(_)
        | Call::QueuePutSchedule(_)
        | Call::QueueDeleteSchedule(_)
        | Call::QueueListSchedules(_)
        | Call::ClusterInvite(_)
        | Call::ClusterChangeMember(_)
        | Call::ClusterCounters(_) => Err(Status::unimplemented("no test asks for it")),
        Call::CacheGet(get) => make!(get, CacheGet by CacheService::get),
        Call::CacheSet(set) => make!(set, CacheSet by CacheService::set),
        Call::CacheDelete(delete) => make!(delete, CacheDelete by CacheService::delete),
        Call::CacheDeletePattern(delete) => {
            make!(delete, CacheDeletePattern by CacheService::delete_pattern)
        }
        Call::CacheInvalidateTags(tags) => {
            make!(tags, CacheInvalidateTags by CacheService::invalidate_tags)
        }
        Call::CacheTouch(touch) => make!(touch, CacheTouch by CacheService::touch),
        Call::CacheGetOrBuild(get) => {
            make!(get, CacheGetOrBuild by CacheService::get_or_build)
        }
        Call::CacheFill(fill) => make!(fill, CacheFill by CacheService::fill),
        Call::CacheEndBuild(end) => make!(end, CacheEndBuild by CacheService::end_build),
        Call::CacheStats(stats) => make!(stats, CacheStats by CacheService::stats),
        Call::CacheResize(resize) => make!(resize, CacheResize by CacheService::resize),
        Call::TxnCommit(txn) => make!(txn, TxnCommit by TxnService::commit),
        Call::QueuePush(push) => make!(push, QueuePush by QueueService::push),
        Call::QueuePull(pull) => make!(pull, QueuePull by QueueService::pull),
        Call::QueueAck(ack) => make!(ack, QueueAck by QueueService::ack),
        Call::QueueNack(nack) => make!(nack, QueueNack by QueueService::nack),
        Call::QueueExtend(extend) => make!(extend, QueueExtend by QueueService::extend),
        Call::QueueProgress(progress) => {
            make!(progress, QueueProgress by QueueService::progress)
        }
        Call::QueueStats(stats) => make!(stats, QueueStats by QueueService::stats),
        Call::QueueRedrive(redrive) => make!(redrive, QueueRedrive by QueueService::redrive),
        Call::BusPublish(publish) => make!(publish, BusPublish by BusService::publish),
        Call::BusPublishAll(all) => make!(all, BusPublishAll by BusService::publish_all),
        Call::BusRequest(asked) => make!(asked, BusRequest by BusService::request),
        Call::BusReply(reply) => make!(reply, BusReply by BusService::reply),
        Call::BusListChannels(list) => make!(list, BusListChannels by BusService::list_channels),
        Call::SessionOpen(open) => make!(open, SessionOpen by SessionService::open),
        Call::SessionKeepAlive(keep) => {
            make!(keep, SessionKeepAlive by SessionService::keep_alive)
        }
        Call::SessionClose(close) => make!(close, SessionClose by SessionService::close),
        Call::ClusterStatus(status) => make!(status, ClusterStatus by ClusterService::status),
        Call::ClusterMembers(members) => {
            make!(members, ClusterMembers by ClusterService::members)
        }
        Call::ClusterHashState(hash) => {
            make!(hash, ClusterHashState by ClusterService::hash_state)
        }
        Call::ClusterTransferLeader(transfer) => {
            make!(transfer, ClusterTransferLeader by ClusterService::transfer_leader)
        }
    };
    let (answer, metadata) = match made {
        Ok((answer, metadata)) => (answer, metadata),
        Err(status) => (Answer::Error(error(&status)), status.metadata().clone()),
    };
    let leader = metadata.get(LEADER).map(|leader| leader.to_str().expect("ascii").to_owned());
    let answers = vec![PipelineAnswer { id, answer: Some(answer) }];
    PipelineResponse { answers, leader: leader.unwrap_or_default(), welcome: None }
}

fn error(status: &Status) -> PipelineError {
    let word = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
    let outcome = match word(OUTCOME) {
        None => Outcome::Unspecified,
        Some("not_applied") => Outcome::NotApplied,
        Some(_) => Outcome::Unknown,
    };
    PipelineError {
        code: status.code() as u32,
        message: status.message().to_owned(),
        reason: word(REASON).unwrap_or_default().to_owned(),
        outcome: outcome.into(),
        version: word(VERSION).and_then(|version| version.parse().ok()),
    }
}
