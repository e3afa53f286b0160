//! What is going on in one pipeline stream, from its requests to its messages.

use super::answers::{Answers, Came};
use super::calls::{
    self, answered, call_unary, duplicate_id, method, mutated, over_credit, refused,
    too_many_waits, unknown_call,
};
use super::reads::{Readable, Reads};
use crate::access::guard::Guard;
use crate::grpc::{Context, Deadline, Refused, queue_pull, refusals};
use crate::limits::Share;
use crate::metrics::Begun;
use crate::trace;
use crate::wire;
use futures::future::{AbortHandle, Aborted, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryFutureExt as _};
use quorate_consensus::{Committed, Lane, Submission};
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::{self, PipelineAnswer, PipelineRequest, PipelineResponse};
use quorate_state::{NodeId, Outcome};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, Streaming};

/// Calls of one stream that may be unanswered at once: as many as a session's window has.
pub(super) const CALLS_MAX: usize = 1_024;
/// Calls of one stream that may wait for locks at once. Fewer than may be unanswered, so that there
/// is always room for the release that they wait for.
pub(super) const WAITS_MAX: usize = 512;
/// Bytes of commands of one stream that may be unanswered at once, and of answers that are not
/// sent; beyond it no further message is taken. Far below what all streams together may have, so
/// that one can't take it all.
const COMMAND_BYTES_MAX: usize = 4 << 20;
/// What is going on in a stream.
pub(super) struct Work {
    pub(super) context: Context,
    /// The server stops: no more requests are taken, and the stream ends with the last answer.
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// None once the client has sent everything.
    requests: Option<Streaming<PipelineRequest>>,
    /// Whose calls these are; none where nobody is asked.
    guard: Option<Arc<Guard>>,
    /// What its caller has under way here.
    share: Option<Share>,
    lane: Lane,
    /// The commands in the lane.
    commands: HashMap<u64, Commanded>,
    /// Reads that wait for a barrier: one for all that came together.
    barriers: FuturesUnordered<BoxFuture<'static, Reads>>,
    /// Calls in `barriers`.
    reading: usize,
    /// Reads that can be answered.
    pub(super) readable: VecDeque<Readable>,
    /// Pulls that were given their jobs: what is in those is read when there is room for it.
    pub(super) pulled: VecDeque<(Begun, u64, queue_pull::Taken)>,
    /// Everything else.
    pub(super) others: FuturesUnordered<BoxFuture<'static, (Begun, u64, Came)>>,
    /// Those of them that wait for locks or jobs, which may take long, and ends when they are
    /// cancelled.
    waits: HashMap<u64, AbortHandle>,
    /// Known answers for the next message.
    pub(super) answers: Answers,
    welcomed: bool,
    /// The leader as the client was told last.
    leader: Option<NodeId>,
}

/// A command in the lane.
struct Commanded {
    /// As what it is counted.
    call: Begun,
    answers: calls::Answers,
    deadline: Deadline,
}

impl Work {
    pub(super) fn new(
        context: Context,
        requests: Streaming<PipelineRequest>,
        guard: Option<Arc<Guard>>,
        share: Option<Share>,
    ) -> Self {
        let lane = Lane::new(context.replica.clone(), context.origin(), 4 * CALLS_MAX);
        let counters = Arc::clone(&context.counters);
        counters.pipelines.enter();
        let stopping = Box::pin(context.stop.clone().cancelled_owned());
        Self {
            context,
            stopping,
            requests: Some(requests),
            guard,
            share,
            lane,
            commands: HashMap::new(),
            barriers: FuturesUnordered::new(),
            reading: 0,
            readable: VecDeque::new(),
            pulled: VecDeque::new(),
            others: FuturesUnordered::new(),
            waits: HashMap::new(),
            answers: Answers::new(counters),
            welcomed: false,
            leader: None,
        }
    }

    fn unanswered(&self) -> usize {
        let readable: usize = self.readable.iter().map(Readable::len).sum();
        self.lane.len() + self.reading + readable + self.pulled.len() + self.others.len()
    }

    /// Its client does not read, so it is taken away.
    pub(super) fn cut(self) {
        self.context.counters.slow_readers_cut.count();
    }

