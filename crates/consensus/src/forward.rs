//! The follower's side of forwarding: one multiplexed stream to the leader, answers in any order.
//!
//! One hop only: what arrives on such a stream is never forwarded again. What is there to be sent
//! at one moment goes as one message, and what became known at one moment comes back as one.

use crate::failure::{Failure, Reason};
use crate::net::peers::{PeerClient, was_not_sent};
use crate::proposer::{self, Answers, ReplyTo};
use crate::replica::committed;
use futures::Stream;
use quorate_proto::peer::{self as pb, forward_request::Request, forward_response};
use quorate_state::{Envelope, NodeId, codec};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::{Code, Status};

/// Requests on their way to the leader at once, over all clients of this node.
const REQUESTS_IN_FLIGHT: usize = 16_384;
/// Bytes of commands after which a message is full: with one more command of the largest size it
/// is still below the frame limit between peers.
const MESSAGE_BYTES: usize = 1 << 20;
/// Requests after which a message is full.
pub(crate) const MESSAGE_REQUESTS: usize = 1_024;
/// Messages that wait for the connection.
const MESSAGES_QUEUED: usize = 1_024;

type Answer = Result<forward_response::Result, Failure>;

/// The stream to one leader.
pub(crate) struct Link {
    leader: NodeId,
    messages: mpsc::Sender<Vec<pb::ForwardRequest>>,
    waiting: Arc<Waiting>,
}

/// Who waits for which answer.
#[derive(Default)]
struct Waiting(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next_id: u64,
    requests: BTreeMap<u64, Pending>,
    /// Set when the stream has ended, before its waiters are told.
    closed: Option<Failure>,
}

/// A request without an answer.
struct Pending {
    reply: Reply,
    /// Whether the connection has taken it: before, it certainly was not sent.
    sent: bool,
}

/// Who waits.
enum Reply {
    Caller(oneshot::Sender<Answer>),
    Lane { number: u64, answers: Answers },
}

impl Inner {
    fn add(&mut self, reply: Reply) -> Result<u64, Failure> {
        if let Some(failure) = &self.closed {
            return Err(Failure { unknown: false, ..failure.clone() });
        }
        if self.requests.len() >= REQUESTS_IN_FLIGHT {
            return Err(Failure::not_applied(
                Reason::Overloaded,
                format!("{REQUESTS_IN_FLIGHT} requests are on their way to the leader already"),
            ));
        }
        self.next_id += 1;
        self.requests.insert(self.next_id, Pending { reply, sent: false });
        Ok(self.next_id)
    }
}

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock can panic")
    }

    fn take(&self, id: u64) -> Option<Pending> {
        self.lock().requests.remove(&id)
    }

    /// The connection is about to send requests. Those nobody waits for any more are left out: they
    /// must not be sent, since their callers may have been told so.
    fn send(&self, requests: &mut Vec<pb::ForwardRequest>) {
        let mut inner = self.lock();
        requests.retain(|request| match inner.requests.get_mut(&request.id) {
            None => false,
            Some(pending) => {
                pending.sent = true;
                true
            }
        });
    }

    fn close(&self, failure: &Failure) {
        let requests = {
            let mut inner = self.lock();
            inner.closed = Some(failure.clone());
            std::mem::take(&mut inner.requests)
        };
        tell(requests.into_values().map(|pending| {
            let unknown = failure.unknown && pending.sent;
            (pending, Err(Failure { unknown, ..failure.clone() }))
        }));
    }
}

/// Tells each its answer; those of lanes together.
fn tell(told: impl Iterator<Item = (Pending, Answer)>) {
    let mut lanes = Vec::new();
    for (pending, answer) in told {
        match pending.reply {
            // A caller that is gone has given up; nothing to tell.
            Reply::Caller(caller) => drop(caller.send(answer)),
            Reply::Lane { number, answers } => {
                lanes.push((ReplyTo::Lane { number, answers }, answer.and_then(committed)));
            }
        }
    }
    proposer::tell(lanes.into_iter());
}

/// Removes a request whose caller is gone.
struct Forget<'a>(&'a Waiting, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        drop(self.0.take(self.1));
    }
}

fn message(id: u64, deadline: Instant, request: Request) -> pb::ForwardRequest {
    let remaining = deadline.saturating_duration_since(Instant::now());
    let deadline_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
    pb::ForwardRequest { id, deadline_ms, request: Some(request) }
}

