//! Sessions: opened once, kept alive, replaced when lost; and idempotency keys instead of them.

use crate::fake::{Act, Fake, NOT_APPLIED, UNKNOWN, fail, status};
use quorate_client::Error;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

fn expired() -> Act {
    fail(Code::NotFound, NOT_APPLIED, "SESSION_EXPIRED")
}

#[tokio::test(start_paused = true)]
async fn a_session_is_opened_once_per_namespace_and_not_for_reads() {
    let fake = Fake::start(3);
    let client = fake.client();
    client.kv().get("k").await.expect("answered");
    assert_eq!(fake.state.sessions_opened(), 0);
    let first = client.kv();
    let calls = (0..50).map(|_| async { first.increment("k", 1).await.expect("answered") });
    futures::future::join_all(calls).await;
    assert_eq!(fake.state.sessions_opened(), 1);
    client.clone().kv_in("other").increment("k", 1).await.expect("answered");
    assert_eq!(fake.state.sessions_opened(), 2);
    let sequences: BTreeSet<_> =
        fake.seen("increment")[..50].iter().map(|seen| seen.origin.sequence).collect();
    assert_eq!(sequences, (1..=50).collect());
    assert_eq!(fake.state.violations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_on_a_retry_is_unknown_and_never_sent_under_a_new_one() {
    for reason in ["SESSION_EXPIRED", "SEQUENCE_TOO_OLD"] {
        let fake = Fake::start(3);
        let client = fake.client();
        let lost = fail(Code::NotFound, NOT_APPLIED, reason);
        fake.script("increment", [Act::Fail(Status::unavailable("open fate")), lost]);
        let error = client.kv().increment("k", 1).await.expect_err("scripted");
        assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
        assert_eq!(error.reason(), reason);
        assert_eq!(fake.seen("increment").len(), 2);
        assert_eq!(fake.state.sessions_opened(), 1);

        client.kv().increment("k", 1).await.expect("under a new session");
        assert_eq!(fake.state.sessions_opened(), 2);
        assert_eq!(fake.state.number("k"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_before_anything_happened_is_replaced() {
    let certain =
        [vec![expired()], vec![fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER"), expired()]];
    for script in certain {
        let fake = Fake::start(3);
        let client = fake.client();
        fake.script("increment", script);
        assert_eq!(client.kv().increment("k", 1).await.expect("sent again").value, 1);
        let last = fake.seen("increment").pop().expect("seen");
        assert_eq!((last.origin.session_id, last.origin.sequence), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_again_and_again_is_an_error_that_changed_nothing() {
    let fake = Fake::start(1);
    fake.always("increment", &expired());
    let error = fake.client().kv().increment("k", 1).await.expect_err("scripted");
    assert!(matches!(error, Error::SessionExpired { .. }), "{error:?}");
    assert_eq!(fake.state.sessions_opened(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_open_does_not_leave_a_second_session() {
    // Within a call.
    let fake = Fake::start(3);
    fake.script("open", [Act::DoThenCut, Act::DoThenFail(Status::unavailable("lost"))]);
    fake.client().kv().increment("k", 1).await.expect("the third try");
    assert_eq!(fake.state.sessions_opened(), 1);

    // From one call to the next, and also when the first one was dropped.
    for drop_it in [false, true] {
        let fake = Fake::start(1);
        let client = fake.client();
        fake.script("open", [Act::HangThenDo(Duration::from_millis(10))]);
        let kv = client.kv();
        let first = async { kv.increment("k", 1).timeout(Duration::from_millis(400)).await };
        if drop_it {
            let patience = Duration::from_millis(300);
            assert!(tokio::time::timeout(patience, first).await.is_err());
        } else {
            let error = first.await.expect_err("no answer");
            // The session's fate is open; the increment was certainly not sent.
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        }
        client.kv().increment("k", 1).await.expect("answered");
        assert_eq!(fake.state.sessions_opened(), 1);
        let keys: BTreeSet<_> =
            fake.seen("open").into_iter().map(|seen| seen.origin.idempotency_key).collect();
        assert_eq!(keys.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_open_is_the_answer_of_the_mutation() {
    let fake = Fake::start(3);
    fake.always("open", &fail(Code::ResourceExhausted, NOT_APPLIED, "TOO_MANY_SESSIONS"));
    let error = fake.client().kv().increment("k", 1).await.expect_err("scripted");
    assert!(matches!(error, Error::ResourceExhausted { .. }), "{error:?}");
    assert_eq!(fake.seen("increment").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn keep_alives_are_sent_every_third_of_the_ttl_until_the_last_handle_is_dropped() {
    let fake = Fake::start(3);
    let client = fake.client();
    let start = Instant::now();
    let kv = client.kv();
    kv.increment("k", 1).await.expect("opens the session");
    drop(client);
    tokio::time::sleep(Duration::from_secs(95)).await;
    let sent: Vec<_> =
        fake.seen("keep_alive").iter().map(|seen| (seen.at - start).as_secs()).collect();
    assert_eq!(sent, [10, 20, 30, 40, 50, 60, 70, 80, 90]);

    drop(kv);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(fake.seen("keep_alive").len(), sent.len());
}

#[tokio::test(start_paused = true)]
async fn a_session_the_cluster_forgot_is_replaced_by_the_next_mutation() {
    let fake = Fake::start(3);
    let client = fake.client();
    client.kv().increment("k", 1).await.expect("opens the session");
    fake.state.expire_sessions();
    tokio::time::sleep(Duration::from_secs(15)).await;
    client.kv().increment("k", 1).await.expect("under a new session");
    // The keep-alive brought the news: no increment was sent under the old session.
    let sessions: Vec<_> =
        fake.seen("increment").iter().map(|seen| seen.origin.session_id).collect();
    assert_eq!(sessions, [1, 2]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let last = fake.seen("keep_alive").pop().expect("seen");
    assert_eq!(last.origin.session_id, 2, "the new one is kept alive instead");
}

#[tokio::test(start_paused = true)]
async fn a_session_is_over_a_ttl_after_the_last_answered_keep_alive_was_sent() {
    for (silence, sessions) in [(Duration::from_secs(25), 1), (Duration::from_secs(35), 2)] {
        let fake = Fake::start(1);
        let client = fake.client();
        client.kv().increment("k", 1).await.expect("opens the session");
        fake.net.kill("n1:1");
        tokio::time::sleep(silence).await;
        fake.net.reach("n1:1", crate::fake::Reach::Open);
        client.kv().increment("k", 1).await.expect("answered");
        assert_eq!(fake.state.sessions_opened(), sessions, "after {silence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_keep_alive_counts_from_when_it_was_sent() {
    let fake = Fake::start(1);
    let patient = Duration::from_secs(20);
    let client = fake.options().attempt_timeout(patient).connect().expect("good options");
    client.kv().increment("k", 1).await.expect("opens the session");
    // Sent at 10 s, answered at 19 s: the session holds until 40 s, not until 49 s.
    fake.script("keep_alive", [Act::AnswerAfter(Duration::from_secs(9))]);
    tokio::time::sleep(Duration::from_millis(19_500)).await;
    assert_eq!(fake.seen("keep_alive").len(), 1);
    fake.net.kill("n1:1");
    tokio::time::sleep(Duration::from_millis(22_500)).await;
    fake.net.reach("n1:1", crate::fake::Reach::Open);
    client.kv().increment("k", 1).await.expect("answered");
    assert_eq!(fake.state.sessions_opened(), 2, "at 42 s it was not trusted any more");
}

#[tokio::test(start_paused = true)]
async fn close_ends_the_sessions_at_once() {
    let fake = Fake::start(3);
    let client = fake.client();
    client.kv().increment("k", 1).await.expect("answered");
    client.kv_in("other").increment("k", 1).await.expect("answered");
    assert_eq!(fake.state.sessions_open(), [1, 2]);
    client.close().await.expect("closed");
    assert_eq!(fake.state.sessions_open(), [0u64; 0]);
    client.close().await.expect("nothing left to close");
    client.kv().increment("k", 1).await.expect("under a new session");
    assert_eq!(fake.state.sessions_open(), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_client_uses_a_key_per_mutation_and_no_session() {
    let fake = Fake::start(3);
    let client = fake.options().one_shot(true).connect().expect("good options");
    fake.script("increment", [Act::DoThenFail(status(Code::Unavailable, UNKNOWN, "DEADLINE"))]);
    client.kv().increment("k", 1).await.expect("the second try");
    client.kv().increment("k", 1).await.expect("answered");
    assert_eq!(fake.state.number("k"), 2);
    assert_eq!(fake.seen("open").len(), 0);
    let keys: Vec<_> =
        fake.seen("increment").into_iter().map(|seen| seen.origin.idempotency_key).collect();
    assert_eq!(keys.len(), 3);
    assert_eq!(keys[0], keys[1], "a retry repeats the key");
    assert_ne!(keys[1], keys[2], "another mutation has another one");
    assert_eq!(keys[0].len(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_ones_own_joins_calls_of_several_clients() {
    let fake = Fake::start(3);
    for _ in 0..3 {
        let kv = fake.client().kv();
        assert_eq!(kv.increment("k", 1).idempotency_key("order 17").await.expect("ok").value, 1);
    }
    assert_eq!(fake.state.number("k"), 1);
    assert_eq!(fake.state.sessions_opened(), 0);
}
