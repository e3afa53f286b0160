//! A subscription that has begun: messages in order, whatever becomes of the nodes.

use super::message::{BusEvent, Message};
use super::subscribe::{Overflow, Subscribe};
use crate::Error;
use crate::failure::Failure;
use crate::incoming::Incoming;
use crate::retry;
use futures::Stream;
use futures::future::BoxFuture;
use quorate_proto::v1::{BusPlace, BusSubscribeResponse, bus_item::Item};
use std::collections::VecDeque;
use std::fmt;

/// The first message of a stream, and the rest of it.
pub(super) type Begun = (BusSubscribeResponse, Incoming<BusSubscribeResponse>);

/// Where the messages come from.
enum Node {
    /// From this stream. A node that is frozen, or cut off, does not answer the connection's pings;
    /// that nothing is published is no sign of one.
    Open(Box<Incoming<BusSubscribeResponse>>),
    /// From one that is being looked for. It goes on where it was when the subscription is asked
    /// again.
    Wanted(BoxFuture<'static, Result<Begun, Error>>),
}

/// Epoch and position: the order of all messages.
type Place = (u64, u64);

/// A subscription that has begun.
///
/// It is active already: messages that are published before the first [`Subscription::next`], or
/// between two, wait at its node, in a buffer of bounded size, and beyond that become a gap, or end
/// it ([`Overflow`]). Who reads nothing for 30 s while something waits is cut off there; it goes on
/// with the next call then, behind a gap, unless it is to be disconnected.
///
/// When its node fails it goes on at another one, by itself. What was published meanwhile is not
/// sent again; it is told as a gap. A message never comes twice, none comes after a later one, and
/// none is missing without a gap.
///
/// # Dropping it
/// ends it: its node forgets it, and what waits there.
pub struct Subscription {
    asked: Subscribe,
    /// Everything up to here was taken in, or is part of a gap.
    place: Option<Place>,
    /// Taken in, and not handed out yet: of one message of the stream.
    events: VecDeque<BusEvent>,
    node: Node,
    /// Nodes that failed since the last message of a stream.
    failures: u32,
    over: bool,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("asked", &self.asked)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    pub(super) fn new(asked: Subscribe, (first, stream): Begun) -> Result<Self, Error> {
        let mut new = Self {
            asked,
            place: None,
            events: VecDeque::new(),
            node: Node::Open(Box::new(stream)),
            failures: 0,
            over: false,
        };
        new.take(first)?;
        Ok(new)
    }

    /// The next message, or that some are missing; waits for it. None after an error.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] with the reason `SLOW_SUBSCRIBER` when it was too slow and is to
    /// be disconnected then; [`Error::Unavailable`] when no node could be found to go on with in time.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<BusEvent, Error>> {
        if self.over {
            return None;
        }
        let event = self.event().await;
        self.over = event.is_err();
        Some(event)
    }

    /// As a stream of what [`Subscription::next`] answers.
    pub fn into_stream(self) -> impl Stream<Item = Result<BusEvent, Error>> + Send + use<> {
        futures::stream::unfold(self, |mut subscription| async {
            let next = subscription.next().await?;
            Some((next, subscription))
        })
    }

    async fn event(&mut self) -> Result<BusEvent, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let stream = match &mut self.node {
                Node::Open(stream) => stream,
                Node::Wanted(wanted) => {
                    let (first, stream) = wanted.await?;
                    self.node = Node::Open(Box::new(stream));
                    tracing::debug!(place = ?self.place, "a subscription goes on");
                    if self.place.is_none() {
                        // It could not say behind what to go on, so nobody counts what is missing.
                        self.events.push_back(BusEvent::Gap { missed: None });
                    }
                    self.take(first)?;
                    continue;
                }
            };
            match stream.message().await {
                Ok(Some(message)) => {
                    self.failures = 0;
                    self.take(message)?;
                }
                Ok(None) => self.broken("the stream ended"),
                Err(status) => {
                    let failure = Failure::from_status("the node", &status, false);
                    let goes_on = match failure.reason.as_str() {
                        "SLOW_SUBSCRIBER" => self.asked.overflow == Overflow::DropOldest,
                        _ => failure.is_worth_retrying(),
                    };
                    if !goes_on {
                        return Err(failure.into());
                    }
                    self.broken(&failure.message);
                }
            }
        }
    }

    fn broken(&mut self, why: &str) {
        let place = self.place;
        tracing::debug!(why, ?place, "a subscription broke; it goes on at another node");
        // The first time it hardly waits: another node is likely to do better at once.
        let pause = retry::backoff(self.failures, &self.asked.bus.inner.engine.random);
        self.failures = self.failures.saturating_add(1);
        let place = place.map(|(epoch, position)| BusPlace { epoch, position });
        self.node = Node::Wanted(Box::pin(self.asked.clone().go_on(place, pause)));
    }

    /// Takes a message of the stream in. What is not behind everything before it is passed over: it
    /// came already, or is of a leader that is none any more.
    fn take(&mut self, message: BusSubscribeResponse) -> Result<(), Error> {
        let BusSubscribeResponse { items, place } = message;
        for item in items {
            match item.item {
                Some(Item::Message(message)) => {
                    if self.goes_to((message.epoch, message.position)) {
                        let message = Message::new(&self.asked.bus, message);
                        self.events.push_back(BusEvent::Message(message));
                    }
                }
                Some(Item::Gap(gap)) => {
                    self.events.push_back(BusEvent::Gap { missed: gap.missed });
                }
                None => {
                    return Err(Error::bad_answer(
                        "a subscription was told something of an unknown kind".to_owned(),
                    ));
                }
            }
        }
        if let Some(BusPlace { epoch, position }) = place {
            self.goes_to((epoch, position));
        }
        Ok(())
    }

    /// Goes on to a place; false when it is there already, or further.
    fn goes_to(&mut self, place: Place) -> bool {
        // None is before all.
        let further = self.place < Some(place);
        if further {
            self.place = Some(place);
        }
        further
    }
}
