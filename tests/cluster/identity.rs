//! Nodes that are started the wrong way: each ends at once, says what to do, and the cluster it
//! belongs to, or not, goes on.

use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::{NodeId, PortLease, ProcessCluster};
use quorate_tests::processes::{Quorate, alone, say};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the others may take to find out who a node is.
const DIAL_MAX: Duration = Duration::from_secs(30);

/// Three nodes with something written, of which one is then killed: cluster and its victim.
async fn cluster_with_a_dead_node() -> (ProcessCluster, NodeId) {
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    Quorate::of(&cluster).run("kv set kept v").await.expect(0);
    let victim = cluster.ids().into_iter().find(|id| *id != leader).expect("there are three");
    cluster.kill(victim).await.expect("it can be killed");
    (cluster, victim)
}

/// Starts a node that must refuse, and answers what it says last.
async fn refusal(cluster: &mut ProcessCluster, id: NodeId) -> String {
    cluster.spawn(id).expect("it can be started");
    let status = cluster.wait_exit(id).await.expect("it ends by itself");
    assert_eq!(status.code(), Some(1), "it ended with {status}");
    let log = fs::read_to_string(cluster.log_path(id)).expect("it has a log");
    let said = log.lines().rfind(|line| line.starts_with("quorate: ")).unwrap_or_default();
    say(format!("node {id}: {said}"));
    said.to_owned()
}

/// All is as if nothing had been tried.
async fn unharmed(mut cluster: ProcessCluster, victim: NodeId) {
    cluster.restart(victim).await.expect("it starts with what is its own");
    wait_healthy(&mut cluster).await.expect("it is well");
    let quorate = Quorate::of(&cluster);
    assert_eq!(quorate.run("kv get kept").await.expect(0).stdout, b"v");
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("it can be read") {
        let entry = entry.expect("it can be read");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_directory(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a file can be copied");
        }
    }
}

#[tokio::test]
async fn an_emptied_directory_is_refused_under_the_old_id() {
    let _alone = alone().await;
    let (mut cluster, victim) = cluster_with_a_dead_node().await;
    let (own, aside) = (cluster.data_dir(victim), cluster.directory().join("aside"));
    fs::rename(&own, &aside).expect("it can be renamed");
    let said = refusal(&mut cluster, victim).await;
    for part in ["emptied or swapped", "remove node", "new id"] {
        assert!(said.contains(part), "{part:?} is missing in {said:?}");
    }
    // It must not have become somebody in between, and refuses again.
    assert!(refusal(&mut cluster, victim).await.contains("emptied or swapped"));
    fs::remove_dir_all(&own).expect("it can be removed");
    fs::rename(&aside, &own).expect("it can be renamed");
    unharmed(cluster, victim).await;
}

