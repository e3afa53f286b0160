//! Get, set and compare-and-set through all nodes while leaders are killed and paused: every
//! history must be linearizable. And the same work on a build whose reads skip the barrier must be
//! found out, or the verdict would mean nothing.

use quorate_client::{Client, Error, Routing};
use quorate_testkit::history::{
    Bounds, History, Outcome, Recorder, Register, RegisterOp, RegisterRet, Verdict,
    assert_linearizable, check,
};
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, planted_binary, say, seed, seed_planted};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Clients of each node, each with one call at a time.
const CLIENTS_PER_NODE: u64 = 3;
/// Above most failovers, so that most outcomes become known, and below some.
const CALL_DEADLINE: Duration = Duration::from_millis(2_500);
/// Between two calls of a client, at most: what is checked is their order, not their number.
const THINK_MS_MAX: u64 = 12;
/// A paused leader sleeps for this long at least: three times the longest election timeout, so that
/// all it knew of its time in office is over when it wakes.
const PAUSE: Duration = Duration::from_millis(1_500);
/// Between the end of one fault and the next, at most.
const CALM_MS_MAX: u64 = 800;
/// How often the planted fault may go unnoticed.
const PLANTED_ATTEMPTS: usize = 5;
/// How long other work goes on before that.
const PLANTED_RUN: Duration = Duration::from_secs(3);
/// For a request to reach a node.
const ON_THE_WAY: Duration = Duration::from_millis(20);

type Records = Recorder<RegisterOp, RegisterRet>;

/// A client of one node alone.
struct Caller {
    number: u64,
    kv: quorate_client::KeyValue,
    records: Records,
    rng: SmallRng,
    /// The versions it saw last.
    seen: HashMap<&'static str, u64>,
    calls: u64,
}

impl Caller {
    fn new(
        cluster: &ProcessCluster,
        node: u64,
        nth: u64,
        records: &Records,
        rng: &mut SmallRng,
    ) -> Self {
        let client = Client::builder()
            .endpoints([cluster.client_addr(node).to_string()])
            .routing(Routing::Endpoints)
            .request_timeout(CALL_DEADLINE)
            .connect()
            .expect("the options are right");
        Self {
            number: node * 100 + nth,
            kv: client.kv(),
            records: records.clone(),
            rng: SmallRng::seed_from_u64(rng.random()),
            seen: HashMap::new(),
            calls: 0,
        }
    }

    async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            self.call().await;
            let think = Duration::from_millis(self.rng.random_range(0..=THINK_MS_MAX));
            tokio::time::sleep(think).await;
        }
    }

    async fn call(&mut self) {
        self.calls += 1;
        let key = KEYS[self.rng.random_range(0..KEYS.len())];
        let value = format!("{}.{}", self.number, self.calls);
        let version = self.seen.get(key).copied();
        let op = match (self.rng.random_range(0..100), version) {
            (0..50, _) => RegisterOp::Get,
            (50..75, Some(version)) => RegisterOp::cas(version, value.as_str()),
            (75..78, _) => RegisterOp::delete(),
            (78..82, _) => RegisterOp::create(value.as_str()),
            _ => RegisterOp::set(value.as_str()),
        };
        self.make(key, op).await;
    }

    async fn make(&mut self, key: &'static str, op: RegisterOp) {
        let recorded = self.records.invoke(self.number, key, op.clone());
        let answer = self.ask(key, op).await;
        match answer {
            Ok(ret) => {
                match &ret {
                    RegisterRet::Get(Some((_, version))) | RegisterRet::Set { version } => {
                        self.seen.insert(key, *version);
                    }
                    RegisterRet::ConditionFailed { version: Some(version) } => {
                        self.seen.insert(key, *version);
                    }
                    _ => drop(self.seen.remove(key)),
                }
                recorded.ok(ret);
            }
            Err(Error::Indeterminate { .. }) => recorded.unknown(),
            Err(
                Error::Unavailable { .. }
                | Error::SessionExpired { .. }
                | Error::ResourceExhausted { .. },
            ) => recorded.failed(),
            Err(error) => panic!("an ordinary call was refused: {error} ({})", error.reason()),
        }
    }

    async fn ask(&self, key: &str, op: RegisterOp) -> Result<RegisterRet, Error> {
        use quorate_testkit::history::Expect;
        let condition_failed = |error| match error {
            Error::ConditionFailed { version, .. } => Ok(RegisterRet::ConditionFailed { version }),
            error => Err(error),
        };
        match op {
            RegisterOp::Get => {
                let entry = self.kv.get(key).await?;
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned().into();
                Ok(RegisterRet::Get(entry.map(|entry| (text(&entry.value), entry.version))))
            }
            RegisterOp::Set { value, expect } => {
                let set = self.kv.set(key, value.as_bytes().to_vec());
                let set = match expect {
                    Expect::Any => set,
                    Expect::Absent => set.if_absent(),
                    Expect::Version(version) => set.if_version(version),
                };
                let written =
                    set.await.map(|written| RegisterRet::Set { version: written.version });
                written.or_else(condition_failed)
            }
            RegisterOp::Delete { expect } => {
                let delete = self.kv.delete(key);
                let delete = match expect {
                    Expect::Version(version) => delete.if_version(version),
                    Expect::Any | Expect::Absent => delete,
                };
                let deleted =
                    delete.await.map(|deleted| RegisterRet::Delete { deleted: deleted.deleted });
                deleted.or_else(condition_failed)
            }
        }
    }
}

