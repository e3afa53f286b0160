//! The task queue under kills of leaders, nodes and workers.
//!
//! Producers push jobs through all nodes: plain ones, some with priorities, delays, groups or dedupe
//! keys; some that always fail. Workers take them; each is a thread with a runtime of its own, so that
//! it can die as a process does: its connections close, and nothing is said any more. Jobs that are
//! done are kept, so at the end every job that was pushed can be looked at.
//!
//! What is checked: every job whose push was answered is done or a dead letter at the end; none was
//! acknowledged twice; nobody was given a job more often than it may be; no delayed job came early;
//! jobs of a group followed each other; a job that was pushed again under its dedupe key was the same.

use futures::TryStreamExt as _;
use quorate_client::queue::{Backoff, Job, JobState, NewJob};
use quorate_client::{Client, Error};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, say, seed};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

const QUEUE: &str = "work";
const DEAD: &str = "work.dead";
const PRODUCERS: usize = 6;
const WORKERS: usize = 8;
/// Jobs that a worker has at a time.
const WINDOW: u32 = 32;
const ATTEMPTS_MAX: u32 = 4;
/// Short, so that what a dead worker had is seen again within the test.
const VISIBILITY: Duration = Duration::from_secs(3);
const SESSION_TTL: Duration = Duration::from_secs(3);
/// Above most failovers.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// In so many of ten thousand jobs a worker dies with it.
const WORKERS_DIE: u32 = 4;
/// In so many of a thousand a job fails, is handed back, is given up.
const FAILS: u32 = 30;
const RETURNS: u32 = 10;
const KILLS: u32 = 5;
/// Between two kills of nodes.
const CALM: Duration = Duration::from_millis(1_500);
/// Until everything is done once nothing fails any more.
const SETTLES: Duration = Duration::from_secs(60);

/// A job as its producer knows it.
#[derive(Clone, Debug)]
struct Pushed {
    name: String,
    /// Before its push was sent.
    sent: Instant,
    delay: Duration,
    /// The group, and its number in it.
    group: Option<(String, u64)>,
    /// Whether it has a dedupe key.
    deduped: bool,
}

/// What a worker saw of a delivery.
#[derive(Clone, Debug)]
struct Delivery {
    id: u64,
    attempt: u32,
    at: Instant,
    /// Before the answer to it was sent, and what came of that.
    settled: Option<(Instant, Settled)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Done,
    Failed,
    Returned,
    /// Somebody else has it by now, or it is done.
    Late,
    /// Nobody knows.
    Unknown,
}

#[derive(Default)]
struct Book {
    pushed: Mutex<BTreeMap<u64, Pushed>>,
    /// Names of jobs that may be in the queue although their push failed.
    maybe: Mutex<BTreeSet<String>>,
    deliveries: Mutex<Vec<Delivery>>,
    accepted: AtomicUsize,
    repeated: AtomicUsize,
    died: AtomicUsize,
    done: AtomicUsize,
    stop: AtomicBool,
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().expect("nobody panics while they write")
}

fn connect(endpoints: &[String]) -> Client {
    Client::builder()
        .endpoints(endpoints.iter().cloned())
        .session_ttl(SESSION_TTL)
        .request_timeout(CALL_DEADLINE)
        .connect()
        .expect("the options are right")
}

/// Pushes its share of the jobs, each under a name of its own.
struct Producer {
    number: usize,
    client: Client,
    book: Arc<Book>,
    random: SmallRng,
    /// Jobs pushed into each of its groups; none once a push of one is unknown.
    groups: Vec<Option<u64>>,
}

impl Producer {
    async fn run(mut self, jobs: usize) {
        let mut made = 0;
        while made < jobs {
            let count = self.random.random_range(1..=32).min(jobs - made);
            let batch: Vec<(NewJob, Pushed)> =
                (made..made + count).map(|number| self.job(number)).collect();
            self.push(batch).await;
            made += count;
        }
    }

