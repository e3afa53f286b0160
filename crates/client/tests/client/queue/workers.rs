//! Workers: what they tell of jobs, how they keep them, and how they stop.

use super::*;

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
