//! What a test sees of a broker in memory, and of time that it lets pass.

use super::{TestBroker, Time as _};
use futures::TryStreamExt as _;
use quorate_client::Error;
use quorate_client::queue::{NewJob, Repeats};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_lock_runs_out_when_its_ttl_passes() {
    let broker = TestBroker::start().await;
    let (a, b) = (broker.client(), broker.client());
    let held = a.locks().acquire("reports").ttl(10.s()).await.unwrap();
    let refused = b.locks().acquire("reports").no_wait().await.unwrap_err();
    assert!(matches!(refused, Error::NotAcquired { .. }), "{refused:?}");

    // Right behind the grant: it has begun to count before time passes.
    broker.advance(30.s()).await;
    let next = b.locks().acquire("reports").no_wait().await.unwrap();
    assert!(next.fencing_token() > held.fencing_token());
    assert!(!held.release().await.unwrap(), "it was another's by then");
}

#[tokio::test]
async fn nothing_ends_before_its_time() {
    let broker = TestBroker::start().await;
    let client = broker.client();
    client.kv().set("a", "1").ttl(30.s()).await.unwrap();
    client.kv().set("b", "1").ttl(50.s()).await.unwrap();
    let held = client.locks().acquire("l").ttl(40.s()).await.unwrap();
    broker.advance(20.s()).await;
    assert!(client.kv().get("a").await.unwrap().is_some());
    broker.advance(10.s()).await;
    assert!(client.kv().get("a").await.unwrap().is_none());
    assert!(client.kv().get("b").await.unwrap().is_some());
    assert!(!client.locks().inspect("l").await.unwrap().holders.is_empty());
    broker.advance(20.s()).await;
    assert!(client.kv().get("b").await.unwrap().is_none());
    assert!(client.locks().inspect("l").await.unwrap().holders.is_empty());
    drop(held);
}

#[tokio::test]
async fn a_lock_goes_on_to_who_waits_for_it() {
    let broker = TestBroker::start().await;
    let (a, b) = (broker.client(), broker.client());
    let held = a.locks().acquire("reports").ttl(10.s()).await.unwrap();
    let waits = tokio::spawn(async move { b.locks().acquire("reports").wait(60.s()).await });
    while a.locks().inspect("reports").await.unwrap().waiters == 0 {
        tokio::task::yield_now().await;
    }
    broker.advance(10.s()).await;
    let next = waits.await.unwrap().unwrap();
    assert!(next.fencing_token() > held.fencing_token());
}

#[tokio::test]
async fn a_short_session_ends_and_a_usual_one_does_not() {
    let broker = TestBroker::start().await;
    let usual = broker.client();
    let short = broker.options().session_ttl(5.s()).connect().unwrap();
    let (locks, others) = (usual.locks(), short.locks());
    let keeps = locks.acquire("usual").ttl(20.minutes()).await.unwrap();
    let loses = others.acquire("short").ttl(5.s()).await.unwrap();
    broker.advance(10.minutes()).await;
    assert!(locks.inspect("short").await.unwrap().holders.is_empty());
    assert!(keeps.release().await.unwrap(), "its session had ended");
    assert!(!loses.release().await.unwrap());
}

#[tokio::test]
async fn a_client_whose_session_has_ended_goes_on_with_another() {
    let broker = TestBroker::start().await;
    let client = broker.client();
    let held = client.locks().acquire("l").ttl(30.s()).await.unwrap();
    broker.advance(2.hours()).await;
    client.kv().set("a", "1").await.unwrap();
    assert!(!held.release().await.unwrap());
    let again = client.locks().acquire("l").no_wait().await.unwrap();
    assert!(again.release().await.unwrap());
}

