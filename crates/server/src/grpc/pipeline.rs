//! The pipeline: many calls on one stream (`pipeline.proto`), worked on together.
//!
//! Everything happens when the connection asks for the next message: then requests are taken,
//! commands go to the lane as one batch, reads wait for one barrier, and whatever is known by then
//! is one message. So a client that does not read its answers is not worked for either, and nothing
//! queues up for it but what its credit allows.

use super::{Context, Deadline, Refused, cluster, refusals};
use crate::metrics::{self, Counters, Method};
use crate::wire;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use prost::Message as _;
use quorate_consensus::{Failure, Lane, Submission};
use quorate_proto::metadata::{OUTCOME, REASON, VERSION};
use quorate_proto::v1::cluster_service_server::ClusterService;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::pipeline_service_server::PipelineService;
use quorate_proto::v1::{self, PipelineAnswer, PipelineError, PipelineRequest, PipelineResponse};
use quorate_state::{NodeId, Outcome, query};
use quorate_storage::state::View;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Request, Response, Status, Streaming};

/// Calls of one stream that may be unanswered at once: as many as a session's window has.
const CALLS_MAX: usize = 1_024;
/// Bytes of commands of one stream that may be unanswered at once; beyond it no further message is
/// taken. Far below what all streams together may have, so that one can't take it all.
const COMMAND_BYTES_MAX: usize = 4 << 20;
/// Bytes of answers after which a message is full: enough to make its frame cheap, little enough
/// that others get their turn on the connection.
const MESSAGE_BYTES: usize = 128 << 10;
/// A view that answers have waited for longer is replaced by a newer one, so that a slow reader
/// does not keep old versions alive.
const VIEW_FRESH: Duration = Duration::from_secs(1);

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl PipelineService for Service {
    type OpenStream = Pipeline;

    async fn open(
        &self,
        request: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Pipeline>, Status> {
        Ok(Response::new(Pipeline::start(self.0.clone(), request.into_inner())))
    }
}

/// The answers of one stream. What it holds is in reach of a watchman, who takes it away from a
/// client that does not read.
pub(super) struct Pipeline {
    shared: Arc<Mutex<Watched>>,
    slow_reader_max: Duration,
}

struct Watched {
    /// None once it is over.
    work: Option<Work>,
    /// When a message was handed over; none once the next one was asked for. The connection asks
    /// again as soon as the client has room for more.
    handed_over: Option<Instant>,
}

impl Pipeline {
    fn start(context: Context, requests: Streaming<PipelineRequest>) -> Self {
        let slow_reader_max = context.slow_reader_max;
        let work = Some(Work::new(context, requests));
        let shared = Arc::new(Mutex::new(Watched { work, handed_over: None }));
        let watched = Arc::downgrade(&shared);
        // Ends a round after the stream is gone.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(slow_reader_max / 2).await;
                let Some(watched) = watched.upgrade() else { return };
                let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                let since = watched.handed_over.map_or(Duration::ZERO, |at| at.elapsed());
                if since >= slow_reader_max
                    && let Some(work) = watched.work.take()
                {
                    work.context.counters.slow_readers_cut.count();
                    return;
                }
            }
        });
        Self { shared, slow_reader_max }
    }
}

impl Stream for Pipeline {
    type Item = Result<PipelineResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let mut watched = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        watched.handed_over = None;
        let Some(work) = &mut watched.work else {
            return Poll::Ready(Some(Err(slow_reader(self.slow_reader_max))));
        };
        let next = work.poll_next(cx);
        match &next {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => watched.handed_over = Some(Instant::now()),
            Poll::Ready(Some(Err(_)) | None) => watched.work = None,
        }
        next
    }
}

