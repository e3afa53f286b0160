//! The task queue through its calls: what is pushed and pulled, what becomes of jobs, and what is
//! refused. Streams that consume are in `consumers.rs`.

mod calls;
mod pulls;

use crate::fixture::{Fixture, seen};
use crate::pipeline::{Pipe, call, error};
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test waits.
const LONG_MS: u64 = 600_000;

/// A client of one queue.
#[derive(Clone)]
pub(crate) struct Queue {
    pub(crate) calls: QueueServiceClient<Channel>,
    pub(crate) name: String,
}

pub(crate) fn job(payload: &str) -> v1::NewJob {
    v1::NewJob { payload: payload.to_owned().into(), ..Default::default() }
}

/// Who sends something that may be repeated.
fn under(key: &'static str) -> Option<v1::Origin> {
    Some(v1::Origin { idempotency_key: key.into(), ..Default::default() })
}

impl Queue {
    pub(crate) async fn of(fixture: &Fixture, name: &str) -> Self {
        let calls = QueueServiceClient::new(fixture.channel().await)
            .max_decoding_message_size(8 << 20)
            .max_encoding_message_size(8 << 20);
        Self { calls, name: name.to_owned() }
    }

    pub(crate) fn pushes(&self, jobs: Vec<v1::NewJob>) -> v1::PushRequest {
        v1::PushRequest { queue: self.name.clone(), jobs, ..Default::default() }
    }

    pub(crate) async fn push_all(&self, jobs: Vec<v1::NewJob>) -> Result<Vec<u64>, Status> {
        let pushed = self.calls.clone().push(self.pushes(jobs)).await?.into_inner();
        assert!(pushed.revision > 0);
        Ok(pushed.jobs.into_iter().map(|job| job.job_id).collect())
    }

    pub(crate) async fn push(&self, job: v1::NewJob) -> u64 {
        self.push_all(vec![job]).await.unwrap()[0]
    }

    fn pulls(&self, count: u32, wait_ms: u64) -> v1::PullRequest {
        v1::PullRequest { queue: self.name.clone(), count, wait_ms, ..Default::default() }
    }

    async fn pull_as(&self, request: v1::PullRequest) -> Result<Vec<v1::DeliveredJob>, Status> {
        let pulled = tokio::time::timeout(PATIENCE, self.calls.clone().pull(request)).await;
        Ok(pulled.expect("it is answered in time")?.into_inner().jobs)
    }

    pub(crate) async fn pull(&self, count: u32) -> Vec<v1::DeliveredJob> {
        self.pull_as(self.pulls(count, 0)).await.unwrap()
    }

    /// As [`Queue::pull`], and waits for so long if there is none.
    pub(crate) async fn pull_waiting(&self, count: u32, wait_ms: u64) -> Vec<v1::DeliveredJob> {
        self.pull_as(self.pulls(count, wait_ms)).await.unwrap()
    }

    fn acks(&self, job_id: u64, lease: u64) -> v1::AckRequest {
        v1::AckRequest { queue: self.name.clone(), job_id, lease, ..Default::default() }
    }

    pub(crate) async fn ack(&self, job: &v1::DeliveredJob) -> Result<u64, Status> {
        let acks = self.acks(job.job_id, job.lease);
        Ok(self.calls.clone().ack(acks).await?.into_inner().revision)
    }

    pub(crate) async fn extend(&self, job: &v1::DeliveredJob, extend_ms: u64) {
        let (queue, job_id, lease) = (self.name.clone(), job.job_id, job.lease);
        let extend = v1::ExtendRequest { queue, job_id, lease, extend_ms, ..Default::default() };
        self.calls.clone().extend(extend).await.unwrap();
    }

    fn nacks(&self, job: &v1::DeliveredJob, verdict: v1::NackVerdict) -> v1::NackRequest {
        v1::NackRequest {
            queue: self.name.clone(),
            job_id: job.job_id,
            lease: job.lease,
            verdict: verdict.into(),
            error: "broken".to_owned(),
            ..Default::default()
        }
    }

