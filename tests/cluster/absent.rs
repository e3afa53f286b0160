//! A node that is away for long: the others notice, and do not wear themselves out over it.

use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{Quorate, alone, say};
use std::fs;
use std::time::Duration;

/// How long the others are watched.
const WATCH: Duration = Duration::from_secs(3);
/// Lines of log that the leader may write in this time. With a dial every 50 ms and a heartbeat
/// every 100 ms it comes to some hundred; a loop without a pause writes ten thousands a second.
const LINES_MAX: usize = 3_000;
/// Processor time that the leader may need in this time without a request.
const BUSY_MAX: Duration = Duration::from_millis(1_500);

/// Processor time that a process has used.
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name is in parentheses; of what follows it, the 12th and 13th are ticks of 10 ms.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::test]
async fn a_dead_node_costs_the_others_little() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let quorate = Quorate::of(&cluster);
    quorate.run("kv set k v").await.expect(0);
    let victim = cluster.ids().into_iter().find(|id| *id != leader).expect("there are three");
    cluster.kill(victim).await.expect("it can be killed");
    // So that there is something to send it.
    quorate.run("kv set k w").await.expect(0);

    let pid = cluster.pid(leader).expect("it runs");
    let lines =
        || fs::read_to_string(cluster.log_path(leader)).map_or(0, |log| log.lines().count());
    let (busy_before, lines_before) = (processor_time(pid), lines());
    tokio::time::sleep(WATCH).await;
    let (busy, lines) = (processor_time(pid) - busy_before, lines() - lines_before);
    say(format!(
        "in {WATCH:?} with a dead follower and no request the leader wrote {lines} lines of log and \
         used {} ms of processor time",
        busy.as_millis()
    ));
    assert!(lines < LINES_MAX, "it wrote {lines} lines of log");
    assert!(busy < BUSY_MAX, "it used {busy:?} of processor time");

    cluster.restart(victim).await.expect("it starts again");
    wait_healthy(&mut cluster).await.expect("it catches up");
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}
