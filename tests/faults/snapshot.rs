//! A node that was away for longer than the log reaches back.

use quorate_client::Client;
use quorate_testkit::load::{Load, Plan, wait_healthy};
use quorate_testkit::process::{LogScan, Options, ProcessCluster};
use quorate_tests::processes::{alone, purged_past, say, status_of, wait_until};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::{Duration, Instant};

/// Snapshots after so many bytes of log, and entries kept behind one: as few as can be set, so
/// that a moment of writing purges what a follower has not seen.
const LOG_BYTES: &str = "65536";
const KEEP_ENTRIES: &str = "10";
/// What a node writes to its log when it has received a snapshot.
const ARRIVED: &str = "a snapshot arrived";

fn three_with_little_log() -> Options {
    ProcessCluster::options(3)
        .arg("--storage-snapshot-log-bytes")
        .arg(LOG_BYTES)
        .arg("--storage-log-keep-entries")
        .arg(KEEP_ENTRIES)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_catches_up_by_snapshot_when_the_log_is_purged_past_it() {
    let _alone = alone().await;
    let options = three_with_little_log();
    let mut cluster = options.start().await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let follower = *cluster.ids().iter().find(|id| **id != leader).expect("there are three");
    let plan = Plan { writers: 4, value_bytes: 2_000, ..Plan::default() };
    let load = Load::start(&cluster.endpoints(), plan).await.expect("writes are acknowledged");

    cluster.kill(follower).await.expect("the follower can be killed");
    // Nobody has sent it anything since, so this is more than it has.
    let had = status_of(&cluster, leader, leader).await.last_log.expect("there were writes");
    purged_past(&cluster, leader, had).await;
    let purged = status_of(&cluster, leader, leader).await.purged;
    let log = LogScan::new([cluster.log_path(follower)]);
    let arrived = || log.lines_with(ARRIVED).expect("the log can be read").len();
    let arrived_before = arrived();

    cluster.restart(follower).await.expect("the follower starts again");
    wait_healthy(&mut cluster).await.expect("the follower catches up");
    let ledgers = load.stop().await.expect("no writer saw a broken promise");
    let state = cluster.wait_same_state().await.expect("all nodes come to the same state");
    let back = status_of(&cluster, follower, follower).await;
    say(format!(
        "when node {follower} died it had at most index {had}; when it came back the log of the \
         leader began after {purged:?}; now its snapshot is of {:?}, its log begins after {:?}, \
         and all nodes have checksum {:016x} at index {:?}",
        back.snapshot, back.purged, state.checksum, state.applied
    ));
    // The entries it missed were nowhere any more, and yet it has applied them: as a snapshot. That
    // it has one may be its own doing; that one arrived is not.
    assert!(back.snapshot > Some(had), "{back:?}");
    assert!(back.purged > Some(had), "{back:?}");
    wait_until("the follower says that a snapshot arrived", Duration::from_secs(10), || {
        let arrived = arrived() > arrived_before;
        async move { arrived }
    })
    .await;
    let totals = ledgers.verify(&cluster.endpoints()).await.expect("nothing is lost");
    say(format!("{} writes were acknowledged, and are there", totals.acknowledged));

    // It also starts from what it was sent.
    cluster.restart(follower).await.expect("it starts once more");
    wait_healthy(&mut cluster).await.expect("it is well");
    let again = cluster.wait_same_state().await.expect("all nodes have the same state");
    assert_eq!(again.checksum, cluster.hash_state(leader).await.expect("it answers").checksum);
    cluster.logs().assert_no_panics();
}

/// The leader fills its log many times over while it sends one snapshot. If it purged that log, the
/// follower would be sent the next snapshot, and the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_is_kept_for_a_follower_that_is_sent_a_snapshot() {
    let _alone = alone().await;
    let options = three_with_little_log().arg("--storage-snapshot-send-bytes-per-second=1048576");
    let mut cluster = options.start().await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let follower = *cluster.ids().iter().find(|id| **id != leader).expect("there are three");
    // Three seconds' worth of what does not compress.
    let client = Client::builder().endpoints(cluster.endpoints()).connect();
    let client = client.expect("the options are right");
    let mut random = SmallRng::seed_from_u64(1);
    for key in 0..60 {
        let value: Vec<u8> = (0..50_000).map(|_| random.random()).collect();
        client.kv().set(format!("large-{key}"), value).await.expect("it takes writes");
    }
    let plan = Plan { writers: 4, value_bytes: 2_000, ..Plan::default() };
    let load = Load::start(&cluster.endpoints(), plan).await.expect("writes are acknowledged");
    cluster.kill(follower).await.expect("the follower can be killed");
    let had = status_of(&cluster, leader, leader).await.last_log.expect("there were writes");
    purged_past(&cluster, leader, had).await;

    let log = LogScan::new([cluster.log_path(follower)]);
    let arrived = || log.lines_with(ARRIVED).expect("the log can be read").len();
    let (arrived_before, began) = (arrived(), Instant::now());
    cluster.restart(follower).await.expect("the follower starts again");
    wait_until("a snapshot arrives", Duration::from_secs(30), || {
        let arrived = arrived() > arrived_before;
        async move { arrived }
    })
    .await;
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2), "it was sent at once: {took:?}");
    for _ in 0..3 {
        wait_healthy(&mut cluster).await.expect("the follower catches up");
        load.wait_for(100, Duration::from_secs(60)).await.expect("writes go on");
    }
    assert_eq!(arrived(), arrived_before + 1, "one is enough");
    // And then snapshots are taken again.
    let at = status_of(&cluster, leader, leader).await.snapshot;
    let cluster_now = &cluster;
    wait_until("the leader takes a snapshot", Duration::from_secs(30), || async move {
        status_of(cluster_now, leader, leader).await.snapshot > at
    })
    .await;
    let ledgers = load.stop().await.expect("no writer saw a broken promise");
    cluster.wait_same_state().await.expect("all nodes come to the same state");
    ledgers.verify(&cluster.endpoints()).await.expect("nothing is lost");
    cluster.logs().assert_no_panics();
}