impl Link {
    /// Sends a request and waits for its answer.
    ///
    /// A failure after the request may have been sent is `unknown`.
    pub(crate) async fn ask(&self, request: Request, deadline: Instant) -> Answer {
        let (reply, answer) = oneshot::channel();
        let id = self.waiting.lock().add(Reply::Caller(reply))?;
        let forget = Forget(&self.waiting, id);
        let message = message(id, deadline, request);
        let sent = tokio::time::timeout_at(deadline, self.messages.send(vec![message])).await;
        if sent.is_err() {
            return Err(Failure::not_applied(
                Reason::Deadline,
                "the deadline came while the request waited for its turn on the way to the leader",
            ));
        }
        // A closed channel is not told apart here: closing answers every waiter.
        let answered = tokio::time::timeout_at(deadline, answer).await;
        let withdrawn = self.withdraw(id);
        drop(forget);
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(lost(self.leader)),
            Err(_) => Err(self.overtaken(withdrawn)),
        }
    }

    /// Sends commands of a lane, in their order, as one message: as many as fit. Answers the id each
    /// is sent under, by its number in the lane; none when the way is full or closed.
    pub(crate) fn send_all<'a>(
        &self,
        commands: impl Iterator<Item = (u64, &'a Envelope, Instant)>,
        answers: &Answers,
    ) -> Option<Vec<(u64, u64)>> {
        let room = self.messages.try_reserve().ok()?;
        let (mut requests, mut sent, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut inner = self.waiting.lock();
        for (number, envelope, deadline) in commands {
            if bytes >= MESSAGE_BYTES || requests.len() >= MESSAGE_REQUESTS {
                break;
            }
            let Ok(id) = inner.add(Reply::Lane { number, answers: answers.clone() }) else { break };
            let encoded = codec::encode_envelope(envelope);
            bytes += encoded.len();
            requests.push(message(id, deadline, Request::Command(encoded)));
            sent.push((number, id));
        }
        drop(inner);
        if sent.is_empty() {
            return None;
        }
        room.send(requests);
        Some(sent)
    }

    /// Forgets a request; whether it certainly was not sent.
    pub(crate) fn withdraw(&self, id: u64) -> bool {
        self.waiting.take(id).is_some_and(|pending| !pending.sent)
    }

    /// What a caller is told whose deadline came first.
    pub(crate) fn overtaken(&self, withdrawn: bool) -> Failure {
        let leader = self.leader;
        if withdrawn {
            return Failure::not_applied(
                Reason::Deadline,
                format!(
                    "there was no connection to node {leader}, the leader, before the deadline"
                ),
            );
        }
        Failure::unknown(
            Reason::Deadline,
            format!("node {leader}, the leader, did not answer before the deadline"),
        )
    }
}

/// Carries requests to whichever node leads.
pub(crate) struct Forwarder {
    runtime: Handle,
    link: Mutex<Option<Arc<Link>>>,
}

impl Forwarder {
    /// Its streams live on the given runtime.
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, link: Mutex::default() }
    }

    /// Closes the stream unless it goes to `leader`. Its waiters learn that their fate is unknown
    /// at once, instead of at their deadlines.
    pub(crate) fn keep_only(&self, leader: Option<NodeId>) {
        let mut current = self.link.lock().expect("no holder of this lock can panic");
        if current.as_ref().is_some_and(|link| Some(link.leader) != leader) {
            let Some(link) = current.take() else { return };
            drop(current);
            link.waiting.close(&Failure::unknown(
                Reason::LeaderChanged,
                format!("leadership moved away from node {} on the way", link.leader),
            ));
        }
    }

    /// The stream to the leader, opened if need be.
    pub(crate) fn link(&self, leader: NodeId, client: impl FnOnce() -> PeerClient) -> Arc<Link> {
        let mut current = self.link.lock().expect("no holder of this lock can panic");
        if let Some(link) = current.as_ref()
            && link.leader == leader
            && !link.messages.is_closed()
            && link.waiting.lock().closed.is_none()
        {
            return Arc::clone(link);
        }
        let (messages, queued) = mpsc::channel(MESSAGES_QUEUED);
        let waiting = Arc::new(Waiting::default());
        self.runtime.spawn(run(leader, client(), queued, Arc::clone(&waiting)));
        let link = Arc::new(Link { leader, messages, waiting });
        // The task of a stream that has ended tells its waiters itself, and knows whether their
        // requests were sent. Only one to another leader may still be open.
        if let Some(old) = current.replace(Arc::clone(&link)).filter(|old| old.leader != leader) {
            old.waiting.close(&lost(old.leader));
        }
        link
    }
}

