//! Transactions: what is sent, under which name, and what an answer becomes.

use crate::fake::{Act, Fake, NOT_APPLIED, fail};
use quorate_client::cache::CachePolicy;
use quorate_client::{Content, Error, LockGuard, Transaction, TxnResult};
use std::time::Duration;
use tonic::{Code, Status};

/// The fake answers what it does not know with what it was asked; each part, in this order.
async fn assert_sent(transaction: Transaction, parts: &[&str]) {
    let error = transaction.anonymous().commit().await.expect_err("the fake echoes it");
    let mut rest = error.message();
    for part in parts {
        let Some(at) = rest.find(part) else {
            panic!("{part} is missing or too early in\n{error}")
        };
        rest = &rest[at + part.len()..];
    }
}

#[tokio::test(start_paused = true)]
async fn everything_of_a_transaction_is_sent() {
    let fake = Fake::start(1);
    let client = fake.client();
    let held = LockGuard { name: "l".to_owned(), fencing_token: 7 };
    let transaction = client
        .txn_in("shop")
        .when_version("a", 3)
        .when_absent("b")
        .when_exists("c")
        .when_value("d", "x")
        .when_lock_held(&held)
        .when_lock_free("m")
        .or_set("s", "1");
    let parts = [
        "namespace: \"shop\"",
        "KvVersion(TxnKvVersion { key: b\"a\", version: 3 })",
        "KvAbsent(TxnKvAbsent { key: b\"b\" })",
        "KvExists(TxnKvExists { key: b\"c\" })",
        "KvValue(TxnKvValue { key: b\"d\", value: b\"x\" })",
        "LockHeld(TxnLockHeld { name: \"l\", fencing_token: 7 })",
        "LockFree(TxnLockFree { name: \"m\" })",
        "then: []",
        "otherwise: [TxnOperation",
    ];
    assert_sent(transaction, &parts).await;

    let ttl = Duration::from_micros(1_500);
    let then = client
        .txn()
        .get("g")
        .set("s", "1")
        .set_for("t", "2", ttl)
        .delete("del")
        .increment("n", -4)
        .increment_float("f", 0.5);
    let then_locks = client
        .txn()
        .acquire_lock("l", ttl)
        .acquire_shared_lock("l", ttl)
        .acquire_permit("l", ttl, 3)
        .release_lock(&held);
    let otherwise = client
        .txn()
        .when_exists("k")
        .or_get("g")
        .or_set("s", "1")
        .or_set_for("t", "2", ttl)
        .or_delete("del")
        .or_increment("n", -4)
        .or_increment_float("f", 0.5);
    let otherwise_locks = client
        .txn()
        .when_exists("k")
        .or_acquire_lock("l", ttl)
        .or_acquire_shared_lock("l", ttl)
        .or_acquire_permit("l", ttl, 3)
        .or_release_lock(&held);
    let steps = [
        "KvGet(TxnKvGet { key: b\"g\" })",
        "KvSet(TxnKvSet { key: b\"s\", value: b\"1\", ttl_ms: None, expect: None })",
        "KvSet(TxnKvSet { key: b\"t\", value: b\"2\", ttl_ms: Some(2), expect: None })",
        "KvDelete(TxnKvDelete { key: b\"del\", if_version: None })",
        "KvIncrement(TxnKvIncrement { key: b\"n\", by: -4 })",
        "KvIncrementFloat(TxnKvIncrementFloat { key: b\"f\", by: 0.5 })",
    ];
    // On their own: of a message the first 1024 bytes are kept.
    let lock_steps = [
        "TxnLockAcquire { name: \"l\", ttl_ms: 2, mode: Exclusive, permits: 0 }",
        "TxnLockAcquire { name: \"l\", ttl_ms: 2, mode: Shared, permits: 0 }",
        "TxnLockAcquire { name: \"l\", ttl_ms: 2, mode: Permit, permits: 3 }",
        "LockRelease(TxnLockRelease { name: \"l\", fencing_token: 7 })",
    ];
    for (then, steps) in [(then, &steps[..]), (then_locks, &lock_steps)] {
        let parts = [&["namespace: \"\"", "then: ["], steps, &["otherwise: []"]].concat();
        assert_sent(then, &parts).await;
    }
    let message = || Content::new("m").content_type("t").header("a", "1");
    let publish_steps = [
        "BusPublish(TxnBusPublish { channel: \"c\", content: Some(BusContent { payload: b\"x\"",
        "BusPublish(TxnBusPublish { channel: \"d\", content: Some(BusContent { payload: b\"m\", \
         content_type: \"t\", headers: [BusHeader { name: \"a\", value: \"1\" }] }) })",
    ];
    assert_sent(client.txn().publish("c", "x").publish("d", message()), &publish_steps).await;
    let otherwise_publish =
        client.txn().when_exists("k").or_publish("c", "x").or_publish("d", message());
    assert_sent(otherwise_publish, &[&["then: []"], &publish_steps[..]].concat()).await;
    for (otherwise, steps) in [(otherwise, &steps[..]), (otherwise_locks, &lock_steps)] {
        assert_sent(otherwise, &[&["then: []", "otherwise: ["], steps].concat()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_cache_is_changed_with_the_rest() {
    let fake = Fake::start(1);
    let client = fake.client();
    let policy = || CachePolicy::new().ttl(Duration::from_micros(1_500)).tag("t");
    // The condition is one that the fake echoes.
    let then = client
        .txn()
        .when_exists("k")
        .cache_set("c", "1", policy().stale_for(Duration::from_secs(2)))
        .cache_delete("d")
        .cache_invalidate_tag("t")
        .or_cache_invalidate_tags(vec!["u".to_owned(), "v".to_owned()]);
    let policy_sent = "Some(CachePolicy { ttl_ms: Some(2), stale_for_ms: 2000, tags: [\"t\"] })";
    let parts = [
        "CacheSet(TxnCacheSet { key: b\"c\", value: b\"1\", policy: ",
        policy_sent,
        "CacheDelete(TxnCacheDelete { key: b\"d\" })",
        "CacheInvalidateTags(TxnCacheInvalidateTags { tags: [\"t\"] })",
        "otherwise: [",
        "TxnCacheInvalidateTags { tags: [\"u\", \"v\"] }",
    ];
    assert_sent(then, &parts).await;

    let transaction = client.txn().cache_set("c", "1", policy()).cache_delete("d");
    let outcome = transaction.cache_invalidate_tag("t").commit().await.expect("answered");
    let expected = [
        TxnResult::CacheSet,
        TxnResult::CacheDeleted { existed: true },
        TxnResult::CacheTagsInvalidated,
    ];
    assert_eq!(outcome.results, expected);
    assert_eq!(client.cache().seen_revision(), 9, "what it has changed is not read as it was");
}

#[tokio::test(start_paused = true)]
async fn one_that_changes_something_has_one_effect_under_one_name() {
    let fake = Fake::start(3);
    let client = fake.client();
    let refused = fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER");
    fake.script("txn", [refused, Act::DoThenCut, Act::Answer]);
    let outcome = client
        .txn()
        .increment("n", 5)
        .get("n")
        .commit()
        .await
        .expect("the third attempt is answered");
    assert!(outcome.succeeded());
    assert_eq!((outcome.number(0), outcome.number(1), outcome.revision), (Some(5), None, 9));
    let entry = outcome.entry(1).expect("it is there");
    assert_eq!((&entry.key[..], &entry.value[..], entry.version), (&b"n"[..], &b"5"[..], 3));
    assert_eq!(
        (outcome.version(0), outcome.version(1), outcome.version(2)),
        (Some(1), Some(3), None)
    );
    assert_eq!(fake.state.number("n"), 5);
    assert_eq!(outcome.session_id, Some(1));
    let seen = fake.seen("txn");
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.origin.session_id == 1 && seen.origin.sequence == 1));
    assert_eq!(fake.state.violations(), [""; 0]);

    // Without a name nothing is repeated once it may have happened.
    fake.script("txn", [Act::DoThenCut]);
    let error = client.txn().increment("n", 1).anonymous().commit().await.expect_err("cut");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_only_reads_is_a_read() {
    let fake = Fake::start(3);
    let client = fake.client();
    // Of a read nothing can be unknown, so it is repeated whatever happens.
    fake.script("txn", [Act::Fail(Status::unavailable("no trailer")), Act::DoThenCut]);
    let outcome = client.txn().get("a").get("b").or_get("c").stale().commit().await;
    let outcome = outcome.expect("the third attempt is answered");
    assert_eq!(outcome.results, [TxnResult::Got(None), TxnResult::Got(None)]);
    assert_eq!(outcome.session_id, None);
    let seen = fake.seen("txn");
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.origin == Default::default()));
    let stale = Some(quorate_proto::v1::Consistency::Stale);
    assert!(seen.iter().all(|seen| seen.consistency == stale));
    assert_eq!(fake.state.sessions_opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_does_not_hold_is_an_answer() {
    let fake = Fake::start(1);
    let client = fake.client();
    client.kv().increment("n", 7).await.expect("answered");
    let outcome = client
        .txn()
        .when_absent("m")
        .when_absent("n")
        .increment("m", 1)
        .or_get("n")
        .or_get("m")
        .commit()
        .await
        .expect("it is no error");
    assert_eq!((outcome.succeeded(), outcome.failed_condition), (false, Some(1)));
    // The keys are those of the branch that happened.
    let entry = outcome.entry(0).expect("it is there");
    assert_eq!((&entry.key[..], &entry.value[..]), (&b"n"[..], &b"7"[..]));
    assert_eq!(outcome.entry(1), None);
    assert_eq!(fake.state.number("m"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_no_cluster_takes_is_not_sent() {
    let fake = Fake::start(1);
    let client = fake.client();
    let many = |count| (0..count).fold(client.txn(), |txn, _| txn.increment("n", 1));
    let error = many(129).commit().await.expect_err("too long");
    assert_eq!(error.reason(), "TXN_TOO_LONG");
    assert!(error.message().contains("129") && error.message().contains("128"), "{error}");
    assert!(!error.may_have_been_applied());
    let many_conditions = (0..129).fold(client.txn(), |txn, _| txn.when_absent("n"));
    assert_eq!(many_conditions.commit().await.expect_err("too long").reason(), "TXN_TOO_LONG");
    assert_eq!(client.txn().commit().await.expect_err("empty").reason(), "TXN_EMPTY");
    assert_eq!(fake.seen("txn").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_leaves_a_change_unknown() {
    let fake = Fake::start(1);
    // The fake leaves out the result of a delete.
    let error = fake.client().txn().delete("k").commit().await.expect_err("one result is missing");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
    assert_eq!(error.reason(), "BAD_ANSWER");
}
