//! One node: answers, fails, lingers or dies as its script says.

use super::net::Net;
use super::state::State;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use quorate_proto::metadata;
use quorate_proto::v1::cluster_service_server::ClusterService;
use quorate_proto::v1::kv_service_server::KvService;
use quorate_proto::v1::session_service_server::SessionService;
use quorate_proto::v1::txn_condition::Condition;
use quorate_proto::v1::txn_operation::Operation;
use quorate_proto::v1::txn_result::Result as Came;
use quorate_proto::v1::txn_service_server::TxnService;
use quorate_proto::v1::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// What a node does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer,
    /// Takes this long before it does the request and answers.
    AnswerAfter(Duration),
    /// Fails without doing it.
    Fail(Status),
    /// Does it, and fails all the same.
    DoThenFail(Status),
    /// Does it, but the connection breaks before the answer.
    DoThenCut,
    /// Says nothing, for ever.
    Hang,
    /// Says nothing, and does it this much later.
    HangThenDo(Duration),
    /// Does it, and answers this much later.
    AnswerLate(Duration),
}

/// What a node sends to a watch.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Message(WatchResponse),
    Fail(Status),
    /// The stream ends as if all were said.
    End,
    /// The connection breaks.
    Cut,
}

/// A request that reached a node.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Counts the requests of all nodes.
    pub(crate) nth: u64,
    pub(crate) node: String,
    pub(crate) origin: Origin,
    pub(crate) at: Instant,
    /// How long the client said it would wait.
    pub(crate) timeout: Duration,
    /// The consistency, of a read.
    pub(crate) consistency: Option<Consistency>,
}

pub(crate) struct Node {
    pub(crate) addr: String,
    pub(super) state: Arc<State>,
    pub(super) net: Arc<Net>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    always: BTreeMap<&'static str, Act>,
    seen: BTreeMap<&'static str, Vec<Seen>>,
    leader: Option<String>,
}

impl Node {
    pub(crate) fn new(addr: String, state: Arc<State>, net: Arc<Net>) -> Self {
        Self { addr, state, net, inner: Mutex::default() }
    }

    pub(crate) fn always(&self, method: &'static str, act: Act) {
        self.inner.lock().expect("lock").always.insert(method, act);
    }

    /// Which leader it names beside its answers.
    pub(crate) fn names_leader(&self, leader: &str) {
        self.inner.lock().expect("lock").leader = Some(leader.to_owned());
    }

    pub(crate) fn seen(&self, method: &str) -> Vec<Seen> {
        self.inner.lock().expect("lock").seen.get(method).cloned().unwrap_or_default()
    }

    /// Takes a request in, and does with it what the script says.
    pub(super) async fn serve<T: Send + 'static>(
        &self,
        method: &'static str,
        (origin, timeout, consistency): (Origin, Duration, Option<Consistency>),
        work: impl FnOnce(&State) -> Result<T, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let act = {
            let mut inner = self.inner.lock().expect("lock");
            inner.seen.entry(method).or_default().push(Seen {
                nth: self.state.next_request(),
                node: self.addr.clone(),
                origin,
                at: Instant::now(),
                timeout,
                consistency,
            });
            let always = || inner.always.get(method).cloned();
            self.state.next_act(method).or_else(always).unwrap_or(Act::Answer)
        };
        let result = match act {
            Act::Answer => work(&self.state),
            Act::AnswerAfter(delay) => {
                tokio::time::sleep(delay).await;
                work(&self.state)
            }
            Act::Fail(status) => Err(status),
            Act::DoThenFail(status) => work(&self.state).and(Err(status)),
            Act::DoThenCut => {
                let done = work(&self.state);
                self.net.cut(&self.addr);
                done.and(std::future::pending().await)
            }
            Act::Hang => std::future::pending().await,
            Act::AnswerLate(delay) => {
                let done = work(&self.state);
                tokio::time::sleep(delay).await;
                done
            }
            Act::HangThenDo(delay) => {
                let state = Arc::clone(&self.state);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    drop(work(&state));
                });
                std::future::pending().await
            }
        };
        self.with_leader(result)
    }

    fn with_leader<T>(&self, result: Result<T, Status>) -> Result<Response<T>, Status> {
        let leader = self.inner.lock().expect("lock").leader.clone();
        let leader = leader.map(|leader| leader.parse().expect("ascii"));
        match result {
            Ok(answer) => {
                let mut response = Response::new(answer);
                if let Some(leader) = leader {
                    response.metadata_mut().insert(metadata::LEADER, leader);
                }
                Ok(response)
            }
            Err(mut status) => {
                if let Some(leader) = leader {
                    status.metadata_mut().insert(metadata::LEADER, leader);
                }
                Err(status)
            }
        }
    }
}

