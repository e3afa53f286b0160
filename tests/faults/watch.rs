//! Watches while leaders are killed and snapshots are installed under them: each sees exactly what
//! was committed of its keys, in order, once, revision by revision.
//!
//! `QUORATE_WATCH_KILLS=10 QUORATE_WATCH_INSTALLS=3 QUORATE_WATCH_WRITES=50000` is the whole of it.

use quorate_client::kv::{Change, Changes, DeleteCause, Event, StartWatch, Watch};
use quorate_client::{Client, Error, KeyValue, Routing};
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::{LogScan, ProcessCluster};
use quorate_tests::processes::{alone, number, purged_past, say, seed, wait_until};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const GROUPS: usize = 5;
const WATCHERS: usize = 10;
const WRITERS: usize = 8;
/// Keys of a group, so that each has many versions.
const KEYS: usize = 20;
/// Between two writes of a writer: the history must hold all of them in the end.
const THINK: Duration = Duration::from_millis(4);
/// As few as can be set, so that a moment of writing purges what a follower has not seen.
const LOG_BYTES: &str = "65536";
const KEEP_ENTRIES: &str = "10";
/// What a node writes to its log when it has received a snapshot.
const ARRIVED: &str = "a snapshot arrived";
/// For the log to be purged, a follower to come back, a watch to come to its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It happened at this revision.
    At(u64),
    Unknown,
    /// It did not happen.
    Not,
}

/// What was written, by value: no two are equal.
type Written = HashMap<String, (String, Fate)>;

struct Writer {
    number: usize,
    kv: KeyValue,
    rng: SmallRng,
    written: Written,
    /// Revisions of deletions, by key or by pattern, and how many keys each deleted.
    deleted: Vec<(u64, u64)>,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Self {
        for nth in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.write(nth).await;
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(THINK).await;
        }
        self
    }

    async fn write(&mut self, nth: u64) {
        let group = self.rng.random_range(0..GROUPS);
        let key = format!("g{group}/{:02}", self.rng.random_range(0..KEYS));
        let value = format!("{}.{nth} {}", self.number, "x".repeat(self.rng.random_range(0..120)));
        let fate = match self.rng.random_range(0..100) {
            0..10 => {
                if let Ok(done) = self.kv.delete(&key).await
                    && done.deleted
                {
                    self.deleted.push((done.revision, 1));
                }
                return;
            }
            10..13 => {
                let pattern = format!("g{group}/{}?", self.rng.random_range(0..2));
                if let Ok(done) = self.kv.delete_pattern(&pattern).await
                    && done.deleted > 0
                    && done.steps == 1
                {
                    self.deleted.push((done.revision, done.deleted));
                }
                return;
            }
            13..20 => {
                let ttl = Duration::from_millis(self.rng.random_range(50..400));
                self.kv.set(format!("brief/{key}"), value.clone()).ttl(ttl).await
            }
            _ => self.kv.set(&key, value.clone()).await,
        };
        let fate = match fate {
            Ok(written) => Fate::At(written.revision),
            Err(Error::Indeterminate { .. }) => Fate::Unknown,
            Err(
                Error::Unavailable { .. }
                | Error::SessionExpired { .. }
                | Error::ResourceExhausted { .. },
            ) => Fate::Not,
            Err(error) => panic!("an ordinary write was refused: {error} ({})", error.reason()),
        };
        self.written.insert(value, (key, fate));
    }
}

/// What one watch is about, in two languages.
#[derive(Clone, Copy, Debug)]
struct Filter {
    start: fn(&KeyValue) -> StartWatch,
    takes: fn(&[u8]) -> bool,
}

fn filter(nth: usize) -> Filter {
    let all: [Filter; 5] = [
        Filter { start: |kv| kv.watch_prefix(""), takes: |_| true },
        Filter { start: |kv| kv.watch_prefix("g1/"), takes: |key| key.starts_with(b"g1/") },
        Filter { start: |kv| kv.watch("*/1?"), takes: |key| key[key.len() - 2] == b'1' },
        Filter {
            start: |kv| kv.watch_key("g2/07").and_key("g3/07").and_prefix("g4/"),
            takes: |key| matches!(key, b"g2/07" | b"g3/07") || key.starts_with(b"g4/"),
        },
        Filter { start: |kv| kv.watch("brief/*"), takes: |key| key.starts_with(b"brief/") },
    ];
    all[nth % all.len()]
}

/// What a watcher is told: to go on at the next node, or up to which revision it has to come.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    moves: usize,
    end: Option<u64>,
}

struct Watcher {
    nth: usize,
    /// A client of each node alone, and one of all.
    clients: Vec<Client>,
    seen: Vec<Event>,
    moved: usize,
}

impl Watcher {
    /// Whether it is bound to one node, which then has to come back to go on.
    fn start(&self, from: u64) -> StartWatch {
        // Three watch on one node each, whatever becomes of it; the others go where they can.
        let client = match self.nth {
            pinned @ 0..3 => (pinned + self.moved) % 3,
            _ => self.clients.len() - 1,
        };
        let start = (filter(self.nth).start)(&self.clients[client].kv());
        start.from_revision(from).progress().resume_timeout(PATIENCE).timeout(PATIENCE)
    }

