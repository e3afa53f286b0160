//! Publishers and subscribers: of one channel, of patterns, and some that share their messages as a
//! group; nothing is stored, so messages may be lost, but never silently.
//!
//! All see one order, that of the places, and nothing twice; what one published later is later; what was
//! published together is together; nothing is handed out that nobody published; and before each place
//! where something is missing there is a gap, with the right count within an epoch. At the end each
//! subscriber goes on to a last message; see [`check`].

mod check;

use crate::work::calls::{Calls, Came, Notes, Odd, tell};
use crate::work::workload::{Context, LAST_DEADLINE, Verdict, Workload};
use anyhow::{Context as _, Result, ensure};
use check::{Fate, History, Published, Seen, Subscriber};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_client::bus::{Published as Numbered, Subscription};
use quorate_client::{Bus, BusEvent, Error, Routing};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::Serialize;
use std::time::Duration;

const NAME: &str = "bus";
const PUBLISHERS: u64 = 3;
const CHANNELS: [&str; 5] = ["room.0", "room.1", "room.2", "hall.1", "hall.2"];
/// Of each subscriber, and whether it shares.
const PATTERNS: [(&str, bool); 6] =
    [("room.0", false), ("room.*", false), ("*.1", false), ("*", false), ("*", true), ("*", true)];
const GROUP: &str = "workers";
/// Between two calls of a publisher, at most.
const THINK_MS_MAX: u64 = 60;
/// Before a caller tries again what could not be done.
const REST: Duration = Duration::from_millis(200);
/// Between two last messages, which a subscriber may miss that is on its way to another node.
const LAST_EVERY: Duration = Duration::from_millis(200);
const LAST: &str = "last";
/// Fewer acknowledged messages show little.
const LEAST: usize = 20;

/// A subscriber's history, and its subscription while it has one.
#[derive(Clone, Default)]
struct Ear {
    seen: Notes<Seen>,
    subscription: Notes<Subscription>,
}

#[derive(Default)]
pub(crate) struct Messages {
    published: Notes<Published>,
    ears: [Ear; PATTERNS.len()],
    odd: Odd,
}

impl Messages {
    fn caller(&self, context: &Context, number: u64) -> Caller {
        let client =
            context.client_with(|options| options.namespace(NAME).routing(Routing::AnyNode));
        Caller {
            number,
            calls: Calls::new(NAME, context, &self.odd),
            bus: client.bus(),
            random: context.random(NAME, number),
            context: context.clone(),
            published: self.published.clone(),
        }
    }
}

impl Workload for Messages {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let publishers = (0..PUBLISHERS).map(|one| self.caller(context, one).publish_on().boxed());
        let mut callers: Vec<_> = publishers.collect();
        let subscribers = (PUBLISHERS..).zip(PATTERNS).zip(&self.ears);
        callers.extend(subscribers.map(|((number, (pattern, shares)), ear)| {
            self.caller(context, number).subscribe_on(pattern, shares, ear.clone()).boxed()
        }));
        callers
    }

    fn judge(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let caller = self.caller(&context, u64::MAX);
            caller.end(&self.ears).await?;
            let subscribers = PATTERNS.iter().zip(&self.ears);
            let subscribers = subscribers.map(|((pattern, shares), ear)| {
                Subscriber { pattern, shares: *shares, seen: ear.seen.take() }
            });
            let history =
                History { published: self.published.take(), subscribers: subscribers.collect() };
            let mut verdict = Verdict::default();
            self.odd.report(&mut verdict);
            tell(&mut verdict, history.check());
            let acknowledged =
                history.published.iter().filter(|one| matches!(one.fate, Fate::At(_))).count();
            let seen = || history.subscribers.iter().flat_map(|one| &one.seen);
            let messages = seen().filter(|one| matches!(one, Seen::Message { .. })).count();
            let gaps = seen().filter(|one| matches!(one, Seen::Gap { .. })).count();
            verdict.has_to_show(acknowledged >= LEAST, || format!("only {acknowledged} were published"));
            verdict.has_to_show(messages >= LEAST, || format!("only {messages} were handed out"));
            verdict.checked = format!(
                "{acknowledged} of {} publishes acknowledged; {} subscribers were handed {messages} \
                 messages and {gaps} gaps",
                history.published.len(),
                history.subscribers.len()
            );
            Ok(verdict)
        }
        .boxed()
    }
}

/// A line of the history.
#[derive(Serialize)]
struct Line<'a> {
    subscriber: u64,
    seen: &'a Seen,
}

struct Caller {
    number: u64,
    context: Context,
    calls: Calls,
    bus: Bus,
    random: SmallRng,
    published: Notes<Published>,
}

impl Caller {
    async fn publish_on(mut self) {
        let mut made = 0;
        loop {
            let count = match self.random.random_range(0..5) {
                0 => self.random.random_range(2..5),
                _ => 1,
            };
            let messages = (0..count).map(|_| {
                made += 1;
                let channel = CHANNELS[self.random.random_range(0..CHANNELS.len())];
                (channel.to_owned(), format!("{}.{made}", self.number))
            });
            let messages = messages.collect();
            self.publish(messages).await;
            let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
            if !self.context.pause(think).await {
                return;
            }
        }
    }

