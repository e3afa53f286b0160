//! A subscriber's bounded queue, between the router that fills it and the task that empties it.

use crate::{Epoch, Message, Place, Position};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use thiserror::Error;

/// Items for which an empty queue keeps room: one that was long once does not stay large.
const ITEMS_KEPT: usize = 64;

/// How much a queue holds, and what happens beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxOptions {
    /// Messages at most; at least one.
    pub messages_max: usize,
    /// Bytes at most, as [`Message::counted_bytes`] counts them.
    pub bytes_max: usize,
    /// What happens when a message does not fit.
    pub policy: SlowPolicy,
}

/// What happens to a subscriber that does not keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowPolicy {
    /// The oldest messages make room, and a gap stands where they were.
    #[default]
    DropOldest,
    /// It is over. What is in the queue can still be taken.
    Disconnect,
}

/// Why nothing comes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Closed {
    /// The queue was full, and it was asked to end then.
    #[error("the subscriber was too slow")]
    SlowSubscriber,
    /// The subscription was ended at the router.
    #[error("the subscription was ended")]
    Unsubscribed,
}

/// What a subscriber is handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A message that it asked for.
    Message(Message),
    /// Messages that it asked for and does not get.
    Gap(Gap),
}

/// Messages that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many; `None` when nobody knows, which may be none at all.
    pub missed: Option<u64>,
    /// All of them are up to here.
    pub through: Place,
}

impl Gap {
    fn merge(&mut self, later: Self) {
        self.missed = self.missed.zip(later.missed).map(|(a, b)| a.saturating_add(b));
        self.through = self.through.max(later.through);
    }
}

/// How far a router is with an epoch; shared by the queues of all subscriptions that follow it.
#[derive(Debug)]
pub(crate) struct Progress {
    epoch: Epoch,
    position: AtomicU64,
}

impl Progress {
    pub(crate) fn new(place: Place) -> Arc<Self> {
        let position = AtomicU64::new(place.position.0);
        Arc::new(Self { epoch: place.epoch, position })
    }

    pub(crate) fn place(&self) -> Place {
        Place::new(self.epoch, Position(self.position.load(Ordering::Acquire)))
    }

    /// Says that everything up to a position was put into the queues that follow.
    pub(crate) fn advance(&self, through: Position) {
        self.position.fetch_max(through.0, Ordering::Release);
    }
}

/// The queue. It is locked for a push or the taking of a batch, never while anybody waits.
///
/// A reader takes with [`Outbox::poll_take`], or takes when [`Outbox::push`] says that it may sleep.
#[derive(Debug)]
pub struct Outbox {
    options: OutboxOptions,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Two gaps never stand side by side, so there is at most one more of them than messages.
    items: VecDeque<Item>,
    messages: usize,
    bytes: usize,
    /// Everything up to here was taken, or is a gap that was taken.
    taken: Option<Place>,
    /// Who else moves that on while the queue is empty.
    follows: Option<Arc<Progress>>,
    closed: Option<Closed>,
    reader: Option<Waker>,
}

impl Outbox {
    /// An empty queue.
    #[must_use]
    pub fn new(options: OutboxOptions) -> Self {
        let messages_max = options.messages_max.max(1);
        Self { options: OutboxOptions { messages_max, ..options }, queue: Mutex::default() }
    }

    /// Adds a message. Says whether the reader may sleep and has to be woken: there was nothing to
    /// take before, and is now. A reader that polls is woken by this.
    pub fn push(&self, message: &Message) -> bool {
        let bytes = message.counted_bytes();
        let through = message.place();
        let mut queue = self.lock();
        if queue.closed.is_some() {
            return false;
        }
        let was_empty = queue.items.is_empty();
        if bytes > self.options.bytes_max {
            queue.add_gap(Gap { missed: Some(1), through });
        } else if self.fits(&queue, bytes) {
            queue.add(message, bytes);
        } else {
            match self.options.policy {
                SlowPolicy::Disconnect => queue.close(Closed::SlowSubscriber),
                SlowPolicy::DropOldest => {
                    while !self.fits(&queue, bytes) {
                        queue.drop_oldest();
                    }
                    queue.add(message, bytes);
                }
            }
        }
        wake(queue, was_empty)
    }

    /// Says that messages are missing behind what is in the queue; `missed` is `None` when it is not
    /// known how many. What it returns is what [`Outbox::push`] does.
    pub fn gap(&self, missed: Option<u64>, through: Place) -> bool {
        let mut queue = self.lock();
        if queue.closed.is_some() || missed == Some(0) {
            return false;
        }
        let was_empty = queue.items.is_empty();
        queue.add_gap(Gap { missed, through });
        wake(queue, was_empty)
    }

    /// Takes the oldest items: so many, and so many bytes, unless one alone has more.
    pub fn take(&self, bytes_max: usize, items_max: usize) -> Vec<Item> {
        self.lock().take(bytes_max, items_max)
    }