/// Clients at work on all nodes.
struct Work {
    records: Records,
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
}

impl Work {
    fn start(cluster: &ProcessCluster, rng: &mut SmallRng) -> Self {
        let (records, stop) = (Recorder::new(), Arc::new(AtomicBool::new(false)));
        let mut callers = Vec::new();
        for id in cluster.ids() {
            for nth in 0..CLIENTS_PER_NODE {
                let caller = Caller::new(cluster, id, nth, &records, rng);
                callers.push(tokio::spawn(caller.run(Arc::clone(&stop))));
            }
        }
        Self { records, stop, callers }
    }

    /// Reads every key on a follower that has slept while they were set, before it can have caught
    /// up: it has to sync what it missed first.
    async fn read_on_a_laggard(&self, cluster: &mut ProcessCluster, rng: &mut SmallRng) {
        let leader = cluster.leader().await.expect("somebody leads");
        let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("of three");
        let mut writer = Caller::new(cluster, leader, CLIENTS_PER_NODE, &self.records, rng);
        let mut readers: Vec<_> = (CLIENTS_PER_NODE + 1..)
            .zip(KEYS)
            .map(|(nth, key)| (Caller::new(cluster, follower, nth, &self.records, rng), key))
            .collect();
        for (reader, key) in &mut readers {
            // Connects, so that the next one is in the node's hands while it sleeps.
            reader.make(key, RegisterOp::Get).await;
        }
        cluster.pause(follower).await.expect("a follower can be paused");
        for key in KEYS {
            writer.make(key, RegisterOp::set(format!("{key}, while one sleeps"))).await;
        }
        let reads = readers.into_iter().map(|(mut reader, key)| {
            tokio::spawn(async move { reader.make(key, RegisterOp::Get).await })
        });
        let reads: Vec<_> = reads.collect();
        // No promise hangs on it: a read that is sent later only shows less.
        tokio::time::sleep(ON_THE_WAY).await;
        cluster.resume(follower).expect("it can be resumed");
        for read in reads {
            read.await.expect("no reader met an answer it could not understand");
        }
    }

    async fn end(self) -> History<RegisterOp, RegisterRet> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.expect("no client met an answer it could not understand");
        }
        self.records.history()
    }
}

/// How often each was done.
#[derive(Debug, Default)]
struct Faults {
    kills: usize,
    pauses: usize,
}

