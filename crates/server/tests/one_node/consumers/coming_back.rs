//! Consumers that come back, and those that nobody is there for.

use super::*;

#[tokio::test]
async fn a_consumer_with_a_session_comes_back_to_what_it_had() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let session_id = session(&fixture).await;
    let asked = || v1::ConsumeOpen { session_id, ..open("q", 3) };
    let mut worker = Worker::open(&fixture, asked()).await;
    let consumer_id = worker.consumer_id;
    assert_eq!(worker.held_leases, [0; 0], "a new one has nothing");
    queue.push_all((0..5).map(|n| job(&n.to_string())).collect()).await.unwrap();
    let held = worker.jobs(3).await;
    queue.ack(&held[0]).await.unwrap();
    let fourth = worker.jobs(1).await;
    let said = commands(&fixture).await;
    drop(worker);
    until(async || commands(&fixture).await > said).await;

    // The same jobs, under the same leases, as the same attempts.
    let again = || v1::ConsumeOpen { consumer_id, ..asked() };
    let mut worker = Worker::open(&fixture, again()).await;
    assert_eq!(worker.consumer_id, consumer_id);
    let back = worker.jobs(3).await;
    let leases = |jobs: &[v1::DeliveredJob]| jobs.iter().map(|job| job.lease).collect::<Vec<_>>();
    assert_eq!(leases(&back), leases(&[&held[1..], &fourth[..]].concat()));
    assert_eq!(worker.held_leases, leases(&back));
    assert!(back.iter().all(|job| job.attempt == 1));
    queue.ack(&back[0]).await.unwrap();
    assert_eq!(payloads(&worker.jobs(1).await), ["4"]);

    // While the stream is there: the one before is told, and what it had stays with the consumer.
    let mut moved = Worker::open(&fixture, again()).await;
    let status = worker.ended().await;
    assert_eq!(seen(&status), (Code::Unavailable, "CONSUMER_MOVED", "not_applied"));
    let back = moved.jobs(3).await;
    assert_eq!(leases(&back).len(), 3);
    assert_eq!(moved.held_leases, leases(&back));
    assert_eq!(queue.stats().await.leased, 3);

    // It ends with its session, and its jobs go to others, as failed attempts.
    let mut other = Worker::open(&fixture, open("q", 10)).await;
    let mut sessions = SessionServiceClient::new(fixture.channel().await);
    let close = v1::CloseRequest { session_id, ..Default::default() };
    assert!(sessions.close(close).await.unwrap().into_inner().closed);
    let status = moved.ended().await;
    gone(&status);
    assert!(status.message().contains("session"), "{}", status.message());
    assert!(other.jobs(3).await.iter().all(|job| job.attempt == 2));
    gone(&Worker::begin(&fixture, asks(Asked::Open(again()))).await.ended().await);
    let status = Worker::begin(&fixture, asks(Asked::Open(asked()))).await.ended().await;
    assert_eq!(seen(&status), (Code::NotFound, "SESSION_EXPIRED", "not_applied"));
}

#[tokio::test]
async fn a_consumer_that_comes_back_is_told_what_it_still_has() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    queue.update(v1::QueueOptions { visibility_ms: Some(1_000), ..Default::default() }).await;
    let session_id = session(&fixture).await;
    let asked = v1::ConsumeOpen { session_id, ..open("q", 2) };
    let mut worker = Worker::open(&fixture, asked.clone()).await;
    queue.push_all(vec![job("lapses"), job("lasts"), job("new")]).await.unwrap();
    let had = worker.jobs(2).await;
    queue.extend(&had[1], 60_000).await;
    let consumer_id = worker.consumer_id;
    drop(worker);
    until(async || {
        let mut other = queue.pull(2).await;
        other.retain(|job| job.job_id == had[0].job_id);
        !other.is_empty()
    })
    .await;
    let mut worker = Worker::open(&fixture, v1::ConsumeOpen { consumer_id, ..asked }).await;
    assert_eq!(worker.held_leases, [had[1].lease]);
    let back = worker.jobs(1).await;
    assert_eq!((back[0].lease, back[0].attempt), (had[1].lease, 1));
    // What is taken from it from then on it is told, also of what it had before.
    assert!(queue.cancel(had[1].job_id).await.was_leased);
    assert_eq!(worker.withdrawn().await, (had[1].job_id, had[1].lease));
}

