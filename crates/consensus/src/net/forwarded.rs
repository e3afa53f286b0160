//! The leader's side of forwarding: works through what another node sends, and answers as it
//! becomes known. Never forwards again.

use crate::admission::{Origin, OriginId};
use crate::failure::{Failure, Reason};
use crate::forward::MESSAGE_REQUESTS;
use crate::lane::{Lane, Submission};
use crate::net::peers::FRAME_BYTES_MAX;
use crate::proposer::Answer;
use crate::replica::Replica;
use crate::trace::Trace;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use prost::Message as _;
use quorate_proto::peer::{
    self as pb, forward_request::Request as Forwarded, forward_response::Result as Answered,
};
use quorate_state::codec::{self, CodecError};
use quorate_state::{FencingToken, HeldLock, NodeId, SessionId};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// Requests that are worked on at once; while there are as many, no further message is taken.
const AT_ONCE: usize = 4_096;
/// Connections that are remembered before those without commands are forgotten: twice as many as may
/// have some, so that this is looked at rarely.
const ORIGINS_MAX: usize = 2 * (AT_ONCE + MESSAGE_REQUESTS);
/// Bytes of answers after which a message is full: with the largest answer behind it, it is well
/// within a frame.
const MESSAGE_BYTES: usize = FRAME_BYTES_MAX / 4;
/// The longest a request is worked on, whatever its sender says.
const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// The answers to one node's stream.
pub(super) struct ForwardedStream {
    replica: Replica,
    /// Who sends them.
    from: NodeId,
    /// Its connections with commands here, by their numbers there; and some that had.
    origins: BTreeMap<u64, Origin>,
    requests: Option<Streaming<pb::ForwardRequests>>,
    lane: Lane,
    /// What is no command.
    others: FuturesUnordered<BoxFuture<'static, pb::ForwardResponse>>,
    /// Known, and for the next messages: most are small, but one may have a megabyte.
    known: VecDeque<pb::ForwardResponse>,
}

impl ForwardedStream {
    pub(super) fn new(
        replica: Replica,
        from: NodeId,
        requests: Streaming<pb::ForwardRequests>,
    ) -> Self {
        let lane = Lane::of_forwarded(replica.clone(), AT_ONCE + 2 * MESSAGE_REQUESTS);
        let (others, known) = (FuturesUnordered::new(), VecDeque::new());
        let (origins, requests) = (BTreeMap::new(), Some(requests));
        Self { replica, from, origins, requests, lane, others, known }
    }

    /// Whose a command is.
    fn origin(&mut self, connection: u64) -> Origin {
        let id = OriginId { node: self.from, connection };
        let origin = self.origins.entry(connection).or_insert_with(|| Origin::new(id)).clone();
        if self.origins.len() > ORIGINS_MAX {
            self.origins.retain(|_, origin| !origin.is_alone());
        }
        origin
    }

    fn take(&mut self, message: pb::ForwardRequests) -> Vec<pb::ForwardResponse> {
        let mut malformed = Vec::new();
        let mut submissions = Vec::new();
        for id in message.cancelled {
            self.lane.cancel(id);
        }
        for request in message.requests {
            let id = request.id;
            let timeout = Duration::from_millis(request.deadline_ms).min(DEADLINE_MAX);
            let deadline = Instant::now() + timeout;
            match request.request {
                Some(Forwarded::Command(bytes)) => match codec::decode(&bytes) {
                    Ok(envelope) => {
                        let origin = self.origin(request.connection);
                        let trace = request.traced.then(|| Arc::new(Trace::new(Instant::now())));
                        let submission = Submission { tag: id, envelope, deadline, trace };
                        submissions.push((origin, submission));
                    }
                    Err(error @ CodecError::FeatureLevel(_)) => malformed.push(response(
                        id,
                        Err(Failure::not_applied(
                            Reason::FeatureLevel,
                            format!(
                                "the leader, node {}, runs {}, which does not know it ({error})",
                                self.replica.node_id(),
                                env!("CARGO_PKG_VERSION")
                            ),
                        )),
                    )),
                    Err(error) => malformed.push(response(
                        id,
                        Err(Failure::not_applied(
                            Reason::Fatal,
                            format!("the forwarded command is malformed: {error}"),
                        )),
                    )),
                },
                Some(Forwarded::ReadIndex(_)) => {
                    let replica = self.replica.clone();
                    self.others.push(Box::pin(async move {
                        let read = replica.read_index_here().await;
                        response(id, read.map(|index| Answered::ReadIndex(pb::ReadIndex { index })))
                    }));
                }
                Some(Forwarded::KeepAlive(keep)) => {
                    let replica = self.replica.clone();
                    self.others.push(Box::pin(async move {
                        let session = SessionId(keep.session_id);
                        let kept = replica.keep_alive_here(session, deadline).await;
                        response(
                            id,
                            kept.map(|ttl_ms| Answered::KeptAlive(pb::KeptAlive { ttl_ms })),
                        )
                    }));
                }
                Some(Forwarded::RenewLock(renew)) => {
                    let replica = self.replica.clone();
                    self.others.push(Box::pin(async move {
                        let pb::RenewLock { namespace, name, token } = renew;
                        let held = HeldLock { namespace, name, token: FencingToken(token) };
                        let kept = replica.renew_lock_here(held, deadline).await;
                        response(
                            id,
                            kept.map(|ttl_ms| Answered::KeptAlive(pb::KeptAlive { ttl_ms })),
                        )
                    }));
                }
                None => malformed.push(response(
                    id,
                    Err(Failure::not_applied(
                        Reason::Fatal,
                        "the forwarded request is of a kind this version does not know",
                    )),
                )),
            }
        }
        self.lane.submit_of(submissions.into_iter());
        malformed
    }
}