/// Messages for the connection: what is queued when it can take one, together.
struct Outgoing {
    queued: mpsc::Receiver<Vec<pb::ForwardRequest>>,
    waiting: Arc<Waiting>,
}

impl Stream for Outgoing {
    type Item = pb::ForwardRequests;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Poll::Ready(next) = self.queued.poll_recv(cx) else { return Poll::Pending };
            let Some(mut requests) = next else { return Poll::Ready(None) };
            let size = |requests: &[pb::ForwardRequest]| -> usize {
                let bytes = requests.iter().map(|request| match &request.request {
                    Some(Request::Command(bytes)) => bytes.len(),
                    _ => 0,
                });
                bytes.sum()
            };
            let mut bytes = size(&requests);
            // Each queued message is below the limit with room for one that is as large.
            while bytes < MESSAGE_BYTES
                && requests.len() < MESSAGE_REQUESTS
                && let Ok(more) = self.queued.try_recv()
            {
                bytes += size(&more);
                requests.extend(more);
            }
            self.waiting.send(&mut requests);
            if !requests.is_empty() {
                return Poll::Ready(Some(pb::ForwardRequests { requests }));
            }
        }
    }
}

fn lost(leader: NodeId) -> Failure {
    Failure::unknown(
        Reason::LeaderChanged,
        format!("the connection to node {leader}, the leader, was lost on the way"),
    )
}

async fn run(
    leader: NodeId,
    mut peer: PeerClient,
    queued: mpsc::Receiver<Vec<pb::ForwardRequest>>,
    waiting: Arc<Waiting>,
) {
    let outgoing = Outgoing { queued, waiting: Arc::clone(&waiting) };
    let call = peer.request(outgoing);
    let ended = match peer.client.forward(call).await {
        Ok(response) => {
            let mut answers = response.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(message)) => tell(message.responses.into_iter().filter_map(|answer| {
                        Some((waiting.take(answer.id)?, answer_of(leader, answer)))
                    })),
                    Ok(None) => break lost(leader),
                    Err(status) => break closed(leader, &status, true),
                }
            }
        }
        Err(status) => closed(leader, &status, false),
    };
    waiting.close(&ended);
}

fn answer_of(leader: NodeId, answer: pb::ForwardResponse) -> Answer {
    match answer.result {
        Some(forward_response::Result::Failure(failure)) => Err(Failure {
            unknown: failure.unknown,
            reason: Reason::parse(&failure.reason).unwrap_or(Reason::LeaderChanged),
            message: failure.message,
        }),
        Some(result) => Ok(result),
        None => Err(lost(leader)),
    }
}

fn closed(leader: NodeId, status: &Status, open: bool) -> Failure {
    let refused = !open && (was_not_sent(status) || status.code() == Code::PermissionDenied);
    tracing::debug!(%leader, %status, "the stream to the leader ended");
    Failure {
        unknown: !refused,
        reason: if refused { Reason::NoLeader } else { Reason::LeaderChanged },
        message: format!("node {leader}, the leader, can't be reached: {}", status.message()),
    }
}

/// How long a peer may take to answer something small.
pub(crate) const SMALL_ANSWER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn add(waiting: &Waiting) -> Result<(u64, oneshot::Receiver<Answer>), Failure> {
        let (reply, answer) = oneshot::channel();
        Ok((waiting.lock().add(Reply::Caller(reply))?, answer))
    }

    fn sends(waiting: &Waiting, id: u64) -> bool {
        let mut requests = vec![pb::ForwardRequest { id, ..pb::ForwardRequest::default() }];
        waiting.send(&mut requests);
        !requests.is_empty()
    }

    #[tokio::test]
    async fn what_was_not_sent_has_certainly_no_effect() {
        let waiting = Waiting::default();
        let (sent, mut sent_answer) = add(&waiting).unwrap();
        let (unsent, mut unsent_answer) = add(&waiting).unwrap();
        let (forgotten, _) = add(&waiting).unwrap();
        assert!(sends(&waiting, sent));
        drop(Forget(&waiting, forgotten));
        assert!(!sends(&waiting, forgotten), "its caller was told that it was not sent");

        waiting.close(&lost(NodeId(1)));
        assert!(sent_answer.try_recv().unwrap().unwrap_err().unknown);
        assert!(!unsent_answer.try_recv().unwrap().unwrap_err().unknown);
        assert!(!sends(&waiting, unsent), "its caller was told that it was not sent");
        assert!(!add(&waiting).unwrap_err().unknown);
    }
}
