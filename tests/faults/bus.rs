//! A hundred subscribers while leaders and their own nodes are killed: none gets a message twice or
//! out of order, and before each place where something is missing there is a gap, with the right
//! count within an epoch.
//!
//! `QUORATE_BUS_KILLS=10` is the whole of it: as many of leaders, and as many of other nodes.

use quorate_client::bus::BusEvent;
use quorate_client::{Client, Error, Routing};
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, say, seed, wait_until};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SUBSCRIBERS: usize = 100;
const PUBLISHERS: usize = 3;
/// Messages that are published before anything is killed.
const UNDISTURBED: usize = 600;
/// Between two messages of a publisher.
const THINK: Duration = Duration::from_millis(3);
/// For a subscriber to come to the end.
const PATIENCE: Duration = Duration::from_secs(60);
const END: &str = "the end";

/// Epoch and position.
type Place = (u64, u64);

/// What became of a message.
enum Fate {
    At(Place),
    Unknown,
    Not,
}

/// A message as somebody saw it: its channel, and what it says.
type Seen = (String, String);

#[derive(Debug)]
enum Event {
    Message(Place, Seen),
    Gap(Option<u64>),
}

fn client_of(endpoints: Vec<String>) -> Client {
    let builder = Client::builder().endpoints(endpoints).routing(Routing::AnyNode);
    builder.connect().expect("the options are right")
}

/// The endpoints, another one first for each.
fn from(endpoints: &[String], nth: usize) -> Vec<String> {
    let mut endpoints = endpoints.to_vec();
    let first = nth % endpoints.len();
    endpoints.rotate_left(first);
    endpoints
}

fn pattern(nth: usize) -> &'static str {
    ["room.0", "room.*", "*.1", "room.[23]", "*"][nth % 5]
}

fn takes(pattern: &str, channel: &str) -> bool {
    match pattern {
        "room.0" => channel == "room.0",
        "room.*" => channel.starts_with("room."),
        "*.1" => channel.ends_with(".1"),
        "room.[23]" => matches!(channel, "room.2" | "room.3"),
        _ => true,
    }
}

const CHANNELS: [&str; 6] = ["room.0", "room.1", "room.2", "room.3", "hall.1", "hall.2"];

struct Publisher {
    number: usize,
    client: Client,
    rng: SmallRng,
    published: BTreeMap<String, (String, Fate)>,
}

impl Publisher {
    async fn publish(&mut self, nth: usize) {
        let channel = CHANNELS[self.rng.random_range(0..CHANNELS.len())];
        let payload = format!("{}.{nth}", self.number);
        let fate = match self.client.bus().publish(channel, payload.clone()).send().await {
            Ok(published) => Fate::At((published.epoch, published.position)),
            Err(Error::Indeterminate { .. }) => Fate::Unknown,
            Err(Error::Unavailable { .. } | Error::ResourceExhausted { .. }) => Fate::Not,
            Err(error) => panic!("a message was refused: {error} ({})", error.reason()),
        };
        self.published.insert(payload, (channel.to_owned(), fate));
    }

    async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        for nth in UNDISTURBED.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.publish(nth).await;
            tokio::time::sleep(THINK).await;
        }
        self
    }
}

/// Reads up to a message that says that it is the end.
async fn subscriber(
    mut subscription: quorate_client::bus::Subscription,
    nth: usize,
    received: Arc<AtomicUsize>,
) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = subscription.next().await.expect("it goes on");
        let event = event.unwrap_or_else(|error| panic!("subscription {nth} failed: {error}"));
        match event {
            BusEvent::Message(message) => {
                let payload = String::from_utf8(message.payload.to_vec()).expect("it is text");
                if payload == END {
                    return events;
                }
                let place = (message.epoch, message.position);
                events.push(Event::Message(place, (message.channel, payload)));
                received.fetch_add(1, Ordering::Relaxed);
            }
            BusEvent::Gap { missed, .. } => events.push(Event::Gap(missed)),
            _ => panic!("there is nothing else"),
        }
    }
}