/// What is going on in a stream.
struct Work {
    context: Context,
    /// The server stops: no more requests are taken, and the stream ends with the last answer.
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// None once the client has sent everything.
    requests: Option<Streaming<PipelineRequest>>,
    lane: Lane,
    /// As what the commands in the lane are counted.
    commands: HashMap<u64, Method>,
    /// As what reads are counted.
    get: Method,
    /// Reads that wait for a barrier: one for all that came together.
    barriers: FuturesUnordered<BoxFuture<'static, Reads>>,
    /// Calls in `barriers`.
    reading: usize,
    /// Reads that can be answered.
    readable: VecDeque<Readable>,
    /// Everything else.
    others: FuturesUnordered<BoxFuture<'static, (Method, PipelineAnswer)>>,
    /// Known answers for the next message.
    answers: Answers,
    welcomed: bool,
    /// The leader as the client was told last.
    leader: Option<NodeId>,
}

/// Reads that came together, and what their barrier came to.
struct Reads {
    gets: Vec<(u64, wire::kv::Get)>,
    view: Result<Arc<View>, Failure>,
}

struct Readable {
    gets: std::vec::IntoIter<(u64, wire::kv::Get)>,
    view: Arc<View>,
    since: Instant,
}

/// Answers of the next message, each counted.
struct Answers {
    known: Vec<PipelineAnswer>,
    counters: Arc<Counters>,
}

impl Answers {
    fn push(&mut self, method: Method, answer: PipelineAnswer) {
        let outcome = match &answer.answer {
            Some(Answer::Error(error)) if error.outcome() == v1::Outcome::NotApplied => {
                metrics::Outcome::NotApplied
            }
            Some(Answer::Error(_)) => metrics::Outcome::Unknown,
            _ => metrics::Outcome::Ok,
        };
        self.counters.requests.answered(method, outcome);
        self.known.push(answer);
    }
}

impl Work {
    fn new(context: Context, requests: Streaming<PipelineRequest>) -> Self {
        let lane = Lane::new(context.replica.clone(), 4 * CALLS_MAX);
        let counters = Arc::clone(&context.counters);
        counters.pipelines.enter();
        let stopping = Box::pin(context.stop.clone().cancelled_owned());
        Self {
            context,
            stopping,
            requests: Some(requests),
            lane,
            commands: HashMap::new(),
            get: counters.requests.method(GET),
            barriers: FuturesUnordered::new(),
            reading: 0,
            readable: VecDeque::new(),
            others: FuturesUnordered::new(),
            answers: Answers { known: Vec::new(), counters },
            welcomed: false,
            leader: None,
        }
    }

    fn unanswered(&self) -> usize {
        let readable: usize = self.readable.iter().map(|reads| reads.gets.len()).sum();
        self.lane.len() + self.reading + readable + self.others.len()
    }

