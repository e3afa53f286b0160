//! What this node has to say to the leader, in order, until the stream takes it.
//!
//! What was not taken by the stream was certainly not sent; that is what tells a publisher whose
//! message can be sent again from one whose message may have been published. Bounded by calls and
//! bytes; what a subscription changes is kept as the newest count of each pattern, and so bounded by
//! the subscriptions themselves.

use crate::wire;
use futures::Stream;
use quorate_bus::{InterestChange, Selector};
use quorate_proto::peer::{self, aside_request::Request};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Calls that wait for the leader's word, and messages before it takes them: of all clients of a node.
pub(super) const CALLS_MAX: usize = 16_384;
/// Bytes of messages that wait for the connection.
const QUEUED_BYTES_MAX: usize = 32 << 20;
/// Bytes after which a message is full: with one more request of the largest size it is below the
/// frame limit between peers.
const MESSAGE_BYTES: usize = 1 << 20;
/// Requests after which a message is full.
const MESSAGE_REQUESTS: usize = 1_024;

/// What is wanted: namespace, pattern, group.
type Row = (Arc<str>, Selector, Option<Arc<str>>);

/// A request, and what it weighs.
struct Queued {
    request: Request,
    bytes: usize,
    /// The call whose it is, to be told that it was sent.
    call: Option<u64>,
}

/// What is to be said. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Outgoing(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Counts streams; only the newest takes anything.
    stream: u64,
    open: bool,
    interest: BTreeMap<Row, u64>,
    queued: VecDeque<Queued>,
    queued_bytes: usize,
    /// Calls whose requests the stream has taken.
    sent: BTreeSet<u64>,
    waker: Option<Waker>,
}

/// The way to the leader is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a stream, whose first request is this; the one before takes nothing any more.
    pub(super) fn open(&self, first: peer::AsideOpen) -> Requests {
        let mut inner = self.lock();
        inner.stream += 1;
        inner.open = true;
        inner.wake();
        Requests { outgoing: self.clone(), stream: inner.stream, first: Some(first) }
    }

    /// The stream is over. Answers which of the calls without an answer it has taken; the others it
    /// never will. Changes of interest stay, for the next.
    pub(super) fn close(&self) -> BTreeSet<u64> {
        let mut inner = self.lock();
        inner.open = false;
        inner.queued.clear();
        inner.queued_bytes = 0;
        inner.wake();
        std::mem::take(&mut inner.sent)
    }

    /// Patterns have other numbers of subscribers now.
    pub(super) fn interest(&self, changes: Vec<InterestChange>) {
        let mut inner = self.lock();
        for InterestChange { namespace, selector, group, subscribers } in changes {
            inner.interest.insert((namespace, selector, group), subscribers);
        }
        inner.wake();
    }

    /// Says something, on the stream there is. False when there is none.
    pub(super) fn say(
        &self,
        request: Request,
        bytes: usize,
        call: Option<u64>,
    ) -> Result<bool, Full> {
        let mut inner = self.lock();
        if !inner.open {
            return Ok(false);
        }
        if inner.queued_bytes + bytes > QUEUED_BYTES_MAX || inner.queued.len() >= 2 * CALLS_MAX {
            return Err(Full);
        }
        inner.queued_bytes += bytes;
        inner.queued.push_back(Queued { request, bytes, call });
        inner.wake();
        Ok(true)
    }

    /// Takes a call's request back; whether the stream has taken it before.
    pub(super) fn withdraw(&self, call: u64) -> bool {
        let mut inner = self.lock();
        if inner.sent.remove(&call) {
            return true;
        }
        if let Some(at) = inner.queued.iter().position(|queued| queued.call == Some(call))
            && let Some(queued) = inner.queued.remove(at)
        {
            inner.queued_bytes -= queued.bytes;
        }
        false
    }

    /// A call was answered.
    pub(super) fn answered(&self, call: u64) {
        self.lock().sent.remove(&call);
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn message(&mut self) -> Vec<peer::AsideRequest> {
        let mut requests = Vec::new();
        let mut bytes = 0;
        // First, because a subscription that follows counts on it.
        while requests.len() < MESSAGE_REQUESTS
            && bytes < MESSAGE_BYTES
            && let Some(((namespace, selector, group), subscribers)) = self.interest.pop_first()
        {
            bytes += namespace.len() + selector.text().len();
            let change = InterestChange { namespace, selector, group, subscribers };
            requests.push(Request::BusInterest(wire::bus::interest_out(&change)));
        }
        while self.interest.is_empty()
            && requests.len() < MESSAGE_REQUESTS
            && bytes < MESSAGE_BYTES
            && let Some(queued) = self.queued.pop_front()
        {
            bytes += queued.bytes;
            self.queued_bytes -= queued.bytes;
            self.sent.extend(queued.call);
            requests.push(queued.request);
        }
        let wrapped = requests.into_iter();
        wrapped.map(|request| peer::AsideRequest { request: Some(request) }).collect()
    }
}

