//! A bank under leader kills: transfers between accounts through all nodes, as compare-and-set and
//! as additions, while auditors read all accounts at once. No money may ever be missing or made: not
//! in any audit, nor at the end, and no transfer may happen twice.

use quorate_client::{Client, Error, Routing, Transaction, TxnOutcome};
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, say, seed};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const ACCOUNTS: usize = 20;
const OPENING_BALANCE: i64 = 1_000;
const ALL_MONEY: i64 = OPENING_BALANCE * ACCOUNTS as i64;
/// Not a number, so that adding to it is refused.
const NOTE: &str = "note";
/// Tellers and auditors at each node.
const TELLERS: u64 = 3;
const AUDITORS: u64 = 2;
/// Above most failovers, and below some, so that some outcomes stay unknown.
const CALL_DEADLINE: Duration = Duration::from_millis(2_500);
/// Between two calls of one of them, at most.
const THINK_MS_MAX: u64 = 5;
/// Between the end of one kill and the next, at most.
const CALM_MS_MAX: u64 = 800;

fn account(number: usize) -> String {
    format!("account/{number:02}")
}

fn client_of(cluster: &ProcessCluster, node: u64) -> Client {
    Client::builder()
        .endpoints([cluster.client_addr(node).to_string()])
        .routing(Routing::Endpoints)
        .request_timeout(CALL_DEADLINE)
        .connect()
        .expect("the options are right")
}

/// Reads all accounts at one moment, and counts the money.
fn audit(client: &Client) -> Transaction {
    (0..ACCOUNTS).fold(client.txn(), |txn, number| txn.get(account(number)))
}

fn sum(audit: &TxnOutcome) -> i64 {
    (0..ACCOUNTS).map(|number| balance(audit, number)).sum()
}

/// What the read at this place found.
fn balance(outcome: &TxnOutcome, position: usize) -> i64 {
    let entry = outcome.entry(position).expect("an account is never deleted");
    let text = std::str::from_utf8(&entry.value).expect("a balance is a number");
    text.parse().expect("a balance is a number")
}

/// What became of the transactions of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    done: u64,
    /// Compare-and-set: somebody else was faster.
    overtaken: u64,
    /// Certainly without an effect.
    failed: u64,
    unknown: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.overtaken += other.overtaken;
        self.failed += other.failed;
        self.unknown += other.unknown;
    }

    fn count(&mut self, answer: &Result<TxnOutcome, Error>) {
        match answer {
            Ok(outcome) if outcome.succeeded() => self.done += 1,
            Ok(_) => self.overtaken += 1,
            Err(Error::Indeterminate { .. }) => self.unknown += 1,
            Err(
                Error::Unavailable { .. }
                | Error::SessionExpired { .. }
                | Error::ResourceExhausted { .. },
            ) => self.failed += 1,
            Err(error) => panic!("an ordinary call was refused: {error} ({})", error.reason()),
        }
    }
}

/// Moves money, and counts each transfer in the same transaction.
struct Teller {
    client: Client,
    rng: SmallRng,
    counter: String,
    by_addition: Counts,
    by_comparison: Counts,
    refused: u64,
}