    async fn run(mut self, mut watch: Watch, mut orders: watch::Receiver<Orders>) -> Self {
        loop {
            let Orders { moves, end } = *orders.borrow_and_update();
            if end.is_some_and(|end| watch.revision() >= end) {
                return self;
            }
            if moves > self.moved {
                self.moved = moves;
                let from = watch.revision() + 1;
                drop(watch);
                watch = self.start(from).start().await.expect("another node goes on");
                continue;
            }
            tokio::select! {
                changes = watch.next() => {
                    let changes = changes.expect("a watch has no end");
                    self.take(changes.unwrap_or_else(|error| {
                        panic!("watch {} failed: {error} ({})", self.nth, error.reason())
                    }));
                }
                changed = orders.changed() => changed.expect("the test goes on"),
            }
        }
    }

    fn take(&mut self, changes: Changes) {
        let last = self.seen.last().map_or(0, |event| event.revision);
        if let Some(first) = changes.events.first() {
            assert!(first.revision > last, "revision {last} of watch {} was split", self.nth);
        }
        self.seen.extend(changes.events);
    }
}

fn client_of(endpoints: Vec<String>, routing: Routing) -> Client {
    Client::builder()
        .endpoints(endpoints)
        .routing(routing)
        .connect()
        .expect("the options are right")
}

/// Makes a follower miss so much that it gets a snapshot: dead meanwhile, or stopped where it is,
/// with its watches.
async fn install(cluster: &mut ProcessCluster, paused: bool) {
    let leader = cluster.leader().await.expect("somebody leads");
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("of three");
    let log = LogScan::new([cluster.log_path(follower)]);
    let arrived = || log.lines_with(ARRIVED).expect("the log can be read").len();
    let before = arrived();
    match paused {
        true => cluster.pause(follower).await.expect("a follower can be paused"),
        false => drop(cluster.kill(follower).await.expect("a follower can be killed")),
    }
    let had = last_log(cluster, leader).await;
    purged_past(cluster, leader, had).await;
    match paused {
        true => cluster.resume(follower).expect("it can be resumed"),
        false => cluster.restart(follower).await.expect("it starts again"),
    }
    wait_until("a snapshot arrives", PATIENCE, || {
        let more = arrived() > before;
        async move { more }
    })
    .await;
    wait_healthy(cluster).await.expect("all nodes are well again");
}

async fn last_log(cluster: &ProcessCluster, node: u64) -> u64 {
    let status = cluster.status(node).await.expect("it answers");
    let status = status.nodes.into_iter().find(|one| one.node_id == node);
    status.expect("it is a member").last_log.expect("there were writes")
}

async fn kill_leader(cluster: &mut ProcessCluster) {
    let leader = cluster.leader().await.expect("somebody leads");
    cluster.kill(leader).await.expect("the leader can be killed");
    cluster.leader().await.expect("another node takes over");
    cluster.restart(leader).await.expect("it starts again");
    wait_healthy(cluster).await.expect("all nodes are well again");
}

/// Everything that was committed, from the first revision on, read by one watch afterwards.
async fn committed(client: &Client, end: u64) -> Vec<Event> {
    let watch = client.kv().watch_prefix("").from_revision(1).progress();
    let mut watch = watch.start().await.expect("the history has all of it");
    let mut events = Vec::new();
    while watch.revision() < end {
        let changes = watch.next().await.expect("it goes on").expect("it does not fail");
        events.extend(changes.events);
    }
    events.retain(|event| event.revision <= end);
    events
}

/// The events against what the writers were told.
fn check_written(events: &[Event], writers: &[Writer]) -> (usize, usize) {
    let mut found: HashMap<&str, u64> = HashMap::new();
    let mut deleted: BTreeMap<u64, u64> = BTreeMap::new();
    for event in events {
        match &event.change {
            Change::Set { value, .. } => {
                let value = std::str::from_utf8(value).expect("all values are text");
                let twice = found.insert(value, event.revision);
                assert_eq!(twice, None, "{value} happened twice");
            }
            Change::Deleted { cause: DeleteCause::Deleted, .. } => {
                *deleted.entry(event.revision).or_default() += 1;
            }
            _ => {}
        }
    }
    let (mut acknowledged, mut unknown) = (0, 0);
    for writer in writers {
        for (value, (key, fate)) in &writer.written {
            let at = found.remove(&value[..]);
            match fate {
                Fate::At(revision) => {
                    acknowledged += 1;
                    assert_eq!(at, Some(*revision), "{key} = {value} was acknowledged");
                }
                Fate::Unknown => unknown += 1,
                Fate::Not => assert_eq!(at, None, "{key} = {value} was not to happen"),
            }
        }
        for (revision, count) in &writer.deleted {
            assert_eq!(deleted.get(revision), Some(count), "deletions of revision {revision}");
        }
    }
    found.remove("the end");
    assert!(found.is_empty(), "nobody wrote {found:?}");
    (acknowledged, unknown)
}