    async fn nack(&self, request: v1::NackRequest) -> (v1::JobState, u64) {
        let nacked = self.calls.clone().nack(request).await.unwrap().into_inner();
        (nacked.state(), nacked.delay_ms)
    }

    pub(crate) async fn update(&self, options: v1::QueueOptions) -> bool {
        let (queue, options) = (self.name.clone(), Some(options));
        let update = v1::UpdateQueueRequest { queue, options, ..Default::default() };
        self.calls.clone().update_queue(update).await.unwrap().into_inner().created
    }

    pub(crate) async fn pause(&self) {
        let pause = v1::PauseRequest { queue: self.name.clone(), ..Default::default() };
        self.calls.clone().pause(pause).await.unwrap();
    }

    pub(crate) async fn resume(&self) {
        let resume = v1::ResumeRequest { queue: self.name.clone(), ..Default::default() };
        self.calls.clone().resume(resume).await.unwrap();
    }

    pub(crate) async fn stats(&self) -> v1::QueueInfo {
        let stats = v1::StatsRequest { queue: self.name.clone(), ..Default::default() };
        self.calls.clone().stats(stats).await.unwrap().into_inner().info.unwrap()
    }

    pub(crate) async fn get(&self, job_id: u64) -> (Option<v1::Job>, String) {
        let get = v1::GetJobRequest { queue: self.name.clone(), job_id, ..Default::default() };
        let got = self.calls.clone().get_job(get).await.unwrap().into_inner();
        (got.job, got.queue)
    }

    pub(crate) async fn cancel(&self, job_id: u64) -> v1::CancelResponse {
        let cancel = v1::CancelRequest { queue: self.name.clone(), job_id, ..Default::default() };
        self.calls.clone().cancel(cancel).await.unwrap().into_inner()
    }

    pub(crate) async fn purge(&self) -> u64 {
        let purge = v1::PurgeRequest { queue: self.name.clone(), ..Default::default() };
        self.calls.clone().purge(purge).await.unwrap().into_inner().purged
    }

    pub(crate) async fn delete(&self) -> v1::DeleteQueueResponse {
        let delete = v1::DeleteQueueRequest { queue: self.name.clone(), ..Default::default() };
        self.calls.clone().delete_queue(delete).await.unwrap().into_inner()
    }

    async fn redrive(&self, job_ids: Vec<u64>) -> u64 {
        let queue = self.name.clone();
        let redrive = v1::RedriveRequest { queue, job_ids, ..Default::default() };
        self.calls.clone().redrive(redrive).await.unwrap().into_inner().moved
    }

    async fn peek(&self, limit: u32) -> Vec<v1::Job> {
        let peek = v1::PeekRequest { queue: self.name.clone(), limit, ..Default::default() };
        self.calls.clone().peek(peek).await.unwrap().into_inner().jobs
    }
}

pub(crate) fn payloads(jobs: &[v1::DeliveredJob]) -> Vec<&str> {
    jobs.iter().map(|job| std::str::from_utf8(&job.payload).unwrap()).collect()
}

pub(crate) async fn until(mut so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect("it comes to that in time");
}

fn of_stats(queue: &str) -> v1::StatsRequest {
    v1::StatsRequest { queue: queue.to_owned(), ..Default::default() }
}

/// Commands that were put into the log so far, a tick now and then among them.
pub(crate) async fn commands(fixture: &Fixture) -> u64 {
    let mut cluster = ClusterServiceClient::new(fixture.channel().await);
    let all = cluster.counters(v1::CountersRequest::default()).await.unwrap().into_inner();
    let mut counters = all.counters.into_iter();
    counters.find(|counter| counter.name == "commands_proposed").unwrap().value
}

