//! `quorate doctor`: a healthy cluster, nodes that stop, nodes that hang, and a directory on its own.

use crate::running::{PATIENCE, nodes};
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::{NodeId, ProcessCluster};
use quorate_tests::processes::{Quorate, alone, say, wait_until};
use serde_json::Value;
use std::path::Path;

/// What follows from how fast the disk and the processor of this machine happen to be.
const OF_THE_MACHINE: [&str; 6] =
    ["FSYNC_SLOW", "FSYNC_UNEVEN", "CLOCK_UNKNOWN", "DISK_LOW", "LEADER_MOVES", "ELECTED_NOW"];

fn findings(report: &Value) -> &Vec<Value> {
    report["findings"].as_array().expect("findings are a list")
}

/// Code and subject of what is worse than a note, but for what the machine is to blame for.
fn bad(report: &Value) -> Vec<String> {
    let bad = findings(report).iter().filter(|finding| {
        let severe = finding["severity"] == "warning" || finding["severity"] == "problem";
        severe && !OF_THE_MACHINE.iter().any(|code| finding["code"] == *code)
    });
    bad.map(|finding| format!("{} {}", finding["code"], finding["subject"]).replace('"', ""))
        .collect()
}

fn found<'a>(report: &'a Value, code: &str, subject: &str) -> &'a Value {
    let mut all = findings(report).iter();
    let found = all.find(|finding| finding["code"] == code && finding["subject"] == subject);
    found.unwrap_or_else(|| panic!("{code} of {subject} is missing in {report:#}"))
}

/// The report of one run, whose status fits it.
async fn report(quorate: &Quorate, arguments: &str) -> Value {
    let ended = quorate.run(&format!("doctor {arguments} -o json")).await;
    assert!(ended.stderr.is_empty(), "{ended:?}");
    let report = ended.json();
    let fine = report["worst"] == "ok" || report["worst"] == "note";
    assert_eq!(ended.status, Some(i32::from(!fine)), "{report:#}");
    report
}