/// What is kept of a request: who sent it, and how long it will wait.
pub(super) fn head<T>(
    request: &Request<T>,
    origin: Option<Origin>,
    consistency: Option<Consistency>,
) -> (Origin, Duration, Option<Consistency>) {
    let header = request.metadata().get("grpc-timeout").expect("each request has a timeout");
    let text = header.to_str().expect("ascii");
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().expect("a number");
    let timeout = match unit {
        "n" => Duration::from_nanos(number),
        "u" => Duration::from_micros(number),
        "m" => Duration::from_millis(number),
        "S" => Duration::from_secs(number),
        other => panic!("unit {other:?} is too long for these tests"),
    };
    (origin.unwrap_or_default(), timeout, consistency)
}

#[tonic::async_trait]
impl KvService for Node {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let consistency = request.get_ref().consistency();
        let head = head(&request, None, Some(consistency));
        let key = request.into_inner().key;
        let work = move |state: &State| {
            let number = state.number(&key);
            let entry = (number != 0).then(|| KvEntry {
                key,
                value: number.to_string().into(),
                version: 3,
                create_revision: 4,
                mod_revision: 5,
                remaining_ttl_ms: Some(6),
            });
            Ok(GetResponse { entry, revision: 7, group_id: 0 })
        };
        self.serve("get", head, work).await
    }

    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let SetRequest { namespace, key, value, ttl_ms, expect, .. } = request.into_inner();
        // Answers what it was asked, so that a test sees the whole request.
        let echo = format!("{namespace}/{key:?}={value:?} ttl {ttl_ms:?} {expect:?}");
        self.serve("set", head, move |_| Err(Status::invalid_argument(echo))).await
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let work = |_: &State| Ok(DeleteResponse { deleted: true, revision: 8, group_id: 0 });
        self.serve("delete", head, work).await
    }

    async fn increment(
        &self,
        request: Request<IncrementRequest>,
    ) -> Result<Response<IncrementResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let IncrementRequest { origin, key, by, .. } = request.into_inner();
        let work = move |state: &State| state.increment(&origin.unwrap_or_default(), &key, by);
        self.serve("increment", head, work).await
    }

    async fn increment_float(
        &self,
        _: Request<IncrementFloatRequest>,
    ) -> Result<Response<IncrementFloatResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn delete_pattern(
        &self,
        _: Request<DeletePatternRequest>,
    ) -> Result<Response<DeletePatternResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    type ListStreamStream = futures::stream::Empty<Result<ListResponse, Status>>;

    async fn list_stream(
        &self,
        _: Request<ListRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    /// Sends what the next script of watches says, and then nothing more.
    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let script = self.state.begin_watch(&self.addr, request.into_inner());
        let (net, addr) = (Arc::clone(&self.net), self.addr.clone());
        let messages = futures::stream::iter(script)
            .then(move |sent| {
                let (net, addr) = (Arc::clone(&net), addr.clone());
                async move {
                    match sent {
                        Sent::Message(message) => Some(Ok(message)),
                        Sent::Fail(status) => Some(Err(status)),
                        Sent::End => None,
                        Sent::Cut => {
                            // What was sent arrives: on a paused clock nothing takes time.
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            net.cut(&addr);
                            std::future::pending().await
                        }
                    }
                }
            })
            .chain(futures::stream::pending())
            .take_while(|sent| std::future::ready(sent.is_some()))
            .filter_map(std::future::ready);
        Ok(Response::new(messages.boxed()))
    }
}

#[tonic::async_trait]
impl TxnService for Node {
    /// Knows reads, one addition, and that a number is absent. A request with anything else comes
    /// back as an error, so that a test sees all of it.
    async fn commit(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let consistency = request.get_ref().consistency();
        let head = head(&request, request.get_ref().origin.clone(), Some(consistency));
        let echo = format!("{:?}", TxnRequest { origin: None, ..request.get_ref().clone() });
        let work = move |state: &State| {
            let TxnRequest { origin, conditions, then, otherwise, .. } = request.into_inner();
            let mut failed_condition = None;
            for (position, asked) in (0..).zip(conditions) {
                match asked.condition {
                    Some(Condition::KvAbsent(absent)) if state.number(&absent.key) == 0 => {}
                    Some(Condition::KvAbsent(_)) => failed_condition = Some(position),
                    _ => return Err(Status::invalid_argument(echo)),
                }
            }
            let mut results = Vec::new();
            for step in if failed_condition.is_none() { then } else { otherwise } {
                let came = match step.operation {
                    Some(Operation::KvGet(get)) => {
                        let number = state.number(&get.key);
                        let value = number.to_string().into();
                        let entry = KvEntry { value, version: 3, ..KvEntry::default() };
                        Came::KvGet(TxnKvGetResult { entry: (number != 0).then_some(entry) })
                    }
                    Some(Operation::KvIncrement(add)) => {
                        let origin = origin.clone().unwrap_or_default();
                        let sum = state.increment(&origin, &add.key, add.by)?;
                        let (value, version) = (sum.value, sum.version);
                        Came::KvIncrement(TxnKvIncrementResult { value, version })
                    }
                    Some(Operation::CacheSet(_)) => Came::CacheSet(TxnCacheSetResult {}),
                    Some(Operation::CacheDelete(_)) => {
                        Came::CacheDelete(TxnCacheDeleteResult { deleted: true })
                    }
                    Some(Operation::CacheInvalidateTags(_)) => {
                        Came::CacheInvalidateTags(TxnCacheInvalidateTagsResult {})
                    }
                    // Answered by a result too few.
                    Some(Operation::KvDelete(_)) => continue,
                    _ => return Err(Status::invalid_argument(echo)),
                };
                results.push(TxnResult { result: Some(came) });
            }
            let succeeded = failed_condition.is_none();
            Ok(TxnResponse { succeeded, failed_condition, results, revision: 9, group_id: 0 })
        };
        self.serve("txn", head, work).await
    }
}