    async fn publish(&self, messages: Vec<(String, String)>) {
        let (publisher, begun) = (self.number, self.calls.now());
        let came = match &messages[..] {
            [(channel, payload)] => {
                let publish = self.bus.publish(channel.clone(), payload.clone());
                let publish = async { Ok(vec![publish.await?]) };
                self.calls.make("publish", publish).await
            }
            several => {
                let publish = self.bus.publish_all(several.iter().cloned());
                self.calls.make("publish all", publish).await
            }
        };
        let place = |at: &Numbered| (at.epoch, at.position);
        let fate = match came {
            Came::Answer(numbered) => Fate::At(numbered.iter().map(place).collect()),
            Came::Failed => Fate::Not,
            Came::Unknown => Fate::Unknown,
            Came::Refused(error) => {
                self.calls.odd("publish", &error);
                Fate::Unknown
            }
        };
        let published = Published { publisher, begun, messages, fate };
        self.context.journal.write(&published);
        self.published.push(published);
    }

    fn note(&self, ear: &Ear, seen: Seen) {
        self.context.journal.write(&Line { subscriber: self.number, seen: &seen });
        ear.seen.push(seen);
    }

    /// Listens until it is time to end, and leaves its subscription to the judge.
    async fn subscribe_on(self, pattern: &'static str, shares: bool, ear: Ear) {
        while !self.context.stop.is_cancelled() {
            let subscribe = self.bus.subscribe([pattern]);
            let subscribe = match shares {
                true => subscribe.queue_group(GROUP),
                false => subscribe,
            };
            match self.calls.make("subscribe", subscribe.start()).await {
                Came::Answer(mut subscription) => {
                    self.note(&ear, Seen::Began { at: self.calls.now() });
                    if self.listen(&mut subscription, &ear).await {
                        return ear.subscription.push(subscription);
                    }
                }
                Came::Refused(error) => self.calls.odd("subscribe", &error),
                Came::Failed | Came::Unknown => {}
            }
            self.context.pause(REST).await;
        }
    }

    /// False when the subscription has ended.
    async fn listen(&self, subscription: &mut Subscription, ear: &Ear) -> bool {
        loop {
            let next = tokio::select! {
                next = subscription.next() => next,
                () = self.context.stop.cancelled() => return true,
            };
            match next {
                Some(Ok(event)) => {
                    self.hear(event, ear);
                }
                // No node could be found to go on with.
                Some(Err(Error::Unavailable { .. })) | None => return false,
                Some(Err(error)) => {
                    self.calls.odd("subscribe", &error);
                    return false;
                }
            }
        }
    }

    /// Notes what was handed out; answers whether it was a last message.
    fn hear(&self, event: BusEvent, ear: &Ear) -> bool {
        let (seen, is_last) = match event {
            BusEvent::Message(message) => {
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                let (place, is_last) =
                    ((message.epoch, message.position), payload.starts_with(LAST));
                (Seen::Message { place, channel: message.channel, payload }, is_last)
            }
            BusEvent::Gap { missed, .. } => (Seen::Gap { missed }, false),
            other => {
                self.calls.odd("subscribe", &other);
                return false;
            }
        };
        self.note(ear, seen);
        is_last
    }

    /// Publishes last messages until each subscriber that does not share has had one.
    async fn end(&self, ears: &[Ear]) -> Result<()> {
        let mut waiting: Vec<_> = ears
            .iter()
            .zip(PATTERNS)
            .filter(|(_, (_, shares))| !shares)
            .flat_map(|(ear, _)| ear.subscription.take().into_iter().map(move |one| (one, ear)))
            .collect();
        let until = self.calls.now() + LAST_DEADLINE;
        for number in 0.. {
            ensure!(self.calls.now() < until, "{} subscribers hear nothing more", waiting.len());
            for channel in CHANNELS {
                let message = (channel.to_owned(), format!("{LAST} {number} {channel}"));
                self.publish(vec![message]).await;
            }
            let mut still = Vec::new();
            for (mut subscription, ear) in waiting {
                match self.hears_last(&mut subscription, ear).await.context("at the end")? {
                    true => drop(subscription),
                    false => still.push((subscription, ear)),
                }
            }
            waiting = still;
            if waiting.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn hears_last(&self, subscription: &mut Subscription, ear: &Ear) -> Result<bool, Error> {
        let until = tokio::time::Instant::now() + LAST_EVERY;
        loop {
            match tokio::time::timeout_at(until, subscription.next()).await {
                Ok(Some(event)) => {
                    if self.hear(event?, ear) {
                        return Ok(true);
                    }
                }
                Ok(None) => return Ok(true),
                Err(_) => return Ok(false),
            }
        }
    }
}
