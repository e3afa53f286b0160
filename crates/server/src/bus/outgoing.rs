//! What this node has to say to the leader, in order, until the stream takes it.
//!
//! What was not taken by the stream was certainly not sent; that is what tells a publisher whose
//! message can be sent again from one whose message may have been published. Bounded by calls and
//! bytes; what a subscription changes is kept as the newest count of each pattern, and so bounded by
//! the subscriptions themselves. A change that was sent is kept until the leader has answered something
//! behind it: a stream that breaks may have lost it, and the next one may go on where that one was.

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

/// Changes of interest that were sent and are kept. Beyond it they are not, and the next stream begins
/// anew, at which everything is said again.
const UNHEARD_MAX: usize = 16_384;

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
    unheard: Unheard,
    queued: VecDeque<Queued>,
    queued_bytes: usize,
    /// Calls whose requests the stream has taken.
    sent: BTreeSet<u64>,
    waker: Option<Waker>,
}

/// Changes of interest that the stream has taken, and of which nobody knows whether the leader has them.
#[derive(Default)]
struct Unheard {
    /// Those before `call`.
    before: BTreeMap<Row, u64>,
    /// Its answer says that the leader has had them.
    call: Option<u64>,
    behind: BTreeMap<Row, u64>,
    /// There were too many to keep.
    too_many: bool,
}

impl Unheard {
    fn took(&mut self, row: Row, subscribers: u64) {
        self.behind.insert(row, subscribers);
        if self.before.len() + self.behind.len() > UNHEARD_MAX {
            *self = Self { too_many: true, ..Self::default() };
        }
    }

    fn took_call(&mut self, call: u64) {
        if self.call.is_none() && !self.behind.is_empty() {
            self.call = Some(call);
            self.before.append(&mut self.behind);
        }
    }

    fn answered(&mut self, call: u64) {
        if self.call == Some(call) {
            self.call = None;
            self.before.clear();
        }
    }

    /// All that were kept, as they are to be said again.
    fn take(&mut self) -> BTreeMap<Row, u64> {
        self.call = None;
        let mut all = std::mem::take(&mut self.before);
        all.append(&mut self.behind);
        all
    }
}

/// The way to the leader is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a stream, whose first request is this; the one before takes nothing any more.
    pub(super) fn open(&self, mut first: peer::AsideOpen) -> Requests {
        let mut inner = self.lock();
        inner.stream += 1;
        inner.open = true;
        for (row, subscribers) in inner.unheard.take() {
            // What has changed since is newer.
            inner.interest.entry(row).or_insert(subscribers);
        }
        if inner.unheard.too_many {
            first.resume = None;
        }
        inner.wake();
        Requests { outgoing: self.clone(), stream: inner.stream, first: Some(first) }
    }

    /// The stream is over. Answers which of the calls without an answer it has taken; the others it
    /// never will. Changes of interest stay, for the next, which says those again that may be lost.
    pub(super) fn close(&self) -> BTreeSet<u64> {
        let mut inner = self.lock();
        inner.open = false;
        inner.queued.clear();
        inner.queued_bytes = 0;
        inner.wake();
        std::mem::take(&mut inner.sent)
    }

    /// The stream goes on nowhere: the leader knows of nothing, and is told everything.
    pub(super) fn begins_anew(&self, everything: Vec<InterestChange>) {
        self.lock().unheard = Unheard::default();
        self.interest(everything);
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

    /// Nobody waits for a call any more.
    pub(super) fn answered(&self, call: u64) {
        self.lock().sent.remove(&call);
    }

    /// The leader has answered a call: it has had all that was sent before.
    pub(super) fn heard(&self, call: u64) {
        self.lock().unheard.answered(call);
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
            let row = (Arc::clone(&namespace), selector.clone(), group.clone());
            self.unheard.took(row, subscribers);
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
            if let Some(call) = queued.call {
                self.sent.insert(call);
                self.unheard.took_call(call);
            }
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

    fn interest_said(requests: &mut Requests) -> Vec<(String, u64)> {
        let said = next(requests).unwrap_or_default().into_iter();
        let interest = |request| match request {
            Request::BusInterest(interest) => Some((interest.pattern, interest.subscribers)),
            _ => None,
        };
        said.filter_map(interest).collect()
    }

    /// The simulation found it: a stream broke that had taken what a subscription wanted, the next one
    /// went on where that one was, and the subscription was confirmed and heard nothing for ever.
    #[test]
    fn interest_that_may_have_been_lost_with_a_stream_is_said_again_on_the_next() {
        let outgoing = Outgoing::default();
        let place = Some(peer::BusPlace { epoch: 1, position: 7 });
        let open = || outgoing.open(peer::AsideOpen { resume: place });
        let mut requests = open();
        next(&mut requests);
        outgoing.interest(row("a", 1));
        assert_eq!(outgoing.say(publish(1), 10, Some(1)), Ok(true));
        assert_eq!(interest_said(&mut requests), [("a".to_owned(), 1)]);
        outgoing.interest(row("b", 1));
        assert_eq!(interest_said(&mut requests), [("b".to_owned(), 1)]);
        outgoing.heard(1);
        // The leader has had the first, since it has answered what came behind it.
        outgoing.interest(row("c", 1));
        assert_eq!(interest_said(&mut requests), [("c".to_owned(), 1)]);
        outgoing.close();
        outgoing.interest(row("c", 0));
        let mut requests = open();
        next(&mut requests);
        let again = interest_said(&mut requests);
        assert_eq!(again, [("b".to_owned(), 1), ("c".to_owned(), 0)], "as it is now");
    }

    #[test]
    fn a_stream_after_one_that_took_more_than_is_kept_begins_anew() {
        let outgoing = Outgoing::default();
        let place = Some(peer::BusPlace { epoch: 1, position: 7 });
        let mut requests = outgoing.open(peer::AsideOpen { resume: place });
        assert!(matches!(&next(&mut requests).unwrap()[..],
            [Request::Open(open)] if open.resume == place));
        for id in 0..=UNHEARD_MAX {
            outgoing.interest(row(&format!("p{id}"), 1));
        }
        while next(&mut requests).is_some() {}
        outgoing.close();
        // The first may come to nothing.
        for resume in [None, None, place] {
            let mut requests = outgoing.open(peer::AsideOpen { resume: place });
            assert!(matches!(&next(&mut requests).unwrap()[..],
                [Request::Open(open)] if open.resume == resume));
            outgoing.close();
            if resume.is_none() && outgoing.lock().stream == 3 {
                outgoing.begins_anew(row("a", 1));
            }
        }
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