#[tonic::async_trait]
impl SessionService for Node {
    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        let origin = request.get_ref().origin.clone();
        let head = head(&request, origin.clone(), None);
        let ttl_ms = request.get_ref().ttl_ms;
        let work = move |state: &State| {
            let session_id = state.open(&origin.unwrap_or_default());
            Ok(OpenResponse { session_id, ttl_ms, group_id: 0 })
        };
        self.serve("open", head, work).await
    }

    async fn keep_alive(
        &self,
        request: Request<KeepAliveRequest>,
    ) -> Result<Response<KeepAliveResponse>, Status> {
        let id = request.get_ref().session_id;
        let head = head(&request, Some(Origin { session_id: id, ..Origin::default() }), None);
        let work = move |state: &State| {
            state.lives(id)?;
            Ok(KeepAliveResponse { ttl_ms: 30_000, session_id: id })
        };
        self.serve("keep_alive", head, work).await
    }

    type KeepAliveStreamStream = futures::stream::Empty<Result<KeepAliveResponse, Status>>;

    async fn keep_alive_stream(
        &self,
        _: Request<tonic::Streaming<KeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStreamStream>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn list_sessions(
        &self,
        _: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn close(
        &self,
        request: Request<CloseRequest>,
    ) -> Result<Response<CloseResponse>, Status> {
        let id = request.get_ref().session_id;
        let work = move |state: &State| Ok(CloseResponse { closed: state.close(id) });
        self.serve("close", head(&request, None, None), work).await
    }
}

#[tonic::async_trait]
impl ClusterService for Node {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let node = NodeStatus {
            node_id: 2,
            role: Role::Follower.into(),
            applied: Some(11),
            healthy: true,
            clock_offset_ms: Some(-9),
            clock_uncertainty_ms: 2,
            recent_fsyncs: 3,
            fsync_p50_us: 4,
            fsync_p99_us: 5,
            disk_free_bytes: Some(0),
            writes_refused: true,
            elections_hour: 6,
            insecure: true,
            ..NodeStatus::default()
        };
        let strange = NodeStatus { node_id: 9, role: 77, ..NodeStatus::default() };
        let answer = StatusResponse {
            cluster_id: "c".to_owned(),
            term: 3,
            leader_id: Some(1),
            nodes: vec![node, strange],
            answered_by: 2,
            limits: vec![Limit { name: "key_bytes_max".to_owned(), value: 1_024 }],
            feature_level: 1,
        };
        self.serve("status", head(&request, None, None), move |_| Ok(answer)).await
    }

    async fn members(
        &self,
        request: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        let work = |state: &State| {
            let member =
                |(node_id, client_addr)| Member { node_id, client_addr, ..Member::default() };
            let members = (1..).zip(state.members()).map(member).collect();
            let plan = MemberPlan { node_id: 9, replaces_node_id: 2, ..MemberPlan::default() };
            let cluster_id = "c".to_owned();
            Ok(MembersResponse { members, leader_id: None, cluster_id, plans: vec![plan] })
        };
        self.serve("members", head(&request, None, None), work).await
    }

    async fn hash_state(
        &self,
        request: Request<HashStateRequest>,
    ) -> Result<Response<HashStateResponse>, Status> {
        let answer = HashStateResponse { applied: Some(11), checksum: 12, digest: 13 };
        self.serve("hash_state", head(&request, None, None), move |_| Ok(answer)).await
    }

    async fn counters(
        &self,
        _: Request<CountersRequest>,
    ) -> Result<Response<CountersResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let leader_id = request.get_ref().node_id;
        let work = move |_: &State| Ok(TransferLeaderResponse { leader_id });
        self.serve("transfer_leader", head(&request, None, None), work).await
    }

    async fn invite(&self, _: Request<InviteRequest>) -> Result<Response<InviteResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Err(Status::unimplemented("clients do not join"))
    }

    async fn change_member(
        &self,
        _: Request<ChangeMemberRequest>,
    ) -> Result<Response<ChangeMemberResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    type BackupStream = futures::stream::Pending<Result<BackupPiece, Status>>;

    async fn backup(
        &self,
        _: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }
}
