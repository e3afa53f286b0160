//! One subscription of a client of this node, until it is dropped.

use super::link::{Subscribing, Waiting};
use super::{Bus, PAUSE, SUBSCRIPTIONS_MAX, Shared, no_link, overloaded};
use crate::wire;
use quorate_bus::{Item, Outbox, OutboxOptions, Place, Selector, SubscriptionId};
use quorate_consensus::{Failure, Reason};
use quorate_proto::peer::{self, aside_request::Request};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Items handed out at once.
const ITEMS_MAX: usize = 256;
/// Bytes of messages handed out at once, and one message more.
const ITEMS_BYTES: usize = 256 << 10;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) namespace: String,
    pub(crate) selectors: Vec<Selector>,
    pub(crate) group: Option<String>,
    pub(crate) options: OutboxOptions,
    /// Where it goes on; none: it begins anew.
    pub(crate) resume: Option<Place>,
}

/// Why a subscription is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There was no leader for too long.
    NoLeader,
    /// The node stops.
    Stopping,
    /// Its buffer was full, and it was to end then.
    Slow,
}

/// What the stream of a subscription waits for beside messages.
#[derive(Debug, Default)]
pub(super) struct Stream {
    woken: Notify,
    ended: Mutex<Option<Ended>>,
}

/// A subscription that has begun.
pub(crate) struct Subscription {
    bus: Bus,
    id: SubscriptionId,
    outbox: Arc<Outbox>,
    stream: Arc<Stream>,
}

impl Shared {
    /// Ends all subscriptions there are.
    pub(super) fn end_all(&self, why: Ended) {
        for stream in self.local().streams.values() {
            stream.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
            stream.woken.notify_one();
        }
    }
}

impl Bus {
    /// Subscribes: once it returns, what is published comes.
    ///
    /// # Errors
    /// When the leader has not confirmed it before the deadline, or there are too many.
    ///
    /// # Cancel safety
    /// Nothing is left behind when it is dropped.
    pub(crate) async fn subscribe(
        &self,
        begin: Begin,
        deadline: Instant,
    ) -> Result<Subscription, Failure> {
        let Begin { namespace, selectors, group, options, resume } = begin;
        let subscription = {
            let mut local = self.0.local();
            if local.streams.len() >= SUBSCRIPTIONS_MAX {
                return Err(overloaded(format!(
                    "there are {SUBSCRIPTIONS_MAX} subscriptions on this node already; use another \
                     node"
                )));
            }
            let begun = local.router.subscribe(&namespace, &selectors, group.as_deref(), options);
            let begun = begun.map_err(|refusal| overloaded(refusal.to_string()))?;
            let stream = Arc::<Stream>::default();
            local.streams.insert(begun.id, Arc::clone(&stream));
            self.0.outgoing.interest(begun.changes);
            self.0.counters.bus.subscriptions.enter();
            Subscription { bus: self.clone(), id: begun.id, outbox: begun.outbox, stream }
        };
        let subscribe = peer::BusSubscribe {
            id: 0,
            resume: resume.map(wire::bus::place_out),
            namespace,
            patterns: match resume {
                Some(_) => selectors.iter().map(|selector| selector.text().to_owned()).collect(),
                None => Vec::new(),
            },
            in_group: group.is_some(),
        };
        loop {
            let failure = match self.confirm(&subscription, subscribe.clone()) {
                Ok(confirmed) => match tokio::time::timeout_at(deadline, confirmed).await {
                    Ok(Ok(Ok(()))) => return Ok(subscription),
                    Ok(Ok(Err(failure))) => failure,
                    Ok(Err(_)) | Err(_) => no_link(),
                },
                Err(failure) => failure,
            };
            // It changes nothing but what comes to it, so it is never unknown.
            let failure = Failure { unknown: false, ..failure };
            if Instant::now() + PAUSE >= deadline || failure.reason == Reason::Overloaded {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn confirm(
        &self,
        subscription: &Subscription,
        subscribe: peer::BusSubscribe,
    ) -> Result<oneshot::Receiver<Result<(), Failure>>, Failure> {
        let bytes = 64 + subscribe.patterns.iter().map(String::len).sum::<usize>();
        let subscribing = Subscribing {
            id: subscription.id,
            outbox: Arc::clone(&subscription.outbox),
            resumes: subscribe.resume.is_some(),
        };
        let call = self.call(
            |reply| Waiting::Subscribe(subscribing, reply),
            |id| (Request::BusSubscribe(peer::BusSubscribe { id, ..subscribe }), bytes),
        )?;
        Ok(call.answer)
    }
}

impl Subscription {
    /// What has come, in order, at most a message's worth; waits for something to come. Nothing: the
    /// time to say how far it is came first.
    ///
    /// # Errors
    /// Why it is over, after all that came before.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped before it resolves.
    pub(crate) async fn next(&mut self, say_place: Instant) -> Result<Vec<Item>, Ended> {
        let counters = &self.bus.0.counters.bus;
        let taking =
            std::future::poll_fn(|context| self.outbox.poll_take(context, ITEMS_BYTES, ITEMS_MAX));
        tokio::select! {
            biased;
            taken = taking => match taken {
                Ok(items) => {
                    counters.delivered.add(items.len() as u64);
                    let gaps = items.iter().filter(|item| matches!(item, Item::Gap(_)));
                    counters.gaps.add(gaps.count() as u64);
                    Ok(items)
                }
                Err(_) => {
                    counters.slow_cut.count();
                    Err(Ended::Slow)
                }
            },
            ended = self.stream.ended() => Err(ended),
            () = tokio::time::sleep_until(say_place) => Ok(Vec::new()),
        }
    }

    /// Everything up to here was handed out, or told as a gap.
    pub(crate) fn place(&self) -> Place {
        self.outbox.position().unwrap_or_default()
    }
}

impl Stream {
    /// Waits until it is ended.
    async fn ended(&self) -> Ended {
        loop {
            if let Some(why) = *self.ended.lock().unwrap_or_else(PoisonError::into_inner) {
                return why;
            }
            self.woken.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut local = self.bus.0.local();
        local.streams.remove(&self.id);
        let changes = local.router.unsubscribe(self.id);
        self.bus.0.outgoing.interest(changes);
        self.bus.0.counters.bus.subscriptions.leave();
    }
}
