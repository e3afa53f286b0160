//! A disk that lies: a node must rather stop than guess.

use quorate_testkit::load::{Load, Plan, wait_healthy};
use quorate_testkit::process::{NodeId, ProcessCluster};
use quorate_tests::processes::{alone, files_below, say, wait_until};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes that the log of a node should have before one of them is flipped: several blocks of it.
const LOG_BYTES_MIN: u64 = 200_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_middle_of_the_log_stops_the_node_and_nobody_else() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let plan = Plan { writers: 4, value_bytes: 1_000, ..Plan::default() };
    let load = Load::start(&cluster.endpoints(), plan).await.expect("writes are acknowledged");
    let follower = *cluster.ids().iter().find(|id| **id != leader).expect("there are three");
    let written = || largest_log(&cluster, follower).1 > LOG_BYTES_MIN;
    wait_until("the log has grown", Duration::from_secs(30), || {
        let written = written();
        async move { written }
    })
    .await;

    cluster.kill(follower).await.expect("the follower can be killed");
    let (file, _) = largest_log(&cluster, follower);
    let mut bytes = fs::read(&file).expect("the log can be read");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("it is not empty");
    bytes[end / 2] ^= 0x10;
    fs::write(&file, &bytes).expect("the log can be written");
    say(format!("flipped a bit at {} of {} in {}", end / 2, bytes.len(), file.display()));

    cluster.spawn(follower).expect("it can be started");
    let status = cluster.wait_exit(follower).await.expect("it ends by itself");
    assert!(!status.success(), "it ended with {status}");
    let log = fs::read_to_string(cluster.log_path(follower)).expect("it has a log");
    let said: Vec<_> = log.lines().rev().take(3).collect();
    say(format!("it said: {}", said.iter().rev().copied().collect::<Vec<_>>().join("\n")));
    let name = file.file_name().expect("a file has a name").to_string_lossy().into_owned();
    assert!(said.iter().any(|line| line.contains(&name)), "it does not name the file: {said:?}");
    assert!(
        said.iter().any(|line| line.contains("cluster replace")),
        "it does not say what to do: {said:?}"
    );

    // The two others go on, and hold all that was promised.
    load.wait_for(50, Duration::from_secs(30)).await.expect("the others go on");
    let ledgers = load.stop().await.expect("no writer saw a broken promise");
    ledgers.verify(&cluster.endpoints()).await.expect("nothing is lost");

    // The bit itself was the only fault: without it the node is as good as ever.
    bytes[end / 2] ^= 0x10;
    fs::write(&file, &bytes).expect("the log can be written");
    cluster.restart(follower).await.expect("it starts");
    wait_healthy(&mut cluster).await.expect("it catches up");
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}

/// The largest file of a node's write-ahead log.
fn largest_log(cluster: &ProcessCluster, id: NodeId) -> (PathBuf, u64) {
    let files = files_below(&cluster.data_dir(id).join("log"));
    let logs = files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "log"));
    let sized = logs.filter_map(|file| fs::metadata(&file).ok().map(|data| (file, data.len())));
    sized.max_by_key(|(_, length)| *length).expect("a node has a log")
}
