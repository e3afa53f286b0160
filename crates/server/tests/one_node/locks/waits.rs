//! Calls that wait, and how they end.

use super::*;

/// How the call of a waiter ends before it is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    DropsTheCall,
    CancelsInThePipeline,
    ClosesThePipeline,
    LosesTheConnection,
    RunsOutOfTime,
}

#[tokio::test]
async fn a_repetition_goes_on_waiting_at_the_same_place_and_has_the_same_answer() {
    let fixture = Fixture::start().await;
    let (a, b, c) =
        (Caller::new(&fixture).await, Caller::new(&fixture).await, Caller::new(&fixture).await);
    let first = a.acquire(a.asks("l", 1, LONG_MS)).await.unwrap();
    assert_eq!(a.acquire(a.asks("l", 1, LONG_MS)).await.unwrap(), first, "the same grant");
    let asked = b.asks("l", 1, LONG_MS);
    let mut before = b.spawn(asked.clone());
    a.waiters("l", 1).await;
    let behind = c.spawn(c.asks("l", 1, LONG_MS));
    a.waiters("l", 2).await;
    // Again while the first call still waits, and once more through the pipeline.
    let mut pipe = Pipe::open(&fixture).await;
    let said = commands(&fixture).await;
    pipe.send(vec![call(1, Call::LockAcquire(asked.clone()))]).await;
    // That it asks, and that it is there.
    commands_reach(&fixture, &a, said + 2).await;
    assert_eq!(a.inspect("l").await.waiters, 2, "no place more");
    assert!(a.release("l", first).await);
    let second = token(&pipe.answers(1).await[0].1);
    // The call before is told to ask again, or the same grant; not that there is none.
    match (&mut before).await.unwrap() {
        Ok(granted) => assert_eq!(granted, second),
        Err(status) => {
            assert_eq!(seen(&status), (Code::Unavailable, "LOCK_WAITING", "unknown"));
        }
    }
    assert_eq!(b.acquire(asked).await.unwrap(), second, "also when it comes after the grant");
    assert!(!behind.is_finished());
    assert_eq!(a.inspect("l").await.holders[0].fencing_token, second);
    // Another request under the same number is none.
    let status = b.acquire(b.asks("other", 1, LONG_MS)).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "REQUEST_MISMATCH", "not_applied"));
    behind.abort();
}

#[tokio::test]
async fn a_waiter_whose_call_is_over_is_passed_over_and_keeps_its_place() {
    for leaves in [
        Leaves::DropsTheCall,
        Leaves::CancelsInThePipeline,
        Leaves::ClosesThePipeline,
        Leaves::LosesTheConnection,
        Leaves::RunsOutOfTime,
    ] {
        let fixture = Fixture::start().await;
        let holder = Caller::new(&fixture).await;
        let (gone, b, c) =
            (Caller::new(&fixture).await, Caller::new(&fixture).await, Caller::new(&fixture).await);
        let first = holder.acquire(holder.asks("l", 1, 0)).await.unwrap();
        let asked = gone.asks("l", 1, LONG_MS);
        let gone_session = gone.session_id;
        let said = commands(&fixture).await;
        match leaves {
            Leaves::DropsTheCall => {
                let waiting = gone.spawn(asked.clone());
                holder.waiters("l", 1).await;
                waiting.abort();
            }
            Leaves::CancelsInThePipeline | Leaves::ClosesThePipeline => {
                let mut pipe = Pipe::open(&fixture).await;
                pipe.send(vec![call(1, Call::LockAcquire(asked.clone()))]).await;
                holder.waiters("l", 1).await;
                if leaves == Leaves::CancelsInThePipeline {
                    pipe.cancel(1).await;
                    let answers = pipe.answers(1).await;
                    assert_eq!(error(&answers[0].1).reason, "LOCK_WAITING");
                }
                drop(pipe);
                none_open(&fixture).await;
            }
            Leaves::LosesTheConnection => {
                let waiting = gone.spawn(asked.clone());
                holder.waiters("l", 1).await;
                // The last handles of the channel.
                waiting.abort();
                assert!(waiting.await.is_err());
                drop(gone);
            }
            Leaves::RunsOutOfTime => {
                let mut timeout = Duration::from_millis(300);
                let status = loop {
                    let mut request = Request::new(asked.clone());
                    request.set_timeout(timeout);
                    let status = gone.locks.clone().acquire(request).await.unwrap_err();
                    // A busy machine may not have come to it in time: then it was not asked.
                    if seen(&status) != (Code::Unavailable, "DEADLINE", "not_applied") {
                        break status;
                    }
                    timeout *= 2;
                };
                assert_eq!(seen(&status), (Code::Unavailable, "LOCK_WAITING", "unknown"));
            }
        }
        // That it asked, and that it is gone.
        commands_reach(&fixture, &holder, said + 2).await;
        let mut waiting_b = b.spawn(b.asks("l", 1, LONG_MS));
        holder.waiters("l", 2).await;
        let waiting_c = c.spawn(c.asks("l", 1, LONG_MS));
        holder.waiters("l", 3).await;
        assert!(holder.release("l", first).await);
        let second = (&mut waiting_b).await.unwrap().unwrap();
        assert_eq!(second, first + 1, "{leaves:?}: nobody had it in between");
        assert_eq!(holder.inspect("l").await.holders[0].session_id, b.session_id);

        // It comes back, before the one that came after it.
        let back = Caller { session_id: gone_session, ..Caller::new(&fixture).await };
        let said = commands(&fixture).await;
        let waiting = back.spawn(asked);
        commands_reach(&fixture, &holder, said + 2).await;
        assert!(b.release("l", second).await);
        let third = waiting.await.unwrap().unwrap();
        assert_eq!(holder.inspect("l").await.holders[0].session_id, gone_session, "{leaves:?}");
        assert!(!waiting_c.is_finished());
        assert!(back.release("l", third).await);
        assert_eq!(waiting_c.await.unwrap().unwrap(), third + 1);
    }
}

