//! `kill -9` under load: whoever dies, nothing acknowledged is lost and nothing happens twice.
//!
//! What a process had written outlives it in the kernel, synced or not, so this shows nothing of
//! syncs: see `synced`, and the power failures of the simulation.

use quorate_testkit::load::{Failover, Kill, KillRound, Plan, Report};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, say};
use std::time::Duration;

const WRITERS: usize = 16;
/// The aim is a median of 1.2 s at most and none over 3 s, on two cores of their own. Here other
/// work may run beside, so the bounds that fail a test are twice as wide; the figures are printed.
const MEDIAN_MAX: Duration = Duration::from_millis(2_500);
const GAP_MAX: Duration = Duration::from_secs(6);
/// A snapshot, and with it a flush of the state, after so many bytes of log: as few as can be set.
const LOG_BYTES: &str = "65536";

fn show(round: &KillRound) {
    let ms = |time: Duration| time.as_millis();
    say(format!(
        "round {:>3}: killed node {}, node {} leads; {:>5} ms without a write, all writers go on \
         after {:>5} ms, all nodes are well again after {:>5} ms",
        round.round,
        round.killed,
        round.leader,
        ms(round.gap.first),
        ms(round.gap.all),
        ms(round.caught_up)
    ));
}

async fn kill_again_and_again(cluster: &mut ProcessCluster, kill: Kill, rounds: usize) -> Report {
    let plan = Plan { writers: WRITERS, ..Plan::default() };
    let report = Failover { kill, rounds, plan }.run(cluster, show).await;
    let report = report.unwrap_or_else(|error| panic!("{error:#}"));
    cluster.logs().assert_no_panics();
    let totals = report.totals;
    say(format!(
        "{} writes acknowledged and there, {} of them begun before a kill and carried over it; {} \
         of unknown outcome, {} not applied; all nodes have checksum {:016x} at index {}",
        totals.acknowledged,
        report.carried,
        totals.unknown,
        totals.failed,
        report.checksum,
        report.applied
    ));
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_kills_lose_nothing() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let rounds = number("QUORATE_KILLS", 25);
    let report = kill_again_and_again(&mut cluster, Kill::Leader, rounds).await;
    let gaps = report.gaps.expect("there were rounds");
    say(format!("gap after kill -9 of the leader: {gaps}"));
    assert!(gaps.median <= MEDIAN_MAX, "the median gap is {:?}", gaps.median);
    assert!(gaps.max <= GAP_MAX, "the longest gap is {:?}", gaps.max);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_all_nodes_at_once_lose_nothing() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    kill_all_again_and_again(&mut cluster).await;
}

/// The state has no log of its own and reaches the disk when it is flushed. For the default
/// settings that is hardly ever in such a test, so here it is all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_all_nodes_while_they_flush_their_states_lose_nothing() {
    let _alone = alone().await;
    let options = ProcessCluster::options(3).arg("--storage-snapshot-log-bytes").arg(LOG_BYTES);
    let mut cluster = options.start().await.expect("three nodes start");
    kill_all_again_and_again(&mut cluster).await;
    for id in cluster.ids() {
        let status = cluster.status(id).await.expect("a live node answers");
        let node = status.nodes.into_iter().find(|node| node.node_id == id);
        let node = node.expect("it is a member");
        say(format!("node {id}: a snapshot of {:?}, applied {:?}", node.snapshot, node.applied));
        assert!(node.snapshot > node.applied.map(|applied| applied / 2), "{node:?}");
    }
}

async fn kill_all_again_and_again(cluster: &mut ProcessCluster) {
    let report = kill_again_and_again(cluster, Kill::All, number("QUORATE_ALL_KILLS", 10)).await;
    let gaps = report.gaps.expect("there were rounds");
    say(format!("from the kill of all nodes to the next write, their start included: {gaps}"));
}
