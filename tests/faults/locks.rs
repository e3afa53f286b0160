//! Locks under kills and pauses of leaders, holders that stop for longer than their lease, and clients that die.
//!
//! Each contender is a thread with a runtime of its own: when the thread sleeps, everything of the
//! client stands still, as in a stopped process; when the runtime is dropped, its connections close
//! and nothing is said any more, as when a process is killed.
//!
//! What is checked: no two contenders ever believed at the same time that they hold the lock, by one
//! clock; tokens grow from grant to grant; no write guarded by a token came through after the lock had
//! passed on; and the lock was never stuck for longer than what happened meanwhile excuses.

use quorate_client::{Client, Error, Lock};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, say, seed};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

const CONTENDERS: usize = 16;
const NAME: &str = "the-lock";
const TTL: Duration = Duration::from_secs(1);
const SESSION_TTL: Duration = Duration::from_secs(2);
/// Longer than the lease, and than what the cluster takes to notice that it ran out.
const PAUSE: Duration = Duration::from_millis(1_900);
/// In so many of a thousand rounds a holder stops, a holder dies, a waiter dies.
const PAUSES: u32 = 20;
const HOLDERS_DIE: u32 = 8;
const WAITERS_DIE: u32 = 40;
/// What the promises allow on top of leases: to notice, to write it down, to tell the next.
const NOTICE: Duration = Duration::from_secs(2);
/// To pass on what a dead waiter was granted.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// What happened, by one clock.
#[derive(Clone, Debug)]
enum Event {
    Granted {
        token: u64,
        revision: u64,
    },
    /// From the grant on until then its holder believed in it.
    Believed {
        token: u64,
        from: Instant,
        until: Instant,
    },
    /// A guarded write came through.
    Wrote {
        token: u64,
        revision: u64,
    },
    /// One was refused.
    Refused {
        paused: bool,
    },
    /// One came through although its holder had stopped for longer than the lease.
    WroteLate,
    HolderPaused,
    HolderDied,
    WaiterDied,
    LeaderGone,
    LeaderBack,
    TimedOut,
    Failed(String),
}

#[derive(Default)]
struct Book {
    events: Mutex<Vec<(Instant, Event)>>,
    grants: AtomicUsize,
    stop: AtomicBool,
}

impl Book {
    fn write(&self, event: Event) {
        self.events.lock().expect("no writer panics").push((Instant::now(), event));
    }
}

struct Contender {
    endpoints: Vec<String>,
    book: Arc<Book>,
    random: SmallRng,
    /// What lives as long as the "process" does.
    process: Option<(Runtime, Client)>,
}

/// How a round ended.
enum Ended {
    Alive,
    Killed,
}

impl Contender {
    fn run(mut self) {
        while !self.book.stop.load(Ordering::Relaxed) {
            let (runtime, client) = self.process.take().unwrap_or_else(|| self.start());
            match runtime.block_on(self.round(&client)) {
                Ended::Alive => self.process = Some((runtime, client)),
                // Connections close; tasks that would say good-bye are never run.
                Ended::Killed => drop(runtime),
            }
        }
        if let Some((runtime, client)) = self.process.take() {
            let _ = runtime.block_on(client.close());
        }
    }

    fn start(&self) -> (Runtime, Client) {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = Client::builder()
            .endpoints(self.endpoints.iter().cloned())
            .session_ttl(SESSION_TTL)
            .request_timeout(Duration::from_secs(10))
            .connect()
            .expect("the options are right");
        (runtime, client)
    }

    async fn round(&mut self, client: &Client) -> Ended {
        let acquire = client.locks().acquire(NAME).ttl(TTL).wait(Duration::from_secs(60));
        let dies = self.random.random_range(0..1_000) < WAITERS_DIE;
        let patience = Duration::from_millis(self.random.random_range(1..60));
        let acquired = tokio::select! {
            acquired = acquire.into_future() => acquired,
            () = tokio::time::sleep(patience), if dies => {
                self.book.write(Event::WaiterDied);
                return Ended::Killed;
            }
        };
        match acquired {
            Ok(lock) => self.hold(client, lock).await,
            Err(Error::NotAcquired { .. }) => {
                self.book.write(Event::TimedOut);
                Ended::Alive
            }
            // The answer to a request from before a kill; its session may be gone as well.
            Err(error) => {
                self.book.write(Event::Failed(error.to_string()));
                Ended::Alive
            }
        }
    }

