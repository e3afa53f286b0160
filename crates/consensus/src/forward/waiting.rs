//! Requests to the leader that have no answer: those that wait for their turn on the way, and those
//! that are on it.

use crate::admission::Permit;
use crate::failure::{Failure, Reason};
use crate::proposer::{self, Answers, ReplyTo};
use crate::replica::committed;
use crate::turns::Turns;
use quorate_proto::peer::{self as pb, forward_request::Request, forward_response};
use quorate_state::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Requests without an answer at once, over all clients of this node, and as many that wait for
/// their turn though nobody waits for them. Memory is bounded by the bytes of what is admitted
/// before this counts.
const REQUESTS_IN_FLIGHT: usize = 65_536;
/// Requests on their way at once: as many as the leader works on. What is more waits here, where it
/// has turns, and not in the buffers of a connection, where it would be in line.
const SENT_MAX: usize = 4_096;
/// Bytes of requests on their way at once, for the same reason: a quarter of what the leader takes.
const SENT_BYTES_MAX: usize = 8 << 20;
/// Bytes of commands after which a message is full: with one more command of the largest size it
/// is still below the frame limit between peers.
const MESSAGE_BYTES: usize = 1 << 20;
/// Requests after which a message is full.
pub(crate) const MESSAGE_REQUESTS: usize = 1_024;
/// Requests of which the leader is to be told that nobody waits for them any more; of those beyond
/// it is not told, and works on them until their deadlines.
const CANCELLED_MAX: usize = 4_096;

pub(super) type Answer = Result<forward_response::Result, Failure>;

/// Who waits for which answer.
pub(super) struct Waiting {
    leader: NodeId,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    requests: BTreeMap<u64, Pending>,
    /// By connection.
    turns: Turns<u64, Unsent>,
    /// Of `requests`, those that are on their way, and their bytes.
    sent: usize,
    sent_bytes: usize,
    /// On their way, and nobody waits for them any more.
    cancelled: Vec<u64>,
    /// Set when the stream has ended, before its waiters are told.
    closed: Option<Failure>,
    /// Nobody is there any more who could ask.
    over: bool,
    /// Wakes the connection, which found nothing to send.
    waker: Option<Waker>,
}

/// A request without an answer.
pub(super) struct Pending {
    reply: Reply,
    deadline: Instant,
    /// Its bytes, once the connection has taken it: before, it certainly was not sent.
    sent: Option<usize>,
}

/// A request that waits for its turn.
struct Unsent {
    id: u64,
    connection: u64,
    bytes: usize,
    traced: bool,
    request: Request,
    _held: Option<Arc<Permit>>,
}

/// Who waits.
pub(super) enum Reply {
    Caller(oneshot::Sender<Answer>),
    Lane { number: u64, answers: Answers },
}

/// What is to be sent.
pub(super) struct Asked {
    pub(super) request: Request,
    /// Which connection of this node it is of; 0: the node's own.
    pub(super) connection: u64,
    pub(super) deadline: Instant,
    /// Whether the leader is to say how long it was where.
    pub(super) traced: bool,
    /// What its bytes are held by, here as well until it is sent.
    pub(super) held: Option<Arc<Permit>>,
}

