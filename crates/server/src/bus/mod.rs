//! The bus of a node: what its clients publish goes to the leader, what the leader numbered comes to
//! those who subscribe here.
//!
//! ```text
//!  publish, subscribe ──► Outgoing ──► the stream to the leader ──► leading::Leading
//!                                                                        │
//!  subscribers ◄── outboxes ◄── Router ◄── Link::follow ◄── the stream ◄─┘
//! ```
//!
//! The leader's own clients go the same way, over a stream that needs no network. Routing itself is
//! in `quorate-bus`; here are the tasks, the calls that wait, and what happens when a stream breaks:
//! a message that was certainly not sent is sent to the next leader; of any other nobody knows
//! whether it was published, and its publisher is told so.

mod leading;
mod link;
mod outgoing;
mod subscription;

pub(crate) use leading::Leading;
pub(crate) use subscription::{Begin, Ended, Subscription};

use crate::metrics::Counters;
use crate::wire;
use link::{Link, Listed, Waiting};
use outgoing::{Full, Outgoing};
use quorate_bus::{Content, Place, Router, RouterLimits};
use quorate_consensus::{Failure, Reason, Replica, runtime};
use quorate_proto::peer::{self, aside_request::Request};
use quorate_state::NodeId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Requests of this node's clients that wait for an answer.
const REQUESTS_MAX: usize = 16_384;
/// Subscriptions of a node. One takes about 2 KiB, and what its buffer holds.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 50_000;
/// How long to wait before a stream is opened anew when nothing says that anything changed.
const PAUSE: Duration = Duration::from_millis(25);
/// Without a leader for this long subscriptions are ended, so that they go on elsewhere.
pub(crate) const NO_LEADER_MAX: Duration = Duration::from_secs(15);

/// The bus, as the services see it. Clones are the same.
#[derive(Clone)]
pub(crate) struct Bus(Arc<Shared>);

struct Shared {
    replica: Replica,
    counters: Arc<Counters>,
    stop: CancellationToken,
    outgoing: Outgoing,
    local: Mutex<Local>,
    /// Any number: tells this process's requests from those of an earlier one.
    boot: u64,
    last_id: AtomicU64,
}

/// What waits on this node.
struct Local {
    router: Router,
    streams: BTreeMap<quorate_bus::SubscriptionId, Arc<subscription::Stream>>,
    /// Calls that wait for the leader's word.
    calls: BTreeMap<u64, Waiting>,
    /// Requests that wait for an answer.
    requests: BTreeMap<u64, oneshot::Sender<Content>>,
    /// Whether the leader has answered the stream there is.
    linked: bool,
}

/// What messages came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// Of the first; those of the others follow it.
    pub(crate) place: Place,
    pub(crate) sequence: u64,
    pub(crate) nodes: u32,
    pub(crate) subscribers: u64,
    /// Of each message behind the first.
    pub(crate) rest: Vec<peer::BusPublishedNext>,
}

/// Messages to be published, checked: one, and those that go right behind it.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) namespace: String,
    pub(crate) channel: String,
    pub(crate) content: peer::BusContent,
    pub(crate) rest: Vec<peer::BusPublishNext>,
}

/// Where an answer to a message goes: a text that means nothing to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) node: NodeId,
    boot: u64,
    id: u64,
}

