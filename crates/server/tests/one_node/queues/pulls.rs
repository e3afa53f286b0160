//! Pulls that wait, are repeated or given up.

use super::*;

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