    /// Takes as [`Outbox::take`] does, or has the task woken when there is something.
    ///
    /// # Errors
    /// When nothing will come any more, and everything was taken.
    pub fn poll_take(
        &self,
        context: &Context<'_>,
        bytes_max: usize,
        items_max: usize,
    ) -> Poll<Result<Vec<Item>, Closed>> {
        let mut queue = self.lock();
        if !queue.items.is_empty() {
            return Poll::Ready(Ok(queue.take(bytes_max, items_max)));
        }
        if let Some(closed) = queue.closed {
            return Poll::Ready(Err(closed));
        }
        match &mut queue.reader {
            Some(reader) => reader.clone_from(context.waker()),
            reader => *reader = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Up to where everything was taken, or is missing by a gap that was taken: from here a client
    /// goes on elsewhere. `None` before the subscription is live.
    #[must_use]
    pub fn position(&self) -> Option<Place> {
        let queue = self.lock();
        let follows = queue.follows.as_ref().filter(|_| queue.items.is_empty());
        // What was passed before this was read is in the queue, which is locked, or was taken.
        queue.taken.max(follows.map(|progress| progress.place()))
    }

    /// What holds at any time.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let queue = self.lock();
        let mut sums = (0, 0);
        let mut after_gap = false;
        for item in &queue.items {
            if let Item::Message(message) = item {
                sums = (sums.0 + 1, sums.1 + message.counted_bytes());
            }
            let is_gap = matches!(item, Item::Gap(_));
            assert!(!(is_gap && after_gap), "two gaps side by side");
            after_gap = is_gap;
        }
        assert_eq!((queue.messages, queue.bytes), sums);
        assert!(queue.messages <= self.options.messages_max);
        assert!(queue.bytes <= self.options.bytes_max);
    }

    /// Ends it: nothing is added any more.
    pub fn close(&self, why: Closed) {
        let mut queue = self.lock();
        if queue.closed.is_none() {
            queue.close(why);
            wake(queue, true);
        }
    }

    /// Why nothing is added any more.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        self.lock().closed
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// Whether a message of this size could be added and nothing be lost.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let queue = self.lock();
        queue.closed.is_none() && self.fits(&queue, bytes)
    }

    /// It is live from a place on, and moves on with a router.
    pub(crate) fn follow(&self, start: Place, progress: Arc<Progress>) {
        let mut queue = self.lock();
        if queue.closed.is_none() {
            if queue.items.is_empty() {
                queue.taken = queue.taken.max(Some(start));
            }
            queue.follows = Some(progress);
        }
    }

    fn fits(&self, queue: &Queue, bytes: usize) -> bool {
        queue.messages < self.options.messages_max
            && queue.bytes.saturating_add(bytes) <= self.options.bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Keeps how far it is while it was empty, before it no longer is.
    fn settle(&mut self) {
        if let Some(follows) = self.follows.as_ref().filter(|_| self.items.is_empty()) {
            self.taken = self.taken.max(Some(follows.place()));
        }
    }

    fn add(&mut self, message: &Message, bytes: usize) {
        self.settle();
        self.items.push_back(Item::Message(message.clone()));
        self.messages += 1;
        self.bytes += bytes;
    }

    fn add_gap(&mut self, gap: Gap) {
        self.settle();
        match self.items.back_mut() {
            Some(Item::Gap(before)) => before.merge(gap),
            _ => self.items.push_back(Item::Gap(gap)),
        }
    }

    /// Makes a gap of the oldest message, one with those around it.
    fn drop_oldest(&mut self) {
        let mut gap: Option<Gap> = None;
        let mut add = |later: Gap| match &mut gap {
            Some(gap) => gap.merge(later),
            gap => *gap = Some(later),
        };
        let mut dropped = false;
        while let Some(item) = self.items.front() {
            match item {
                Item::Message(_) if dropped => break,
                Item::Message(message) => {
                    dropped = true;
                    self.messages -= 1;
                    self.bytes -= message.counted_bytes();
                    add(Gap { missed: Some(1), through: message.place() });
                }
                Item::Gap(later) => add(*later),
            }
            self.items.pop_front();
        }
        if let Some(gap) = gap {
            self.items.push_front(Item::Gap(gap));
        }
    }

    fn take(&mut self, bytes_max: usize, items_max: usize) -> Vec<Item> {
        let mut taken = Vec::new();
        let mut bytes = 0_usize;
        while let Some(item) = self.items.front() {
            let item_bytes = match item {
                Item::Message(message) => message.counted_bytes(),
                Item::Gap(_) => 0,
            };
            bytes = bytes.saturating_add(item_bytes);
            if !taken.is_empty() && (bytes > bytes_max || taken.len() >= items_max) {
                break;
            }
            let through = match item {
                Item::Message(message) => message.place(),
                Item::Gap(gap) => gap.through,
            };
            self.taken = self.taken.max(Some(through));
            self.bytes -= item_bytes;
            self.messages -= usize::from(matches!(item, Item::Message(_)));
            taken.extend(self.items.pop_front());
        }
        if self.items.is_empty() && self.items.capacity() > ITEMS_KEPT {
            self.items = VecDeque::new();
        }
        taken
    }

    fn close(&mut self, why: Closed) {
        self.settle();
        self.closed = Some(why);
        self.follows = None;
    }
}

/// Wakes a reader that waits, when nobody is held up by it any more.
fn wake(mut queue: MutexGuard<'_, Queue>, was_empty: bool) -> bool {
    let reader = queue.reader.take();
    drop(queue);
    if let Some(reader) = reader {
        reader.wake();
    }
    was_empty
}