/// The events against what the keys are in the end: replaying them gives just that.
async fn check_replay(events: &[Event], kv: &KeyValue) {
    let mut replayed: BTreeMap<Vec<u8>, (Vec<u8>, u64, u64)> = BTreeMap::new();
    for event in events {
        match &event.change {
            Change::Set { value, version, .. } => {
                let before = replayed.get(&event.key[..]).map_or(0, |before| before.1);
                assert_eq!(*version, before + 1, "a change before {event:?} is missing");
                let now = (value.to_vec(), *version, event.revision);
                replayed.insert(event.key.to_vec(), now);
            }
            _ => assert!(replayed.remove(&event.key[..]).is_some(), "{event:?} ends nothing"),
        }
    }
    let page = kv.list_prefix("g").limit(2_000).await.expect("a list");
    assert_eq!(page.cursor, None);
    let listed = page.entries.into_iter().map(|entry| {
        (entry.key.to_vec(), (entry.value.to_vec(), entry.version, entry.mod_revision))
    });
    replayed.retain(|key, _| key.starts_with(b"g"));
    assert_eq!(replayed, listed.collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_watch_sees_exactly_what_was_committed_of_its_keys() {
    let _alone = alone().await;
    let seed = seed("faults", "watch::each_watch_sees_exactly_what_was_committed_of_its_keys");
    let mut rng = SmallRng::seed_from_u64(seed);
    let kills = number("QUORATE_WATCH_KILLS", 2_usize);
    let installs = number("QUORATE_WATCH_INSTALLS", 2_usize);
    let writes = number("QUORATE_WATCH_WRITES", 4_000_u64);
    let options = ProcessCluster::options(3)
        .arg("--storage-snapshot-log-bytes")
        .arg(LOG_BYTES)
        .arg("--storage-log-keep-entries")
        .arg(KEEP_ENTRIES);
    let mut cluster = options.start().await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let begun = Instant::now();
    let all = client_of(cluster.endpoints(), Routing::AnyNode);

    // The watches begin before there is anything to see, half of them behind a revision.
    let (orders, ordered) = watch::channel(Orders::default());
    let mut watchers: Vec<JoinHandle<Watcher>> = Vec::new();
    for nth in 0..WATCHERS {
        let of_node = |id| client_of(vec![cluster.client_addr(id).to_string()], Routing::Endpoints);
        let mut clients: Vec<Client> = cluster.ids().into_iter().map(of_node).collect();
        clients.push(client_of(cluster.endpoints(), Routing::AnyNode));
        let watcher = Watcher { nth, clients, seen: Vec::new(), moved: 0 };
        let from = if nth % 2 == 0 { 0 } else { 1 };
        let watch = watcher.start(from).start().await.expect("a watch begins");
        watchers.push(tokio::spawn(watcher.run(watch, ordered.clone())));
    }
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let writer = Writer {
                number,
                kv: client_of(cluster.endpoints(), Routing::Leader).kv(),
                rng: SmallRng::seed_from_u64(rng.random()),
                written: Written::new(),
                deleted: Vec::new(),
            };
            tokio::spawn(writer.run(Arc::clone(&stop), Arc::clone(&count)))
        })
        .collect();

    for round in 0..kills.max(installs) {
        if round < kills {
            kill_leader(&mut cluster).await;
        }
        if round < installs {
            install(&mut cluster, round % 2 == 0).await;
        }
        // All go on at another node.
        orders.send_modify(|orders| orders.moves += 1);
    }
    while count.load(Ordering::Relaxed) < writes {
        tokio::time::sleep(THINK).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut ended = Vec::new();
    for writer in writers {
        ended.push(writer.await.expect("no writer met an answer it could not understand"));
    }
    let end = all.kv().set("g0/end", "the end").await.expect("a last write").revision;
    orders.send_modify(|orders| orders.end = Some(end));
    let committed = committed(&all, end).await;
    let (acknowledged, unknown) = check_written(&committed, &ended);
    check_replay(&committed, &all.kv()).await;
    for watcher in watchers {
        let watcher = tokio::time::timeout(PATIENCE, watcher).await.expect("it comes to the end");
        let mut watcher = watcher.expect("the watch went on to the end");
        watcher.seen.retain(|event| event.revision <= end);
        let takes = filter(watcher.nth).takes;
        let expected: Vec<_> = committed.iter().filter(|event| takes(&event.key)).collect();
        let differs = expected.iter().zip(&watcher.seen).position(|(one, other)| **one != *other);
        assert_eq!(differs, None, "watch {} differs there", watcher.nth);
        assert_eq!(watcher.seen.len(), expected.len(), "of watch {}", watcher.nth);
        assert!(!expected.is_empty(), "watch {} had nothing to see", watcher.nth);
    }
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
    say(format!(
        "{} events in {:?}, {acknowledged} acknowledged writes among them and {unknown} of unknown \
         outcome; {WATCHERS} watches saw exactly theirs over {kills} kills of the leader, {installs} \
         snapshots and {} moves each",
        committed.len(),
        begun.elapsed(),
        orders.borrow().moves
    ));
}