#[tokio::test]
async fn a_job_is_pulled_as_it_was_pushed_and_done_once() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "mail").await;
    let header = v1::JobHeader { name: "trace".into(), value: Bytes::from_static(&[0, 255]) };
    let pushed = v1::NewJob {
        content_type: "text/plain".into(),
        headers: vec![header.clone()],
        priority: 7,
        group: "g".into(),
        ..job("hello")
    };
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let id = queue.push(pushed).await;
    assert!(id > 0);
    let jobs = queue.pull(10).await;
    let [got] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!((got.job_id, got.attempt, got.priority), (id, 1, 7));
    assert_eq!((&*got.payload, &*got.content_type), (&b"hello"[..], "text/plain"));
    assert_eq!((&got.headers[..], &*got.group), (&[header][..], &b"g"[..]));
    assert!((29_000..=30_000).contains(&got.lease_ms), "{}", got.lease_ms);
    assert!(u128::from(got.pushed_unix_ms).abs_diff(before) < 10_000, "{}", got.pushed_unix_ms);

    // Whoever asks is told of it.
    let (shown, of) = queue.get(id).await;
    let shown = shown.unwrap();
    assert_eq!((shown.state(), shown.lease, shown.attempts), (v1::JobState::Leased, got.lease, 1));
    assert_eq!((&*shown.payload, &*of), (&b"hello"[..], "mail"));
    let (job_id, lease, permille) = (id, got.lease, 500);
    let note = "half".to_owned();
    let queue_name = queue.name.clone();
    let progress = v1::ProgressRequest {
        queue: queue_name,
        job_id,
        lease,
        permille,
        note,
        ..Default::default()
    };
    queue.calls.clone().progress(progress).await.unwrap();
    let progress = queue.get(id).await.0.unwrap().progress.unwrap();
    assert_eq!((progress.permille, &*progress.note), (500, "half"));
    let (queue_name, extend_ms) = (queue.name.clone(), 60_000);
    let extend =
        v1::ExtendRequest { queue: queue_name, job_id, lease, extend_ms, ..Default::default() };
    assert_eq!(queue.calls.clone().extend(extend).await.unwrap().into_inner().lease_ms, 60_000);
    assert!(queue.get(id).await.0.unwrap().state_ms > 50_000);

    queue.ack(got).await.unwrap();
    assert_eq!(queue.get(id).await, (None, String::new()));
    let status = queue.ack(got).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "JOB_UNKNOWN", "not_applied"));
    let info = queue.stats().await;
    assert_eq!((info.ready, info.leased, info.done, info.body_bytes), (0, 0, 0, 0));
    let totals = info.totals.unwrap();
    assert_eq!((totals.pushed, totals.delivered, totals.acked), (1, 1, 1));
}

#[tokio::test]
async fn jobs_come_by_priority_and_then_in_their_order() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let of = |payload, priority| v1::NewJob { priority, ..job(payload) };
    let ids = queue
        .push_all(vec![of("low 1", 0), of("high 1", 9), of("low 2", 0), of("high 2", 9)])
        .await
        .unwrap();
    assert!(ids.is_sorted());
    let next = ["high 1", "high 2", "low 1", "low 2"];
    let peeked = queue.peek(16).await;
    let shown: Vec<&[u8]> = peeked.iter().map(|job| &*job.payload).collect();
    assert_eq!(shown, next.map(str::as_bytes));
    assert_eq!(queue.peek(0).await.len(), 1);
    assert_eq!(payloads(&queue.pull(3).await), next[..3]);
    assert_eq!(payloads(&queue.pull(3).await), next[3..]);
    // What is paused is pushed, and not pulled.
    queue.pause().await;
    queue.push(job("later")).await;
    assert!(queue.pull(1).await.is_empty());
    assert!(queue.stats().await.paused);
    queue.resume().await;
    assert_eq!(payloads(&queue.pull(1).await), ["later"]);
}

