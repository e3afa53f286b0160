//! The task queue: what is asked for, and what consumers and workers do when nodes fail.

use crate::fake::{Act, Fake, NOT_APPLIED, Said, fail, status};
use quorate_client::queue::{JobError, JobState, WorkerCounts, WorkerHandle};
use quorate_client::{Error, Job, NewJob};
use quorate_proto::v1::{self, JobHeader};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Code;

const LEASE: Duration = Duration::from_secs(30);

fn jobs(jobs: &[(u64, u64)]) -> Said {
    Said::Jobs(LEASE, jobs.to_vec())
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn gone(reason: &str) -> Act {
    fail(Code::FailedPrecondition, NOT_APPLIED, reason)
}

/// Waits until something is so; on a paused clock that takes no time of ours.
async fn until(so: impl Fn() -> bool) {
    let deadline = Instant::now() + secs(600);
    while !so() {
        assert!(Instant::now() < deadline, "it is not so, and will not be");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A worker that does jobs at once, but for those named here.
async fn worker(fake: &Fake, parallel: u32, slow: &'static [(u64, u64)]) -> WorkerHandle {
    let handler = move |job: Arc<Job>| async move {
        if let Some((_, seconds)) = slow.iter().find(|(id, _)| *id == job.id()) {
            tokio::time::sleep(secs(*seconds)).await;
        }
        Ok(())
    };
    let worker = fake.client().queue().worker("q", handler).max_parallel(parallel);
    worker.start().await.expect("it starts")
}

fn counts(done: u64, failed: u64, lost: u64, handed_back: u64) -> impl PartialEq<WorkerCounts> {
    struct Four([u64; 4]);
    impl PartialEq<WorkerCounts> for Four {
        fn eq(&self, counts: &WorkerCounts) -> bool {
            self.0 == [counts.done, counts.failed, counts.lost, counts.handed_back]
        }
    }
    Four([done, failed, lost, handed_back])
}

#[tokio::test(start_paused = true)]
async fn all_that_is_said_of_a_job_is_pushed() {
    let fake = Fake::start(1);
    let queue = fake.client().queue_in("ns");
    let pushed = queue
        .push("q", "payload")
        .delay(secs(5))
        .priority(7)
        .dedupe_key("k")
        .dedupe_window(secs(60))
        .group("g")
        .ttl(Duration::from_micros(1_500))
        .header("a", "1")
        .header("a", "2")
        .content_type("text/plain")
        .await
        .expect("pushed");
    assert_eq!((pushed.id, pushed.duplicate, pushed.revision), (1, true, 7));
    let header = |value: &'static str| JobHeader { name: "a".into(), value: value.into() };
    let expected = v1::NewJob {
        payload: "payload".into(),
        content_type: "text/plain".into(),
        headers: vec![header("1"), header("2")],
        priority: 7,
        delay_ms: 5_000,
        not_before_ms: 0,
        ttl_ms: Some(2),
        group: "g".into(),
        dedupe_key: "k".into(),
        dedupe_window_ms: 60_000,
    };
    let request = fake.state.pushes().remove(0);
    assert_eq!((&request.namespace[..], &request.queue[..]), ("ns", "q"));
    assert_eq!(request.jobs, [expected]);

    // The one replaces the other; a time in the past is at once, but a time.
    let at = SystemTime::UNIX_EPOCH + secs(9);
    queue.add("q", "").delay(secs(1)).not_before(at).await.expect("pushed");
    queue.push("q", "").not_before(at).delay(secs(1)).await.expect("pushed");
    queue.push("q", "").not_before(SystemTime::UNIX_EPOCH).await.expect("pushed");
    let times: Vec<_> = fake.state.pushes()[1..]
        .iter()
        .map(|push| (push.jobs[0].delay_ms, push.jobs[0].not_before_ms))
        .collect();
    assert_eq!(times, [(0, 9_000), (1_000, 0), (0, 1)]);

    let many = (0..3).map(|number| NewJob::new(number.to_string()).priority(number));
    let pushed = queue.push_many("q", many).await.expect("pushed");
    assert_eq!(pushed.iter().map(|job| job.id).collect::<Vec<_>>(), [5, 6, 7]);
    assert_eq!(fake.state.pushes()[4].jobs.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_push_whose_answer_is_lost_is_repeated_under_the_same_name() {
    let fake = Fake::start(3);
    fake.script("push", [Act::DoThenCut]);
    fake.client().queue().push("q", "x").await.expect("the second try");
    let seen = fake.seen("push");
    assert_eq!(seen.len(), 2);
    let name = |at: usize| (seen[at].origin.session_id, seen[at].origin.sequence);
    assert_eq!(name(0), name(1));
    assert_eq!(name(0), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pull_waits_on_one_node_and_a_repetition_gets_the_same_jobs() {
    let fake = Fake::start(3);
    let queue = fake.client().queue();
    fake.script("pull", [Act::AnswerAfter(secs(25))]);
    let begun = Instant::now();
    assert_eq!(queue.pull("q").wait(secs(30)).await.expect("answered").len(), 0);
    assert_eq!(begun.elapsed(), secs(25));
    assert_eq!(fake.seen("pull").len(), 1, "silence is what waiting sounds like");
    let key = fake.seen("pull")[0].origin.idempotency_key.clone();
    assert_eq!(key.len(), 16, "not by the session, which could do little else meanwhile");

    fake.state.script_pull(&[(1, 11), (2, 12)]);
    fake.script("pull", [Act::DoThenCut]);
    let pulled = queue.pull("q").count(5).wait(secs(30)).await.expect("the second try");
    let got: Vec<_> = pulled.iter().map(|job| (job.id(), job.lease())).collect();
    assert_eq!(got, [(1, 11), (2, 12)]);
    let seen = fake.seen("pull");
    assert_eq!(seen[1].origin.idempotency_key, seen[2].origin.idempotency_key);
    assert_ne!(seen[1].origin.idempotency_key, key);

    // One that does not wait goes with the other mutations.
    queue.pull("q").await.expect("answered");
    let last = fake.seen("pull").pop().expect("seen");
    assert_eq!((last.origin.session_id, last.origin.sequence), (1, 1));
    assert_eq!(fake.state.queue_calls().last().expect("called"), "pull q 1 wait 0");
    let leases: Vec<_> = pulled.into_iter().map(Job::leave).collect();
    assert_eq!(leases, [11, 12]);

    // Without an answer it ends a little after its wait.
    fake.always("pull", &Act::Hang);
    let begun = Instant::now();
    let error = queue.pull("q").wait(secs(10)).timeout(secs(3)).await.expect_err("no answer");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
    assert!(begun.elapsed() <= secs(13), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn each_word_about_a_job_is_told() {
    let fake = Fake::start(1);
    let queue = fake.client().queue();
    let all = [(1, 11), (2, 12), (3, 13), (4, 14), (5, 15), (6, 16), (7, 17)];
    fake.state.script_pull(&all);
    let mut pulled = queue.pull("q").count(128).await.expect("pulled").into_iter();
    let mut next = || pulled.next().expect("there are seven");

    let job = next();
    assert_eq!((job.id(), job.lease(), job.attempt(), job.queue()), (1, 11, 1, "q"));
    assert_eq!(&job.payload()[..], b"payload 1");
    assert_eq!(job.remaining(), LEASE);
    assert_eq!(job.extend(secs(90)).await.expect("extended"), secs(90));
    assert_eq!(job.remaining(), secs(90));
    job.progress(0.5, "half").await.expect("noted");
    assert_eq!(job.progress(1.5, "").await.expect_err("too much").reason(), "BAD_OPTION");
    job.ack().await.expect("acked");
    let nacked = next().nack("why").await.expect("nacked");
    assert_eq!((nacked.state, nacked.delay), (JobState::Delayed, secs(1)));
    let nacked = next().nack_after(secs(9), "later").await.expect("nacked");
    assert_eq!((nacked.state, nacked.delay), (JobState::Delayed, secs(9)));
    assert_eq!(next().kill("never").await.expect("nacked").state, JobState::Dead);
    assert_eq!(next().hand_back().await.expect("nacked").state, JobState::Ready);
    drop(next());
    assert_eq!(next().leave(), 17);
    until(|| fake.state.queue_calls().len() >= 9).await;
    tokio::time::sleep(secs(60)).await;
    let told = [
        "pull q 128 wait 0",
        "extend q 1/11 90000",
        "progress q 1/11 500 half",
        "ack q 1/11",
        "nack q 2/12 None why",
        "nack q 3/13 Some(9000) later",
        "kill q 4/14 never",
        "return q 5/15",
        "nack q 6/16 None it was dropped without a word",
    ];
    assert_eq!(fake.state.queue_calls(), told);

    // Of whom only the lease is known.
    queue.ack("q", 8, 18).await.expect("acked");
    queue.nack("q", 9, 19).error("e").await.expect("nacked");
    assert_eq!(fake.state.queue_calls()[9..], ["ack q 8/18", "nack q 9/19 None e"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_lost_is_told_apart_from_everything_else() {
    let fake = Fake::start(2);
    let queue = fake.client().queue();
    fake.state.script_pull(&[(1, 11), (2, 12), (3, 13), (4, 14)]);
    let mut pulled = queue.pull("q").count(4).await.expect("pulled").into_iter();
    let mut next = || pulled.next().expect("there are four");

    // Also when an earlier try is of open fate: the state machine remembers its answer.
    fake.script("ack", [Act::DoThenCut, gone("JOB_LEASE_LOST")]);
    let error = next().ack().await.expect_err("lost");
    assert!(matches!(error, Error::JobLost { .. }), "{error:?}");
    assert_eq!(error.reason(), "JOB_LEASE_LOST");
    fake.script("nack", [fail(Code::NotFound, NOT_APPLIED, "JOB_UNKNOWN")]);
    let error = next().nack("x").await.expect_err("lost");
    assert!(matches!(error, Error::JobLost { .. }), "{error:?}");
    assert_eq!(error.reason(), "JOB_UNKNOWN");

    let job = next();
    fake.script("extend", [gone("JOB_LEASE_LOST")]);
    assert!(!job.is_withdrawn());
    job.extend(secs(1)).await.expect_err("lost");
    assert!(job.is_withdrawn());
    job.withdrawn().await;
    let calls = fake.state.queue_calls().len();
    drop(job);
    tokio::time::sleep(secs(9)).await;
    assert_eq!(fake.state.queue_calls().len(), calls, "of a job that is lost nothing is said");

    // With its queue it is gone as well.
    fake.state.script_pull(&[(5, 15)]);
    let job = queue.pull("q").await.expect("pulled").remove(0);
    fake.script("extend", [fail(Code::NotFound, NOT_APPLIED, "QUEUE_UNKNOWN")]);
    tokio::time::timeout(secs(60), job.keep()).await.expect("there is nothing to keep");
    assert!(job.is_withdrawn());

    fake.script("ack", [fail(Code::NotFound, NOT_APPLIED, "QUEUE_UNKNOWN")]);
    let error = next().ack().await.expect_err("no such queue");
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    fake.script("push", [fail(Code::ResourceExhausted, NOT_APPLIED, "QUEUE_FULL")]);
    let error = queue.push("q", "x").await.expect_err("full");
    assert!(matches!(error, Error::ResourceExhausted { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_redrive_takes_all_its_steps_and_one_of_named_jobs_a_single_one() {
    let fake = Fake::start(1);
    let queue = fake.client().queue();
    let done = queue.redrive("q").step_jobs(10).await.expect("redriven");
    assert_eq!((done.moved, done.steps), (30, 3));
    let done = queue.redrive("q").jobs([4, 5]).await.expect("redriven");
    assert_eq!((done.moved, done.steps), (10, 1));
    let told = [
        "redrive q [] 0 10",
        "redrive q [] 1000 10",
        "redrive q [] 2000 10",
        "redrive q [4, 5] 0 0",
    ];
    assert_eq!(fake.state.queue_calls(), told);
}

#[tokio::test(start_paused = true)]
async fn a_worker_tells_what_became_of_each_job() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13), (4, 14), (5, 15), (6, 16)])]);
    let handler = |job: Arc<Job>| async move {
        match job.id() {
            1 => Ok(()),
            2 => Err("no".into()),
            3 => panic!("oh {}", job.id()),
            4 => Err(JobError::new("later").after(secs(7))),
            5 => Err(JobError::new("never").kill()),
            _ => Err(JobError::new("").hand_back()),
        }
    };
    let queue = fake.client().queue();
    let worker = queue.worker("q", handler).max_parallel(6).start().await.expect("it starts");
    until(|| fake.state.queue_calls().len() == 6).await;
    let mut told = fake.state.queue_calls();
    told.sort();
    let expected = [
        "ack q 1/11",
        "kill q 5/15 never",
        "nack q 2/12 None no",
        "nack q 3/13 None panicked: oh 3",
        "nack q 4/14 Some(7000) later",
        "return q 6/16",
    ];
    assert_eq!(told, expected);
    assert_eq!(fake.state.consumes(), [("n1:1".to_owned(), 1, 0, 6)]);
    worker.stop();
    let done = worker.join().await.expect("it stopped in order");
    assert!(counts(1, 4, 0, 1) == done, "{done:?}");
    // No more was wanted, and the stream ended.
    assert_eq!(fake.state.windows(), [(1, Some(0)), (1, None)]);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_says_is_never_too_much_and_what_was_not_heard_is_unknown() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11)]), Said::Pause(secs(9)), jobs(&[(2, 12)])]);
    let handler = |job: Arc<Job>| async move {
        match job.id() {
            // What is kept of it ends before a character that would be cut.
            1 => Err(JobError::new(format!("x{}", "é".repeat(5_000))).after(Duration::MAX)),
            _ => Ok(()),
        }
    };
    let worker = fake.client().queue().worker("q", handler).start().await.expect("it starts");
    until(|| worker.counts().failed == 1).await;
    let longest = 366 * 86_400_000_u64;
    let kept = format!("x{}", "é".repeat(511));
    assert_eq!(fake.state.queue_calls(), [format!("nack q 1/11 Some({longest}) {kept}")]);
    fake.always("ack", &Act::Hang);
    until(|| worker.counts().unknown == 1).await;
    assert!(counts(0, 1, 0, 0) == worker.counts(), "{:?}", worker.counts());

    // Who settles by hand is told, and it is not forgotten.
    fake.state.script_pull(&[(3, 13)]);
    let job = fake.client().queue().pull("q").await.expect("pulled").remove(0);
    let error = job.nack_after(secs(367 * 86_400), "later").await.expect_err("too long");
    assert_eq!(error.reason(), "BAD_OPTION");
    let told = "nack q 3/13 None it was dropped without a word";
    until(|| fake.state.queue_calls().last().is_some_and(|call| call == told)).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_does_no_more_at_once_than_it_may() {
    let fake = Fake::start(1);
    let many: Vec<_> = (1..=9).map(|id| (id, 10 + id)).collect();
    fake.state.script_consume(vec![jobs(&many)]);
    let running = Arc::new(Mutex::new((0, 0)));
    let counted = Arc::clone(&running);
    let handler = move |_| {
        let counted = Arc::clone(&counted);
        async move {
            {
                let mut counted = counted.lock().expect("lock");
                counted.0 += 1;
                counted.1 = counted.1.max(counted.0);
            }
            tokio::time::sleep(secs(1)).await;
            counted.lock().expect("lock").0 -= 1;
            Ok(())
        }
    };
    let queue = fake.client().queue();
    let worker = queue.worker("q", handler).max_parallel(3).prefetch(6);
    let worker = worker.start().await.expect("it starts");
    assert_eq!(fake.state.consumes()[0].3, 9);
    until(|| worker.counts().done == 9).await;
    assert_eq!(*running.lock().expect("lock"), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_extended_at_a_third_for_as_long_as_the_job_runs() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let begun = Instant::now();
    let _worker = worker(&fake, 1, &[(1, 45)]).await;
    until(|| fake.state.queue_calls().last().is_some_and(|call| call.starts_with("ack"))).await;
    let at: Vec<_> = fake.seen("extend").iter().map(|seen| (seen.at - begun).as_secs()).collect();
    assert_eq!(at, [10, 20, 30, 40]);
    assert_eq!(fake.state.queue_calls()[0], "extend q 1/11 0");
    tokio::time::sleep(secs(60)).await;
    assert_eq!(fake.seen("extend").len(), 4, "not any more");
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_fails_is_tried_again_until_the_job_is_lost() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let busy = fail(Code::ResourceExhausted, NOT_APPLIED, "TOO_MUCH");
    fake.script("extend", [busy.clone(), busy, Act::Answer, gone("JOB_LEASE_LOST")]);
    let begun = Instant::now();
    let worker = worker(&fake, 1, &[(1, 1_000)]).await;
    until(|| worker.counts().lost == 1).await;
    let at: Vec<_> =
        fake.seen("extend").iter().map(|seen| (seen.at - begun).as_millis() / 10).collect();
    assert_eq!(at, [1_000, 1_125, 1_250, 2_250]);
    assert_eq!(fake.state.queue_calls(), ["extend q 1/11 0"], "nothing is said of it any more");
}

/// Says when it is dropped.
struct Dropped(Arc<Mutex<Option<Instant>>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        *self.0.lock().expect("lock") = Some(Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn the_work_on_a_job_that_is_withdrawn_ends() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![
        jobs(&[(1, 11), (2, 12)]),
        Said::Pause(secs(5)),
        Said::Withdrawn(1, 10),
        Said::Pause(secs(1)),
        Said::Withdrawn(1, 11),
        // The one that waits is withdrawn, too, and never begun.
        Said::Withdrawn(2, 12),
        jobs(&[(3, 13)]),
    ]);
    let at = Arc::new(Mutex::new(None));
    let told = Arc::clone(&at);
    let begun = Instant::now();
    let handler = move |job: Arc<Job>| {
        let dropped = (job.id() == 1).then(|| Dropped(Arc::clone(&told)));
        async move {
            let _dropped = dropped;
            if job.id() == 1 {
                tokio::time::sleep(secs(1_000)).await;
            }
            Ok(())
        }
    };
    let queue = fake.client().queue();
    let worker = queue.worker("q", handler).prefetch(1).start().await.expect("it starts");
    until(|| worker.counts().done == 1).await;
    assert_eq!(at.lock().expect("lock").map(|at| at - begun), Some(secs(6)));
    assert_eq!(fake.state.queue_calls(), ["ack q 3/13"]);
    assert!(counts(1, 0, 1, 0) == worker.counts(), "{:?}", worker.counts());
}

#[tokio::test(start_paused = true)]
async fn after_a_break_a_consumer_comes_back_as_who_it_was_and_does_nothing_twice() {
    let fake = Fake::start(3);
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13)]), Said::Cut]);
    // 1 is being done, 2 was done meanwhile, 3 waits; 4 is new.
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13), (4, 14)])]);
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    let first = consumer.next().await.expect("a job").expect("no error");
    let second = consumer.next().await.expect("a job").expect("no error");
    assert_eq!((first.id(), second.id()), (1, 2));
    // Its answer comes long after the break.
    fake.script("ack", [Act::AnswerAfter(Duration::from_millis(900))]);
    let acked = tokio::spawn(second.ack());
    until(|| fake.state.consumes().len() == 2).await;
    let mut rest = Vec::new();
    for _ in 0..2 {
        let job = consumer.next().await.expect("a job").expect("no error");
        rest.push((job.id(), job.lease(), job.is_withdrawn()));
        job.ack().await.expect("acked");
    }
    assert_eq!(rest, [(3, 13, false), (4, 14, false)]);
    acked.await.expect("no panic").expect("acked");
    assert!(!first.is_withdrawn(), "it has it still");
    first.ack().await.expect("acked");
    assert!(tokio::time::timeout(secs(60), consumer.next()).await.is_err(), "that was all");
    let opened = fake.state.consumes();
    let who: Vec<_> =
        opened.iter().map(|(_, session, consumer, _)| (*session, *consumer)).collect();
    assert_eq!(who, [(1, 0), (1, 1)]);
    assert_ne!(opened[0].0, opened[1].0, "at another node");
}

