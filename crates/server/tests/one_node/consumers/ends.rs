//! How streams begin and end, and how many there may be.

use super::*;

#[tokio::test]
async fn a_stream_is_opened_once_and_in_order() {
    let fixture = Fixture::start().await;
    let refused =
        async |first: v1::ConsumeRequest| Worker::begin(&fixture, first).await.ended().await;
    let status = refused(asks(Asked::Window(1))).await;
    assert_eq!(seen(&status), (Code::InvalidArgument, "NOT_OPEN", "not_applied"));
    let status = refused(v1::ConsumeRequest { request: None }).await;
    assert_eq!(seen(&status), (Code::InvalidArgument, "UNKNOWN_REQUEST", "not_applied"));
    let status = refused(asks(Asked::Open(open("", 1)))).await;
    assert_eq!(seen(&status), (Code::InvalidArgument, "QUEUE_NAME_EMPTY", "not_applied"));
    let status = refused(asks(Asked::Open(open("q", 0)))).await;
    assert_eq!(seen(&status), (Code::InvalidArgument, "INVALID_WINDOW", "not_applied"));
    let unknown = v1::ConsumeOpen { consumer_id: 77, ..open("q", 1) };
    let status = refused(asks(Asked::Open(unknown.clone()))).await;
    assert_eq!(seen(&status), (Code::NotFound, "QUEUE_UNKNOWN", "not_applied"));

    let mut twice = Worker::open(&fixture, open("q", 1)).await;
    gone(&refused(asks(Asked::Open(unknown))).await);
    twice.requests.as_ref().unwrap().send(asks(Asked::Open(open("r", 1)))).await.unwrap();
    let status = twice.ended().await;
    assert_eq!(seen(&status), (Code::InvalidArgument, "ALREADY_OPEN", "not_applied"));
    let mut wide = Worker::open(&fixture, open("q", 1)).await;
    wide.window(1_001).await;
    let status = wide.ended().await;
    assert_eq!(seen(&status), (Code::InvalidArgument, "INVALID_WINDOW", "not_applied"));

    // One that says nothing at all.
    let (silent, outgoing) = mpsc::channel(1);
    let mut calls = QueueServiceClient::new(fixture.channel().await);
    let stream = calls.consume(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let mut ended = Worker::of(stream);
    drop(silent);
    let status = ended.ended().await;
    assert_eq!(seen(&status), (Code::InvalidArgument, "NOT_OPEN", "not_applied"));
    let queue = Queue::of(&fixture, "q").await;
    until(async || metric(&fixture, "quorate_consumers").await == 0).await;
    // All of them are gone in the log, too.
    until(async || {
        let id = queue.push(job("")).await;
        queue.get(id).await.0.unwrap().state() == v1::JobState::Ready
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_nobody_opens_is_ended() {
    let fixture = Fixture::start().await;
    let (_silent, outgoing) = mpsc::channel(1);
    let mut calls = QueueServiceClient::new(fixture.channel().await);
    let stream = calls.consume(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let mut silent = Worker::of(stream);
    // From here on time passes as soon as nothing else happens.
    tokio::time::pause();
    let begun = Instant::now();
    let status = silent.ended().await;
    assert_eq!(seen(&status), (Code::DeadlineExceeded, "NOT_OPEN", "not_applied"));
    let waited = begun.elapsed();
    assert!((9..=11).contains(&waited.as_secs()), "it took {waited:?}");
}

#[tokio::test]
async fn a_connection_has_so_many_consumers_and_places_come_free() {
    let fixture = Fixture::start().await;
    let calls = QueueServiceClient::new(fixture.channel().await);
    let first = || asks(Asked::Open(open("q", 1)));
    let mut workers = Vec::new();
    for _ in 0..64 {
        workers.push(Worker::begin_on(calls.clone(), first()).await.unwrap());
    }
    let Err(status) = Worker::begin_on(calls.clone(), first()).await else { panic!("too many") };
    assert_eq!(seen(&status), (Code::ResourceExhausted, "TOO_MANY_CONSUMERS", "not_applied"));
    Worker::open(&fixture, open("q", 1)).await;
    workers.pop();
    until(async || Worker::begin_on(calls.clone(), first()).await.is_ok()).await;
}

#[tokio::test]
async fn a_node_that_stops_says_so_to_its_consumers_and_of_them_to_the_others() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let session_id = session(&fixture).await;
    let mut worker = Worker::open(&fixture, v1::ConsumeOpen { session_id, ..open("q", 9) }).await;
    let mut other = Worker::open(&fixture, open("other", 9)).await;
    let pulling = {
        let mut calls = queue.calls.clone();
        let (queue, count, wait_ms) = ("third".to_owned(), 1, 600_000);
        let pull = v1::PullRequest { queue, count, wait_ms, ..Default::default() };
        tokio::spawn(async move { calls.pull(pull).await })
    };
    let stats = v1::StatsRequest { queue: "third".into(), ..Default::default() };
    until(async || queue.calls.clone().stats(stats.clone()).await.is_ok()).await;
    queue.push(job("a")).await;
    worker.jobs(1).await;
    let replica = fixture.server.replica().clone();
    let begun = Instant::now();
    fixture.server.shutdown(Duration::from_secs(20)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    for worker in [&mut worker, &mut other] {
        let status = worker.ended().await;
        assert_eq!(seen(&status), (Code::Unavailable, "SHUTTING_DOWN", "not_applied"));
    }
    let status = pulling.await.unwrap().unwrap_err();
    assert_eq!(seen(&status), (Code::Unavailable, "PULL_WAITING", "unknown"));
    let view = replica.stale();
    let here = query::consumers_on(&*view.tables, replica.group(), NodeId(1)).unwrap();
    assert_eq!(here, [], "nobody is given anything here while it is away");
}