/// A node that can't be reached for a while is detached by the leader; its streams are still there.
#[tokio::test]
async fn a_consumer_that_was_taken_for_gone_comes_back_by_itself_if_it_has_a_session() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let session_id = session(&fixture).await;
    let mut keeps = Worker::open(&fixture, v1::ConsumeOpen { session_id, ..open("q", 2) }).await;
    queue.push_all(vec![job("a"), job("b"), job("c")]).await.unwrap();
    let had = keeps.jobs(2).await;
    let detach = Command::ConsumerDetachNode(ConsumerDetachNode { node: NodeId(1) });
    propose(&fixture, detach.clone()).await;
    // What it had it has, is not told again of, and can be done; then it gets the next one.
    keeps.opened().await;
    assert_eq!(keeps.held_leases, [had[0].lease, had[1].lease]);
    queue.ack(&had[0]).await.unwrap();
    assert_eq!(payloads(&keeps.jobs(1).await), ["c"]);
    queue.ack(&had[1]).await.unwrap();
    // A change of its window in between is not forgotten.
    propose(&fixture, detach.clone()).await;
    keeps.window(3).await;
    keeps.opened().await;
    queue.push_all(vec![job("d"), job("e"), job("f")]).await.unwrap();
    assert_eq!(payloads(&keeps.jobs(2).await), ["d", "e"]);
    drop(keeps);

    // Without a session it has ended; what it works on is its own.
    let mut ends = Worker::open(&fixture, open("q", 1)).await;
    let work = ends.jobs(1).await;
    propose(&fixture, detach).await;
    gone(&ends.ended().await);
    queue.ack(&work[0]).await.unwrap();
}

/// While it is nowhere nobody is told what is taken from it.
#[tokio::test]
async fn a_consumer_that_came_back_by_itself_is_told_what_it_has_lost() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let session_id = session(&fixture).await;
    let mut worker = Worker::open(&fixture, v1::ConsumeOpen { session_id, ..open("q", 3) }).await;
    queue.push_all(vec![job("a"), job("b"), job("c"), job("d")]).await.unwrap();
    let had = worker.jobs(3).await;
    let cancel = QueueCancel { queue: "q".to_owned(), id: JobId(had[1].job_id) };
    let detach = ConsumerDetachNode { node: NodeId(1) };
    let both = vec![Command::ConsumerDetachNode(detach), Command::QueueCancel(cancel)];
    propose_together(&fixture, both).await;
    worker.opened().await;
    assert_eq!(worker.held_leases, [had[0].lease, had[2].lease]);
    assert_eq!(payloads(&worker.jobs(1).await), ["d"], "it was given it when it came back");
    // What is taken from it from then on it is told as before.
    assert!(queue.cancel(had[2].job_id).await.was_leased);
    assert_eq!(worker.withdrawn().await, (had[2].job_id, had[2].lease));
    // In whichever order things happen, it hears of it.
    assert!(queue.cancel(had[0].job_id).await.was_leased);
    fixture.server.resync();
    worker.loses(&had[0]).await;
}