#[tokio::test(start_paused = true)]
async fn after_a_break_a_consumer_is_told_what_it_has_lost() {
    let fake = Fake::start(2);
    fake.state.script_consume(vec![
        jobs(&[(1, 11), (2, 12), (3, 13)]),
        Said::Pause(secs(1)),
        // The lease of one that runs ended while nobody could say so, and that of one that waits.
        Said::Lost(11),
        Said::Lost(13),
        Said::Cut,
    ]);
    fake.state.script_consume(vec![jobs(&[(2, 12), (4, 14)])]);
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    let first = consumer.next().await.expect("a job").expect("no error");
    let second = consumer.next().await.expect("a job").expect("no error");
    tokio::time::timeout(secs(5), first.withdrawn()).await.expect("it is told");
    assert!(!second.is_withdrawn());
    let next = consumer.next().await.expect("a job").expect("no error");
    assert_eq!((next.id(), next.lease()), (4, 14), "and not the one that waited");
    drop(first);
    second.ack().await.expect("acked");
    next.ack().await.expect("acked");
    assert_eq!(fake.state.queue_calls(), ["ack q 2/12", "ack q 4/14"]);
}

/// Its stream goes on: it was lost to its node for a moment.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_comes_back_on_its_stream_is_told_what_it_has_lost() {
    for one_shot in [false, true] {
        let fake = Fake::start(1);
        fake.state.script_consume(vec![
            jobs(&[(1, 11), (2, 12), (3, 13)]),
            Said::Pause(secs(1)),
            Said::Lost(11),
            Said::Lost(13),
            Said::Opened { wrong: false },
            jobs(&[(4, 14)]),
        ]);
        let client = fake.options().one_shot(one_shot).connect().expect("good options");
        let mut consumer = client.queue().consume("q", 9).start().await.expect("it starts");
        let first = consumer.next().await.expect("a job").expect("no error");
        let second = consumer.next().await.expect("a job").expect("no error");
        tokio::time::timeout(secs(5), first.withdrawn()).await.expect("it is told");
        assert!(!second.is_withdrawn());
        let next = consumer.next().await.expect("a job").expect("no error");
        assert_eq!((next.id(), next.lease()), (4, 14), "and not the one that waited");
        assert_eq!(fake.state.consumes().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_told_to_be_another_one_gives_up() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![Said::Opened { wrong: true }]);
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    let error = consumer.next().await.expect("something").expect_err("it is wrong");
    assert!(error.to_string().contains("another one"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_ends_the_work_on_what_was_lost_in_a_break() {
    let fake = Fake::start(2);
    fake.state.script_consume(vec![
        jobs(&[(1, 11)]),
        Said::Pause(secs(1)),
        Said::Lost(11),
        Said::Cut,
    ]);
    fake.state.script_consume(vec![jobs(&[(2, 12)])]);
    let worker = worker(&fake, 1, &[(1, 500)]).await;
    let begun = Instant::now();
    until(|| worker.counts().done == 1).await;
    assert!(begun.elapsed() < secs(5), "{:?}", begun.elapsed());
    assert!(counts(1, 0, 1, 0) == worker.counts(), "{:?}", worker.counts());
    assert_eq!(fake.state.queue_calls(), ["ack q 2/12"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_dropped_or_left_before_a_break_is_not_handed_out_again() {
    let fake = Fake::start(2);
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12)]), Said::Pause(secs(1)), Said::Cut]);
    let again = vec![jobs(&[(1, 11), (2, 12)]), Said::Pause(secs(1)), Said::Cut];
    fake.state.script_consume(again);
    fake.state.script_consume(vec![jobs(&[(2, 12), (3, 13)])]);
    // Told only after the break, and so sent again before.
    fake.script("nack", [Act::AnswerAfter(Duration::from_millis(1_500))]);
    let client = fake.options().attempt_timeout(secs(3)).connect().expect("good options");
    let mut consumer = client.queue().consume("q", 9).start().await.expect("it starts");
    let first = consumer.next().await.expect("a job").expect("no error");
    let second = consumer.next().await.expect("a job").expect("no error");
    assert_eq!(second.leave(), 12);
    tokio::time::sleep(Duration::from_millis(800)).await;
    drop(first);
    let next = consumer.next().await.expect("a job").expect("no error");
    assert_eq!((next.id(), next.lease()), (3, 13));
    assert_eq!(fake.state.consumes().len(), 3);
    let told = fake.state.queue_calls();
    assert_eq!(told, ["nack q 1/11 None it was dropped without a word"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_settled_while_the_stream_was_asked_for_is_passed_over() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11)]), Said::End]);
    // Sent again long after the answer to the ack has come.
    fake.state.script_consume(vec![Said::Pause(secs(5)), jobs(&[(1, 11), (2, 12)]), Said::End]);
    // Here it can't come any more; if a node says so all the same, it is another story.
    fake.state.script_consume(vec![jobs(&[(1, 21)])]);
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    let first = consumer.next().await.expect("a job").expect("no error");
    until(|| fake.state.consumes().len() == 2).await;
    first.ack().await.expect("acked");
    let mut got = Vec::new();
    for _ in 0..2 {
        let job = consumer.next().await.expect("a job").expect("no error");
        got.push((job.id(), job.lease()));
        job.ack().await.expect("acked");
    }
    assert_eq!(got, [(2, 12), (1, 21)]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_has_ended_begins_anew_without_what_it_had() {
    let fake = Fake::start(1);
    let end = status(Code::NotFound, NOT_APPLIED, "CONSUMER_GONE");
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12)]), Said::End]);
    fake.state.script_consume(vec![Said::Fail(end)]);
    fake.state.script_consume(vec![jobs(&[(1, 21)])]);
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    let before = consumer.next().await.expect("a job").expect("no error");
    before.withdrawn().await;
    let after = consumer.next().await.expect("a job").expect("no error");
    assert_eq!((after.id(), after.lease()), (1, 21), "and not the one that waited");
    let who: Vec<_> = fake
        .state
        .consumes()
        .iter()
        .map(|(_, session, consumer, _)| (*session, *consumer))
        .collect();
    assert_eq!(who, [(1, 0), (1, 1), (1, 0)]);
    drop(before);
    after.ack().await.expect("acked");
    assert_eq!(fake.state.queue_calls(), ["ack q 1/21"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_takes_the_consumer_along() {
    let fake = Fake::start(1);
    let expired = status(Code::NotFound, NOT_APPLIED, "SESSION_EXPIRED");
    fake.state.script_consume(vec![
        jobs(&[(1, 11)]),
        Said::Pause(secs(1)),
        Said::Fail(expired.clone()),
    ]);
    fake.state.script_consume(vec![Said::Fail(expired)]);
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    let job = consumer.next().await.expect("a job").expect("no error");
    job.withdrawn().await;
    until(|| fake.state.consumes().len() == 3).await;
    let who: Vec<_> = fake
        .state
        .consumes()
        .iter()
        .map(|(_, session, consumer, _)| (*session, *consumer))
        .collect();
    assert_eq!(who, [(1, 0), (1, 1), (2, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_client_consumes_without_a_session() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11)]), Said::End]);
    fake.state.script_consume(vec![jobs(&[(2, 12)])]);
    let client = fake.options().one_shot(true).connect().expect("good options");
    let mut consumer = client.queue().consume("q", 9).start().await.expect("it starts");
    let first = consumer.next().await.expect("a job").expect("no error");
    let second = consumer.next().await.expect("a job").expect("no error");
    // Its lease is not the stream's.
    assert!(!first.is_withdrawn());
    first.ack().await.expect("acked");
    second.ack().await.expect("acked");
    let who: Vec<_> = fake
        .state
        .consumes()
        .iter()
        .map(|(_, session, consumer, _)| (*session, *consumer))
        .collect();
    assert_eq!(who, [(0, 0), (0, 0)]);
    assert_eq!(fake.state.sessions_opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_no_session_hands_back_what_waited_when_its_stream_broke() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13)]), Said::End]);
    fake.state.script_consume(vec![jobs(&[(2, 22)])]);
    let client = fake.options().one_shot(true).connect().expect("good options");
    let mut consumer = client.queue().consume("q", 9).start().await.expect("it starts");
    let first = consumer.next().await.expect("a job").expect("no error");
    until(|| fake.state.consumes().len() == 2).await;
    let next = consumer.next().await.expect("a job").expect("no error");
    assert_eq!((next.id(), next.lease()), (2, 22), "a window is all that is here");
    assert_eq!(fake.state.queue_calls(), ["return q 2/12", "return q 3/13"]);
    first.ack().await.expect("it is its own still");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_lets_run_what_runs_and_hands_back_the_rest() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13), (4, 14)])]);
    let handler = |job: Arc<Job>| async move {
        tokio::time::sleep(secs(if job.id() == 1 { 4 } else { 400 })).await;
        Ok(())
    };
    let queue = fake.client().queue();
    let worker = queue.worker("q", handler).max_parallel(2).prefetch(2).grace(secs(20));
    let worker = worker.start().await.expect("it starts");
    tokio::time::sleep(secs(1)).await;
    worker.stop();
    let begun = Instant::now();
    until(|| fake.state.queue_calls().len() >= 2).await;
    assert!(begun.elapsed() < secs(1), "those that wait go back at once");
    let done = worker.join().await.expect("it stopped in order");
    assert_eq!(begun.elapsed().as_secs(), 20, "its grace time");
    assert!(counts(1, 0, 0, 3) == done, "{done:?}");
    let mut told = fake.state.queue_calls();
    told.retain(|call| !call.starts_with("extend"));
    assert_eq!(told, ["return q 3/13", "return q 4/14", "ack q 1/11", "return q 2/12"]);
    assert_eq!(fake.state.windows(), [(1, Some(0)), (1, Some(0)), (1, None)]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_to_stop_at_once_hands_back_what_runs() {
    for first in [true, false] {
        let fake = Fake::start(1);
        fake.state.script_consume(vec![jobs(&[(1, 11)])]);
        let worker = worker(&fake, 1, &[(1, 500)]).await;
        tokio::time::sleep(secs(1)).await;
        let begun = Instant::now();
        if first {
            worker.stop();
            tokio::time::sleep(secs(5)).await;
        }
        worker.stop_now();
        worker.finished().await;
        let done = worker.join().await.expect("it stopped in order");
        assert!(begun.elapsed() < secs(6), "{:?}", begun.elapsed());
        assert!(counts(0, 0, 0, 1) == done, "{done:?}");
        assert_eq!(fake.state.queue_calls(), ["return q 1/11"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_handle_is_dropped_stops() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let worker = worker(&fake, 1, &[(1, 5)]).await;
    tokio::time::sleep(secs(1)).await;
    drop(worker);
    until(|| fake.state.windows().contains(&(1, None))).await;
    assert_eq!(fake.state.queue_calls(), ["ack q 1/11"]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_ends_hands_back_what_was_not_taken() {
    for close in [true, false] {
        let fake = Fake::start(1);
        fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13)])]);
        let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
        let first = consumer.next().await.expect("a job").expect("no error");
        match close {
            true => consumer.close().await,
            false => drop(consumer),
        }
        until(|| fake.state.queue_calls().len() == 2).await;
        assert_eq!(fake.state.queue_calls(), ["return q 2/12", "return q 3/13"]);
        assert_eq!(fake.state.windows(), [(1, Some(0)), (1, None)]);
        // What was taken can be settled all the same.
        first.ack().await.expect("acked");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_consumer_is_not_waited_for_longer_than_that() {
    let fake = Fake::start(1);
    let many: Vec<_> = (1..=300).map(|id| (id, 1_000 + id)).collect();
    fake.state.script_consume(vec![jobs(&many)]);
    fake.always("nack", &Act::Hang);
    let consumer = fake.client().queue().consume("q", 300).start().await.expect("it starts");
    tokio::time::sleep(secs(1)).await;
    let begun = Instant::now();
    consumer.close().await;
    assert!(begun.elapsed() <= secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_window_can_be_changed_and_without_one_no_stream_is_opened() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![Said::Pause(secs(10)), Said::End]);
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    assert!(consumer.set_window(1_001).is_err());
    consumer.set_window(5).expect("it fits");
    tokio::time::sleep(secs(1)).await;
    consumer.set_window(0).expect("it fits");
    tokio::time::sleep(secs(60)).await;
    assert_eq!(fake.state.consumes().len(), 1);
    assert_eq!(fake.state.windows(), [(1, Some(5)), (1, Some(0))]);
    consumer.set_window(3).expect("it fits");
    assert_eq!(consumer.next().await.expect("a job").expect("no error").id(), 1);
    assert_eq!(fake.state.consumes()[1].3, 3);
    for wrong in [0, 1_001] {
        let queue = fake.client().queue();
        let error = queue.consume("q", wrong).start().await.expect_err("out of bounds");
        assert_eq!(error.reason(), "BAD_OPTION");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_deleted_ends_its_consumers() {
    let fake = Fake::start(1);
    let deleted = status(Code::NotFound, NOT_APPLIED, "QUEUE_UNKNOWN");
    let end = status(Code::NotFound, NOT_APPLIED, "CONSUMER_GONE");
    fake.state.script_consume(vec![jobs(&[(1, 11)]), Said::Pause(secs(2)), Said::Fail(end)]);
    fake.state.script_consume(vec![Said::Fail(deleted)]);
    let worker = worker(&fake, 1, &[(1, 500)]).await;
    let begun = Instant::now();
    worker.finished().await;
    assert!(begun.elapsed() < secs(5), "what runs is for nothing: {:?}", begun.elapsed());
    assert!(counts(0, 0, 1, 0) == worker.counts(), "{:?}", worker.counts());
    let error = worker.join().await.expect_err("it can't go on");
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    assert_eq!(fake.state.queue_calls().len(), 0, "there is nothing to say of what is gone");
    assert_eq!(fake.state.consumes().len(), 2, "and it was not made again");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_without_a_session_does_not_make_a_deleted_queue_again() {
    for deleted in [true, false] {
        let fake = Fake::start(1);
        let end = status(Code::NotFound, NOT_APPLIED, "CONSUMER_GONE");
        fake.state.script_consume(vec![Said::Pause(secs(1)), Said::Fail(end)]);
        fake.state.script_consume(vec![jobs(&[(1, 11)])]);
        if deleted {
            fake.script("stats", [fail(Code::NotFound, NOT_APPLIED, "QUEUE_UNKNOWN")]);
        }
        let client = fake.options().one_shot(true).connect().expect("good options");
        let mut consumer = client.queue().consume("q", 9).start().await.expect("it starts");
        let next = consumer.next().await.expect("something");
        match deleted {
            true => assert!(matches!(next, Err(Error::NotFound { .. })), "{next:?}"),
            false => assert_eq!(next.expect("a job").leave(), 11),
        }
        assert_eq!(fake.state.consumes().len(), if deleted { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_every_stream_is_not_hammered() {
    let fake = Fake::start(1);
    for _ in 0..1_000 {
        fake.state.script_consume(vec![Said::End]);
    }
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    assert!(tokio::time::timeout(secs(10), consumer.next()).await.is_err());
    let opened = fake.state.consumes().len();
    assert!((20..100).contains(&opened), "{opened} times in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_for_which_there_is_no_room_asks_now_and_then() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![Said::End]);
    for _ in 0..8 {
        let full = status(Code::ResourceExhausted, NOT_APPLIED, "TOO_MANY_CONSUMERS");
        fake.state.script_consume(vec![Said::Fail(full)]);
    }
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let begun = Instant::now();
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    assert_eq!(consumer.next().await.expect("a job").expect("no error").id(), 1);
    let took = begun.elapsed();
    assert!(took >= secs(8) && took < secs(17), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_outlives_any_time_without_nodes() {
    let fake = Fake::start(2);
    fake.state.script_consume(vec![]);
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let client = fake.options().session_ttl(secs(3_600)).connect().expect("good options");
    let mut consumer = client.queue().consume("q", 9).start().await.expect("it starts");
    for node in ["n1:1", "n2:1"] {
        fake.net.kill(node);
    }
    assert!(tokio::time::timeout(secs(600), consumer.next()).await.is_err());
    for node in ["n1:1", "n2:1"] {
        fake.net.reach(node, crate::fake::Reach::Open);
    }
    assert_eq!(consumer.next().await.expect("a job").expect("no error").id(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_settled_as_long_as_its_lease_lasts() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let worker = worker(&fake, 1, &[(1, 1)]).await;
    fake.net.kill("n1:1");
    tokio::time::sleep(secs(20)).await;
    assert_eq!(fake.state.queue_calls().len(), 0);
    fake.net.reach("n1:1", crate::fake::Reach::Open);
    until(|| worker.counts().done == 1).await;
    assert_eq!(fake.state.queue_calls(), ["ack q 1/11"]);
}

#[tokio::test(start_paused = true)]
async fn next_may_be_dropped_at_any_moment() {
    let fake = Fake::start(2);
    fake.state.script_consume(vec![
        jobs(&[(1, 11)]),
        Said::Pause(secs(1)),
        jobs(&[(2, 12)]),
        Said::Cut,
    ]);
    fake.state.script_consume(vec![Said::Pause(secs(1)), jobs(&[(1, 11), (2, 12), (3, 13)])]);
    let mut consumer = fake.client().queue().consume("q", 9).start().await.expect("it starts");
    let mut got = Vec::new();
    for _ in 0..10_000 {
        tokio::select! {
            biased;
            next = consumer.next() => got.push(next.expect("a job").expect("no error")),
            () = tokio::task::yield_now() => {}
        }
        if got.len() == 3 {
            break;
        }
        // Time passes only outside, so that waits within never end by themselves.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(got.iter().map(Job::id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(got.iter().all(|job| !job.is_withdrawn()));
}

#[tokio::test(start_paused = true)]
async fn who_keeps_a_job_by_hand_is_told_when_it_is_lost() {
    let fake = Fake::start(1);
    fake.state.script_pull(&[(1, 11)]);
    let job = fake.client().queue().pull("q").await.expect("pulled").remove(0);
    fake.script("extend", [Act::Answer, Act::Answer, Act::Answer, gone("JOB_LEASE_LOST")]);
    let begun = Instant::now();
    let extended = Arc::new(Notify::new());
    let told = Arc::clone(&extended);
    let job = Arc::new(job);
    let by_hand = Arc::clone(&job);
    let asked = tokio::spawn(async move {
        told.notified().await;
        // By much more than the queue would say: nothing is due for a while then.
        by_hand.extend(secs(100)).await.expect("extended");
    });
    tokio::spawn(async move {
        tokio::time::sleep(secs(15)).await;
        extended.notify_one();
    });
    job.keep().await;
    asked.await.expect("no panic");
    assert!(job.is_withdrawn());
    let at: Vec<_> = fake.seen("extend").iter().map(|seen| (seen.at - begun).as_secs()).collect();
    assert_eq!(at, [10, 15, 95, 105]);
}