#[tokio::test]
async fn jobs_come_due() {
    let broker = TestBroker::start().await;
    let queue = broker.client().queue();
    queue.push("mail", "late").delay(1.hours()).await.unwrap();
    assert!(queue.pull("mail").await.unwrap().is_empty());
    broker.advance(1.hours()).await;
    let mut jobs = queue.pull("mail").await.unwrap();
    let job = jobs.pop().expect("it is ready");
    assert_eq!((&job.payload()[..], job.attempt()), (&b"late"[..], 1));
    // As if its worker had died: the lease runs out, and the wait before the next attempt, too.
    let _ = job.leave();
    broker.advance(10.minutes()).await;
    let job = queue.pull("mail").await.unwrap().pop().expect("it is ready again");
    assert_eq!(job.attempt(), 2);
    job.ack().await.unwrap();
}

#[tokio::test]
async fn each_time_of_a_schedule_comes_on_the_way() {
    let broker = TestBroker::start().await;
    let queue = broker.client().queue();
    let put = |name: &str, repeats| queue.schedule(name, name, NewJob::new("x"), repeats);
    put("cron", Repeats::cron("*/10 * * * *")).await.unwrap();
    put("period", Repeats::Every(10.minutes())).await.unwrap();
    broker.advance(2.hours()).await;
    for name in ["cron", "period"] {
        let jobs: Vec<_> = queue.list_jobs(name).stream().try_collect().await.unwrap();
        assert_eq!(jobs.len(), 12, "{name}");
    }
}

#[tokio::test]
async fn more_than_one_entry_can_sweep_passes_at_once() {
    let broker = TestBroker::start().await;
    let kv = broker.client().kv();
    let keys = (0..3_000).map(|n| kv.set(format!("k{n}"), "x").ttl(60.s()).into_future());
    futures::future::try_join_all(keys).await.unwrap();
    let began = Instant::now();
    broker.advance(60.s()).await;
    // A look of the leader's own comes every 100 ms; none of the entries waits for one.
    assert!(began.elapsed() < 5.s(), "{:?}", began.elapsed());
    assert!(kv.get("k0").await.unwrap().is_none());
    assert!(kv.get("k2999").await.unwrap().is_none());
}

#[tokio::test]
async fn two_at_once_let_both_times_pass() {
    let broker = TestBroker::start().await;
    let kv = broker.client().kv();
    kv.set("a", "1").ttl(50.s()).await.unwrap();
    tokio::join!(broker.advance(25.s()), broker.advance(25.s()));
    assert!(kv.get("a").await.unwrap().is_none());
}

#[tokio::test]
async fn many_brokers_start_at_once_and_know_nothing_of_each_other() {
    let brokers = futures::future::join_all((0..8).map(|_| TestBroker::start())).await;
    for (n, broker) in brokers.iter().enumerate() {
        broker.client().kv().set("n", n.to_string()).if_absent().await.unwrap();
    }
    brokers[0].advance(1.hours()).await;
}

#[tokio::test]
async fn it_is_gone_when_it_is_dropped() {
    let broker = TestBroker::start().await;
    let client = broker.options().request_timeout(300.ms()).connect().unwrap();
    client.kv().set("a", "1").await.unwrap();
    drop(broker);
    let refused = client.kv().get("a").await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
}

/// Prints how long a test has to wait for its broker; no claim, because the machine may be busy.
#[tokio::test]
#[allow(clippy::print_stdout, reason = "the test runner shows it, or keeps it for a failure")]
async fn how_long_it_takes_to_start() {
    let mut times = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        let broker = TestBroker::start().await;
        let started = began.elapsed();
        broker.client().kv().set("a", "1").await.unwrap();
        let written = began.elapsed();
        let begins = Instant::now();
        broker.advance(30.s()).await;
        let advanced = begins.elapsed();
        drop(broker);
        times.push((started, written, advanced, begins.elapsed() - advanced));
    }
    times.sort();
    let median = |of: fn(&(Duration, Duration, Duration, Duration)) -> Duration| {
        let mut all: Vec<_> = times.iter().map(of).collect();
        all.sort();
        all[all.len() / 2]
    };
    println!(
        "started after {:?}, first write after {:?}, advanced in {:?}, dropped in {:?}",
        median(|t| t.0),
        median(|t| t.1),
        median(|t| t.2),
        median(|t| t.3)
    );
}
