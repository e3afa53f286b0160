//! Calls about queues and jobs.

use super::*;

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