/// Messages for one stream: what is there when it can take one, together.
pub(super) struct Requests {
    outgoing: Outgoing,
    stream: u64,
    first: Option<peer::AsideOpen>,
}

impl Stream for Requests {
    type Item = peer::AsideUp;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            let request = Some(Request::Open(first));
            return Poll::Ready(Some(peer::AsideUp {
                requests: vec![peer::AsideRequest { request }],
            }));
        }
        let mut inner = self.outgoing.lock();
        if !inner.open || inner.stream != self.stream {
            return Poll::Ready(None);
        }
        let requests = inner.message();
        if requests.is_empty() {
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(peer::AsideUp { requests }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, StreamExt as _};

    fn publish(id: u64) -> Request {
        Request::BusPublish(peer::BusPublish { id, ..Default::default() })
    }

    fn row(pattern: &str, subscribers: u64) -> Vec<InterestChange> {
        let selector = Selector::parse(pattern).unwrap();
        vec![InterestChange { namespace: "".into(), selector, group: None, subscribers }]
    }

    fn next(requests: &mut Requests) -> Option<Vec<Request>> {
        let up = requests.next().now_or_never()?.expect("the stream is open");
        Some(up.requests.into_iter().filter_map(|request| request.request).collect())
    }

    #[test]
    fn interest_goes_before_what_counts_on_it_and_only_as_it_is_now() {
        let outgoing = Outgoing::default();
        outgoing.interest(row("a", 1));
        let mut requests = outgoing.open(peer::AsideOpen::default());
        assert!(matches!(next(&mut requests).unwrap()[..], [Request::Open(_)]));
        assert_eq!(outgoing.say(publish(1), 10, Some(1)), Ok(true));
        outgoing.interest(row("a", 2));
        let said = next(&mut requests).unwrap();
        assert!(
            matches!(&said[..], [Request::BusInterest(interest), Request::BusPublish(_)]
                if interest.subscribers == 2),
            "{said:?}"
        );
        assert!(next(&mut requests).is_none());
    }

    #[test]
    fn what_the_stream_has_not_taken_was_not_sent() {
        let outgoing = Outgoing::default();
        assert_eq!(outgoing.say(publish(1), 10, Some(1)), Ok(false), "there is no stream");
        let mut requests = outgoing.open(peer::AsideOpen::default());
        next(&mut requests);
        outgoing.say(publish(2), 10, Some(2)).unwrap();
        next(&mut requests);
        outgoing.say(publish(3), 10, Some(3)).unwrap();
        assert!(outgoing.withdraw(2), "it was sent");
        assert!(!outgoing.withdraw(3), "it was not");
        assert!(next(&mut requests).is_none(), "and will not be");
        outgoing.say(publish(4), QUEUED_BYTES_MAX, Some(4)).unwrap();
        assert_eq!(outgoing.say(publish(5), 1, Some(5)), Err(Full));
        assert!(outgoing.close().is_empty());
        assert_eq!(outgoing.lock().queued_bytes, 0);
        assert!(requests.next().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_message_is_bounded() {
        let outgoing = Outgoing::default();
        let mut requests = outgoing.open(peer::AsideOpen::default());
        next(&mut requests);
        for id in 0..5 {
            outgoing.say(publish(id), MESSAGE_BYTES / 2, Some(id)).unwrap();
        }
        assert_eq!(next(&mut requests).unwrap().len(), 2);
        for id in 0..5_000 {
            outgoing.interest(row(&format!("p{id}"), 1));
        }
        assert_eq!(next(&mut requests).unwrap().len(), MESSAGE_REQUESTS);
    }
}