impl ReplyTo {
    pub(crate) fn text(self) -> bytes::Bytes {
        format!("{:x}.{:x}.{:x}", self.node.0, self.boot, self.id).into()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split('.');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let to = Self { node: NodeId(number()?), boot: number()?, id: number()? };
        parts.next().is_none().then_some(to)
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Nobody subscribes to the channel.
    NoSubscribers,
    /// Nobody answered in time.
    NoReply,
    /// It was not published, or nobody knows.
    Failed(Failure),
}

impl Bus {
    pub(crate) fn new(replica: Replica, counters: Arc<Counters>, stop: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            replica,
            counters,
            stop,
            outgoing: Outgoing::default(),
            local: Mutex::new(Local {
                router: Router::new(RouterLimits::default()),
                streams: BTreeMap::new(),
                calls: BTreeMap::new(),
                requests: BTreeMap::new(),
                linked: false,
            }),
            boot: runtime::random_u64(),
            last_id: AtomicU64::new(0),
        }))
    }

    /// Keeps the stream to the leader, until the server stops.
    pub(crate) async fn follow(self) {
        Link(self).follow().await;
    }

    /// Tells the leader, now or never, which entries of the cache were read here.
    pub(crate) fn tell_cache_reads(&self, hashes: Vec<u64>) {
        let bytes = 8 * hashes.len();
        let reads = Request::CacheReads(peer::CacheReads { hashes });
        // Without a leader, or with too much on the way, the sample is lost: it is one.
        let _ = self.0.outgoing.say(reads, bytes, None);
    }

    /// Publishes messages, all or none. They are on their way when this returns, behind all that were
    /// before; what it returns waits for their numbers.
    pub(crate) fn publish(
        &self,
        publish: Publish,
        deadline: Instant,
    ) -> impl Future<Output = Result<Published, Failure>> + Send + use<> {
        self.publish_for(publish, bytes::Bytes::new(), deadline)
    }

    fn publish_for(
        &self,
        publish: Publish,
        reply_to: bytes::Bytes,
        deadline: Instant,
    ) -> impl Future<Output = Result<Published, Failure>> + Send + use<> {
        let first = self.try_publish(&publish, &reply_to);
        let bus = self.clone();
        async move {
            let published =
                bus.ask(first, || bus.try_publish(&publish, &reply_to), deadline).await?;
            match published.rest.len() == publish.rest.len() {
                true => Ok(published),
                false => Err(Failure {
                    unknown: true,
                    reason: Reason::FeatureLevel,
                    message:
                        "the leader's version can't publish several messages at once, and has \
                              published the first alone; upgrade it, or publish one by one"
                            .to_owned(),
                }),
            }
        }
    }

    fn try_publish(
        &self,
        publish: &Publish,
        reply_to: &bytes::Bytes,
    ) -> Result<Call<Published>, Failure> {
        self.call(Waiting::Publish, |id| {
            let publish = peer::BusPublish {
                id,
                namespace: publish.namespace.clone(),
                channel: publish.channel.clone(),
                content: Some(publish.content.clone()),
                reply_to: reply_to.clone(),
                rest: publish.rest.clone(),
            };
            let bytes = wire::bus::publish_bytes(&publish);
            (Request::BusPublish(publish), bytes)
        })
    }

    /// Publishes a message and waits for the first answer to it.
    ///
    /// # Cancel safety
    /// Nothing is left behind when it is dropped; the message may have been published.
    pub(crate) async fn request(
        &self,
        publish: Publish,
        deadline: Instant,
    ) -> Result<Content, Unanswered> {
        let id = self.0.next_id();
        let (answer, answered) = oneshot::channel();
        {
            let mut local = self.0.local();
            if local.requests.len() >= REQUESTS_MAX {
                return Err(Unanswered::Failed(overloaded(format!(
                    "{REQUESTS_MAX} requests of this node wait for answers already"
                ))));
            }
            local.requests.insert(id, answer);
            self.0.counters.bus.requests.enter();
        }
        let _forget = ForgetRequest(&self.0, id);
        let reply_to = ReplyTo { node: self.0.replica.node_id(), boot: self.0.boot, id }.text();
        let published = self.publish_for(publish, reply_to, deadline).await;
        if published.map_err(Unanswered::Failed)?.subscribers == 0 {
            return Err(Unanswered::NoSubscribers);
        }
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(content)) => Ok(content),
            Ok(Err(_)) | Err(_) => Err(Unanswered::NoReply),
        }
    }

    /// Answers a message; whether its sender waited for it still.
    ///
    /// # Cancel safety
    /// The answer may have been given when it is dropped.
    pub(crate) async fn reply(
        &self,
        reply_to: bytes::Bytes,
        content: peer::BusContent,
        deadline: Instant,
    ) -> Result<bool, Failure> {
        let bytes = content.payload.len() + 256;
        let call = || {
            self.call(Waiting::Reply, |id| {
                let (reply_to, content) = (reply_to.clone(), Some(content.clone()));
                (Request::BusReply(peer::BusReply { id, reply_to, content }), bytes)
            })
        };
        self.ask(call(), call, deadline).await
    }

    /// A page of what is subscribed to, as the leader knows it.
    pub(crate) async fn list(
        &self,
        list: peer::BusList,
        deadline: Instant,
    ) -> Result<Listed, Failure> {
        let call = || {
            self.call(Waiting::List, |id| {
                (Request::BusList(peer::BusList { id, ..list.clone() }), 128)
            })
        };
        let listed = self.ask(call(), call, deadline).await;
        // It changes nothing.
        listed.map_err(|failure| Failure { unknown: false, ..failure })
    }

    /// What a call comes to, which is made again, of whoever leads then, as long as it certainly had no
    /// effect.
    async fn ask<T>(
        &self,
        first: Result<Call<T>, Failure>,
        again: impl Fn() -> Result<Call<T>, Failure>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let mut attempt = first;
        loop {
            let answer = match attempt {
                Ok(call) => self.answer(call, deadline).await,
                Err(failure) => Err(failure),
            };
            let failure = match answer {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if failure.unknown || failure.reason == Reason::Overloaded {
                return Err(failure);
            }
            self.pause(deadline, failure).await?;
            attempt = again();
        }
    }

    /// Says something to the leader that it answers.
    fn call<T>(
        &self,
        waiting: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Waiting,
        request: impl FnOnce(u64) -> (Request, usize),
    ) -> Result<Call<T>, Failure> {
        let id = self.0.next_id();
        let (reply, answer) = oneshot::channel();
        let mut local = self.0.local();
        if !local.linked {
            return Err(no_link());
        }
        if local.calls.len() >= outgoing::CALLS_MAX {
            return Err(overloaded(format!(
                "{} calls of this node wait for the leader already",
                outgoing::CALLS_MAX
            )));
        }
        let (request, bytes) = request(id);
        match self.0.outgoing.say(request, bytes, Some(id)) {
            Ok(true) => {
                local.calls.insert(id, waiting(reply));
                Ok(Call { id, answer })
            }
            Ok(false) => Err(no_link()),
            Err(Full) => Err(overloaded("too many messages wait for the leader".to_owned())),
        }
    }

    /// What a call came to.
    async fn answer<T>(&self, call: Call<T>, deadline: Instant) -> Result<T, Failure> {
        let forget = ForgetCall(&self.0, call.id);
        match tokio::time::timeout_at(deadline, call.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure {
                unknown: true,
                reason: Reason::ShuttingDown,
                message: "this node is stopping".to_owned(),
            }),
            Err(_) => {
                let sent = self.0.outgoing.withdraw(call.id);
                drop(forget);
                Err(Failure {
                    unknown: sent,
                    reason: Reason::Deadline,
                    message: "the leader did not answer before the deadline".to_owned(),
                })
            }
        }
    }

    /// Waits for a moment, or gives up with what is known.
    async fn pause(&self, deadline: Instant, failure: Failure) -> Result<(), Failure> {
        let again = Instant::now() + PAUSE;
        if again >= deadline || self.0.stop.is_cancelled() {
            return Err(failure);
        }
        tokio::time::sleep_until(again).await;
        Ok(())
    }
}