/// What all of them saw and were told, by place.
fn known(publishers: &[Publisher], seen: &[Vec<Event>]) -> BTreeMap<Place, Seen> {
    let mut known: BTreeMap<Place, Seen> = BTreeMap::new();
    for event in seen.iter().flatten() {
        if let Event::Message(place, message) = event {
            let before = known.insert(*place, message.clone());
            assert!(before.is_none_or(|before| before == *message), "two messages at {place:?}");
        }
    }
    for publisher in publishers {
        for (payload, (channel, fate)) in &publisher.published {
            let message = (channel.clone(), payload.clone());
            match fate {
                Fate::At(place) => {
                    let before = known.insert(*place, message.clone());
                    assert!(before.is_none_or(|before| before == message), "{place:?}: {payload}");
                }
                Fate::Unknown => {}
                Fate::Not => {
                    let found = known.values().any(|(_, known)| known == payload);
                    assert!(!found, "{payload} was not to be published");
                }
            }
        }
    }
    let payloads: BTreeSet<_> = known.values().map(|(_, payload)| payload).collect();
    assert_eq!(payloads.len(), known.len(), "a message has two places");
    known
}

/// How much was missing, in gaps that were counted and in others.
#[derive(Debug, Default)]
struct Totals {
    messages: usize,
    counted: u64,
    uncounted: u64,
}

/// What one subscriber was handed, against what there was.
fn check(nth: usize, events: &[Event], known: &BTreeMap<Place, Seen>, totals: &mut Totals) {
    let pattern = pattern(nth);
    let mut last: Option<Place> = None;
    let (mut counted, mut uncounted) = (0_u64, 0_u64);
    for event in events {
        let (place, (channel, payload)) = match event {
            Event::Gap(Some(missed)) => {
                counted += missed;
                continue;
            }
            Event::Gap(None) => {
                uncounted += 1;
                continue;
            }
            Event::Message(place, message) => (*place, message),
        };
        assert!(takes(pattern, channel), "{nth} got {payload}, which it did not ask for");
        assert!(last < Some(place), "{nth} got {place:?} after {last:?}");
        totals.messages += 1;
        if let Some(last) = last {
            let between = known.range(last..place).skip(1);
            let missing =
                between.filter(|(_, (channel, _))| takes(pattern, channel)).count() as u64;
            let same_epoch = last.0 == place.0;
            if missing > 0 {
                assert!(
                    counted + uncounted > 0,
                    "{nth}: {missing} missing before {place:?}, no gap"
                );
            }
            if !same_epoch {
                assert!(uncounted > 0, "{nth}: nobody can count between {last:?} and {place:?}");
            } else if uncounted == 0 {
                // Of some messages nobody knows the channel: their publishers were not told, and
                // nobody saw them.
                let all = known.range(last..place).skip(1).count() as u64;
                let unseen = place.1 - last.1 - 1 - all;
                assert!(
                    (missing..=missing + unseen).contains(&counted),
                    "{nth}: {counted} counted, {missing} missing between {last:?} and {place:?}"
                );
            }
        }
        totals.counted += counted;
        totals.uncounted += uncounted;
        (counted, uncounted) = (0, 0);
        last = Some(place);
    }
}

/// Waits until everybody gets messages that are published now.
async fn all_receive(received: &[Arc<AtomicUsize>]) {
    let counts = || received.iter().map(|one| one.load(Ordering::Relaxed));
    let before: Vec<usize> = counts().collect();
    wait_until("every subscriber gets messages again", PATIENCE, || async {
        counts().zip(&before).all(|(now, before)| now > *before)
    })
    .await;
}

