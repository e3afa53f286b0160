//! Full load without a fault: the leader stays.

use quorate_testkit::load::{Load, Plan};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, say};
use std::time::{Duration, Instant};

/// More than two cores can serve without a queue.
const WRITERS: usize = 48;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_load_makes_no_spurious_election() {
    let _alone = alone().await;
    let seconds = number("QUORATE_STEADY_SECONDS", 20_u64);
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let before = cluster.status(leader).await.expect("the leader answers").term;

    let plan = Plan { writers: WRITERS, mixed: false, value_bytes: 256, ..Plan::default() };
    let load = Load::start(&cluster.endpoints(), plan).await.expect("writes are acknowledged");
    load.take_longest_silence();
    let (begun, at_first) = (Instant::now(), load.totals());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (took, silence) = (begun.elapsed(), load.take_longest_silence());
    let writes = load.totals().acknowledged - at_first.acknowledged;
    let ledgers = load.stop().await.expect("no writer saw a broken promise");

    say(format!(
        "{writes} writes in {:.1} s of {WRITERS} writers ({:.0} a second); the longest time \
         without one was {} ms",
        took.as_secs_f64(),
        f64::from(u32::try_from(writes).unwrap_or(u32::MAX)) / took.as_secs_f64(),
        silence.as_millis()
    ));
    for id in cluster.ids() {
        let status = cluster.status(id).await.expect("each node answers");
        assert_eq!(status.leader_id, Some(leader), "node {id} says so, after term {before}");
        assert_eq!(status.term, before, "node {id} has seen an election");
    }
    let totals = ledgers.verify(&cluster.endpoints()).await.expect("nothing is lost");
    assert_eq!((totals.unknown, totals.failed), (0, 0), "without a fault every write succeeds");
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}
