//! The task queue through its calls: what is pushed and pulled, what becomes of jobs, and what is
//! refused. Streams that consume are in `consumers.rs`.

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
async fn a_pull_waits_until_there_is_a_job_or_its_time_is_over() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    assert!(queue.pull(1).await.is_empty());
    let begun = Instant::now();
    assert!(queue.pull_as(queue.pulls(1, 300)).await.unwrap().is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    // The caller's own time comes first.
    let mut hurried = Request::new(queue.pulls(1, LONG_MS));
    hurried.set_timeout(Duration::from_millis(300));
    let pulled = queue.calls.clone().pull(hurried).await.unwrap().into_inner();
    assert!(pulled.jobs.is_empty() && pulled.revision > 0);

    let waiting = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.pull_as(queue.pulls(3, LONG_MS)).await.unwrap() })
    };
    // Those before it have given up.
    until(async || !waiting.is_finished() && queue.push_all(vec![job("a")]).await.is_ok()).await;
    let jobs = waiting.await.unwrap();
    assert_eq!(payloads(&jobs)[0], "a");
    // Deleted while somebody waits for it.
    let other = Queue { name: "other".into(), ..queue.clone() };
    let waiting = {
        let other = other.clone();
        tokio::spawn(async move { other.pull_as(other.pulls(1, LONG_MS)).await })
    };
    until(async || other.calls.clone().stats(of_stats("other")).await.is_ok()).await;
    assert!(other.delete().await.deleted);
    let status = waiting.await.unwrap().unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "QUEUE_UNKNOWN", "not_applied"));
}

fn of_stats(queue: &str) -> v1::StatsRequest {
    v1::StatsRequest { queue: queue.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_repeated_pull_has_the_same_jobs() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    queue.push_all((0..5).map(|n| job(&n.to_string())).collect()).await.unwrap();
    let asked = || v1::PullRequest { origin: under("one"), ..queue.pulls(2, 0) };
    let first = queue.pull_as(asked()).await.unwrap();
    assert_eq!(payloads(&first), ["0", "1"]);
    let again = queue.pull_as(asked()).await.unwrap();
    let leases = |jobs: &[v1::DeliveredJob]| jobs.iter().map(|job| job.lease).collect::<Vec<_>>();
    assert_eq!(leases(&again), leases(&first));
    // What is done meanwhile is left out.
    queue.ack(&first[0]).await.unwrap();
    assert_eq!(payloads(&queue.pull_as(asked()).await.unwrap()), ["1"]);
    let other = v1::PullRequest { origin: under("one"), ..queue.pulls(3, 0) };
    let status = queue.pull_as(other).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "REQUEST_MISMATCH", "not_applied"));
    assert_eq!(queue.pull(9).await.len(), 3);

    // One that waits goes on in the call that repeats it; the one before is told so, or has the same.
    let asked = || v1::PullRequest { origin: under("two"), ..queue.pulls(2, LONG_MS) };
    let spawn = || {
        let (queue, asked) = (queue.clone(), asked());
        tokio::spawn(async move { queue.pull_as(asked).await })
    };
    let said = commands(&fixture).await;
    let before = spawn();
    until(async || commands(&fixture).await > said).await;
    let after = spawn();
    until(async || commands(&fixture).await > said + 2).await;
    queue.push(job("late")).await;
    let after = after.await.unwrap().unwrap();
    assert_eq!(payloads(&after), ["late"]);
    match before.await.unwrap() {
        Ok(jobs) => assert_eq!(leases(&jobs), leases(&after)),
        Err(status) => {
            assert_eq!(seen(&status), (Code::Unavailable, "PULL_WAITING", "unknown"));
        }
    }
    let again = queue.pull_as(asked()).await.unwrap();
    assert_eq!(leases(&again), leases(&after), "also when it comes after the answer");
}

#[tokio::test]
async fn a_pull_whose_caller_is_gone_takes_nothing() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let mut pipe = Pipe::open(&fixture).await;
    for cancelled in [false, true] {
        let said = commands(&fixture).await;
        if cancelled {
            pipe.send(vec![call(1, Call::QueuePull(queue.pulls(1, LONG_MS)))]).await;
            until(async || commands(&fixture).await > said).await;
            pipe.cancel(1).await;
            let answers = pipe.answers(1).await;
            assert_eq!(error(&answers[0].1).reason, "PULL_WAITING");
        } else {
            let gone = Queue::of(&fixture, "q").await;
            let waiting = {
                let gone = gone.clone();
                tokio::spawn(async move { gone.pull_as(gone.pulls(1, LONG_MS)).await })
            };
            until(async || commands(&fixture).await > said).await;
            waiting.abort();
        }
        // That it asked, and that it is gone.
        until(async || commands(&fixture).await > said + 1).await;
        let id = queue.push(job("work")).await;
        assert_eq!(queue.get(id).await.0.unwrap().state(), v1::JobState::Ready, "{cancelled}");
        let jobs = queue.pull(1).await;
        assert_eq!((jobs[0].job_id, jobs[0].attempt), (id, 1));
        queue.ack(&jobs[0]).await.unwrap();
    }
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