    async fn hold(&mut self, client: &Client, lock: Lock) -> Ended {
        let (token, from) = (lock.fencing_token(), Instant::now());
        self.book.write(Event::Granted { token, revision: lock.revision() });
        self.book.grants.fetch_add(1, Ordering::Relaxed);
        let believed = |until| self.book.write(Event::Believed { token, from, until });
        match self.random.random_range(0..1_000) {
            chance if chance < PAUSES => {
                believed(Instant::now() + lock.remaining());
                self.book.write(Event::HolderPaused);
                stand_still(PAUSE);
                self.guarded_write(client, &lock, true).await;
                Ended::Alive
            }
            chance if chance < PAUSES + HOLDERS_DIE => {
                believed(Instant::now());
                self.book.write(Event::HolderDied);
                std::mem::forget(lock);
                Ended::Killed
            }
            _ => {
                self.guarded_write(client, &lock, false).await;
                let hold_ms = self.random.random_range(0..4);
                tokio::time::sleep(Duration::from_millis(hold_ms)).await;
                believed(Instant::now().min(Instant::now() + lock.remaining()));
                // A failure leaves it to its ttl.
                if let Err(error) = lock.release().await {
                    self.book.write(Event::Failed(error.to_string()));
                }
                Ended::Alive
            }
        }
    }

    async fn guarded_write(&self, client: &Client, lock: &Lock, paused: bool) {
        let token = lock.fencing_token();
        let written = client.kv().set("owner", token.to_string()).guard(&lock.guard()).await;
        match written {
            Ok(written) => {
                self.book.write(Event::Wrote { token, revision: written.revision });
                if paused {
                    self.book.write(Event::WroteLate);
                }
            }
            Err(Error::LockLost { .. }) => self.book.write(Event::Refused { paused }),
            Err(error) => self.book.write(Event::Failed(error.to_string())),
        }
    }
}

/// All of this contender's client stands still, as if its process were stopped.
#[expect(clippy::disallowed_methods, reason = "to block its runtime is what it is for")]
fn stand_still(time: Duration) {
    thread::sleep(time);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contenders_never_overlap_and_the_lock_is_never_stuck() {
    let _alone = alone().await;
    let grants = number("QUORATE_LOCK_GRANTS", 600);
    let seed = seed("faults", "locks::contenders_never_overlap_and_the_lock_is_never_stuck");
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let book = Arc::new(Book::default());
    let threads: Vec<_> = (0..CONTENDERS)
        .map(|number| {
            let contender = Contender {
                endpoints: cluster.endpoints(),
                book: Arc::clone(&book),
                random: SmallRng::seed_from_u64(seed ^ (number as u64) << 32),
                process: None,
            };
            thread::spawn(move || contender.run())
        })
        .collect();

    let begun = Instant::now();
    let mut changes = 0;
    while book.grants.load(Ordering::Relaxed) < grants {
        assert!(begun.elapsed() < Duration::from_secs(1_800), "no progress");
        let target = book.grants.load(Ordering::Relaxed) + grants / 6;
        while book.grants.load(Ordering::Relaxed) < target.min(grants) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let leader = cluster.wait_ready().await.expect("there is a leader");
        if changes % 2 == 0 {
            cluster.kill(leader).await.expect("the leader can be killed");
            book.write(Event::LeaderGone);
            cluster.restart(leader).await.expect("it starts again");
        } else {
            // It comes back with renewals that it has not answered yet, and does not know that
            // another leads by now.
            cluster.pause(leader).await.expect("the leader can be stopped");
            book.write(Event::LeaderGone);
            cluster.wait_ready().await.expect("another leads");
            tokio::time::sleep(TTL).await;
            cluster.resume(leader).expect("it goes on");
        }
        changes += 1;
        cluster.wait_ready().await.expect("there is a leader again");
        book.write(Event::LeaderBack);
    }
    book.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("no contender panicked");
    }
    let events = std::mem::take(&mut *book.events.lock().expect("no writer panics"));
    let count = |which: fn(&Event) -> bool| events.iter().filter(|(_, event)| which(event)).count();
    say(format!(
        "{} grants in {:?} with {changes} leaders killed or stopped, {} holders stopped, {} dead holders, {} dead waiters, \
         {} refused writes of holders that had stopped, {} that came through because leases began \
         anew, {} waits that ran out, {} failures",
        count(|event| matches!(event, Event::Granted { .. })),
        begun.elapsed(),
        count(|event| matches!(event, Event::HolderPaused)),
        count(|event| matches!(event, Event::HolderDied)),
        count(|event| matches!(event, Event::WaiterDied)),
        count(|event| matches!(event, Event::Refused { paused: true })),
        count(|event| matches!(event, Event::WroteLate)),
        count(|event| matches!(event, Event::TimedOut)),
        count(|event| matches!(event, Event::Failed(_))),
    ));
    let failures = events.iter().filter_map(|(at, event)| match event {
        Event::Failed(why) => Some((*at, why.as_str())),
        _ => None,
    });
    for (at, why) in failures.take(3) {
        say(format!("a call failed: {why}; what happened around it:\n{}", around(&events, at)));
    }
    never_believed_by_two(&events);
    tokens_grow_and_guards_hold(&events);
    stopped_holders_are_refused(&events);
    never_stuck(&events);
    let state = cluster.wait_same_state().await.expect("all nodes come to the same state");
    say(format!("all nodes have checksum {:016x} at index {:?}", state.checksum, state.applied));
    cluster.logs().assert_no_panics();
}