#[tokio::test]
async fn a_wait_ends_with_its_time_and_when_it_is_cancelled() {
    let fixture = Fixture::start().await;
    let (a, b) = (Caller::new(&fixture).await, Caller::new(&fixture).await);
    let mut pipe = Pipe::open(&fixture).await;
    let first = a.acquire(a.asks("l", 1, 0)).await.unwrap();
    let begun = Instant::now();
    let asked = b.asks("l", 1, 300);
    pipe.send(vec![call(1, Call::LockAcquire(b.asks("l", 2, 300)))]).await;
    let status = b.acquire(asked.clone()).await.unwrap_err();
    assert_eq!(seen(&status), (Code::DeadlineExceeded, "LOCK_WAIT_TIMEOUT", "not_applied"));
    assert!(status.message().contains("timeout"), "{status:?}");
    let answers = pipe.answers(1).await;
    let timeout = error(&answers[0].1);
    assert_eq!(
        (timeout.code, &*timeout.reason),
        (Code::DeadlineExceeded as u32, "LOCK_WAIT_TIMEOUT")
    );
    assert_eq!(timeout.outcome(), v1::Outcome::NotApplied);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(a.inspect("l").await.waiters, 0);
    let status = b.acquire(asked).await.unwrap_err();
    assert_eq!(seen(&status).1, "LOCK_WAIT_TIMEOUT", "it stays over");

    // Cancelled while it waits, when it is held, before it came; and again.
    let waiting = b.spawn(b.asks("l", 3, LONG_MS));
    a.waiters("l", 1).await;
    assert!(b.cancel(3).await && !b.cancel(3).await);
    let status = waiting.await.unwrap().unwrap_err();
    assert_eq!(seen(&status), (Code::Aborted, "LOCK_WAIT_CANCELLED", "not_applied"));
    assert!(a.cancel(1).await);
    assert!(!a.release("l", first).await, "it was given back");
    assert!(!b.cancel(4).await);
    let status = b.acquire(b.asks("l", 4, LONG_MS)).await.unwrap_err();
    assert_eq!(seen(&status), (Code::Aborted, "LOCK_WAIT_CANCELLED", "not_applied"));
    assert!(a.inspect("l").await.holders.is_empty());
}

#[tokio::test]
async fn waits_of_a_pipeline_are_bounded_and_leave_room_for_others() {
    let fixture = Fixture::start().await;
    let (a, b) = (Caller::new(&fixture).await, Caller::new(&fixture).await);
    let held = a.acquire(a.asks("l", 1, 0)).await.unwrap();
    let mut pipe = Pipe::open(&fixture).await;
    let asks = (1..=513).map(|id| call(id, Call::LockAcquire(b.asks("l", id, LONG_MS))));
    pipe.send(asks.collect()).await;
    let answers = pipe.answers(1).await;
    assert_eq!(answers[0].0, 513);
    assert_eq!(error(&answers[0].1).reason, "TOO_MANY_WAITS");
    assert_eq!(error(&answers[0].1).outcome(), v1::Outcome::NotApplied);
    a.waiters("l", 512).await;
    // One that is cancelled makes room for another; and the release they all wait for gets through.
    pipe.cancel(512).await;
    assert_eq!(pipe.answers(1).await[0].0, 512);
    pipe.send(vec![call(514, Call::LockAcquire(b.asks("other", 513, LONG_MS)))]).await;
    assert_eq!(pipe.answers(1).await[0].0, 514);
    let release =
        v1::LockReleaseRequest { name: "l".into(), fencing_token: held, ..Default::default() };
    pipe.send(vec![call(515, Call::LockRelease(release))]).await;
    let mut answered: Vec<u64> = pipe.answers(2).await.into_iter().map(|(id, _)| id).collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 515]);
}