    fn job(&mut self, number: usize) -> (NewJob, Pushed) {
        let name = format!("{}.{number}", self.number);
        let mut job = NewJob::new(name.clone());
        let (mut delay, mut group, mut deduped) = (Duration::ZERO, None, false);
        match self.random.random_range(0..20) {
            0..3 => {
                delay = Duration::from_millis(self.random.random_range(1..2_000));
                job = job.delay(delay);
            }
            3..6 => job = job.priority(self.random.random()),
            6..8 => (job, deduped) = (job.dedupe_key(&name), true),
            8..10 => {
                let which = self.random.random_range(0..self.groups.len());
                if let Some(next) = &mut self.groups[which] {
                    let key = format!("{}/{which}", self.number);
                    job = job.group(&key);
                    group = Some((key, *next));
                    *next += 1;
                }
            }
            _ => {}
        }
        let sent = Instant::now();
        (job, Pushed { name, sent, delay, group, deduped })
    }

    async fn push(&mut self, batch: Vec<(NewJob, Pushed)>) {
        let (jobs, mut pushed): (Vec<NewJob>, Vec<Pushed>) = batch.into_iter().unzip();
        let sent = Instant::now();
        pushed.iter_mut().for_each(|job| job.sent = sent);
        let answer = loop {
            match self.client.queue().push_many(QUEUE, jobs.clone()).await {
                // Certainly not pushed, so it may be asked for again.
                Err(Error::Unavailable { .. } | Error::SessionExpired { .. }) => {}
                Err(Error::ResourceExhausted { .. }) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                answer => break answer,
            }
        };
        match answer {
            Ok(ids) => {
                self.book.accepted.fetch_add(ids.len(), Ordering::Relaxed);
                for (answer, job) in ids.iter().zip(&pushed) {
                    assert!(!answer.duplicate, "{} was pushed once", job.name);
                    let before = lock(&self.book.pushed).insert(answer.id, job.clone());
                    assert!(before.is_none(), "two jobs have the id {}", answer.id);
                }
                self.push_again(&jobs, &pushed, ids.iter().map(|answer| answer.id)).await;
            }
            Err(Error::Indeterminate { .. }) => {
                for job in pushed {
                    // Its order in the group is not known any more.
                    if let Some((key, _)) = &job.group {
                        let which = key.split('/').next_back().and_then(|n| n.parse().ok());
                        let which: usize = which.expect("groups are numbered");
                        self.groups[which] = None;
                    }
                    lock(&self.book.maybe).insert(job.name);
                }
            }
            Err(error) => panic!("an ordinary push was refused: {error} ({})", error.reason()),
        }
    }

