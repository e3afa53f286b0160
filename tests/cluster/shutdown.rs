//! SIGTERM: a node hands over what it leads, and ends without hurting anybody.

use quorate_testkit::load::{Load, Plan, wait_healthy};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, say};
use std::time::{Duration, Instant};

const END_MAX: Duration = Duration::from_secs(30);
/// No election timeout has to pass: leadership is given, not lost.
const GAP_MAX: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_hands_leadership_over() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let plan = Plan { writers: 8, ..Plan::default() };
    let load = Load::start(&cluster.endpoints(), plan).await.expect("writes are acknowledged");
    for round in 1..=3 {
        let leader = cluster.leader().await.expect("somebody leads");
        load.arm();
        let asked = Instant::now();
        let status = cluster.terminate(leader).await.expect("it ends");
        let took = asked.elapsed();
        assert_eq!(status.code(), Some(0), "it ended with {status}");
        assert!(took < END_MAX, "it took {took:?}");
        let gap = load.gap(asked, Instant::now(), END_MAX).await.expect("all writers go on");
        say(format!(
            "round {round}: node {leader} ended after {} ms; the longest time without a write was \
             {} ms",
            took.as_millis(),
            gap.first.as_millis()
        ));
        assert!(gap.first < GAP_MAX, "writes stopped for {:?}", gap.first);
        cluster.restart(leader).await.expect("it starts again");
        wait_healthy(&mut cluster).await.expect("it catches up");
    }
    let ledgers = load.stop().await.expect("no writer saw a broken promise");
    ledgers.verify(&cluster.endpoints()).await.expect("nothing is lost");

    // All together, as a machine that shuts down does it. The leader finds nobody to hand over to,
    // and gives that up long before its time is over.
    let asked = Instant::now();
    for (id, status) in cluster.terminate_all().await.expect("they end") {
        assert_eq!(status.code(), Some(0), "node {id} ended with {status}");
    }
    let took = asked.elapsed();
    say(format!("all at once they ended within {} ms", took.as_millis()));
    assert!(took < END_MAX, "it took {took:?}");
    cluster.restart_all().await.expect("they start again");
    wait_healthy(&mut cluster).await.expect("they are well");
    ledgers.verify(&cluster.endpoints()).await.expect("nothing is lost");
    cluster.logs().assert_no_panics();
}
