//! `quorate bench bus`: the way of a message, from who publishes it to each who subscribes.

use super::measured::{Latencies, Measured};
use super::plot;
use super::running::{Own, Span};
use super::timing::Timing;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use futures::future::join_all;
use quorate_client::bus::BusEvent;
use quorate_client::{
    Bus as Channels, Client, Content, Error, Member, Message, Routing, Subscription,
};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a payload begins with: which run, and when in it the message was sent.
const MARK_BYTES: usize = 16;

const AFTER_HELP: &str = "\
An operation is a publish, from asking to its answer, which comes when the message has its number; with
--batch it is a call that publishes several.
Deliveries are counted at all subscribers together: of each message as many as there are subscribers.
The time to deliver is from asking to publish until a subscriber has the message, all of them in this
process. Gaps are places where a subscriber was told that messages are missing, and how many, as far as
that is known.";

/// How the subscribers subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Op {
    /// To the channel.
    Exact,
    /// To a pattern that has the channel.
    Pattern,
}

/// `quorate bench bus`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Bus {
    #[command(flatten)]
    connect: Connect,
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Calls under way at once from each of them
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    in_flight: u32,
    /// Messages of a call, which are published together; of those, not of messages, are M under way
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    batch: u32,
    /// Subscribers, each on a connection of its own, spread over all nodes
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    subscribers: u32,
    /// How they subscribe
    #[arg(long, value_enum, default_value_t = Op::Exact)]
    op: Op,
    #[command(flatten)]
    timing: Timing,
    /// Draw operations per second and latency into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(MARK_BYTES as i64..=1 << 20))]
    value_bytes: u32,
}

impl Bus {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| anyhow::Error::new(error).context("can't start"))?;
        let (measured, received) = runtime.block_on(self.measure())?;
        runtime.shutdown_background();
        if let Some(path) = &self.plot {
            plot::draw(path, &self.title(), &measured)?;
        }
        let published = measured.count();
        output.result(
            || measured.json(self.described(&received, &measured)),
            || format!("{}\n{}", measured.text(), received.text(measured.elapsed)),
        )?;
        match published {
            0 => Err(anyhow::anyhow!("not one message was published; see the failures").into()),
            _ => Ok(()),
        }
    }

    async fn measure(&self) -> Result<(Measured, Received), Failure> {
        let watcher = self.client(None)?;
        let nodes = watcher.cluster().members().await?.members;
        let mark = Arc::new(Mark { run: rand::random(), base: Instant::now() });
        let channel = format!("bench/bus/{:016x}/c", mark.run);
        let pattern = match self.op {
            Op::Exact => channel.clone(),
            Op::Pattern => format!("bench/bus/{:016x}/*", mark.run),
        };
        let places = subscriber_places(&nodes, self.subscribers as usize);
        let subscribing = places.map(|node| self.client(Some(node)));
        let subscribing = subscribing.collect::<Result<Vec<_>, _>>()?;
        let begun = join_all(subscribing.iter().map(|client| {
            let subscribe = client.bus().subscribe([pattern.clone()]);
            // They are many, and all begin at once.
            subscribe.timeout(Duration::from_secs(60)).start()
        }));
        let begun = begun.await.into_iter().collect::<Result<Vec<_>, Error>>()?;

        let span = Span::start(&self.timing)?;
        let (over, ends) = watch::channel(false);
        let mut receivers = JoinSet::new();
        for subscription in begun {
            let (mark, span) = (Arc::clone(&mark), Arc::clone(&span));
            receivers.spawn(receive(subscription, mark, span, ends.clone()));
        }
        let mut lanes = Vec::new();
        for _ in 0..self.clients {
            let client = self.client(None)?;
            for _ in 0..self.in_flight {
                let lane = Lane {
                    bus: client.bus(),
                    channel: channel.clone(),
                    bytes: self.value_bytes as usize,
                    batch: self.batch,
                    mark: Arc::clone(&mark),
                    span: Arc::clone(&span),
                };
                lanes.push(tokio::spawn(lane.run()));
            }
        }
        let measured = span.measure(&watcher, &nodes, lanes).await?;
        over.send_replace(true);
        let mut received = Received::default();
        while let Some(own) = receivers.join_next().await {
            let own = own.map_err(|error| anyhow::anyhow!("a subscriber panicked: {error}"))?;
            received.add(&own?);
        }
        Ok((measured, received))
    }

    /// A client of any node, led to the leader; or of one node only.
    fn client(&self, only: Option<&str>) -> Result<Client, Failure> {
        let options = self.connect.options()?.namespace(self.connect.namespace());
        let options = match only {
            None => options,
            Some(node) => options.endpoints([node]).routing(Routing::Endpoints),
        };
        Ok(options.connect()?)
    }

    fn title(&self) -> String {
        format!(
            "bus, publishes{} of {} connections x {} in flight to {} subscribers, {} bytes{}",
            if self.batch > 1 { format!(" of {} messages", self.batch) } else { String::new() },
            self.clients,
            self.in_flight,
            self.subscribers,
            self.value_bytes,
            self.timing.text()
        )
    }

    /// What was run, and what came of it, for the result.
    fn described(&self, received: &Received, measured: &Measured) -> Map<String, Value> {
        let elapsed = measured.elapsed;
        let published = (measured.count() * u64::from(self.batch)) as f64 / elapsed.as_secs_f64();
        let Value::Object(described) = json!({
            "bench": "bus",
            "op": match self.op {
                Op::Exact => "exact",
                Op::Pattern => "pattern",
            },
            "clients": self.clients,
            "in_flight": self.in_flight,
            "batch": self.batch,
            "subscribers": self.subscribers,
            "value_bytes": self.value_bytes,
            "latency_of": "publish",
            "published_per_second": published.round(),
            "delivered": received.deliver.count(),
            "delivered_per_second": received.rate(elapsed).round(),
            "deliver_latency_us": received.deliver.json(),
            "gaps": received.gaps,
            "missed": received.missed,
            "rate": self.timing.rate(),
            "warm_up_ms": self.timing.warm_up_ms(),
        }) else {
            unreachable!("it is an object")
        };
        described
    }
}