#[tokio::test]
async fn what_there_is_is_listed_in_pages() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let payload = "x".repeat(60 << 10);
    for _ in 0..3 {
        queue.push_all((0..10).map(|_| job(&payload)).collect()).await.unwrap();
    }
    let taken = queue.pull(1).await;
    let all = async |asked: v1::ListJobsRequest| {
        let (mut jobs, mut cursor, mut pages) = (Vec::new(), 0, 0);
        loop {
            let asked = v1::ListJobsRequest { queue: "q".into(), cursor, ..asked.clone() };
            let page = queue.calls.clone().list_jobs(asked).await.unwrap().into_inner();
            assert!(prost::Message::encoded_len(&page) < 1 << 20);
            jobs.extend(page.jobs);
            (cursor, pages) = (page.cursor, pages + 1);
            if cursor == 0 {
                return (jobs, pages);
            }
        }
    };
    let (jobs, pages) = all(v1::ListJobsRequest::default()).await;
    assert_eq!((jobs.len(), pages), (30, 1));
    assert!(jobs.iter().all(|job| job.payload.is_empty()));
    assert!(jobs.is_sorted_by_key(|job| job.job_id));
    let (jobs, pages) = all(v1::ListJobsRequest { payloads: true, ..Default::default() }).await;
    assert_eq!((jobs.len(), pages), (30, 6), "a page ends once it has 256 KiB");
    assert!(jobs.iter().all(|job| job.payload.len() == payload.len()));
    let (jobs, pages) = all(v1::ListJobsRequest { limit: 7, ..Default::default() }).await;
    assert_eq!((jobs.len(), pages), (30, 5));
    let state = v1::JobState::Leased.into();
    let (jobs, _) = all(v1::ListJobsRequest { state, ..Default::default() }).await;
    assert_eq!(jobs.iter().map(|job| job.job_id).collect::<Vec<_>>(), [taken[0].job_id]);

    // What a peek shows is bounded, too.
    let large = Queue { name: "large".into(), ..queue.clone() };
    for _ in 0..3 {
        large.push(job(&"y".repeat(512 << 10))).await;
    }
    let shown: Vec<usize> = large.peek(16).await.iter().map(|job| job.payload.len()).collect();
    assert_eq!(shown, [512 << 10, 512 << 10, 0]);

    for name in ["a.1", "a.2", "b"] {
        Queue { name: name.into(), ..queue.clone() }.pause().await;
    }
    let queues = async |asked: v1::ListQueuesRequest| {
        let page = queue.calls.clone().list_queues(asked).await.unwrap().into_inner();
        let names: Vec<String> = page.queues.into_iter().map(|info| info.queue).collect();
        (names, page.cursor)
    };
    let (names, cursor) = queues(v1::ListQueuesRequest::default()).await;
    assert_eq!(
        (&names[..], &*cursor),
        (&["a.1", "a.2", "b", "large", "q"].map(String::from)[..], "")
    );
    let select = Some(v1::key_selector::Select::Pattern("a.*".into()));
    let selector = Some(v1::KeySelector { select });
    let asked = v1::ListQueuesRequest { selector, limit: 1, ..Default::default() };
    let (names, cursor) = queues(asked.clone()).await;
    assert_eq!((names.len(), &*cursor), (1, "a.1"));
    let (names, _) = queues(v1::ListQueuesRequest { cursor, ..asked }).await;
    assert_eq!(names, ["a.2"]);
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_reason() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let status = queue.push_all(vec![job(&"x".repeat((1 << 20) + 1))]).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "PAYLOAD_TOO_LARGE", "not_applied"));
    assert!(status.message().starts_with("jobs[0]: "), "{}", status.message());
    let status = queue.push_all(vec![v1::NewJob { priority: 256, ..job("") }]).await.unwrap_err();
    assert_eq!(seen(&status).1, "INVALID_PRIORITY");
    let status = queue.pull_as(queue.pulls(0, 0)).await.unwrap_err();
    assert_eq!(seen(&status).1, "INVALID_COUNT");
    // More headers than a request may have, one by one small.
    let many = v1::NewJob { headers: vec![v1::JobHeader::default(); 70_000], ..job("") };
    let status = queue.push_all(vec![many]).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "MALFORMED", "not_applied"));

    // There is no such queue; then there is, and no such job.
    let unknown = v1::DeliveredJob { job_id: 7, lease: 9, ..Default::default() };
    let mut calls = queue.calls.clone();
    let not_found = |status: &Status, reason| {
        assert_eq!(seen(status), (Code::NotFound, reason, "not_applied"));
    };
    not_found(&queue.ack(&unknown).await.unwrap_err(), "QUEUE_UNKNOWN");
    not_found(&calls.stats(of_stats("q")).await.unwrap_err(), "QUEUE_UNKNOWN");
    let peek = v1::PeekRequest { queue: "q".into(), ..Default::default() };
    not_found(&calls.peek(peek).await.unwrap_err(), "QUEUE_UNKNOWN");
    let list = v1::ListJobsRequest { queue: "q".into(), ..Default::default() };
    not_found(&calls.list_jobs(list).await.unwrap_err(), "QUEUE_UNKNOWN");
    let cancel = v1::CancelRequest { queue: "q".into(), job_id: 7, ..Default::default() };
    not_found(&calls.cancel(cancel).await.unwrap_err(), "QUEUE_UNKNOWN");
    let redrive = v1::RedriveRequest { queue: "q".into(), ..Default::default() };
    not_found(&calls.redrive(redrive).await.unwrap_err(), "QUEUE_UNKNOWN");
    assert_eq!(queue.get(7).await, (None, String::new()));
    queue.resume().await;
    not_found(&queue.ack(&unknown).await.unwrap_err(), "JOB_UNKNOWN");
    let nack = queue.nacks(&unknown, v1::NackVerdict::Dead);
    not_found(&calls.nack(nack).await.unwrap_err(), "JOB_UNKNOWN");
    assert_eq!(queue.get(7).await, (None, String::new()));
    assert!(!queue.cancel(7).await.cancelled);

    let options = Some(v1::QueueOptions { jobs_max: Some(0), ..Default::default() });
    let update = v1::UpdateQueueRequest { queue: "q".into(), options, ..Default::default() };
    let status = calls.update_queue(update).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "INVALID_OPTION", "not_applied"));
}

