//! What a call that did not succeed says: failed for certain, or unknown.

use crate::fake::{Act, Fake, NOT_APPLIED, UNKNOWN, fail, status};
use quorate_client::{Client, Error};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Increments with a deadline, which must hold, and not be given up much too early.
async fn increment_until_deadline(client: &Client) -> Error {
    let start = Instant::now();
    let error = client.kv().increment("k", 1).timeout(TIMEOUT).await.expect_err("scripted");
    let took = start.elapsed();
    assert!(took <= TIMEOUT + Duration::from_millis(2), "{took:?}");
    assert!(took >= TIMEOUT - Duration::from_millis(505), "gave up after {took:?}: {error}");
    error
}

#[tokio::test(start_paused = true)]
async fn nothing_reachable_is_unavailable_and_the_text_helps() {
    let fake = Fake::start(3);
    for node in &fake.nodes {
        fake.net.kill(&node.addr);
    }
    let error = increment_until_deadline(&fake.client()).await;
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_eq!(error.reason(), "CONNECT_FAILED");
    for part in ["n1:1", "n2:1", "n3:1", "connection refused", "endpoints"] {
        assert!(error.message().contains(part), "no {part:?} in: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn dials_that_lead_nowhere_send_nothing() {
    let fake = Fake::start(2);
    let client = fake.client();
    client.kv().increment("k", 1).await.expect("opens the session");
    for node in &fake.nodes {
        fake.net.cut(&node.addr);
        fake.net.reach(&node.addr, crate::fake::Reach::BlackHole);
    }
    // The broken connections may be noticed by a request; what comes after is certain.
    drop(client.kv().increment("k", 1).timeout(TIMEOUT).await);
    let error = client.kv().increment("k", 1).timeout(TIMEOUT).await.expect_err("black hole");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn not_applied_to_the_end_is_unavailable() {
    let fake = Fake::start(3);
    fake.always("increment", &fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER"));
    let error = increment_until_deadline(&fake.client()).await;
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_eq!(error.reason(), "NO_LEADER");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_the_trailer_is_unknown() {
    for act in [
        Act::Fail(Status::unavailable("no trailer")),
        Act::Fail(Status::unknown("no trailer")),
        Act::Fail(Status::cancelled("no trailer")),
        Act::Fail(Status::internal("no trailer")),
        fail(Code::Unavailable, UNKNOWN, "DEADLINE"),
        fail(Code::Unavailable, Some("perhaps"), "NO_LEADER"),
        Act::Hang,
    ] {
        let fake = Fake::start(3);
        fake.always("increment", &act);
        let error = increment_until_deadline(&fake.client()).await;
        assert!(matches!(error, Error::Indeterminate { .. }), "{act:?}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_final_code_without_the_trailer_is_unknown_at_once() {
    let fake = Fake::start(3);
    fake.always("increment", &Act::Fail(Status::invalid_argument("no trailer")));
    let error = fake.client().kv().increment("k", 1).await.expect_err("scripted");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
    assert_eq!(fake.seen("increment").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_open_attempt_among_certain_ones_makes_the_call_unknown() {
    let fake = Fake::start(3);
    fake.script(
        "increment",
        [
            fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER"),
            Act::DoThenFail(status(Code::Unavailable, UNKNOWN, "DEADLINE")),
        ],
    );
    fake.always("increment", &fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER"));
    let error = increment_until_deadline(&fake.client()).await;
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
    assert_eq!(fake.state.number("k"), 1, "it did have its effect");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_at_the_door_says_nothing_about_an_earlier_attempt() {
    let fake = Fake::start(2);
    fake.script(
        "increment",
        [
            Act::DoThenFail(status(Code::Unavailable, UNKNOWN, "DEADLINE")),
            fail(Code::InvalidArgument, NOT_APPLIED, "VALUE_TOO_LARGE"),
        ],
    );
    let error = fake.client().kv().increment("k", 1).await.expect_err("scripted");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_remembered_rejection_settles_an_earlier_attempt() {
    let fake = Fake::start(2);
    let mut refused = status(Code::FailedPrecondition, NOT_APPLIED, "CONDITION_FAILED");
    refused.metadata_mut().insert("quorate-version", "7".parse().expect("ascii"));
    fake.script("delete", [fail(Code::Unavailable, UNKNOWN, "DEADLINE"), Act::Fail(refused)]);
    let error = fake.client().kv().delete("k").if_version(6).await.expect_err("scripted");
    assert!(matches!(error, Error::ConditionFailed { version: Some(7), .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn reads_are_never_unknown_and_always_retried() {
    let fake = Fake::start(3);
    let client = fake.client();
    let strange = [
        Act::Fail(Status::unavailable("no trailer")),
        Act::Fail(Status::unknown("no trailer")),
        Act::DoThenCut,
        fail(Code::Unavailable, UNKNOWN, "NO_LEADER"),
    ];
    fake.script("get", strange);
    assert_eq!(client.kv().get("k").await.expect("the fifth try"), None);
    assert_eq!(fake.seen("get").len(), 5);

    fake.always("get", &Act::Hang);
    let error = client.kv().get("k").timeout(TIMEOUT).await.expect_err("all hang");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_anonymous_mutation_is_not_repeated_once_it_may_have_happened() {
    let fake = Fake::start(3);
    let client = fake.client();
    fake.script(
        "increment",
        [
            fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER"),
            Act::DoThenFail(status(Code::Unavailable, UNKNOWN, "DEADLINE")),
        ],
    );
    let error = client.kv().increment("k", 1).anonymous().await.expect_err("scripted");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
    assert_eq!(fake.seen("increment").len(), 2, "the certain failure was retried");
    assert_eq!(fake.state.number("k"), 1);
    assert_eq!(fake.state.sessions_opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_nothing_sends_nothing() {
    let fake = Fake::start(1);
    let error = fake.client().kv().get("k").timeout(Duration::ZERO).await.expect_err("too late");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_eq!(error.reason(), "DEADLINE");
    assert_eq!(fake.seen("get").len(), 0);
}
