//! Locks that transactions take and give back.

use super::*;

fn take(name: &str, ttl_ms: u64) -> Operation {
    let name = name.to_owned();
    Operation::LockAcquire(v1::TxnLockAcquire { name, ttl_ms, ..Default::default() })
}

fn give(name: &str, fencing_token: u64) -> Operation {
    Operation::LockRelease(v1::TxnLockRelease { name: name.to_owned(), fencing_token })
}

fn free(name: &str) -> Condition {
    Condition::LockFree(v1::TxnLockFree { name: name.to_owned() })
}

/// A transaction in a caller's session.
async fn commit(
    fixture: &Fixture,
    caller: &Caller,
    sequence: u64,
    request: v1::TxnRequest,
) -> Result<Vec<Came>, Status> {
    let session_id = caller.session_id;
    let origin = Some(v1::Origin { session_id, sequence, floor: 1, ..Default::default() });
    let mut client = TxnServiceClient::new(fixture.channel().await);
    let answer = client.commit(v1::TxnRequest { origin, ..request }).await?.into_inner();
    Ok(results(&answer))
}

fn tokens(results: &[Came]) -> Vec<u64> {
    let token = |result: &Came| match result {
        Came::LockAcquire(granted) => Some(granted.fencing_token),
        _ => None,
    };
    results.iter().filter_map(token).collect()
}

#[tokio::test]
async fn a_transaction_takes_locks_together_and_each_has_its_lease() {
    let fixture = Fixture::start().await;
    let (a, b) = (Caller::new(&fixture).await, Caller::new(&fixture).await);
    let begun = Instant::now();
    let both = || {
        let then = vec![take("brief", 300), take("long", LONG_MS), write("k", "v")];
        txn(vec![free("brief"), free("long")], then, vec![])
    };
    let got = commit(&fixture, &a, 1, both()).await.unwrap();
    let [brief, long] = tokens(&got)[..] else { panic!("{got:?}") };
    assert!(brief < long);
    let granted = v1::TxnLockAcquireResult { fencing_token: brief, ttl_ms: 300 };
    assert_eq!(got[0], Came::LockAcquire(granted));
    let again = commit(&fixture, &a, 1, both()).await.unwrap();
    assert_eq!(tokens(&again), [brief, long], "a repetition takes nothing more");
    let holder = &b.inspect("long").await.holders[0];
    assert_eq!((holder.fencing_token, holder.session_id), (long, a.session_id));
    assert!(a.renew("long", long).await.unwrap() > 0);

    // One that has to do without one of them has none.
    let wanted = vec![take("other", LONG_MS), take("long", LONG_MS)];
    let status = commit(&fixture, &b, 1, txn(vec![], wanted, vec![])).await.unwrap_err();
    assert_eq!(seen(&status), (Code::FailedPrecondition, "LOCK_HELD", "not_applied"));
    assert!(status.message().starts_with("then[1]: "), "{status:?}");
    assert_eq!(b.inspect("other").await.holders, []);
    // To ask whether it is free is an answer, and so is who holds it.
    let asks = |condition| txn(vec![condition], vec![], vec![read("k")]);
    let held = |name: &str, fencing_token| {
        Condition::LockHeld(v1::TxnLockHeld { name: name.to_owned(), fencing_token })
    };
    for (condition, holds) in [
        (held("long", long), true),
        (held("long", brief), false),
        (held("brief", long), false),
        (free("long"), false),
        (free("other"), true),
    ] {
        let got = commit(&fixture, &b, 2, asks(condition.clone())).await.unwrap();
        assert_eq!(got.is_empty(), holds, "{condition:?}");
    }

    // Nobody renews it, so it runs out; not before its time, and alone.
    until(async || b.inspect("brief").await.holders.is_empty()).await;
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    let status = a.renew("brief", brief).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "LOCK_LOST", "not_applied"));
    assert_eq!(b.inspect("long").await.holders[0].fencing_token, long);
    // The other one ends with its session.
    assert!(a.close_session(&fixture).await);
    assert_eq!(b.inspect("long").await.holders, []);

    // Without a session there is nobody to hold it.
    let mut client = TxnServiceClient::new(fixture.channel().await);
    let nobody = txn(vec![], vec![write("k", "w"), take("l", LONG_MS)], vec![]);
    let status = client.commit(nobody).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "NO_SESSION", "not_applied"));
    assert!(status.message().starts_with("then[1]: "), "{status:?}");
}

#[tokio::test]
async fn a_transaction_gives_a_lock_to_the_call_that_waits_for_it() {
    let fixture = Fixture::start().await;
    let (a, b) = (Caller::new(&fixture).await, Caller::new(&fixture).await);
    let mut kv = fixture.kv().await;
    kv.set(set(b"text", b"x")).await.unwrap();
    let first = a.acquire(a.asks("l", 1, 0)).await.unwrap();
    let waiting = b.spawn(b.asks("l", 1, LONG_MS));
    a.waiters("l", 1).await;

    // Refused after the release: the lock is where it was, and so is who waits for it.
    let refused = txn(vec![], vec![give("l", first), add("text", 1)], vec![]);
    let status = commit(&fixture, &a, 2, refused).await.unwrap_err();
    assert_eq!(seen(&status), (Code::FailedPrecondition, "NOT_A_NUMBER", "not_applied"));
    let lock = a.inspect("l").await;
    assert_eq!((lock.holders[0].fencing_token, lock.waiters), (first, 1));
    assert!(a.renew("l", first).await.is_ok());
    assert!(!waiting.is_finished());

    // What goes through is one: whoever has the lock sees the write.
    let mut pipe = Pipe::open(&fixture).await;
    let done = txn(vec![], vec![write("report", "done"), give("l", first)], vec![]);
    pipe.send(vec![call(1, Call::TxnCommit(done))]).await;
    let second = waiting.await.unwrap().unwrap();
    assert!(second > first);
    assert_eq!(kv.get(get(b"report")).await.unwrap().into_inner().entry.unwrap().value, "done");
    let answers = pipe.answers(1).await;
    let Answer::TxnCommit(answer) = &answers[0].1 else { panic!("{answers:?}") };
    assert_eq!(results(answer)[1], Came::LockRelease(v1::TxnLockReleaseResult { released: true }));
    assert!(b.release("l", second).await);
}