async fn kill(cluster: &mut ProcessCluster, leader: bool) {
    let leads = cluster.leader().await.expect("somebody leads");
    let other = cluster.ids().into_iter().find(|id| *id != leads).expect("of three");
    let killed = if leader { leads } else { other };
    cluster.kill(killed).await.expect("it can be killed");
    cluster.leader().await.expect("somebody leads");
    cluster.restart(killed).await.expect("it starts again");
    wait_healthy(cluster).await.expect("all nodes are well again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_miss_nothing_silently_while_nodes_are_killed() {
    let _alone = alone().await;
    let seed = seed("faults", "bus::subscribers_miss_nothing_silently_while_nodes_are_killed");
    let mut rng = SmallRng::seed_from_u64(seed);
    let kills = number("QUORATE_BUS_KILLS", 2_usize);
    let mut cluster = ProcessCluster::options(3).start().await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let (begun, endpoints) = (Instant::now(), cluster.endpoints());
    let mut clients = Vec::new();
    let mut subscribers = Vec::new();
    let received: Vec<_> = (0..SUBSCRIBERS).map(|_| Arc::<AtomicUsize>::default()).collect();
    for nth in 0..SUBSCRIBERS {
        let client = client_of(from(&endpoints, nth));
        let starting = client.bus().subscribe([pattern(nth)]).resume_timeout(PATIENCE).start();
        let subscription = starting.await.expect("it begins");
        clients.push(client);
        let received = Arc::clone(&received[nth]);
        subscribers.push(tokio::spawn(subscriber(subscription, nth, received)));
    }
    let mut publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| Publisher {
            number,
            client: client_of(from(&endpoints, number)),
            rng: SmallRng::seed_from_u64(rng.random()),
            published: BTreeMap::new(),
        })
        .collect();
    for nth in 0..UNDISTURBED {
        publishers[nth % PUBLISHERS].publish(nth).await;
    }
    let undisturbed: BTreeSet<Place> = publishers
        .iter()
        .flat_map(|publisher| publisher.published.values())
        .map(|(_, fate)| match fate {
            Fate::At(place) => *place,
            Fate::Unknown | Fate::Not => panic!("nothing was killed yet"),
        })
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let publishing: Vec<_> =
        publishers.into_iter().map(|one| tokio::spawn(one.run(Arc::clone(&stop)))).collect();
    for _ in 0..kills {
        for leader in [true, false] {
            kill(&mut cluster, leader).await;
            all_receive(&received).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut publishers = Vec::new();
    for publisher in publishing {
        publishers.push(publisher.await.expect("it met no answer that it could not understand"));
    }
    // Whoever is on the way to another node when it comes would miss the end.
    let waiting = Instant::now();
    while !subscribers.iter().all(tokio::task::JoinHandle::is_finished) {
        assert!(waiting.elapsed() < PATIENCE, "not all subscribers come to the end");
        for channel in CHANNELS {
            // What becomes of it is seen by whether they end.
            let _ = clients[0].bus().publish(channel, END).send().await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut seen = Vec::new();
    for subscriber in subscribers {
        seen.push(subscriber.await.expect("it goes on to the end"));
    }
    let known = known(&publishers, &seen);
    let mut totals = Totals::default();
    for (nth, events) in seen.iter().enumerate() {
        check(nth, events, &known, &mut totals);
        let wanted = undisturbed.iter().filter(|place| takes(pattern(nth), &known[*place].0));
        let got = events.iter().map_while(|event| match event {
            Event::Message(place, _) if undisturbed.contains(place) => Some(place),
            _ => None,
        });
        assert!(wanted.eq(got), "{nth} did not get all while nothing was killed");
    }
    assert!(totals.messages > 0 && totals.uncounted > 0, "{totals:?}");
    cluster.logs().assert_no_panics();
    say(format!(
        "{} messages published in {:?} over {kills} kills of leaders and {kills} of other nodes; \
         {SUBSCRIBERS} subscribers got {} and were told of {} missing ones and of {} gaps nobody can \
         count",
        known.len(),
        begun.elapsed(),
        totals.messages,
        totals.counted,
        totals.uncounted
    ));
}
