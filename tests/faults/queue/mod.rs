//! The task queue under kills of leaders, nodes and workers.
//!
//! Producers push jobs through all nodes: plain ones, some with priorities, delays, groups or dedupe
//! keys; one of a hundred always fails, which its name says, so that there are dead letters. Workers take them; each is a thread with a runtime of its own, so that
//! it can die as a process does: its connections close, and nothing is said any more. Jobs that are
//! done are kept, so at the end every job that was pushed can be looked at.
//!
//! What is checked (`history.rs`, on the history alone): every job whose push was answered is done or a
//! dead letter at the end; none was acknowledged twice, or under a lease after another one was given;
//! nobody was given a job more often than it may be, and every attempt that failed was counted; no
//! delayed job came early; jobs of a group followed each other; a job that was pushed again under its
//! dedupe key was the same. And here: what always fails is a dead letter.

mod history;
mod making;

use futures::TryStreamExt as _;
use history::{Checked, Ended, History};
use making::{Book, Producer, Worker, always_fails, lock};
use quorate_client::Client;
use quorate_client::queue::{Backoff, JobState, NewJob};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, say, seed};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const QUEUE: &str = "work";
const DEAD: &str = "work.dead";
const PRODUCERS: usize = 6;
const WORKERS: usize = 8;
const ATTEMPTS_MAX: u32 = 4;
/// Short, so that what a dead worker had is seen again within the test.
const VISIBILITY: Duration = Duration::from_secs(3);
const SESSION_TTL: Duration = Duration::from_secs(3);
/// Above most failovers.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Between two kills of nodes.
const CALM: Duration = Duration::from_millis(1_500);
/// Until everything is done once nothing fails any more.
const SETTLES: Duration = Duration::from_secs(60);

fn connect(endpoints: &[String]) -> Client {
    Client::builder()
        .endpoints(endpoints.iter().cloned())
        .session_ttl(SESSION_TTL)
        .request_timeout(CALL_DEADLINE)
        .connect()
        .expect("the options are right")
}

/// Kills the leader, then a follower, and so on, until all jobs were pushed and most are done.
async fn kill_nodes(
    cluster: &mut ProcessCluster,
    random: &mut SmallRng,
    book: &Book,
    workers: &[JoinHandle<()>],
    jobs: usize,
) -> usize {
    let begun = Instant::now();
    let mut kills = 0;
    while book.done.load(Ordering::Relaxed) < jobs * 8 / 10 {
        assert!(begun.elapsed() < Duration::from_secs(3_000), "no progress");
        let at_work = workers.iter().all(|worker| !worker.is_finished());
        assert!(at_work, "a worker met an answer that can't be");
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

/// All jobs that are there, done or dead.
async fn ended(client: &Client) -> Vec<Ended> {
    let mut ended = Vec::new();
    for (queue, done) in [(QUEUE, true), (DEAD, false)] {
        let listed = client.queue().list_jobs(queue).payloads().stream();
        let jobs: Vec<_> = listed.try_collect().await.expect("a healthy node lists them");
        for job in jobs {
            let wanted = if done { JobState::Done } else { JobState::Ready };
            assert_eq!(job.state, wanted, "job {} in {queue}", job.id);
            let name = String::from_utf8_lossy(&job.payload).into_owned();
            ended.push(Ended { id: job.id, name, done, attempts: job.attempts });
        }
    }
    ended
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

    let book = Arc::new(Book::new());
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
    let kills = kill_nodes(&mut cluster, &mut random, &book, &workers, jobs).await;
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
        lock(&book.pushed).len(),
        lock(&book.maybe).len(),
        lock(&book.again).len(),
        book.died.load(Ordering::Relaxed),
        lock(&book.deliveries).len(),
    ));
    let ended = ended(&client).await;
    let done = ended.iter().find(|ended| ended.done && always_fails(&ended.name));
    assert!(done.is_none(), "it always fails: {done:?}");
    let history = History {
        attempts_max: ATTEMPTS_MAX,
        pushed: std::mem::take(&mut *lock(&book.pushed)),
        maybe: std::mem::take(&mut *lock(&book.maybe)),
        again: std::mem::take(&mut *lock(&book.again)),
        deliveries: std::mem::take(&mut *lock(&book.deliveries)),
        ended,
    };
    // What is seen of each has to be enough to show something.
    let checks: [(&str, Checked, usize); 7] = [
        // Half of those that always fail.
        ("dead letters, nothing lost", history.none_is_lost(), (jobs / 200).max(1)),
        ("jobs acknowledged once", history.none_is_done_twice(), jobs / 2),
        ("jobs with several leases", history.one_lease_is_alive(), 51),
        ("attempts after the first", history.attempts_are_bounded(), 51),
        ("delayed jobs, none early", history.none_is_early(), 51),
        ("pairs of jobs of a group, in their order", history.groups_are_in_order(), 51),
        ("pushes of the same job again", history.duplicates_are_the_same(), 51),
    ];
    for (what, checked, least) in checks {
        let seen = checked.unwrap_or_else(|breach| panic!("{breach}"));
        say(format!("{seen} {what}"));
        assert!(seen >= least, "so few show little: {seen} {what}");
    }
    assert!(kills > 1, "hardly anybody was killed");
    assert!(book.died.load(Ordering::Relaxed) > 0, "no worker died");
    let state = cluster.wait_same_state().await.expect("all nodes come to the same state");
    say(format!("all nodes have checksum {:016x} at index {:?}", state.checksum, state.applied));
    cluster.logs().assert_no_panics();
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