    /// The next message; see [`futures::Stream::poll_next`].
    pub(super) fn poll_next(
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
                let Some(Commanded { call, answers, deadline }) = self.commands.remove(&id) else {
                    continue;
                };
                let answer = match answer {
                    Ok(pull) if matches!(pull.outcome, Outcome::QueuePull { .. }) => {
                        self.taken_apart(id, call, pull, deadline);
                        continue;
                    }
                    Ok(committed) => answers(committed.outcome, group),
                    Err(failure) => Err(Refused::from(failure)),
                };
                self.answers.push(call, answered(id, answer));
            }
        }
        while let Poll::Ready(Some((call, id, came))) = self.others.poll_next_unpin(cx) {
            self.waits.remove(&id);
            match came {
                Came::Answered(answer) => self.answers.push(call, *answer),
                Came::Pulled(taken) => self.pulled.push_back((call, id, taken)),
            }
        }
        self.read();
        self.read_pulled();
        let unanswered = self.unanswered();
        if let Some(share) = &mut self.share {
            share.settle(unanswered);
        }
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
            && self.answers.len() < CALLS_MAX
            && self.answers.bytes() < COMMAND_BYTES_MAX
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
                    return Some(crate::grpc::status::ended(
                        words.code(),
                        "MALFORMED",
                        words.message(),
                    ));
                }
            }
        }
        None
    }

    fn take(&mut self, request: PipelineRequest) {
        // More than could be unanswered name nothing.
        for id in request.cancelled.into_iter().take(2 * CALLS_MAX) {
            self.lane.cancel(id);
            self.commands.remove(&id);
            if let Some(wait) = self.waits.get(&id) {
                wait.abort();
            }
        }
        // Reads under way can't be cancelled, so a client may be a little beyond its credit without
        // knowing.
        let mut room = (2 * CALLS_MAX).saturating_sub(self.unanswered());
        let mut commands = Vec::new();
        // By timeout, because reads with the same one share a barrier.
        let mut reads: BTreeMap<u32, Vec<(u64, Begun, wire::kv::Get)>> = BTreeMap::new();
        let now = Instant::now();
        for call in request.calls {
            let v1::PipelineCall { id, timeout_ms, traceparent, tracestate, mut request } = call;
            let parent = trace::Parent::read(&traceparent, &tracestate);
            trace::into_call(&mut request, parent.as_ref());
            let requests = &self.context.counters.requests;
            let method = requests.method(request.as_ref().map_or("", method));
            let mut begun = requests.begun(method, now, || parent.clone());
            if room == 0 {
                self.answers.push(begun, refused(id, over_credit()));
                continue;
            }
            room -= 1;
            if let (Some(guard), Some(call)) = (&self.guard, &request) {
                begun.of_caller(|| guard.grant().name.clone());
                if let Err(denied) = guard.call(call) {
                    self.answers.push(begun, refused(id, Refused::from(denied).into()));
                    continue;
                }
            }
            if let Some(share) = &mut self.share
                && let Err(limited) = share.begin(|| request.as_ref().map_or(0, Call::encoded_len))
            {
                self.answers.push(begun, refused(id, limited.into()));
                continue;
            }
            let limits = &self.context.limits;
            let mut answers: calls::Answers = mutated;
            let command = match request {
                Some(Call::KvSet(set)) => wire::kv::set(set, limits),
                Some(Call::KvDelete(delete)) => wire::kv::delete(delete, limits),
                Some(Call::KvIncrement(increment)) => wire::kv::increment(increment, limits),
                Some(Call::KvIncrementFloat(increment)) => {
                    wire::kv::increment_float(increment, limits)
                }
                Some(Call::KvDeletePattern(delete)) => wire::kv::delete_pattern(delete),
                Some(Call::LockRelease(release)) => wire::lock::release(release),
                Some(Call::SessionOpen(open)) => wire::session::open(open),
                Some(Call::SessionClose(close)) => wire::session::close(close),
                Some(Call::TxnCommit(commit)) => match wire::txn::commit(commit, limits) {
                    Ok(wire::txn::Commit::Write(envelope)) => Ok(*envelope),
                    Ok(wire::txn::Commit::Read(read)) => {
                        self.read_together(id, begun, read, Deadline::in_ms(timeout_ms));
                        continue;
                    }
                    Err(invalid) => Err(invalid),
                },
                Some(Call::KvGet(get)) => match wire::kv::get(get, limits) {
                    Ok(get) if !get.fresh.stale && get.fresh.min_revision.0 == 0 => {
                        reads.entry(timeout_ms).or_default().push((id, begun, get));
                        continue;
                    }
                    Ok(get) => {
                        self.read_apart(id, begun, get, Deadline::in_ms(timeout_ms));
                        continue;
                    }
                    Err(invalid) => Err(invalid),
                },
                Some(Call::QueuePush(push)) => wire::queue::push(push, limits),
                Some(Call::QueueAck(ack)) => wire::queue::ack(ack),
                Some(Call::QueueNack(nack)) => wire::queue::nack(nack),
                Some(Call::QueueExtend(extend)) => wire::queue::extend(extend),
                Some(Call::QueueCancel(cancel)) => wire::queue::cancel(cancel),
                Some(Call::QueueRedrive(redrive)) => wire::queue::redrive(redrive),
                Some(Call::QueuePutSchedule(put)) => wire::queue::put_schedule(put, limits),
                Some(Call::QueueDeleteSchedule(delete)) => wire::queue::delete_schedule(delete),
                Some(Call::QueueProgress(progress)) => {
                    answers = calls::progressed;
                    wire::queue::progress(progress)
                }
                Some(Call::QueuePause(pause)) => {
                    answers = calls::paused;
                    wire::queue::pause(pause)
                }
                Some(Call::QueueResume(resume)) => {
                    answers = calls::resumed;
                    wire::queue::resume(resume)
                }
                Some(Call::QueuePurge(purge)) => {
                    answers = calls::purged;
                    wire::queue::purge(purge)
                }
                Some(Call::QueueUpdate(update)) => {
                    answers = calls::updated;
                    wire::queue::update(update)
                }
                Some(Call::QueueDelete(delete)) => {
                    answers = calls::deleted_queue;
                    wire::queue::delete(delete)
                }
                Some(Call::QueuePull(pull)) if pull.wait_ms == 0 => {
                    wire::queue::pull(pull, self.context.attachment())
                }
                Some(Call::CacheSet(set)) => wire::cache::set(set, limits),
                Some(Call::CacheDelete(delete)) => wire::cache::delete(delete, limits),
                Some(Call::CacheDeletePattern(delete)) => wire::cache::delete_pattern(delete),
                Some(Call::CacheInvalidateTags(tags)) => wire::cache::invalidate_tags(tags),
                Some(Call::CacheTouch(touch)) => wire::cache::touch(touch, limits),
                Some(Call::CacheFill(fill)) => wire::cache::fill(fill, limits),
                Some(Call::CacheEndBuild(end)) => wire::cache::end_build(end, limits),
                Some(Call::CacheResize(resize)) => wire::cache::resize(resize),
                Some(Call::CacheGet(get)) => {
                    self.cached(id, begun, get, timeout_ms);
                    continue;
                }
                Some(Call::CacheGetOrBuild(asked)) => {
                    self.cached_or_built(id, begun, asked, timeout_ms);
                    continue;
                }
                Some(Call::BusPublish(publish)) => {
                    let service = crate::grpc::bus::Service(self.context.clone());
                    let published = service.published(publish, Deadline::in_ms(timeout_ms));
                    self.publishing(id, begun, published.map_ok(Answer::BusPublish));
                    continue;
                }
                Some(Call::BusPublishAll(publish)) => {
                    let service = crate::grpc::bus::Service(self.context.clone());
                    let published = service.published_all(publish, Deadline::in_ms(timeout_ms));
                    self.publishing(id, begun, published.map_ok(Answer::BusPublishAll));
                    continue;
                }
                Some(wait @ (Call::LockAcquire(_) | Call::QueuePull(_) | Call::BusRequest(_))) => {
                    self.wait_apart(id, begun, wait, timeout_ms);
                    continue;
                }
                Some(other) => {
                    self.call_apart(id, begun, other, timeout_ms);
                    continue;
                }
                None => {
                    self.answers.push(begun, refused(id, unknown_call()));
                    continue;
                }
            };
            match command {
                Ok(_) if self.commands.contains_key(&id) => {
                    self.answers.push(begun, refused(id, duplicate_id(id)));
                }
                Ok(envelope) => {
                    let (deadline, trace) = (Deadline::in_ms(timeout_ms), begun.trace());
                    commands.push(Submission { tag: id, envelope, deadline: deadline.at(), trace });
                    self.commands.insert(id, Commanded { call: begun, answers, deadline });
                }
                Err(invalid) => {
                    self.answers.push(begun, answered(id, Err(Refused::from(invalid))));
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

    /// A pull that was in the lane: this node may not have applied it yet.
    fn taken_apart(&mut self, id: u64, begun: Begun, pull: Committed, deadline: Deadline) {
        let context = self.context.of_call(&begun);
        self.others.push(Box::pin(async move {
            (begun, id, came(id, queue_pull::taken(&context, pull, deadline).await))
        }));
    }

    /// A call that the unary service answers.
    fn call_apart(&mut self, id: u64, begun: Begun, call: Call, timeout_ms: u32) {
        let context = self.context.of_call(&begun);
        let deadline = Deadline::in_ms(timeout_ms);
        self.others.push(Box::pin(async move {
            let answer = match call_unary(context, call, deadline, timeout_ms).await {
                Ok(answer) => PipelineAnswer { id, answer: Some(answer) },
                Err(status) => refused(id, status),
            };
            (begun, id, Came::from(answer))
        }));
    }

    /// Messages that are on their way, before the next call is looked at.
    fn publishing(
        &mut self,
        id: u64,
        begun: Begun,
        published: impl Future<Output = Result<Answer, Refused>> + Send + 'static,
    ) {
        self.others
            .push(Box::pin(async move { (begun, id, Came::from(answered(id, published.await))) }));
    }

    /// A call that may wait for a lock, jobs, a value or an answer, until it is cancelled.
    pub(super) fn wait_apart(&mut self, id: u64, begun: Begun, call: Call, timeout_ms: u32) {
        if self.waits.len() >= WAITS_MAX {
            self.answers.push(begun, refused(id, too_many_waits()));
            return;
        }
        if self.waits.contains_key(&id) {
            self.answers.push(begun, refused(id, duplicate_id(id)));
            return;
        }
        let context = self.context.of_call(&begun);
        let over = match &call {
            Call::QueuePull(_) => Refused::PullWaiting,
            Call::CacheGetOrBuild(_) => Refused::StillBuilding,
            Call::BusRequest(request) => Refused::NoReply(request.channel.clone()),
            _ => Refused::StillWaiting,
        };
        let call = async move {
            match call {
                Call::QueuePull(pull) => {
                    let deadline = Deadline::in_ms_of_wait(timeout_ms, pull.wait_ms);
                    came(id, queue_pull::take(&context, pull, deadline).await)
                }
                call => {
                    let deadline = Deadline::in_ms(timeout_ms);
                    Came::from(match call_unary(context, call, deadline, timeout_ms).await {
                        Ok(answer) => PipelineAnswer { id, answer: Some(answer) },
                        Err(status) => refused(id, status),
                    })
                }
            }
        };
        let (call, abort) = futures::future::abortable(call);
        self.waits.insert(id, abort);
        self.others.push(Box::pin(async move {
            // Nobody waits for this answer; it says what is so all the same.
            let over = |Aborted| Came::from(refused(id, over.into()));
            (begun, id, call.await.unwrap_or_else(over))
        }));
    }

    /// The next message, if there is anything to say.
    fn message(&mut self) -> Option<PipelineResponse> {
        let welcome = (!self.welcomed).then(|| v1::PipelineWelcome {
            calls_max: u32::try_from(CALLS_MAX).unwrap_or(u32::MAX),
            message_bytes_max: self.context.limits.request_bytes_max,
        });
        if welcome.is_none() && self.answers.is_empty() {
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
        let answers = self.answers.take();
        Some(PipelineResponse { answers, welcome, leader })
    }
}

/// What a pull came to.
fn came(id: u64, taken: Result<queue_pull::Taken, Refused>) -> Came {
    match taken {
        Ok(taken) => Came::Pulled(taken),
        Err(why) => Came::from(answered(id, Err(why))),
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.context.counters.pipelines.leave();
    }
}
