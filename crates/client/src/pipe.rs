//! A pipeline to one node: many calls on one stream, several per message.
//!
//! What is queued when the connection can take a message goes along in it; nothing waits for more.
//! The cluster's side and its rules are in `pipeline.proto`.

use crate::dial::Channel;
use crate::trace::TraceContext;
use futures::Stream;
use prost::Message as _;
use quorate_proto::metadata::{OUTCOME, REASON, VERSION};
use quorate_proto::v1;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::pipeline_service_client::PipelineServiceClient;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Bytes of a message that a node may send: above the largest value with all that is around it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Calls that may be unanswered before the node has said how many.
const CREDIT_AT_FIRST: usize = 64;
/// The most calls that are ever unanswered on one stream, whatever the node allows.
const CREDIT_MAX: usize = 1_024;
/// Bytes after which a message is full: large ones make others wait.
const OUTGOING_BYTES: usize = 128 << 10;
/// Bytes of a message before the node has said how many.
const OUTGOING_BYTES_MAX: u64 = 1 << 20;
/// Bytes around a call in a message: tags, lengths, id and timeout.
const CALL_EXTRA_BYTES: usize = 64;

/// Why a call on a pipe has no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It certainly was not sent.
    Unsent(String),
    /// The stream broke while it was on its way.
    Lost(String),
    /// The node refused it.
    Refused(Status),
    /// It has to go on its own: it is too large for a stream's message, or what is on the other side
    /// has no pipeline.
    Alone,
}

/// The stream, and who waits for what. Dropping it ends the stream once all is answered.
pub(crate) struct Pipe {
    queue: mpsc::Sender<v1::PipelineCall>,
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    credit: Semaphore,
}

struct Waiting {
    next_id: u64,
    calls: BTreeMap<u64, Pending>,
    /// Why the stream is over.
    closed: Option<Closed>,
    /// The leader as the node named it last.
    leader: Option<Arc<str>>,
    message_bytes_max: u64,
    /// When the node said something last.
    heard_at: Option<Instant>,
}

/// Why a stream is over.
#[derive(Clone)]
enum Closed {
    Broken(String),
    /// There never was one: the other side does not know the method, so nothing was done.
    Unknown,
    /// There never was one: the node does not let this client have it.
    Refused(Status),
}

struct Pending {
    reply: oneshot::Sender<Result<Answer, Failed>>,
    /// Whether the connection has taken it.
    sent: bool,
}

impl Pipe {
    /// Opens a stream on a connection. Ends by itself when the connection does.
    pub(crate) fn open(channel: Channel) -> Self {
        // Calls up to the credit, and cancellations.
        let (queue, queued) = mpsc::channel(4 * CREDIT_MAX);
        let waiting = Waiting {
            next_id: 0,
            calls: BTreeMap::new(),
            closed: None,
            leader: None,
            message_bytes_max: OUTGOING_BYTES_MAX,
            heard_at: None,
        };
        let shared = Arc::new(Shared {
            waiting: Mutex::new(waiting),
            credit: Semaphore::new(CREDIT_AT_FIRST),
        });
        let outgoing = Outgoing { queued, held_back: None, shared: Arc::clone(&shared) };
        drop(tokio::spawn(run(channel, outgoing, Arc::clone(&shared))));
        Self { queue, shared }
    }

    /// Makes a call. Answers it together with the leader as the node named it last.
    ///
    /// # Cancel safety
    /// A call that is dropped before it was sent is never sent.
    pub(crate) async fn call(
        &self,
        request: Call,
        timeout: Duration,
        context: Option<&TraceContext>,
    ) -> Result<(Answer, Option<Arc<str>>), Failed> {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        let mut call =
            v1::PipelineCall { timeout_ms, request: Some(request), ..Default::default() };
        if let Some(TraceContext { traceparent, tracestate }) = context {
            (call.traceparent, call.tracestate) = (traceparent.clone(), tracestate.clone());
        }
        let permit = self.shared.credit.acquire().await.map_err(|_| self.shared.unsent())?;
        let (reply, answer) = oneshot::channel();
        let id = {
            let mut waiting = self.shared.waiting();
            if waiting.closed.is_some() {
                drop(waiting);
                return Err(self.shared.unsent());
            }
            if (call.encoded_len() + CALL_EXTRA_BYTES) as u64 > waiting.message_bytes_max {
                return Err(Failed::Alone);
            }
            waiting.next_id += 1;
            let id = waiting.next_id;
            waiting.calls.insert(id, Pending { reply, sent: false });
            id
        };
        // Comes back with the answer, or when the call is taken back.
        permit.forget();
        let _withdraw = Withdraw { pipe: self, id };
        call.id = id;
        if self.queue.try_send(call).is_err() {
            return Err(self.shared.unsent());
        }
        match answer.await {
            Ok(Ok(answer)) => Ok((answer, self.shared.waiting().leader.clone())),
            Ok(Err(failed)) => Err(failed),
            Err(_) => Err(Failed::Lost("the stream ended".to_owned())),
        }
    }

    /// When the node said something last.
    pub(crate) fn heard_at(&self) -> Option<Instant> {
        self.shared.waiting().heard_at
    }

    /// The leader as the node named it last.
    pub(crate) fn leader(&self) -> Option<Arc<str>> {
        self.shared.waiting().leader.clone()
    }
}

