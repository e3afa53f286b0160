//! When and where a call is tried again, and when it is not.

use crate::fake::{Act, Fake, NOT_APPLIED, UNKNOWN, fail, status};
use quorate_client::{Error, RetryBudget};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_retried_on_another_node() {
    // Whichever node is asked first.
    for seed in 0..8 {
        let fake = Fake::start(2);
        fake.net.kill("n1:1");
        let client = fake.options().seed(seed).connect().expect("good options");
        let start = Instant::now();
        assert_eq!(client.kv().increment("k", 1).await.expect("n2 answers").value, 1);
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        assert_eq!(fake.seen("increment").len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_fate_is_settled_by_the_same_request_on_another_node() {
    let lost = [
        Act::DoThenFail(status(Code::Unavailable, UNKNOWN, "DEADLINE")),
        Act::DoThenFail(Status::unavailable("a proxy's word")),
        Act::DoThenCut,
        Act::HangThenDo(Duration::from_millis(1)),
    ];
    for act in lost {
        let fake = Fake::start(3);
        let client = fake.client();
        fake.script("increment", [act.clone()]);
        let answer = client.kv().increment("k", 5).await;
        assert_eq!(answer.expect("the second node answers").value, 5, "{act:?}");
        let seen = fake.seen("increment");
        assert_eq!(seen.len(), 2, "{act:?}");
        assert_ne!(seen[0].node, seen[1].node, "{act:?}");
        assert_eq!(seen[0].origin, seen[1].origin, "{act:?}");
        assert_eq!((seen[0].origin.session_id, seen[0].origin.sequence), (1, 1));
        assert_eq!(fake.state.number("k"), 5, "one effect: {act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_names_nothing_is_refused_before_anything_is_sent() {
    let fake = Fake::start(1);
    let client = fake.client();
    fake.script("increment", [Act::DoThenCut]);
    for key in [&b""[..], &[b'x'; 65]] {
        let refused = client.kv().increment("k", 1).idempotency_key(key).await;
        let Err(Error::InvalidArgument { reason, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(reason, "IDEMPOTENCY_KEY_LENGTH");
    }
    assert_eq!(fake.seen("increment").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn unary_calls_are_retried_as_pipelined_ones_are() {
    let fake = Fake::start(2);
    let client = fake.options().unary(true).connect().expect("good options");
    fake.script("increment", [Act::DoThenCut]);
    assert_eq!(client.kv().increment("k", 5).await.expect("a second try").value, 5);
    let seen = fake.seen("increment");
    assert_eq!((seen.len(), &seen[0].origin), (2, &seen[1].origin));
    assert_eq!(fake.state.number("k"), 5, "one effect");
}

#[tokio::test(start_paused = true)]
async fn a_short_deadline_leaves_time_for_a_second_node() {
    let fake = Fake::start(2);
    let client = fake.client();
    client.kv().increment("k", 1).await.expect("all is well");
    fake.nodes[0].always("increment", Act::Hang);
    fake.nodes[0].names_leader("n1:1");
    fake.nodes[1].names_leader("n1:1");
    let answer = client.kv().increment("k", 1).timeout(Duration::from_millis(800)).await;
    assert_eq!(answer.expect("n2 answers").value, 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_costs_one_attempt_and_is_then_passed_over() {
    let fake = Fake::start(2);
    let client = fake.client();
    for node in &fake.nodes {
        node.names_leader("n1:1");
    }
    client.kv().increment("k", 1).await.expect("all is well");
    fake.nodes[0].always("increment", Act::Hang);

    let start = Instant::now();
    client.kv().increment("k", 1).await.expect("n2 answers");
    let gap = start.elapsed();
    assert!(gap >= Duration::from_secs(1) && gap < Duration::from_millis(1_100), "{gap:?}");

    let start = Instant::now();
    client.kv().increment("k", 1).await.expect("n2 answers");
    assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_is_told_how_long_the_attempt_lasts_and_never_more_than_is_left() {
    let fake = Fake::start(1);
    let client = fake.client();
    fake.always("get", &Act::Hang);
    let error = client.kv().get("k").timeout(Duration::from_millis(2_500)).await;
    assert!(matches!(error, Err(Error::Unavailable { .. })), "{error:?}");
    let start = fake.seen("get")[0].at;
    let (second, deadline) = (Duration::from_secs(1), start + Duration::from_millis(2_500));
    let slack = Duration::from_millis(1);
    for seen in fake.seen("get") {
        let left = deadline.saturating_duration_since(seen.at);
        assert!(seen.timeout <= second.min(left) + slack, "{seen:?}");
        assert!(seen.timeout + slack >= second.min(left), "{seen:?}");
    }
    assert_eq!(fake.seen("get").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn answers_that_would_not_change_are_not_asked_for_again() {
    let cases = [
        (Code::InvalidArgument, "KEY_TOO_LONG"),
        (Code::FailedPrecondition, "CONDITION_FAILED"),
        (Code::ResourceExhausted, "PROPOSALS"),
        (Code::PermissionDenied, "DENIED"),
        (Code::Internal, "SOMETHING"),
    ];
    for (code, reason) in cases {
        let fake = Fake::start(3);
        let client = fake.client();
        fake.always("increment", &fail(code, NOT_APPLIED, reason));
        let error = client.kv().increment("k", 1).await.expect_err("scripted");
        assert_eq!(error.reason(), reason);
        assert!(!error.may_have_been_applied(), "{error:?}");
        assert_eq!(fake.seen("increment").len(), 1, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn overload_passes_and_is_waited_for() {
    let fake = Fake::start(1);
    let client = fake.client();
    fake.script("increment", vec![fail(Code::ResourceExhausted, NOT_APPLIED, "OVERLOADED"); 3]);
    assert_eq!(client.kv().increment("k", 1).await.expect("the fourth try").value, 1);
}

#[tokio::test(start_paused = true)]
async fn the_budget_limits_retries_and_not_the_deadline() {
    let fake = Fake::start(2);
    let budget = RetryBudget { burst: 3, per_second: 2 };
    let client = fake.options().retry_budget(budget).connect().expect("good options");
    client.kv().increment("k", 1).await.expect("opens the session");
    fake.always("increment", &fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER"));
    let before = fake.seen("increment").len();

    let start = Instant::now();
    let calls = (0..10).map(|_| async { client.kv().increment("k", 1).await });
    for result in futures::future::join_all(calls).await {
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    }
    let took = start.elapsed();
    assert!(took <= Duration::from_millis(5_001), "{took:?}");
    let retries = fake.seen("increment").len() - before - 10;
    // A burst of 3, and 2 in each of 5 seconds; without a budget it would be some 200.
    assert!((11..=13).contains(&retries), "{retries} retries");
}

#[tokio::test(start_paused = true)]
async fn a_success_pays_for_a_retry() {
    let fake = Fake::start(1);
    let budget = RetryBudget { burst: 1, per_second: 0 };
    let client = fake.options().retry_budget(budget).connect().expect("good options");
    for _ in 0..20 {
        fake.script("increment", [fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER")]);
        client.kv().increment("k", 1).await.expect("the second try");
    }
    assert_eq!(fake.state.number("k"), 20);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_answers_late_is_given_more_time_each_time() {
    let fake = Fake::start(3);
    let client = fake.client();
    fake.always("increment", &Act::AnswerLate(Duration::from_millis(2_500)));
    let increment = || client.kv().increment("k", 1).timeout(Duration::from_secs(60));
    // Given up after 1 and 2 s; 4 are enough.
    assert_eq!(increment().await.expect("answered").value, 1);
    assert_eq!(fake.seen("increment").len(), 3);
    let dials: usize = (1..=3).map(|node| fake.net.dials(&format!("n{node}:1"))).sum();
    for round in 2..=10 {
        assert_eq!(increment().await.expect("answered").value, round);
    }
    assert_eq!(fake.seen("increment").len(), 3 + 9, "each is waited for");
    let after: usize = (1..=3).map(|node| fake.net.dials(&format!("n{node}:1"))).sum();
    assert_eq!(dials, after, "and nobody dials meanwhile");

    // Once answers come soon, a silent node is left as soon as ever.
    fake.always("increment", &Act::Answer);
    for _ in 0..64 {
        increment().await.expect("answered");
    }
    fake.script("increment", [Act::Hang]);
    let begun = Instant::now();
    increment().await.expect("another node answers");
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_answers_others_is_kept() {
    let fake = Fake::start(1);
    let kv = fake.client().kv();
    kv.increment("k", 1).await.expect("answered");
    fake.script("increment", [Act::Hang]);
    let slow = tokio::spawn({
        let kv = kv.clone();
        async move { kv.increment("k", 1).timeout(Duration::from_secs(10)).await }
    });
    while fake.seen("increment").len() < 3 {
        kv.get("k").await.expect("answered");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(slow.await.expect("no panic").expect("the second time").value, 2);
    assert_eq!(fake.net.dials("n1:1"), 1);
}
