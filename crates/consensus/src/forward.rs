//! The follower's side of forwarding: one multiplexed stream to the leader, answers in any order.
//!
//! One hop only: what arrives on such a stream is never forwarded again.

use crate::failure::{Failure, Reason};
use crate::net::peers::{PeerClient, was_not_sent};
use futures::StreamExt as _;
use quorate_proto::peer::{self as pb, forward_request::Request, forward_response};
use quorate_state::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Requests on their way to the leader at once, over all clients of this node.
const REQUESTS_IN_FLIGHT: usize = 16_384;

type Answer = Result<forward_response::Result, Failure>;

/// The stream to one leader.
struct Link {
    leader: NodeId,
    requests: mpsc::Sender<pb::ForwardRequest>,
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
    reply: oneshot::Sender<Answer>,
    /// Whether the connection has taken it: before, it certainly was not sent.
    sent: bool,
}

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock can panic")
    }

    fn add(&self) -> Result<(u64, oneshot::Receiver<Answer>), Failure> {
        let mut inner = self.lock();
        if let Some(failure) = &inner.closed {
            return Err(Failure { unknown: false, ..failure.clone() });
        }
        if inner.requests.len() >= REQUESTS_IN_FLIGHT {
            return Err(Failure::not_applied(
                Reason::Overloaded,
                format!("{REQUESTS_IN_FLIGHT} requests are on their way to the leader already"),
            ));
        }
        inner.next_id += 1;
        let id = inner.next_id;
        let (reply, answer) = oneshot::channel();
        inner.requests.insert(id, Pending { reply, sent: false });
        Ok((id, answer))
    }

    fn take(&self, id: u64) -> Option<Pending> {
        self.lock().requests.remove(&id)
    }

    /// The connection is about to send a request. False when nobody waits for it any more: then it
    /// must not be sent, since its caller may have been told so.
    fn send(&self, id: u64) -> bool {
        let mut inner = self.lock();
        let Some(pending) = inner.requests.get_mut(&id) else { return false };
        pending.sent = true;
        true
    }

    fn close(&self, failure: &Failure) {
        let requests = {
            let mut inner = self.lock();
            inner.closed = Some(failure.clone());
            std::mem::take(&mut inner.requests)
        };
        for Pending { reply, sent } in requests.into_values() {
            let unknown = failure.unknown && sent;
            let _ = reply.send(Err(Failure { unknown, ..failure.clone() }));
        }
    }
}

/// Removes a request whose caller is gone.
struct Forget<'a>(&'a Waiting, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        drop(self.0.take(self.1));
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

    /// Sends a request to the leader and waits for its answer.
    ///
    /// A failure after the request may have been sent is `unknown`.
    pub(crate) async fn ask(
        &self,
        leader: NodeId,
        client: impl FnOnce() -> PeerClient,
        request: Request,
        deadline: Instant,
    ) -> Answer {
        let link = self.link(leader, client);
        let (id, answer) = link.waiting.add()?;
        let forget = Forget(&link.waiting, id);
        let remaining = deadline.saturating_duration_since(Instant::now());
        let message = pb::ForwardRequest {
            id,
            deadline_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
            request: Some(request),
        };
        let sent = tokio::time::timeout_at(deadline, link.requests.send(message)).await;
        if sent.is_err() {
            return Err(Failure::not_applied(
                Reason::Deadline,
                "the deadline came while the request waited for its turn on the way to the leader",
            ));
        }
        // A closed channel is not told apart here: closing answers every waiter.
        let answered = tokio::time::timeout_at(deadline, answer).await;
        let unsent = link.waiting.take(id).is_some_and(|pending| !pending.sent);
        drop(forget);
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(lost(leader)),
            Err(_) if unsent => Err(Failure::not_applied(
                Reason::Deadline,
                format!(
                    "there was no connection to node {leader}, the leader, before the deadline"
                ),
            )),
            Err(_) => Err(Failure::unknown(
                Reason::Deadline,
                format!("node {leader}, the leader, did not answer before the deadline"),
            )),
        }
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

    fn link(&self, leader: NodeId, client: impl FnOnce() -> PeerClient) -> Arc<Link> {
        let mut current = self.link.lock().expect("no holder of this lock can panic");
        if let Some(link) = current.as_ref()
            && link.leader == leader
            && !link.requests.is_closed()
            && link.waiting.lock().closed.is_none()
        {
            return Arc::clone(link);
        }
        let (requests, outgoing) = mpsc::channel(1_024);
        let waiting = Arc::new(Waiting::default());
        self.runtime.spawn(run(leader, client(), outgoing, Arc::clone(&waiting)));
        let link = Arc::new(Link { leader, requests, waiting });
        // The task of a stream that has ended tells its waiters itself, and knows whether their
        // requests were sent. Only one to another leader may still be open.
        if let Some(old) = current.replace(Arc::clone(&link)).filter(|old| old.leader != leader) {
            old.waiting.close(&lost(old.leader));
        }
        link
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
    outgoing: mpsc::Receiver<pb::ForwardRequest>,
    waiting: Arc<Waiting>,
) {
    let sending = Arc::clone(&waiting);
    let outgoing = ReceiverStream::new(outgoing)
        .filter(move |request| std::future::ready(sending.send(request.id)));
    let call = peer.request(outgoing);
    let ended = match peer.client.forward(call).await {
        Ok(response) => {
            let mut answers = response.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(answer)) => {
                        let Some(pending) = waiting.take(answer.id) else { continue };
                        let _ = pending.reply.send(match answer.result {
                            Some(forward_response::Result::Failure(failure)) => Err(Failure {
                                unknown: failure.unknown,
                                reason: Reason::parse(&failure.reason)
                                    .unwrap_or(Reason::LeaderChanged),
                                message: failure.message,
                            }),
                            Some(result) => Ok(result),
                            None => Err(lost(leader)),
                        });
                    }
                    Ok(None) => break lost(leader),
                    Err(status) => break closed(leader, &status, true),
                }
            }
        }
        Err(status) => closed(leader, &status, false),
    };
    waiting.close(&ended);
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

    #[tokio::test]
    async fn what_was_not_sent_has_certainly_no_effect() {
        let waiting = Waiting::default();
        let (sent, mut sent_answer) = waiting.add().unwrap();
        let (unsent, mut unsent_answer) = waiting.add().unwrap();
        let (forgotten, _) = waiting.add().unwrap();
        assert!(waiting.send(sent));
        drop(Forget(&waiting, forgotten));
        assert!(!waiting.send(forgotten), "its caller was told that it was not sent");

        waiting.close(&lost(NodeId(1)));
        assert!(sent_answer.try_recv().unwrap().unwrap_err().unknown);
        assert!(!unsent_answer.try_recv().unwrap().unwrap_err().unknown);
        assert!(!waiting.send(unsent), "its caller was told that it was not sent");
        assert!(!waiting.add().unwrap_err().unknown);
    }
}