    /// What has a dedupe key is the same job, whoever leads by now.
    async fn push_again(
        &mut self,
        jobs: &[NewJob],
        pushed: &[Pushed],
        ids: impl Iterator<Item = u64>,
    ) {
        for ((job, id), pushed) in jobs.iter().zip(ids).zip(pushed) {
            if !pushed.deduped || self.random.random_range(0..4) > 0 {
                continue;
            }
            // Of one that failed it is not known which it was, but it was there.
            if let Ok(again) = self.client.queue().push_many(QUEUE, [job.clone()]).await {
                assert_eq!((again[0].id, again[0].duplicate), (id, true), "{}", pushed.name);
                self.book.repeated.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Takes jobs until it is told to stop, and dies now and then.
struct Worker {
    endpoints: Vec<String>,
    book: Arc<Book>,
    random: SmallRng,
}

enum Ended {
    Stopped,
    Killed,
}

impl Worker {
    fn run(mut self) {
        loop {
            let runtime: Runtime =
                Builder::new_current_thread().enable_all().build().expect("a runtime");
            match runtime.block_on(self.work()) {
                Ended::Stopped => return,
                // Connections close; tasks that would say good-bye are never run.
                Ended::Killed => {
                    self.book.died.fetch_add(1, Ordering::Relaxed);
                    drop(runtime);
                }
            }
        }
    }

    async fn work(&mut self) -> Ended {
        let client = connect(&self.endpoints);
        let mut consumer = loop {
            match client.queue().consume(QUEUE, WINDOW).start().await {
                Ok(consumer) => break consumer,
                Err(_) if self.book.stop.load(Ordering::Relaxed) => return Ended::Stopped,
                Err(Error::Unavailable { .. }) => {}
                Err(error) => panic!("a consumer was refused: {error} ({})", error.reason()),
            }
        };
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            let job = tokio::select! {
                job = consumer.next() => job.expect("a consumer goes on"),
                _ = looks.tick() => {
                    if self.book.stop.load(Ordering::Relaxed) {
                        consumer.close().await;
                        let _ = client.close().await;
                        return Ended::Stopped;
                    }
                    continue;
                }
            };
            let job = job.expect("the queue is there");
            if self.random.random_range(0..10_000) < WORKERS_DIE {
                self.note(&job, None);
                return Ended::Killed;
            }
            self.settle(job).await;
        }
    }

    fn note(&self, job: &Job, settled: Option<(Instant, Settled)>) -> usize {
        let (id, attempt, at) = (job.id(), job.attempt(), Instant::now());
        let mut deliveries = lock(&self.book.deliveries);
        deliveries.push(Delivery { id, attempt, at, settled });
        deliveries.len() - 1
    }

    async fn settle(&mut self, job: Job) {
        let place = self.note(&job, None);
        let name = String::from_utf8_lossy(job.payload()).into_owned();
        let fails_always = name.ends_with("77");
        let sent = Instant::now();
        let settled = match self.random.random_range(0..1_000) {
            _ if fails_always => {
                of(job.nack_after(Duration::ZERO, "always").await, Settled::Failed)
            }
            chance if chance < FAILS => {
                of(job.nack_after(Duration::from_millis(20), "fails").await, Settled::Failed)
            }
            chance if chance < FAILS + RETURNS => of(job.hand_back().await, Settled::Returned),
            chance if chance < FAILS + RETURNS + KILLS => {
                of(job.kill("given up").await, Settled::Failed)
            }
            _ => {
                let settled = of(job.ack().await, Settled::Done);
                self.book.done.fetch_add(usize::from(settled == Settled::Done), Ordering::Relaxed);
                settled
            }
        };
        lock(&self.book.deliveries)[place].settled = Some((sent, settled));
    }
}

fn of<T>(answer: Result<T, Error>, wanted: Settled) -> Settled {
    match answer {
        Ok(_) => wanted,
        Err(error) => match error.reason() {
            "JOB_LEASE_LOST" | "JOB_UNKNOWN" => Settled::Late,
            _ => Settled::Unknown,
        },
    }
}

/// Kills the leader, then a follower, and so on, until all jobs were pushed and most are done.
async fn kill_nodes(
    cluster: &mut ProcessCluster,
    random: &mut SmallRng,
    book: &Book,
    jobs: usize,
) -> usize {
    let begun = Instant::now();
    let mut kills = 0;
    while book.done.load(Ordering::Relaxed) < jobs * 8 / 10 {
        assert!(begun.elapsed() < Duration::from_secs(3_000), "no progress");
        let leader = cluster.wait_ready().await.expect("somebody leads");
        let ids = cluster.ids();
        let victim = match kills % 3 {
            2 => ids[random.random_range(0..ids.len())],
            _ => leader,
        };
        cluster.kill(victim).await.expect("a node can be killed");
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_000))).await;
        cluster.restart(victim).await.expect("it starts again");
        cluster.wait_ready().await.expect("somebody leads again");
        kills += 1;
        tokio::time::sleep(CALM).await;
    }
    kills
}