impl Stream for ForwardedStream {
    type Item = Result<pb::ForwardResponses, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.lane.len() + this.others.len() + this.known.len() < AT_ONCE
            && let Some(requests) = &mut this.requests
        {
            match requests.poll_next_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(message))) => {
                    let malformed = this.take(message);
                    this.known.extend(malformed);
                }
                // Its sender is gone, and so is everybody who waits for an answer.
                Poll::Ready(Some(Err(_)) | None) => this.requests = None,
            }
        }
        if let Poll::Ready(answers) = this.lane.poll_answers(cx) {
            let answers = answers.into_iter().map(|(tag, answer)| response(tag, carry(answer)));
            this.known.extend(answers);
        }
        while let Poll::Ready(Some(answer)) = this.others.poll_next_unpin(cx) {
            this.known.push_back(answer);
        }
        if !this.known.is_empty() {
            let responses = next_message(&mut this.known);
            return Poll::Ready(Some(Ok(pb::ForwardResponses { responses })));
        }
        if this.requests.is_none() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// As many as fit a message, one at least.
fn next_message(known: &mut VecDeque<pb::ForwardResponse>) -> Vec<pb::ForwardResponse> {
    let mut bytes = 0;
    let mut responses = Vec::new();
    while bytes < MESSAGE_BYTES
        && let Some(response) = known.pop_front()
    {
        bytes += response.encoded_len();
        responses.push(response);
    }
    responses
}

fn carry(answer: Answer) -> Result<Answered, Failure> {
    answer.map(|committed| {
        Answered::Committed(pb::Committed {
            index: committed.index.0,
            outcome: codec::encode(&committed.outcome).into(),
            passage: committed.passage.map(|passage| passage.to_wire()),
        })
    })
}

fn response(id: u64, result: Result<Answered, Failure>) -> pb::ForwardResponse {
    let result = result.unwrap_or_else(|failure| {
        Answered::Failure(pb::Failure {
            unknown: failure.unknown,
            reason: failure.reason.as_str().to_owned(),
            message: failure.message,
        })
    });
    pb::ForwardResponse { id, result: Some(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split_into_messages_that_fit_a_frame() {
        let answer = |id: u64| {
            // Of the largest there are.
            let outcome = vec![7; if id.is_multiple_of(3) { (1 << 20) + (64 << 10) } else { 10 }];
            let committed = pb::Committed { index: 1, outcome: outcome.into(), passage: None };
            response(id, Ok(Answered::Committed(committed)))
        };
        let mut known: VecDeque<_> = (0..60).map(answer).collect();
        let mut ids = Vec::new();
        while !known.is_empty() {
            let responses = next_message(&mut known);
            ids.extend(responses.iter().map(|response| response.id));
            let bytes = pb::ForwardResponses { responses }.encoded_len();
            assert!(bytes < FRAME_BYTES_MAX, "a message of {bytes} bytes");
        }
        assert_eq!(ids, (0..60).collect::<Vec<_>>());
    }
}