impl Teller {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Relaxed) {
            let from = self.rng.random_range(0..ACCOUNTS);
            let to = (from + self.rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
            let amount = self.rng.random_range(1..=50);
            match self.rng.random_range(0..10) {
                0 => self.transfer_that_is_refused(from, to, amount).await,
                1..5 => self.transfer_by_addition(from, to, amount).await,
                _ => self.transfer_by_comparison(from, to, amount).await,
            }
            let think = Duration::from_millis(self.rng.random_range(0..=THINK_MS_MAX));
            tokio::time::sleep(think).await;
        }
        self
    }

    async fn transfer_by_addition(&mut self, from: usize, to: usize, amount: i64) {
        let txn = self.client.txn().increment(account(from), -amount);
        let txn = txn.increment(account(to), amount).increment(&self.counter, 1);
        self.by_addition.count(&txn.commit().await);
    }

    async fn transfer_by_comparison(&mut self, from: usize, to: usize, amount: i64) {
        let read = self.client.txn().get(account(from)).get(account(to)).commit().await;
        // A read that fails has moved nothing.
        let Ok(read) = read else { return };
        let version = |position| read.version(position).expect("an account is never deleted");
        let txn = self
            .client
            .txn()
            .when_version(account(from), version(0))
            .when_version(account(to), version(1))
            .set(account(from), (balance(&read, 0) - amount).to_string())
            .set(account(to), (balance(&read, 1) + amount).to_string())
            .increment(&self.counter, 1);
        self.by_comparison.count(&txn.commit().await);
    }

    /// Its last step is refused when the money is on its way already.
    async fn transfer_that_is_refused(&mut self, from: usize, to: usize, amount: i64) {
        let txn = self.client.txn().increment(account(from), -amount).increment(NOTE, 1);
        match txn.increment(account(to), amount).commit().await {
            Err(error) if error.reason() == "NOT_A_NUMBER" => self.refused += 1,
            Err(error) if !matches!(error, Error::InvalidArgument { .. }) => {}
            other => panic!("adding to a text came to {other:?}"),
        }
    }
}

/// Looks at all accounts at once. Every answer must have all of the money, a stale one too: it may
/// be old, but it is of one moment.
async fn audit_again_and_again(client: Client, stale: bool, stop: Arc<AtomicBool>) -> u64 {
    let (mut audits, mut newest) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let txn = audit(&client);
        let audit = match if stale { txn.stale().commit().await } else { txn.commit().await } {
            Ok(audit) => audit,
            Err(Error::Unavailable { .. } | Error::ResourceExhausted { .. }) => continue,
            Err(error) => panic!("a read was refused: {error} ({})", error.reason()),
        };
        let there = (0..ACCOUNTS).all(|number| audit.entry(number).is_some());
        assert!(there, "an account is missing: stale {stale}, at revision {}", audit.revision);
        assert_eq!(sum(&audit), ALL_MONEY, "stale {stale}, at revision {}", audit.revision);
        if !stale {
            assert!(audit.revision >= newest, "{} after {newest}", audit.revision);
            newest = audit.revision;
        }
        audits += 1;
        tokio::time::sleep(Duration::from_millis(THINK_MS_MAX)).await;
    }
    audits
}

/// Everybody at work.
struct Bank {
    stop: Arc<AtomicBool>,
    tellers: Vec<JoinHandle<Teller>>,
    /// By node, and whether stale.
    auditors: Vec<((u64, bool), JoinHandle<u64>)>,
}

impl Bank {
    async fn open(cluster: &mut ProcessCluster, rng: &mut SmallRng) -> Self {
        let client = client_of(cluster, 1);
        let txn = (0..ACCOUNTS).fold(client.txn(), |txn, number| {
            txn.set(account(number), OPENING_BALANCE.to_string())
        });
        txn.set(NOTE, "not a number").commit().await.expect("accounts can be opened");
        // On all nodes: a stale audit of one that has not heard of it yet would find no accounts.
        cluster.wait_same_state().await.expect("all nodes have the accounts");

        let stop = Arc::new(AtomicBool::new(false));
        let (mut tellers, mut auditors) = (Vec::new(), Vec::new());
        for node in cluster.ids() {
            for nth in 0..TELLERS {
                let teller = Teller {
                    client: client_of(cluster, node),
                    rng: SmallRng::seed_from_u64(rng.random()),
                    counter: format!("transfers/{node}.{nth}"),
                    by_addition: Counts::default(),
                    by_comparison: Counts::default(),
                    refused: 0,
                };
                tellers.push(tokio::spawn(teller.run(Arc::clone(&stop))));
            }
            for nth in 0..AUDITORS {
                let stale = nth % 2 == 1;
                let client = client_of(cluster, node);
                let auditing = audit_again_and_again(client, stale, Arc::clone(&stop));
                auditors.push(((node, stale), tokio::spawn(auditing)));
            }
        }
        Self { stop, tellers, auditors }
    }

