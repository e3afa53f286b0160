//! A majority is gone: writes fail in time and say whether they happened, stale reads go on, and
//! nobody gives up.

use quorate_proto::metadata::{OUTCOME, REASON};
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::{Consistency, GetRequest, SetRequest, WatchRequest};
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::{NodeId, ProcessCluster};
use quorate_tests::processes::{Quorate, alone, say};
use serde_json::json;
use std::time::{Duration, Instant};
use tonic::{Code, Request};

const DEADLINE: Duration = Duration::from_secs(2);
/// How far from the deadline an answer may be: the node answers 50 ms before it.
const OFF_MAX: Duration = Duration::from_millis(300);

/// 15 s after the last barrier, which is 5 s old at most; and the time that one takes to fail.
const ENDED_WITHIN: Duration = Duration::from_secs(30);

/// Leaves one of three nodes alive: the leader or not.
async fn survivor(leader_survives: bool) -> (ProcessCluster, NodeId) {
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    Quorate::of(&cluster).run("kv set kept v").await.expect(0);
    cluster.wait_same_state().await.expect("all nodes have it");
    let other = cluster.ids().into_iter().find(|id| *id != leader).expect("there are three");
    let survivor = if leader_survives { leader } else { other };
    for id in cluster.ids() {
        if id != survivor {
            cluster.kill(id).await.expect("it can be killed");
        }
    }
    (cluster, survivor)
}

async fn without_a_quorum(leader_survives: bool) {
    let (mut cluster, survivor) = survivor(leader_survives).await;
    let uri = format!("http://{}", cluster.client_addr(survivor));
    let mut raw = KvServiceClient::connect(uri).await.expect("it listens");

    let set = SetRequest {
        key: b"lost".to_vec().into(),
        value: b"v".to_vec().into(),
        ..SetRequest::default()
    };
    // Whether any attempt to write it may have had an effect.
    let mut unknown = false;
    // The first while it may still take itself for the leader, the second when it knows better.
    for nth in 1..=2 {
        let mut request = Request::new(set.clone());
        request.set_timeout(DEADLINE);
        let begun = Instant::now();
        let refused = raw.set(request).await.expect_err("there is no quorum");
        let took = begun.elapsed();
        let word = |name| refused.metadata().get(name)?.to_str().ok().map(str::to_owned);
        let (outcome, reason) = (word(OUTCOME), word(REASON));
        say(format!(
            "leader survives: {leader_survives}; write {nth} after {} ms: {:?}, {outcome:?}, \
             {reason:?}: {}",
            took.as_millis(),
            refused.code(),
            refused.message()
        ));
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(took.abs_diff(DEADLINE) <= OFF_MAX, "it took {took:?}: {refused:?}");
        assert!(!refused.message().is_empty() && reason.is_some(), "{refused:?}");
        match outcome.as_deref() {
            Some("not_applied") => {}
            // Only a leader can have taken it into its log.
            Some("unknown") => {
                assert!(leader_survives, "{refused:?}");
                unknown = true;
            }
            _ => panic!("the outcome is missing: {refused:?}"),
        }
    }
    let mut get =
        Request::new(GetRequest { key: b"kept".to_vec().into(), ..GetRequest::default() });
    get.set_timeout(DEADLINE);
    let begun = Instant::now();
    let refused = raw.get(get).await.expect_err("a read needs a quorum too");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(begun.elapsed().abs_diff(DEADLINE) <= OFF_MAX, "it took {:?}", begun.elapsed());

    // Stale reads and the status need nobody else.
    let stale = GetRequest {
        key: b"kept".to_vec().into(),
        consistency: Consistency::Stale.into(),
        ..GetRequest::default()
    };
    let found = raw.get(stale).await.expect("a stale read works").into_inner();
    assert_eq!(found.entry.expect("it was there").value, "v");
    let quorate = Quorate::at(&[cluster.client_addr(survivor).to_string()]);
    assert_eq!(quorate.run("kv get kept --stale").await.expect(0).stdout, b"v");
    let status = quorate.run("cluster status -o json").await.expect(0).json();
    for node in status["nodes"].as_array().expect("nodes are a list") {
        if node["node_id"] != json!(survivor) {
            assert_eq!(node["healthy"], false, "{node}");
            assert!(node["problem"].as_str().is_some_and(|why| !why.is_empty()), "{node}");
        }
    }

    // A command ends with the status that tells the same.
    let failed = quorate.run("kv set lost v --timeout 2s -o json").await;
    let took = failed.took;
    assert!(took < DEADLINE + Duration::from_secs(1), "it took {took:?}");
    match failed.status {
        Some(5) => {}
        Some(6) => {
            assert!(leader_survives, "{failed:?}");
            unknown = true;
        }
        _ => panic!("{failed:?}"),
    }
    quorate.run("kv get kept --timeout 1s").await.expect(5);

    // Once the others are back, so is everything.
    assert!(cluster.is_running(survivor).expect("it can be told"));
    for id in cluster.ids() {
        if id != survivor {
            cluster.restart(id).await.expect("it starts");
        }
    }
    wait_healthy(&mut cluster).await.expect("all are well");
    let quorate = Quorate::of(&cluster);
    assert_eq!(quorate.run("kv get kept").await.expect(0).stdout, b"v");
    // "Not applied" was a promise, too.
    let lost = quorate.run("kv get lost").await;
    match lost.status {
        Some(3) => {}
        Some(0) => assert!(unknown && lost.stdout == b"v", "{lost:?}"),
        _ => panic!("{lost:?}"),
    }
    quorate.run("kv set lost w").await.expect(0);
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_lone_follower_fails_writes_in_time_and_serves_stale_reads() {
    let _alone = alone().await;
    without_a_quorum(false).await;
}

#[tokio::test]
async fn a_lone_leader_fails_writes_in_time_and_serves_stale_reads() {
    let _alone = alone().await;
    without_a_quorum(true).await;
}

/// Nothing new can arrive there, and a client that goes on elsewhere may miss nothing.
#[tokio::test]
async fn a_watch_without_a_quorum_is_ended_with_the_reason() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let uri = format!("http://{}", cluster.client_addr(leader));
    let mut raw = KvServiceClient::connect(uri).await.expect("it listens");
    let watch = raw.watch(WatchRequest::default()).await.expect("a watch begins");
    let mut watch = watch.into_inner();
    watch.message().await.expect("it lives").expect("it says that it has begun");
    for id in cluster.ids() {
        if id != leader {
            cluster.kill(id).await.expect("it can be killed");
        }
    }
    let begun = Instant::now();
    let ended = async {
        loop {
            match watch.message().await {
                Ok(message) => {
                    let message = message.expect("it has no end without a reason");
                    assert!(message.events.is_empty(), "{message:?}");
                }
                Err(status) => return status,
            }
        }
    };
    let status = tokio::time::timeout(ENDED_WITHIN, ended).await.expect("it is ended");
    let took = begun.elapsed();
    say(format!("ended after {took:?}: {}", status.message()));
    let reason = status.metadata().get(REASON).and_then(|reason| reason.to_str().ok());
    assert_eq!((status.code(), reason), (Code::Unavailable, Some("NO_LEADER")), "{status:?}");
    // And none begins.
    let mut request = Request::new(WatchRequest::default());
    request.set_timeout(DEADLINE);
    let refused = raw.watch(request).await.expect_err("there is no quorum");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
}
