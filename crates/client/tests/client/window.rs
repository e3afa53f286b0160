//! The window of unanswered sequences, seen from outside.

use crate::fake::{Act, Fake};
use quorate_client::Error;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

const LEN: usize = 1_024;
const LONG: Duration = Duration::from_secs(60);

/// A client whose calls all hang, with a full window; the calls in the order of their sequences.
async fn full() -> (Fake, quorate_client::Client, Vec<tokio::task::JoinHandle<()>>) {
    let fake = Fake::start(1);
    // One attempt per call, so that what the node sees can be counted.
    let client = fake.options().attempt_timeout(LONG).connect().expect("good options");
    client.kv().increment("first", 1).await.expect("opens the session, uses sequence 1");
    fake.always("increment", &Act::Hang);
    let mut calls = Vec::new();
    for _ in 0..LEN {
        let kv = client.kv();
        calls.push(tokio::spawn(async move {
            drop(kv.increment("k", 1).timeout(LONG).await);
        }));
    }
    // The paused clock moves on only when nobody has anything left to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(fake.seen("increment").len(), 1 + LEN);
    (fake, client, calls)
}

#[tokio::test(start_paused = true)]
async fn the_1025th_call_waits_no_longer_than_its_deadline() {
    let (fake, client, _calls) = full().await;
    let start = Instant::now();
    let timeout = Duration::from_millis(300);
    let waiting = (0..3).map(|_| async { client.kv().increment("k", 1).timeout(timeout).await });
    for result in futures::future::join_all(waiting).await {
        let error = result.expect_err("there is no room");
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert_eq!(error.reason(), "SESSION_WINDOW_FULL");
    }
    let waited = start.elapsed();
    assert!(waited >= timeout && waited < timeout + Duration::from_millis(5), "{waited:?}");
    assert_eq!(fake.seen("increment").len(), 1 + LEN, "nothing of it was sent");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_moves_the_floor_and_makes_room_in_order() {
    let (fake, client, calls) = full().await;
    fake.always("increment", &Act::Answer);
    let mut waiting = JoinSet::new();
    for nth in 0..4 {
        let kv = client.kv();
        waiting.spawn(async move {
            let answer = kv.increment(format!("late {nth}"), 1).timeout(LONG).await;
            (nth, answer)
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.seen("increment").len(), 1 + LEN, "all four wait");

    // Not the lowest: no room yet.
    calls[1].abort();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.seen("increment").len(), 1 + LEN);

    // The lowest, sequence 2: now 2 and 3 are given up, and two calls fit.
    calls[0].abort();
    let mut order = Vec::new();
    while order.len() < 2 {
        let (nth, answer) = waiting.join_next().await.expect("four wait").expect("no panic");
        answer.expect("there was room");
        order.push(nth);
    }
    assert_eq!(order, [0, 1], "first come, first served");
    let seen = &fake.seen("increment")[1 + LEN..];
    let sent: Vec<_> = seen.iter().map(|seen| (seen.origin.sequence, seen.origin.floor)).collect();
    assert_eq!(sent, [(1_026, 4), (1_027, 4)]);
    assert_eq!(fake.state.floor(1), 4);
    assert_eq!(fake.state.violations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_late_first_arrival_of_a_cancelled_call_is_refused() {
    let fake = Fake::start(1);
    let client = fake.client();
    fake.script("increment", [Act::HangThenDo(Duration::from_secs(5))]);
    let kv = client.kv();
    let patience = Duration::from_millis(100);
    assert!(
        tokio::time::timeout(patience, kv.increment("given up", 1).into_future()).await.is_err()
    );
    kv.increment("k", 1).await.expect("answered");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(fake.state.number("given up"), 0);
    let floors: Vec<_> = fake.seen("increment").iter().map(|seen| seen.origin.floor).collect();
    assert_eq!(floors, [1, 2]);
}