impl Waiting {
    pub(super) fn new(leader: NodeId) -> Self {
        Self { leader, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock can panic")
    }

    /// Queues a request; answers the id it is sent under.
    pub(super) fn add(&self, reply: Reply, asked: Asked) -> Result<u64, Failure> {
        let mut inner = self.lock();
        let id = inner.add(reply, asked)?;
        inner.wake();
        Ok(id)
    }

    /// As [`Waiting::add`], for commands of a lane in their order: as many as there is room for. The
    /// id of each, by its number in the lane.
    pub(super) fn add_all(
        &self,
        commands: impl Iterator<Item = (u64, Asked)>,
        answers: &Answers,
    ) -> Vec<(u64, u64)> {
        let mut inner = self.lock();
        let mut added = Vec::new();
        for (number, asked) in commands {
            let reply = Reply::Lane { number, answers: answers.clone() };
            let Ok(id) = inner.add(reply, asked) else { break };
            added.push((number, id));
        }
        inner.wake();
        added
    }

    /// Forgets a request that nobody waits for any more, and has the leader told if it may have it.
    /// Whether it certainly was not sent.
    pub(super) fn withdraw(&self, id: u64) -> bool {
        let mut inner = self.lock();
        let Some(pending) = inner.remove(id) else { return false };
        if pending.sent.is_some() && inner.cancelled.len() < CANCELLED_MAX {
            inner.cancelled.push(id);
            inner.wake();
        }
        pending.sent.is_none()
    }

    /// Takes in answers.
    pub(super) fn answered(&self, answers: impl Iterator<Item = (u64, Answer)>) {
        let mut inner = self.lock();
        let told: Vec<_> =
            answers.filter_map(|(id, answer)| Some((inner.remove(id)?, answer))).collect();
        // There may be room for more on the way now.
        inner.wake();
        drop(inner);
        tell(told.into_iter());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Answers everybody who waits.
    pub(super) fn close(&self, failure: &Failure) {
        let requests = {
            let mut inner = self.lock();
            inner.closed = Some(failure.clone());
            (inner.sent, inner.sent_bytes) = (0, 0);
            inner.turns = Turns::default();
            inner.cancelled.clear();
            inner.wake();
            std::mem::take(&mut inner.requests)
        };
        tell(requests.into_values().map(|pending| {
            let unknown = failure.unknown && pending.sent.is_some();
            (pending, Err(Failure { unknown, ..failure.clone() }))
        }));
    }

    /// Nobody asks anything any more: the stream ends with what was asked.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.over = true;
        inner.wake();
    }

    /// The next message for the connection, which can take one: what has its turn, together.
    pub(super) fn poll_message(&self, cx: &mut Context<'_>) -> Poll<Option<pb::ForwardRequests>> {
        let mut inner = self.lock();
        let (message, late) = inner.next_message(Instant::now());
        let next = if !message.requests.is_empty() || !message.cancelled.is_empty() {
            Poll::Ready(Some(message))
        } else if inner.over && inner.turns.is_empty() {
            Poll::Ready(None)
        } else {
            inner.waker = Some(cx.waker().clone());
            Poll::Pending
        };
        drop(inner);
        tell(late.into_iter().map(|pending| (pending, Err(too_late(self.leader)))));
        next
    }
}

impl Inner {
    fn add(&mut self, reply: Reply, asked: Asked) -> Result<u64, Failure> {
        if let Some(failure) = &self.closed {
            return Err(Failure { unknown: false, ..failure.clone() });
        }
        if self.requests.len().max(self.turns.len()) >= REQUESTS_IN_FLIGHT {
            return Err(Failure::not_applied(
                Reason::Overloaded,
                format!("{REQUESTS_IN_FLIGHT} requests are on their way to the leader already"),
            ));
        }
        self.next_id += 1;
        let id = self.next_id;
        let Asked { request, connection, deadline, traced, held } = asked;
        let bytes = match &request {
            Request::Command(bytes) => bytes.len(),
            _ => 0,
        };
        self.requests.insert(id, Pending { reply, deadline, sent: None });
        let unsent = Unsent { id, connection, bytes, traced, request, _held: held };
        self.turns.push(connection, bytes, unsent);
        Ok(id)
    }