#[tokio::test]
async fn the_directory_of_another_node_is_refused() {
    let _alone = alone().await;
    let (mut cluster, victim) = cluster_with_a_dead_node().await;
    let other = cluster.live_ids()[0];
    let (own, aside) = (cluster.data_dir(victim), cluster.directory().join("aside"));
    fs::rename(&own, &aside).expect("it can be renamed");
    copy_directory(&cluster.data_dir(other), &own);
    let said = refusal(&mut cluster, victim).await;
    assert!(said.contains(&format!("belongs to node {other}")), "{said:?}");
    assert!(said.contains(&format!("--node-id {other}")), "{said:?}");
    fs::remove_dir_all(&own).expect("it can be removed");
    fs::rename(&aside, &own).expect("it can be renamed");
    unharmed(cluster, victim).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused() {
    let _alone = alone().await;
    let mut foreign = ProcessCluster::start(3).await.expect("three nodes start");
    foreign.wait_ready().await.expect("a leader is elected");
    Quorate::of(&foreign).run("kv set kept foreign").await.expect(0);
    foreign.kill_all().await.expect("they can be killed");
    let (mut cluster, victim) = cluster_with_a_dead_node().await;
    let (own, aside) = (cluster.data_dir(victim), cluster.directory().join("aside"));
    fs::rename(&own, &aside).expect("it can be renamed");
    copy_directory(&foreign.data_dir(victim), &own);

    // It serves, for it is a node of its own cluster, but not to this one: neither side takes the
    // other for a member, and the operator reads why.
    let members: Vec<_> =
        cluster.live_ids().into_iter().map(|id| cluster.client_addr(id).to_string()).collect();
    cluster.restart(victim).await.expect("it starts");
    // Only the members are asked: the intruder answers for itself, and takes itself for well.
    let quorate = Quorate::at(&members);
    let end = Instant::now() + DIAL_MAX;
    let problem = loop {
        let status = quorate.run("cluster status -o json").await.expect(0).json();
        let nodes = status["nodes"].as_array().expect("nodes are a list");
        let node = nodes.iter().find(|node| node["node_id"] == victim).expect("it is a member");
        let problem = node["problem"].as_str().expect("it is a text").to_owned();
        assert_eq!(node["healthy"], false, "{node}");
        if problem.contains("wrong cluster") || Instant::now() > end {
            break problem;
        }
    };
    say(format!("of node {victim} the others say: {problem}"));
    for part in ["wrong cluster", "check the peer addresses"] {
        assert!(problem.contains(part), "{part:?} is missing in {problem:?}");
    }
    let at_victim = Quorate::at(&[cluster.client_addr(victim).to_string()]);
    at_victim.run("kv get kept --timeout 1s").await.expect(5);
    // Its own cluster's value, or none yet: without a leader it can't know what was committed.
    // Never a value of the cluster it intrudes upon.
    let stale = at_victim.run("kv get kept --stale").await;
    assert!(stale.stdout == b"foreign" || stale.status == Some(3), "{stale:?}");
    assert_eq!(quorate.run("kv get kept").await.expect(0).stdout, b"v");
    quorate.run("kv set new v").await.expect(0);

    cluster.kill(victim).await.expect("it can be killed");
    fs::remove_dir_all(&own).expect("it can be removed");
    fs::rename(&aside, &own).expect("it can be renamed");
    unharmed(cluster, victim).await;
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(1).await.expect("a node starts");
    cluster.wait_ready().await.expect("it leads itself");
    let mut lease = PortLease::take().expect("there is a free port");
    lease.release_socket();
    let line = format!(
        "serve --data-dir {} --client-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --peer-listen {}",
        cluster.data_dir(1).display(),
        lease.addr()
    );
    let refused = Quorate::bare().run(&line).await.expect(1);
    let pid = cluster.pid(1).expect("it runs").to_string();
    let refused = refused.expect_stderr("is in use by process").expect_stderr(&pid);
    refused.expect_stderr("directory of its own");
    let quorate = Quorate::of(&cluster);
    quorate.run("kv set k v").await.expect(0);
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let _alone = alone().await;
    let (mut cluster, victim) = cluster_with_a_dead_node().await;
    for (name, addr) in [
        ("client", cluster.client_addr(victim)),
        ("peer", cluster.peer_addr(victim)),
        ("http", cluster.http_addr(victim)),
    ] {
        let taken = TcpListener::bind(addr).expect("the node is down");
        let said = refusal(&mut cluster, victim).await;
        let flag = format!("--{name}-listen");
        for part in [&addr.to_string(), "another program", &flag] {
            assert!(said.contains(part), "{part:?} is missing in {said:?}");
        }
        drop(taken);
    }
    unharmed(cluster, victim).await;
}

#[tokio::test]
async fn a_wrong_configuration_is_a_usage_error_with_a_suggestion() {
    let _alone = alone().await;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("quorate.toml");
    let data = directory.path().join("data");
    for (text, says) in [
        ("[raft]\nheartbeet_ms = 5\n", "heartbeat_ms"),
        ("heartbeat_ms = 5\n", "under [raft]"),
        ("node_id = \"one\"\n", "whole number"),
        ("[raft]\nheartbeat_ms = 5000\n", "two heartbeats"),
        ("client_listen = \"0.0.0.0:8811\"\n", "--insecure"),
        ("node_id = \n", "quorate.toml:1"),
    ] {
        fs::write(&file, text).expect("it can be written");
        let line = format!("serve --config {} --data-dir {}", file.display(), data.display());
        Quorate::bare().run(&line).await.expect(2).expect_stderr(says);
        let line = format!("config check {}", file.display());
        Quorate::bare().run(&line).await.expect(2).expect_stderr(says);
    }
    let line = format!("serve --config {}", directory.path().join("none.toml").display());
    Quorate::bare().run(&line).await.expect(2).expect_stderr("none.toml");
    Quorate::bare().run("serve --data-dri x").await.expect(2).expect_stderr("--data-dir");
    assert!(!data.exists(), "a refused configuration must leave nothing behind");
}