/// What was on its way to a client that does not read has nobody else who could do it.
#[tokio::test]
async fn a_consumer_that_has_ended_is_told_first_of_every_job_it_was_given() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let mut worker = Worker::open(&fixture, open("q", 100)).await;
    let count = push_much(&queue).await;
    let cancelled = queue.push(job("cancelled")).await;
    assert_eq!(queue.stats().await.leased, count as u64 + 1);
    propose(&fixture, Command::ConsumerDetachNode(ConsumerDetachNode { node: NodeId(1) })).await;
    assert!(queue.cancel(cancelled).await.was_leased);
    let jobs = worker.jobs(count).await;
    assert!(jobs.iter().all(|job| job.attempt == 1 && job.job_id != cancelled));
    gone(&worker.told().await.unwrap_err());
    for job in &jobs {
        queue.ack(job).await.unwrap();
    }
    assert_eq!(queue.stats().await.totals.unwrap().lapsed, 0);
}

/// What a node can't tell of one by one, because it took over a snapshot or fell behind.
#[tokio::test]
async fn a_consumer_that_may_have_missed_something_misses_nothing() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let session_id = session(&fixture).await;
    for session_id in [0, session_id] {
        let asked = v1::ConsumeOpen { session_id, ..open("q", 1_000) };
        let mut worker = Worker::open(&fixture, asked).await;
        worker.may_come_back = true;
        let first = queue.push(job("")).await;
        let had = worker.jobs(1).await;
        assert_eq!(had[0].job_id, first);
        let pusher = queue.clone();
        let pushes = tokio::spawn(async move {
            for _ in 0..300 {
                pusher.push(job("")).await;
            }
        });
        let misses = async {
            while !pushes.is_finished() {
                fixture.server.resync();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (mut jobs, ()) = futures::join!(worker.jobs(300), misses);
        assert!(jobs.iter().all(|job| job.attempt == 1 && job.job_id != first));
        jobs.dedup_by_key(|job| job.job_id);
        assert_eq!(jobs.len(), 300, "each once");
        // It is here as before: what is taken from it it is told.
        assert!(queue.cancel(first).await.was_leased);
        worker.loses(&had[0]).await;
        drop(worker);
        queue.purge().await;
    }
}

/// What was to be said of a consumer that ended was not heard: nobody is there for it any more.
#[tokio::test]
async fn a_consumer_that_nobody_is_there_for_is_sent_away() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let attach = |node| {
        let attachment = Attachment { node: NodeId(node), call: 12_345 };
        let (queue, consumer, session, window) = ("q".to_owned(), None, None, 10);
        Command::ConsumerAttach(ConsumerAttach { queue, consumer, session, window, attachment })
    };
    propose(&fixture, attach(1)).await;
    let ids = queue.push_all(vec![job("a"), job("b")]).await.unwrap();
    until(async || queue.stats().await.ready == 2).await;
    let jobs = queue.pull(2).await;
    assert_eq!(jobs.iter().map(|job| job.job_id).collect::<Vec<_>>(), ids);
    assert!(jobs.iter().all(|job| job.attempt == 1));
    // On another node it is none of this one's business.
    propose(&fixture, attach(2)).await;
    let id = queue.push(job("c")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(queue.get(id).await.0.unwrap().state(), v1::JobState::Leased);
}

/// With its window full it is not given another job by which it would be found again.
#[tokio::test]
async fn many_that_nobody_is_there_for_are_sent_away_together() {
    let delay = Duration::from_millis(100);
    let slow = DiskModel { sync_delay: Some(delay..=delay), ..DiskModel::immediate() };
    let fixture = Fixture::start_on(slow, |_| {}).await;
    let queue = Queue::of(&fixture, "q").await;
    let attach = |call| {
        let attachment = Attachment { node: NodeId(1), call };
        let (queue, consumer, session, window) = ("q".to_owned(), None, None, 1);
        Command::ConsumerAttach(ConsumerAttach { queue, consumer, session, window, attachment })
    };
    propose_together(&fixture, (1..=60).map(attach).collect()).await;
    queue.push_all((0..60).map(|_| job("")).collect()).await.unwrap();
    let begun = Instant::now();
    until(async || queue.stats().await.ready == 60).await;
    let took = begun.elapsed();
    assert!(took < 30 * delay, "one after the other: {took:?}");
}
