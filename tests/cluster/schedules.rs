//! Schedules on the command line, through failovers and times without any node.

use crate::jobs::stats;
use crate::running::{PATIENCE, nodes};
use quorate_tests::processes::{Quorate, alone, wait_until};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Both push each second.
const QUEUES: [&str; 2] = ["ticks", "chimes"];
/// How long no node runs: several times are missed.
const OUTAGE: Duration = Duration::from_secs(6);

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later");
    since.as_millis().try_into().expect("it is a while until then")
}

/// When the jobs of a queue were pushed, in Unix milliseconds.
async fn pushed(quorate: &Quorate, queue: &str) -> Vec<u64> {
    let listed = quorate.run(&format!("queue list {queue} -o json")).await.expect(0).json_lines();
    listed.iter().map(|job| job["pushed_unix_ms"].as_u64().expect("it is a number")).collect()
}

/// Waits until each has so many jobs more.
async fn wait_for_more(quorate: &Quorate, jobs: u64) {
    for queue in QUEUES {
        let before = stats(quorate, queue).await["pushed"].as_u64().expect("it is a number");
        wait_until(&format!("queue {queue}"), PATIENCE, || async {
            stats(quorate, queue).await["pushed"].as_u64() >= Some(before + jobs)
        })
        .await;
    }
}

async fn schedules(quorate: &Quorate) -> Vec<Value> {
    quorate.run("queue schedule list -o json").await.expect(0).json_lines()
}

#[tokio::test]
async fn jobs_are_pushed_on_time_whoever_leads_and_missed_times_count_as_one() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    quorate.run("queue schedule put tick ticks t --every 1s").await.expect(0);
    let chime = "queue|schedule|put|chime|chimes|c|--cron|* * * * * *|--time-zone|Asia/Tokyo";
    quorate.run_apart(chime, None).await.expect(0);
    let begun = unix_ms();
    for queue in QUEUES {
        wait_until(&format!("queue {queue}"), PATIENCE, || async {
            quorate.run(&format!("queue stats {queue}")).await.status == Some(0)
        })
        .await;
    }
    wait_for_more(&quorate, 2).await;

    let leader = cluster.leader().await.expect("one leads");
    cluster.kill(leader).await.expect("it can be killed");
    cluster.wait_ready().await.expect("another one leads");
    wait_for_more(&quorate, 3).await;
    cluster.restart(leader).await.expect("it starts again");

    cluster.kill_all().await.expect("they can be killed");
    let gone = unix_ms();
    // What is to be missed.
    tokio::time::sleep(OUTAGE).await;
    let back = unix_ms();
    cluster.restart_all().await.expect("they start again");
    cluster.wait_ready().await.expect("one leads");
    wait_for_more(&quorate, 3).await;

    let listed = schedules(&quorate).await;
    quorate.run("queue schedule delete tick").await.expect(0);
    quorate.run("queue schedule delete chime").await.expect(0);
    assert_eq!(schedules(&quorate).await.len(), 0);
    let end = unix_ms();
    for (queue, schedule) in QUEUES.into_iter().zip(["tick", "chime"]) {
        let at = pushed(&quorate, queue).await;
        assert!(at.is_sorted(), "{at:?}");
        let before = at.iter().filter(|at| **at <= gone).count() as u64;
        let after = at.iter().filter(|at| **at >= back).count() as u64;
        assert_eq!(before + after, at.len() as u64, "nobody was there to push in between");
        assert!(before <= (gone - begun) / 1_000 + 1, "{before} in {} ms", gone - begun);
        assert!(after >= 3 && after <= (end - back) / 1_000 + 2, "{after} in {} ms", end - back);
        let shown = listed.iter().find(|shown| shown["schedule"] == schedule);
        let shown = shown.unwrap_or_else(|| panic!("{schedule} is not in {listed:?}"));
        assert_eq!((&shown["queue"], &shown["refused"]), (&queue.into(), &0.into()), "{shown}");
        // Up to one second between the list and the end of the schedule.
        let counted = shown["pushed"].as_u64().expect("it is a number");
        assert!((counted..=counted + 2).contains(&(at.len() as u64)), "{shown}, {}", at.len());
    }
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_schedule_that_can_not_be_is_refused_and_says_how_it_should_be() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    for (arguments, status, says) in [
        ("--cron|every monday", 1, "`0 6 * * MON-FRI`"),
        ("--cron|61 * * * *", 1, "INVALID_CRON"),
        ("--cron|", 1, "INVALID_CRON"),
        ("--cron|0 0 30 2 *", 1, "names no time that ever comes"),
        ("--cron|0 6 * * *|--time-zone|Europe/Atlantis", 1, "Europe/Berlin"),
        ("--every|500ms", 1, "1"),
        ("--every|5", 2, "5s"),
        ("--every|1s|--cron|* * * * *", 2, "cannot be used with"),
        ("--every|1s|--time-zone|Europe/Berlin", 2, "cannot be used with"),
        ("--ttl|1s", 2, "--every"),
    ] {
        let line = format!("queue|schedule|put|s|q|p|{arguments}");
        let refused = quorate.run_apart(&line, None).await;
        refused.expect(status).expect_stderr(says);
    }
    assert_eq!(schedules(&quorate).await.len(), 0);
    let none = quorate.run("queue schedule delete s").await.expect(3);
    none.expect_stderr("there is no schedule");

    quorate.run_apart("queue|schedule|put|s|q|p|--cron|0 6 * * *", None).await.expect(0);
    let again = quorate.run("queue schedule put s q p --every 30s -o json").await.expect(0).json();
    assert_eq!(again["created"], false);
    let next = again["next_unix_ms"].as_u64().expect("it is known");
    assert!((25_000..=31_000).contains(&(next.saturating_sub(unix_ms()))), "{again}");
    let listed = schedules(&quorate).await;
    assert_eq!((listed.len(), &listed[0]["every"]), (1, &"30s".into()));
    let table = quorate.run("queue schedule list").await.expect(0).text();
    assert!(table.contains("every 30s"), "{table}");
    cluster.logs().assert_no_panics();
}