impl Shared {
    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Somebody answered a request that was made here; whether it was waited for.
    fn replied(&self, reply_to: &[u8], content: peer::BusContent) -> bool {
        let Some(to) = ReplyTo::parse(reply_to).filter(|to| to.boot == self.boot) else {
            return false;
        };
        let waits = self.local().requests.remove(&to.id);
        waits.is_some_and(|waits| waits.send(wire::bus::content_in(content, None)).is_ok())
    }
}

/// A call that waits for the leader's word.
struct Call<T> {
    id: u64,
    answer: oneshot::Receiver<Result<T, Failure>>,
}

/// Removes a call nobody waits for.
struct ForgetCall<'a>(&'a Shared, u64);

impl Drop for ForgetCall<'_> {
    fn drop(&mut self) {
        self.0.local().calls.remove(&self.1);
        self.0.outgoing.answered(self.1);
    }
}

/// Removes a request nobody waits for.
struct ForgetRequest<'a>(&'a Shared, u64);

impl Drop for ForgetRequest<'_> {
    fn drop(&mut self) {
        self.0.local().requests.remove(&self.1);
        self.0.counters.bus.requests.leave();
    }
}

fn no_link() -> Failure {
    Failure {
        unknown: false,
        reason: Reason::NoLeader,
        message: "this node has no connection to a leader; a majority of the nodes must run and \
                  reach each other (quorate cluster status)"
            .to_owned(),
    }
}

fn overloaded(message: String) -> Failure {
    Failure { unknown: false, reason: Reason::Overloaded, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_answer_goes_survives_the_way_and_nothing_else_is_taken_for_it() {
        let to = ReplyTo { node: NodeId(3), boot: 7, id: u64::MAX };
        assert_eq!(ReplyTo::parse(&to.text()), Some(to));
        for wrong in [&b""[..], b"reply", b"1.2", b"1.2.3.4", b"1.2.x", b"1..3", &[0xff; 24]] {
            assert_eq!(ReplyTo::parse(wrong), None);
        }
    }
}
