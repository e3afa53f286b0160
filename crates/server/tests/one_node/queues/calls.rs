//! All calls: their pages and refusals, and their way through a pipeline.

use super::*;

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
    // Each is as large as it may be, but not all of them.
    let status = queue.push_all(vec![job(&"x".repeat(1 << 20)); 2]).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "REQUEST_TOO_LARGE", "not_applied"));
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
    let get = v1::GetJobRequest { queue: "q".into(), job_id: 7, ..Default::default() };
    not_found(&calls.get_job(get).await.unwrap_err(), "QUEUE_UNKNOWN");
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
