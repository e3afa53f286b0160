//! The follower's side of forwarding: two multiplexed streams to the leader, answers in any order.
//! One is for what clients ask for, by turns of their connections; the other one, on a connection of
//! its own, for what must not wait behind that: renewals and rounds of reads.
//!
//! One hop only: what arrives on such a stream is never forwarded again. What is there to be sent
//! at one moment goes as one message, and what became known at one moment comes back as one.

use crate::admission::{Origin, Permit};
use crate::failure::{Failure, Reason};
use crate::net::peers::{PeerClient, Purpose, was_not_sent};
use crate::proposer::Answers;
use futures::Stream;
use quorate_proto::peer::{self as pb, forward_request::Request, forward_response};
use quorate_state::{Envelope, NodeId, codec};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::{Code, Status};
use waiting::{Answer, Asked, Reply, Waiting, too_late};

mod waiting;

pub(crate) use waiting::MESSAGE_REQUESTS;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By turns.
    ByTurns,
    /// Before all that has turns.
    Urgent,
}

impl Way {
    fn purpose(self) -> Purpose {
        match self {
            Self::ByTurns => Purpose::Forward,
            Self::Urgent => Purpose::Urgent,
        }
    }
}

/// A stream to one leader. Dropping it ends the stream once all is answered.
pub(crate) struct Link {
    leader: NodeId,
    waiting: Arc<Waiting>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.waiting.end();
    }
}

/// Withdraws a request whose caller is gone.
struct Withdraw<'a>(&'a Waiting, u64);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.withdraw(self.1);
    }
}

impl Link {
    /// Sends a request and waits for its answer. If it is a client's, `of` is whose, and by what its
    /// bytes are held.
    ///
    /// A failure after the request may have been sent is `unknown`.
    ///
    /// # Cancel safety
    /// A request that is dropped before it was sent is never sent; of one that was, the leader is
    /// told that nobody waits for it.
    pub(crate) async fn ask(
        &self,
        request: Request,
        of: Option<(&Origin, Arc<Permit>)>,
        deadline: Instant,
    ) -> Answer {
        let (reply, answer) = oneshot::channel();
        let connection = of.as_ref().map_or(0, |(origin, _)| origin.id().connection);
        let traced = of.as_ref().is_some_and(|(origin, _)| origin.trace().is_some());
        let held = of.map(|(_, held)| held);
        let asked = Asked { request, connection, deadline, traced, held };
        let id = self.waiting.add(Reply::Caller(reply), asked)?;
        let withdraw = Withdraw(&self.waiting, id);
        let answered = tokio::time::timeout_at(deadline, answer).await;
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(lost(self.leader)),
            Err(_) => {
                let withdrawn = self.withdraw(id);
                drop(withdraw);
                Err(self.overtaken(withdrawn))
            }
        }
    }

    /// Sends commands of a lane, in their order: as many as there is room for. Answers the id each is
    /// sent under, by its number in the lane; none when the way is full or closed.
    pub(crate) fn send_all<'a>(
        &self,
        commands: impl Iterator<Item = Forwarded<'a>>,
        answers: &Answers,
    ) -> Option<Vec<(u64, u64)>> {
        let asked = commands.map(|Forwarded { number, envelope, origin, deadline, held }| {
            let request = Request::Command(codec::encode_envelope(envelope));
            let (connection, traced) = (origin.id().connection, origin.trace().is_some());
            (number, Asked { request, connection, deadline, traced, held })
        });
        // Encoded before the lock that every answer takes is held.
        let asked: Vec<_> = asked.collect();
        let added = self.waiting.add_all(asked.into_iter(), answers);
        (!added.is_empty()).then_some(added)
    }

    /// Forgets a request; whether it certainly was not sent.
    pub(crate) fn withdraw(&self, id: u64) -> bool {
        self.waiting.withdraw(id)
    }

    /// What a caller is told whose deadline came first.
    pub(crate) fn overtaken(&self, withdrawn: bool) -> Failure {
        let leader = self.leader;
        if withdrawn {
            return too_late(leader);
        }
        Failure::unknown(
            Reason::Deadline,
            format!("node {leader}, the leader, did not answer before the deadline"),
        )
    }
}

/// A command of a lane.
pub(crate) struct Forwarded<'a> {
    pub(crate) number: u64,
    pub(crate) envelope: &'a Envelope,
    pub(crate) origin: &'a Origin,
    pub(crate) deadline: Instant,
    pub(crate) held: Option<Arc<Permit>>,
}

/// Carries requests to whichever node leads.
pub(crate) struct Forwarder {
    runtime: Handle,
    /// By [`Way`].
    links: Mutex<[Option<Arc<Link>>; 2]>,
}

impl Forwarder {
    /// Its streams live on the given runtime.
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, links: Mutex::default() }
    }

    /// Closes the streams unless they go to `leader`. Their waiters learn that their fate is unknown
    /// at once, instead of at their deadlines.
    pub(crate) fn keep_only(&self, leader: Option<NodeId>) {
        let mut links = self.links.lock().expect("no holder of this lock can panic");
        let stale: Vec<_> = links
            .iter_mut()
            .filter_map(|link| link.take_if(|link| Some(link.leader) != leader))
            .collect();
        drop(links);
        for link in stale {
            link.waiting.close(&Failure::unknown(
                Reason::LeaderChanged,
                format!("leadership moved away from node {} on the way", link.leader),
            ));
        }
    }

    /// A stream to the leader, opened if need be.
    pub(crate) fn link(
        &self,
        leader: NodeId,
        way: Way,
        client: impl FnOnce(Purpose) -> PeerClient,
    ) -> Arc<Link> {
        let mut links = self.links.lock().expect("no holder of this lock can panic");
        let current = &mut links[way as usize];
        if let Some(link) = current.as_ref()
            && link.leader == leader
            && !link.waiting.is_closed()
        {
            return Arc::clone(link);
        }
        let waiting = Arc::new(Waiting::new(leader));
        self.runtime.spawn(run(leader, client(way.purpose()), Arc::clone(&waiting)));
        let link = Arc::new(Link { leader, waiting });
        // The task of a stream that has ended tells its waiters itself, and knows whether their
        // requests were sent. Only one to another leader may still be open.
        if let Some(old) = current.replace(Arc::clone(&link)).filter(|old| old.leader != leader) {
            old.waiting.close(&lost(old.leader));
        }
        link
    }
}

/// Messages for the connection: what has its turn when it can take one, together.
struct Outgoing(Arc<Waiting>);

impl Stream for Outgoing {
    type Item = pb::ForwardRequests;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_message(cx)
    }
}

fn lost(leader: NodeId) -> Failure {
    Failure::unknown(
        Reason::LeaderChanged,
        format!("the connection to node {leader}, the leader, was lost on the way"),
    )
}

async fn run(leader: NodeId, mut peer: PeerClient, waiting: Arc<Waiting>) {
    let call = peer.request(Outgoing(Arc::clone(&waiting)));
    let ended = match peer.client.forward(call).await {
        Ok(response) => {
            let mut answers = response.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(message)) => {
                        let answers = message.responses.into_iter();
                        waiting
                            .answered(answers.map(|answer| (answer.id, answer_of(leader, answer))));
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

pub(crate) fn answer_of(leader: NodeId, answer: pb::ForwardResponse) -> Answer {
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