/// Takes a call back that nobody waits for any more: before it is sent, or by telling the node.
struct Withdraw<'a> {
    pipe: &'a Pipe,
    id: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let Some(pending) = self.pipe.shared.waiting().calls.remove(&self.id) else { return };
        self.pipe.shared.credit.add_permits(1);
        if pending.sent {
            // Full means that the connection is stuck, and the call will end with it.
            let cancel = v1::PipelineCall { id: self.id, ..v1::PipelineCall::default() };
            let _ = self.pipe.queue.try_send(cancel);
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsent(&self) -> Failed {
        match self.waiting().closed.clone() {
            Some(Closed::Broken(why)) => Failed::Unsent(why),
            Some(Closed::Unknown) => Failed::Alone,
            Some(Closed::Refused(status)) => Failed::Refused(status),
            None => Failed::Unsent("the stream has ended".to_owned()),
        }
    }

    fn take_in(&self, message: v1::PipelineResponse) {
        let mut waiting = self.waiting();
        waiting.heard_at = Some(Instant::now());
        if let Some(welcome) = message.welcome {
            let credit = usize::try_from(welcome.calls_max).unwrap_or(usize::MAX);
            self.credit.add_permits(credit.min(CREDIT_MAX).saturating_sub(CREDIT_AT_FIRST));
            waiting.message_bytes_max = welcome.message_bytes_max.min(MESSAGE_BYTES_MAX as u64);
        }
        if !message.leader.is_empty() && message.leader.len() <= crate::nodes::ADDRESS_BYTES_MAX {
            waiting.leader = Some(message.leader.into());
        }
        for answer in message.answers {
            let Some(pending) = waiting.calls.remove(&answer.id) else { continue };
            self.credit.add_permits(1);
            // Whoever is gone has given up.
            let _ = pending.reply.send(match answer.answer {
                Some(Answer::Error(error)) => Err(Failed::Refused(status(error))),
                Some(answer) => Ok(answer),
                None => Err(Failed::Refused(Status::internal(
                    "the answer is of a kind this client does not know",
                ))),
            });
        }
    }

    fn close(&self, closed: &Closed) {
        let calls = {
            let mut waiting = self.waiting();
            waiting.closed = Some(closed.clone());
            std::mem::take(&mut waiting.calls)
        };
        self.credit.close();
        for pending in calls.into_values() {
            let _ = pending.reply.send(Err(match closed {
                Closed::Unknown => Failed::Alone,
                Closed::Refused(status) => Failed::Refused(status.clone()),
                Closed::Broken(why) if pending.sent => Failed::Lost(why.clone()),
                Closed::Broken(why) => Failed::Unsent(why.clone()),
            }));
        }
    }
}

/// The same words as the trailers of a unary call have.
pub(crate) fn status(error: v1::PipelineError) -> Status {
    let mut metadata = MetadataMap::new();
    let outcome = match error.outcome() {
        v1::Outcome::Unspecified => None,
        v1::Outcome::NotApplied => Some("not_applied"),
        v1::Outcome::Unknown => Some("unknown"),
    };
    if let Some(outcome) = outcome {
        metadata.insert(OUTCOME, MetadataValue::from_static(outcome));
    }
    if let Ok(reason) = MetadataValue::try_from(error.reason) {
        metadata.insert(REASON, reason);
    }
    if let Some(version) = error.version {
        metadata.insert(VERSION, MetadataValue::from(version));
    }
    let code = Code::from_i32(i32::try_from(error.code).unwrap_or(i32::MAX));
    Status::with_metadata(code, error.message, metadata)
}

/// Works through the answers; ends with the stream.
async fn run(channel: Channel, outgoing: Outgoing, shared: Arc<Shared>) {
    let mut client = PipelineServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let ended = match client.open(outgoing).await {
        Ok(response) => {
            let mut messages = response.into_inner();
            loop {
                match messages.message().await {
                    Ok(Some(message)) => shared.take_in(message),
                    Ok(None) => break Closed::Broken("the node ended the stream".to_owned()),
                    Err(status) => break Closed::Broken(words(&status)),
                }
            }
        }
        // By the rules of gRPC nothing has run then.
        Err(status) if status.code() == Code::Unimplemented => Closed::Unknown,
        // The node says so before it looks at anything in the stream.
        Err(status)
            if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
                && status.source().is_none() =>
        {
            Closed::Refused(status)
        }
        Err(status) => Closed::Broken(words(&status)),
    };
    shared.close(&ended);
}

fn words(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => message.to_owned(),
    }
}

/// What the connection takes: all that is queued when it asks, up to a full message.
struct Outgoing {
    queued: mpsc::Receiver<v1::PipelineCall>,
    /// Did not fit the message before.
    held_back: Option<v1::PipelineCall>,
    shared: Arc<Shared>,
}

impl Stream for Outgoing {
    type Item = v1::PipelineRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let (mut calls, mut cancelled) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while bytes < OUTGOING_BYTES && calls.len() < CREDIT_MAX {
            let call = match this.held_back.take() {
                Some(call) => call,
                None => match this.queued.poll_recv(cx) {
                    Poll::Ready(Some(call)) => call,
                    Poll::Ready(None) if calls.is_empty() && cancelled.is_empty() => {
                        return Poll::Ready(None);
                    }
                    Poll::Pending if calls.is_empty() && cancelled.is_empty() => {
                        return Poll::Pending;
                    }
                    Poll::Ready(None) | Poll::Pending => break,
                },
            };
            if call.request.is_none() {
                cancelled.push(call.id);
                bytes += CALL_EXTRA_BYTES;
                continue;
            }
            let size = call.encoded_len() + CALL_EXTRA_BYTES;
            if !calls.is_empty() && bytes + size > OUTGOING_BYTES {
                this.held_back = Some(call);
                break;
            }
            // Withdrawn while it was queued: its caller may have been told that it was not sent.
            let mut waiting = this.shared.waiting();
            let Some(pending) = waiting.calls.get_mut(&call.id) else { continue };
            pending.sent = true;
            drop(waiting);
            bytes += size;
            calls.push(call);
        }
        Poll::Ready(Some(v1::PipelineRequest { calls, cancelled }))
    }
}