/// Kills and pauses leaders until the time is up. Answers with all nodes up and well.
async fn disturb(cluster: &mut ProcessCluster, rng: &mut SmallRng, until: Instant) -> Faults {
    let mut faults = Faults::default();
    while Instant::now() < until {
        let leader = cluster.leader().await.expect("somebody leads");
        let pause = match faults.kills + faults.pauses {
            // One of each first, so that no seed leaves one out.
            0 => false,
            1 => true,
            _ => rng.random_bool(0.5),
        };
        if pause {
            cluster.pause(leader).await.expect("the leader can be paused");
            let paused = tokio::time::Instant::now();
            // The paused one is not asked, so this is its successor.
            cluster.leader().await.expect("another node takes over");
            tokio::time::sleep_until(paused + PAUSE).await;
            cluster.resume(leader).expect("it can be resumed");
            faults.pauses += 1;
        } else {
            cluster.kill(leader).await.expect("the leader can be killed");
            cluster.leader().await.expect("another node takes over");
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..=CALM_MS_MAX))).await;
            cluster.restart(leader).await.expect("it starts again");
            faults.kills += 1;
        }
        wait_healthy(cluster).await.expect("all nodes are well again");
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..=CALM_MS_MAX))).await;
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_while_leaders_are_killed_and_paused() {
    let _alone = alone().await;
    let seed =
        seed("faults", "histories::histories_are_linearizable_while_leaders_are_killed_and_paused");
    let mut rng = SmallRng::seed_from_u64(seed);
    let seconds = number("QUORATE_HISTORY_SECONDS", 30);
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let work = Work::start(&cluster, &mut rng);
    let until = Instant::now() + Duration::from_secs(seconds);
    let faults = disturb(&mut cluster, &mut rng, until).await;
    // What catches reads without a barrier must be right with one.
    work.read_on_a_laggard(&mut cluster, &mut rng).await;
    let history = work.end().await;
    let (ok, failed, unknown) = history.counts();
    say(format!("{ok} answers, {failed} failed, {unknown} unknown; {faults:?}"));

    let directory = cluster.directory().join("histories");
    assert_linearizable::<Register>(&history, &Bounds::default(), &directory);
    assert!(faults.kills > 0 && faults.pauses > 0, "{faults:?}");
    assert!(ok > 500, "so few answers show little");
    for id in cluster.ids() {
        let of_node = history.operations().iter().filter(|op| op.client / 100 == id);
        let answered = |outcome: &_| matches!(outcome, Outcome::Ok(_));
        let read = of_node.filter(|op| op.op == RegisterOp::Get && answered(&op.outcome)).count();
        assert!(read > 50, "node {id} answered only {read} reads");
    }
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_skip_the_barrier_are_caught() {
    let _alone = alone().await;
    let seed = seed_planted("faults", "histories::reads_that_skip_the_barrier_are_caught");
    let mut rng = SmallRng::seed_from_u64(seed);
    let options = ProcessCluster::options(3)
        .binary(planted_binary())
        .env("QUORATE_PLANTED_FAULT", "read-without-barrier");
    let mut cluster = options.start().await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    for attempt in 1..=PLANTED_ATTEMPTS {
        let work = Work::start(&cluster, &mut rng);
        tokio::time::sleep(PLANTED_RUN).await;
        work.read_on_a_laggard(&mut cluster, &mut rng).await;
        let history = work.end().await;
        let (ok, ..) = history.counts();
        assert!(ok > 100, "so few answers ({ok}) could hide anything");
        if let Verdict::Violation(violation) = check::<Register>(&history, &Bounds::default()) {
            say(format!("caught in attempt {attempt}, in {ok} answers:\n{violation}"));
            return;
        }
        // The keys go on with versions that the next history would not know of.
        let client = Client::builder().endpoints(cluster.endpoints()).connect();
        let client = client.expect("the options are right");
        for key in KEYS {
            client.kv().delete(key).await.expect("a key can be deleted");
        }
    }
    cluster.mark_failed();
    panic!("{PLANTED_ATTEMPTS} histories of reads without a barrier were taken for linearizable");
}