/// The addresses of so many subscribers: each node in turn.
fn subscriber_places(nodes: &[Member], subscribers: usize) -> impl Iterator<Item = &str> {
    let addresses = nodes.iter().map(|node| node.client_addr.as_str());
    addresses.cycle().take(subscribers)
}

/// What subscribers have received within the span.
#[derive(Debug)]
struct Received {
    deliver: Latencies,
    /// Places where messages were missing.
    gaps: u64,
    /// Messages that were missing, as far as that is known.
    missed: u64,
}

impl Default for Received {
    fn default() -> Self {
        Self { deliver: Latencies::new(), gaps: 0, missed: 0 }
    }
}

impl Received {
    fn add(&mut self, other: &Self) {
        self.deliver.add(&other.deliver);
        self.gaps += other.gaps;
        self.missed += other.missed;
    }

    fn rate(&self, elapsed: Duration) -> f64 {
        self.deliver.count() as f64 / elapsed.as_secs_f64()
    }

    fn text(&self, elapsed: Duration) -> String {
        let ms = |share| format!("{:.2} ms", self.deliver.at(share) as f64 / 1_000.0);
        format!(
            "{:.0} deliveries/s ({})\ndeliver  p50 {}  p99 {}\ngaps: {}, {} messages known to be \
             missing\nan operation is a publish",
            self.rate(elapsed),
            self.deliver.count(),
            ms(0.5),
            ms(0.99),
            self.gaps,
            self.missed
        )
    }
}

/// What messages of a run are known by, and when each was sent.
struct Mark {
    run: u64,
    base: Instant,
}

impl Mark {
    fn payload(&self, bytes: usize, sent: Instant) -> Vec<u8> {
        let nanos = u64::try_from((sent - self.base).as_nanos()).unwrap_or(u64::MAX);
        let mut payload = vec![b'x'; bytes];
        payload[..8].copy_from_slice(&self.run.to_be_bytes());
        payload[8..MARK_BYTES].copy_from_slice(&nanos.to_be_bytes());
        payload
    }

    /// When a message of this run was sent.
    fn sent(&self, payload: &[u8]) -> Option<Instant> {
        let (run, rest) = payload.split_first_chunk()?;
        let (nanos, _) = rest.split_first_chunk()?;
        let nanos = Duration::from_nanos(u64::from_be_bytes(*nanos));
        (u64::from_be_bytes(*run) == self.run).then(|| self.base.checked_add(nanos)).flatten()
    }
}

/// Takes what comes, until it is over.
async fn receive(
    mut subscription: Subscription,
    mark: Arc<Mark>,
    span: Arc<Span>,
    mut over: watch::Receiver<bool>,
) -> Result<Received, Error> {
    let mut received = Received::default();
    loop {
        let event = tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => return Ok(received),
            event = subscription.next() => event,
        };
        let Some(event) = event else { return Ok(received) };
        let now = Instant::now();
        match event? {
            BusEvent::Message(Message { payload, .. }) => {
                let sent = mark.sent(&payload);
                if let Some(sent) = sent.filter(|sent| span.times.measures(*sent)) {
                    received.deliver.record(now - sent);
                }
            }
            BusEvent::Gap { missed, .. } => {
                received.gaps += 1;
                received.missed += missed.unwrap_or(0);
            }
            _ => {}
        }
    }
}

/// One message after the other.
struct Lane {
    bus: Channels,
    channel: String,
    bytes: usize,
    batch: u32,
    mark: Arc<Mark>,
    span: Arc<Span>,
}

impl Lane {
    async fn run(self) -> Own {
        let mut own = Own::new();
        while let Some(begun) = self.span.next().await {
            let content = Content::from(self.mark.payload(self.bytes, begun));
            let done = match self.batch {
                1 => self.bus.publish(&self.channel, content).await.map(drop),
                some => {
                    let messages = (0..some).map(|_| (&*self.channel, content.clone()));
                    self.bus.publish_all(messages).await.map(drop)
                }
            };
            self.span.take(&mut own, begun, Instant::now(), done);
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_when_it_was_sent_and_in_which_run() {
        let base = Instant::now();
        let (ours, other) = (Mark { run: 7, base }, Mark { run: 8, base });
        let sent = base + Duration::from_millis(1_500);
        assert_eq!(ours.sent(&ours.payload(16, sent)), Some(sent));
        assert_eq!(ours.payload(256, sent).len(), 256);
        assert_eq!(ours.sent(&other.payload(16, sent)), None);
        assert_eq!(ours.sent(b"short"), None);
    }

    #[test]
    fn what_subscribers_received_is_summed_up() {
        let mut own = Received { gaps: 1, missed: 3, ..Received::default() };
        (0..100).for_each(|_| own.deliver.record(Duration::from_millis(2)));
        let mut all = Received::default();
        all.add(&own);
        all.add(&own);
        let text = all.text(Duration::from_secs(2));
        assert!(text.contains("100 deliveries/s (200)"), "{text}");
        assert!(text.contains("gaps: 2, 6 messages"), "{text}");
    }
}
