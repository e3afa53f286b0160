//! A disk that fails while a node starts for the first time: the node says why it can't, or bears it,
//! and what it leaves behind keeps nobody from starting it again when the disk is well.

use super::library::Disks;
use super::{RECOVERS, faults, reason};
use quorate_client::Client;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, number, say, seed};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use std::fs;
use std::time::{Duration, Instant};

/// How long a node that bears a fault may take until it leads.
const STARTS: Duration = Duration::from_secs(20);
/// How long a node that leads gets to come to where the fault is.
const MEETS: Duration = Duration::from_secs(3);
/// And then to stop for it.
const STOPS: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_fails_can_be_made_again() {
    let _alone = alone().await;
    let seed = seed("faults", "disk::first::a_first_start_that_fails_can_be_made_again");
    let mut rng = StdRng::seed_from_u64(seed);
    let tried_max = number("QUORATE_DISK_POINTS", 16_usize);
    let options = ProcessCluster::options(1).deadline(RECOVERS);
    let (disks, options) = Disks::below(options, 1);
    let mut cluster = options.start().await.expect("a node starts");
    works(&mut cluster).await;
    let points = disks.reached(1, 0);
    let mut tries: Vec<_> = points
        .iter()
        .flat_map(|(point, count)| faults(point).iter().map(move |fault| (point, *count, *fault)))
        .collect();
    say(format!("{} points, and {} ways to fail at them", points.len(), tries.len()));
    tries.shuffle(&mut rng);
    let (mut tried, mut failed, mut stopped) = (0, 0, 0);
    for (point, count, fault) in tries.into_iter().take(tried_max) {
        tried += 1;
        wipe(&mut cluster).await;
        let said = fs::metadata(cluster.log_path(1)).expect("it has a log").len();
        let from = disks.noted(1);
        let nth = rng.random_range(1..=count);
        disks.plan(1, point, nth, fault);
        cluster.spawn(1).expect("it can be started");
        let end = match ends(&mut cluster, &disks, from).await {
            Some(code) => {
                assert!(disks.failed(1, from), "it ended for nothing");
                assert_eq!(code, Some(1), "it did not end by itself");
                stopped += 1;
                format!("it stopped: {}", reason(&cluster, 1, said, fault))
            }
            None => "it went on".to_owned(),
        };
        disks.mend(1);
        failed += usize::from(disks.failed(1, from));
        say(format!("{point}, {fault:?} at number {nth}: {end}"));
        if cluster.pid(1).is_some() {
            // What it has on its disk is what counts, not what it has in memory.
            cluster.kill(1).await.expect("it runs");
        }
        cluster.restart(1).await.expect("it starts when the disk is well");
        works(&mut cluster).await;
    }
    say(format!("{failed} of {tried} failed, and the node stopped at {stopped}"));
    assert!(failed * 4 >= tried * 3, "only {failed} of {tried} failed");
    cluster.logs().assert_no_panics();
}

/// Waits until the node leads, and writes to it.
async fn works(cluster: &mut ProcessCluster) {
    cluster.wait_ready().await.expect("it leads");
    let client = Client::builder().endpoints(cluster.endpoints()).connect();
    let client = client.expect("the options are right");
    client.kv().set("key", "value").await.expect("it takes writes");
}

/// Makes the node a new one.
async fn wipe(cluster: &mut ProcessCluster) {
    if cluster.pid(1).is_some() {
        cluster.kill(1).await.expect("it runs");
    }
    fs::remove_dir_all(cluster.data_dir(1)).expect("it has a directory");
}

/// Waits until the node ends, and answers with what, or until it has led for a while, or has had the time
/// to.
async fn ends(cluster: &mut ProcessCluster, disks: &Disks, from: u64) -> Option<Option<i32>> {
    let begun = Instant::now();
    // When it led first, and when it had met the fault and led.
    let (mut leads, mut bears) = (None, None);
    loop {
        if let Some(status) = cluster.take_exit(1).expect("the system tells") {
            return Some(status.code());
        }
        if cluster.status(1).await.is_ok_and(|status| status.leader_id == Some(1)) {
            let since = leads.get_or_insert_with(Instant::now).elapsed();
            if disks.failed(1, from) {
                bears.get_or_insert_with(Instant::now);
            }
            if bears.map_or(since > MEETS, |bears: Instant| bears.elapsed() > STOPS) {
                return None;
            }
        }
        if begun.elapsed() > STARTS {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