    fn poll_next(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<PipelineResponse, Status>>> {
        if self.requests.is_some() && self.stopping.as_mut().poll(cx).is_ready() {
            self.requests = None;
        }
        if let Some(refusal) = self.take_requests(cx) {
            return Poll::Ready(Some(Err(refusal)));
        }
        while let Poll::Ready(Some(reads)) = self.barriers.poll_next_unpin(cx) {
            self.reading -= reads.gets.len();
            self.admit(reads);
        }
        if let Poll::Ready(answers) = self.lane.poll_answers(cx) {
            let group = self.context.replica.group();
            for (id, answer) in answers {
                let answer = match answer {
                    Ok(committed) => mutated(committed.outcome, group),
                    Err(failure) => Err(Refused::from(failure)),
                };
                if let Some(method) = self.commands.remove(&id) {
                    self.answers.push(method, answered(id, answer));
                }
            }
        }
        while let Poll::Ready(Some((method, answer))) = self.others.poll_next_unpin(cx) {
            self.answers.push(method, answer);
        }
        self.read();
        if let Some(message) = self.message() {
            return Poll::Ready(Some(Ok(message)));
        }
        if self.requests.is_none() && self.unanswered() == 0 {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    /// Takes what the client has sent, while it has credit. A refusal ends the stream.
    fn take_requests(&mut self, cx: &mut TaskContext<'_>) -> Option<Status> {
        while self.unanswered() < CALLS_MAX
            && self.lane.held_bytes() < COMMAND_BYTES_MAX
            && self.answers.known.len() < CALLS_MAX
            && let Some(requests) = &mut self.requests
        {
            match requests.poll_next_unpin(cx) {
                Poll::Pending => return None,
                Poll::Ready(Some(Ok(request))) => self.take(request),
                Poll::Ready(None) => self.requests = None,
                Poll::Ready(Some(Err(status))) => {
                    self.requests = None;
                    // Whatever it says of the message: of unanswered calls nobody knows the fate.
                    let words = refusals::put_into_words(&status, &self.context.limits);
                    return Some(super::status::ended(words.code(), "MALFORMED", words.message()));
                }
            }
        }
        None
    }

    fn take(&mut self, request: PipelineRequest) {
        for id in request.cancelled {
            self.lane.cancel(id);
            self.commands.remove(&id);
        }
        // Reads under way can't be cancelled, so a client may be a little beyond its credit without
        // knowing.
        let mut room = (2 * CALLS_MAX).saturating_sub(self.unanswered());
        let mut commands = Vec::new();
        // By timeout, because reads with the same one share a barrier.
        let mut reads: BTreeMap<u32, Vec<(u64, wire::kv::Get)>> = BTreeMap::new();
        for v1::PipelineCall { id, timeout_ms, request } in request.calls {
            let requests = &self.context.counters.requests;
            let method = requests.method(request.as_ref().map_or("", method));
            if room == 0 {
                self.answers.push(method, refused(id, over_credit()));
                continue;
            }
            room -= 1;
            let limits = &self.context.limits;
            let command = match request {
                Some(Call::KvSet(set)) => wire::kv::set(set, limits),
                Some(Call::KvDelete(delete)) => wire::kv::delete(delete, limits),
                Some(Call::KvIncrement(increment)) => wire::kv::increment(increment, limits),
                Some(Call::KvIncrementFloat(increment)) => {
                    wire::kv::increment_float(increment, limits)
                }
                Some(Call::KvDeletePattern(delete)) => wire::kv::delete_pattern(delete),
                Some(Call::SessionOpen(open)) => wire::session::open(open),
                Some(Call::SessionClose(close)) => wire::session::close(close),
                Some(Call::KvGet(get)) => match wire::kv::get(get, limits) {
                    Ok(get) if !get.fresh.stale && get.fresh.min_revision.0 == 0 => {
                        reads.entry(timeout_ms).or_default().push((id, get));
                        continue;
                    }
                    Ok(get) => {
                        self.read_apart(id, get, Deadline::in_ms(timeout_ms));
                        continue;
                    }
                    Err(invalid) => Err(invalid),
                },
                Some(other) => {
                    self.call_apart(id, method, other, timeout_ms);
                    continue;
                }
                None => {
                    self.answers.push(method, refused(id, unknown_call()));
                    continue;
                }
            };
            match command {
                Ok(_) if self.commands.contains_key(&id) => {
                    self.answers.push(method, refused(id, duplicate_id(id)));
                }
                Ok(envelope) => {
                    let deadline = Deadline::in_ms(timeout_ms).at();
                    commands.push(Submission { tag: id, envelope, deadline });
                    self.commands.insert(id, method);
                }
                Err(invalid) => {
                    self.answers.push(method, answered(id, Err(Refused::from(invalid))));
                }
            }
        }
        self.lane.submit(commands);
        for (timeout_ms, gets) in reads {
            self.reading += gets.len();
            let replica = self.context.replica.clone();
            let deadline = Deadline::in_ms(timeout_ms);
            self.barriers.push(Box::pin(async move {
                let view = replica.read(deadline.remaining()).await;
                Reads { gets, view }
            }));
        }
    }

    /// Reads whose barrier is through are answered when there is room in a message.
    fn admit(&mut self, reads: Reads) {
        match reads.view {
            Ok(view) => {
                let since = Instant::now();
                self.readable.push_back(Readable { gets: reads.gets.into_iter(), view, since });
            }
            Err(failure) => {
                for (id, _) in reads.gets {
                    self.answers.push(self.get, answered(id, Err(failure.clone().into())));
                }
            }
        }
    }

    /// Answers reads until the message is full.
    fn read(&mut self) {
        let group = self.context.replica.group();
        let mut bytes = 0;
        while let Some(reads) = self.readable.front_mut() {
            if reads.since.elapsed() > VIEW_FRESH {
                // A newer view contains all that the older one did.
                reads.view = Arc::new(self.context.replica.stale());
                reads.since = Instant::now();
            }
            for (id, get) in reads.gets.by_ref() {
                let item = query::kv_get(&*reads.view.tables, group, &get.namespace, &get.key)
                    .and_then(|item| {
                        let revision = query::revision(&*reads.view.tables, group)?;
                        Ok(Answer::KvGet(wire::kv::got(get.key, item, revision, group)))
                    });
                let answer = answered(id, item.map_err(Refused::from));
                bytes += answer.encoded_len();
                self.answers.push(self.get, answer);
                if bytes >= MESSAGE_BYTES {
                    return;
                }
            }
            self.readable.pop_front();
        }
    }

    /// A read that need not, or not only, wait for a barrier.
    fn read_apart(&mut self, id: u64, get: wire::kv::Get, deadline: Deadline) {
        let (context, method) = (self.context.clone(), self.get);
        self.others.push(Box::pin(async move {
            let got = super::kv::Service(context).read(get, deadline).await;
            (method, answered(id, got.map(Answer::KvGet)))
        }));
    }

    /// A call that the unary service answers.
    fn call_apart(&mut self, id: u64, method: Method, call: Call, timeout_ms: u32) {
        let context = self.context.clone();
        let deadline = Deadline::in_ms(timeout_ms);
        self.others.push(Box::pin(async move {
            let answer = match call_unary(context, call, deadline, timeout_ms).await {
                Ok(answer) => PipelineAnswer { id, answer: Some(answer) },
                Err(status) => refused(id, status),
            };
            (method, answer)
        }));
    }

    /// The next message, if there is anything to say.
    fn message(&mut self) -> Option<PipelineResponse> {
        let welcome = (!self.welcomed).then(|| v1::PipelineWelcome {
            calls_max: u32::try_from(CALLS_MAX).unwrap_or(u32::MAX),
            message_bytes_max: self.context.limits.request_bytes_max,
        });
        if welcome.is_none() && self.answers.known.is_empty() {
            return None;
        }
        self.welcomed = true;
        let mut leader = String::new();
        let leads = self.context.replica.leader();
        if leads != self.leader
            && let Some(address) = self.context.leader.text(&self.context.replica)
        {
            leader = address;
            self.leader = leads;
        }
        let answers = std::mem::take(&mut self.answers.known);
        Some(PipelineResponse { answers, welcome, leader })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.context.counters.pipelines.leave();
    }
}

async fn call_unary(
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
    match call {
        Call::SessionKeepAlive(keep) => {
            let kept = super::session::Service(context).keep(keep, deadline).await?;
            Ok(Answer::SessionKeepAlive(kept))
        }
        Call::KvList(list) => {
            Ok(Answer::KvList(super::kv::Service(context).page(list, deadline).await?))
        }
        Call::ClusterStatus(status) => {
            let answer = cluster::Service(context).status(timed(status, timeout_ms)).await?;
            Ok(Answer::ClusterStatus(answer.into_inner()))
        }
        Call::ClusterMembers(members) => {
            let answer = cluster::Service(context).members(timed(members, timeout_ms)).await?;
            Ok(Answer::ClusterMembers(answer.into_inner()))
        }
        Call::ClusterHashState(hash) => {
            let answer = cluster::Service(context).hash_state(timed(hash, timeout_ms)).await?;
            Ok(Answer::ClusterHashState(answer.into_inner()))
        }
        Call::ClusterCounters(counters) => {
            let answer = cluster::Service(context).counters(timed(counters, timeout_ms)).await?;
            Ok(Answer::ClusterCounters(answer.into_inner()))
        }
        Call::ClusterTransferLeader(transfer) => {
            let service = cluster::Service(context);
            let answer = service.transfer_leader(timed(transfer, timeout_ms)).await?;
            Ok(Answer::ClusterTransferLeader(answer.into_inner()))
        }
        // Those go through the lane, or share a barrier.
        Call::KvGet(_)
        | Call::KvSet(_)
        | Call::KvDelete(_)
        | Call::KvIncrement(_)
        | Call::KvIncrementFloat(_)
        | Call::KvDeletePattern(_)
        | Call::SessionOpen(_)
        | Call::SessionClose(_) => {
            Err(Status::internal("a call went the wrong way; this is a bug"))
        }
    }
}

/// The name of the call that most are.
const GET: &str = "KvService/Get";

/// The method that a call stands for, for counters.
fn method(call: &Call) -> &'static str {
    match call {
        Call::KvGet(_) => GET,
        Call::KvSet(_) => "KvService/Set",
        Call::KvDelete(_) => "KvService/Delete",
        Call::KvIncrement(_) => "KvService/Increment",
        Call::KvIncrementFloat(_) => "KvService/IncrementFloat",
        Call::KvDeletePattern(_) => "KvService/DeletePattern",
        Call::KvList(_) => "KvService/List",
        Call::SessionOpen(_) => "SessionService/Open",
        Call::SessionKeepAlive(_) => "SessionService/KeepAlive",
        Call::SessionClose(_) => "SessionService/Close",
        Call::ClusterStatus(_) => "ClusterService/Status",
        Call::ClusterMembers(_) => "ClusterService/Members",
        Call::ClusterHashState(_) => "ClusterService/HashState",
        Call::ClusterCounters(_) => "ClusterService/Counters",
        Call::ClusterTransferLeader(_) => "ClusterService/TransferLeader",
    }
}

/// The answer to a mutation, of the kind that its outcome is of.
fn mutated(outcome: Outcome, group: quorate_state::GroupId) -> Result<Answer, Refused> {
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
        Outcome::SessionOpen { .. } => Answer::SessionOpen(wire::session::opened(outcome, group)?),
        Outcome::SessionClose { .. } => Answer::SessionClose(wire::session::closed(outcome)?),
        other => return Err(wire::unexpected(other)),
    })
}