#[tokio::test]
async fn all_calls_go_through_a_pipeline() {
    let fixture = Fixture::start().await;
    let mut pipe = Pipe::open(&fixture).await;
    let queue = Queue::of(&fixture, "q").await;
    let named = || queue.name.clone();
    // In the order in which they were sent.
    pipe.send(vec![
        call(1, Call::QueuePush(queue.pushes(vec![job("a"), job("b"), job("c")]))),
        call(2, Call::QueuePull(queue.pulls(2, 0))),
        call(3, Call::QueuePause(v1::PauseRequest { queue: named(), ..Default::default() })),
        call(4, Call::QueuePull(queue.pulls(2, 0))),
        call(5, Call::QueueResume(v1::ResumeRequest { queue: named(), ..Default::default() })),
    ])
    .await;
    let answers: BTreeMap<_, _> = pipe.answers(5).await.into_iter().collect();
    let Answer::QueuePush(pushed) = &answers[&1] else { panic!("{answers:?}") };
    let ids: Vec<u64> = pushed.jobs.iter().map(|job| job.job_id).collect();
    let Answer::QueuePull(pulled) = &answers[&2] else { panic!("{answers:?}") };
    assert_eq!(payloads(&pulled.jobs), ["a", "b"]);
    assert!(matches!(&answers[&3], Answer::QueuePause(done) if done.revision > 0), "{answers:?}");
    assert!(matches!(&answers[&4], Answer::QueuePull(none) if none.jobs.is_empty()));
    assert!(matches!(&answers[&5], Answer::QueueResume(done) if done.revision > 0));

    let (first, second) = (&pulled.jobs[0], &pulled.jobs[1]);
    let extend = v1::ExtendRequest {
        queue: named(),
        job_id: first.job_id,
        lease: first.lease,
        ..Default::default()
    };
    let progress = v1::ProgressRequest {
        queue: named(),
        job_id: first.job_id,
        lease: first.lease,
        permille: 10,
        ..Default::default()
    };
    let get = |job_id| v1::GetJobRequest { queue: named(), job_id, ..Default::default() };
    pipe.send(vec![
        call(1, Call::QueueExtend(extend)),
        call(2, Call::QueueProgress(progress)),
        call(3, Call::QueueAck(queue.acks(first.job_id, first.lease))),
        call(4, Call::QueueAck(queue.acks(first.job_id, first.lease))),
        call(5, Call::QueueNack(queue.nacks(second, v1::NackVerdict::Dead))),
        call(6, Call::QueueUpdate(v1::UpdateQueueRequest { queue: named(), ..Default::default() })),
    ])
    .await;
    let answers: BTreeMap<_, _> = pipe.answers(6).await.into_iter().collect();
    assert!(matches!(&answers[&1], Answer::QueueExtend(lasts) if lasts.lease_ms == 30_000));
    assert!(matches!(&answers[&2], Answer::QueueProgress(_)), "{answers:?}");
    assert!(matches!(&answers[&3], Answer::QueueAck(done) if done.revision > 0), "{answers:?}");
    assert_eq!(error(&answers[&4]).reason, "JOB_UNKNOWN");
    assert_eq!(error(&answers[&4]).code, Code::NotFound as u32);
    assert!(matches!(&answers[&5], Answer::QueueNack(dead) if dead.state() == v1::JobState::Dead));
    assert!(matches!(&answers[&6], Answer::QueueUpdate(done) if !done.created), "{answers:?}");

    pipe.send(vec![
        call(1, Call::QueuePeek(v1::PeekRequest { queue: named(), ..Default::default() })),
        call(2, Call::QueueGetJob(get(ids[2]))),
        call(3, Call::QueueListJobs(v1::ListJobsRequest { queue: named(), ..Default::default() })),
        call(4, Call::QueueStats(of_stats("q"))),
        call(5, Call::QueueList(v1::ListQueuesRequest::default())),
        call(6, Call::QueueStats(of_stats("none"))),
    ])
    .await;
    let answers: BTreeMap<_, _> = pipe.answers(6).await.into_iter().collect();
    assert!(matches!(&answers[&1], Answer::QueuePeek(next) if next.jobs[0].job_id == ids[2]));
    assert!(matches!(&answers[&2], Answer::QueueGetJob(got) if got.job.is_some()), "{answers:?}");
    assert!(matches!(&answers[&3], Answer::QueueListJobs(all) if all.jobs.len() == 1));
    assert!(matches!(&answers[&4], Answer::QueueStats(of) if of.info.as_ref().unwrap().dead == 1));
    assert!(matches!(&answers[&5], Answer::QueueList(all) if all.queues.len() == 2));
    assert_eq!(error(&answers[&6]).reason, "QUEUE_UNKNOWN");

    // Waits are not ordered, and what they wait for gets through.
    pipe.send(vec![
        call(1, Call::QueuePull(queue.pulls(1, LONG_MS))),
        call(2, Call::QueuePull(v1::PullRequest { queue: "w".into(), ..queue.pulls(1, LONG_MS) })),
    ])
    .await;
    let answers = pipe.answers(1).await;
    assert!(matches!(&answers[0], (1, Answer::QueuePull(got)) if got.jobs[0].job_id == ids[2]));
    let push = v1::PushRequest { queue: "w".into(), ..queue.pushes(vec![job("w")]) };
    pipe.send(vec![call(3, Call::QueuePush(push))]).await;
    let answers: BTreeMap<_, _> = pipe.answers(2).await.into_iter().collect();
    assert!(matches!(&answers[&2], Answer::QueuePull(got) if payloads(&got.jobs) == ["w"]));

    let job_id = ids[2];
    let cancel = v1::CancelRequest { queue: named(), job_id, ..Default::default() };
    pipe.send(vec![
        call(1, Call::QueueCancel(cancel)),
        call(2, Call::QueueRedrive(v1::RedriveRequest { queue: named(), ..Default::default() })),
        call(3, Call::QueuePurge(v1::PurgeRequest { queue: named(), ..Default::default() })),
        call(4, Call::QueueDelete(v1::DeleteQueueRequest { queue: named(), ..Default::default() })),
    ])
    .await;
    let answers: BTreeMap<_, _> = pipe.answers(4).await.into_iter().collect();
    assert!(matches!(&answers[&1], Answer::QueueCancel(done) if done.was_leased), "{answers:?}");
    assert!(matches!(&answers[&2], Answer::QueueRedrive(done) if done.moved == 1), "{answers:?}");
    assert!(matches!(&answers[&3], Answer::QueuePurge(done) if done.purged == 1), "{answers:?}");
    assert!(matches!(&answers[&4], Answer::QueueDelete(done) if done.deleted), "{answers:?}");
}

#[tokio::test]
async fn large_answers_come_in_messages_of_their_own() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    // Nearly a megabyte, and then another one: as much as a pull ever answers.
    for _ in 0..3 {
        for bytes in [(1 << 20) - 1, 1 << 20] {
            queue.push(job(&"x".repeat(bytes))).await;
        }
    }
    assert_eq!(queue.pull(128).await.len(), 2);
    let mut pipe = Pipe::open(&fixture).await;
    let mut calls: Vec<_> =
        (0..100).map(|id| call(id, Call::QueueList(v1::ListQueuesRequest::default()))).collect();
    calls.extend((100..102).map(|id| call(id, Call::QueuePull(queue.pulls(128, 0)))));
    pipe.send(calls).await;
    for (id, answer) in pipe.answers(102).await {
        match answer {
            Answer::QueuePull(pulled) => assert_eq!(pulled.jobs.len(), 2),
            Answer::QueueList(_) if id < 100 => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(pipe.largest > 2 << 20 && pipe.largest < 3 << 20, "{}", pipe.largest);
}