#[tokio::test]
async fn a_job_waits_for_its_time() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let begun = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let not_before_ms = u64::try_from(now.as_millis()).unwrap() + 600;
    let late = queue.push(v1::NewJob { not_before_ms, ..job("at a time") }).await;
    let early = queue.push(v1::NewJob { delay_ms: 300, ..job("after a while") }).await;
    assert!(queue.pull(2).await.is_empty());
    let (shown, _) = queue.get(late).await;
    let shown = shown.unwrap();
    assert_eq!((shown.state(), shown.not_before_ms), (v1::JobState::Delayed, not_before_ms));
    let shown = queue.get(early).await.0.unwrap();
    assert_eq!(shown.state(), v1::JobState::Delayed);
    assert!((1..=300).contains(&shown.state_ms), "{}", shown.state_ms);
    assert_eq!(queue.stats().await.delayed, 2);

    let jobs = queue.pull_as(queue.pulls(2, LONG_MS)).await.unwrap();
    assert_eq!(payloads(&jobs), ["after a while"]);
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    let jobs = queue.pull_as(queue.pulls(2, LONG_MS)).await.unwrap();
    assert_eq!(payloads(&jobs), ["at a time"]);
    assert!(begun.elapsed() >= Duration::from_millis(590), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_job_that_fails_is_tried_again_given_up_and_put_back() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let backoff = Some(v1::QueueBackoff { base_ms: 50, cap_ms: 50, ..Default::default() });
    assert!(
        queue
            .update(v1::QueueOptions { attempts_max: Some(3), backoff, ..Default::default() })
            .await
    );
    let id = queue.push(job("work")).await;
    let next = async || {
        let jobs = queue.pull_as(queue.pulls(1, LONG_MS)).await.unwrap();
        jobs.into_iter().next().unwrap()
    };
    let retry = v1::NackVerdict::Retry;
    let first = next().await;
    assert_eq!(queue.nack(queue.nacks(&first, retry)).await, (v1::JobState::Delayed, 50));
    let status = queue.ack(&first).await.unwrap_err();
    assert_eq!(seen(&status), (Code::FailedPrecondition, "JOB_LEASE_LOST", "not_applied"));
    let second = next().await;
    assert_eq!((second.job_id, second.attempt), (id, 2));
    assert!(second.lease > first.lease);
    // Handed back it was no attempt.
    let handed_back = queue.nacks(&second, v1::NackVerdict::Return);
    assert_eq!(queue.nack(handed_back).await, (v1::JobState::Ready, 0));
    let second = next().await;
    assert_eq!(second.attempt, 2);
    let at_once = v1::NackRequest { delay_ms: Some(0), ..queue.nacks(&second, retry) };
    assert_eq!(queue.nack(at_once).await, (v1::JobState::Ready, 0));
    let third = next().await;
    assert_eq!(third.attempt, 3);
    assert_eq!(queue.nack(queue.nacks(&third, retry)).await.0, v1::JobState::Dead);

    let dead = Queue { name: "q.dead".into(), ..queue.clone() };
    let (letter, there) = queue.get(id).await;
    let letter = letter.unwrap();
    assert_eq!(
        (letter.state(), &*letter.from_queue, &*there),
        (v1::JobState::Ready, "q", "q.dead")
    );
    assert_eq!(letter.death_cause(), v1::DeathCause::Attempts);
    let attempts: Vec<u32> = letter.failures.iter().map(|failure| failure.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert!(letter.failures.iter().all(|failure| failure.error == "broken"));
    assert_eq!((queue.stats().await.dead, dead.stats().await.ready), (1, 1));
    assert_eq!(queue.redrive(Vec::new()).await, 1);
    let again = next().await;
    assert_eq!((again.job_id, again.attempt), (id, 1), "all attempts are before it");

    // Given up at once, and put back by its name.
    assert_eq!(queue.nack(queue.nacks(&again, v1::NackVerdict::Dead)).await.0, v1::JobState::Dead);
    let (letter, _) = dead.get(id).await;
    assert_eq!(letter.unwrap().death_cause(), v1::DeathCause::Rejected);
    assert_eq!(queue.redrive(vec![id, id + 1_000]).await, 1);
    queue.ack(&next().await).await.unwrap();
    assert_eq!(dead.stats().await.ready, 0);
}

#[tokio::test]
async fn a_lease_that_runs_out_is_an_attempt_and_its_ack_comes_too_late() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    queue.update(v1::QueueOptions { visibility_ms: Some(1_000), ..Default::default() }).await;
    queue.push(job("work")).await;
    let first = &queue.pull(1).await[0];
    let second = queue.pull_as(queue.pulls(1, LONG_MS)).await.unwrap();
    assert_eq!((second[0].job_id, second[0].attempt), (first.job_id, 2));
    let status = queue.ack(first).await.unwrap_err();
    assert_eq!(seen(&status), (Code::FailedPrecondition, "JOB_LEASE_LOST", "not_applied"));
    let totals = queue.stats().await.totals.unwrap();
    assert_eq!((totals.lapsed, totals.delivered), (1, 2));
    queue.ack(&second[0]).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_or_drops() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    queue.update(v1::QueueOptions { jobs_max: Some(2), ..Default::default() }).await;
    queue.push_all(vec![job("1"), job("2")]).await.unwrap();
    let status = queue.push_all(vec![job("3")]).await.unwrap_err();
    assert_eq!(seen(&status), (Code::ResourceExhausted, "QUEUE_FULL", "not_applied"));
    assert!(status.message().contains('2'), "{}", status.message());
    let when_full = v1::QueueWhenFull::DropOldest.into();
    assert!(!queue.update(v1::QueueOptions { when_full, ..Default::default() }).await);
    queue.push(job("3")).await;
    assert_eq!(payloads(&queue.pull(9).await), ["2", "3"]);
    assert_eq!(queue.stats().await.totals.unwrap().dropped, 1);
    // Those that are worked on are not dropped.
    let status = queue.push_all(vec![job("4")]).await.unwrap_err();
    assert_eq!(seen(&status).1, "QUEUE_FULL");
    let status = queue.push_all(vec![job("5"), job("6"), job("7")]).await.unwrap_err();
    assert_eq!(seen(&status).1, "QUEUE_FULL");
}