/// Until nothing waits for anything any more.
async fn settle(client: &Client) {
    let until = Instant::now() + SETTLES;
    loop {
        let stats = client.queue().stats(QUEUE).await.expect("a healthy node answers");
        if stats.ready + stats.delayed + stats.leased == 0 {
            say(format!("{:?}", stats.totals));
            return;
        }
        assert!(Instant::now() < until, "jobs are left: {stats:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_once_while_leaders_nodes_and_workers_die() {
    let _alone = alone().await;
    let jobs = number("QUORATE_QUEUE_JOBS", 20_000);
    let seed = seed("faults", "queue::every_job_ends_once_while_leaders_nodes_and_workers_die");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let client = connect(&cluster.endpoints());
    client
        .queue()
        .update(QUEUE)
        .visibility(VISIBILITY)
        .attempts_max(ATTEMPTS_MAX)
        .backoff(Backoff::fixed(Duration::from_millis(50)))
        .keep_done(Duration::from_secs(24 * 3_600))
        .await
        .expect("a queue can be made");

    let book = Arc::new(Book::default());
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let random = SmallRng::seed_from_u64(seed ^ (number as u64 + 1) << 32);
            let (endpoints, book) = (cluster.endpoints(), Arc::clone(&book));
            thread::spawn(move || Worker { endpoints, book, random }.run())
        })
        .collect();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|number| {
            let producer = Producer {
                number,
                client: connect(&cluster.endpoints()),
                book: Arc::clone(&book),
                random: SmallRng::seed_from_u64(random.random()),
                groups: vec![Some(0); 20],
            };
            tokio::spawn(producer.run(jobs / PRODUCERS))
        })
        .collect();
    let begun = Instant::now();
    let kills = kill_nodes(&mut cluster, &mut random, &book, jobs).await;
    for producer in producers {
        producer.await.expect("no producer met an answer that can't be");
    }
    settle(&client).await;
    let took = begun.elapsed();
    book.stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().expect("no worker panicked");
    }

    say(format!(
        "{} jobs in {took:?}, {} pushes unknown, {} pushed again, {kills} nodes killed, {} workers \
         died, {} deliveries",
        book.accepted.load(Ordering::Relaxed),
        lock(&book.maybe).len(),
        book.repeated.load(Ordering::Relaxed),
        book.died.load(Ordering::Relaxed),
        lock(&book.deliveries).len(),
    ));
    let pushed = std::mem::take(&mut *lock(&book.pushed));
    let deliveries = std::mem::take(&mut *lock(&book.deliveries));
    let maybe = std::mem::take(&mut *lock(&book.maybe));
    let ended = all_ended(&client, &pushed, &maybe).await;
    none_is_done_twice(&deliveries, &ended);
    none_is_early(&pushed, &deliveries);
    groups_follow_each_other(&pushed, &deliveries);

    assert!(kills > 1, "hardly anybody was killed");
    assert!(book.died.load(Ordering::Relaxed) > 0, "no worker died");
    assert!(book.repeated.load(Ordering::Relaxed) > 50, "so few repetitions show little");
    let state = cluster.wait_same_state().await.expect("all nodes come to the same state");
    say(format!("all nodes have checksum {:016x} at index {:?}", state.checksum, state.applied));
    cluster.logs().assert_no_panics();
}

/// Every job that was pushed is there, done or dead, and no other. Answers which are done.
async fn all_ended(
    client: &Client,
    pushed: &BTreeMap<u64, Pushed>,
    maybe: &BTreeSet<String>,
) -> BTreeMap<u64, bool> {
    let mut ended = BTreeMap::new();
    for (queue, done) in [(QUEUE, true), (DEAD, false)] {
        let listed = client.queue().list_jobs(queue).payloads().stream();
        let jobs: Vec<_> = listed.try_collect().await.expect("a healthy node lists them");
        for job in jobs {
            let name = String::from_utf8_lossy(&job.payload).into_owned();
            let wanted = if done { JobState::Done } else { JobState::Ready };
            assert_eq!(job.state, wanted, "job {} in {queue}", job.id);
            assert!(job.attempts <= ATTEMPTS_MAX, "job {} had {} attempts", job.id, job.attempts);
            match pushed.get(&job.id) {
                Some(known) => assert_eq!(known.name, name, "job {}", job.id),
                None => assert!(maybe.contains(&name), "job {} ({name}) was never pushed", job.id),
            }
            assert!(ended.insert(job.id, done).is_none(), "job {} is there twice", job.id);
        }
    }
    let lost: Vec<_> = pushed.keys().filter(|id| !ended.contains_key(id)).take(5).collect();
    assert!(lost.is_empty(), "jobs {lost:?} and maybe more are lost");
    let dead = ended.values().filter(|done| !**done).count();
    say(format!("{} done, {dead} dead letters", ended.len() - dead));
    assert!(dead > 0, "none of those that always fail is a dead letter");
    ended
}

