//! Messages, and clients that read them slowly or not at all.

use super::*;

#[tokio::test]
async fn jobs_are_shared_among_consumers_and_messages_are_bounded() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(Worker::open(&fixture, open("q", 100)).await);
    }
    queue.push_all((0..100).map(|n| job(&n.to_string())).collect()).await.unwrap();
    let mut all = Vec::new();
    for worker in &mut workers {
        all.extend(worker.jobs(25).await);
    }
    all.sort_by_key(|job| job.job_id);
    all.dedup_by_key(|job| job.job_id);
    assert_eq!(all.len(), 100);

    let other = Queue::of(&fixture, "large").await;
    for _ in 0..4 {
        other.push_all((0..32).map(|_| job(&"x".repeat(10 << 10))).collect()).await.unwrap();
    }
    other.push(job(&"x".repeat(1 << 20))).await;
    let mut worker = Worker::open(&fixture, open("large", 1_000)).await;
    let (mut jobs, mut messages) = (0, 0);
    while jobs < 129 {
        let Told::Jobs(more) = worker.told().await.unwrap() else { panic!("no jobs") };
        let bytes: usize = more.jobs.iter().map(|job| job.payload.len()).sum();
        assert!(bytes <= 64 << 10 || more.jobs.len() == 1, "{bytes} in {}", more.jobs.len());
        (jobs, messages) = (jobs + more.jobs.len(), messages + 1);
    }
    assert!(messages >= 128 / 6, "{messages} messages");
}

/// What is in a job is read from a view that has it, however fast jobs come in meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_job_is_lost_between_its_delivery_and_its_message() {
    const PUSHERS: usize = 4;
    const EACH: usize = 125;
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let mut worker = Worker::open(&fixture, open("q", 1_000)).await;
    let mut pushers = Vec::new();
    for _ in 0..PUSHERS {
        let pusher = Queue::of(&fixture, "q").await;
        pushers.push(tokio::spawn(async move {
            let payload = "x".repeat(8 << 10);
            for _ in 0..EACH {
                pusher.push(job(&payload)).await;
            }
        }));
    }
    let jobs = worker.jobs(PUSHERS * EACH).await;
    assert!(jobs.iter().all(|job| job.attempt == 1));
    for pusher in pushers {
        pusher.await.unwrap();
    }
    let info = queue.stats().await;
    assert_eq!((info.leased, info.totals.unwrap().lapsed), (jobs.len() as u64, 0));
}

#[tokio::test]
async fn a_message_has_so_many_jobs_at_most() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    for _ in 0..5 {
        queue.push_all((0..120).map(|_| job("")).collect()).await.unwrap();
    }
    let mut worker = Worker::open(&fixture, open("q", 1_000)).await;
    let mut messages = Vec::new();
    while messages.iter().sum::<usize>() < 600 {
        let Told::Jobs(told) = worker.told().await.unwrap() else { panic!("no jobs") };
        messages.push(told.jobs.len());
    }
    assert_eq!((messages[0], messages.iter().max(), messages.iter().sum()), (256, Some(&256), 600));
}

#[tokio::test]
async fn what_was_not_handed_over_goes_back_as_if_nothing_had_happened() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    for has_session in [false, true] {
        let session_id = if has_session { session(&fixture).await } else { 0 };
        let worker = Worker::open(&fixture, v1::ConsumeOpen { session_id, ..open("q", 100) }).await;
        let count = push_much(&queue).await;
        assert_eq!(queue.stats().await.leased, count as u64);
        drop(worker);
        until(async || queue.stats().await.ready > 10).await;
        let info = queue.stats().await;
        assert!(info.leased > 0, "what was handed over may be worked on: {info:?}");
        // No attempt was counted for the others.
        let mut next = Worker::open(&fixture, open("q", 100)).await;
        let left = usize::try_from(info.ready).unwrap();
        assert!(next.jobs(left).await.iter().all(|job| job.attempt == 1));
        assert_eq!(queue.stats().await.leased, count as u64);
        drop(next);
        queue.purge().await;
    }
    until(async || metric(&fixture, "quorate_consumers").await == 0).await;
}

/// It gets everything at its own pace, and never more than its window at once.
#[tokio::test]
async fn a_reader_that_is_slow_gets_everything_in_the_end() {
    let slow_reader_max = Duration::from_millis(500);
    let fixture = Fixture::start_with(|options| options.slow_reader_max = slow_reader_max).await;
    let queue = Queue::of(&fixture, "q").await;
    let window = 4;
    let mut slow = Worker::open(&fixture, open("q", window)).await;
    // A message each, and more than fits on the way.
    let count = push_much(&queue).await;
    for taken in 0..count {
        let info = queue.stats().await;
        let left = (count - taken) as u64;
        assert_eq!((info.leased, info.ready + info.leased), (left.min(window.into()), left));
        let jobs = slow.jobs(1).await;
        assert_eq!(jobs[0].attempt, 1);
        // As long as its work takes: in all far longer than it may stand still, each time far less.
        tokio::time::sleep(slow_reader_max / 10).await;
        queue.ack(&jobs[0]).await.unwrap();
    }
    assert_eq!(metric(&fixture, "quorate_consumers_cut_total").await, 0);
    assert_eq!(queue.stats().await.totals.unwrap().lapsed, 0);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_told_and_cut_and_its_jobs_go_to_others() {
    let fixture =
        Fixture::start_with(|options| options.slow_reader_max = Duration::from_millis(500)).await;
    let queue = Queue::of(&fixture, "q").await;
    let mut slow = Worker::open(&fixture, open("q", 100)).await;
    let count = push_much(&queue).await;
    assert_eq!(queue.stats().await.leased, count as u64);
    until(async || metric(&fixture, "quorate_consumers_cut_total").await == 1).await;
    assert_eq!(metric(&fixture, "quorate_consumers").await, 0, "its place is free");
    until(async || queue.stats().await.ready > 10).await;
    let left = usize::try_from(queue.stats().await.ready).unwrap();
    let mut other = Worker::open(&fixture, open("q", 100)).await;
    assert!(other.jobs(left).await.iter().all(|job| job.attempt == 1));
    let status = slow.ended().await;
    assert_eq!(seen(&status), (Code::ResourceExhausted, "SLOW_READER", "not_applied"));
}