    async fn close(self) -> (Vec<Teller>, BTreeMap<(u64, bool), u64>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut tellers = Vec::new();
        for teller in self.tellers {
            tellers.push(teller.await.expect("no teller met an answer that can't be"));
        }
        let mut audits = BTreeMap::new();
        for (which, auditor) in self.auditors {
            audits.insert(which, auditor.await.expect("every audit found all of the money"));
        }
        (tellers, audits)
    }
}

/// Kills leaders until the time is up. Answers with all nodes up and well.
async fn kill_leaders(cluster: &mut ProcessCluster, rng: &mut SmallRng, until: Instant) -> usize {
    let mut kills = 0;
    while Instant::now() < until {
        let leader = cluster.leader().await.expect("somebody leads");
        cluster.kill(leader).await.expect("the leader can be killed");
        cluster.leader().await.expect("another node takes over");
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..=CALM_MS_MAX))).await;
        cluster.restart(leader).await.expect("it starts again");
        kills += 1;
        wait_healthy(cluster).await.expect("all nodes are well again");
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..=CALM_MS_MAX))).await;
    }
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_keep_the_sum_while_leaders_are_killed() {
    let _alone = alone().await;
    let seed = seed("faults", "bank::transfers_keep_the_sum_while_leaders_are_killed");
    let mut rng = SmallRng::seed_from_u64(seed);
    let seconds = number("QUORATE_BANK_SECONDS", 15);
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let bank = Bank::open(&mut cluster, &mut rng).await;
    let until = Instant::now() + Duration::from_secs(seconds);
    let kills = kill_leaders(&mut cluster, &mut rng, until).await;
    let (tellers, audits) = bank.close().await;

    let (mut by_addition, mut by_comparison, mut refused) =
        (Counts::default(), Counts::default(), 0);
    for teller in &tellers {
        by_addition.add(teller.by_addition);
        by_comparison.add(teller.by_comparison);
        refused += teller.refused;
    }
    say(format!("{kills} kills; audits by (node, stale): {audits:?}; {refused} refused"));
    say(format!("by addition: {by_addition:?}; by comparison: {by_comparison:?}"));

    for id in cluster.ids() {
        let client = client_of(&cluster, id);
        let last = audit(&client).commit().await.expect("a healthy node answers");
        assert_eq!(sum(&last), ALL_MONEY, "at the end, by node {id}");
    }
    // Each transfer has counted itself: none twice, none lost, and none of those that failed.
    let client = client_of(&cluster, 1);
    for teller in &tellers {
        let counted = client.kv().get(&teller.counter).await.expect("a healthy node answers");
        let counted: u64 = counted.map_or(0, |entry| {
            String::from_utf8_lossy(&entry.value).parse().expect("a counter is a number")
        });
        let done = teller.by_addition.done + teller.by_comparison.done;
        let unknown = teller.by_addition.unknown + teller.by_comparison.unknown;
        assert!(
            (done..=done + unknown).contains(&counted),
            "{} has {counted}, of {done} transfers that were answered and {unknown} unknown",
            teller.counter
        );
    }
    let note = client.kv().get(NOTE).await.expect("a healthy node answers").expect("it is there");
    assert_eq!(note.version, 1);

    assert!(kills > 0, "nobody was killed");
    assert!(by_addition.done > 200, "so few transfers show little");
    assert!(
        by_comparison.done > 100 && by_comparison.overtaken > 0,
        "so few transfers show little"
    );
    assert!(refused > 20, "so few refusals show little");
    assert!(audits.values().all(|audits| *audits > 50), "so few audits show little");
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}