fn none_is_done_twice(deliveries: &[Delivery], ended: &BTreeMap<u64, bool>) {
    let mut acks: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    for delivery in deliveries {
        assert!(
            (1..=ATTEMPTS_MAX).contains(&delivery.attempt),
            "a delivery counts {} attempts",
            delivery.attempt
        );
        let (done, unknown) = acks.entry(delivery.id).or_default();
        match delivery.settled {
            Some((_, Settled::Done)) => *done += 1,
            // Also of a worker that died before it was answered.
            Some((_, Settled::Unknown)) | None => *unknown += 1,
            _ => {}
        }
    }
    for (id, is_done) in ended {
        let (done, unknown) = acks.get(id).copied().unwrap_or_default();
        if *is_done {
            assert!(
                done == 1 || done == 0 && unknown > 0,
                "job {id} was acknowledged {done} times"
            );
        } else {
            assert_eq!(done, 0, "job {id} was acknowledged, and is a dead letter");
        }
    }
}

fn none_is_early(pushed: &BTreeMap<u64, Pushed>, deliveries: &[Delivery]) {
    let mut delayed = BTreeSet::new();
    for delivery in deliveries {
        let Some(job) = pushed.get(&delivery.id) else { continue };
        if job.delay > Duration::ZERO {
            let after = delivery.at.duration_since(job.sent);
            assert!(after >= job.delay, "{} came after {after:?} of {:?}", job.name, job.delay);
            delayed.insert(delivery.id);
        }
    }
    say(format!("{} delayed jobs, none early", delayed.len()));
    assert!(delayed.len() > 50, "so few delays show little");
}

/// The next of a group comes after its predecessor was settled for the last time.
fn groups_follow_each_other(pushed: &BTreeMap<u64, Pushed>, deliveries: &[Delivery]) {
    let mut groups: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
    for (id, job) in pushed {
        if let Some((key, number)) = &job.group {
            groups.entry(key).or_default().insert(*number, *id);
        }
    }
    let mut of: BTreeMap<u64, Vec<&Delivery>> = BTreeMap::new();
    deliveries.iter().for_each(|delivery| of.entry(delivery.id).or_default().push(delivery));
    let mut pairs = 0;
    for jobs in groups.values() {
        let jobs: Vec<u64> = jobs.values().copied().collect();
        for pair in jobs.windows(2) {
            let (Some(before), Some(after)) = (of.get(&pair[0]), of.get(&pair[1])) else {
                continue;
            };
            let begun = after.iter().map(|delivery| delivery.at).min().expect("at least one");
            // One that came too late to be settled may have come at any time.
            for delivery in before {
                if let Some((sent, Settled::Done | Settled::Failed)) = delivery.settled {
                    assert!(sent <= begun, "job {} came before {} was settled", pair[1], pair[0]);
                }
            }
            pairs += 1;
        }
    }
    say(format!("{pairs} pairs of jobs of a group, in their order"));
    assert!(pairs > 50, "so few pairs show little");
}

/// With nobody there the jobs pile up; one who takes them one by one has them in order, whoever leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_jobs_come_in_order_while_the_leader_dies() {
    let _alone = alone().await;
    let seed = seed("faults", "queue::ready_jobs_come_in_order_while_the_leader_dies");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let client = connect(&cluster.endpoints());
    let mut expected = Vec::new();
    for _ in 0..10 {
        let priorities: Vec<u8> = (0..60).map(|_| random.random_range(0..4)).collect();
        let jobs = priorities.iter().map(|priority| NewJob::new("x").priority(*priority));
        let pushed = client.queue().push_many(QUEUE, jobs).await.expect("a push");
        let ids = pushed.iter().map(|job| job.id);
        expected.extend(priorities.iter().map(|priority| u8::MAX - priority).zip(ids));
    }
    expected.sort_unstable();
    let mut taken = Vec::new();
    let mut consumer = client.queue().consume(QUEUE, 1).start().await.expect("a consumer");
    while taken.len() < expected.len() {
        let job = consumer.next().await.expect("it goes on").expect("the queue is there");
        let priority = u8::try_from(job.priority()).expect("as it was pushed");
        taken.push((u8::MAX - priority, job.id()));
        job.ack().await.expect("an ack is carried over a failover");
        if taken.len() % 150 == 100 {
            let leader = cluster.wait_ready().await.expect("somebody leads");
            cluster.kill(leader).await.expect("the leader can be killed");
            cluster.restart(leader).await.expect("it starts again");
        }
    }
    assert_eq!(taken, expected);
    consumer.close().await;
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}