fn answered(id: u64, answer: Result<Answer, Refused>) -> PipelineAnswer {
    match answer {
        Ok(answer) => PipelineAnswer { id, answer: Some(answer) },
        Err(why) => refused(id, Status::from(why)),
    }
}

/// The same words as the trailers of a unary call have.
fn refused(id: u64, status: Status) -> PipelineAnswer {
    let word = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
    let outcome = match word(OUTCOME) {
        Some(super::status::NOT_APPLIED) => v1::Outcome::NotApplied,
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

fn over_credit() -> Status {
    super::status::not_applied(
        tonic::Code::ResourceExhausted,
        "OVER_CREDIT",
        format!("the stream has {CALLS_MAX} unanswered calls, its credit; wait for answers"),
    )
}

fn unknown_call() -> Status {
    super::status::not_applied(
        tonic::Code::Unimplemented,
        "UNIMPLEMENTED",
        "this version has no such call; compare the versions of client and server",
    )
}

fn duplicate_id(id: u64) -> Status {
    super::status::not_applied(
        tonic::Code::InvalidArgument,
        "DUPLICATE_ID",
        format!("call {id} of this stream is not answered yet; give each call an id of its own"),
    )
}

fn slow_reader(max: Duration) -> Status {
    // Of all calls that are unanswered at its end nobody knows the fate: it has no outcome.
    super::status::ended(
        tonic::Code::ResourceExhausted,
        "SLOW_READER",
        format!(
            "answers have waited for {max:?} without being read; read them while calls are under way"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::descriptors;

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
