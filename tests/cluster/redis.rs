//! The adapter for Redis, against a real server: the conformance suite, and what breaks.

use futures::StreamExt as _;
use quorate_client::Error;
use quorate_client::broker::{Broker, BusEvent, NewJob, QueueSettings, RedisBroker, SetOptions};
use quorate_testkit::conformance;
use quorate_testkit::redis_server::RedisServer;
use quorate_tests::processes::{alone, say};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What Redis can't promise; docs/adapters.md says why.
const UNSUPPORTED: &[&str] = &[
    "cache/a_failed_build_is_not_stored",
    "cache/one_builds_for_all",
    "kv/set_if_version",
    "kv/watches_see_every_change",
    "lock/guarded_writes_of_old_holders_are_refused",
    "lock/it_goes_by_the_order_of_the_requests",
    "lock/tokens_grow",
];
const PATIENCE: Duration = Duration::from_secs(30);

async fn server() -> RedisServer {
    RedisServer::start().await.expect("a server starts")
}

fn broker(server: &RedisServer) -> Arc<dyn Broker> {
    Arc::new(RedisBroker::connect(&server.url(), "n").expect("it is a URL"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_does_what_it_can_and_says_what_it_can_not() {
    let _alone = alone().await;
    let server = server().await;
    let url = server.url();
    let report = conformance::run(move |namespace| {
        let broker = RedisBroker::connect(&url, &namespace);
        async move { Ok(Arc::new(broker?) as Arc<dyn Broker>) }
    })
    .await;
    say(&report);
    report.expect_unsupported(UNSUPPORTED).expect("it conforms");
}

/// The next event, which there has to be.
async fn event(events: &mut quorate_client::broker::Items<BusEvent>) -> BusEvent {
    let next = tokio::time::timeout(PATIENCE, events.next()).await.expect("something comes");
    next.expect("it goes on").expect("it goes on")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_made_again_and_a_subscription_says_that_it_missed_something() {
    let _alone = alone().await;
    let mut server = server().await;
    let broker = broker(&server);
    broker.kv_set(b"k", "v".into(), SetOptions::new()).await.expect("it is written");
    broker.queue_push("q", NewJob::new("before")).await.expect("it is pushed");
    let mut events = broker.subscribe(&["c".to_owned()]).await.expect("it begins");
    let mut jobs = broker.queue_consume("q", 1).await.expect("it begins");
    let before = jobs.next().await.expect("it comes").expect("it comes");
    server.kill().expect("it is killed");
    server.restart().await.expect("it starts again");
    // A read is repeated; what may change something twice is not.
    let entry = broker.kv_get(b"k").await.expect("it is there again").expect("it was kept");
    assert_eq!(entry.value, "v");
    assert_eq!(event(&mut events).await, BusEvent::Gap { missed: None });
    broker.publish("c", "after".into()).await.expect("it is published");
    let BusEvent::Message(message) = event(&mut events).await else { panic!("no message") };
    assert_eq!(message.payload, "after");
    // The lease was kept with the job.
    before.ack().await.expect("it is still leased");
    broker.queue_push("q", NewJob::new("after")).await.expect("it is pushed");
    let after = tokio::time::timeout(PATIENCE, jobs.next()).await.expect("it comes");
    let after = after.expect("it goes on").expect("it goes on");
    assert_eq!(after.payload(), "after");
    after.ack().await.expect("it is leased");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_is_lost_is_unknown_and_not_made_twice() {
    let _alone = alone().await;
    let server = server().await;
    let broker = broker(&server);
    assert_eq!(broker.kv_increment(b"n", 1).await, Ok(1));
    // It takes what is sent, and answers nobody.
    server.command("CLIENT PAUSE 600000 WRITE").await.expect("it is there");
    let counting = broker.kv_increment(b"n", 1);
    let killing = async {
        // It is there when it is blocked.
        let end = Instant::now() + PATIENCE;
        loop {
            let info = server.command("INFO clients").await.expect("it is there");
            if info.contains("blocked_clients:1") {
                break;
            }
            assert!(Instant::now() < end, "it is not blocked: {info}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.command("CLIENT KILL TYPE normal SKIPME yes").await.expect("it is there");
        server.command("CLIENT UNPAUSE").await.expect("it is there");
    };
    let (counted, ()) = futures::future::join(counting, killing).await;
    let error = counted.expect_err("its connection was cut");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
    assert!(error.may_have_been_applied());
    // Not twice, whatever became of it.
    let now = broker.kv_increment(b"n", 0).await.expect("it goes on");
    assert!((1..=2).contains(&now), "{now}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_is_told_by_its_cause() {
    let _alone = alone().await;
    let server = server().await;
    let broker = broker(&server);
    server.command("CONFIG SET maxmemory 1").await.expect("it is there");
    for full in [
        broker.kv_set(b"k", "v".into(), SetOptions::new()).await.map(drop),
        broker.queue_push("q", NewJob::new("j")).await.map(drop),
        broker.lock_acquire("l", PATIENCE, Duration::ZERO).await.map(drop),
    ] {
        let error = full.expect_err("it is full");
        assert!(matches!(error, Error::ResourceExhausted { .. }), "{error:?}");
    }
    server.command("CONFIG SET maxmemory 0").await.expect("it is there");
    server.command("CONFIG SET requirepass secret").await.expect("it is there");
    let stranger = RedisBroker::connect(&server.url(), "n").expect("it is a URL");
    let error = stranger.kv_get(b"k").await.expect_err("it has no password");
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    let url = server.url().replace("redis://", "redis://:wrong@");
    let error = RedisBroker::connect(&url, "n").expect("it is a URL").kv_get(b"k").await;
    let error = error.expect_err("it has a wrong password");
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(!format!("{stranger:?} {error}").contains("wrong@"));
    let too_large = vec![0; (1 << 20) + 1];
    let error = broker.publish("c", too_large.into()).await.expect_err("it is too large");
    assert_eq!(error.reason(), "VALUE_TOO_LARGE");
}

/// The holder's clock says so before another one can have it, although no renewal comes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_lost_by_the_holders_own_clock_when_the_server_is_gone() {
    let _alone = alone().await;
    let mut server = server().await;
    let broker = broker(&server);
    let ttl = Duration::from_secs(2);
    let held = broker.lock_acquire("l", ttl, Duration::ZERO).await.expect("it is free");
    server.kill().expect("it is killed");
    let killed = Instant::now();
    tokio::time::timeout(PATIENCE, held.lost()).await.expect("it is lost");
    assert!(killed.elapsed() <= ttl + Duration::from_millis(200), "{:?}", killed.elapsed());
    assert!(held.is_lost());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_is_told_how_many_it_missed() {
    let _alone = alone().await;
    let server = server().await;
    let broker = broker(&server);
    let mut events = broker.subscribe(&["c".to_owned()]).await.expect("it begins");
    const SENT: u64 = 3_000;
    for number in 0..SENT {
        broker.publish("c", number.to_string().into()).await.expect("it is published");
    }
    // Until the last one is there.
    let (mut got, mut missed) = (0, 0);
    while got + missed < SENT {
        match event(&mut events).await {
            BusEvent::Message(_) => got += 1,
            BusEvent::Gap { missed: more } => missed += more.expect("it is counted"),
        }
    }
    assert_eq!(got + missed, SENT);
    assert!(missed > 0 && got >= 1_000, "{got} came, {missed} are missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_queue_that_can_not_be_are_refused() {
    let _alone = alone().await;
    let server = server().await;
    let broker = broker(&server);
    let short = QueueSettings { visibility: Some(Duration::ZERO), ..QueueSettings::default() };
    let error = broker.queue_update("q", short).await.expect_err("it is too short");
    assert_eq!(error.reason(), "BAD_OPTION");
    assert!(broker.queue_consume("q", 0).await.is_err());
    assert!(broker.subscribe(&[]).await.is_err());
    let error = broker.kv_list(b"[", None).await.expect_err("it is no pattern");
    assert_eq!(error.reason(), "INVALID_PATTERN");
    let ttl = SetOptions::new().ttl(Duration::ZERO);
    broker.kv_set(b"k", "v".into(), ttl).await.expect_err("it is no time");
}
