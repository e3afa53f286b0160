//! Streams that consume queues: what they are told, how fast, and what becomes of jobs when they end.

use crate::fixture::{Fixture, seen};
use crate::queues::{PATIENCE, Queue, commands, job, payloads, until};
use quorate_proto::v1;
use quorate_proto::v1::consume_request::Request as Asked;
use quorate_proto::v1::consume_response::Response as Told;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_state::{
    Attachment, Caller, Command, ConsumerAttach, ConsumerDetachNode, Envelope, NodeId, query,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A stream, spoken by hand.
pub(crate) struct Worker {
    requests: Option<mpsc::Sender<v1::ConsumeRequest>>,
    stream: Streaming<v1::ConsumeResponse>,
    consumer_id: u64,
    held_leases: Vec<u64>,
}

fn asks(request: Asked) -> v1::ConsumeRequest {
    v1::ConsumeRequest { request: Some(request) }
}

pub(crate) fn open(queue: &str, window: u32) -> v1::ConsumeOpen {
    v1::ConsumeOpen { queue: queue.to_owned(), window, ..Default::default() }
}

impl Worker {
    /// A stream on a connection of its own, whose first message is this.
    async fn begin(fixture: &Fixture, first: v1::ConsumeRequest) -> Self {
        let calls = QueueServiceClient::new(fixture.channel().await);
        Self::begin_on(calls.max_decoding_message_size(8 << 20), first).await.unwrap()
    }

    async fn begin_on(
        mut calls: QueueServiceClient<tonic::transport::Channel>,
        first: v1::ConsumeRequest,
    ) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(16);
        requests.send(first).await.unwrap();
        let stream = calls.consume(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { requests: Some(requests), stream, consumer_id: 0, held_leases: Vec::new() })
    }

    pub(crate) async fn open(fixture: &Fixture, open: v1::ConsumeOpen) -> Self {
        let mut worker = Self::begin(fixture, asks(Asked::Open(open))).await;
        let Told::Opened(opened) = worker.told().await.unwrap() else { panic!("it is not open") };
        (worker.consumer_id, worker.held_leases) = (opened.consumer_id, opened.held_leases);
        assert!(worker.consumer_id > 0);
        worker
    }

    async fn told(&mut self) -> Result<Told, Status> {
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await;
        let message = message.expect("it is told in time")?.expect("a stream ends with a reason");
        Ok(message.response.unwrap())
    }

    /// So many jobs, and nothing else.
    pub(crate) async fn jobs(&mut self, count: usize) -> Vec<v1::DeliveredJob> {
        let mut jobs = Vec::new();
        while jobs.len() < count {
            match self.told().await.unwrap() {
                Told::Jobs(more) => jobs.extend(more.jobs),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(jobs.len(), count, "{jobs:?}");
        assert!(jobs.is_sorted_by_key(|job| job.lease), "in the order of their deliveries");
        jobs
    }

    async fn withdrawn(&mut self) -> (u64, u64) {
        match self.told().await.unwrap() {
            Told::Withdrawn(v1::JobWithdrawn { job_id, lease }) => (job_id, lease),
            other => panic!("{other:?}"),
        }
    }

    async fn window(&self, window: u32) {
        self.requests.as_ref().unwrap().send(asks(Asked::Window(window))).await.unwrap();
    }

    async fn ended(&mut self) -> Status {
        loop {
            if let Err(status) = self.told().await {
                return status;
            }
        }
    }
}

async fn session(fixture: &Fixture) -> u64 {
    let mut sessions = SessionServiceClient::new(fixture.channel().await);
    let open = v1::OpenRequest { ttl_ms: 60_000, ..Default::default() };
    sessions.open(open).await.unwrap().into_inner().session_id
}

/// Puts a command of a node's own into the log.
async fn propose(fixture: &Fixture, command: Command) {
    let (namespace, caller, guard) = (String::new(), Caller::Anonymous, None);
    let envelope = Envelope { namespace, caller, guard, command };
    fixture.server.replica().propose(envelope, PATIENCE).await.unwrap();
}

fn gone(status: &Status) {
    assert_eq!(seen(status), (Code::NotFound, "CONSUMER_GONE", "not_applied"));
}

/// The value of a metric without labels.
async fn metric(fixture: &Fixture, name: &str) -> u64 {
    let page = fixture.http("/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{page}")).parse().unwrap()
}

#[tokio::test]
async fn a_job_costs_two_commands_from_its_push_to_its_end() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let mut worker = Worker::open(&fixture, open("q", 10)).await;
    let before = commands(&fixture).await;
    let jobs = 200;
    for number in 0..jobs {
        let id = queue.push(job(&number.to_string())).await;
        let got = worker.jobs(1).await;
        assert_eq!((got[0].job_id, got[0].attempt), (id, 1));
        assert!((29_000..=30_000).contains(&got[0].lease_ms), "{}", got[0].lease_ms);
        queue.ack(&got[0]).await.unwrap();
    }
    let spent = commands(&fixture).await - before;
    // Besides a tick now and then.
    assert!((2 * jobs..2 * jobs + 10).contains(&spent), "{spent} commands");
    assert_eq!(metric(&fixture, "quorate_consumers").await, 1);
    assert_eq!(metric(&fixture, "quorate_consumer_deliveries_total").await, jobs);
}

