//! Streams that consume queues: what they are told, how fast, and what becomes of jobs when they end.

mod coming_back;
mod ends;
mod reading;

use crate::fixture::{Fixture, seen};
use crate::queues::{PATIENCE, Queue, commands, job, payloads, until};
use quorate_consensus::{Lane, Submission};
use quorate_proto::v1;
use quorate_proto::v1::consume_request::Request as Asked;
use quorate_proto::v1::consume_response::Response as Told;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_state::{
    Attachment, Caller, Command, ConsumerAttach, ConsumerDetachNode, Envelope, JobId, NodeId,
    Outcome, QueueCancel, query,
};
use quorate_storage::memory::DiskModel;
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
    /// Whether it is lost to its node now and then, and so may be told again that it is open.
    may_come_back: bool,
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
        Ok(Self { requests: Some(requests), ..Self::of(stream) })
    }

    /// One that says nothing.
    fn of(stream: Streaming<v1::ConsumeResponse>) -> Self {
        let (requests, held_leases) = (None, Vec::new());
        Self { requests, stream, consumer_id: 0, held_leases, may_come_back: false }
    }

    pub(crate) async fn open(fixture: &Fixture, open: v1::ConsumeOpen) -> Self {
        let mut worker = Self::begin(fixture, asks(Asked::Open(open))).await;
        worker.opened().await;
        worker
    }

    /// It is open, or came back by itself.
    async fn opened(&mut self) {
        match self.message().await.unwrap() {
            Told::Opened(opened) => self.is_open(opened),
            other => panic!("{other:?}"),
        }
    }

    fn is_open(&mut self, v1::ConsumeOpened { consumer_id, held_leases, .. }: v1::ConsumeOpened) {
        assert!(consumer_id > 0 && [0, consumer_id].contains(&self.consumer_id));
        (self.consumer_id, self.held_leases) = (consumer_id, held_leases);
    }

    async fn message(&mut self) -> Result<Told, Status> {
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await;
        let message = message.expect("it is told in time")?.expect("a stream ends with a reason");
        Ok(message.response.unwrap())
    }

    async fn told(&mut self) -> Result<Told, Status> {
        loop {
            match self.message().await? {
                Told::Opened(again) if self.may_come_back => self.is_open(again),
                told => return Ok(told),
            }
        }
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

    /// It is told that a job was taken from it; or, when it was lost to its node just then, what it
    /// has, and that this is not among it.
    async fn loses(&mut self, job: &v1::DeliveredJob) {
        loop {
            match self.message().await.unwrap() {
                Told::Withdrawn(v1::JobWithdrawn { job_id, lease }) => {
                    assert_eq!((job_id, lease), (job.job_id, job.lease));
                    return;
                }
                Told::Opened(again) => self.is_open(again),
                other => panic!("{other:?}"),
            }
            if !self.held_leases.contains(&job.lease) {
                return;
            }
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

fn own(command: Command) -> Envelope {
    Envelope { namespace: String::new(), caller: Caller::Anonymous, guard: None, command }
}

/// Puts a command of a node's own into the log.
async fn propose(fixture: &Fixture, command: Command) {
    fixture.server.replica().propose(own(command), PATIENCE).await.unwrap();
}

/// Puts commands into one entry of the log: nobody sees what was between them.
async fn propose_together(fixture: &Fixture, commands: Vec<Command>) {
    let replica = fixture.server.replica();
    let mut lane = Lane::new(replica.clone(), replica.origin(), commands.len());
    let (mut unanswered, deadline) = (commands.len(), Instant::now() + PATIENCE);
    let submission =
        |(tag, command)| Submission { tag, envelope: own(command), deadline, trace: None };
    lane.submit((0..).zip(commands).map(submission).collect());
    while unanswered > 0 {
        let answers = std::future::poll_fn(|cx| lane.poll_answers(cx)).await;
        unanswered -= answers.len();
        for (_, answer) in answers {
            let outcome = answer.unwrap().outcome;
            assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
        }
    }
}

fn gone(status: &Status) {
    assert_eq!(seen(status), (Code::NotFound, "CONSUMER_GONE", "not_applied"));
}

/// Pushes more than any window on the way to a client takes.
async fn push_much(queue: &Queue) -> usize {
    let payload = "x".repeat(512 << 10);
    for _ in 0..10 {
        queue.push_all(vec![job(&payload), job(&payload)]).await.unwrap();
    }
    20
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