fn followers(cluster: &ProcessCluster, leader: NodeId) -> Vec<NodeId> {
    cluster.ids().into_iter().filter(|id| *id != leader).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_cluster_is_found_so_and_a_stopped_node_is_named() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    quorate.run("kv set k v").await.expect(0);
    wait_healthy(&mut cluster).await.expect("it is well");
    let healthy = report(&quorate, "").await;
    assert_eq!(bad(&healthy), Vec::<String>::new(), "{healthy:#}");
    assert_eq!(found(&healthy, "ONE_MACHINE", "cluster")["severity"], "note");
    for id in cluster.ids() {
        let node = format!("node {id}");
        let loss = found(&healthy, "LOSS_SURVIVED", &node);
        assert!(loss["found"].as_str().is_some_and(|found| found.contains("writes go on")));
        // Whatever they come to: every node has told them.
        let told = |codes: &[&str]| {
            findings(&healthy).iter().any(|finding| {
                finding["subject"] == node && codes.iter().any(|code| finding["code"] == *code)
            })
        };
        assert!(told(&["FSYNC_FEW", "FSYNC_FAST", "FSYNC_UNEVEN", "FSYNC_SLOW"]), "{healthy:#}");
        assert!(told(&["DISK_ROOM", "DISK_LOW"]), "{healthy:#}");
    }
    // One machine, one clock.
    found(&healthy, "CLOCKS_AGREE", "cluster");

    let leader = cluster.leader().await.expect("one leads");
    let [stopped, left] = followers(&cluster, leader)[..] else { panic!("two follow") };
    cluster.kill(stopped).await.expect("it can be killed");
    let one_less = report(&quorate, "").await;
    assert_eq!(one_less["worst"], "problem");
    // The worst first.
    assert_eq!(findings(&one_less)[0]["code"], "NO_ANSWER");
    let mut expected = vec![
        format!("NO_ANSWER node {stopped}"),
        format!("LOSS_STOPS node {}", leader.min(left)),
        format!("LOSS_STOPS node {}", leader.max(left)),
    ];
    assert_eq!(bad(&one_less), expected, "{one_less:#}");
    let text = quorate.run("doctor").await.expect(1).text();
    say(&text);
    assert!(text.starts_with(&format!("problem  node {stopped}: it does not answer")), "{text}");
    for line in [
        format!("if node {leader} dies, the cluster stops: 1 of 3 voters would be left"),
        format!("quorate cluster replace {stopped}"),
        "1 problem, 2 warnings".to_owned(),
    ] {
        assert!(text.contains(&line), "{line:?} is not in\n{text}");
    }

    // Without a quorum it answers, too.
    cluster.kill(left).await.expect("it can be killed");
    let lost = report(&quorate, "").await;
    expected = vec!["NO_QUORUM cluster".to_owned()];
    let mut silent = [stopped, left];
    silent.sort_unstable();
    expected.extend(silent.map(|id| format!("NO_ANSWER node {id}")));
    let mut bad = bad(&lost);
    // Until it has noticed, it takes itself for the leader.
    bad.retain(|found| !found.starts_with("UNWELL"));
    assert_eq!(bad, expected, "{lost:#}");
    cluster.kill(leader).await.expect("it can be killed");
    let nobody = quorate.run("doctor --timeout 800ms").await.expect(5);
    assert!(nobody.stdout.is_empty(), "{nobody:?}");
    cluster.logs().assert_no_panics();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_is_named_and_a_learner_is_no_help() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    let learner = cluster.join(&["--learner"]).expect("it is started");
    cluster.wait_listening(learner).await.expect("it is admitted");
    wait_until("it is a member, and nothing is planned any more", PATIENCE, || async {
        let members = quorate.run("cluster members -o json").await.expect(0).json();
        members["members"].as_array().is_some_and(|members| members.len() == 4)
            && members["plans"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
    let leader = cluster.leader().await.expect("one leads");
    let paused = followers(&cluster, leader)[0];
    // Whom the command line asks first, too.
    cluster.pause(paused).await.expect("it can be paused");
    let report = report(&quorate, "").await;
    let silent = found(&report, "NO_ANSWER", &format!("node {paused}"));
    let why = silent["found"].as_str().expect("a text");
    let (who, reason) = why.split_once(": ").expect("it says why");
    assert!(who.starts_with("it does not answer node") && !reason.is_empty(), "{silent}");
    found(&report, "NO_VOTE", &format!("node {learner}"));
    let stops = bad(&report);
    let count = stops.iter().filter(|found| found.starts_with("LOSS_STOPS")).count();
    assert_eq!(count, 2, "{report:#}");
    let learners_loss = found(&report, "LOSS_SURVIVED", &format!("node {learner}"));
    assert!(learners_loss["found"].as_str().is_some_and(|found| found.contains("no vote")));
    cluster.resume(paused).expect("it goes on");
    cluster.logs().assert_no_panics();
}

fn has_trial(directory: &Path) -> bool {
    let mut names = std::fs::read_dir(directory).expect("it can be read");
    names.any(|entry| {
        let name = entry.expect("it can be read").file_name();
        name.to_string_lossy().starts_with(".trial-")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_looked_at_with_and_without_its_node() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(1).await;
    let data = cluster.data_dir(1);
    let line = format!("--data-dir {}", data.display());
    let subject = format!("directory {}", data.display());
    let running = report(&quorate, &line).await;
    found(&running, "DIRECTORY_OWNED", &subject);
    assert!(!has_trial(&data));
    quorate.run("kv set k v").await.expect(0);
    cluster.kill(1).await.expect("it can be killed");
    let stopped = report(&quorate, &line).await;
    let owned = found(&stopped, "DIRECTORY_OWNED", &subject);
    assert!(owned["found"].as_str().is_some_and(|found| found.contains("node 1")), "{owned}");
    cluster.restart(1).await.expect("it starts again");
    assert_eq!(quorate.run("kv get k").await.expect(0).stdout, b"v");

    // With a file: what is wrong with it, and what is right.
    let file = cluster.directory().join("quorate.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("it can be written");
    write("node_idd = 1\n");
    let line = format!("--config {}", file.display());
    let wrong = report(&quorate, &line).await;
    let config = found(&wrong, "CONFIG_WRONG", "config");
    assert!(config["found"].as_str().is_some_and(|found| found.contains("node_id?")), "{config}");
    assert_eq!(findings(&wrong).len(), 1);
    write(&format!("node_id = 7\ndata_dir = '{}'\n", data.display()));
    let other = report(&quorate, &line).await;
    found(&other, "CONFIG_VALID", "config");
    let differs = found(&other, "NODE_ID_DIFFERS", &subject);
    assert!(differs["do"].as_str().is_some_and(|fix| fix.contains("node_id = 1")), "{differs}");

    // Not made by looking.
    let none = cluster.directory().join("none");
    let line = format!("--data-dir {}", none.display());
    let new = report(&quorate, &line).await;
    found(&new, "DIRECTORY_NEW", &format!("directory {}", none.display()));
    assert!(!none.exists() && !has_trial(cluster.directory()));
    cluster.logs().assert_no_panics();
}