#[tokio::test]
async fn a_consumer_has_as_many_jobs_as_its_window_and_an_ack_brings_the_next() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let of = |payload, priority| v1::NewJob { priority, ..job(payload) };
    queue.push_all(vec![of("c", 0), of("a", 9), of("d", 0), of("b", 9), of("e", 0)]).await.unwrap();
    let mut worker = Worker::open(&fixture, open("q", 2)).await;
    let first = worker.jobs(2).await;
    assert_eq!(payloads(&first), ["a", "b"]);
    assert_eq!(queue.stats().await.leased, 2);
    queue.ack(&first[0]).await.unwrap();
    assert_eq!(payloads(&worker.jobs(1).await), ["c"]);

    // A larger window is filled up at once, a smaller one once enough is done; a shut one never.
    worker.window(3).await;
    let fourth = worker.jobs(1).await;
    assert_eq!(payloads(&fourth), ["d"]);
    let said = commands(&fixture).await;
    worker.window(2).await;
    until(async || commands(&fixture).await > said).await;
    queue.ack(&first[1]).await.unwrap();
    assert_eq!(queue.stats().await.ready, 1);
    queue.ack(&fourth[0]).await.unwrap();
    let fifth = worker.jobs(1).await;
    assert_eq!(payloads(&fifth), ["e"]);
    let said = commands(&fixture).await;
    worker.window(0).await;
    until(async || commands(&fixture).await > said).await;
    queue.ack(&fifth[0]).await.unwrap();
    queue.push(job("f")).await;
    assert_eq!(queue.stats().await.ready, 1);
    worker.window(1_000).await;
    assert_eq!(payloads(&worker.jobs(1).await), ["f"]);

    // A client that says no more is told on.
    worker.requests = None;
    queue.push(job("g")).await;
    assert_eq!(payloads(&worker.jobs(1).await), ["g"]);
}

/// What it was sent it can hand back; what it was not goes back by itself.
#[tokio::test]
async fn a_client_that_wants_no_more_is_sent_what_it_has_and_then_the_end() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    for round in 0..20 {
        let mut worker = Worker::open(&fixture, open("q", 10)).await;
        queue.push_all((0..20).map(|n| job(&n.to_string())).collect()).await.unwrap();
        let mut jobs = worker.jobs(10).await;
        // It may be given more at the same time.
        let done: Vec<_> = jobs.drain(..5).collect();
        let acks = futures::future::join_all(done.iter().map(|job| queue.ack(job)));
        let ends = async {
            worker.window(0).await;
            worker.requests = None;
            let mut more = Vec::new();
            while let Some(message) = worker.stream.message().await.unwrap() {
                let Some(Told::Jobs(told)) = message.response else { panic!("{message:?}") };
                more.extend(told.jobs);
            }
            more
        };
        let (acked, more) = futures::join!(acks, ends);
        assert!(acked.iter().all(Result::is_ok), "{acked:?}");
        jobs.extend(more);
        let leased = jobs.len() as u64;
        until(async || queue.stats().await.leased == leased).await;
        assert_eq!(queue.stats().await.ready, 15 - leased, "in round {round}");
        queue.purge().await;
    }
}

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

/// What a node can't tell of one by one, because it took over a snapshot or fell behind.
#[tokio::test]
async fn a_consumer_that_may_have_missed_something_misses_nothing() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let session_id = session(&fixture).await;
    for session_id in [0, session_id] {
        let asked = v1::ConsumeOpen { session_id, ..open("q", 1_000) };
        let mut worker = Worker::open(&fixture, asked).await;
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
        assert_eq!(worker.withdrawn().await, (first, had[0].lease));
        drop(worker);
        queue.purge().await;
    }
}

#[tokio::test]
async fn a_worker_is_told_what_is_taken_from_it() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    queue.update(v1::QueueOptions { visibility_ms: Some(1_000), ..Default::default() }).await;
    let mut worker = Worker::open(&fixture, open("q", 10)).await;
    queue.push_all(vec![job("cancelled"), job("lapses")]).await.unwrap();
    let jobs = worker.jobs(2).await;
    assert!(queue.cancel(jobs[0].job_id).await.was_leased);
    assert_eq!(worker.withdrawn().await, (jobs[0].job_id, jobs[0].lease));
    assert_eq!(worker.withdrawn().await, (jobs[1].job_id, jobs[1].lease));
    let again = worker.jobs(1).await;
    assert_eq!((again[0].job_id, again[0].attempt), (jobs[1].job_id, 2));
    let status = queue.ack(&jobs[1]).await.unwrap_err();
    assert_eq!(seen(&status), (Code::FailedPrecondition, "JOB_LEASE_LOST", "not_applied"));
    assert_eq!(queue.purge().await, 1);
    assert_eq!(worker.withdrawn().await, (again[0].job_id, again[0].lease));
    // The stream goes on, until its queue is gone, and the job with it.
    queue.push(job("next")).await;
    let last = worker.jobs(1).await;
    assert!(queue.delete().await.deleted);
    assert_eq!(worker.withdrawn().await, (last[0].job_id, last[0].lease));
    let status = worker.ended().await;
    gone(&status);
    assert!(status.message().contains("deleted"), "{}", status.message());
}

/// Pushes more than any window on the way to a client takes.
async fn push_much(queue: &Queue) -> usize {
    let payload = "x".repeat(512 << 10);
    for _ in 0..10 {
        queue.push_all(vec![job(&payload), job(&payload)]).await.unwrap();
    }
    20
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
    let fixture =
        Fixture::start_with(|options| options.slow_reader_max = Duration::from_secs(5)).await;
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
        // As long as its work takes.
        tokio::time::sleep(Duration::from_millis(20)).await;
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
    queue.ack(&had[0]).await.unwrap();
    assert_eq!(payloads(&keeps.jobs(1).await), ["c"]);
    queue.ack(&had[1]).await.unwrap();
    // A change of its window in between is not forgotten.
    propose(&fixture, detach.clone()).await;
    keeps.window(3).await;
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
    let mut ended = Worker { requests: None, stream, consumer_id: 0, held_leases: Vec::new() };
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
    let mut silent = Worker { requests: None, stream, consumer_id: 0, held_leases: Vec::new() };
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
