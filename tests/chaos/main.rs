//! All workloads of the chaos runs on real nodes for a few seconds: with a leader that is killed, a node
//! that stops for a moment and one that is restarted; and while there is no quorum for longer than any
//! call waits, so that many outcomes stay unknown. That the checkers find what is wrong is shown by
//! their own tests, on histories made by hand; long runs under everything are another program's.
//!
//! `QUORATE_CHAOS_SECONDS` (6) makes it longer, by more of the same.

use quorate_testkit::chaos::{Found, trial};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, say, seed};
use std::time::{Duration, Instant};

/// Between two disturbances.
const CALM: Duration = Duration::from_millis(1_000);
/// Longer than an election.
const PAUSE: Duration = Duration::from_millis(1_200);
/// Longer than a call of a workload may take.
const OUTAGE: Duration = Duration::from_millis(7_000);

async fn three() -> ProcessCluster {
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    cluster
}

/// Shows what each workload came to, and answers all problems.
fn show(found: &[Found], cluster: &ProcessCluster) -> Vec<String> {
    let mut problems = Vec::new();
    for one in found {
        say(format!(
            "{}: {} calls answered, {} failed, {} unknown; {}",
            one.workload, one.answered, one.failed, one.unknown, one.checked
        ));
        problems.extend(one.problems.iter().map(|what| format!("{}: {what}", one.workload)));
    }
    if !problems.is_empty() {
        cluster.mark_failed();
    }
    problems
}

async fn all_is_well(cluster: &mut ProcessCluster, found: &[Found]) {
    let problems = show(found, cluster);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    cluster.wait_same_state().await.expect("all nodes come to the same state");
    cluster.logs().assert_no_panics();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_workloads_hold_while_a_leader_dies_and_nodes_stop() {
    let _alone = alone().await;
    let seconds = number("QUORATE_CHAOS_SECONDS", 6);
    let seed = seed("chaos", "all_workloads_hold_while_a_leader_dies_and_nodes_stop");
    let mut cluster = three().await;
    let directory = cluster.directory().join("histories");
    let begun = Instant::now();
    let found = trial(&mut cluster, seed, &directory, async |cluster: &mut ProcessCluster| {
        let until = Instant::now() + Duration::from_secs(seconds);
        tokio::time::sleep(CALM).await;
        loop {
            let leader = cluster.wait_ready().await?;
            cluster.kill(leader).await?;
            tokio::time::sleep(CALM).await;
            cluster.restart(leader).await?;
            tokio::time::sleep(CALM).await;
            let leader = cluster.wait_ready().await?;
            cluster.pause(leader).await?;
            tokio::time::sleep(PAUSE).await;
            cluster.resume(leader)?;
            tokio::time::sleep(CALM).await;
            if Instant::now() > until {
                return Ok(());
            }
        }
    });
    let found = found.await.expect("all is well in the end");
    say(format!("in {:?}", begun.elapsed()));
    all_is_well(&mut cluster, &found).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_workloads_hold_when_outcomes_stay_unknown() {
    let _alone = alone().await;
    let seed = seed("chaos", "all_workloads_hold_when_outcomes_stay_unknown");
    let mut cluster = three().await;
    let directory = cluster.directory().join("histories");
    let found = trial(&mut cluster, seed, &directory, async |cluster: &mut ProcessCluster| {
        tokio::time::sleep(3 * CALM).await;
        let leader = cluster.wait_ready().await?;
        let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        for id in &others {
            cluster.pause(*id).await?;
        }
        // What the leader has taken and nobody else has is not known to happen.
        tokio::time::sleep(OUTAGE).await;
        cluster.kill(leader).await?;
        for id in others {
            cluster.resume(id)?;
        }
        cluster.restart(leader).await?;
        tokio::time::sleep(3 * CALM).await;
        Ok(())
    });
    let found = found.await.expect("all is well in the end");
    all_is_well(&mut cluster, &found).await;
    let unknown: u64 = found.iter().map(|one| one.unknown).sum();
    assert!(unknown > 10, "only {unknown} outcomes stayed unknown");
}