    fn remove(&mut self, id: u64) -> Option<Pending> {
        let pending = self.requests.remove(&id)?;
        if let Some(bytes) = pending.sent {
            self.sent -= 1;
            self.sent_bytes -= bytes;
        }
        Some(pending)
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next message, and whose deadline came before their turn. Those nobody waits for any more
    /// are left out: they must not be sent, since their callers may have been told so.
    fn next_message(&mut self, now: Instant) -> (pb::ForwardRequests, Vec<Pending>) {
        let (mut requests, mut late, mut message_bytes) = (Vec::new(), Vec::new(), 0);
        while message_bytes < MESSAGE_BYTES
            && requests.len() < MESSAGE_REQUESTS
            && self.sent < SENT_MAX
            && self.sent_bytes < SENT_BYTES_MAX
            && let Some(unsent) = self.turns.next(|_| true)
        {
            let Unsent { id, connection, bytes, traced, request, _held } = unsent;
            let Some(pending) = self.requests.get_mut(&id) else { continue };
            if pending.deadline <= now {
                late.extend(self.requests.remove(&id));
                continue;
            }
            pending.sent = Some(bytes);
            self.sent += 1;
            self.sent_bytes += bytes;
            message_bytes += bytes;
            // What is left of it now, not when it was queued.
            let remaining = pending.deadline.saturating_duration_since(now);
            let deadline_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
            requests.push(pb::ForwardRequest {
                id,
                deadline_ms,
                connection,
                traced,
                request: Some(request),
            });
        }
        let cancelled = self.cancelled.drain(..self.cancelled.len().min(MESSAGE_REQUESTS));
        (pb::ForwardRequests { requests, cancelled: cancelled.collect() }, late)
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

pub(super) fn too_late(leader: NodeId) -> Failure {
    Failure::not_applied(
        Reason::Deadline,
        format!(
            "the deadline came before the request was sent to node {leader}, the leader: there is no \
             connection to it, or too much is on the way"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn asked(connection: u64, bytes: usize) -> Asked {
        let request = Request::Command(vec![0; bytes].into());
        let deadline = Instant::now() + Duration::from_secs(60);
        Asked { request, connection, deadline, traced: false, held: None }
    }

    fn add(waiting: &Waiting, asked: Asked) -> (u64, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (waiting.add(Reply::Caller(reply), asked).unwrap(), answer)
    }

    fn message(waiting: &Waiting) -> Option<pb::ForwardRequests> {
        match waiting.poll_message(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(message) => message,
            Poll::Pending => None,
        }
    }

    fn ids(message: Option<pb::ForwardRequests>) -> Vec<u64> {
        message.into_iter().flat_map(|m| m.requests).map(|request| request.id).collect()
    }

    fn answer(waiting: &Waiting, ids: impl Iterator<Item = u64>) {
        let answer = || Ok(forward_response::Result::ReadIndex(pb::ReadIndex { index: 1 }));
        waiting.answered(ids.map(|id| (id, answer())));
    }

    fn lost() -> Failure {
        Failure::unknown(Reason::LeaderChanged, "the connection was lost")
    }

    #[tokio::test]
    async fn what_was_not_sent_has_certainly_no_effect() {
        let waiting = Waiting::new(NodeId(1));
        let (sent, mut sent_answer) = add(&waiting, asked(1, 10));
        assert_eq!(ids(message(&waiting)), [sent]);
        let (_, mut unsent_answer) = add(&waiting, asked(1, 10));
        let (forgotten, _) = add(&waiting, asked(1, 10));
        assert!(waiting.withdraw(forgotten));

        waiting.close(&lost());
        assert!(sent_answer.try_recv().unwrap().unwrap_err().unknown);
        assert!(!unsent_answer.try_recv().unwrap().unwrap_err().unknown);
        assert_eq!(message(&waiting), None, "their callers were told that they were not sent");
        let refused = waiting.add(Reply::Caller(oneshot::channel().0), asked(1, 10));
        assert!(!refused.unwrap_err().unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_has_the_time_that_is_left_and_what_is_late_is_not_sent() {
        let waiting = Waiting::new(NodeId(1));
        let soon = Asked { deadline: Instant::now() + Duration::from_secs(2), ..asked(1, 10) };
        let (_, mut late) = add(&waiting, soon);
        let (in_time, _answer) = add(&waiting, asked(1, 10));
        tokio::time::advance(Duration::from_secs(2)).await;
        let sent = message(&waiting).unwrap().requests;
        assert_eq!(
            sent.iter().map(|r| (r.id, r.deadline_ms)).collect::<Vec<_>>(),
            [(in_time, 58_000)]
        );
        let failure = late.try_recv().unwrap().unwrap_err();
        assert_eq!((failure.reason, failure.unknown), (Reason::Deadline, false));
    }

    #[tokio::test]
    async fn little_is_sent_soon_beside_a_flood_and_the_way_is_never_full_of_that() {
        let waiting = Waiting::new(NodeId(1));
        let mut answers: Vec<_> =
            (0..64).map(|n| add(&waiting, asked(1 + n % 16, 1 << 20)).1).collect();
        let mut sent = Vec::new();
        while let Some(message) = message(&waiting) {
            sent.push(message.requests.iter().map(|request| request.id).collect::<Vec<_>>());
        }
        assert_eq!(sent.iter().flatten().count(), SENT_BYTES_MAX >> 20);
        let (little, little_answer) = add(&waiting, asked(99, 100));
        answers.push(little_answer);
        assert!(message(&waiting).is_none(), "there is no room on the way");
        answer(&waiting, sent[0].iter().copied());
        let next = ids(message(&waiting));
        assert!(next.contains(&little), "it is not in the next message");
    }

    #[tokio::test]
    async fn the_leader_is_told_whom_nobody_waits_for() {
        let waiting = Waiting::new(NodeId(1));
        let (sent, _answer) = add(&waiting, asked(1, SENT_BYTES_MAX));
        assert_eq!(ids(message(&waiting)), [sent]);
        let (next, _answer) = add(&waiting, asked(1, 10));
        assert!(message(&waiting).is_none());
        assert!(!waiting.withdraw(sent));
        let told = message(&waiting).unwrap();
        assert_eq!(told.cancelled, [sent]);
        assert_eq!(ids(Some(told)), [next], "there is room again");
        answer(&waiting, std::iter::once(sent));
        assert!(message(&waiting).is_none());
    }

    #[tokio::test]
    async fn a_stream_that_nobody_uses_ends_with_what_was_asked() {
        let waiting = Waiting::new(NodeId(1));
        let (asked_last, _answer) = add(&waiting, asked(1, 10));
        waiting.end();
        assert_eq!(ids(message(&waiting)), [asked_last]);
        let next = waiting.poll_message(&mut Context::from_waker(Waker::noop()));
        assert_eq!(next, Poll::Ready(None));
    }
}
