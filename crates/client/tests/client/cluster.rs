//! The cluster handle, and what requests and answers carry.

use crate::fake::{Act, Fake, NOT_APPLIED, UNKNOWN, fail};
use quorate_client::{Error, Role};
use std::time::Duration;
use tonic::Code;

#[tokio::test(start_paused = true)]
async fn status_and_hash_are_passed_on() {
    let fake = Fake::start(1);
    let cluster = fake.client().cluster();
    let status = cluster.status().await.expect("answered");
    assert_eq!((status.cluster_id.as_str(), status.term, status.leader_id), ("c", 3, Some(1)));
    assert_eq!((status.nodes[0].role, status.nodes[0].applied), (Role::Follower, Some(11)));
    let clock = status.nodes[0].clock.expect("it is known");
    assert_eq!((clock.ahead_ms, clock.uncertainty_ms), (-9, 2));
    let fsync = status.nodes[0].fsync.expect("there were some");
    assert_eq!((fsync.count, fsync.p50_us, fsync.p99_us), (3, 4, 5));
    assert_eq!((status.nodes[0].disk_free_bytes, status.nodes[0].writes_refused), (Some(0), true));
    assert_eq!((status.nodes[0].elections_hour, status.nodes[0].insecure), (6, true));
    assert!(!status.nodes[1].insecure);
    assert_eq!(status.nodes[1].role, Role::Unknown, "a role of a later version");
    assert_eq!((status.nodes[1].clock, status.nodes[1].fsync), (None, None));
    assert_eq!(status.nodes[1].disk_free_bytes, None);
    assert_eq!(status.limits, [("key_bytes_max".to_owned(), 1_024)]);
    let hash = cluster.hash_state().await.expect("answered");
    assert_eq!((hash.applied, hash.checksum, hash.digest), (Some(11), 12, 13));
}

#[tokio::test(start_paused = true)]
async fn a_named_node_is_the_only_one_asked() {
    let fake = Fake::start(3);
    let client = fake.client();
    for node in &fake.nodes {
        node.names_leader("n1:1");
    }
    let third = client.cluster().at("n3:1").expect("an address");
    fake.script("hash_state", [fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER")]);
    third.hash_state().await.expect("the second try");
    assert!(fake.seen("hash_state").iter().all(|seen| seen.node == "n3:1"));
    fake.net.kill("n3:1");
    let error = third.timeout(Duration::from_secs(1)).hash_state().await.expect_err("dead");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(client.cluster().at("n3").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_long_call_is_not_cut_into_attempts() {
    let fake = Fake::start(2);
    fake.always("hash_state", &Act::AnswerAfter(Duration::from_secs(4)));
    fake.client().cluster().hash_state().await.expect("it has 5 s");
    assert_eq!(fake.seen("hash_state").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn leadership_is_not_transferred_twice() {
    let fake = Fake::start(3);
    let cluster = fake.client().cluster();
    fake.script("transfer_leader", [fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER")]);
    assert_eq!(cluster.transfer_leader(Some(2)).await.expect("the second try"), 2);
    fake.script("transfer_leader", [fail(Code::Unavailable, UNKNOWN, "DEADLINE")]);
    let error = cluster.transfer_leader(Some(2)).await.expect_err("scripted");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
    assert_eq!(fake.seen("transfer_leader").len(), 3);
    let error = cluster.transfer_leader(None).await.expect_err("answered 0");
    assert_eq!(error.reason(), "BAD_ANSWER");
}

#[tokio::test(start_paused = true)]
async fn a_set_carries_what_it_was_told() {
    let fake = Fake::start(1);
    // The node answers with the request's text, which is no answer a client trusts.
    let kv = fake.options().namespace("ns").connect().expect("good options").kv();
    let cases = [
        (kv.set("k", "v"), r#"ns/b"k"=b"v" ttl None None"#),
        (kv.set("k", "v").ttl(Duration::from_micros(1_500)), "ttl Some(2) None"),
        (kv.set("k", "v").if_version(9), "Some(IfVersion(9))"),
        (kv.set("k", "v").if_version(9).if_absent(), "Some(IfAbsent(true))"),
    ];
    for (set, expected) in cases {
        let error = set.await.expect_err("an echo");
        assert!(error.message().contains(expected), "{expected:?} is not in: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_get_carries_its_consistency_and_answers_the_whole_entry() {
    let fake = Fake::start(1);
    let kv = fake.client().kv();
    kv.increment("k", 42).await.expect("answered");
    let entry = kv.get("k").await.expect("answered").expect("it exists");
    assert_eq!((&entry.key[..], &entry.value[..]), (&b"k"[..], &b"42"[..]));
    assert_eq!((entry.version, entry.create_revision, entry.mod_revision), (3, 4, 5));
    assert_eq!(entry.remaining_ttl, Some(Duration::from_millis(6)));
    assert_eq!(kv.get_stale("missing").await.expect("answered"), None);
    let asked: Vec<_> = fake.seen("get").into_iter().filter_map(|seen| seen.consistency).collect();
    let names: Vec<_> = asked.iter().map(|consistency| consistency.as_str_name()).collect();
    assert_eq!(names, ["CONSISTENCY_LINEARIZABLE", "CONSISTENCY_STALE"]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_too_long_is_refused_before_anything_is_sent() {
    let fake = Fake::start(1);
    let error = fake.client().kv_in("x".repeat(256)).increment("k", 1).await.expect_err("long");
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
    assert_eq!(fake.seen("open").len(), 0);
}