#[tokio::test]
async fn a_job_is_pushed_once_under_its_key_and_in_its_group_one_at_a_time() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let keyed = |payload| v1::NewJob { dedupe_key: "k".into(), group: "g".into(), ..job(payload) };
    let pushed = queue.calls.clone().push(queue.pushes(vec![keyed("1"), keyed("2")])).await;
    let pushed = pushed.unwrap().into_inner().jobs;
    assert_eq!(pushed[0].job_id, pushed[1].job_id);
    assert_eq!((pushed[0].duplicate, pushed[1].duplicate), (false, true));
    queue.push(v1::NewJob { group: "g".into(), ..job("3") }).await;
    let first = queue.pull(9).await;
    assert_eq!(payloads(&first), ["1"]);
    queue.ack(&first[0]).await.unwrap();
    assert_eq!(payloads(&queue.pull(9).await), ["3"]);
    // Also when it is done.
    assert_eq!(queue.push(keyed("4")).await, pushed[0].job_id);
    // A request that is repeated under its key pushes nothing more.
    let request = || v1::PushRequest { origin: under("push"), ..queue.pushes(vec![job("5")]) };
    let once = queue.calls.clone().push(request()).await.unwrap().into_inner();
    let twice = queue.calls.clone().push(request()).await.unwrap().into_inner();
    assert_eq!(once, twice);
    assert_eq!(queue.stats().await.totals.unwrap().duplicates, 2);
}

#[tokio::test]
async fn a_job_is_cancelled_and_a_queue_emptied_and_deleted() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let ids = queue.push_all((0..4).map(|n| job(&n.to_string())).collect()).await.unwrap();
    let taken = queue.pull(2).await;
    let done = queue.cancel(ids[0]).await;
    assert!(done.cancelled && done.was_leased);
    let done = queue.cancel(ids[2]).await;
    assert!(done.cancelled && !done.was_leased);
    assert!(!queue.cancel(ids[2]).await.cancelled);
    let status = queue.ack(&taken[0]).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "JOB_UNKNOWN", "not_applied"));
    assert_eq!(queue.purge().await, 2);
    let status = queue.ack(&taken[1]).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "JOB_UNKNOWN", "not_applied"));
    assert!(queue.pull(9).await.is_empty());
    queue.push(job("after")).await;
    let gone = queue.delete().await;
    assert!(gone.deleted && gone.jobs == 1);
    assert!(!queue.delete().await.deleted);
    assert_eq!(queue.purge().await, 0);
}