fn never_believed_by_two(events: &[(Instant, Event)]) {
    let mut spans: Vec<(Instant, Instant, u64)> = events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Believed { token, from, until } => Some((*from, *until, *token)),
            _ => None,
        })
        .collect();
    spans.sort();
    for pair in spans.windows(2) {
        let [(_, until, token), (from, _, next)] = pair else { continue };
        assert!(from >= until, "tokens {token} and {next} were believed in at the same time");
    }
    assert!(spans.len() > 1, "nothing was held");
}

/// By the cluster's own order: revisions.
fn tokens_grow_and_guards_hold(events: &[(Instant, Event)]) {
    let mut grants = BTreeMap::new();
    for (_, event) in events {
        if let Event::Granted { token, revision } = event {
            assert!(grants.insert(*revision, *token).is_none(), "two grants at {revision}");
        }
    }
    let tokens: Vec<u64> = grants.values().copied().collect();
    assert!(tokens.is_sorted_by(|a, b| a < b), "tokens do not grow: {tokens:?}");
    for (_, event) in events {
        if let Event::Wrote { token, revision } = event {
            let newest = grants.range(..=revision).next_back().map(|(_, token)| *token);
            assert_eq!(newest, Some(*token), "a write at {revision} came after the lock passed on");
        }
    }
}

/// Every time; but a new leader gives each lease its time anew, so then a holder may still hold it.
fn stopped_holders_are_refused(events: &[(Instant, Event)]) {
    let kills: Vec<Instant> = events
        .iter()
        .filter(|(_, event)| matches!(event, Event::LeaderGone | Event::LeaderBack))
        .map(|(at, _)| *at)
        .collect();
    for (at, event) in events {
        if matches!(event, Event::WroteLate) {
            let excused = kills
                .iter()
                .any(|kill| *kill + Duration::from_secs(5) > *at - PAUSE - TTL && *kill < *at);
            assert!(excused, "a holder wrote {PAUSE:?} after it stopped, without a new leader");
        }
    }
}

/// What happened in the seconds before and after, a line each.
fn around(events: &[(Instant, Event)], middle: Instant) -> String {
    let near =
        events.iter().filter(|(at, _)| at.max(&middle).duration_since(*at.min(&middle)) < NOTICE);
    near.fold(String::new(), |mut lines, (at, event)| {
        let ms = match *at < middle {
            true => -(middle.duration_since(*at).as_secs_f64() * 1e3),
            false => at.duration_since(middle).as_secs_f64() * 1e3,
        };
        let _ = writeln!(lines, "{ms:+9.1} ms {event:?}");
        lines
    })
}

/// From each grant to the next no more time passes than what happened in between allows.
///
/// A waiter that dies is passed over; but when it dies with the grant already on its way to it, nobody
/// can know that it never arrived, and the lease has to run out. That is rare: mostly they die waiting.
fn never_stuck(events: &[(Instant, Event)]) {
    let mut longest = Duration::ZERO;
    let mut since: Option<(Instant, u64)> = None;
    let (mut lease, mut leader, mut waiter) = (false, None::<Instant>, false);
    let (mut died, mut on_their_way) = (0, 0);
    for (at, event) in events {
        match event {
            Event::Granted { token, .. } => {
                if let Some((since, before)) = since {
                    if waiter && leader.is_none() && !lease && *token > before + 1 {
                        (lease, on_their_way) = (true, on_their_way + 1);
                    }
                    let (from, allowed) = match (leader, lease) {
                        (Some(changed), _) => (changed.max(since), TTL + SESSION_TTL + NOTICE),
                        (None, true) => (since, TTL + NOTICE),
                        (None, false) => (since, GIVE_BACK),
                    };
                    let took = at.saturating_duration_since(from);
                    assert!(
                        took <= allowed,
                        "{took:?} without a grant, {allowed:?} allowed (lease {lease}, leader \
                         {leader:?}, dead waiters {waiter}); what happened around it:\n{}",
                        around(events, *at)
                    );
                    if leader.is_none() && !lease {
                        longest = longest.max(took);
                    }
                }
                (since, lease, leader, waiter) = (Some((*at, *token)), false, None, false);
            }
            Event::HolderPaused | Event::HolderDied => lease = true,
            Event::WaiterDied => (waiter, died) = (true, died + 1),
            Event::LeaderGone | Event::LeaderBack => leader = Some(*at),
            Event::Failed(_) => lease = true,
            _ => {}
        }
    }
    say(format!(
        "without any of that it passed on within {longest:?} at the latest; {on_their_way} of {died} \
         waiters died with the grant on its way"
    ));
    assert!(
        on_their_way * 4 <= died,
        "{on_their_way} of {died} dead waiters were granted the lock"
    );
}
